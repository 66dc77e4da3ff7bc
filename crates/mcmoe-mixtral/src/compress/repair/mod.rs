//! Repair after rounding: a layer's norms, scales and gate tuned towards the 16-bit model.
//!
//! ```text
//! samples ─ 16-bit layers ─────── output, router ─┐
//!                                                 ├─ distance ─ gradients ─ norms, scales, gate
//! samples ─ quantized layers ──── output, router ─┘
//! ```
//! A part of the calibration samples goes through the 16-bit model beside the quantized one. Once a layer is
//! quantized, its gate is tuned so that it routes as the 16-bit one does, its norms and scales so that its
//! output is the 16-bit one's. What is not better on samples held out is not kept.
//!
//! | file | holds |
//! |---|---|
//! | `reference` | the samples on their way through the 16-bit model |
//! | `block` | a layer in operations that have gradients |
//! | `tune` | gradient descent and who judges it |

mod block;
mod reference;
mod tune;

use burn::tensor::Tensor;
use mcmoe_quant::DenseType;
use mcmoe_quant::store::StoredTensor;
use mcmoe_tensor_kernels::PackedOps;
use serde::{Deserialize, Serialize};

use self::block::{Block, Tunable, dense};
use self::reference::{Passed, Reference};
use self::tune::{Sample, Tuner};
use super::layer::{Done, LayerTask};
use crate::calibrate::{Advanced, Stream};
use crate::checkpoint::from_f32;
use crate::model::{DecoderLayer, Linear, RmsNorm, WeightSource, from_host, names, to_host, weight};
use crate::{MixtralConfig, MixtralError};

/// What is repaired after rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repair {
    /// Gates, towards the choice of experts that the 16-bit model makes.
    pub routers: bool,
    /// The norms of each layer, towards the output of the 16-bit layer.
    pub norms: bool,
    /// The scales of packed matrices, a factor a row, towards the output of the 16-bit layer.
    pub scales: bool,
}

impl Repair {
    /// Whether there is anything to do.
    pub const fn any(self) -> bool {
        self.routers || self.norms || self.scales
    }
}

/// What repair did to a layer, on samples that it was not tuned on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RepairReport {
    /// The layer.
    pub layer: usize,
    /// Divergence (Kullback–Leibler) of the router's probabilities from the 16-bit model's, in nats a token.
    pub router: Option<Change>,
    /// Mean square error of the layer's output.
    pub output: Option<Change>,
}

/// A measure before and after repair; the same where it was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Before.
    pub before: f64,
    /// After.
    pub after: f64,
}

/// New values of a tensor.
#[derive(Debug)]
pub(super) struct Tuned {
    /// The tensor's full name.
    name: String,
    /// Its elements, as they are stored.
    bytes: Vec<u8>,
}

impl Tuned {
    /// Puts them where they belong.
    pub(super) fn replace_in(self, tensors: &mut [StoredTensor]) {
        if let Some(tensor) = tensors.iter_mut().find(|tensor| tensor.name == self.name) {
            tensor.data = self.bytes.into();
        }
    }
}

/// Most samples that layers are tuned on, and most bytes of their residual stream.
const SAMPLES: usize = 128;
const STREAM_BYTES: usize = 256 << 20;
/// Most tokens of each.
const LEN: usize = 256;
/// Most bytes of what gradients need, for samples side by side.
const GRAPH_BYTES: usize = 512 << 20;

/// What repairing a layer takes.
pub(super) struct Effort {
    /// Samples, and tokens of each.
    samples: usize,
    len: usize,
    /// Samples whose gradients are computed side by side.
    at_once: usize,
    graph: usize,
    stream: usize,
}

impl Effort {
    /// For a model and as many samples of `len` tokens.
    pub(super) fn new(config: &MixtralConfig, samples: usize, len: usize) -> Self {
        let len = len.min(LEN);
        let stream = (len * config.hidden_size * size_of::<f32>()).max(1);
        let samples = samples.min(SAMPLES).min((STREAM_BYTES / stream).max(1));
        // Every step of the way from the layer's input to its output is kept for the way back.
        let attention = 12 * config.hidden_size + 6 * config.query_size();
        let scores = 5 * config.num_attention_heads * len;
        let experts = config.num_experts_per_tok * (9 * config.intermediate_size + 5 * config.hidden_size);
        let graph = len * (attention + scores + experts) * size_of::<f32>();
        let at_once = (GRAPH_BYTES / graph.max(1)).clamp(1, tune::BATCH);
        Self { samples, len, at_once, graph, stream }
    }

    /// Tokens of a sample.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Bytes in memory, besides the layer's weights, while it is tuned.
    pub(super) const fn tuning_bytes(&self) -> u64 {
        2 * self.waiting_bytes() + (self.at_once * self.graph) as u64
    }

    /// Bytes that samples take in memory all the time.
    pub(super) const fn waiting_bytes(&self) -> u64 {
        (self.samples * self.stream) as u64
    }

    /// Passes of one token through the layer, forward and back: with gradients, to see how well it does, and
    /// through the 16-bit layer.
    pub(super) const fn passes(&self) -> f64 {
        let tuning = tune::EPOCHS * 3 + 1;
        (self.samples * self.len * (tuning + 1)) as f64
    }
}

/// Repairs layer after layer.
pub(super) struct Repairs<'a, B: PackedOps> {
    repair: Repair,
    effort: Effort,
    reference: Reference<'a, B>,
}

