//! Adapters to integer programming solvers, one file each.

mod highs;
#[cfg(test)]
mod microlp;
mod model;

pub use highs::Highs;

use crate::program::ScaledProgram;

/// Finds an optimal answer to a program in well-scaled numbers.
///
/// [`Program::solve`](crate::Program::solve) proves beforehand that there is an answer, and checks
/// afterwards that the one returned fits.
pub trait Solver {
    /// Picks one candidate for every expert; the result is `[block][expert]` and indexes into
    /// [`ScaledBlock::experts`](crate::ScaledBlock::experts).
    ///
    /// # Errors
    /// [`SolverFailure`] when no proven optimum was found.
    fn solve(&self, program: &ScaledProgram) -> Result<Vec<Vec<usize>>, SolverFailure>;
}

/// Why there is no answer although there must be one.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SolverFailure {
    /// The solver's own error.
    #[error("{0}")]
    Backend(String),
    /// It stopped before it could prove an optimum.
    #[error("it stopped before an optimum was proven")]
    Stopped,
    /// The answer does not have one valid pick per expert.
    #[error("its answer does not pick one choice per expert")]
    Malformed,
    /// The answer is larger than the budget.
    #[error("its answer has size {size}, over the budget of {budget}")]
    OverBudget {
        /// Size of the answer.
        size: u64,
        /// The budget.
        budget: u64,
    },
    /// The answer leaves out a required choice.
    #[error("its answer leaves out a required choice")]
    Requirement,
}
