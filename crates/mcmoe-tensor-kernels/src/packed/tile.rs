//! Views of a tile and of its groups, what kernels read.

use half::f16;

use super::block::{self, Line};
use crate::shape::{BLOCK_STEPS, HALVES, STEP_COLS, TILE_ROWS};
use crate::{Coding, PackedShape, trellis};

/// One `f16` a row, little-endian.
pub(crate) type Halves = [u8; HALVES];

/// The zero point of every trellis code.
const TRELLIS_ZEROS: Halves = {
    let zero = f16::from_f32_const(trellis::ZERO as f32).to_le_bytes();
    let mut halves = [0; HALVES];
    let mut at = 0;
    while at < HALVES {
        halves[at] = zero[at % 2];
        at += 1;
    }
    halves
};

/// 16 rows of a packed matrix.
#[derive(Clone, Copy)]
pub(crate) struct Tile<'a> {
    shape: &'a PackedShape,
    bytes: &'a [u8],
}

/// A group of columns of a tile.
#[derive(Clone, Copy)]
pub(crate) struct Group<'a> {
    coding: Coding,
    /// 16 scales.
    pub(crate) scales: &'a Halves,
    /// 16 zero points.
    pub(crate) zeros: &'a Halves,
    /// The codes.
    pub(crate) codes: &'a [Line],
    blocks: usize,
}

impl<'a> Tile<'a> {
    pub(crate) const fn new(shape: &'a PackedShape, bytes: &'a [u8]) -> Self {
        Self { shape, bytes }
    }

    pub(crate) const fn shape(&self) -> &'a PackedShape {
        self.shape
    }

    #[inline(always)]
    pub(crate) fn group(&self, group: usize) -> Group<'a> {
        let end = self.shape.group_start(group + 1).min(self.bytes.len());
        let bytes = &self.bytes[self.shape.group_start(group)..end];
        let (head, codes) = bytes.split_at(self.shape.head_bytes());
        let (halves, _) = head.as_chunks();
        let zeros = halves.get(1).unwrap_or(&TRELLIS_ZEROS);
        let blocks = self.shape.group_range(group).len() / (BLOCK_STEPS * STEP_COLS);
        Group { coding: self.shape.coding(), scales: &halves[0], zeros, codes: codes.as_chunks().0, blocks }
    }
}

impl Group<'_> {
    pub(crate) const fn coding(&self) -> Coding {
        self.coding
    }

    /// Blocks of 8 steps.
    #[cfg(target_arch = "x86_64")]
    pub(crate) const fn blocks(&self) -> usize {
        self.blocks
    }

    /// Scales and zero points.
    pub(crate) fn params(&self) -> [[f32; TILE_ROWS]; 2] {
        [self.scales, self.zeros].map(|halves| to_halves(halves).map(f16::to_f32))
    }

    /// The codes or levels of each block: see [`block`] and [`trellis`] for their order.
    #[inline(always)]
    pub(crate) fn for_each_block(&self, mut visit: impl FnMut(usize, &[Line; BLOCK_STEPS])) {
        match self.coding {
            Coding::Grid(bits) => {
                let mut steps = [[0; size_of::<Line>()]; BLOCK_STEPS];
                for (index, lines) in self.codes.chunks_exact(bits.bits() as usize).enumerate() {
                    block::unpack(bits, lines, &mut steps);
                    visit(index, &steps);
                }
            }
            Coding::Trellis(_) => {
                let mut blocks = Vec::new();
                self.unpack_into(&mut blocks);
                blocks.iter().enumerate().for_each(|(index, steps)| visit(index, steps));
            }
        }
    }

    /// Unpacks all blocks, in the place of what `blocks` held.
    #[inline(always)]
    pub(crate) fn unpack_into(&self, blocks: &mut Vec<[Line; BLOCK_STEPS]>) {
        blocks.resize(self.blocks, [[0; size_of::<Line>()]; BLOCK_STEPS]);
        match self.coding {
            Coding::Grid(bits) => {
                for (lines, steps) in self.codes.chunks_exact(bits.bits() as usize).zip(blocks) {
                    block::unpack(bits, lines, steps);
                }
            }
            Coding::Trellis(rate) => trellis::unpack(rate, self.codes, blocks.as_flattened_mut()),
        }
    }

    /// The unpacked codes of each step.
    pub(crate) fn for_each_step(&self, mut visit: impl FnMut(usize, &Line)) {
        self.for_each_block(|block, steps| {
            for (step, codes) in steps.iter().enumerate() {
                visit(block * BLOCK_STEPS + step, codes);
            }
        });
    }

    /// The column, within the group, whose code is byte `at` of a line of step `step`.
    pub(crate) const fn column(&self, step: usize, at: usize) -> usize {
        match self.coding {
            Coding::Grid(_) => step * STEP_COLS + at % STEP_COLS,
            Coding::Trellis(_) => at % STEP_COLS * self.blocks * BLOCK_STEPS + step,
        }
    }
}

pub(crate) fn to_halves(halves: &Halves) -> [f16; TILE_ROWS] {
    std::array::from_fn(|lane| f16::from_le_bytes([halves[2 * lane], halves[2 * lane + 1]]))
}
