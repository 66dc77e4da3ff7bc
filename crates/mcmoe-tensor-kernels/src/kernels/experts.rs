//! The experts of a Mixture-of-Experts block as two parallel regions: gate and up, then down.

use rayon::prelude::*;

use super::backend::{Backend, Lanes};
use super::inputs::Inputs;
use super::regions::{count_tokens, run, to_rows};
use crate::shape::TILE_ROWS;
use crate::{KernelError, PackedMatrix, Precision};

/// Tokens of an expert, and of all experts of a pair of regions: what lies between gate and down is to
/// stay small, however long the batch is.
const TOKENS_AT_ONCE: usize = 1024;

/// One expert and the tokens that were routed to it.
#[derive(Clone, Copy, Debug)]
pub struct ExpertWork<'a> {
    /// `[inner, hidden]`; its output goes through SiLU.
    pub gate: &'a PackedMatrix,
    /// `[inner, hidden]`.
    pub up: &'a PackedMatrix,
    /// `[hidden, inner]`.
    pub down: &'a PackedMatrix,
    /// Rows of the batch that the expert works on, in any order, each once.
    pub tokens: &'a [usize],
    /// The expert's share in the output of each.
    pub weights: &'a [f32],
}

impl Backend {
    /// `y[t] = Σ_e weight_e(t) · down_e(silu(gate_e x[t]) · up_e x[t])`, `[tokens, hidden]`.
    ///
    /// `x` is `[tokens, hidden]`. Experts that are not in `work` cost nothing; the sum runs in the order
    /// of `work`. Results depend neither on the number of threads nor on the backend.
    ///
    /// # Errors
    /// [`KernelError::Length`] if `x` is not whole tokens, if the matrices of an expert do not fit
    /// together, or if tokens and weights are not equally many; [`KernelError::NoToken`] for a token
    /// that is not there.
    pub fn experts(
        self,
        work: &[ExpertWork<'_>],
        x: &[f32],
        hidden: usize,
        precision: Precision,
    ) -> Result<Vec<f32>, KernelError> {
        let tokens = count_tokens(x, hidden)?;
        work.iter().try_for_each(|expert| expert.check(tokens, hidden))?;
        let pieces: Vec<ExpertWork<'_>> = work.iter().flat_map(ExpertWork::pieces).collect();
        let mut lanes = vec![[0.0; TILE_ROWS]; hidden.div_ceil(TILE_ROWS) * tokens];
        for work in batches(&pieces) {
            let gated = self.gated(work, x, precision);
            let bytes = widest(work, |e| e.down.shape().tile_bytes()) * work.len();
            run(lanes.chunks_exact_mut(tokens).enumerate().collect(), bytes, |(tile, out)| {
                self.down(work, &gated, tile, out);
            });
        }
        Ok(to_rows(&lanes, tokens, hidden))
    }

    /// `silu(gate x) · up x` of every expert, ready for its down projection.
    fn gated(self, work: &[ExpertWork<'_>], x: &[f32], precision: Precision) -> Vec<Inputs> {
        let inputs: Vec<ExpertInputs> =
            work.par_iter().map(|expert| ExpertInputs::new(self, expert, x, precision)).collect();
        let mut outputs: Vec<Vec<Lanes>> = work.iter().map(ExpertWork::room).collect();
        let jobs = work.iter().zip(&inputs).zip(&mut outputs);
        let tasks: Vec<Pair<'_>> = jobs.flat_map(|((expert, x), out)| Pair::of(expert, x, out)).collect();
        run(tasks, widest(work, |e| 2 * TILES_A_PAIR * e.gate.shape().tile_bytes()), |pair| pair.run(self));
        let finish = |(expert, lanes): (&ExpertWork<'_>, &Vec<Lanes>)| {
            let all: Vec<usize> = (0..expert.tokens.len()).collect();
            let rows = to_rows(lanes, all.len(), expert.gate.shape().rows());
            Inputs::new(self, &rows, &all, expert.down.shape(), precision)
        };
        work.par_iter().zip(&outputs).map(finish).collect()
    }

    /// The tile of the block's output for every token.
    fn down(self, work: &[ExpertWork<'_>], gated: &[Inputs], tile: usize, out: &mut [Lanes]) {
        let mut products = Vec::new();
        for (expert, x) in work.iter().zip(gated) {
            products.resize(expert.tokens.len(), [0.0; TILE_ROWS]);
            self.tile(expert.down.tile(tile), x, &mut products);
            for ((&token, weight), product) in expert.tokens.iter().zip(expert.weights).zip(&products) {
                out[token].iter_mut().zip(product).for_each(|(y, product)| *y += weight * product);
            }
        }
    }
}

impl ExpertWork<'_> {
    fn check(&self, tokens: usize, hidden: usize) -> Result<(), KernelError> {
        let inner = self.gate.shape().rows();
        let lengths = [
            ("columns of the gate projection", hidden, self.gate.shape().cols()),
            ("columns of the up projection", hidden, self.up.shape().cols()),
            ("rows of the up projection", inner, self.up.shape().rows()),
            ("columns of the down projection", inner, self.down.shape().cols()),
            ("rows of the down projection", hidden, self.down.shape().rows()),
            ("weights of an expert's tokens", self.tokens.len(), self.weights.len()),
        ];
        if let Some(&(what, expected, found)) = lengths.iter().find(|(_, expected, found)| expected != found)
        {
            return Err(KernelError::Length { what, expected, found });
        }
        match self.tokens.iter().find(|&&token| token >= tokens) {
            Some(&token) => Err(KernelError::NoToken { token, tokens }),
            None => Ok(()),
        }
    }

    /// The same work in pieces of some tokens.
    fn pieces(&self) -> impl Iterator<Item = Self> {
        let pieces = self.tokens.chunks(TOKENS_AT_ONCE).zip(self.weights.chunks(TOKENS_AT_ONCE));
        pieces.map(|(tokens, weights)| Self { tokens, weights, ..*self })
    }

    fn room(&self) -> Vec<Lanes> {
        vec![[0.0; TILE_ROWS]; self.gate.shape().tiles() * self.tokens.len()]
    }
}

/// Neighbours that are worked on together, in order.
fn batches<'a, 'b>(mut work: &'a [ExpertWork<'b>]) -> impl Iterator<Item = &'a [ExpertWork<'b>]> {
    std::iter::from_fn(move || {
        let mut tokens = 0;
        let fits = |expert: &&ExpertWork<'_>| {
            tokens += expert.tokens.len();
            tokens <= TOKENS_AT_ONCE
        };
        let count = work.iter().take_while(fits).count().max(1);
        let (batch, rest) = work.split_at_checked(count)?;
        work = rest;
        Some(batch)
    })
}

