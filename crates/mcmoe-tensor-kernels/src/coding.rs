//! What the bits of a packed matrix mean.

use std::fmt;

use crate::{BitWidth, TrellisRate};

/// How the weights of a matrix are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// One code a weight, `w = scale * (code - zero)` with a scale and a zero point a group.
    Grid(BitWidth),
    /// One level a weight, read off a trellis, `w = scale * (level - 64)` with a scale a group, on inputs
    /// that are rotated first.
    Trellis(TrellisRate),
}

impl Coding {
    /// Bits of a code, on average over the weights.
    pub fn bits(self) -> f64 {
        f64::from(self.half_bits()) / 2.0
    }

    /// Bits of the codes of two weights.
    pub(crate) const fn half_bits(self) -> u8 {
        match self {
            Self::Grid(bits) => 2 * bits.bits(),
            Self::Trellis(rate) => rate.half_bits(),
        }
    }
}

impl From<BitWidth> for Coding {
    fn from(bits: BitWidth) -> Self {
        Self::Grid(bits)
    }
}

impl From<TrellisRate> for Coding {
    fn from(rate: TrellisRate) -> Self {
        Self::Trellis(rate)
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grid(bits) => bits.fmt(f),
            Self::Trellis(rate) => rate.fmt(f),
        }
    }
}
