//! The arithmetic of the packed layout: how many bytes, where each tile and group lies.

use std::ops::Range;

use crate::{Coding, KernelError};

/// Rows of a tile; a row is a lane of the vectors that kernels work with.
pub(crate) const TILE_ROWS: usize = 16;
/// Columns of a block, the unit in which codes are packed.
pub(crate) const BLOCK_COLS: usize = 32;
/// Columns of a step: what one line of unpacked codes holds of every row of a tile.
pub(crate) const STEP_COLS: usize = 4;
/// Steps of a block.
pub(crate) const BLOCK_STEPS: usize = BLOCK_COLS / STEP_COLS;
/// Bytes of a line, the unit of the layout: a cache line, one byte for every code of a step.
pub(crate) const LINE: usize = TILE_ROWS * STEP_COLS;
/// Bytes of one `f16` a row of a tile.
pub(crate) const HALVES: usize = 2 * TILE_ROWS;
/// Largest effective group: sums of products of two bytes over a group stay within `i32`.
const MAX_GROUP: usize = 1 << 16;

/// Shape of a packed matrix and everything that follows from it (`docs/format.md`).
///
/// Rows lie in tiles of 16, the last one padded with zero codes, scales and zero points. A tile holds
/// group after group: first the group's 16 scales and, on a grid, its 16 zero points, then its codes in
/// lines of 64 bytes: `bits` lines for every 32 columns. Columns are padded with zero codes to whole
/// blocks, of 32 columns on a grid and of 64 on a trellis. Groups of `group_size` columns share a scale
/// and a zero point a row; the last group of a row may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PackedShape {
    rows: usize,
    cols: usize,
    coding: Coding,
    group_size: usize,
}

impl PackedShape {
    /// A matrix of `rows` output features by `cols` input features.
    ///
    /// # Errors
    /// [`KernelError::BadShape`] if a side is zero or the bytes overflow, [`KernelError::BadGroupSize`]
    /// unless `group_size` is a positive multiple of 32 (of 64 on a trellis) and groups hold at most 65536
    /// columns.
    pub fn new(
        rows: usize,
        cols: usize,
        coding: impl Into<Coding>,
        group_size: usize,
    ) -> Result<Self, KernelError> {
        let coding = coding.into();
        let multiple = multiple(coding);
        // Codes, scales and zero points together take less than 8 bytes a code.
        let padded = rows.checked_next_multiple_of(TILE_ROWS).zip(cols.checked_next_multiple_of(multiple));
        let fits = padded.and_then(|(rows, cols)| rows.checked_mul(cols)?.checked_mul(8)).is_some();
        if rows == 0 || cols == 0 || !fits {
            return Err(KernelError::BadShape { rows, cols });
        }
        if group_size == 0 || !group_size.is_multiple_of(multiple) || group_size.min(cols) > MAX_GROUP {
            return Err(KernelError::BadGroupSize { group_size, multiple });
        }
        Ok(Self { rows, cols, coding, group_size })
    }

