//! AVX-512 with VNNI: 64 codes meet 64 activations in one instruction.

#![expect(unsafe_code, reason = "instructions that not every CPU has, loads from pointers")]

use std::arch::x86_64::*;

use super::backend::Lanes;
use super::dense::{Bf16s, PARTIAL_SUMS, Sums};
use super::inputs::{COMPANY, Int8Inputs, Word};
use super::x86::kernels_for;
use crate::packed::block::mask;
use crate::packed::{Group, Halves, Line, Tile};
use crate::shape::{BLOCK_STEPS, LINE};
use crate::{BitWidth, Coding};

/// Lines that are asked for ahead of their use: two pages, as hardware prefetches within one alone.
const PREFETCH_LINES: usize = 128;

/// At this many bits a plane, the hardware sees enough loads ahead by itself.
const WIDE: usize = 8;

/// Exists only where the CPU has the instructions.
pub(super) struct Avx512(());

impl Avx512 {
    pub(super) fn new() -> Option<&'static Self> {
        static KERNELS: Avx512 = Avx512(());
        let here = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vnni");
        here.then_some(&KERNELS)
    }
}

kernels_for!(Avx512, "avx512", "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni");

/// See [`super::dense::add_bf16`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) fn add_bf16(sums: &mut Sums, elements: &[Bf16s], x: &[Sums]) {
    let mut lanes = [_mm512_setzero_ps(); PARTIAL_SUMS / 16];
    for (elements, x) in elements.iter().zip(x) {
        for line in elements.as_flattened().as_chunks::<LINE>().0 {
            prefetch(line);
        }
        let (elements, x) = (elements.as_chunks::<16>().0, x.as_chunks::<16>().0);
        for ((lanes, elements), x) in lanes.iter_mut().zip(elements).zip(x) {
            // SAFETY: 32 bytes are read, and the load needs no alignment.
            let halves = unsafe { _mm256_loadu_si256(elements.as_ptr().cast()) };
            // The upper half of an f32 is all there is of a BF16.
            let values = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)));
            *lanes = _mm512_add_ps(*lanes, _mm512_mul_ps(values, load_lanes(x)));
        }
    }
    for (sums, lanes) in sums.as_chunks_mut().0.iter_mut().zip(lanes) {
        store_lanes(sums, lanes);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) fn int8(tile: Tile<'_>, x: &Int8Inputs, out: &mut [Lanes]) {
    match (out, tile.shape().coding()) {
        ([out], Coding::Grid(bits)) => match bits {
            BitWidth::B1 => one_token(tile, x, out, |codes, x| dot_plane::<1, 8>(codes, x)),
            BitWidth::B2 => one_token(tile, x, out, |codes, x| dot_plane::<2, 4>(codes, x)),
            BitWidth::B3 => one_token(tile, x, out, |codes, x| dot_three(codes, x)),
            BitWidth::B4 => one_token(tile, x, out, |codes, x| dot_plane::<4, 2>(codes, x)),
            BitWidth::B8 => one_token(tile, x, out, |codes, x| dot_plane::<8, 1>(codes, x)),
        },
        (out, _) => many_tokens(tile, x, out, |group, blocks| group.unpack_into(blocks)),
    }
}

/// Codes are multiplied where they lie in their bytes; `dot` sets the sums right.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn one_token(
    tile: Tile<'_>,
    x: &Int8Inputs,
    out: &mut Lanes,
    dot: impl Fn(&[Line], &[[Word; BLOCK_STEPS]]) -> __m512i,
) {
    let mut sum = load_lanes(out);
    let narrow = tile.shape().coding() != Coding::Grid(BitWidth::B8);
    for index in 0..tile.shape().groups() {
        let group = tile.group(index);
        if narrow {
            prefetch(group.scales);
        }
        let products = dot(group.codes, x.alone(0, index).as_chunks().0);
        sum = add_products(sum, products, &group, x.params(0, index));
    }
    store_lanes(out, sum);
}

/// `Σ code · value` over a group whose codes are one plane of `P` bits, `N = 8 / P` steps a line.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn dot_plane<const P: usize, const N: usize>(codes: &[Line], x: &[[Word; BLOCK_STEPS]]) -> __m512i {
    let mut sums = [_mm512_setzero_si512(); N];
    for (line, words) in codes.iter().zip(x.as_flattened().as_chunks().0) {
        add_line::<P, N>(&mut sums, line, words);
    }
    fold::<P, N>(sums)
}

