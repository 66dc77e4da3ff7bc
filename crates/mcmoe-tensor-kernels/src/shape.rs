//! The arithmetic of the packed layout: how many bytes, where each row lies.

use crate::{BitWidth, KernelError};

/// Shape of a packed matrix and everything that follows from it.
///
/// Codes lie row after row. A row is one stream of `cols` codes, least significant bit first, padded
/// with zero bits to a whole byte; eight codes therefore fill exactly `bits` bytes. Groups of
/// `group_size` codes share a scale and a zero point; the last group of a row may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PackedShape {
    rows: usize,
    cols: usize,
    bits: BitWidth,
    group_size: usize,
}

impl PackedShape {
    /// A matrix of `rows` output features by `cols` input features.
    ///
    /// # Errors
    /// [`KernelError::BadShape`] if a side is zero or the bytes overflow, [`KernelError::BadGroupSize`]
    /// unless `group_size` is a positive multiple of 8.
    pub fn new(rows: usize, cols: usize, bits: BitWidth, group_size: usize) -> Result<Self, KernelError> {
        let fits = rows.checked_mul(cols).and_then(|n| n.checked_mul(8)).is_some();
        if rows == 0 || cols == 0 || !fits {
            return Err(KernelError::BadShape { rows, cols });
        }
        if group_size == 0 || !group_size.is_multiple_of(8) {
            return Err(KernelError::BadGroupSize { group_size });
        }
        Ok(Self { rows, cols, bits, group_size })
    }

    /// Output features.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Input features.
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// Width of a code.
    pub const fn bits(&self) -> BitWidth {
        self.bits
    }

    /// Weights that share a scale and a zero point.
    pub const fn group_size(&self) -> usize {
        self.group_size
    }

    /// Number of weights, `rows * cols`.
    pub const fn weights(&self) -> usize {
        self.rows * self.cols
    }

    /// Groups in a row.
    pub const fn groups(&self) -> usize {
        self.cols.div_ceil(self.group_size)
    }

    /// Bytes of a row's codes.
    pub const fn row_bytes(&self) -> usize {
        (self.cols * self.bits.bits() as usize).div_ceil(8)
    }

    /// Bytes of all codes.
    pub const fn code_bytes(&self) -> usize {
        self.rows * self.row_bytes()
    }

    /// Number of scales, and of zero points: `rows * groups`.
    pub const fn params(&self) -> usize {
        self.rows * self.groups()
    }

    /// Bytes of codes, scales and zero points together.
    pub const fn total_bytes(&self) -> usize {
        self.code_bytes() + 4 * self.params()
    }

    /// Stored bits a weight, scales and zero points included.
    pub fn bits_per_weight(&self) -> f64 {
        self.total_bytes() as f64 * 8.0 / self.weights() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted() {
        let shape = PackedShape::new(3, 300, BitWidth::B3, 128).unwrap();
        assert_eq!((shape.groups(), shape.row_bytes(), shape.params()), (3, 113, 9));
        assert_eq!(shape.total_bytes(), 3 * 113 + 4 * 9);
        let even = PackedShape::new(64, 256, BitWidth::B2, 128).unwrap();
        assert_eq!(even.bits_per_weight(), 2.25);
    }

    #[test]
    fn impossible_shapes_are_refused() {
        let new = |rows, cols, group| PackedShape::new(rows, cols, BitWidth::B1, group);
        assert!(matches!(new(0, 8, 8), Err(KernelError::BadShape { .. })));
        assert!(matches!(new(8, 0, 8), Err(KernelError::BadShape { .. })));
        assert!(matches!(new(usize::MAX, 8, 8), Err(KernelError::BadShape { .. })));
        assert!(matches!(new(8, 8, 0), Err(KernelError::BadGroupSize { .. })));
        assert!(matches!(new(8, 8, 12), Err(KernelError::BadGroupSize { .. })));
    }
}