    /// Output features.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Input features.
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// What the codes mean.
    pub const fn coding(&self) -> Coding {
        self.coding
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

    /// Number of scales, and of zero points, that belong to weights: `rows * groups`.
    pub const fn params(&self) -> usize {
        self.rows * self.groups()
    }

    /// Tiles of 16 rows.
    pub const fn tiles(&self) -> usize {
        self.rows.div_ceil(TILE_ROWS)
    }

    /// Bytes of a tile.
    pub const fn tile_bytes(&self) -> usize {
        self.groups() * self.head_bytes() + LINE * self.code_lines(self.padded_cols())
    }

    /// Bytes of the whole matrix: codes, scales, zero points and padding.
    pub const fn total_bytes(&self) -> usize {
        self.tiles() * self.tile_bytes()
    }

    /// Stored bits a weight, everything included.
    pub fn bits_per_weight(&self) -> f64 {
        self.total_bytes() as f64 * 8.0 / self.weights() as f64
    }

    /// Columns with padding to whole blocks.
    pub(crate) const fn padded_cols(&self) -> usize {
        self.cols.next_multiple_of(multiple(self.coding))
    }

    /// Padded columns of a group.
    pub(crate) fn group_range(&self, group: usize) -> Range<usize> {
        let start = group * self.group_size;
        start..self.padded_cols().min(start + self.group_size)
    }

    /// Where group `group` begins in a tile.
    pub(crate) const fn group_start(&self, group: usize) -> usize {
        // A group size beyond the row is one group a row, and may be too large to count with.
        let padded = self.padded_cols();
        let cols = if self.group_size < padded { self.group_size } else { padded };
        group * (self.head_bytes() + LINE * self.code_lines(cols))
    }

    /// Bytes of the scales, and the zero points if there are any, of a group of a tile.
    pub(crate) const fn head_bytes(&self) -> usize {
        match self.coding {
            Coding::Grid(_) => 2 * HALVES,
            Coding::Trellis(_) => HALVES,
        }
    }

    /// Lines for the codes of so many padded columns.
    const fn code_lines(&self, cols: usize) -> usize {
        cols * self.coding.half_bits() as usize / (2 * BLOCK_COLS)
    }

    /// Whether inputs made ready for this shape are ready for `other`, too.
    pub(crate) fn same_inputs(&self, other: &Self) -> bool {
        let rotated = |shape: &Self| matches!(shape.coding, Coding::Trellis(_));
        (self.cols, self.group_size, rotated(self)) == (other.cols, other.group_size, rotated(other))
    }
}

/// What groups and padded columns are multiples of.
const fn multiple(coding: Coding) -> usize {
    match coding {
        Coding::Grid(_) => BLOCK_COLS,
        Coding::Trellis(_) => 2 * BLOCK_COLS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BitWidth, TrellisRate};

    #[test]
    fn bytes_are_counted() {
        // 300 columns are 320 with padding: groups of 128, 128 and 64.
        let shape = PackedShape::new(17, 300, BitWidth::B3, 128).unwrap();
        assert_eq!((shape.groups(), shape.params(), shape.tiles()), (3, 51, 2));
        assert_eq!(shape.tile_bytes(), 3 * 64 + 16 * 320 * 3 / 8);
        assert_eq!(shape.total_bytes(), 2 * shape.tile_bytes());
        assert_eq!(shape.group_range(2), 256..320);
        assert_eq!(shape.group_start(2), 2 * 64 * (1 + 4 * 3));
        let even = PackedShape::new(64, 256, BitWidth::B2, 128).unwrap();
        assert_eq!(even.bits_per_weight(), 2.25);
        // 300 columns are 320 with padding: 256 and 64, with half as large heads.
        let rate = TrellisRate::new(1.5).unwrap();
        let trellis = PackedShape::new(17, 300, rate, 256).unwrap();
        assert_eq!(trellis.tile_bytes(), 2 * 32 + 16 * 320 * 3 / 16);
        assert_eq!((trellis.group_range(1), trellis.group_start(1)), (256..320, 32 + 16 * 256 * 3 / 16));
        let even = PackedShape::new(64, 512, rate, 256).unwrap();
        assert_eq!(even.bits_per_weight(), 1.5625);
    }

    #[test]
    fn impossible_shapes_are_refused() {
        let new = |rows, cols, group| PackedShape::new(rows, cols, BitWidth::B1, group);
        assert!(matches!(new(0, 8, 32), Err(KernelError::BadShape { .. })));
        assert!(matches!(new(8, 0, 32), Err(KernelError::BadShape { .. })));
        assert!(matches!(new(usize::MAX, 8, 32), Err(KernelError::BadShape { .. })));
        assert!(matches!(new(8, usize::MAX, 32), Err(KernelError::BadShape { .. })));
        assert!(matches!(new(1 << 40, 1 << 22, 32), Err(KernelError::BadShape { .. })));
        for group_size in [0, 8, 48, 1 << 17] {
            assert!(matches!(new(8, 1 << 17, group_size), Err(KernelError::BadGroupSize { .. })));
        }
        // Larger than a row is one group a row.
        assert_eq!(new(8, 64, 1 << 20).unwrap().groups(), 1);
    }
}
