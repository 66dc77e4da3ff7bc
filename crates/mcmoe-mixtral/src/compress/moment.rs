//! Hessians, summed up where the model runs.

use burn::tensor::Tensor;
use mcmoe_quant::{Hessian, QuantError};
use mcmoe_tensor_kernels::PackedOps;

use crate::model::{from_host, to_host};

/// `Σ x xᵀ` over calibration tokens.
pub(super) enum Moment<B: PackedOps> {
    /// On the host, where half of the symmetric sum is left out.
    Host(Hessian),
    /// On a graphics card, `[features, features]`.
    Card {
        /// The sum so far.
        sum: Tensor<B, 2>,
        /// Tokens in it.
        tokens: usize,
    },
}

impl<B: PackedOps> Moment<B> {
    /// Of no token, for inputs of `features` features.
    pub(super) fn new(features: usize, device: &B::Device) -> Self {
        if B::ON_HOST {
            return Self::Host(Hessian::new(features));
        }
        Self::Card { sum: Tensor::zeros([features, features], device), tokens: 0 }
    }

    /// Adds a batch of tokens, `[tokens, features]` row-major.
    ///
    /// # Errors
    /// Those of [`Hessian::add`].
    pub(super) fn add(&mut self, inputs: &[f32]) -> Result<(), QuantError> {
        match self {
            Self::Host(hessian) => hessian.add(inputs),
            Self::Card { sum, tokens } => {
                let [features, _] = sum.dims();
                let new = Hessian::check(features, inputs)?;
                if new > 0 {
                    let x: Tensor<B, 2> = from_host(inputs.to_vec(), [new, features], &sum.device());
                    *sum = sum.clone() + x.clone().transpose().matmul(x);
                    *tokens += new;
                }
                Ok(())
            }
        }
    }

    /// The Hessian.
    ///
    /// # Errors
    /// Those of [`Hessian::from_sum`].
    pub(super) fn finish(self) -> Result<Hessian, QuantError> {
        match self {
            Self::Host(hessian) => Ok(hessian),
            Self::Card { sum, tokens } => Hessian::from_sum(sum.dims()[0], tokens, to_host(sum)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CpuBackend;

    #[test]
    fn both_places_give_the_same() {
        let inputs: Vec<f32> = (0..7 * 5).map(|i| (i * 13 % 11) as f32 / 4.0 - 1.0).collect();
        let device = Default::default();
        let mut host = Moment::<CpuBackend>::Host(Hessian::new(5));
        let mut card = Moment::<CpuBackend>::Card { sum: Tensor::zeros([5, 5], &device), tokens: 0 };
        for batch in [&inputs[..20], &[], &inputs[20..]] {
            host.add(batch).unwrap();
            card.add(batch).unwrap();
        }
        assert!(host.add(&[f32::NAN; 5]).is_err() && card.add(&[f32::NAN; 5]).is_err());
        assert!(host.add(&[1.0; 4]).is_err() && card.add(&[1.0; 4]).is_err());
        let (host, card) = (host.finish().unwrap(), card.finish().unwrap());
        assert_eq!((host.features(), host.tokens()), (card.features(), card.tokens()));
        for (i, j) in (0..5).flat_map(|i| (0..5).map(move |j| (i, j))) {
            assert!((host.get(i, j) - card.get(i, j)).abs() < 1e-5, "{i} {j}");
        }
    }
}
