//! NEON: products in 16 bits, added in pairs; four rows of a tile in a register.

#![expect(unsafe_code, reason = "instructions that not every CPU has, loads from pointers")]

use std::arch::aarch64::*;

use super::backend::{Kernels, Lanes};
use super::inputs::{COMPANY, Int8Inputs, Word};
use super::scalar;
use crate::packed::{Group, Line, Tile};
use crate::shape::TILE_ROWS;
use crate::{BitWidth, Coding};

/// What is taken from codes of 8 bits to make them signed, and given back as `BIAS · Σ value`.
const BIAS: u8 = 128;

/// Rows 0 to 3, 4 to 7, 8 to 11 and 12 to 15.
type Quarters = [int32x4_t; 4];

/// Exists only where the CPU has the instructions.
pub(super) struct Neon(());

impl Neon {
    pub(super) fn new() -> Option<&'static Self> {
        static KERNELS: Neon = Neon(());
        std::arch::is_aarch64_feature_detected!("neon").then_some(&KERNELS)
    }
}

impl Kernels for Neon {
    fn name(&self) -> &'static str {
        "neon"
    }

    fn int8(&self, tile: Tile<'_>, x: &Int8Inputs, out: &mut [Lanes]) {
        // SAFETY: a value of this type exists only where the CPU has the feature.
        unsafe { int8(tile, x, out) }
    }
}

/// Codes are unpacked once a group and used for all tokens, some at a time.
#[target_feature(enable = "neon")]
fn int8(tile: Tile<'_>, x: &Int8Inputs, out: &mut [Lanes]) {
    let mut unpacked = Vec::new();
    for index in 0..tile.shape().groups() {
        let group = tile.group(index);
        group.unpack_into(&mut unpacked);
        if group.coding() == Coding::Grid(BitWidth::B8) {
            unpacked.as_flattened_mut().as_flattened_mut().iter_mut().for_each(|code| *code ^= BIAS);
        }
        let (together, alone) = out.as_chunks_mut::<COMPANY>();
        let steps = unpacked.as_flattened();
        for (company, out) in together.iter_mut().enumerate() {
            multiply(&group, index, steps, x.together(company, index), x, company * COMPANY, out);
        }
        for (token, out) in alone.as_chunks_mut::<1>().0.iter_mut().enumerate() {
            let token = together.len() * COMPANY + token;
            multiply(&group, index, steps, x.alone(token, index).as_chunks().0, x, token, out);
        }
    }
}

/// Adds the products of a group with the `T` tokens from `first`.
#[inline]
#[target_feature(enable = "neon")]
fn multiply<const T: usize>(
    group: &Group<'_>,
    index: usize,
    steps: &[Line],
    words: &[[Word; T]],
    x: &Int8Inputs,
    first: usize,
    out: &mut [Lanes; T],
) {
    let mut sums: [Quarters; T] = [[vdupq_n_s32(0); 4]; T];
    for (codes, words) in steps.iter().zip(words) {
        for t in 0..T {
            add_step(&mut sums[t], codes, words[t]);
        }
    }
    // Codes of 8 bits had 128 taken away.
    let bias = if group.coding() == Coding::Grid(BitWidth::B8) { BIAS } else { 0 };
    let params = group.params();
    for t in 0..T {
        let (x_scale, x_sum) = x.params(first + t, index);
        let given_back = i32::from(bias) * x_sum as i32;
        let sums = to_lanes(&sums[t]).map(|sum| sum.wrapping_add(given_back));
        scalar::finish(&mut out[t], &sums, &params, (x_scale, x_sum));
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn add_step(sums: &mut Quarters, codes: &Line, word: Word) {
    let x = vreinterpretq_s8_s32(vdupq_n_s32(i32::from_le_bytes(word.map(i8::cast_unsigned))));
    for (sum, codes) in sums.iter_mut().zip(codes.as_chunks::<16>().0) {
        // SAFETY: 16 bytes are read, and the load needs no alignment.
        let codes = vreinterpretq_s8_u8(unsafe { vld1q_u8(codes.as_ptr()) });
        // Two products of at most 128 · 127 fit in 16 bits.
        let (low, high) = (vmull_s8(vget_low_s8(codes), vget_low_s8(x)), vmull_high_s8(codes, x));
        *sum = vpadalq_s16(*sum, vpaddq_s16(low, high));
    }
}

/// The sums of products of all rows.
#[inline]
#[target_feature(enable = "neon")]
fn to_lanes(products: &Quarters) -> [i32; TILE_ROWS] {
    let mut sums = [0; TILE_ROWS];
    for (sums, products) in sums.as_chunks_mut::<4>().0.iter_mut().zip(products) {
        // SAFETY: 4 integers are written, and the store needs no alignment.
        unsafe { vst1q_s32(sums.as_mut_ptr(), *products) };
    }
    sums
}
