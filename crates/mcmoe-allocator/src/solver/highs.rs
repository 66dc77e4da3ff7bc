//! HiGHS, set up to be exact and to give the same answer every time.

use good_lp::solvers::highs::{HighsParallelType, HighsProblem, highs};
use good_lp::variable::UnsolvedProblem;

use super::{Solver, SolverFailure, model};
use crate::program::ScaledProgram;

/// The smallest that HiGHS accepts is 1e-10; scaled costs are in the hundreds.
const TOLERANCE: f64 = 1e-9;

/// The HiGHS mixed-integer solver: one thread, no gap, a fixed seed, silent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Highs;

impl Solver for Highs {
    fn solve(&self, program: &ScaledProgram) -> Result<Vec<Vec<usize>>, SolverFailure> {
        model::solve(program, configured)
    }
}

fn configured(problem: UnsolvedProblem) -> HighsProblem {
    highs(problem)
        .set_parallel(HighsParallelType::Off)
        .set_threads(1)
        .set_option("random_seed", 0)
        .set_option("mip_rel_gap", 0.0)
        .set_option("mip_abs_gap", 0.0)
        .set_option("mip_feasibility_tolerance", TOLERANCE)
        .set_option("primal_feasibility_tolerance", TOLERANCE)
        .set_option("dual_feasibility_tolerance", TOLERANCE)
}
