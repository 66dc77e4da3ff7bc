//! Finds the tables of a trellis code, as `src/trellis/code.rs` holds one for each rate.
//!
//! ```text
//! cargo run --release -p mcmoe-tensor-kernels --example train_trellis -- RATE [FOLDS] [SEED]
//! ```
//!
//! `RATE` is 1, 1.5, 2, 2.5, 3 or 4 bits a weight; some `FOLDS` (32 if not given) are tried. A window of 12 bits
//! is folded to an index of 6: its newest bits, which the older ones flip. Which ones each of them flips is
//! drawn at random. Below 2 bits, an index stands for a level of each of two weights. The levels come from Lloyd's iteration on sequences that are normally distributed: find
//! the streams with the least error, move each level to the mean of what it stands for, repeat. The best of
//! the folds is trained for longer, then scaled such that the largest level is 63, and rounded.
//!
//! Prints the code and its mean square error on sequences that it was not trained on.

use std::process::ExitCode;

use mcmoe_tensor_kernels::TrellisRate;
use rayon::prelude::*;

/// Bits of the stream that a level depends on.
const WINDOW: usize = 12;
const WINDOWS: usize = 1 << WINDOW;
/// Bits of an index into the levels.
const INDEX: usize = 6;
const LEVELS: usize = 1 << INDEX;
/// Weights of a stream.
const SEQUENCE: usize = 256;
/// The largest level, zero being 0.
const LARGEST: f32 = 63.0;

