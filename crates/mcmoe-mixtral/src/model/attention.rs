//! Grouped-query attention with rotary positions and, where the config asks, a sliding window.

use std::ops::Range;

use burn::tensor::activation::softmax;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use mcmoe_tensor_kernels::{PackedOps, decode_attention, plain};

use super::Linear;
use super::cache::LayerCache;
use super::rope::Angles;
use crate::MixtralConfig;

/// Query positions whose scores are held at a time.
const TILE: usize = 256;

/// The attention of one layer.
#[derive(Clone, Debug)]
pub struct Attention<B: PackedOps> {
    /// `[heads · head_dim, hidden]`.
    pub q_proj: Linear<B>,
    /// `[kv_heads · head_dim, hidden]`.
    pub k_proj: Linear<B>,
    /// `[kv_heads · head_dim, hidden]`.
    pub v_proj: Linear<B>,
    /// `[hidden, heads · head_dim]`.
    pub o_proj: Linear<B>,
    heads: Heads,
}

/// The heads of an attention and how far they look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    queries: usize,
    keys: usize,
    /// Features of a head.
    width: usize,
    window: Option<usize>,
}

/// What attention hands on: the heads' outputs and how much each token was looked at.
pub(crate) struct Attended<B: PackedOps> {
    /// Outputs of all heads side by side, `[tokens, heads · head_dim]`: the input of `o_proj`.
    pub context: Tensor<B, 2>,
    /// For each sequence of the batch and each of its new tokens j, `Σ_{i≥j} A_ij` of the head-mean
    /// attention matrix, `[batch, len]`. Absent unless asked for.
    pub received: Option<Tensor<B, 2>>,
}

impl<B: PackedOps> Attention<B> {
    /// An attention with these projections and `config`'s heads.
    pub fn new(projections: [Linear<B>; 4], config: &MixtralConfig) -> Self {
        let [q_proj, k_proj, v_proj, o_proj] = projections;
        Self { q_proj, k_proj, v_proj, o_proj, heads: Heads::new(config) }
    }

    /// Bytes of its weights.
    pub(crate) fn bytes(&self) -> u64 {
        [&self.q_proj, &self.k_proj, &self.v_proj, &self.o_proj].map(Linear::bytes).iter().sum()
    }

    /// Attention up to, not including, `o_proj`, for a batch of sequences of equal length.
    ///
    /// `x` is the normalised input `[batch · len, hidden]`. With `column_sums`, the attention that
    /// each new token receives is summed up tile by tile; no attention matrix is ever whole.
    pub(crate) fn attend(
        &self,
        x: &Tensor<B, 2>,
        batch: usize,
        angles: &Angles<B>,
        cache: &mut LayerCache<B>,
        column_sums: bool,
    ) -> Attended<B> {
        let len = x.dims()[0] / batch;
        let [queries, keys, values] = Linear::forward_each([&self.q_proj, &self.k_proj, &self.v_proj], x);
        let heads = self.heads;
        let queries = angles.rotate(queries, batch, heads.queries);
        let keys = angles.rotate(keys, batch, heads.keys);
        let values = plain::split_heads(values, batch, heads.keys);
        let past = cache.len();
        let buffers = cache.extend([keys, values]);
        let rows = [batch * len, heads.queries * heads.width];
        if len == 1 && !column_sums {
            let first = (past + 1).saturating_sub(heads.window.unwrap_or(usize::MAX));
            let context = decode_attention(queries, buffers, first..past + 1);
            return Attended { context: context.reshape(rows), received: None };
        }
        let [keys, values] = buffers.map(|buffer| buffer.narrow(2, 0, past + len));
        let mut received = column_sums.then(|| Tensor::zeros([batch, len], &x.device()));
        let mut contexts = Vec::with_capacity(len.div_ceil(TILE));
        for start in (0..len).step_by(TILE) {
            let tile = start..len.min(start + TILE);
            let attention = heads.weights(queries.clone().narrow(2, start, tile.len()), &keys, past + start);
            received = received.map(|received| add_column_sums(received, attention.clone(), past));
            let seen = past + tile.end;
            contexts.push(heads.mix(attention, values.clone().narrow(2, 0, seen)));
        }
        let context = Tensor::cat(contexts, 2).swap_dims(1, 2);
        Attended { context: context.reshape(rows), received }
    }
}

