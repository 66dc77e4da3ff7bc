//! Activations made ready for kernels: padded to whole blocks, rounded if wanted, summed by group.

use rayon::prelude::*;

use super::backend::Backend;
use crate::shape::{BLOCK_COLS, STEP_COLS};
use crate::{Coding, PackedShape, Precision};

/// Tokens whose words lie side by side, for kernels that use unpacked codes for several at once.
pub(super) const COMPANY: usize = 8;

/// Activations `[tokens, cols]` for matrices of one number of columns and one group size.
pub(crate) enum Inputs {
    Int8(Int8Inputs),
    F32(FloatInputs),
}

/// The activations of one step: what a 32-bit broadcast brings to every row of a tile.
pub(crate) type Word = [i8; STEP_COLS];

/// Activations rounded to 8 bits: `x ≈ scale · value`.
///
/// As many tokens as fill companies come first, `[companies, steps, COMPANY]`; the others follow one by
/// one, `[tokens, steps]`.
pub(crate) struct Int8Inputs {
    layout: Layout,
    words: Vec<Word>,
    scales: Vec<f32>,
    sums: Vec<f32>,
}

/// Activations as they are.
pub(crate) struct FloatInputs {
    layout: Layout,
    blocks: Vec<[f32; BLOCK_COLS]>,
    sums: Vec<f32>,
}

#[derive(Clone, Copy)]
struct Layout {
    group_size: usize,
    padded_cols: usize,
    groups: usize,
}

impl Inputs {
    /// Prepares the rows `tokens` of `x`, `[_, cols]`, for products with matrices of `shape`.
    pub(crate) fn new(
        backend: Backend,
        x: &[f32],
        tokens: &[usize],
        shape: &PackedShape,
        precision: Precision,
    ) -> Self {
        let layout = Layout {
            group_size: shape.group_size(),
            padded_cols: shape.padded_cols(),
            groups: shape.groups(),
        };
        let row = |&token: &usize| &x[token * shape.cols()..][..shape.cols()];
        let rotated: Vec<Vec<f32>>;
        let rows: Vec<&[f32]> = match shape.coding() {
            Coding::Grid(_) => tokens.iter().map(row).collect(),
            Coding::Trellis(_) => {
                let ready = |token| trellis_order(backend, row(token), &layout);
                rotated = tokens.par_iter().map(ready).collect();
                rotated.iter().map(Vec::as_slice).collect()
            }
        };
        match precision {
            Precision::Int8 => Self::Int8(Int8Inputs::new(backend, &rows, layout)),
            Precision::F32 => Self::F32(FloatInputs::new(&rows, layout)),
        }
    }

    pub(crate) fn tokens(&self) -> usize {
        match self {
            Self::Int8(inputs) => inputs.scales.len() / inputs.layout.groups,
            Self::F32(inputs) => inputs.sums.len() / inputs.layout.groups,
        }
    }
}

/// A row as the steps of a trellis take it: rotated, and in each group the first of every quarter, then the
/// second, and so on; padded with zeros.
fn trellis_order(backend: Backend, row: &[f32], layout: &Layout) -> Vec<f32> {
    let mut rotated = vec![0.0; layout.padded_cols];
    rotated[..row.len()].copy_from_slice(row);
    backend.rotate(&mut rotated[..row.len()]);
    let mut ordered = vec![0.0; layout.padded_cols];
    let groups = ordered.chunks_mut(layout.group_size).zip(rotated.chunks(layout.group_size));
    for (ordered, group) in groups {
        let steps = group.len() / STEP_COLS;
        for (quarter, values) in group.chunks_exact(steps).enumerate() {
            let places = ordered.iter_mut().skip(quarter).step_by(STEP_COLS);
            places.zip(values).for_each(|(place, value)| *place = *value);
        }
    }
    ordered
}

impl Int8Inputs {
    fn new(backend: Backend, rows: &[&[f32]], layout: Layout) -> Self {
        let (steps, groups) = (layout.padded_cols / STEP_COLS, layout.groups);
        let mut words = vec![[0; STEP_COLS]; rows.len() * steps];
        let (mut scales, mut sums) = (vec![0.0; rows.len() * groups], vec![0.0; rows.len() * groups]);
        let round = |row: &[f32], words: &mut [Word], scales: &mut [f32], sums: &mut [f32]| {
            let values = words.as_flattened_mut().chunks_mut(layout.group_size);
            for (g, (x, values)) in row.chunks(layout.group_size).zip(values).enumerate() {
                (scales[g], sums[g]) = backend.round(x, values);
            }
        };
        let (together, alone) = rows.as_chunks::<COMPANY>();
        let (many, few) = words.split_at_mut(together.len() * COMPANY * steps);
        let (many_scales, few_scales) = scales.split_at_mut(together.len() * COMPANY * groups);
        let (many_sums, few_sums) = sums.split_at_mut(together.len() * COMPANY * groups);
        let params =
            many_scales.par_chunks_mut(COMPANY * groups).zip(many_sums.par_chunks_mut(COMPANY * groups));
        let companies = together.par_iter().zip(many.par_chunks_mut(COMPANY * steps)).zip(params);
        companies.for_each(|((rows, words), (scales, sums))| {
            let mut own = vec![[0; STEP_COLS]; steps];
            let params = scales.chunks_exact_mut(groups).zip(sums.chunks_exact_mut(groups));
            for (t, (row, (scales, sums))) in rows.iter().zip(params).enumerate() {
                round(row, &mut own, scales, sums);
                words.iter_mut().skip(t).step_by(COMPANY).zip(&own).for_each(|(word, own)| *word = *own);
            }
        });
        let params = few_scales.chunks_exact_mut(groups).zip(few_sums.chunks_exact_mut(groups));
        for ((row, words), (scales, sums)) in alone.iter().zip(few.chunks_exact_mut(steps)).zip(params) {
            round(row, words, scales, sums);
        }
        Self { layout, words, scales, sums }
    }

