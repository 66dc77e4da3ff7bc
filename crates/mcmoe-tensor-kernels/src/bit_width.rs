//! How many bits one code takes.

use std::fmt;

use crate::KernelError;

/// The widths a weight's code can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BitWidth {
    /// 1 bit: two levels, eight codes a byte.
    B1,
    /// 2 bits: four levels, four codes a byte.
    B2,
    /// 3 bits: eight levels, eight codes in three bytes.
    B3,
    /// 4 bits: sixteen levels, two codes a byte.
    B4,
    /// 8 bits: 256 levels, one code a byte.
    B8,
}

impl BitWidth {
    /// Every supported width, narrowest first.
    pub const ALL: [Self; 5] = [Self::B1, Self::B2, Self::B3, Self::B4, Self::B8];

    /// The width of `bits` bits.
    ///
    /// # Errors
    /// [`KernelError::UnsupportedBits`] for anything but 1, 2, 3, 4 and 8.
    pub fn new(bits: u8) -> Result<Self, KernelError> {
        Self::ALL.into_iter().find(|width| width.bits() == bits).ok_or(KernelError::UnsupportedBits { bits })
    }

    /// Bits a code.
    pub const fn bits(self) -> u8 {
        match self {
            Self::B1 => 1,
            Self::B2 => 2,
            Self::B3 => 3,
            Self::B4 => 4,
            Self::B8 => 8,
        }
    }

    /// The largest code, `2^bits - 1`.
    pub const fn max_code(self) -> u8 {
        (0xFF_u16 >> (8 - self.bits())) as u8
    }
}

impl TryFrom<u8> for BitWidth {
    type Error = KernelError;

    fn try_from(bits: u8) -> Result<Self, KernelError> {
        Self::new(bits)
    }
}

impl fmt::Display for BitWidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-bit", self.bits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_know_their_levels() {
        let max: Vec<u8> = BitWidth::ALL.iter().map(|w| w.max_code()).collect();
        assert_eq!(max, [1, 3, 7, 15, 255]);
    }

    #[test]
    fn other_widths_are_refused() {
        for bits in [0, 5, 6, 7, 9, 255] {
            assert_eq!(BitWidth::new(bits), Err(KernelError::UnsupportedBits { bits }));
        }
    }
}
