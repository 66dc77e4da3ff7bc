//! microlp, a second opinion for the tests.

use good_lp::solvers::microlp::microlp;

use super::{Highs, Solver, SolverFailure, model};
use crate::program::{Block, Program, ScaledProgram};

/// The pure Rust solver behind the same model.
#[derive(Debug)]
struct MicroLp;

impl Solver for MicroLp {
    fn solve(&self, program: &ScaledProgram) -> Result<Vec<Vec<usize>>, SolverFailure> {
        model::solve(program, microlp)
    }
}

/// A program from a seed: `experts` experts, widths 1 to 3 with losses that fall in the width.
fn program(seed: u64, experts: usize) -> Program {
    let mut state = seed;
    let mut number = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / (1u64 << 31) as f64 + 1e-3
    };
    let mut row = || {
        let scale = number().powi(4) * 100.0;
        vec![scale * (2.0 + number()), scale * (0.7 + number()), scale * number() * 0.7]
    };
    let cost: Vec<Vec<f64>> = (0..experts).map(|_| row()).collect();
    let block = Block::new(cost, vec![vec![1, 2, 3]; experts]).required(vec![1, 2]);
    Program::new(vec![block], experts as u64 + 3 + seed % (experts as u64))
}

#[test]
fn highs_and_microlp_agree() {
    for seed in 0..300 {
        let program = program(seed, 4 + seed as usize % 9);
        let highs = program.solve(&Highs).unwrap();
        let microlp = program.solve(&MicroLp).unwrap();
        let difference = (highs.objective - microlp.objective).abs();
        assert!(difference <= 1e-9 * highs.objective, "seed {seed}: {highs:?} and {microlp:?}");
    }
}
