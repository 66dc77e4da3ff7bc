//! AVX2: pairs of products in 16 bits, rows 0 to 7 and 8 to 15 of a tile in a register each.

#![expect(unsafe_code, reason = "instructions that not every CPU has, loads from pointers")]

use std::arch::x86_64::*;

use super::backend::Lanes;
use super::dense::{Bf16s, PARTIAL_SUMS, Sums};
use super::inputs::{COMPANY, Int8Inputs, Word};
use super::x86::kernels_for;
use crate::packed::{Group, Line, Tile};
use crate::shape::BLOCK_STEPS;
use crate::{BitWidth, Coding};

/// Rows 0 to 7 and rows 8 to 15.
type Halves = [__m256i; 2];

/// Exists only where the CPU has the instructions.
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn new() -> Option<&'static Self> {
        static KERNELS: Avx2 = Avx2(());
        let here = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c");
        here.then_some(&KERNELS)
    }
}

kernels_for!(Avx2, "avx2", "avx2,f16c");

/// See [`super::dense::add_bf16`].
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn add_bf16(sums: &mut Sums, elements: &[Bf16s], x: &[Sums]) {
    let mut lanes = [_mm256_setzero_ps(); PARTIAL_SUMS / 8];
    for (elements, x) in elements.iter().zip(x) {
        let (elements, x) = (elements.as_chunks::<8>().0, x.as_chunks::<8>().0);
        for ((lanes, elements), x) in lanes.iter_mut().zip(elements).zip(x) {
            // SAFETY: 16 and 32 bytes are read, and the loads need no alignment.
            let (halves, x) =
                unsafe { (_mm_loadu_si128(elements.as_ptr().cast()), _mm256_loadu_ps(x.as_ptr())) };
            // The upper half of an f32 is all there is of a BF16.
            let values = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)));
            *lanes = _mm256_add_ps(*lanes, _mm256_mul_ps(values, x));
        }
    }
    for (sums, lanes) in sums.as_chunks_mut::<8>().0.iter_mut().zip(lanes) {
        // SAFETY: 32 bytes are written, and the store needs no alignment.
        unsafe { _mm256_storeu_ps(sums.as_mut_ptr(), lanes) };
    }
}

#[target_feature(enable = "avx2,f16c")]
fn int8(tile: Tile<'_>, x: &Int8Inputs, out: &mut [Lanes]) {
    match tile.shape().coding() {
        Coding::Grid(BitWidth::B8) | Coding::Trellis(_) => groups::<true>(tile, x, out),
        Coding::Grid(_) => groups::<false>(tile, x, out),
    }
}

/// Codes are unpacked once a group and used for all tokens, some at a time. `WIDE` codes do not fit
/// in 4 bits.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn groups<const WIDE: bool>(tile: Tile<'_>, x: &Int8Inputs, out: &mut [Lanes]) {
    let mut unpacked = Vec::new();
    for index in 0..tile.shape().groups() {
        let group = tile.group(index);
        group.unpack_into(&mut unpacked);
        let (together, alone) = out.as_chunks_mut::<COMPANY>();
        for (company, out) in together.iter_mut().enumerate() {
            let words = x.together(company, index).as_chunks().0;
            multiply::<WIDE, COMPANY>(&group, index, &unpacked, words, x, company * COMPANY, out);
        }
        for (token, out) in alone.as_chunks_mut::<1>().0.iter_mut().enumerate() {
            let token = together.len() * COMPANY + token;
            let words = x.alone(token, index).as_chunks().0.as_chunks().0;
            multiply::<WIDE, 1>(&group, index, &unpacked, words, x, token, out);
        }
    }
}

