//! Views of a tile and of its groups, what kernels read.

use half::f16;

use super::block::{self, Line};
use crate::shape::{BLOCK_STEPS, LINE, TILE_ROWS};
use crate::{BitWidth, PackedShape};

/// 16 rows of a packed matrix.
#[derive(Clone, Copy)]
pub(crate) struct Tile<'a> {
    shape: &'a PackedShape,
    lines: &'a [Line],
}

/// A group of columns of a tile.
#[derive(Clone, Copy)]
pub(crate) struct Group<'a> {
    bits: BitWidth,
    /// 16 scales, then 16 zero points, little-endian `f16`.
    pub(crate) head: &'a Line,
    /// The codes, `bits` lines a block.
    pub(crate) codes: &'a [Line],
}

impl<'a> Tile<'a> {
    pub(crate) const fn new(shape: &'a PackedShape, lines: &'a [Line]) -> Self {
        Self { shape, lines }
    }

    pub(crate) const fn shape(&self) -> &'a PackedShape {
        self.shape
    }

    pub(crate) fn group(&self, group: usize) -> Group<'a> {
        let end = self.shape.group_line(group + 1).min(self.lines.len());
        let lines = &self.lines[self.shape.group_line(group)..end];
        Group { bits: self.shape.bits(), head: &lines[0], codes: &lines[1..] }
    }
}

impl Group<'_> {
    /// Width of the codes.
    #[cfg(target_arch = "aarch64")]
    pub(crate) const fn bits(&self) -> BitWidth {
        self.bits
    }

    pub(crate) fn scales(&self) -> [f16; TILE_ROWS] {
        self.halves(0)
    }

    pub(crate) fn zeros(&self) -> [f16; TILE_ROWS] {
        self.halves(LINE / 2)
    }

    /// Scales and zero points.
    pub(crate) fn params(&self) -> [[f32; TILE_ROWS]; 2] {
        [self.scales().map(f16::to_f32), self.zeros().map(f16::to_f32)]
    }

    fn halves(&self, start: usize) -> [f16; TILE_ROWS] {
        let bytes = |lane: usize| [self.head[start + 2 * lane], self.head[start + 2 * lane + 1]];
        std::array::from_fn(|lane| f16::from_le_bytes(bytes(lane)))
    }

    /// The codes of each block, unpacked: see [`block`] for their order.
    #[inline(always)]
    pub(crate) fn for_each_block(&self, mut visit: impl FnMut(usize, &[Line; BLOCK_STEPS])) {
        let mut steps = [[0; LINE]; BLOCK_STEPS];
        for (index, lines) in self.codes.chunks_exact(self.bits.bits() as usize).enumerate() {
            block::unpack(self.bits, lines, &mut steps);
            visit(index, &steps);
        }
    }

    /// Unpacks all blocks, in the place of what `blocks` held.
    #[inline(always)]
    pub(crate) fn unpack_into(&self, blocks: &mut Vec<[Line; BLOCK_STEPS]>) {
        let packed = self.codes.chunks_exact(self.bits.bits() as usize);
        blocks.resize(packed.len(), [[0; LINE]; BLOCK_STEPS]);
        for (lines, steps) in packed.zip(blocks) {
            block::unpack(self.bits, lines, steps);
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
}
