//! The same question has the same answer, whoever asks, however often.

mod common;

use std::thread;

use mcmoe_allocator::{
    Allocation, Allocator, AllocatorOptions, Block, Budget, Factors, Highs, Mode, Program, Scope,
};

fn allocate(factors: &Factors, options: &AllocatorOptions) -> Allocation {
    Allocator::new(options.clone()).allocate(factors).unwrap()
}

fn every_mode() -> Vec<AllocatorOptions> {
    let modes = [Mode::Mixed, Mode::Uniform, Mode::Random, Mode::Manual { high: 2, low: 1 }];
    let mut options: Vec<_> = modes.map(|mode| AllocatorOptions::default().mode(mode).seed(5)).into();
    options.push(AllocatorOptions::default().scope(Scope::Model).budget(Budget::ExpertBits(2.1)));
    options
}

#[test]
fn repeated_solves_agree() {
    for options in every_mode() {
        let first = allocate(&common::made_up(), &options);
        for _ in 0..20 {
            assert_eq!(allocate(&common::made_up(), &options), first, "{options:?}");
        }
    }
}

#[test]
fn threads_that_solve_at_once_agree() {
    let options = every_mode();
    let solve = || options.iter().map(|options| allocate(&common::made_up(), options)).collect::<Vec<_>>();
    let first = solve();
    let answers: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(solve)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|answer| *answer == first));
}

/// Where every answer costs the same, only determinism decides.
#[test]
fn ties_are_broken_the_same_way() {
    let block = || Block::new(vec![vec![3.0, 2.0, 1.0]; 8], vec![vec![1, 2, 3]; 8]).required(vec![1, 2]);
    let solve = || Program::new(vec![block()], 16).solve(&Highs).unwrap();
    let first = solve();
    assert_eq!(first.objective, 16.0);
    let again = thread::scope(|scope| scope.spawn(solve).join().unwrap());
    assert_eq!(first, again);
    assert!((0..50).all(|_| solve() == first));
}

/// Solving something else in between leaves no trace.
#[test]
fn the_order_of_questions_does_not_matter() {
    let at = |total| AllocatorOptions::default().budget(Budget::TotalBits(total));
    let upward: Vec<_> = (9..=18).map(|total| allocate(&common::made_up(), &at(total))).collect();
    let mut downward: Vec<_> = (9..=18).rev().map(|total| allocate(&common::made_up(), &at(total))).collect();
    downward.reverse();
    assert_eq!(upward, downward);
}
