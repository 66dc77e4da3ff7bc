//! Repair after rounding: a layer's norms and gate tuned towards the 16-bit model.
//!
//! ```text
//! samples ─ 16-bit layers ─────── output, router ─┐
//!                                                 ├─ distance ─ gradients ─ norms, gate
//! samples ─ quantized layers ──── output, router ─┘
//! ```
//! A part of the calibration samples goes through the 16-bit model beside the quantized one. Once a layer is
//! quantized, its gate is tuned so that it routes as the 16-bit one does, its norms so that its output is the
//! 16-bit one's. What is not better on samples held out is not kept.

mod block;
mod reference;
mod tune;

use mcmoe_quant::store::StoredTensor;
use mcmoe_tensor_kernels::PackedOps;
use serde::{Deserialize, Serialize};

use self::block::{Block, dense};
use self::reference::{Passed, Reference};
use self::tune::{Sample, Tuner};
use crate::MixtralError;
use crate::calibrate::{Advanced, Stream};
use crate::checkpoint::from_f32;
use crate::model::{DecoderLayer, Linear, RmsNorm, WeightSource, from_host, names, to_host, weight};

/// What is repaired after rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repair {
    /// Gates, towards the choice of experts that the 16-bit model makes.
    pub routers: bool,
    /// The norms of each layer, towards the output of the 16-bit layer.
    pub norms: bool,
}

impl Repair {
    /// Whether there is anything to do.
    pub const fn any(self) -> bool {
        self.routers || self.norms
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

/// Most samples that layers are tuned on.
pub(super) const SAMPLES: usize = 64;
/// Most tokens of each.
pub(super) const LEN: usize = 256;

/// Repairs layer after layer.
pub(super) struct Repairs<'a, B: PackedOps> {
    repair: Repair,
    source: WeightSource<'a>,
    reference: Reference<'a, B>,
    device: B::Device,
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
        let samples: Vec<&[u32]> =
            samples.iter().take(SAMPLES).map(|sample| &sample[..sample.len().min(LEN)]).collect();
        let mut reference = Reference::embed(source, &samples, device)?;
        for l in 0..l {
            reference.advance(l)?;
        }
        Ok(Self { repair, source, reference, device: device.clone() })
    }

    /// Repairs `layer`, quantized layer `l` with dense weights, and takes `stream`, already behind it, through
    /// the repaired one instead. Returns the new values.
    pub(super) fn layer(
        &mut self,
        l: usize,
        mut layer: DecoderLayer<B>,
        stream: &mut Stream<'_, B>,
        advanced: &mut Advanced,
    ) -> Result<(Vec<Tuned>, RepairReport), MixtralError> {
        let samples = self.samples(l, advanced)?;
        let (source, config) = (self.source, self.source.config);
        let names = [names::input_norm(l), names::post_attention_norm(l), names::gate(l)];
        let names = names.map(|name| weight(&name));
        let weight_type = |i: usize, shape: &[usize]| {
            source.checkpoint.weights(&names[i], shape).map(|(_, weight_type)| weight_type)
        };
        let hidden = config.hidden_size;
        let types = [
            weight_type(0, &[hidden])?,
            weight_type(1, &[hidden])?,
            weight_type(2, &[config.num_local_experts, hidden])?,
        ];
        let norms = [&layer.input_norm, &layer.post_attention_norm];
        let [input_norm, post_attention_norm] = norms.map(|norm| norm.weight().clone().unsqueeze());
        let start = [input_norm, post_attention_norm, dense(&layer.moe.router.gate)];
        let block = Block::new(&layer, self.reference.angles(), config);
        let (tuned, [before, after]) = Tuner { block, start, types, repair: self.repair }.run(&samples);
        let change =
            |before: Option<f64>, after: Option<f64>| Some(Change { before: before?, after: after? });
        let report = RepairReport {
            layer: l,
            router: change(before.router, after.router),
            output: change(before.output, after.output),
        };
        let Some(tuned) = tuned else { return Ok((Vec::new(), report)) };
        let [input_norm, post_attention_norm, gate] = tuned.clone();
        for (norm, weight) in
            [(&mut layer.input_norm, input_norm), (&mut layer.post_attention_norm, post_attention_norm)]
        {
            *norm = RmsNorm::new(weight.squeeze_dim(0), config.rms_norm_eps);
        }
        layer.moe.router.gate = Linear::Dense(gate);
        stream.pass_again(l, &layer, advanced)?;
        let tuned = names.into_iter().zip(types).zip(tuned);
        let tuned = tuned.map(|((name, weight_type), values)| Tuned {
            name,
            bytes: from_f32(weight_type, &to_host(values)),
        });
        Ok((tuned.collect(), report))
    }

    /// The samples before layer `l`, as they are in the quantized model, and after it in the 16-bit one.
    fn samples(&mut self, l: usize, advanced: &Advanced) -> Result<Vec<Sample<B>>, MixtralError> {
        let sample = |(hidden, passed): (Result<Vec<f32>, _>, Passed<B>)| {
            let [len, width] = passed.output.dims();
            let mut hidden = hidden?;
            hidden.truncate(len * width);
            let hidden = from_host(hidden, [len, width], &self.device);
            Ok(Sample { hidden, output: passed.output, log_router: passed.log_router })
        };
        advanced.old.read()?.zip(self.reference.advance(l)?).map(sample).collect()
    }
}
