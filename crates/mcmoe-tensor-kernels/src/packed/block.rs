//! The bits of a block: 16 rows by 32 columns of codes in `bits` lines.
//!
//! A block has 8 steps of 4 columns. Unpacked, a step is one line: byte `4 r + c` is the code of row
//! `r`, column `c`. Packed, the bits of a code are dealt to planes: 3 bits to one of two and one of
//! one, every other width to a single plane. A plane of `p` bits keeps `8 / p` steps in a line, the
//! first in the lowest bits, and takes `p` lines, so that one shift and one mask bring 64 codes at a
//! time back to their bytes.

use crate::BitWidth;
use crate::shape::{BLOCK_STEPS, LINE};

/// A line of bytes.
pub(crate) type Line = [u8; LINE];

/// Packs the 8 steps of a block into its lines, which must be zero.
pub(crate) fn pack(bits: BitWidth, steps: &[Line; BLOCK_STEPS], lines: &mut [Line]) {
    match bits {
        BitWidth::B1 => pack_plane::<1>(steps, 0, lines),
        BitWidth::B2 => pack_plane::<2>(steps, 0, lines),
        BitWidth::B3 => {
            let (low, high) = lines.split_at_mut(2);
            pack_plane::<2>(steps, 0, low);
            pack_plane::<1>(steps, 2, high);
        }
        BitWidth::B4 => pack_plane::<4>(steps, 0, lines),
        BitWidth::B8 => pack_plane::<8>(steps, 0, lines),
    }
}

/// Unpacks the lines of a block into its 8 steps.
#[inline(always)]
pub(crate) fn unpack(bits: BitWidth, lines: &[Line], steps: &mut [Line; BLOCK_STEPS]) {
    *steps = [[0; LINE]; BLOCK_STEPS];
    match bits {
        BitWidth::B1 => unpack_plane::<1>(lines, 0, steps),
        BitWidth::B2 => unpack_plane::<2>(lines, 0, steps),
        BitWidth::B3 => {
            unpack_plane::<2>(&lines[..2], 0, steps);
            unpack_plane::<1>(&lines[2..], 2, steps);
        }
        BitWidth::B4 => unpack_plane::<4>(lines, 0, steps),
        BitWidth::B8 => unpack_plane::<8>(lines, 0, steps),
    }
}

/// Writes the `P` bits from bit `from` of each code.
fn pack_plane<const P: usize>(steps: &[Line; BLOCK_STEPS], from: usize, lines: &mut [Line]) {
    for (step, codes) in steps.iter().enumerate() {
        let (line, shift) = place::<P>(step);
        for (byte, code) in lines[line].iter_mut().zip(codes) {
            *byte |= (code >> from & mask::<P>()) << shift;
        }
    }
}

#[inline(always)]
fn unpack_plane<const P: usize>(lines: &[Line], from: usize, steps: &mut [Line; BLOCK_STEPS]) {
    for (step, codes) in steps.iter_mut().enumerate() {
        let (line, shift) = place::<P>(step);
        for (code, byte) in codes.iter_mut().zip(&lines[line]) {
            *code |= (byte >> shift & mask::<P>()) << from;
        }
    }
}

/// The line of a plane of `P` bits in which step `step` lies, and its lowest bit there.
const fn place<const P: usize>(step: usize) -> (usize, usize) {
    (step / (8 / P), step % (8 / P) * P)
}

/// The lowest `P` bits.
pub(crate) const fn mask<const P: usize>() -> u8 {
    0xFF >> (8 - P)
}