impl Heads {
    /// Those of a model.
    pub(crate) const fn new(config: &MixtralConfig) -> Self {
        Self {
            queries: config.num_attention_heads,
            keys: config.num_key_value_heads,
            width: config.head_dim,
            window: config.sliding_window,
        }
    }

    /// Attention of a whole sequence at once, from what it projects to, `[len, features]`, to the input of
    /// `o_proj`, `[len, heads · head_dim]`.
    pub(crate) fn attend<B: Backend>(self, projected: [Tensor<B, 2>; 3], angles: &Angles<B>) -> Tensor<B, 2> {
        let len = projected[0].dims()[0];
        let [queries, keys, values] = projected;
        let queries = angles.rotate_plain(queries, 1, self.queries);
        let keys = angles.rotate_plain(keys, 1, self.keys);
        let values = plain::split_heads(values, 1, self.keys);
        let context = self.mix(self.weights(queries, &keys, 0), values);
        context.swap_dims(1, 2).reshape([len, self.queries * self.width])
    }

    /// Attention weights of a tile of queries whose first is at position `first`:
    /// `[batch, heads, tile, positions up to the tile's end]`.
    fn weights<B: Backend>(self, queries: Tensor<B, 4>, keys: &Tensor<B, 4>, first: usize) -> Tensor<B, 4> {
        let [batch, heads, tile, width] = queries.dims();
        let seen = first + tile;
        let keys = keys.clone().narrow(2, 0, seen);
        // Query heads of a group lie side by side, so they fold into the rows of one product.
        let folded = queries.reshape([batch, self.keys, heads / self.keys * tile, width]);
        let mut scores = folded.matmul(keys.swap_dims(2, 3)).div_scalar((width as f64).sqrt());
        if let Some(mask) = self.mask(first..seen, &scores.device()) {
            scores = (scores.reshape([batch * heads, tile * seen]) + mask).reshape([
                batch,
                self.keys,
                heads / self.keys * tile,
                seen,
            ]);
        }
        softmax(scores.reshape([batch, heads, tile, seen]), 3)
    }

    /// `Σ A v` of a tile, `[batch, heads, tile, head_dim]`.
    fn mix<B: Backend>(self, attention: Tensor<B, 4>, values: Tensor<B, 4>) -> Tensor<B, 4> {
        let [batch, heads, tile, seen] = attention.dims();
        let folded = attention.reshape([batch, self.keys, heads / self.keys * tile, seen]);
        folded.matmul(values).reshape([batch, heads, tile, self.width])
    }

    /// `-∞` where a query may not look, `[1, queries · positions]`; `None` where all may.
    fn mask<B: Backend>(self, queries: Range<usize>, device: &B::Device) -> Option<Tensor<B, 2>> {
        let window = self.window.unwrap_or(usize::MAX);
        if queries.len() == 1 && queries.end <= window {
            return None;
        }
        let seen = queries.end;
        let visible = |query: usize, key: usize| key <= query && query - key < window;
        let value = |query, key| if visible(query, key) { 0.0 } else { f32::NEG_INFINITY };
        let values: Vec<f32> =
            queries.clone().flat_map(|query| (0..seen).map(move |key| value(query, key))).collect();
        Some(Tensor::from_data(TensorData::new(values, [1, queries.len() * seen]), device))
    }
}

/// Adds a tile's attention, averaged over heads and summed over queries, to the new tokens' totals.
fn add_column_sums<B: PackedOps>(
    received: Tensor<B, 2>,
    attention: Tensor<B, 4>,
    past: usize,
) -> Tensor<B, 2> {
    let ([batch, len], seen) = (received.dims(), attention.dims()[3]);
    let new = seen - past;
    let sums = attention.mean_dim(1).sum_dim(2).reshape([batch, seen]).narrow(1, past, new);
    let sums = received.clone().narrow(1, 0, new) + sums;
    if new == len { sums } else { Tensor::cat(vec![sums, received.narrow(1, new, len - new)], 1) }
}
