//! The whole model, from token ids to logits.

use burn::tensor::Tensor;
use mcmoe_tensor_kernels::{PackedOps, dense_rows};

use super::{Activations, DecoderLayer, Expert, KvCache, Linear, Pruning, RmsNorm, Rope, Sequences, moved};
use crate::{MixtralConfig, MixtralError};

/// A Mixtral ready to run.
#[derive(Clone, Debug)]
pub struct Mixtral<B: PackedOps> {
    pub(crate) config: MixtralConfig,
    pub(crate) embed_tokens: B::Dense,
    pub(crate) layers: Vec<DecoderLayer<B>>,
    pub(crate) norm: RmsNorm<B>,
    pub(crate) lm_head: Linear<B>,
    pub(crate) rope: Rope<B>,
    pub(crate) pruning: Option<Pruning>,
    pub(crate) places: Places<B>,
}

/// Where the parts of a model are.
#[derive(Clone, Debug)]
pub(crate) struct Places<B: PackedOps> {
    /// Of the embedding.
    pub(crate) first: B::Device,
    /// Of each layer.
    pub(crate) layers: Vec<B::Device>,
    /// Of the final norm and the head.
    pub(crate) last: B::Device,
}

impl<B: PackedOps> Places<B> {
    /// Spreads so many layers over devices, equally many to each as far as that goes.
    ///
    /// # Panics
    /// If there is no device.
    pub(crate) fn spread(devices: &[B::Device], layers: usize) -> Self {
        let device = |l: usize| devices[l * devices.len() / layers.max(1)].clone();
        let last = devices.last().expect("at least one device").clone();
        Self { first: devices[0].clone(), layers: (0..layers).map(device).collect(), last }
    }
}

/// Everything that a forward pass computes on the way, for comparisons.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Trace {
    /// The residual stream after the embedding and after each layer, `[tokens, hidden]`.
    pub hidden_states: Vec<Vec<f32>>,
    /// Router logits of each layer, `[tokens, experts]`.
    pub router_logits: Vec<Vec<f32>>,
    /// The residual stream after the final norm, `[tokens, hidden]`.
    pub final_norm: Vec<f32>,
}

impl<B: PackedOps> Mixtral<B> {
    /// The model's dimensions.
    pub const fn config(&self) -> &MixtralConfig {
        &self.config
    }

    /// An empty KV cache for this model.
    pub fn new_cache(&self) -> KvCache<B> {
        KvCache::new(self.layers.len())
    }

    /// Switches online dynamic pruning on or off.
    ///
    /// # Errors
    /// [`MixtralError::Option`] unless there is one threshold a layer, all of them and the protected
    /// share numbers from 0 to 1.
    pub fn set_pruning(&mut self, pruning: Option<Pruning>) -> Result<(), MixtralError> {
        if let Some(pruning) = &pruning {
            let (found, expected) = (pruning.thresholds.len(), self.layers.len());
            if found != expected {
                let reason = format!("{found} thresholds for {expected} layers");
                return Err(MixtralError::option("pruning", reason));
            }
            let share = |value: &f32| (0.0..=1.0).contains(value);
            if !pruning.thresholds.iter().all(share) {
                return Err(MixtralError::option("pruning", "thresholds must lie between 0 and 1"));
            }
            if !share(&pruning.protect) {
                return Err(MixtralError::option("--protect", "the share must lie between 0 and 1"));
            }
        }
        self.pruning = pruning;
        Ok(())
    }

    /// Logits of the new tokens, `[batch, len, vocab]`.
    ///
    /// `tokens` holds one row a sequence, all of the same length; they follow what `cache` holds and
    /// are added to it.
    ///
    /// # Errors
    /// [`MixtralError::TokenId`] for an id outside the vocabulary, [`MixtralError::Option`] for rows
    /// that are empty or of different lengths, and for the cache of another model or batch.
    pub fn forward(&self, tokens: &[&[u32]], cache: &mut KvCache<B>) -> Result<Tensor<B, 3>, MixtralError> {
        let hidden = self.run(tokens, cache, |_, _| ())?;
        Ok(self.logits(hidden, tokens.len()))
    }

    /// Logits of the last token of each sequence, `[batch, 1, vocab]`; otherwise as
    /// [`Mixtral::forward`].
    ///
    /// # Errors
    /// As [`Mixtral::forward`].
    pub fn forward_last(
        &self,
        tokens: &[&[u32]],
        cache: &mut KvCache<B>,
    ) -> Result<Tensor<B, 3>, MixtralError> {
        let hidden = self.run(tokens, cache, |_, _| ())?;
        let (batch, [rows, width]) = (tokens.len(), hidden.dims());
        let len = rows / batch;
        let last = hidden.reshape([batch, len, width]).narrow(1, len - 1, 1).reshape([batch, width]);
        Ok(self.logits(last, batch))
    }

