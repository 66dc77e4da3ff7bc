//! How fast single kernels read packed weights, beside the memory that they read them from.

use std::time::Instant;

use burn::tensor::{Distribution, Tensor};
use mcmoe_quant::{BitWidth, Coding, PackedMatrix, PackedShape, Precision, TrellisRate};
use mcmoe_tensor_kernels::{PackedOps, RouteRule, packed_experts, packed_linear, route};
use serde::Serialize;

use super::machine::{Machine, mean, wait};
use crate::model::{Packing, from_host};
use crate::{MixtralConfig, MixtralError, Progress};

/// Packed bytes that a measurement goes through: more than caches hold.
const BYTES: usize = 256 << 20;
/// Columns of a group on a grid, and on a trellis.
const GROUPS: [usize; 2] = [128, 256];

/// How fast one kernel is.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct KernelReport {
    /// What was computed: `linear`, one matrix times one token, or `experts`, a token's whole block.
    pub kernel: &'static str,
    /// What the codes are.
    pub coding: String,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub cols: usize,
    /// Packed bytes read a second, in 10⁹.
    pub gb_s: f64,
    /// Bytes that memory gives, measured in turns, in 10⁹: read on a CPU, copied on a graphics card.
    pub machine_gb_s: f64,
}

/// Measures the product of one token with matrices of the shapes of `config`, and its experts, at every width,
/// `rounds` times.
///
/// # Errors
/// [`MixtralError::Option`] for shapes that cannot be packed.
pub fn bench_kernels<B: PackedOps>(
    config: &MixtralConfig,
    rounds: usize,
    device: &B::Device,
    progress: &dyn Progress,
) -> Result<Vec<KernelReport>, MixtralError> {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let grids = [1, 2, 3, 4].map(|bits| BitWidth::new(bits).map(Coding::Grid));
    let grids = grids.into_iter().map(|coding| (coding, GROUPS[0]));
    let trellises = TrellisRate::ALL.into_iter().map(|rate| (Ok(Coding::Trellis(rate)), GROUPS[1]));
    let codings: Vec<Packing> = grids
        .chain(trellises)
        .map(|(coding, group_size)| Ok(Packing { coding: coding?, group_size }))
        .collect::<Result<_, _>>()
        .map_err(|error| MixtralError::shape("--kernels", &error))?;
    let bench = KernelBench::<B> { rounds, device, machine: Machine::new(device) };
    progress.start("measuring", 3 * codings.len() as u64);
    let mut reports = Vec::new();
    for packing in codings {
        for (rows, cols) in [(inner, hidden), (hidden, inner)] {
            reports.push(bench.linear(packing, rows, cols)?);
            progress.advance(1);
        }
        reports.extend(bench.experts(packing, config)?);
        progress.advance(1);
    }
    progress.finish();
    Ok(reports)
}

struct KernelBench<'a, B: PackedOps> {
    rounds: usize,
    device: &'a B::Device,
    machine: Machine<B>,
}

impl<B: PackedOps> KernelBench<'_, B> {
    fn linear(&self, packing: Packing, rows: usize, cols: usize) -> Result<KernelReport, MixtralError> {
        let shape = shape(packing, rows, cols)?;
        let bytes = shape.total_bytes();
        let copies = (BYTES / bytes).max(1);
        let weights: Vec<B::Packed> =
            (0..copies as u64).map(|seed| self.random_matrix(shape, seed)).collect();
        let x = self.random(cols);
        let pass =
            || weights.iter().map(|weight| packed_linear::<B>(x.clone(), &[weight])).collect::<Vec<_>>();
        Ok(self.report("linear", packing, [rows, cols], (copies * bytes) as f64, pass))
    }

    /// Two experts of eight, in one piece of work; `None` where there is no memory for them in one piece.
    fn experts(
        &self,
        packing: Packing,
        config: &MixtralConfig,
    ) -> Result<Option<KernelReport>, MixtralError> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let [wide, tall] = [shape(packing, inner, hidden)?, shape(packing, hidden, inner)?];
        let (count, top_k) = (config.num_local_experts, config.num_experts_per_tok);
        let expert = |e: usize| {
            let matrix = |i: usize, shape| self.random_matrix(shape, (3 * e + i) as u64);
            [matrix(0, wide), matrix(1, wide), matrix(2, tall)]
        };
        let mut experts: Vec<[B::Packed; 3]> = (0..count).map(expert).collect();
        let mut experts: Vec<[&mut B::Packed; 3]> =
            experts.iter_mut().map(<[B::Packed; 3]>::each_mut).collect();
        let Some(together) = B::experts_from(&mut experts, self.device) else { return Ok(None) };
        let x = self.random(hidden);
        // All experts in turns.
        let routes: Vec<B::Routes> = (0..count / top_k)
            .map(|turn| {
                let chosen = |e: usize| f32::from(u8::from(e / top_k == turn));
                let logits = from_host((0..count).map(chosen).collect(), [1, count], self.device);
                route::<B>(logits, RouteRule::new(top_k), None, &mut B::Tally::default())
            })
            .collect();
        let pass = || {
            routes.iter().map(|routes| packed_experts::<B>(x.clone(), &together, routes)).collect::<Vec<_>>()
        };
        let bytes = routes.len() * top_k * (2 * wide.total_bytes() + tall.total_bytes());
        Ok(Some(self.report("experts", packing, [inner, hidden], bytes as f64, pass)))
    }

    fn report<T>(
        &self,
        kernel: &'static str,
        packing: Packing,
        [rows, cols]: [usize; 2],
        bytes: f64,
        pass: impl Fn() -> T,
    ) -> KernelReport {
        let run = || {
            let start = Instant::now();
            let outputs = pass();
            wait::<B>(self.device);
            drop(outputs);
            bytes / start.elapsed().as_secs_f64() / 1e9
        };
        // Once for nothing: kernels are compiled.
        run();
        let (found, machine): (Vec<f64>, Vec<f64>) =
            (0..self.rounds).map(|_| (run(), self.machine.read() / 1e9)).unzip();
        let coding = packing.coding.to_string();
        KernelReport { kernel, coding, rows, cols, gb_s: mean(&found), machine_gb_s: mean(&machine) }
    }

    /// A matrix of random codes.
    fn random_matrix(&self, shape: PackedShape, seed: u64) -> B::Packed {
        B::packed_from(PackedMatrix::synthetic(shape, seed), Precision::default(), self.device)
    }

    fn random(&self, cols: usize) -> Tensor<B, 2> {
        Tensor::random([1, cols], Distribution::Normal(0.0, 1.0), self.device)
    }
}

fn shape(packing: Packing, rows: usize, cols: usize) -> Result<PackedShape, MixtralError> {
    packing.shape(rows, cols).map_err(|error| MixtralError::shape("--kernels", &error))
}
