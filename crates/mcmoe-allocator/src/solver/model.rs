//! A scaled program as a `good_lp` model: what every solver behind `good_lp` shares.

use good_lp::solvers::SolutionStatus;
use good_lp::variable::UnsolvedProblem;
use good_lp::{Constraint, Expression, ProblemVariables, Solution, SolverModel, Variable, variable};

use super::SolverFailure;
use crate::program::{Candidate, ScaledBlock, ScaledProgram};

/// One binary variable per candidate, `[block][expert][candidate]`.
type Picks = Vec<Vec<Vec<Variable>>>;

/// Builds the model with `create`, solves it and reads the picks off.
pub(super) fn solve<M: SolverModel>(
    program: &ScaledProgram,
    create: impl FnOnce(UnsolvedProblem) -> M,
) -> Result<Vec<Vec<usize>>, SolverFailure> {
    let mut variables = ProblemVariables::new();
    let picks = add_variables(program, &mut variables);
    let objective = sum(program, &picks, |candidate| candidate.cost);
    let model = create(variables.minimise(objective)).with_all(constraints(program, &picks));
    let solution = model.solve().map_err(|error| SolverFailure::Backend(error.to_string()))?;
    // With both gaps at zero, a gap can only be what rounding left of a finished proof.
    if matches!(solution.status(), SolutionStatus::TimeLimit) {
        return Err(SolverFailure::Stopped);
    }
    picks.iter().map(|block| block.iter().map(|row| picked(row, &solution)).collect()).collect()
}

fn add_variables(program: &ScaledProgram, variables: &mut ProblemVariables) -> Picks {
    let mut add = |row: &Vec<Candidate>| variables.add_vector(variable().binary(), row.len());
    program.blocks.iter().map(|block| block.experts.iter().map(&mut add).collect()).collect()
}

fn sum(program: &ScaledProgram, picks: &Picks, term: impl Fn(&Candidate) -> f64) -> Expression {
    let candidates = program.blocks.iter().flat_map(|block| block.experts.iter().flatten());
    let variables = picks.iter().flatten().flatten();
    candidates.zip(variables).map(|(candidate, &pick)| term(candidate) * pick).sum()
}

fn constraints(program: &ScaledProgram, picks: &Picks) -> Vec<Constraint> {
    let one_each = picks.iter().flatten().map(|row| row.iter().copied().sum::<Expression>().eq(1.0));
    let size = sum(program, picks, |candidate| candidate.size as f64).leq(program.capacity as f64);
    let shown = program.blocks.iter().zip(picks).flat_map(|(block, rows)| required(block, rows));
    one_each.chain([size]).chain(shown).collect()
}

fn required(block: &ScaledBlock, rows: &[Vec<Variable>]) -> Vec<Constraint> {
    let showing = |choice: usize| -> Expression {
        let pairs = block.experts.iter().flatten().zip(rows.iter().flatten());
        pairs.filter(|(candidate, _)| candidate.choice == choice).map(|(_, &pick)| pick).sum()
    };
    block.required.iter().map(|&choice| showing(choice).geq(1.0)).collect()
}

/// The candidate whose variable is 1.
fn picked(row: &[Variable], solution: &impl Solution) -> Result<usize, SolverFailure> {
    let mut chosen = (0..row.len()).filter(|&candidate| solution.value(row[candidate]) > 0.5);
    match (chosen.next(), chosen.next()) {
        (Some(candidate), None) => Ok(candidate),
        _ => Err(SolverFailure::Malformed),
    }
}
