//! From routing statistics to one number per expert, and from there to costs.

use serde::{Deserialize, Serialize};

use crate::error::AllocatorError;

/// Exponents of the objective (φ/Σφ)^α · (w/Σw)^β · ε^γ.
///
/// The default, α = 1, β = 1.5, γ = 1, is what reproduces the bit-widths published with
/// arXiv:2410.06270; [`Exponents::paper`] is what its text describes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Exponents {
    /// Exponent of the share of routed tokens.
    pub alpha: f64,
    /// Exponent of the share of routing weight.
    pub beta: f64,
    /// Exponent of the quantization loss.
    pub gamma: f64,
}

impl Default for Exponents {
    fn default() -> Self {
        Self { alpha: 1.0, beta: 1.5, gamma: 1.0 }
    }
}

impl Exponents {
    /// The exponents as the paper states them: a squared quantization loss.
    #[must_use]
    pub fn paper() -> Self {
        Self::default().gamma(2.0)
    }

    /// Sets the exponent of the share of routed tokens.
    #[must_use]
    pub fn alpha(self, alpha: f64) -> Self {
        Self { alpha, ..self }
    }

    /// Sets the exponent of the share of routing weight.
    #[must_use]
    pub fn beta(self, beta: f64) -> Self {
        Self { beta, ..self }
    }

    /// Sets the exponent of the quantization loss.
    #[must_use]
    pub fn gamma(self, gamma: f64) -> Self {
        Self { gamma, ..self }
    }

    /// Checks that every exponent is finite and not negative.
    ///
    /// # Errors
    /// [`AllocatorError::Exponent`].
    pub fn validate(&self) -> Result<(), AllocatorError> {
        for (name, value) in [("alpha", self.alpha), ("beta", self.beta), ("gamma", self.gamma)] {
            if !value.is_finite() || value < 0.0 {
                return Err(AllocatorError::Exponent { name, value });
            }
        }
        Ok(())
    }
}

/// Significance of the experts of one block: (φ/Σφ)^α · (w/Σw)^β.
///
/// `frequency` and `weight` are indexed by expert; the result is as long as the shorter of them.
/// An expert that no token reached has significance 0 (1 where the exponent is 0). A block that no
/// token reached says nothing about its experts: they share equally, so the losses alone decide.
#[must_use]
pub fn significance(frequency: &[f64], weight: &[f64], exponents: Exponents) -> Vec<f64> {
    let (frequency, weight) = (shares(frequency), shares(weight));
    let powers = frequency.iter().zip(&weight);
    powers.map(|(f, w)| f.powf(exponents.alpha) * w.powf(exponents.beta)).collect()
}

/// Costs of one block, `[expert][width]`: significance · ε^γ.
///
/// `quant_loss` is `[expert][width]`; the result has as many rows as the shorter of the arguments.
#[must_use]
pub fn costs(significance: &[f64], quant_loss: &[Vec<f64>], exponents: Exponents) -> Vec<Vec<f64>> {
    let rows = significance.iter().zip(quant_loss);
    rows.map(|(s, losses)| losses.iter().map(|e| s * e.powf(exponents.gamma)).collect()).collect()
}

/// Each value's part of the sum. Dividing by the largest first keeps the sum from overflowing.
fn shares(values: &[f64]) -> Vec<f64> {
    let largest = values.iter().copied().fold(0.0, f64::max);
    if largest <= 0.0 {
        return vec![1.0 / values.len() as f64; values.len()];
    }
    let relative: Vec<f64> = values.iter().map(|v| v / largest).collect();
    let sum: f64 = relative.iter().sum();
    relative.iter().map(|v| v / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_raised_and_multiplied() {
        let found = significance(&[1.0, 3.0], &[4.0, 1.0], Exponents::default().alpha(2.0).beta(1.0));
        let expected = [0.25f64.powi(2) * 0.8, 0.75f64.powi(2) * 0.2];
        for (f, e) in found.iter().zip(expected) {
            assert!((f - e).abs() < 1e-15, "{f} is not {e}");
        }
    }

    #[test]
    fn an_expert_never_reached_is_worth_nothing() {
        assert_eq!(significance(&[0.0, 2.0], &[0.0, 1.0], Exponents::default()), [0.0, 1.0]);
    }

    #[test]
    fn a_block_never_reached_shares_equally() {
        let found = significance(&[0.0; 4], &[0.0; 4], Exponents::default().alpha(1.0).beta(1.0));
        assert_eq!(found, [0.0625; 4]);
    }

    #[test]
    fn exponent_zero_switches_a_factor_off() {
        let found = significance(&[0.0, 5.0], &[1.0, 3.0], Exponents::default().alpha(0.0).beta(1.0));
        assert_eq!(found, [0.25, 0.75]);
    }

    #[test]
    fn huge_statistics_do_not_overflow() {
        let found = significance(&[1e308, 1e308], &[1e308, 1e308], Exponents::default().beta(1.0));
        assert_eq!(found, [0.25, 0.25]);
    }

    #[test]
    fn losses_are_raised_to_gamma() {
        let found = costs(&[2.0], &[vec![3.0, 0.0]], Exponents::paper());
        assert_eq!(found, [[18.0, 0.0]]);
    }
}
