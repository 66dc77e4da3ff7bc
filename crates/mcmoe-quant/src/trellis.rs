//! Trellis codes with error feedback: GPTQ's walk along the columns, a search over paths in each group.
//!
//! Weights and Hessian are rotated first, as the inputs will be. Within a group the search carries the
//! feedback along every path; beyond the group it follows as one product, as in GPTQ.

use std::ops::Range;

use half::f16;
use mcmoe_tensor_kernels::{
    Backend, PackedMatrix, PackedShape, TrellisMemory, TrellisPath, TrellisRate, TrellisSearch,
};
use rayon::prelude::*;

use crate::linalg::correct_beyond;
use crate::{Fallback, Hessian, Matrix, QuantError, QuantOptions, gptq};

/// Rows that a task carries through all columns.
const ROWS_A_TASK: usize = 16;

/// Quantizes matrices that read the same inputs; without a Hessian every column counts the same.
pub(crate) fn quantize(
    weights: &[Matrix<'_>],
    hessian: Option<&Hessian>,
    rate: TrellisRate,
    options: &QuantOptions,
) -> Result<Vec<(PackedMatrix, Option<Fallback>)>, QuantError> {
    let backend = Backend::current()?;
    let (factor, fallback) = match hessian {
        Some(hessian) => gptq::factor(&hessian.rotated(backend), options)?,
        None => (None, (options.method == crate::Method::Gptq).then_some(Fallback::NoTokens)),
    };
    let factor = factor.as_deref();
    // The same for all, which have the same columns.
    let Some(first) = weights.first() else { return Ok(vec![]) };
    let groups = groups(factor, &options.shape(*first)?);
    let quantize = |weight: &Matrix<'_>| {
        let walk = Walk { backend, rate, shape: options.shape(*weight)?, groups: &groups, factor };
        walk.quantize(*weight)
    };
    weights.iter().map(|weight| Ok((quantize(weight)?, fallback))).collect()
}

/// What the search has to know of a group's columns.
struct Group {
    importance: Vec<f32>,
    /// `[columns, columns]`, of the group alone.
    feedback: Vec<f32>,
}

/// The groups of a row, from the factor of the inverse Hessian.
fn groups(factor: Option<&[f32]>, shape: &PackedShape) -> Vec<Group> {
    let cols = shape.cols();
    let ranges =
        (0..cols).step_by(shape.group_size()).map(|start| start..cols.min(start + shape.group_size()));
    let group = |range: Range<usize>| {
        let Some(factor) = factor else {
            let feedback = vec![0.0; range.len() * range.len()];
            return Group { importance: vec![1.0; range.len()], feedback };
        };
        let rows =
            || range.clone().map(|col| (factor[col * cols + col], &factor[col * cols..][range.clone()]));
        // Costs of a whole group stay near 1.
        let mean = rows().map(|(own, _)| own.powi(-2)).sum::<f32>() / range.len() as f32;
        Group {
            importance: rows().map(|(own, _)| own.powi(-2) / mean).collect(),
            feedback: rows().flat_map(|(own, row)| row.iter().map(move |u| u / own)).collect(),
        }
    };
    ranges.map(group).collect()
}

/// A matrix on its way through the groups.
struct Walk<'a> {
    backend: Backend,
    rate: TrellisRate,
    shape: PackedShape,
    groups: &'a [Group],
    factor: Option<&'a [f32]>,
}

impl Walk<'_> {
    fn quantize(&self, weight: Matrix<'_>) -> Result<PackedMatrix, QuantError> {
        let (cols, groups) = (self.shape.cols(), self.shape.groups());
        let mut codes = vec![0; self.shape.weights()];
        let mut scales = vec![f16::ZERO; self.shape.params()];
        let outputs =
            codes.par_chunks_mut(ROWS_A_TASK * cols).zip(scales.par_chunks_mut(ROWS_A_TASK * groups));
        let tasks = weight.data().par_chunks(ROWS_A_TASK * cols).zip(outputs);
        tasks.try_for_each(|(weights, (codes, scales))| self.rows(weights.to_vec(), codes, scales))?;
        Ok(PackedMatrix::pack(self.shape, &codes, &scales, &[])?)
    }

    /// Quantizes some rows.
    fn rows(&self, mut weights: Vec<f32>, codes: &mut [u8], scales: &mut [f16]) -> Result<(), QuantError> {
        let cols = self.shape.cols();
        weights.chunks_exact_mut(cols).for_each(|row| self.backend.rotate(row));
        let (mut memory, mut path) = (TrellisMemory::default(), TrellisPath::default());
        let mut start = 0;
        for (index, group) in self.groups.iter().enumerate() {
            let end = start + group.importance.len();
            let mut errors = Vec::with_capacity(weights.len() / cols * (end - start));
            let rows = weights.chunks_exact(cols).zip(codes.chunks_exact_mut(cols));
            for ((row, codes), scales) in rows.zip(scales.chunks_exact_mut(self.shape.groups())) {
                let scale = self.scale(&row[start..end]);
                let unit = scale.to_f32();
                let inverse = if unit > 0.0 { 1.0 / unit } else { 0.0 };
                let targets: Vec<f32> = row[start..end].iter().map(|weight| weight * inverse).collect();
                let (importance, feedback) = (&group.importance, &group.feedback);
                let work = TrellisSearch { rate: self.rate, targets: &targets, importance, feedback };
                self.backend.search_trellis(&work, &mut memory, &mut path)?;
                scales[index] = scale;
                codes[start..end].copy_from_slice(&path.symbols);
                errors.extend(path.errors.iter().map(|error| error * unit));
            }
            self.correct_beyond(&mut weights, start..end, errors);
            start = end;
        }
        Ok(())
    }

    /// The scale at which weights of this spread use the levels best.
    fn scale(&self, weights: &[f32]) -> f16 {
        let square = weights.iter().map(|w| w * w).sum::<f32>() / weights.len() as f32;
        f16::from_f32((square.sqrt() / self.rate.unit()).min(f16::MAX.to_f32()))
    }

    /// Takes the errors of the columns `range` off all columns beyond them.
    fn correct_beyond(&self, weights: &mut [f32], range: Range<usize>, mut errors: Vec<f32>) {
        let (Some(factor), cols) = (self.factor, self.shape.cols()) else { return };
        for errors in errors.chunks_exact_mut(range.len()) {
            for (col, error) in range.clone().zip(errors) {
                *error /= factor[col * cols + col];
            }
        }
        correct_beyond(weights, factor, cols, range, &errors);
    }
}
