//! HiGHS against brute force on random programs.

mod common;

use mcmoe_allocator::{AllocatorError, Block, Highs, Program};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Runs `check` on `cases` programs, the same ones in every run.
fn on_programs(
    cases: u32,
    strategy: impl Strategy<Value = Program>,
    check: impl Fn(&Program) -> Result<(), TestCaseError>,
) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    runner.run(&strategy, |program| check(&program)).unwrap();
}

/// A block of up to 6 experts and 4 choices, some of them required.
fn block(
    cost: impl Strategy<Value = f64> + Clone + 'static,
    size: impl Strategy<Value = u64> + Clone + 'static,
) -> impl Strategy<Value = Block> {
    (1usize..=6, 1usize..=4).prop_flat_map(move |(experts, choices)| {
        let costs = prop::collection::vec(prop::collection::vec(cost.clone(), choices), experts);
        let sizes = prop::collection::vec(prop::collection::vec(size.clone(), choices), experts);
        let required = prop::collection::vec(0..choices, 0..=experts.min(2));
        (costs, sizes, required).prop_map(|(cost, size, required)| Block::new(cost, size).required(required))
    })
}

/// One block and a budget from nothing to everything.
fn one_block(block: impl Strategy<Value = Block>) -> impl Strategy<Value = Program> {
    (block, 0.0..1.1f64).prop_map(|(block, part)| {
        let largest: u64 = block.size.iter().map(|row| row.iter().max().unwrap()).sum();
        Program::new(vec![block], (largest as f64 * part) as u64)
    })
}

/// The least cost over all rows, `None` if none fits.
fn brute_force(program: &Program) -> Option<f64> {
    let [block] = program.blocks.as_slice() else { panic!("one block") };
    let rows = common::every_row(block.cost.len(), block.cost[0].len());
    let fits = |row: &Vec<usize>| {
        let size: u64 = row.iter().zip(&block.size).map(|(&choice, sizes)| sizes[choice]).sum();
        size <= program.budget && block.required.iter().all(|choice| row.contains(choice))
    };
    rows.filter(fits).map(|row| cost(block, &row)).min_by(f64::total_cmp)
}

fn cost(block: &Block, row: &[usize]) -> f64 {
    row.iter().zip(&block.cost).map(|(&choice, costs)| costs[choice]).sum()
}

/// What remains to pay when every expert takes its cheapest choice.
fn unavoidable(block: &Block) -> f64 {
    block.cost.iter().map(|row| row.iter().copied().fold(f64::INFINITY, f64::min)).sum()
}

/// The answer is as good as brute force, up to `tolerance` of the avoidable cost, or both say that
/// nothing fits.
fn agrees(program: &Program, tolerance: f64) -> Result<(), TestCaseError> {
    match (program.solve(&Highs), brute_force(program)) {
        (Err(AllocatorError::Infeasible { smallest, .. }), None) => {
            prop_assert!(smallest > program.budget as f64);
            Ok(())
        }
        (Ok(found), Some(best)) => {
            let block = &program.blocks[0];
            prop_assert!(found.size <= program.budget);
            prop_assert_eq!(found.objective, cost(block, &found.choices[0]));
            let rounding = 1e-14 * block.cost.iter().flatten().fold(0.0, |m: f64, c| m.max(c.abs()));
            let allowed = tolerance * (best - unavoidable(block)) + rounding;
            prop_assert!(found.objective - best <= allowed, "{} against {}", found.objective, best);
            Ok(())
        }
        (found, best) => {
            prop_assert!(false, "{:?} against {:?}", found, best);
            Ok(())
        }
    }
}

#[test]
fn small_integer_costs_with_many_ties() {
    let costs = (0u8..5).prop_map(f64::from);
    on_programs(500, one_block(block(costs, 1u64..5)), |program| agrees(program, 0.0));
}

#[test]
fn real_costs() {
    on_programs(500, one_block(block(0.0..1.0f64, 1u64..6)), |program| agrees(program, 1e-11));
}

#[test]
fn negative_costs() {
    on_programs(200, one_block(block(-1e3..1e3f64, 1u64..6)), |program| agrees(program, 1e-11));
}

#[test]
fn costs_over_many_magnitudes() {
    let costs = (-12.0..12.0f64).prop_map(|exponent| 10f64.powf(exponent));
    on_programs(500, one_block(block(costs, 1u64..6)), |program| agrees(program, 1e-11));
}

#[test]
fn tiny_and_huge_costs() {
    let costs = prop_oneof![(0.0..1.0f64).prop_map(|c| c * 1e-290), (0.0..1.0f64).prop_map(|c| c * 1e290)];
    on_programs(200, one_block(block(costs, 1u64..6)), |program| agrees(program, 1e-11));
}

#[test]
fn sizes_in_bytes_without_a_common_divisor() {
    on_programs(500, one_block(block(0.0..1.0f64, 1u64..1_000_000_007)), |program| agrees(program, 1e-11));
}

