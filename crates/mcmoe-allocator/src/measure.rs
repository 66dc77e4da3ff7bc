//! A budget turned into whole numbers that a program can add up.

use crate::budget::Budget;
use crate::error::{AllocatorError, SizeUnit};
use crate::factors::Factors;
use crate::storage::Storage;

/// Steps per stored bit: a power of two, so that figures like 2.25 stay exact.
const STORED_STEPS: f64 = (1u64 << 24) as f64;

/// Lets an average such as 2.3 bits reach its own total after rounding in binary.
const ROUNDING: f64 = 1e-9;

/// Sizes of the choices, and how much of them fits.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Measure {
    /// Size of one expert at each candidate width.
    pub(crate) sizes: Vec<u64>,
    /// Budget of one block.
    pub(crate) block: u64,
    /// Budget of all blocks together.
    pub(crate) model: u64,
    unit: SizeUnit,
    block_steps: f64,
    model_steps: f64,
}

impl Measure {
    pub(crate) fn new(
        budget: Budget,
        storage: Option<&Storage>,
        factors: &Factors,
    ) -> Result<Self, AllocatorError> {
        match budget {
            Budget::ExpertBits(average) => code_bits(positive(average)? * experts(factors), factors),
            Budget::TotalBits(total) => code_bits(positive(f64::from(total))?, factors),
            Budget::StoredBits { bits_per_weight } => {
                stored_bits(positive(bits_per_weight)?, storage, factors)
            }
            Budget::Bytes(bytes) => byte_count(bytes, storage, factors),
        }
    }

    /// Restates an infeasible block in the unit of the budget.
    pub(crate) fn explain_block(&self, error: AllocatorError) -> AllocatorError {
        error.in_unit(self.unit, self.block_steps)
    }

    /// Restates an infeasible model in the unit of the budget.
    pub(crate) fn explain_model(&self, error: AllocatorError) -> AllocatorError {
        error.in_unit(self.unit, self.model_steps)
    }

    /// The error for a layer whose smallest allocation is over the block's budget.
    pub(crate) fn infeasible(&self, layer: usize, smallest: u64) -> AllocatorError {
        let unit = SizeUnit::Size;
        let (budget, smallest) = (self.block as f64, smallest as f64);
        self.explain_block(AllocatorError::Infeasible { layer: Some(layer), budget, smallest, unit })
    }
}

fn code_bits(block: f64, factors: &Factors) -> Result<Measure, AllocatorError> {
    let total = block * layers(factors);
    Ok(Measure {
        sizes: factors.bits.iter().map(|&b| u64::from(b)).collect(),
        block: whole(block),
        model: whole(total),
        unit: SizeUnit::CodeBits,
        block_steps: 1.0,
        model_steps: 1.0,
    })
}

fn stored_bits(
    average: f64,
    storage: Option<&Storage>,
    factors: &Factors,
) -> Result<Measure, AllocatorError> {
    let storage = storage.ok_or(AllocatorError::MissingStorage { needed: "storage" })?;
    let block_steps = experts(factors) * STORED_STEPS;
    let model_steps = block_steps * layers(factors);
    // Rounding every size down in the same way keeps equal differences between widths equal, and a
    // uniform allocation within a budget of its own size.
    let sizes = sizes(storage, factors, |bits| (bits * STORED_STEPS).floor())?;
    Ok(Measure {
        sizes,
        block: whole(average * block_steps),
        model: whole(average * model_steps),
        unit: SizeUnit::StoredBitsPerWeight,
        block_steps,
        model_steps,
    })
}

fn byte_count(bytes: u64, storage: Option<&Storage>, factors: &Factors) -> Result<Measure, AllocatorError> {
    let storage = storage.ok_or(AllocatorError::MissingStorage { needed: "storage" })?;
    let weights = storage.weights().ok_or(AllocatorError::MissingStorage { needed: "weights_per_expert" })?;
    let model = bytes.checked_mul(8).ok_or(AllocatorError::SizeOverflow)?;
    positive(model as f64)?;
    // A byte budget is a promise about a file: sizes round up.
    let sizes = sizes(storage, factors, |bits| (bits * weights as f64).ceil())?;
    Ok(Measure {
        sizes,
        block: model / factors.num_layers as u64,
        model,
        unit: SizeUnit::Bytes,
        block_steps: 8.0,
        model_steps: 8.0,
    })
}

fn sizes(
    storage: &Storage,
    factors: &Factors,
    size: impl Fn(f64) -> f64,
) -> Result<Vec<u64>, AllocatorError> {
    factors.bits.iter().map(|&width| Ok(size(storage.checked_bits(width)?) as u64)).collect()
}

/// The whole number that a budget comes to.
pub(crate) fn whole(size: f64) -> u64 {
    (size + ROUNDING).floor() as u64
}

fn experts(factors: &Factors) -> f64 {
    factors.num_experts as f64
}

fn layers(factors: &Factors) -> f64 {
    factors.num_layers as f64
}

/// A budget that is a number above 0.
pub(crate) fn positive(value: f64) -> Result<f64, AllocatorError> {
    if value.is_finite() && value > 0.0 { Ok(value) } else { Err(AllocatorError::Budget { value }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factors() -> Factors {
        Factors::unmeasured(4, 8, vec![1, 2, 3])
    }

    #[test]
    fn an_average_is_rounded_down_to_whole_bits_a_block() {
        for (average, total) in [(2.0, 16), (1.57, 12), (2.3, 18), (1.625, 13), (0.7 + 0.3, 8)] {
            let measure = Measure::new(Budget::ExpertBits(average), None, &factors()).unwrap();
            assert_eq!(measure.block, total, "{average}");
        }
    }

    #[test]
    fn all_blocks_together_lose_less_to_rounding() {
        let measure = Measure::new(Budget::ExpertBits(2.3), None, &factors()).unwrap();
        assert_eq!((measure.block * 4, measure.model), (72, 73));
    }

    #[test]
    fn a_stored_average_reaches_the_uniform_allocation_of_its_own_size() {
        for group_size in [128, 96, 64, 48, 100, 7] {
            let storage = Storage::grouped([1, 2, 3], group_size, 32);
            for (width, &bits) in factors().bits.iter().enumerate() {
                let bits_per_weight = storage.stored_bits(bits).unwrap();
                let budget = Budget::StoredBits { bits_per_weight };
                let measure = Measure::new(budget, Some(&storage), &factors()).unwrap();
                assert!(measure.sizes[width] * 8 <= measure.block, "group {group_size}, {bits} bits");
                assert!(measure.sizes[width] * 8 + 16 > measure.block, "group {group_size}, {bits} bits");
            }
        }
    }

    #[test]
    fn bytes_are_shared_equally_by_the_blocks() {
        let storage = Storage::grouped([1, 2, 3], 128, 32).weights_per_expert(1 << 20);
        let measure = Measure::new(Budget::Bytes(10_000_001), Some(&storage), &factors()).unwrap();
        assert_eq!(measure.sizes, [1_310_720, 2_359_296, 3_407_872]);
        assert_eq!((measure.block, measure.model), (20_000_002, 80_000_008));
    }
}