/// The most bytes that a task of any expert reads.
fn widest(work: &[ExpertWork<'_>], bytes: impl Fn(&ExpertWork<'_>) -> usize) -> usize {
    work.iter().map(bytes).max().unwrap_or_default()
}

/// Inputs of gate and up: the same, unless their groups or codes differ.
struct ExpertInputs {
    gate: Inputs,
    up: Option<Inputs>,
}

impl ExpertInputs {
    fn new(backend: Backend, expert: &ExpertWork<'_>, x: &[f32], precision: Precision) -> Self {
        let of = |matrix: &PackedMatrix| Inputs::new(backend, x, expert.tokens, matrix.shape(), precision);
        let same = expert.gate.shape().same_inputs(expert.up.shape());
        Self { gate: of(expert.gate), up: (!same).then(|| of(expert.up)) }
    }
}

/// Tiles that are read of gate before those of up: long stretches of memory, read front to back.
const TILES_A_PAIR: usize = 8;

/// The same tiles of gate and up.
struct Pair<'a> {
    expert: &'a ExpertWork<'a>,
    first_tile: usize,
    x: &'a ExpertInputs,
    /// `[tiles, tokens]`.
    out: &'a mut [Lanes],
}

impl<'a> Pair<'a> {
    fn of(
        expert: &'a ExpertWork<'a>,
        x: &'a ExpertInputs,
        lanes: &'a mut [Lanes],
    ) -> impl Iterator<Item = Self> {
        let outputs = lanes.chunks_mut(TILES_A_PAIR * expert.tokens.len()).enumerate();
        outputs.map(move |(i, out)| Self { expert, first_tile: i * TILES_A_PAIR, x, out })
    }

    fn run(self, backend: Backend) {
        let tokens = self.expert.tokens.len();
        let mut up = vec![[0.0; TILE_ROWS]; self.out.len()];
        let up_inputs = self.x.up.as_ref().unwrap_or(&self.x.gate);
        for (i, out) in self.out.chunks_exact_mut(tokens).enumerate() {
            backend.tile(self.expert.gate.tile(self.first_tile + i), &self.x.gate, out);
        }
        for (i, out) in up.chunks_exact_mut(tokens).enumerate() {
            backend.tile(self.expert.up.tile(self.first_tile + i), up_inputs, out);
        }
        for (gate, up) in self.out.iter_mut().zip(&up) {
            gate.iter_mut().zip(up).for_each(|(gate, up)| *gate = silu(*gate) * up);
        }
    }
}

fn silu(x: f32) -> f32 {
    x / (1.0 + (-x).exp())
}
