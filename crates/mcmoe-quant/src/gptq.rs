//! GPTQ (Frantar et al. 2022): rounding with error feedback through the inverse Hessian.
//!
//! Columns are rounded in order. The error of column `i`, divided by `U[i][i]`, is taken off every
//! later column in proportion to `U[i][j]`, at every width; within a block at once, beyond the block
//! as one product. Rows do not influence each other, so tasks of a few rows run in parallel and give
//! the same codes on any number of threads.

use mcmoe_tensor_kernels::{BitWidth, PackedMatrix, PackedShape};
use rayon::prelude::*;

use crate::linalg::{correct_beyond, inverse_factor};
use crate::quantized::{Draft, RowMut};
use crate::{Fallback, Grid, Hessian, Matrix, QuantError, QuantOptions, rtn};

/// Rows that a task carries through all columns: the more, the less often the factor is read.
const ROWS_A_TASK: [usize; 2] = [16, 128];
/// Tasks that a matrix of usual size is worth at least.
const TASKS: usize = 16;
/// How often a Hessian that is not positive definite gets ten times the ridge.
const RIDGE_TRIES: usize = 4;

/// Quantizes matrices that read the same inputs; their Hessian is factored once.
pub(crate) fn quantize(
    weights: &[Matrix<'_>],
    hessian: &Hessian,
    bits: BitWidth,
    options: &QuantOptions,
) -> Result<Vec<(PackedMatrix, Option<Fallback>)>, QuantError> {
    let (factor, fallback) = factor(hessian, options)?;
    let quantize = |weight: &Matrix<'_>| match &factor {
        Some(factor) => sweep(*weight, factor, bits, options),
        None => rtn::quantize(*weight, bits, options),
    };
    weights.iter().map(|weight| Ok((quantize(weight)?, fallback))).collect()
}

/// The factor to walk along, and what keeps it from being the Hessian's own; no factor where all that is
/// left is rounding to nearest.
pub(crate) fn factor(
    hessian: &Hessian,
    options: &QuantOptions,
) -> Result<(Option<Vec<f32>>, Option<Fallback>), QuantError> {
    let mean = hessian.mean_diagonal();
    if !mean.is_finite() {
        return Err(QuantError::HessianNotFinite);
    }
    if hessian.tokens() == 0 || mean == 0.0 {
        return Ok((None, Some(Fallback::NoTokens)));
    }
    let few = hessian.tokens() < hessian.features();
    let few = few.then_some(Fallback::FewTokens { tokens: hessian.tokens() });
    Ok(match damped_factor(hessian, options.damping) {
        Some(factor) => (Some(factor), few),
        None => (None, Some(Fallback::Singular)),
    })
}

/// The factor with enough ridge. Fewer tokens than features leave directions that no token has seen;
/// a ridge that grows as tokens get fewer keeps the feedback from running along them, and with hardly
/// any tokens what is left is rounding to nearest.
fn damped_factor(hessian: &Hessian, damping: f32) -> Option<Vec<f32>> {
    let shortage = (hessian.features() as f32 / hessian.tokens() as f32).max(1.0);
    let ridge = damping * shortage * hessian.mean_diagonal();
    (0..RIDGE_TRIES).find_map(|attempt| inverse_factor(hessian, ridge * 10_f32.powi(attempt as i32)))
}

fn sweep(
    weight: Matrix<'_>,
    factor: &[f32],
    bits: BitWidth,
    options: &QuantOptions,
) -> Result<PackedMatrix, QuantError> {
    let shape = options.shape(weight)?;
    let [least, most] = ROWS_A_TASK;
    // Whatever the number of threads: products of a single row are summed in another order.
    let rows_a_task = (shape.rows() / TASKS).clamp(least, most);
    let mut draft = Draft::new(shape);
    let mut rows = draft.rows_mut();
    let tasks = rows.par_chunks_mut(rows_a_task).zip(weight.data().par_chunks(rows_a_task * shape.cols()));
    tasks.for_each(|(rows, weights)| {
        Task { weights: weights.to_vec(), factor, shape, bits, options }.run(rows);
    });
    drop(rows);
    draft.pack()
}

/// A few rows on their way through the columns.
struct Task<'a> {
    /// What is left to round: the weights, corrected for the errors so far.
    weights: Vec<f32>,
    factor: &'a [f32],
    shape: PackedShape,
    bits: BitWidth,
    options: &'a QuantOptions,
}

impl Task<'_> {
    fn run(mut self, rows: &mut [RowMut<'_>]) {
        let cols = self.shape.cols();
        let block_size = self.options.block_size.clamp(1, cols);
        let mut errors = vec![0.0; rows.len() * block_size];
        let mut start = 0;
        while start < cols {
            let end = cols.min(start + block_size);
            let errors = &mut errors[..rows.len() * (end - start)];
            for (i, row) in rows.iter_mut().enumerate() {
                let errors = &mut errors[i * (end - start)..][..end - start];
                self.round_block(row, i, start, errors);
            }
            correct_beyond(&mut self.weights, self.factor, cols, start..end, errors);
            start = end;
        }
    }

    /// Rounds columns `start..` of one row and leaves each column's scaled error in `errors`.
    fn round_block(&mut self, row: &mut RowMut<'_>, i: usize, start: usize, errors: &mut [f32]) {
        let (cols, group_size) = (self.shape.cols(), self.shape.group_size());
        let end = start + errors.len();
        let mut grid = self.grid_at(row, start);
        let weights = &mut self.weights[i * cols..][..cols];
        for col in start..end {
            if col % group_size == 0 {
                let group = &weights[col..cols.min(col + group_size)];
                grid = Grid::fit(group, self.bits, &self.options.grid);
                row.set_grid(col / group_size, grid);
            }
            let code = grid.code(weights[col]);
            row.codes[col] = code;
            let factor = &self.factor[col * cols..][..cols];
            let error = (weights[col] - grid.weight(code)) / factor[col];
            errors[col - start] = error;
            for (weight, u) in weights[col + 1..end].iter_mut().zip(&factor[col + 1..end]) {
                *weight -= error * u;
            }
        }
    }

    /// The grid in force at column `col`, where a group spans several blocks.
    fn grid_at(&self, row: &RowMut<'_>, col: usize) -> Grid {
        let group = col / self.shape.group_size();
        Grid::new(row.scales[group].to_f32(), row.zeros[group].to_f32(), self.bits)
    }
}
