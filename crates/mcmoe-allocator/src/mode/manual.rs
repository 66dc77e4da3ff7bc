//! A uniform width with the most and least significant experts moved by one step.

use super::{Bits, uniform};
use crate::error::AllocatorError;
use crate::factors::Factors;
use crate::measure::Measure;
use crate::options::AllocatorOptions;
use crate::significance::significance;

/// Experts to move in each block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moves {
    /// How many of the most significant get a wider width.
    pub(crate) high: usize,
    /// How many of the least significant get a narrower width.
    pub(crate) low: usize,
}

/// The base width of the budget, moved.
pub(crate) fn allocate(
    factors: &Factors,
    options: &AllocatorOptions,
    measure: &Measure,
    moves: Moves,
) -> Result<Bits, AllocatorError> {
    factors.validate_routing()?;
    options.exponents.validate()?;
    let (Moves { high, low }, experts) = (moves, factors.num_experts);
    if high.checked_add(low).is_none_or(|moved| moved > experts) {
        return Err(AllocatorError::ManualCount { high, low, experts });
    }
    let base = uniform::width_index(factors, options.budget, measure)?;
    let layers = factors.frequency.iter().zip(&factors.weight);
    let rankings =
        layers.map(|(frequency, weight)| ranking(&significance(frequency, weight, options.exponents)));
    Ok(rankings.map(|ranking| row(&factors.bits, base, &ranking, moves)).collect())
}

/// Experts from the most significant to the least; equals in order of their index.
fn ranking(significance: &[f64]) -> Vec<usize> {
    let mut ranking: Vec<usize> = (0..significance.len()).collect();
    ranking.sort_by(|&a, &b| significance[b].total_cmp(&significance[a]));
    ranking
}

fn row(widths: &[u8], base: usize, ranking: &[usize], moves: Moves) -> Vec<u8> {
    let mut row = vec![widths[base]; ranking.len()];
    let (wider, narrower) = ((base + 1).min(widths.len() - 1), base.saturating_sub(1));
    ranking.iter().take(moves.high).for_each(|&expert| row[expert] = widths[wider]);
    ranking.iter().rev().take(moves.low).for_each(|&expert| row[expert] = widths[narrower]);
    row
}
