//! The integer program: one choice per expert, least cost, within a budget, some choices required.
//!
//! A program is checked and its smallest size computed exactly in integers; then it is scaled
//! (`scaling`), handed to a [`Solver`], and the answer is checked against the original integers.

mod block;
mod scaling;

use crate::error::{AllocatorError, SizeUnit};
use crate::solver::{Solver, SolverFailure};

pub use block::Block;
pub use scaling::{Candidate, ScaledBlock, ScaledProgram};

/// Blocks of experts that share one budget.
///
/// minimise Σ cost of the choices, subject to: one choice per expert; Σ size of the choices ≤
/// budget; in every block each required choice is taken at least once.
///
/// ```
/// use mcmoe_allocator::{Block, Highs, Program};
///
/// # fn main() -> Result<(), mcmoe_allocator::AllocatorError> {
/// let cost = vec![vec![9.0, 2.0], vec![5.0, 1.0]];
/// let size = vec![vec![10, 20], vec![10, 20]];
/// let answer = Program::new(vec![Block::new(cost, size)], 30).solve(&Highs)?;
/// assert_eq!(answer.choices, vec![vec![1, 0]]);
/// assert_eq!(answer.objective, 7.0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Program {
    /// The blocks.
    pub blocks: Vec<Block>,
    /// What the chosen sizes of all blocks may add up to.
    pub budget: u64,
}

/// An optimal answer to a [`Program`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Assignment {
    /// Index of the choice of each expert, `[block][expert]`.
    pub choices: Vec<Vec<usize>>,
    /// Sum of the chosen costs.
    pub objective: f64,
    /// Sum of the chosen sizes.
    pub size: u64,
}

impl Program {
    /// A program over `blocks` that share `budget`.
    #[must_use]
    pub fn new(blocks: Vec<Block>, budget: u64) -> Self {
        Self { blocks, budget }
    }

    /// Solves the program to optimality.
    ///
    /// The optimum is exact up to the resolution of floating point: choices too dear to be in any
    /// optimal answer are dropped first, and the rest is scaled so that the solver's absolute
    /// tolerances are about 1e-12 of what the budget adds to the sum of the cheapest choices. Of
    /// several answers with equal cost the same one is returned every time.
    ///
    /// # Errors
    /// [`AllocatorError::Empty`], [`AllocatorError::Shape`], [`AllocatorError::NonFiniteCost`],
    /// [`AllocatorError::RequiredChoice`], [`AllocatorError::RequiredCount`] and
    /// [`AllocatorError::SizeOverflow`] for a malformed program, [`AllocatorError::Infeasible`] when
    /// nothing fits, and [`AllocatorError::Solver`] when the solver fails.
    pub fn solve(&self, solver: &dyn Solver) -> Result<Assignment, AllocatorError> {
        self.validate()?;
        self.check_feasible()?;
        let scaled = ScaledProgram::of(self)?;
        let answer = solver.solve(&scaled).and_then(|picked| {
            let choices = scaled.choices(&picked).ok_or(SolverFailure::Malformed)?;
            self.assignment(choices)
        });
        answer.map_err(|source| AllocatorError::Solver { layer: self.only_layer(), source })
    }

    /// The smallest total size that meets every requirement, whatever the budget.
    ///
    /// # Errors
    /// As [`Program::solve`] for a malformed program.
    pub fn smallest_size(&self) -> Result<u64, AllocatorError> {
        self.validate()?;
        self.smallest(|_| true).ok_or(AllocatorError::SizeOverflow)
    }

    fn validate(&self) -> Result<(), AllocatorError> {
        if self.blocks.is_empty() {
            return Err(AllocatorError::Empty { field: "blocks" });
        }
        self.blocks.iter().try_for_each(Block::validate)?;
        let largest = self.blocks.iter().try_fold(0u64, |sum, block| sum.checked_add(block.largest_size()?));
        largest.map(|_| ()).ok_or(AllocatorError::SizeOverflow)
    }

    fn check_feasible(&self) -> Result<(), AllocatorError> {
        let smallest = self.smallest(|_| true).ok_or(AllocatorError::SizeOverflow)?;
        if smallest <= self.budget {
            return Ok(());
        }
        let (budget, smallest) = (self.budget as f64, smallest as f64);
        Err(AllocatorError::Infeasible { layer: self.only_layer(), budget, smallest, unit: SizeUnit::Size })
    }

    /// Smallest size with only the choices whose cost above the expert's cheapest is `allowed`.
    fn smallest(&self, allowed: impl Fn(f64) -> bool) -> Option<u64> {
        self.blocks.iter().try_fold(0u64, |sum, block| sum.checked_add(block.smallest_size(&allowed)?))
    }

    fn only_layer(&self) -> Option<usize> {
        match self.blocks.as_slice() {
            [only] => Some(only.layer),
            _ => None,
        }
    }

    /// Adds up an answer in the program's own numbers; the scaled ones only served to find it.
    fn assignment(&self, choices: Vec<Vec<usize>>) -> Result<Assignment, SolverFailure> {
        let totals = self.blocks.iter().zip(&choices).map(|(block, row)| block.total(row));
        let (objective, size) = totals.fold((0.0, 0), |sum, total| (sum.0 + total.0, sum.1 + total.1));
        if size > self.budget {
            return Err(SolverFailure::OverBudget { size, budget: self.budget });
        }
        if self.blocks.iter().zip(&choices).any(|(block, row)| !block.covers(row)) {
            return Err(SolverFailure::Requirement);
        }
        Ok(Assignment { choices, objective, size })
    }
}