/// A stream of random numbers.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.bits() >> 33) % end
    }

    fn gaussian(&mut self) -> f32 {
        let mut uniform = || ((self.bits() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        let radius = (-2.0 * uniform().ln()).sqrt();
        (radius * (std::f64::consts::TAU * uniform()).cos()) as f32
    }
}

/// A code under training.
#[derive(Clone)]
struct Code {
    /// Bits of two weights.
    half_bits: usize,
    /// What each of the older bits of the window, the newest of them first, flips in the index.
    older: [usize; WINDOW - INDEX],
    /// The levels, for weights of variance 1: one table for each of the weights that share a window.
    levels: Vec<[f32; LEVELS]>,
}

impl Code {
    fn random(half_bits: usize, random: &mut Random) -> Self {
        // The spread of what the best code of this rate stands for.
        let spread = (1.0 - 2_f32.powi(-(half_bits as i32))).sqrt();
        let older = std::array::from_fn(|_| 1 + random.below(LEVELS as u64 - 1) as usize);
        let mut table = || std::array::from_fn(|_| spread * random.gaussian());
        let levels = if half_bits < 4 { vec![table(), table()] } else { vec![table()] };
        Self { half_bits, older, levels }
    }

    /// The index of a window, whose newest bit is the lowest.
    fn index(&self, window: usize) -> usize {
        let flips = self.older.iter().enumerate().filter(|(bit, _)| window >> (INDEX + bit) & 1 == 1);
        flips.fold(window % LEVELS, |index, (_, flip)| index ^ flip)
    }

    /// Bits that the window at position `step` appends.
    fn bits_at(&self, step: usize) -> usize {
        let until = |step| step * self.levels.len() * self.half_bits / 2;
        until(step + 1) - until(step)
    }

    /// The windows of the stream with the least error, and that error: Viterbi's algorithm.
    fn search(&self, targets: &[f32]) -> (Vec<usize>, f64) {
        let indices: Vec<usize> = (0..WINDOWS).map(|window| self.index(window)).collect();
        let mut costs = vec![f32::INFINITY; WINDOWS];
        costs[0] = 0.0;
        let mut seen = vec![0.0_f32; WINDOWS / 2];
        // The oldest bits, which a step no longer sees, of the best window that it may follow.
        let steps = targets.len() / self.levels.len();
        let mut dropped = vec![[0_u8; WINDOWS / 2]; steps];
        let targets = targets.chunks_exact(self.levels.len());
        for (step, (targets, dropped)) in targets.zip(&mut dropped).enumerate() {
            let bits = self.bits_at(step);
            let states = WINDOWS >> bits;
            seen[..states].copy_from_slice(&costs[..states]);
            for (symbol, costs) in costs.chunks_exact(states).enumerate().skip(1) {
                for ((least, dropped), cost) in seen.iter_mut().zip(dropped.iter_mut()).zip(costs) {
                    if *cost < *least {
                        (*least, *dropped) = (*cost, symbol as u8);
                    }
                }
            }
            let error = |index| -> f32 {
                let weights = targets.iter().zip(&self.levels);
                weights.map(|(target, levels)| (target - levels[index]) * (target - levels[index])).sum()
            };
            let errors: [f32; LEVELS] = std::array::from_fn(error);
            for (window, (cost, index)) in costs.iter_mut().zip(&indices).enumerate() {
                *cost = seen[window >> bits] + errors[*index];
            }
        }
        let mut window = (1..WINDOWS).fold(0, |best, at| if costs[at] < costs[best] { at } else { best });
        let cost = f64::from(costs[window]);
        let mut windows = vec![0; steps];
        for step in (0..steps).rev() {
            windows[step] = window;
            let bits = self.bits_at(step);
            let state = window >> bits;
            window = state | usize::from(dropped[step][state]) << (WINDOW - bits);
        }
        (windows, cost)
    }

    /// The mean square error on new sequences; `visit` sees the weights of each window with their index.
    fn error(&self, sequences: usize, random: &mut Random, mut visit: impl FnMut(usize, &[f32])) -> f64 {
        let sequence = |_| -> Vec<f32> { (0..SEQUENCE).map(|_| random.gaussian()).collect() };
        let sequences: Vec<Vec<f32>> = (0..sequences).map(sequence).collect();
        let found: Vec<_> = sequences.par_iter().map(|targets| self.search(targets)).collect();
        for (targets, (windows, _)) in sequences.iter().zip(&found) {
            let targets = targets.chunks_exact(self.levels.len());
            targets.zip(windows).for_each(|(targets, window)| visit(self.index(*window), targets));
        }
        found.iter().map(|(_, cost)| cost).sum::<f64>() / (sequences.len() * SEQUENCE) as f64
    }

    /// Lloyd's iteration; returns the mean square error before its last step.
    fn train(&mut self, rounds: usize, sequences: usize, random: &mut Random) -> f64 {
        let mut error = f64::INFINITY;
        for _ in 0..rounds {
            let (mut sums, mut counts) = (vec![[0.0_f64; LEVELS]; self.levels.len()], [0_u32; LEVELS]);
            error = self.error(sequences, random, |index, targets| {
                let sums = sums.iter_mut().map(|sums| &mut sums[index]);
                sums.zip(targets).for_each(|(sum, target)| *sum += f64::from(*target));
                counts[index] += 1;
            });
            for (levels, sums) in self.levels.iter_mut().zip(sums) {
                let means = sums.iter().zip(&counts).map(|(sum, count)| (sum / f64::from(*count)) as f32);
                levels.iter_mut().zip(means).filter(|(_, mean)| mean.is_finite()).for_each(|(l, m)| *l = m);
            }
        }
        error
    }

    /// Rounds the levels to whole ones; returns how many of these a standard deviation spans.
    fn round(&mut self) -> f32 {
        let levels = self.levels.as_flattened_mut();
        let unit = LARGEST / levels.iter().fold(0.0_f32, |largest, level| largest.max(level.abs()));
        levels.iter_mut().for_each(|level| *level = (*level * unit).round() / unit);
        unit
    }

    fn print(&self, unit: f32) {
        println!("Code {{\n    unit: {unit:.3},\n    older: {:?},\n    levels: &[", self.older);
        for table in &self.levels {
            println!("        [");
            for levels in table.chunks(16) {
                let level = |level: &f32| ((level * unit).round() as i32 + 64).to_string();
                println!("            {},", levels.iter().map(level).collect::<Vec<_>>().join(", "));
            }
            println!("        ],");
        }
        println!("    ],\n}},");
    }
}

/// The rate, how many folds to try, and the seed.
fn arguments() -> Option<(TrellisRate, usize, u64)> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rate = TrellisRate::new(arguments.first()?.parse().ok()?).ok()?;
    let folds: usize = arguments.get(1).map_or(Some(32), |folds| folds.parse().ok())?;
    let seed: u64 = arguments.get(2).map_or(Some(1), |seed| seed.parse().ok())?;
    (folds > 0 && arguments.len() <= 3).then_some((rate, folds, seed))
}

fn main() -> ExitCode {
    let Some((rate, folds, seed)) = arguments() else {
        eprintln!("usage: train_trellis 1|1.5|2|2.5|3|4 [FOLDS] [SEED]");
        return ExitCode::from(2);
    };
    let half_bits = (2.0 * rate.bits()) as usize;
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut best = (f64::INFINITY, Code::random(half_bits, &mut random));
    for fold in 1..=folds {
        let mut code = Code::random(half_bits, &mut random);
        let error = code.train(12, 100, &mut random);
        if error < best.0 {
            eprintln!("fold {fold} of {folds}: mean square error {error:.5}");
            best = (error, code);
        }
    }
    let mut code = best.1;
    code.train(25, 400, &mut random);
    code.train(3, 1500, &mut random);
    let unit = code.round();
    code.print(unit);
    println!("mean square error {:.5}", code.error(1500, &mut random, |_, _| {}));
    ExitCode::SUCCESS
}