impl<'a, B: PackedOps> Repairs<'a, B> {
    /// Brings the samples before layer `l` of the 16-bit model.
    pub(super) fn before(
        l: usize,
        repair: Repair,
        source: WeightSource<'a>,
        samples: &[Vec<u32>],
        device: &B::Device,
    ) -> Result<Self, MixtralError> {
        let effort = Effort::new(source.config, samples.len(), samples.first().map_or(0, Vec::len));
        let samples: Vec<&[u32]> =
            samples.iter().take(effort.samples).map(|sample| &sample[..effort.len]).collect();
        let mut reference = Reference::embed(source, &samples, device)?;
        for l in 0..l {
            reference.advance(l)?;
        }
        Ok(Self { repair, effort, reference })
    }

    /// Repairs the layer of `task`, which is `done`, and takes `stream`, already behind it, through the
    /// repaired one instead. Returns new values of what is not packed.
    pub(super) fn layer(
        &mut self,
        task: &LayerTask<'_, B>,
        done: &mut [Done],
        stream: &mut Stream<'_, B>,
        advanced: &mut Advanced,
    ) -> Result<(Vec<Tuned>, RepairReport), MixtralError> {
        let config = task.source.config;
        let samples = self.samples(task, advanced)?;
        let layer = task.dense(done)?;
        let types = types(task, done.len())?;
        let start = tunable(&layer, done);
        let block = Block::new(&layer, self.reference.angles(), config);
        drop(layer);
        let tuner =
            Tuner { block, start, types: types.clone(), repair: self.repair, at_once: self.effort.at_once };
        let (tuned, [before, after]) = tuner.run(&samples);
        drop((tuner, samples));
        let change =
            |before: Option<f64>, after: Option<f64>| Some(Change { before: before?, after: after? });
        let report = RepairReport {
            layer: task.l,
            router: change(before.router, after.router),
            output: change(before.output, after.output),
        };
        let Some(tuned) = tuned else { return Ok((Vec::new(), report)) };
        for (done, factors) in done.iter_mut().zip(&tuned.rows) {
            let scaled = done.packed.scale_rows(&to_host(factors.clone()));
            done.packed = scaled.map_err(|source| MixtralError::quantize(&weight(&done.name), source))?;
        }
        let mut layer = task.dense(done)?;
        for (norm, weight) in
            [&mut layer.input_norm, &mut layer.post_attention_norm].into_iter().zip(&tuned.norms)
        {
            *norm = RmsNorm::new(weight.clone().squeeze_dim(0), config.rms_norm_eps);
        }
        layer.moe.router.gate = Linear::Dense(tuned.gate.clone());
        stream.pass_again(task.l, &layer, advanced)?;
        let stored = names(task.l).into_iter().zip(tuned.norms.into_iter().chain([tuned.gate]));
        let stored = stored.zip(types.norms.into_iter().chain([types.gate]));
        let stored =
            stored.map(|((name, values), dtype)| Tuned { name, bytes: from_f32(dtype, &to_host(values)) });
        Ok((stored.collect(), report))
    }

    /// The samples before the layer of `task`, as they are in the quantized model, and after it in the 16-bit
    /// one.
    fn samples(
        &mut self,
        task: &LayerTask<'_, B>,
        advanced: &Advanced,
    ) -> Result<Vec<Sample<B>>, MixtralError> {
        let sample = |(hidden, passed): (Result<Vec<f32>, _>, Passed<B>)| {
            let [len, width] = passed.output.dims();
            let mut hidden = hidden?;
            hidden.truncate(len * width);
            let hidden = from_host(hidden, [len, width], task.device);
            Ok(Sample { hidden, output: passed.output, log_router: passed.log_router })
        };
        advanced.old.read()?.zip(self.reference.advance(task.l)?).map(sample).collect()
    }
}

/// Names of what can be tuned and is not packed: both norms and the gate.
fn names(l: usize) -> [String; 3] {
    [names::input_norm(l), names::post_attention_norm(l), names::gate(l)].map(|name| weight(&name))
}

/// How everything that can be tuned of a layer is stored.
fn types<B: PackedOps>(task: &LayerTask<'_, B>, matrices: usize) -> Result<Tunable<DenseType>, MixtralError> {
    let WeightSource { checkpoint, config, .. } = task.source;
    let hidden = config.hidden_size;
    let of = |name: &str, shape: &[usize]| checkpoint.weights(name, shape).map(|(_, dtype)| dtype);
    let [first, second, gate] = &names(task.l);
    let norms = [of(first, &[hidden])?, of(second, &[hidden])?];
    let gate = of(gate, &[config.num_local_experts, hidden])?;
    Ok(Tunable { norms, gate, rows: vec![DenseType::F32; matrices] })
}

/// Everything that can be tuned, as it is in `layer`.
fn tunable<B: PackedOps>(layer: &DecoderLayer<B>, done: &[Done]) -> Tunable<Tensor<B, 2>> {
    let norms = [&layer.input_norm, &layer.post_attention_norm].map(|norm| norm.weight().clone().unsqueeze());
    let gate = dense(&layer.moe.router.gate);
    let rows = |done: &Done| Tensor::ones([1, done.packed.shape().rows()], &gate.device());
    Tunable { rows: done.iter().map(rows).collect(), norms, gate }
}

#[cfg(test)]
mod tests;
