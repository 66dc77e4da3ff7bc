//! Calibration samples on their way through the layers, from file to file.

use std::path::{Path, PathBuf};

use burn::tensor::Tensor;
use mcmoe_tensor_kernels::PackedOps;

use super::activations::{ActivationFile, WriteBehind, in_order};
use crate::durable::Digest;
use crate::model::{
    Angles, DecoderLayer, LayerCache, Routing, Sequences, WeightSource, check_tokens, embed, from_host,
    names, to_host, weight,
};
use crate::{MixtralConfig, MixtralError};

/// Where a stream's files lie and what they are called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// The folder.
    pub(crate) dir: &'a Path,
    /// The beginning of the files' names.
    pub(crate) name: &'static str,
}

impl Place<'_> {
    fn file(&self, part: &str) -> PathBuf {
        self.dir.join(format!("{}-{part}.f32", self.name))
    }

    /// The stream before layer `l`.
    pub(crate) fn before(&self, l: usize) -> PathBuf {
        self.file(&format!("{l:05}"))
    }
}

/// The residual stream of every sample, `[tokens, hidden]` each, before some layer. All samples have the
/// same length.
pub(crate) struct Stream<'a, B: PackedOps> {
    hidden: ActivationFile,
    place: Place<'a>,
    config: &'a MixtralConfig,
    angles: Angles<B>,
    /// Samples worked on side by side.
    at_once: usize,
    device: B::Device,
}

/// A stream's new file, and the one before the layer, which is kept until the new one is on record.
pub(crate) struct Advanced {
    /// Digest of the new file.
    pub(crate) digest: Digest,
    /// What the stream was before.
    pub(crate) old: ActivationFile,
}

/// What the stream brings to the experts of a layer.
pub(crate) struct Routed {
    /// The residual stream after attention.
    after: ActivationFile,
    /// The inputs of each expert, sample by sample.
    pub(crate) inputs: Vec<ActivationFile>,
    /// The tokens' experts, sample by sample.
    pub(crate) routing: Vec<Routing>,
}

impl<'a, B: PackedOps> Stream<'a, B> {
    /// The samples' embeddings.
    pub(crate) fn embed(
        source: &WeightSource<'a>,
        samples: &[Vec<u32>],
        place: Place<'a>,
        device: &B::Device,
    ) -> Result<Self, MixtralError> {
        let table = source.embedding::<B>(device)?;
        let rows: Vec<&[u32]> = samples.iter().map(Vec::as_slice).collect();
        check_tokens(&rows, source.config.vocab_size)?;
        let mut file = WriteBehind::create(&place.before(0), source.config.hidden_size, false)?;
        for ids in rows {
            file.push(to_host(embed::<B>(&table, ids, device)))?;
        }
        drop(table);
        source.checkpoint.tensor(&weight(names::EMBED))?.bytes.unload();
        Ok(Self::new(file.finish()?.0, source, place, device))
    }

    /// The stream that was recorded before layer `l`, for samples of `rows` tokens.
    pub(crate) fn resume(
        source: &WeightSource<'a>,
        rows: Vec<usize>,
        place: Place<'a>,
        (l, digest): (usize, Digest),
        device: &B::Device,
    ) -> Result<Self, MixtralError> {
        let hidden = ActivationFile::open(place.before(l), source.config.hidden_size, rows, digest)?;
        Ok(Self::new(hidden, source, place, device))
    }

    fn new(hidden: ActivationFile, source: &WeightSource<'a>, place: Place<'a>, device: &B::Device) -> Self {
        let (config, len) = (source.config, hidden.rows().first().copied().unwrap_or(0));
        let angles = source.rope().angles(0..len, device);
        Self { hidden, place, config, angles, at_once: samples_at_once(config, len), device: device.clone() }
    }

    /// Tokens of all samples.
    pub(crate) fn tokens(&self) -> usize {
        self.hidden.total_rows()
    }

    /// Tokens of each sample.
    pub(crate) fn len(&self) -> usize {
        self.hidden.rows().first().copied().unwrap_or(0)
    }

    /// Samples worked on side by side.
    pub(crate) const fn at_once(&self) -> usize {
        self.at_once
    }

    /// Rows of a sample as a tensor.
    pub(crate) fn tensor(&self, rows: Vec<f32>, cols: usize) -> Tensor<B, 2> {
        let shape = [rows.len() / cols, cols];
        from_host(rows, shape, &self.device)
    }

