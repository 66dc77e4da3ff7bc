//! One width for every expert.

use super::Bits;
use crate::budget::Budget;
use crate::error::AllocatorError;
use crate::factors::Factors;
use crate::measure::Measure;

/// An average this close to a width means that width.
const ROUNDING: f64 = 1e-6;

/// The width of [`width_index`] for every expert.
pub(crate) fn allocate(factors: &Factors, budget: Budget, measure: &Measure) -> Result<Bits, AllocatorError> {
    let width = factors.bits[width_index(factors, budget, measure)?];
    Ok(vec![vec![width; factors.num_experts]; factors.num_layers])
}

/// Index of the candidate width that a budget means when all experts get the same.
pub(crate) fn width_index(
    factors: &Factors,
    budget: Budget,
    measure: &Measure,
) -> Result<usize, AllocatorError> {
    match budget {
        Budget::ExpertBits(average) => exact(factors, average),
        Budget::TotalBits(total) => exact(factors, f64::from(total) / factors.num_experts as f64),
        Budget::StoredBits { .. } | Budget::Bytes(_) => widest(factors, measure),
    }
}

fn exact(factors: &Factors, average: f64) -> Result<usize, AllocatorError> {
    let means = |&width: &u8| (f64::from(width) - average).abs() < ROUNDING;
    factors
        .bits
        .iter()
        .position(means)
        .ok_or_else(|| AllocatorError::NotUniform { average, widths: factors.bits.clone() })
}

fn widest(factors: &Factors, measure: &Measure) -> Result<usize, AllocatorError> {
    let block_size = |size: u64| size.saturating_mul(factors.num_experts as u64);
    let fits = |&size: &u64| block_size(size) <= measure.block;
    let smallest = measure.sizes.iter().copied().min().unwrap_or(0);
    let widest = measure.sizes.iter().rposition(fits);
    widest.ok_or_else(|| measure.infeasible(0, block_size(smallest)))
}