/// As [`dot_plane`] for 3 bits: a plane of two bits and a plane of one.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn dot_three(codes: &[Line], x: &[[Word; BLOCK_STEPS]]) -> __m512i {
    let (mut low, mut high) = ([_mm512_setzero_si512(); 4], [_mm512_setzero_si512(); 8]);
    for ([first, second, third], words) in codes.as_chunks().0.iter().zip(x) {
        let [words_of_first, words_of_second] = words.as_chunks().0 else { continue };
        add_line::<2, 4>(&mut low, first, words_of_first);
        add_line::<2, 4>(&mut low, second, words_of_second);
        add_line::<1, 8>(&mut high, third, words);
    }
    let (low, high) = (fold::<2, 4>(low), fold::<1, 8>(high));
    _mm512_add_epi32(low, _mm512_slli_epi32::<2>(high))
}

/// Adds the products of a line. Codes are taken where they lie in their bytes: step `k` of a line is
/// `2^(P k)` times too large and so is its sum.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn add_line<const P: usize, const N: usize>(sums: &mut [__m512i; N], line: &Line, words: &[Word; N]) {
    if P < WIDE {
        prefetch(line);
    }
    let line = load(line);
    for k in 0..N {
        let codes = _mm512_and_si512(line, _mm512_set1_epi8((mask::<P>() << (P * k)) as i8));
        sums[k] = _mm512_dpbusd_epi32(sums[k], codes, broadcast(words[k]));
    }
}

/// `Σ_k sums[k] / 2^(P k)`, exactly: every shift drops zeros alone.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn fold<const P: usize, const N: usize>(mut sums: [__m512i; N]) -> __m512i {
    let shift = _mm_cvtsi32_si128(P as i32);
    for k in (1..N).rev() {
        sums[k - 1] = _mm512_add_epi32(sums[k - 1], _mm512_sra_epi32(sums[k], shift));
    }
    sums[0]
}

/// Codes are unpacked once a group and used for all tokens, some at a time.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) fn many_tokens(
    tile: Tile<'_>,
    x: &Int8Inputs,
    out: &mut [Lanes],
    mut unpack: impl FnMut(Group<'_>, &mut Vec<[Line; BLOCK_STEPS]>),
) {
    let mut unpacked = Vec::new();
    for index in 0..tile.shape().groups() {
        let group = tile.group(index);
        unpack(group, &mut unpacked);
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
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn multiply<const T: usize>(
    group: &Group<'_>,
    index: usize,
    steps: &[Line],
    words: &[[Word; T]],
    x: &Int8Inputs,
    first: usize,
    out: &mut [Lanes; T],
) {
    let mut sums = [_mm512_setzero_si512(); T];
    for (codes, words) in steps.iter().zip(words) {
        let codes = load(codes);
        for t in 0..T {
            sums[t] = _mm512_dpbusd_epi32(sums[t], codes, broadcast(words[t]));
        }
    }
    for t in 0..T {
        let sum = add_products(load_lanes(&out[t]), sums[t], group, x.params(first + t, index));
        store_lanes(&mut out[t], sum);
    }
}

/// Adds `scale_w scale_x (Σ code · value − zero Σ value)`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) fn add_products(
    out: __m512,
    products: __m512i,
    group: &Group<'_>,
    (x_scale, x_sum): (f32, f32),
) -> __m512 {
    let [scales, zeros] = [group.scales, group.zeros].map(|halves| load_halves(halves));
    let offset = _mm512_mul_ps(zeros, _mm512_set1_ps(x_sum));
    let products = _mm512_sub_ps(_mm512_cvtepi32_ps(products), offset);
    let scales = _mm512_mul_ps(scales, _mm512_set1_ps(x_scale));
    _mm512_add_ps(out, _mm512_mul_ps(scales, products))
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn broadcast(word: Word) -> __m512i {
    _mm512_set1_epi32(i32::from_le_bytes(word.map(i8::cast_unsigned)))
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load(line: &Line) -> __m512i {
    // SAFETY: a line is 64 bytes, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(line.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_halves(halves: &Halves) -> __m512 {
    // SAFETY: 32 bytes are read, and the load needs no alignment.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(halves.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_lanes(lanes: &Lanes) -> __m512 {
    // SAFETY: lanes are 16 floats, and the load needs no alignment.
    unsafe { _mm512_loadu_ps(lanes.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store_lanes(lanes: &mut Lanes, values: __m512) {
    // SAFETY: lanes are 16 floats, and the store needs no alignment.
    unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), values) }
}

/// Asks for the line that will be needed some time after `line`: tiles are read from front to back.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn prefetch(bytes: &[u8]) {
    let ahead = bytes.as_ptr().wrapping_add(PREFETCH_LINES * LINE);
    // A hint: it touches no memory, wherever it points.
    _mm_prefetch::<_MM_HINT_T2>(ahead.cast());
}
