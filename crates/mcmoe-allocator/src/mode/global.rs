//! One program over the matrices of all experts of the model.

use crate::budget::Budget;
use crate::error::{AllocatorError, SizeUnit};
use crate::factors::{Factors, MatrixFactors};
use crate::measure::{positive, whole};
use crate::program::{Block, Program};
use crate::solver::Solver;
use crate::storage::Storage;

/// Code bits, `[layer][expert][matrix]`.
pub(crate) type MatrixBits = Vec<Vec<Vec<f64>>>;

/// Code bits are counted in this part of a bit.
const STEPS: f64 = 1024.0;

/// The code bits of every matrix and the sum of their losses.
pub(crate) fn allocate(
    factors: &Factors,
    budget: Budget,
    storage: Option<&Storage>,
    solver: &dyn Solver,
) -> Result<(MatrixBits, f64), AllocatorError> {
    let measured = factors.matrices.as_ref().ok_or(AllocatorError::Empty { field: "matrices" })?;
    let goal = Goal::new(factors, measured, budget, storage)?;
    let costs: Vec<Vec<f64>> = measured.loss.iter().flatten().flatten().cloned().collect();
    let matrices = measured.matrices();
    let sizes = (0..costs.len()).map(|i| goal.sizes[i % matrices].clone()).collect();
    let program = Program::new(vec![Block::new(costs, sizes)], goal.budget);
    let answer = program.solve(solver).map_err(|error| error.in_unit(goal.unit, goal.steps).of_model())?;
    let mut choices = answer.choices.iter().flatten().map(|&choice| measured.bits[choice]);
    let mut expert = || choices.by_ref().take(matrices).collect();
    let mut layer = || (0..factors.num_experts).map(|_| expert()).collect();
    Ok(((0..factors.num_layers).map(|_| layer()).collect(), answer.objective))
}

/// A budget in whole numbers.
struct Goal {
    /// `[matrix][candidate]`.
    sizes: Vec<Vec<u64>>,
    budget: u64,
    unit: SizeUnit,
    /// Steps of one unit.
    steps: f64,
}

impl Goal {
    fn new(
        factors: &Factors,
        measured: &MatrixFactors,
        budget: Budget,
        storage: Option<&Storage>,
    ) -> Result<Self, AllocatorError> {
        let experts = (factors.num_layers * factors.num_experts) as f64;
        let (value, unit) = match budget {
            Budget::ExpertBits(average) => (average, SizeUnit::CodeBits),
            Budget::TotalBits(total) => (f64::from(total) / factors.num_experts as f64, SizeUnit::CodeBits),
            Budget::StoredBits { bits_per_weight } => (bits_per_weight, SizeUnit::StoredBitsPerWeight),
            Budget::Bytes(bytes) => (bytes as f64, SizeUnit::Bytes),
        };
        let value = positive(value)?;
        let (sizes, steps) = if unit == SizeUnit::CodeBits {
            let sizes = measured.bits.iter().map(|bits| (bits * STEPS).round() as u64).collect();
            (vec![sizes; measured.matrices()], experts * measured.matrices() as f64 * STEPS)
        } else {
            let missing = |needed| AllocatorError::MissingStorage { needed };
            let storage = storage.ok_or(missing("storage"))?;
            let bytes = storage.matrix_bytes.clone().ok_or(missing("matrix_bytes"))?;
            let weights = storage.weights().ok_or(missing("weights_per_expert"))? as f64;
            let stored = unit == SizeUnit::StoredBitsPerWeight;
            (bytes, if stored { experts * weights / 8.0 } else { 1.0 })
        };
        Ok(Self { sizes, budget: whole(value * steps), unit, steps })
    }
}
