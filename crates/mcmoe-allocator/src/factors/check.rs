//! Validation of factors, one function per group of fields.

use super::{Factors, MatrixFactors};
use crate::error::AllocatorError;
use crate::widths;

/// The most layers, and the most experts of a layer.
const MOST: usize = 1 << 12;
/// The most experts of all layers together.
const MOST_EXPERTS: usize = 1 << 16;

/// Counts and candidate widths.
pub(super) fn shape(factors: &Factors) -> Result<(), AllocatorError> {
    let Factors { num_layers, num_experts, .. } = *factors;
    count("num_layers", num_layers, MOST)?;
    count("num_experts", num_experts, MOST)?;
    count("num_layers * num_experts", num_layers * num_experts, MOST_EXPERTS)?;
    widths::check(&factors.bits)
}

/// The tables that routing alone gives.
pub(super) fn routing(factors: &Factors) -> Result<(), AllocatorError> {
    table("frequency", &factors.frequency, factors)?;
    table("weight", &factors.weight, factors)
}

/// The table of quantization losses.
pub(super) fn quant_loss(factors: &Factors) -> Result<(), AllocatorError> {
    let field = "quant_loss";
    length(field, None, None, factors.num_layers, factors.quant_loss.len())?;
    for (layer, experts) in factors.quant_loss.iter().enumerate() {
        length(field, Some(layer), None, factors.num_experts, experts.len())?;
        for (expert, losses) in experts.iter().enumerate() {
            length(field, Some(layer), Some(expert), factors.bits.len(), losses.len())?;
            for &loss in losses {
                number(field, layer, Some(expert), loss)?;
            }
        }
    }
    Ok(())
}

/// The losses of matrices, if there are any.
pub(super) fn matrices(factors: &Factors) -> Result<(), AllocatorError> {
    let Some(MatrixFactors { bits, loss }) = &factors.matrices else { return Ok(()) };
    let field = "matrices.loss";
    if bits.is_empty() {
        return Err(AllocatorError::Empty { field: "matrices.bits" });
    }
    let sound =
        bits.windows(2).all(|pair| pair[0] < pair[1]) && bits[0] > 0.0 && bits[bits.len() - 1] <= 16.0;
    if !sound {
        let value = bits.iter().copied().fold(f64::NAN, f64::max);
        return Err(AllocatorError::Value { field: "matrices.bits", layer: None, expert: None, value });
    }
    length(field, None, None, factors.num_layers, loss.len())?;
    let matrices = loss.iter().flatten().next().map_or(0, Vec::len);
    count("matrices of an expert", matrices, MOST)?;
    for (layer, experts) in loss.iter().enumerate() {
        length(field, Some(layer), None, factors.num_experts, experts.len())?;
        for (expert, losses) in experts.iter().enumerate() {
            length(field, Some(layer), Some(expert), matrices, losses.len())?;
            for losses in losses {
                length(field, Some(layer), Some(expert), bits.len(), losses.len())?;
                losses.iter().try_for_each(|&loss| number(field, layer, Some(expert), loss))?;
            }
        }
    }
    Ok(())
}

/// The pruning thresholds, if there are any.
pub(super) fn ratio_median(factors: &Factors) -> Result<(), AllocatorError> {
    let Some(medians) = &factors.ratio_median else { return Ok(()) };
    length("ratio_median", None, None, factors.num_layers, medians.len())?;
    medians.iter().enumerate().try_for_each(|(layer, &m)| number("ratio_median", layer, None, m))
}

fn table(field: &'static str, rows: &[Vec<f64>], factors: &Factors) -> Result<(), AllocatorError> {
    length(field, None, None, factors.num_layers, rows.len())?;
    for (layer, row) in rows.iter().enumerate() {
        length(field, Some(layer), None, factors.num_experts, row.len())?;
        for (expert, &value) in row.iter().enumerate() {
            number(field, layer, Some(expert), value)?;
        }
    }
    Ok(())
}

fn count(field: &'static str, found: usize, most: usize) -> Result<(), AllocatorError> {
    match found {
        0 => Err(AllocatorError::Empty { field }),
        _ if found > most => Err(AllocatorError::TooMany { field, found, most }),
        _ => Ok(()),
    }
}

/// An error naming the place unless there are as many entries as expected.
pub(crate) fn length(
    field: &'static str,
    layer: Option<usize>,
    expert: Option<usize>,
    expected: usize,
    found: usize,
) -> Result<(), AllocatorError> {
    if expected == found {
        return Ok(());
    }
    Err(AllocatorError::Shape { field, layer, expert, expected, found })
}

fn number(
    field: &'static str,
    layer: usize,
    expert: Option<usize>,
    value: f64,
) -> Result<(), AllocatorError> {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    Err(AllocatorError::Value { field, layer: Some(layer), expert, value })
}