    /// Shows `see` what `work` makes of every sample of the stream, in order.
    pub(crate) fn each(
        &self,
        work: impl Fn(Tensor<B, 2>) -> Tensor<B, 2> + Sync,
        see: impl FnMut(usize, Vec<f32>) -> Result<(), MixtralError>,
    ) -> Result<(), MixtralError> {
        let work = |_, hidden| Ok(to_host(work(self.tensor(hidden, self.config.hidden_size))));
        in_order(self.hidden.read()?, self.at_once, work, see)
    }

    /// The inputs of `o_proj` for all samples, each shown to `see`.
    pub(crate) fn contexts(
        &self,
        layer: &DecoderLayer<B>,
        mut see: impl FnMut(&[f32]) -> Result<(), MixtralError>,
    ) -> Result<ActivationFile, MixtralError> {
        let mut file = self.scratch("contexts", self.config.query_size())?;
        let context = |hidden| {
            let sequences = Sequences { batch: 1, angles: &self.angles, pruning: None };
            layer.attend(hidden, &sequences, &mut LayerCache::empty(), false).context
        };
        self.each(context, |_, context| {
            see(&context)?;
            file.push(context)
        })?;
        Ok(file.finish()?.0)
    }

    /// Adds attention to the stream and sends its tokens to the experts of layer `l`.
    ///
    /// # Errors
    /// [`MixtralError::NotFinite`] if a router logit is infinite or NaN, as it is when anything before
    /// it is.
    pub(crate) fn route(
        &self,
        l: usize,
        layer: &DecoderLayer<B>,
        contexts: &ActivationFile,
    ) -> Result<Routed, MixtralError> {
        let MixtralConfig { hidden_size, num_local_experts: experts, .. } = *self.config;
        let query = self.config.query_size();
        let mut after = self.scratch("attended", hidden_size)?;
        let inputs = |e| self.scratch(&format!("inputs-{e:03}"), hidden_size);
        let mut inputs = (0..experts).map(inputs).collect::<Result<Vec<_>, _>>()?;
        let mut routing = Vec::with_capacity(self.hidden.rows().len());
        let pairs =
            self.hidden.read()?.zip(contexts.read()?).map(|(hidden, context)| Ok((hidden?, context?)));
        let route = |_, (hidden, context)| {
            let context = self.tensor(context, query);
            let hidden = self.tensor(hidden, hidden_size) + layer.attention.o_proj.forward(context);
            let x = layer.post_attention_norm.forward(hidden.clone());
            let logits = to_host(layer.moe.router.logits(x.clone()));
            if logits.iter().all(|logit| logit.is_finite()) {
                let routing = Routing::from_logits(&logits, experts, layer.moe.router.top_k);
                return Ok((to_host(hidden), to_host(x), routing));
            }
            let what = format!("activations of layer {l} on the calibration text");
            Err(MixtralError::NotFinite { what })
        };
        in_order(pairs, self.at_once, route, |_, (hidden, x, chosen): (_, Vec<f32>, Routing)| {
            after.push(hidden)?;
            for (e, inputs) in inputs.iter_mut().enumerate() {
                let tokens = chosen.assigned(e).0.into_iter();
                let rows = tokens.flat_map(|token| &x[token * hidden_size..][..hidden_size]);
                inputs.push(rows.copied().collect())?;
            }
            routing.push(chosen);
            Ok(())
        })?;
        let inputs =
            inputs.into_iter().map(|file| Ok(file.finish()?.0)).collect::<Result<_, MixtralError>>()?;
        Ok(Routed { after: after.finish()?.0, inputs, routing })
    }

    /// Adds the experts' weighted `outputs` to the stream, in the order of experts: it is before layer
    /// `l + 1` then, in a durable file.
    pub(crate) fn advance(
        &mut self,
        l: usize,
        routed: &Routed,
        outputs: &[ActivationFile],
    ) -> Result<Advanced, MixtralError> {
        let cols = self.config.hidden_size;
        let mut next = WriteBehind::create(&self.place.before(l + 1), cols, true)?;
        let mut outputs = outputs.iter().map(ActivationFile::read).collect::<Result<Vec<_>, _>>()?;
        for (hidden, routing) in routed.after.read()?.zip(&routed.routing) {
            let mut hidden = hidden?;
            for (e, outputs) in outputs.iter_mut().enumerate() {
                let Some(output) = outputs.next() else { break };
                for (token, row) in routing.assigned(e).0.into_iter().zip(output?.chunks_exact(cols)) {
                    let hidden = &mut hidden[token * cols..][..cols];
                    hidden.iter_mut().zip(row).for_each(|(hidden, y)| *hidden += y);
                }
            }
            next.push(hidden)?;
        }
        let (hidden, digest) = next.finish()?;
        let digest = digest.expect("durable files have a digest");
        Ok(Advanced { digest, old: std::mem::replace(&mut self.hidden, hidden) })
    }

