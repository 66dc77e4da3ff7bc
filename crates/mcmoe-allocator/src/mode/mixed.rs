//! Least significance-weighted loss within the budget: the integer program.

use super::Bits;
use crate::error::AllocatorError;
use crate::factors::Factors;
use crate::measure::Measure;
use crate::options::{AllocatorOptions, Scope, Spread};
use crate::program::{Assignment, Block, Program};
use crate::solver::Solver;

/// Widths and the sum of their costs.
pub(crate) fn allocate(
    factors: &Factors,
    options: &AllocatorOptions,
    measure: &Measure,
    solver: &dyn Solver,
) -> Result<(Bits, f64), AllocatorError> {
    let blocks = blocks(factors, options, measure)?;
    let answers = match options.scope {
        Scope::Block => each(blocks, measure, solver)?,
        Scope::Model => vec![together(blocks, measure, solver)?],
    };
    let objective = answers.iter().map(|answer| answer.objective).sum();
    let rows = answers.iter().flat_map(|answer| &answer.choices);
    let bits = rows.map(|row| row.iter().map(|&choice| factors.bits[choice]).collect()).collect();
    Ok((bits, objective))
}

fn blocks(
    factors: &Factors,
    options: &AllocatorOptions,
    measure: &Measure,
) -> Result<Vec<Block>, AllocatorError> {
    let required = required(options.spread, factors);
    let size = vec![measure.sizes.clone(); factors.num_experts];
    let costs = factors.costs(options.exponents)?.into_iter().enumerate();
    let block = |(layer, cost)| Block::new(cost, size.clone()).required(required.clone()).layer(layer);
    Ok(costs.map(block).collect())
}

/// The choices that a block has to show; none where there is nothing to spread.
fn required(spread: Spread, factors: &Factors) -> Vec<usize> {
    let widths = factors.bits.len();
    match spread {
        Spread::TwoWidest if widths >= 2 && factors.num_experts >= 2 => vec![widths - 2, widths - 1],
        Spread::TwoWidest | Spread::Free => Vec::new(),
    }
}

fn each(
    blocks: Vec<Block>,
    measure: &Measure,
    solver: &dyn Solver,
) -> Result<Vec<Assignment>, AllocatorError> {
    let solve = |block| Program::new(vec![block], measure.block).solve(solver);
    blocks.into_iter().map(|block| solve(block).map_err(|error| measure.explain_block(error))).collect()
}

fn together(
    blocks: Vec<Block>,
    measure: &Measure,
    solver: &dyn Solver,
) -> Result<Assignment, AllocatorError> {
    Program::new(blocks, measure.model).solve(solver).map_err(|error| measure.explain_model(error))
}
