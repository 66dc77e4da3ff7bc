//! The rates that trellis codes come in.

use std::fmt;

use super::WINDOW;
use super::code::CODES;
use crate::KernelError;

/// Bits that a trellis code spends on a weight: 1, 1.5, 2, 2.5, 3 or 4.
///
/// At 1 and 1.5 bits, two weights share a window of the stream, which their 2 or 3 bits end. At 2.5 bits, weights
/// of even position get 2 bits and those of odd position 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrellisRate(u8);

impl TrellisRate {
    /// Every rate, lowest first.
    pub const ALL: [Self; 6] = [Self(2), Self(3), Self(4), Self(5), Self(6), Self(8)];

    /// The rate of `bits` bits a weight.
    ///
    /// # Errors
    /// [`KernelError::UnsupportedRate`] for anything but 1, 1.5, 2, 2.5, 3 and 4.
    pub fn new(bits: f64) -> Result<Self, KernelError> {
        let found = Self::ALL.into_iter().find(|rate| rate.bits() == bits);
        found.ok_or_else(|| KernelError::UnsupportedRate { bits: bits.to_string() })
    }

    /// Bits a weight.
    pub fn bits(self) -> f64 {
        f64::from(self.0) / 2.0
    }

    /// How many levels the standard deviation of normally distributed weights should span.
    pub fn unit(self) -> f32 {
        CODES[self.index()].unit
    }

    /// The rate of so many bits for two weights, from 2 to 6 or 8.
    #[cfg(target_arch = "x86_64")]
    pub(crate) const fn from_half_bits(half_bits: u8) -> Self {
        Self(half_bits)
    }

    /// Mean square error for normally distributed weights of variance 1.
    pub fn distortion(self) -> f64 {
        [0.275, 0.1433, 0.0735, 0.0383, 0.0197, 0.00543][self.index()]
    }

    /// Bits of two weights.
    pub(crate) const fn half_bits(self) -> u8 {
        self.0
    }

    /// Position among all rates.
    pub(crate) const fn index(self) -> usize {
        if self.0 == 8 { 5 } else { self.0 as usize - 2 }
    }

    /// Weights that share a window: 2 at low rates, so that decoding takes less work, else 1.
    pub(crate) const fn weights_a_window(self) -> usize {
        if self.0 < 4 { 2 } else { 1 }
    }

    /// Bits of the stream up to and with the window of the weight at position `step`.
    pub(crate) const fn bits_until(self, step: usize) -> usize {
        let end = step / self.weights_a_window() * self.weights_a_window() + self.weights_a_window();
        end * self.0 as usize / 2
    }

    /// Bits that the weight at position `step` appends; none if the one before it did so for both.
    pub(crate) const fn bits_at(self, step: usize) -> usize {
        if step == 0 { self.bits_until(0) } else { self.bits_until(step) - self.bits_until(step - 1) }
    }

    /// Windows that agree in what the weight at position `step` will see of them.
    pub(crate) const fn states_before(self, step: usize) -> usize {
        1 << (WINDOW - self.bits_at(step))
    }
}

impl fmt::Display for TrellisRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-bit trellis", self.bits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_know_their_bits() {
        let bits: Vec<f64> = TrellisRate::ALL.iter().map(|rate| rate.bits()).collect();
        assert_eq!(bits, [1.0, 1.5, 2.0, 2.5, 3.0, 4.0]);
        for rate in TrellisRate::ALL {
            assert_eq!(TrellisRate::new(rate.bits()), Ok(rate));
            let steps = (0..16).map(|step| rate.bits_at(step)).sum::<usize>();
            assert_eq!(steps, 8 * rate.half_bits() as usize);
        }
        for bits in [0.0, 1.25, 3.5, 5.0, f64::NAN] {
            assert!(matches!(TrellisRate::new(bits), Err(KernelError::UnsupportedRate { .. })));
        }
    }
}