    /// What the passes with `cache` did with experts since this was last asked. On a GPU this waits for the
    /// passes to end.
    pub fn take_activations(&self, cache: &mut KvCache<B>) -> Activations {
        let mut activations = Activations::default();
        for (l, layer) in self.layers.iter().enumerate() {
            let tally = std::mem::take(&mut cache.layer(l).tally);
            activations.count(&B::counts(&tally), layer.moe.experts.iter().map(Expert::bytes));
        }
        activations
    }

    /// As [`Mixtral::forward`] on a fresh cache, keeping what happens on the way.
    ///
    /// # Errors
    /// As [`Mixtral::forward`].
    pub fn forward_traced(&self, tokens: &[&[u32]]) -> Result<(Tensor<B, 3>, Trace), MixtralError> {
        let mut trace = Trace::default();
        let mut cache = self.new_cache();
        let hidden = self.run(tokens, &mut cache, |hidden, logits| {
            trace.hidden_states.push(super::to_host(hidden.clone()));
            trace.router_logits.extend(logits.cloned().map(super::to_host));
        })?;
        let last = moved(hidden.clone(), &self.places.last);
        trace.final_norm = super::to_host(self.norm.forward(last));
        Ok((self.logits(hidden, tokens.len()), trace))
    }

    /// The residual stream after the last layer; `watch` sees it after every step, with the layer's
    /// router logits.
    fn run(
        &self,
        tokens: &[&[u32]],
        cache: &mut KvCache<B>,
        mut watch: impl FnMut(&Tensor<B, 2>, Option<&Tensor<B, 2>>),
    ) -> Result<Tensor<B, 2>, MixtralError> {
        let mut hidden = self.embedded(tokens)?;
        cache.check(&self.config, tokens.len())?;
        let len = tokens[0].len();
        watch(&hidden, None);
        let past = cache.len();
        let mut angles = self.rope.angles(past..past + len, &self.places.first);
        for (l, (layer, device)) in self.layers.iter().zip(&self.places.layers).enumerate() {
            if hidden.device() != *device {
                (hidden, angles) = (moved(hidden, device), angles.moved(device));
            }
            let sequences =
                Sequences { batch: tokens.len(), angles: &angles, pruning: self.pruning.as_ref() };
            let output = layer.forward(l, hidden, &sequences, cache.layer(l));
            hidden = output.hidden;
            watch(&hidden, Some(&output.router_logits));
        }
        Ok(hidden)
    }

    /// The embedded tokens of all sequences, `[batch · len, hidden]`.
    pub(crate) fn embedded(&self, tokens: &[&[u32]]) -> Result<Tensor<B, 2>, MixtralError> {
        let ids = check_tokens(tokens, self.config.vocab_size)?;
        Ok(embed::<B>(&self.embed_tokens, &ids, &self.places.first))
    }

    /// Bytes of the weights that every token reads: projections of attention, gates and head.
    pub(crate) fn fixed_bytes(&self) -> u64 {
        let layers = self.layers.iter().map(|layer| layer.attention.bytes() + layer.moe.router.gate.bytes());
        layers.sum::<u64>() + self.lm_head.bytes()
    }

    /// Logits of the residual stream of all tokens of a batch.
    pub(crate) fn logits(&self, hidden: Tensor<B, 2>, batch: usize) -> Tensor<B, 3> {
        let logits = self.lm_head.forward(self.norm.forward(moved(hidden, &self.places.last)));
        let [rows, vocab] = logits.dims();
        logits.reshape([batch, rows / batch, vocab])
    }
}

/// Rows of the embedding for token ids.
pub(crate) fn embed<B: PackedOps>(table: &B::Dense, ids: &[u32], device: &B::Device) -> Tensor<B, 2> {
    let rows: Vec<usize> = ids.iter().map(|&id| id as usize).collect();
    dense_rows(table, &rows, device)
}

/// All ids in a row, checked.
pub(crate) fn check_tokens(tokens: &[&[u32]], vocab_size: usize) -> Result<Vec<u32>, MixtralError> {
    let len = tokens.first().map_or(0, |row| row.len());
    if len == 0 || tokens.iter().any(|row| row.len() != len) {
        return Err(MixtralError::option("tokens", "sequences of a batch need the same length, at least 1"));
    }
    let ids = tokens.concat();
    match ids.iter().find(|&&id| id as usize >= vocab_size) {
        Some(&id) => Err(MixtralError::TokenId { id, vocab_size }),
        None => Ok(ids),
    }
}
