//! Packed codes as kernels for GPUs know them.
//!
//! A line of the layout is 16 words, one a row of the tile, and a byte of a word belongs to one of four
//! columns. A unit of a cube reads four words at once, those of a quad of rows, and takes a piece of the
//! columns: a block of 32 on a grid, 16 steps of each quarter on a trellis.

use cubecl::prelude::*;

use crate::shape::{BLOCK_COLS, STEP_COLS};
use crate::trellis::{INDEX, WINDOW, ZERO, folded};
use crate::{BitWidth, Coding, PackedShape, TrellisRate};

/// Four words: one line of a quad of rows.
pub(super) type Words = Vector<u32, Const<4>>;
/// Four activations.
pub(super) type Fours<F> = Vector<F, Const<4>>;

/// Rows of a quad.
pub(super) const QUAD: usize = 4;
/// Quads of words in a line.
pub(super) const QUADS: usize = 4;
/// Steps of a piece of a trellis.
pub(super) const PIECE_STEPS: usize = 16;
/// Entries of a trellis rate's tables: what older bits flip, then levels at even and at odd positions.
const TABLE: usize = 3 << INDEX;

/// What is known of a matrix when its kernel is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Code {
    coding: Coding,
    /// Pieces of a whole group.
    pub(super) group_pieces: usize,
}

impl Code {
    pub(super) fn new(shape: &PackedShape) -> Self {
        let piece = piece_cols(shape.coding());
        Self { coding: shape.coding(), group_pieces: shape.group_range(0).len() / piece }
    }

    /// Columns of a piece.
    pub(super) const fn piece_cols(&self) -> usize {
        piece_cols(self.coding)
    }

    /// Whether inputs are rotated first.
    pub(super) const fn rotated(&self) -> bool {
        matches!(self.coding, Coding::Trellis(_))
    }

    /// Lines of a piece.
    pub(super) const fn lines(&self) -> usize {
        self.coding.half_bits() as usize * self.piece_cols() / (2 * BLOCK_COLS)
    }

    /// Quads of words that scales, and zero points if there are any, of a group take.
    pub(super) const fn head(&self) -> usize {
        if self.rotated() { 2 } else { 4 }
    }

    pub(super) const fn rate(&self) -> Option<TrellisRate> {
        match self.coding {
            Coding::Trellis(rate) => Some(rate),
            Coding::Grid(_) => None,
        }
    }

    pub(super) fn trellis(&self) -> TrellisRate {
        self.rate().expect("asked of trellises alone")
    }

    /// Where codes of a grid lie.
    pub(super) fn width(&self) -> BitWidth {
        match self.coding {
            Coding::Grid(bits) => bits,
            Coding::Trellis(_) => unreachable!("asked of grids alone"),
        }
    }
}

const fn piece_cols(coding: Coding) -> usize {
    match coding {
        Coding::Grid(_) => BLOCK_COLS,
        Coding::Trellis(_) => PIECE_STEPS * STEP_COLS,
    }
}

/// The tables of all trellis rates among `codes`, one after the other; never empty.
pub(super) fn tables(codes: &[Code]) -> Vec<u32> {
    let of = |rate: TrellisRate| {
        let (levels, older) = folded(rate);
        let flips = (0..1_usize << (WINDOW - INDEX)).map(|bits| {
            let set = older.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1);
            set.fold(0, |flips, (_, mask)| flips ^ u32::from(*mask))
        });
        let levels = levels.into_iter().flatten().map(|&level| f32::from(level) - f32::from(ZERO));
        flips.chain(levels.map(f32::to_bits)).collect::<Vec<u32>>()
    };
    let all: Vec<u32> = codes.iter().filter_map(Code::rate).flat_map(of).collect();
    if all.is_empty() { vec![0] } else { all }
}

/// Brings the tables of `codes` to the memory that a cube shares, where [`table_start`] says.
#[cube]
pub(super) fn share(tables: &Array<u32>, #[comptime] codes: Vec<Code>) -> SharedMemory<u32> {
    let size = comptime!(table_start(&codes, codes.len()));
    let mut shared = SharedMemory::<u32>::new(comptime!(size.max(1)));
    if comptime!(size > 0) {
        let mut at = UNIT_POS as usize;
        while at < size {
            shared[at] = tables[at];
            at += CUBE_DIM as usize;
        }
        sync_cube();
    }
    shared
}

/// Where the tables of code number `index` begin.
pub(super) fn table_start(codes: &[Code], index: usize) -> usize {
    codes[..index].iter().filter(|code| code.rotated()).count() * TABLE
}
