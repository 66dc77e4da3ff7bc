//! HQQ, half-quadratic quantization (Badri & Shaji 2023): zero points tuned without data.
//!
//! The scale is fixed from the group's range. Two steps alternate: the residual is shrunk as the
//! ℓp norm (p < 1) asks, then the zero point moves to the mean that fits the shrunk residual. The
//! loop ends when the mean error of the whole matrix grows.
//!
//! The reference is the authors' package, `hqq` 0.2.8: `Quantizer.quantize(axis=1)` on a CPU with its
//! default settings (`tests/hqq_reference.rs`). As there since 0.2.7, β stays at 10; older releases let
//! it grow by 1 % an iteration. The package's configuration of 4-bit layers rounds the first zero point
//! to a whole number. That adds to the error, and the quantizer by itself does not do it; nor do we.

use mcmoe_tensor_kernels::{BitWidth, PackedMatrix, PackedShape};
use rayon::prelude::*;

use crate::quantized::Draft;
use crate::{Grid, Matrix, QuantError, QuantOptions};

const NORM: f32 = 0.7;
/// 1/β.
const SHRINKAGE: f32 = 0.1;
const ITERATIONS: usize = 20;
/// Groups with a range up to this one are constants: their scale is 1.
const CONSTANT_RANGE: f32 = 1e-4;
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
    let mut best = f64::INFINITY;
    for _ in 0..ITERATIONS {
        let errors: Vec<f64> = groups.par_iter_mut().map(Group::step).collect();
        let error: f64 = errors.iter().sum();
        if error >= best {
            break;
        }
        best = error;
    }
    write(&groups, bits, shape)
}

fn write(groups: &[Group<'_>], bits: BitWidth, shape: PackedShape) -> Result<PackedMatrix, QuantError> {
    let mut draft = Draft::new(shape);
    for (row, groups) in draft.rows_mut().iter_mut().zip(groups.chunks_exact(shape.groups())) {
        for (i, group) in groups.iter().enumerate() {
            row.set_grid(i, Grid::new(1.0 / group.inverse_scale, group.zero, bits));
            let codes = &mut row.codes[i * shape.group_size()..];
            // From the parameters before they are rounded to `f16`, as the reference takes them.
            for (code, &weight) in codes.iter_mut().zip(group.weights) {
                *code = group.code(weight) as u8;
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
        let range = high - low;
        // Not `max_code / range`: one bit more or less moves ties between codes, as bf16 weights have.
        let inverse_scale = if range <= CONSTANT_RANGE { 1.0 } else { (1.0 / range) * max_code };
        let inverse_scale = inverse_scale.min(MAX_INVERSE_SCALE);
        Self { weights, max_code, inverse_scale, zero: -low * inverse_scale }
    }

    /// The weight's code, a whole number.
    fn code(&self, weight: f32) -> f32 {
        (weight * self.inverse_scale + self.zero).round_ties_even().clamp(0.0, self.max_code)
    }

    /// One iteration: moves the zero point, returns `Σ|w - ŵ|` of the point it started from.
    fn step(&mut self) -> f64 {
        // Sums in `f64`: in `f32` those of long rows are off by enough to move codes.
        let (mut error, mut zero) = (0.0, 0.0);
        for &weight in self.weights {
            let code = self.code(weight);
            let residual = weight - (code - self.zero) / self.inverse_scale;
            error += f64::from(residual.abs());
            zero += f64::from(code - (weight - shrink(residual)) * self.inverse_scale);
        }
        self.zero = (zero / self.weights.len() as f64) as f32;
        error
    }
}

/// The proximal step of the ℓp norm.
fn shrink(residual: f32) -> f32 {
    let size = residual.abs();
    residual.signum() * (size - SHRINKAGE * size.powf(NORM - 1.0)).max(0.0)
}