    /// Takes the samples once more from before layer `l`, where they were before they `advanced`, this time
    /// through `layer`.
    pub(crate) fn pass_again(
        &mut self,
        l: usize,
        layer: &DecoderLayer<B>,
        advanced: &mut Advanced,
    ) -> Result<(), MixtralError> {
        let cols = self.config.hidden_size;
        let mut next = WriteBehind::create(&self.place.before(l + 1), cols, true)?;
        let pass =
            |_, hidden| Ok(to_host(layer.forward_alone(l, self.tensor(hidden, cols), &self.angles).hidden));
        in_order(advanced.old.read()?, self.at_once, pass, |_, hidden| next.push(hidden))?;
        let digest;
        (self.hidden, digest) = next.finish()?;
        advanced.digest = digest.expect("durable files have a digest");
        Ok(())
    }

    /// Removes the stream's file.
    pub(crate) fn finish(self) {
        self.hidden.remove();
    }

    /// A file that is needed within a layer.
    pub(crate) fn scratch(&self, part: &str, cols: usize) -> Result<WriteBehind, MixtralError> {
        WriteBehind::create(&self.place.file(part), cols, false)
    }
}

impl Routed {
    /// Takes the inputs of expert `e` through `work`, with the tokens' routing weights, and hands the
    /// results to `then` in order of samples.
    pub(crate) fn each<B: PackedOps, O: Send>(
        &self,
        e: usize,
        inputs: &ActivationFile,
        stream: &Stream<'_, B>,
        work: impl Fn(Tensor<B, 2>, &Weights<B>) -> O + Sync,
        mut then: impl FnMut(Option<O>) -> Result<(), MixtralError>,
    ) -> Result<(), MixtralError> {
        let work = |sample: usize, inputs: Vec<f32>| {
            let weights = self.routing[sample].assigned(e).1;
            let tokens = weights.len();
            let inputs = (tokens > 0).then(|| {
                let cols = inputs.len() / tokens;
                (stream.tensor(inputs, cols), Weights(stream.tensor(weights, 1)))
            });
            Ok(inputs.map(|(inputs, weights)| work(inputs, &weights)))
        };
        in_order(inputs.read()?, stream.at_once(), work, |_, result| then(result))
    }
}

/// Routing weights of an expert's tokens of a sample, `[tokens, 1]`.
pub(crate) struct Weights<B: PackedOps>(Tensor<B, 2>);

impl<B: PackedOps> Weights<B> {
    /// The expert's outputs `y`, `[tokens, hidden]`, times the tokens' weights.
    pub(crate) fn times(&self, y: Tensor<B, 2>) -> Tensor<B, 2> {
        y * self.0.clone()
    }
}

/// Samples whose activations are in memory at a time: all threads busy, within a bound.
pub(crate) fn samples_at_once(config: &MixtralConfig, len: usize) -> usize {
    const BYTES: usize = 1 << 30;
    (BYTES / sample_bytes(config, len).max(1)).clamp(1, rayon::current_num_threads())
}

/// Memory that one sample of `len` tokens takes while it passes a layer: its scores of a tile of queries and
/// their softmax, or its way through an expert that gets twice its share of tokens.
pub(crate) fn sample_bytes(config: &MixtralConfig, len: usize) -> usize {
    const TILE: usize = 256;
    let row = 6 * config.hidden_size + 3 * config.query_size();
    let attention = len * row + 3 * config.num_attention_heads * TILE.min(len) * len;
    let share = (2 * config.num_experts_per_tok).min(config.num_local_experts);
    let tokens = (len * share).div_ceil(config.num_local_experts);
    let expert =
        len * 4 * config.hidden_size + tokens * (4 * config.intermediate_size + 4 * config.hidden_size);
    attention.max(expert) * size_of::<f32>()
}
