//! AVX-512 with VBMI and GFNI: as [`super::avx512`], with trellis codes decoded 64 at a time.
//!
//! A step of a trellis is two shifts and a blend to bring the last 8 bits of every stream to their bytes,
//! an affine map over GF(2) of the 8 bits some steps before, which folds the older part of the window, an
//! exclusive or, and one permutation of the 64 levels.

#![expect(unsafe_code, reason = "instructions that not every CPU has, loads from pointers")]

use std::arch::x86_64::*;

use super::avx512::{self, add_bf16, add_products, broadcast, load, load_lanes, prefetch, store_lanes};
use super::backend::Lanes;
use super::dense::Sums;
use super::inputs::Int8Inputs;
use super::x86::kernels_for;
use crate::packed::{Line, Tile};
use crate::shape::{BLOCK_STEPS, LINE};
use crate::trellis::{continued, folded};
use crate::{Coding, TrellisRate};

/// Steps after which every rate is at the end of a line.
const PERIOD: usize = 16;
/// Steps before a line's first whose bits its windows may hold.
const BEFORE: usize = 4;

/// The body once for each value: unlike a loop, it leaves no array in memory and no shift by a variable.
macro_rules! each_step {
    ($step:ident in [$($value:literal)*] $body:block) => {
        $({
            let $step: usize = $value;
            $body
        })*
    };
}

/// Exists only where the CPU has the instructions.
pub(super) struct Avx512Vbmi(());

impl Avx512Vbmi {
    pub(super) fn new() -> Option<&'static Self> {
        static KERNELS: Avx512Vbmi = Avx512Vbmi(());
        let here = avx512::Avx512::new().is_some()
            && is_x86_feature_detected!("avx512vbmi")
            && is_x86_feature_detected!("gfni");
        here.then_some(&KERNELS)
    }
}

kernels_for!(Avx512Vbmi, "avx512vbmi", "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,gfni");

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,gfni")]
fn int8(tile: Tile<'_>, x: &Int8Inputs, out: &mut [Lanes]) {
    let Coding::Trellis(rate) = tile.shape().coding() else { return avx512::int8(tile, x, out) };
    match rate.half_bits() {
        2 => trellis::<2>(tile, x, out),
        3 => trellis::<3>(tile, x, out),
        4 => trellis::<4>(tile, x, out),
        5 => trellis::<5>(tile, x, out),
        6 => trellis::<6>(tile, x, out),
        _ => trellis::<8>(tile, x, out),
    }
}

/// Products with a trellis of `H` bits for two weights.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,gfni")]
fn trellis<const H: usize>(tile: Tile<'_>, x: &Int8Inputs, out: &mut [Lanes]) {
    let [out] = out else {
        return avx512::many_tokens(tile, x, out, |group, blocks| {
            blocks.resize(group.blocks(), [[0; LINE]; BLOCK_STEPS]);
            let steps = blocks.as_flattened_mut();
            decode::<H>(group.codes, |step, levels| store(&mut steps[step], levels));
        });
    };
    let mut sum = load_lanes(out);
    for index in 0..tile.shape().groups() {
        let group = tile.group(index);
        prefetch(group.scales);
        let words = x.alone(0, index);
        let mut sums = [_mm512_setzero_si512(); 2];
        decode::<H>(group.codes, |step, levels| {
            sums[step % 2] = _mm512_dpbusd_epi32(sums[step % 2], levels, broadcast(words[step]));
        });
        let products = _mm512_add_epi32(sums[0], sums[1]);
        sum = add_products(sum, products, &group, x.params(0, index));
    }
    store_lanes(out, sum);
}

/// Shows `visit` the levels of every step.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,gfni")]
fn decode<const H: usize>(lines: &[Line], mut visit: impl FnMut(usize, __m512i)) {
    let rate = const { TrellisRate::from_half_bits(H as u8) };
    let (levels, older) = const { folded(TrellisRate::from_half_bits(H as u8)) };
    let levels = [load(levels[0]), load(levels[1])];
    let fold = _mm512_set1_epi64(fold_matrix(H, older));
    let [before, mut last] = [2, 1].map(|back| load(&continued(lines, back)));
    // The 8 bits up to the end of each of the steps before the first.
    let (mut windows, mut index) = ([last; BEFORE + PERIOD], last);
    for back in 1..BEFORE {
        let bits = (back / rate.weights_a_window() * rate.weights_a_window() * H).div_ceil(2);
        windows[BEFORE - 1 - back] = if bits < 8 { join(before, last, bits) } else { before };
    }
    for (period, lines) in lines.chunks_exact(H).enumerate() {
        each_step!(step in [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15] {
            let (end, before) = (rate.bits_until(step), rate.bits_until(step) - rate.bits_at(step));
            // What shares its window with the weight before finds it there.
            if end > before {
                let (line, unused) = ((end - 1) / 8, end.next_multiple_of(8) - end);
                if step == 0 || line != (before - 1) / 8 {
                    prefetch(&lines[line]);
                }
                let current = load(&lines[line]);
                let previous = if line > 0 { load(&lines[line - 1]) } else { last };
                let window = if unused > 0 { join(previous, current, unused) } else { current };
                windows[BEFORE + step] = window;
                let older = _mm512_gf2p8affine_epi64_epi8::<0>(windows[BEFORE + step - lag(H)], fold);
                index = _mm512_xor_si512(window, older);
            }
            visit(period * PERIOD + step, _mm512_permutexvar_epi8(index, levels[step % 2]));
        });
        last = load(&lines[H - 1]);
        for back in 0..BEFORE {
            windows[back] = windows[PERIOD + back];
        }
    }
}

/// In each byte the last 8 bits of a stream that leaves `unused` bits of `current`, from 1 to 7.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn join(previous: __m512i, current: __m512i, unused: usize) -> __m512i {
    let count = |bits: usize| _mm_cvtsi32_si128(bits as i32);
    let low = _mm512_srl_epi16(current, count(unused));
    let high = _mm512_sll_epi16(previous, count(8 - unused));
    // Where the mask is set the bits of `low`, else those of `high`.
    let mask = _mm512_set1_epi8((0xFF_u8 >> unused) as i8);
    _mm512_ternarylogic_epi64::<0xCA>(mask, low, high)
}

/// Steps back to the window whose bits hold the older half of a step's window.
const fn lag(half_bits: usize) -> usize {
    match half_bits {
        2..4 => 4,
        4..8 => 2,
        _ => 1,
    }
}

/// The bit matrix that brings the older bits of a window, found in the byte [`lag`] steps before, to what
/// they flip.
const fn fold_matrix(half_bits: usize, older: &[u8; 6]) -> i64 {
    // Bit 6 of the window is bit 6 less the bits of the steps between.
    let first = 6 - lag(half_bits) * half_bits / 2;
    let mut matrix = 0;
    let mut bit = 0;
    while bit < 6 {
        let mut row: u64 = 0;
        let mut at = 0;
        while at < 6 {
            row |= ((older[at] >> bit & 1) as u64) << (first + at);
            at += 1;
        }
        // The row of result bit 0 is the highest byte.
        matrix |= row << (8 * (7 - bit));
        bit += 1;
    }
    matrix as i64
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(line: &mut Line, bytes: __m512i) {
    const _: () = assert!(LINE == size_of::<__m512i>());
    // SAFETY: a line is 64 bytes, and the store needs no alignment.
    unsafe { _mm512_storeu_si512(line.as_mut_ptr().cast(), bytes) }
}
