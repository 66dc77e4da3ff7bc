//! HQQ, half-quadratic quantization (Badri & Shaji 2023): zero points tuned without data.
//!
//! The scale is fixed from the group's range. Two steps alternate: the residual is shrunk as the
//! ℓp norm (p < 1) asks, then the zero point moves to the mean that fits the shrunk residual. The
//! loop ends when the mean error of the whole matrix grows.

use mcmoe_tensor_kernels::{BitWidth, PackedMatrix, PackedShape};
use rayon::prelude::*;

use crate::quantized::Draft;
use crate::{Grid, Matrix, QuantError, QuantOptions};

const NORM: f32 = 0.7;
const BETA: f32 = 10.0;
const BETA_GROWTH: f32 = 1.01;
const ITERATIONS: usize = 20;
/// Largest inverse scale, for groups that are nearly constant.
const MAX_INVERSE_SCALE: f32 = 2e4;

pub(crate) fn quantize(
    weight: Matrix<'_>,
    bits: BitWidth,
    options: &QuantOptions,
) -> Result<PackedMatrix, QuantError> {
    let shape = options.shape(weight)?;
    let max_code = f32::from(bits.max_code());
    let mut groups: Vec<Group<'_>> = weight
        .data()
        .par_chunks_exact(shape.cols())
        .flat_map_iter(|row| row.chunks(shape.group_size()))
        .map(|weights| Group::new(weights, max_code))
        .collect();
    let mut best = f32::INFINITY;
    let mut beta = BETA;
    for _ in 0..ITERATIONS {
        let errors: Vec<f32> = groups.par_iter_mut().map(|group| group.step(beta)).collect();
        let error = errors.iter().sum::<f32>() / shape.weights() as f32;
        if error >= best {
            break;
        }
        best = error;
        beta *= BETA_GROWTH;
    }
    write(&groups, bits, shape)
}

fn write(groups: &[Group<'_>], bits: BitWidth, shape: PackedShape) -> Result<PackedMatrix, QuantError> {
    let mut draft = Draft::new(shape);
    for (row, groups) in draft.rows_mut().iter_mut().zip(groups.chunks_exact(shape.groups())) {
        for (i, group) in groups.iter().enumerate() {
            let grid = Grid::new(1.0 / group.inverse_scale, group.zero, bits);
            row.set_grid(i, grid);
            let codes = &mut row.codes[i * shape.group_size()..];
            for (code, &weight) in codes.iter_mut().zip(group.weights) {
                *code = grid.code(weight);
            }
        }
    }
    draft.pack()
}

struct Group<'a> {
    weights: &'a [f32],
    max_code: f32,
    inverse_scale: f32,
    zero: f32,
}

impl<'a> Group<'a> {
    fn new(weights: &'a [f32], max_code: f32) -> Self {
        let low = weights.iter().copied().fold(f32::INFINITY, f32::min);
        let high = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let inverse_scale = (max_code / (high - low)).min(MAX_INVERSE_SCALE);
        Self { weights, max_code, inverse_scale, zero: -low * inverse_scale }
    }

    /// One iteration: moves the zero point, returns `Σ|w - ŵ|` of the point it started from.
    fn step(&mut self, beta: f32) -> f32 {
        let (mut error, mut zero) = (0.0, 0.0);
        for &weight in self.weights {
            let code = (weight * self.inverse_scale + self.zero).round_ties_even().clamp(0.0, self.max_code);
            let residual = weight - (code - self.zero) / self.inverse_scale;
            error += residual.abs();
            zero += code - (weight - shrink(residual, beta)) * self.inverse_scale;
        }
        self.zero = zero / self.weights.len() as f32;
        error
    }
}

/// The proximal step of the ℓp norm.
fn shrink(residual: f32, beta: f32) -> f32 {
    let size = residual.abs();
    residual.signum() * (size - size.powf(NORM - 1.0) / beta).max(0.0)
}
