//! How well a matrix was kept.

use mcmoe_tensor_kernels::PackedMatrix;

use crate::{Hessian, Matrix};

/// A quantized matrix with its error.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Quantized {
    /// Codes, scales and zero points.
    pub packed: PackedMatrix,
    /// What was lost.
    pub report: ErrorReport,
}

/// Errors of a quantized matrix, relative to the original.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct ErrorReport {
    /// `‖W − Ŵ‖² / ‖W‖²`.
    pub weight_error: f64,
    /// `tr((W − Ŵ) H (W − Ŵ)ᵀ) / tr(W H Wᵀ)`: the error of the outputs on the calibration tokens.
    /// Absent without a Hessian.
    pub output_error: Option<f64>,
    /// Why calibration could not be used as asked, if so.
    pub fallback: Option<Fallback>,
}

/// Why GPTQ had to lean on rounding to nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fallback {
    /// No calibration token reached the matrix: rounded to nearest.
    NoTokens,
    /// Fewer tokens than input features: GPTQ with a larger ridge.
    FewTokens {
        /// Tokens that reached the matrix.
        tokens: usize,
    },
    /// The Hessian could not be factored: rounded to nearest.
    Singular,
}

pub(crate) fn report(
    weight: Matrix<'_>,
    packed: &PackedMatrix,
    hessian: Option<&Hessian>,
    fallback: Option<Fallback>,
) -> ErrorReport {
    let error: Vec<f32> = packed.dequantize().iter().zip(weight.data()).map(|(q, w)| w - q).collect();
    let seen = hessian.filter(|hessian| hessian.tokens() > 0);
    ErrorReport {
        weight_error: ratio(square_sum(&error), square_sum(weight.data())),
        output_error: seen.map(|h| ratio(h.energy(&error), h.energy(weight.data()))),
        fallback,
    }
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

fn square_sum(values: &[f32]) -> f64 {
    values.iter().map(|&v| f64::from(v) * f64::from(v)).sum()
}