/// Adds the products of a group with the `T` tokens from `first`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn multiply<const WIDE: bool, const T: usize>(
    group: &Group<'_>,
    index: usize,
    blocks: &[[Line; BLOCK_STEPS]],
    words: &[[[Word; T]; BLOCK_STEPS]],
    x: &Int8Inputs,
    first: usize,
    out: &mut [Lanes; T],
) {
    let mut sums = [[_mm256_setzero_si256(); 2]; T];
    for (steps, words) in blocks.iter().zip(words) {
        for t in 0..T {
            let words = words.each_ref().map(|words| words[t]);
            if WIDE {
                add_wide(&mut sums[t], steps, &words);
            } else {
                add_block(&mut sums[t], steps, &words);
            }
        }
    }
    for t in 0..T {
        finish(&mut out[t], &sums[t], group, x.params(first + t, index));
    }
}

/// Adds the products of a block of codes up to 15: sixteen of them stay within 16 bits.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn add_block(sums: &mut Halves, steps: &[Line; BLOCK_STEPS], words: &[Word; BLOCK_STEPS]) {
    let mut pairs = [_mm256_setzero_si256(); 2];
    for (codes, word) in steps.iter().zip(words) {
        let x = broadcast(*word);
        for (pairs, codes) in pairs.iter_mut().zip(load(codes)) {
            *pairs = _mm256_add_epi16(*pairs, _mm256_maddubs_epi16(codes, x));
        }
    }
    for (sum, pairs) in sums.iter_mut().zip(pairs) {
        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
}

/// As [`add_block`] for codes of 8 bits, in two halves of 4 bits.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn add_wide(sums: &mut Halves, steps: &[Line; BLOCK_STEPS], words: &[Word; BLOCK_STEPS]) {
    let mut pairs = [[_mm256_setzero_si256(); 2]; 2];
    let mask = _mm256_set1_epi8(0x0F);
    for (codes, word) in steps.iter().zip(words) {
        let x = broadcast(*word);
        for ([low, high], codes) in pairs.iter_mut().zip(load(codes)) {
            let upper = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), mask);
            *low = _mm256_add_epi16(*low, _mm256_maddubs_epi16(_mm256_and_si256(codes, mask), x));
            *high = _mm256_add_epi16(*high, _mm256_maddubs_epi16(upper, x));
        }
    }
    for (sum, [low, high]) in sums.iter_mut().zip(pairs) {
        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(low, _mm256_set1_epi16(1)));
        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(high, _mm256_set1_epi16(16)));
    }
}

/// Adds `scale_w scale_x (Σ code · value − zero Σ value)`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn finish(out: &mut Lanes, products: &Halves, group: &Group<'_>, (x_scale, x_sum): (f32, f32)) {
    let (scales, zeros) = (group.scales.as_chunks().0, group.zeros.as_chunks().0);
    let params = [[scales[0], zeros[0]], [scales[1], zeros[1]]];
    let halves = out.as_chunks_mut::<8>().0.iter_mut().zip(products).zip(params);
    for ((out, &products), [scales, zeros]) in halves {
        let offset = _mm256_mul_ps(to_floats(&zeros), _mm256_set1_ps(x_sum));
        let products = _mm256_sub_ps(_mm256_cvtepi32_ps(products), offset);
        let scales = _mm256_mul_ps(to_floats(&scales), _mm256_set1_ps(x_scale));
        let product = _mm256_mul_ps(scales, products);
        // SAFETY: `out` is 8 floats, and neither access needs alignment.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), _mm256_add_ps(_mm256_loadu_ps(out.as_ptr()), product)) };
    }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn to_floats(halves: &[u8; 16]) -> __m256 {
    // SAFETY: 16 bytes are read, and the load needs no alignment.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(halves.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx2")]
fn broadcast(word: Word) -> __m256i {
    _mm256_set1_epi32(i32::from_le_bytes(word.map(i8::cast_unsigned)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(line: &Line) -> Halves {
    let halves: [&[u8; 32]; 2] = [line.first_chunk(), line.last_chunk()].map(|half| half.expect("64 bytes"));
    // SAFETY: 32 bytes are read, and the load needs no alignment.
    halves.map(|half| unsafe { _mm256_loadu_si256(half.as_ptr().cast()) })
}
