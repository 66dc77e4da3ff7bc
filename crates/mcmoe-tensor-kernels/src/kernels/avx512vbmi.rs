//! AVX-512 with VBMI and GFNI: as [`super::avx512`], with trellis codes decoded 64 at a time.
//!
//! An index of a level depends on the bits of its window by exclusive or alone. So wherever in its two or
//! three bytes the window lies, each of these times a matrix over GF(2) is its part of the index: no bits are
//! shifted together first. A permutation of bytes brings the level.

#![expect(unsafe_code, reason = "instructions that not every CPU has, loads from pointers")]

use std::arch::x86_64::*;

use super::avx512::{self, add_bf16, add_products, broadcast, load, load_lanes, prefetch, store_lanes};
use super::backend::Lanes;
use super::dense::Sums;
use super::inputs::{Int8Inputs, Word};
use super::x86::kernels_for;
use crate::packed::{Line, Tile};
use crate::shape::{BLOCK_STEPS, LINE};
use crate::trellis::{INDEX, WINDOW, continued, folded};
use crate::{Coding, TrellisRate};

/// Steps after which every rate is at the end of a line and has come back to where it began.
const PERIOD: usize = 16;

/// Sums of products side by side, so that none waits for the one before.
const CHAINS: usize = 4;

/// The body once for each value of a constant.
macro_rules! each_step {
    ($step:ident in [$($value:literal)*] $body:block) => {
        $({
            const $step: usize = $value;
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
    let code = Code::new::<H>();
    let [out] = out else {
        return avx512::many_tokens(tile, x, out, |group, blocks| {
            blocks.resize(group.blocks(), [[0; LINE]; BLOCK_STEPS]);
            let steps: &mut [[Line; PERIOD]] = blocks.as_flattened_mut().as_chunks_mut().0;
            code.decode::<H>(group.codes, |period, step, levels| store(&mut steps[period][step], levels));
        });
    };
    let mut sum = load_lanes(out);
    for index in 0..tile.shape().groups() {
        let group = tile.group(index);
        prefetch(group.scales);
        let words: &[[Word; PERIOD]] = x.alone(0, index).as_chunks().0;
        let mut sums = [_mm512_setzero_si512(); CHAINS];
        code.decode::<H>(group.codes, |period, step, levels| {
            let word = broadcast(words[period][step]);
            sums[step % CHAINS] = _mm512_dpbusd_epi32(sums[step % CHAINS], levels, word);
        });
        let [even, odd] = [0, 1].map(|at| _mm512_add_epi32(sums[at], sums[at + 2]));
        let products = _mm512_add_epi32(even, odd);
        sum = add_products(sum, products, &group, x.params(0, index));
    }
    store_lanes(out, sum);
}

/// A trellis code in registers: the levels by index, at even and at odd steps.
#[derive(Clone, Copy)]
struct Code([__m512i; 2]);

impl Code {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new<const H: usize>() -> Self {
        let (levels, _) = const { folded(TrellisRate::from_half_bits(H as u8)) };
        Self([load(levels[0]), load(levels[1])])
    }

    /// Shows `visit` the levels of every step of every period.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,gfni")]
    fn decode<const H: usize>(self, lines: &[Line], mut visit: impl FnMut(usize, usize, __m512i)) {
        let rate = const { TrellisRate::from_half_bits(H as u8) };
        // Two lines before the first, then those of the period.
        let mut last = [2, 1].map(|back| load(&continued(lines, back)));
        let mut index = last[1];
        for (period, lines) in lines.as_chunks::<H>().0.iter().enumerate() {
            let line = |at: usize| if at < 2 { last[at] } else { load(&lines[at - 2]) };
            each_step!(STEP in [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15] {
                // What shares its window with the weight before finds the index there.
                if rate.bits_at(STEP) > 0 {
                    let at = (rate.bits_until(STEP) - 1) / 8;
                    if STEP == 0 || at != (rate.bits_until(STEP - 1) - 1) / 8 {
                        prefetch(&lines[at]);
                    }
                    index = _mm512_xor_si512(
                        affine(line(at + 2), const { part(H, STEP, 0) }),
                        affine(line(at + 1), const { part(H, STEP, 1) }),
                    );
                    if const { part(H, STEP, 2) } != 0 {
                        index = _mm512_xor_si512(index, affine(line(at), const { part(H, STEP, 2) }));
                    }
                }
                visit(period, STEP, _mm512_permutexvar_epi8(index, self.0[STEP % 2]));
            });
            last = [line(H), line(H + 1)];
        }
    }
}

/// Every byte times the bit matrix.
#[inline]
#[target_feature(enable = "avx512f,gfni")]
fn affine(bytes: __m512i, matrix: i64) -> __m512i {
    _mm512_gf2p8affine_epi64_epi8::<0>(bytes, _mm512_set1_epi64(matrix))
}

/// The bit matrix that brings what the line `back` lines before the one where the window of step `step`
/// ends holds of it to the index of the level.
const fn part(half_bits: usize, step: usize, back: usize) -> i64 {
    let rate = TrellisRate::from_half_bits(half_bits as u8);
    let (_, older) = folded(rate);
    let unused = rate.bits_until(step).next_multiple_of(8) - rate.bits_until(step);
    let (mut matrix, mut bit) = (0, 0);
    while bit < WINDOW {
        // Counted from the end of the line where the window ends.
        let at = unused + bit;
        if at / 8 == back {
            let flips = if bit < INDEX { 1 << bit } else { older[bit - INDEX] };
            let mut result = 0;
            while result < INDEX {
                // The row of result bit 0 is the highest byte.
                matrix |= ((flips >> result & 1) as i64) << (8 * (7 - result) + at % 8);
                result += 1;
            }
        }
        bit += 1;
    }
    matrix
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(line: &mut Line, bytes: __m512i) {
    const _: () = assert!(LINE == size_of::<__m512i>());
    // SAFETY: a line is 64 bytes, and the store needs no alignment.
    unsafe { _mm512_storeu_si512(line.as_mut_ptr().cast(), bytes) }
}