#[test]
fn budgets_that_fit_to_the_unit() {
    let tight = block(0.0..1.0f64, 1u64..1_000_000_007).prop_flat_map(|block| {
        let rows = block.size.iter().map(|row| 0..row.len()).collect::<Vec<_>>();
        (Just(block), rows, 0u64..2)
    });
    let program = tight.prop_map(|(block, row, short)| {
        let size: u64 = block.size.iter().zip(row).map(|(sizes, choice)| sizes[choice]).sum();
        Program::new(vec![block], size - short)
    });
    on_programs(300, program, |program| agrees(program, 1e-11));
}

/// Two blocks that share a budget are one bigger block, as long as nothing is required.
#[test]
fn blocks_that_share_a_budget() {
    let program = one_block(block(0.0..1.0f64, 1u64..6));
    on_programs(200, program, |whole| {
        let block = &whole.blocks[0];
        let split = block.cost.len() / 2;
        if split == 0 {
            return Ok(());
        }
        let part = |cost: &[Vec<f64>], size: &[Vec<u64>]| Block::new(cost.to_vec(), size.to_vec());
        let first = part(&block.cost[..split], &block.size[..split]);
        let second = part(&block.cost[split..], &block.size[split..]);
        let shared = Program::new(vec![first, second], whole.budget).solve(&Highs);
        let free = Program::new(vec![block.clone().required(vec![])], whole.budget);
        match (shared, brute_force(&free)) {
            (Err(AllocatorError::Infeasible { layer: None, .. }), None) => Ok(()),
            (Ok(found), Some(best)) => {
                prop_assert!((found.objective - best).abs() <= 1e-11 * best.max(1e-3));
                Ok(())
            }
            (found, best) => {
                prop_assert!(false, "{:?} against {:?}", found, best);
                Ok(())
            }
        }
    });
}

/// The smallest feasible size that the error names is feasible, and one unit less is not.
#[test]
fn the_smallest_size_is_the_edge_of_feasibility() {
    on_programs(200, one_block(block(0.0..1.0f64, 1u64..50)), |program| {
        let smallest = program.smallest_size().unwrap();
        let block = || program.blocks.clone();
        prop_assert_eq!(Program::new(block(), smallest).solve(&Highs).unwrap().size, smallest);
        let error = Program::new(block(), smallest - 1).solve(&Highs).unwrap_err();
        let AllocatorError::Infeasible { layer: Some(0), smallest: named, .. } = error else {
            return Err(TestCaseError::fail(error.to_string()));
        };
        prop_assert_eq!(named, smallest as f64);
        Ok(())
    });
}

/// The least cost of many experts by dynamic programming over sizes, without requirements.
fn by_size(block: &Block, budget: u64) -> Option<f64> {
    let mut best = vec![0.0; budget as usize + 1];
    for (costs, sizes) in block.cost.iter().zip(&block.size) {
        let options = || costs.iter().zip(sizes);
        let at = |total: usize| {
            let fitting =
                options().filter_map(|(cost, &size)| Some(cost + best[total.checked_sub(size as usize)?]));
            fitting.fold(f64::INFINITY, f64::min)
        };
        best = (0..best.len()).map(at).collect();
    }
    best.last().copied().filter(|cost| cost.is_finite())
}

#[test]
fn as_many_experts_as_a_whole_model_has() {
    let rows = prop::collection::vec(prop::collection::vec(0.0..1.0f64, 3), 20..260);
    let program = (rows, 1.0..3.0f64).prop_map(|(mut cost, average)| {
        cost.iter_mut().for_each(|row| row.sort_unstable_by(|a, b| b.total_cmp(a)));
        let (size, budget) = (vec![vec![1, 2, 3]; cost.len()], (average * cost.len() as f64) as u64);
        Program::new(vec![Block::new(cost, size)], budget)
    });
    on_programs(40, program, |program| {
        let found = program.solve(&Highs).unwrap().objective;
        let best = by_size(&program.blocks[0], program.budget).unwrap();
        prop_assert!((found - best).abs() <= 1e-11 * best, "{} against {}", found, best);
        Ok(())
    });
}

/// Costs that almost follow the sizes leave many answers within a millionth of each other: only a
/// search without any gap finds the best.
#[test]
fn near_ties() {
    let expert = prop::collection::vec((1u64..400, 0.0..1.0f64), 4);
    let program = (prop::collection::vec(expert, 10..24), 0.3..0.7f64).prop_map(|(experts, part)| {
        let cost = |&(size, noise): &(u64, f64)| 400.0 - size as f64 + 1e-4 * noise;
        let costs = experts.iter().map(|row| row.iter().map(cost).collect()).collect();
        let size: Vec<Vec<u64>> = experts.iter().map(|row| row.iter().map(|c| c.0).collect()).collect();
        let largest: u64 = size.iter().map(|row| row.iter().max().unwrap()).sum();
        Program::new(vec![Block::new(costs, size)], (largest as f64 * part) as u64)
    });
    on_programs(60, program, |program| {
        match (program.solve(&Highs), by_size(&program.blocks[0], program.budget)) {
            (Err(AllocatorError::Infeasible { .. }), None) => Ok(()),
            (Ok(found), Some(best)) => {
                prop_assert!(
                    (found.objective - best).abs() <= 1e-11 * best,
                    "{} against {}",
                    found.objective,
                    best
                );
                Ok(())
            }
            (found, best) => Err(TestCaseError::fail(format!("{found:?} against {best:?}"))),
        }
    });
}
