//! Programs scaled so that a floating-point solver's absolute tolerances do no harm.
//!
//! Solvers treat differences below about 1e-9 as nothing, while costs here may lie anywhere. Let T
//! be the smallest number for which the choices that cost at most T above their expert's cheapest
//! still fit the budget. An optimal answer then costs at least T and at most (experts · T) above
//! the sum of the cheapest, so a dearer choice can go, and T is the scale of what remains.

use super::Program;
use super::block::{Block, cheapest};
use crate::error::AllocatorError;

/// What T becomes: large against a tolerance of 1e-9, small enough to keep sums of many experts exact.
const SCALE: f64 = 1024.0;

/// Keeps a choice whose cost rounding put just above the limit.
const SLACK: f64 = 1.0 + 1e-9;

/// A choice that can be part of an optimal answer.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Candidate {
    /// Index of the choice in the original program.
    pub choice: usize,
    /// Scaled cost above the expert's cheapest choice.
    pub cost: f64,
    /// Size above the expert's smallest candidate, divided by the common divisor of all sizes.
    pub size: u64,
}

/// One block of a [`ScaledProgram`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ScaledBlock {
    /// The candidates of each expert; never empty.
    pub experts: Vec<Vec<Candidate>>,
    /// Choices that at least one expert each has to take.
    pub required: Vec<usize>,
}

/// What a [`Solver`](crate::Solver) gets: a feasible program in well-scaled numbers.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ScaledProgram {
    /// The blocks, in the order of the original program.
    pub blocks: Vec<ScaledBlock>,
    /// What the sizes of the picked candidates may add up to.
    pub capacity: u64,
}

impl ScaledProgram {
    /// Scales a valid and feasible program.
    pub(super) fn of(program: &Program) -> Result<Self, AllocatorError> {
        let threshold = threshold(program);
        let experts = program.blocks.iter().map(|block| block.cost.len()).sum::<usize>();
        let limit = threshold * experts as f64 * SLACK;
        let factor = if threshold > 0.0 { threshold } else { 1.0 };
        let blocks = program.blocks.iter().map(|block| scaled_block(block, limit, factor)).collect();
        let mut scaled = Self { blocks, capacity: program.budget };
        scaled.reduce_sizes().ok_or(AllocatorError::SizeOverflow)?;
        Ok(scaled)
    }

    /// Original choices for picked candidates, both `[block][expert]`; `None` if a pick is missing
    /// or out of range.
    pub(super) fn choices(&self, picked: &[Vec<usize>]) -> Option<Vec<Vec<usize>>> {
        if picked.len() != self.blocks.len() {
            return None;
        }
        self.blocks.iter().zip(picked).map(|(block, row)| block.choices(row)).collect()
    }

    /// Takes each expert's smallest size for granted, then divides by what all sizes share.
    fn reduce_sizes(&mut self) -> Option<()> {
        let experts = || self.blocks.iter().flat_map(|block| &block.experts);
        let granted: u64 = experts().map(|candidates| smallest(candidates)).sum();
        let above = experts().flat_map(|candidates| {
            let least = smallest(candidates);
            candidates.iter().map(move |candidate| candidate.size - least)
        });
        let divisor = above.fold(0, gcd).max(1);
        self.capacity = self.capacity.checked_sub(granted)? / divisor;
        for candidates in self.blocks.iter_mut().flat_map(|block| &mut block.experts) {
            let least = smallest(candidates);
            candidates.iter_mut().for_each(|candidate| candidate.size = (candidate.size - least) / divisor);
        }
        Some(())
    }
}

impl ScaledBlock {
    fn choices(&self, row: &[usize]) -> Option<Vec<usize>> {
        if row.len() != self.experts.len() {
            return None;
        }
        let picks = self.experts.iter().zip(row);
        picks.map(|(candidates, &pick)| candidates.get(pick).map(|c| c.choice)).collect()
    }
}

/// T: the least cost above the cheapest at which the choices up to it fit the budget.
fn threshold(program: &Program) -> f64 {
    let mut costs: Vec<f64> = program.blocks.iter().flat_map(costs_above_cheapest).collect();
    costs.sort_unstable_by(f64::total_cmp);
    costs.dedup();
    let fits = |limit: f64| program.smallest(|cost| cost <= limit).is_some_and(|size| size <= program.budget);
    let position = costs.partition_point(|&limit| !fits(limit));
    costs.get(position).copied().unwrap_or(0.0)
}

fn costs_above_cheapest(block: &Block) -> impl Iterator<Item = f64> {
    block.cost.iter().flat_map(|row| {
        let least = cheapest(row);
        row.iter().map(move |cost| cost - least)
    })
}

fn scaled_block(block: &Block, limit: f64, factor: f64) -> ScaledBlock {
    let rows = block.cost.iter().zip(&block.size);
    let experts = rows.map(|(costs, sizes)| candidates(costs, sizes, limit, factor)).collect();
    ScaledBlock { experts, required: block.required.clone() }
}

fn candidates(costs: &[f64], sizes: &[u64], limit: f64, factor: f64) -> Vec<Candidate> {
    let least = cheapest(costs);
    let choices =
        costs.iter().zip(sizes).enumerate().map(|(choice, (cost, &size))| (choice, cost - least, size));
    let kept = choices.filter(|&(_, cost, _)| cost <= limit);
    kept.map(|(choice, cost, size)| Candidate { choice, cost: cost / factor * SCALE, size }).collect()
}

fn smallest(candidates: &[Candidate]) -> u64 {
    candidates.iter().map(|candidate| candidate.size).min().unwrap_or(0)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