    /// The words of a group for the tokens `COMPANY · company` and after, step by step.
    #[inline(always)]
    pub(crate) fn together(&self, company: usize, group: usize) -> &[[Word; COMPANY]] {
        let start = company * COMPANY * (self.layout.padded_cols / STEP_COLS);
        let (first, steps) = self.steps(group);
        self.words[start + COMPANY * first..][..COMPANY * steps].as_chunks().0
    }

    /// The words of a group for a token without company.
    #[inline(always)]
    pub(crate) fn alone(&self, token: usize, group: usize) -> &[Word] {
        let start = token * (self.layout.padded_cols / STEP_COLS);
        let (first, steps) = self.steps(group);
        &self.words[start + first..][..steps]
    }

    /// First step and number of steps of a group.
    #[inline(always)]
    fn steps(&self, group: usize) -> (usize, usize) {
        let first = group * self.layout.group_size / STEP_COLS;
        (first, (self.layout.group_size / STEP_COLS).min(self.layout.padded_cols / STEP_COLS - first))
    }

    /// Scale of a group of a token, and the sum of its values.
    #[inline(always)]
    pub(crate) fn params(&self, token: usize, group: usize) -> (f32, f32) {
        let at = token * self.layout.groups + group;
        (self.scales[at], self.sums[at])
    }
}

/// Rounds a group to `scale · values` with values from −127 to 127; returns the scale and the sum of
/// the values, which `f32` holds exactly. Anything not finite makes the scale NaN.
#[inline(always)]
pub(super) fn round_group(x: &[f32], values: &mut [i8]) -> (f32, f32) {
    /// Added to a small number, it leaves the nearest integer in the lowest bits, ties to even.
    const ROUND: f32 = 12_582_912.0;
    // Magnitudes are ordered as their bits are, with infinity and NaN above all numbers.
    let largest = x.iter().fold(0, |largest, x| (x.to_bits() & (u32::MAX >> 1)).max(largest));
    let largest = f32::from_bits(largest);
    if !largest.is_finite() {
        return (f32::NAN, 0.0);
    }
    // The inverse of a denormal would be infinite.
    let inverse = if largest > f32::MIN_POSITIVE * 256.0 { 127.0 / largest } else { 0.0 };
    let mut sum = 0;
    for (value, x) in values.iter_mut().zip(x) {
        let rounded = (x * inverse + ROUND).to_bits() as i32 - ROUND.to_bits() as i32;
        *value = rounded as i8;
        sum += rounded;
    }
    (largest / 127.0, sum as f32)
}

impl FloatInputs {
    fn new(rows: &[&[f32]], layout: Layout) -> Self {
        let width = layout.padded_cols / BLOCK_COLS;
        let mut blocks = vec![[0.0; BLOCK_COLS]; rows.len() * width];
        let mut sums = Vec::with_capacity(rows.len() * layout.groups);
        for (blocks, x) in blocks.chunks_exact_mut(width).zip(rows) {
            blocks.as_flattened_mut()[..x.len()].copy_from_slice(x);
            sums.extend(blocks.chunks(layout.group_size / BLOCK_COLS).map(sum_of));
        }
        Self { layout, blocks, sums }
    }

    /// Block `block` of a group of a token.
    #[inline(always)]
    pub(crate) fn block(&self, token: usize, group: usize, block: usize) -> &[f32; BLOCK_COLS] {
        let width = self.layout.padded_cols / BLOCK_COLS;
        &self.blocks[token * width + group * (self.layout.group_size / BLOCK_COLS) + block]
    }

    /// Sum of a group of a token.
    #[inline(always)]
    pub(crate) fn sum(&self, token: usize, group: usize) -> f32 {
        self.sums[token * self.layout.groups + group]
    }
}

/// The sum of a group, in the order in which kernels add up products.
fn sum_of(blocks: &[[f32; BLOCK_COLS]]) -> f32 {
    let mut sums = [0.0; STEP_COLS];
    for x in blocks.as_flattened().as_chunks::<STEP_COLS>().0 {
        sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}
