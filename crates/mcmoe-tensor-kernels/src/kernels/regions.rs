//! Parallel regions: tiles are shared out among threads, results put in order.

use rayon::prelude::*;

use super::backend::{Backend, Lanes};
use super::dense::DenseMatrix;
use super::inputs::Inputs;
use crate::shape::TILE_ROWS;
use crate::{KernelError, PackedMatrix, Precision};

/// Bytes that a thread reads in one go: few enough that threads end a region together, many enough to
/// pay for sharing them out.
const BYTES_AT_ONCE: usize = 256 << 10;

impl Backend {
    /// `x Wᵀ`, `[tokens, rows]`, for each of `weights`, in one parallel region.
    ///
    /// `x` is `[tokens, cols]`, row-major; all weights have the same number of columns. Results depend
    /// neither on the number of threads nor on the other tokens of the batch nor on the backend.
    ///
    /// # Errors
    /// [`KernelError::Length`] if the weights' columns differ or `x` is not whole tokens of them.
    pub fn matmul(
        self,
        weights: &[&PackedMatrix],
        x: &[f32],
        precision: Precision,
    ) -> Result<Vec<Vec<f32>>, KernelError> {
        let Some(first) = weights.first() else { return Ok(vec![]) };
        let (expected, mut cols) = (first.shape().cols(), weights.iter().map(|w| w.shape().cols()));
        if let Some(found) = cols.find(|&found| found != expected) {
            return Err(KernelError::Length { what: "columns of a weight", expected, found });
        }
        let all: Vec<usize> = (0..count_tokens(x, first.shape().cols())?).collect();
        let inputs = |weight: &PackedMatrix| Inputs::new(self, x, &all, weight.shape(), precision);
        let shared = inputs(first);
        let own: Vec<Option<Inputs>> =
            weights.iter().map(|w| (!w.shape().same_inputs(first.shape())).then(|| inputs(w))).collect();
        let tokens = all.len();
        let mut outputs: Vec<Vec<Lanes>> =
            weights.iter().map(|w| vec![[0.0; TILE_ROWS]; w.shape().tiles() * tokens]).collect();
        let jobs = weights.iter().zip(&own).zip(&mut outputs);
        let tasks: Vec<Task<'_>> =
            jobs.flat_map(|((w, own), out)| Task::of(w, own.as_ref().unwrap_or(&shared), out)).collect();
        let bytes = weights.iter().map(|w| w.shape().tile_bytes()).max().unwrap_or_default();
        run(tasks, bytes, |task| task.run(self));
        let rows = weights.iter().map(|w| w.shape().rows());
        Ok(outputs.iter().zip(rows).map(|(lanes, rows)| to_rows(lanes, tokens, rows)).collect())
    }

    /// `x Wᵀ`, `[tokens, rows]`, for a matrix that is not packed; otherwise as [`Backend::matmul`].
    ///
    /// # Errors
    /// As [`Backend::matmul`].
    pub fn dense_matmul(self, weight: &DenseMatrix, x: &[f32]) -> Result<Vec<f32>, KernelError> {
        let tokens = count_tokens(x, weight.cols())?;
        if tokens == 0 {
            return Ok(vec![]);
        }
        let tiles = weight.rows().div_ceil(TILE_ROWS);
        let mut lanes = vec![[0.0; TILE_ROWS]; tiles * tokens];
        let bytes = TILE_ROWS * weight.total_bytes() / weight.rows();
        run(lanes.chunks_exact_mut(tokens).enumerate().collect(), bytes, |(tile, out)| {
            self.dense_tile(weight, tile, x, out);
        });
        Ok(to_rows(&lanes, tokens, weight.rows()))
    }
}

/// A tile to be multiplied with every token. Cheap to make: a region makes all of its tasks at once,
/// on one thread.
pub(super) struct Task<'a> {
    weight: &'a PackedMatrix,
    tile: usize,
    x: &'a Inputs,
    /// One entry a token.
    out: &'a mut [Lanes],
}

impl<'a> Task<'a> {
    /// The tiles of `weight`; `lanes` has room for every tile and token.
    fn of(weight: &'a PackedMatrix, x: &'a Inputs, lanes: &'a mut [Lanes]) -> impl Iterator<Item = Self> {
        let outputs = lanes.chunks_exact_mut(x.tokens().max(1)).enumerate();
        outputs.map(move |(tile, out)| Self { weight, tile, x, out })
    }

    fn run(self, backend: Backend) {
        backend.tile(self.weight.tile(self.tile), self.x, self.out);
    }
}

/// Runs the tasks of a region, each of which reads up to `bytes` bytes. Neighbours are neighbours in
/// memory and go to the same thread.
pub(super) fn run<T: Send>(tasks: Vec<T>, bytes: usize, work: impl Fn(T) + Send + Sync) {
    let at_once = (BYTES_AT_ONCE / bytes.max(1)).max(1);
    tasks.into_par_iter().with_min_len(at_once).with_max_len(at_once).for_each(work);
}

/// From lanes `[tiles, tokens, 16]` to `[tokens, rows]`.
pub(super) fn to_rows(lanes: &[Lanes], tokens: usize, rows: usize) -> Vec<f32> {
    if tokens == 1 {
        return lanes.as_flattened()[..rows].to_vec();
    }
    let mut y = vec![0.0; tokens * rows];
    y.par_chunks_exact_mut(rows.max(1)).enumerate().for_each(|(token, y)| {
        let of_token = lanes.iter().skip(token).step_by(tokens);
        y.chunks_mut(TILE_ROWS).zip(of_token).for_each(|(y, lanes)| y.copy_from_slice(&lanes[..y.len()]));
    });
    y
}

pub(super) fn count_tokens(x: &[f32], cols: usize) -> Result<usize, KernelError> {
    let tokens = x.len().checked_div(cols).unwrap_or_default();
    if tokens * cols == x.len() {
        Ok(tokens)
    } else {
        Err(KernelError::Length { what: "input", expected: (tokens + 1) * cols, found: x.len() })
    }
}
