//! Keys and values of the tokens so far.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use crate::MixtralError;

/// Positions that a cache grows by at least.
const MIN_GROWTH: usize = 64;

/// The KV cache of a batch of sequences of equal length, one entry a layer.
#[derive(Clone, Debug)]
pub struct KvCache<B: Backend> {
    layers: Vec<LayerCache<B>>,
}

/// Keys and values of one layer, `[batch, kv_heads, capacity, head_dim]`, filled up to `len`.
#[derive(Clone, Debug)]
pub(crate) struct LayerCache<B: Backend> {
    buffers: Option<[Tensor<B, 4>; 2]>,
    len: usize,
}

impl<B: Backend> KvCache<B> {
    /// An empty cache for a model of `layers` layers.
    pub fn new(layers: usize) -> Self {
        Self { layers: vec![LayerCache::empty(); layers] }
    }

    /// Tokens in the cache.
    pub fn len(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.len)
    }

    /// Whether no token is cached.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes sure that the cache belongs to a model of `layers` layers and a batch of `batch` sequences.
    pub(crate) fn check(&self, layers: usize, batch: usize) -> Result<(), MixtralError> {
        let filled = self.layers.first().and_then(|layer| layer.buffers.as_ref());
        let held = filled.map_or(batch, |[keys, _]| keys.dims()[0]);
        if self.layers.len() == layers && held == batch {
            return Ok(());
        }
        let found = self.layers.len();
        let reason = format!(
            "the cache holds {held} sequences in {found} layers where {batch} in {layers} are needed"
        );
        Err(MixtralError::option("cache", reason))
    }

    pub(crate) fn layer(&mut self, layer: usize) -> &mut LayerCache<B> {
        &mut self.layers[layer]
    }
}

impl<B: Backend> LayerCache<B> {
    pub(crate) const fn empty() -> Self {
        Self { buffers: None, len: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Adds the new tokens' keys and values and returns those of all tokens.
    pub(crate) fn extend(&mut self, new: [Tensor<B, 4>; 2]) -> [Tensor<B, 4>; 2] {
        let [batch, heads, added, width] = new[0].dims();
        let end = self.len + added;
        let buffers = match self.buffers.take() {
            None => new,
            Some(buffers) => {
                let capacity = buffers[0].dims()[2];
                let grown = if end > capacity { grow(buffers, end - capacity) } else { buffers };
                let place = [0..batch, 0..heads, self.len..end, 0..width];
                let [mut keys, mut values] = grown;
                let [new_keys, new_values] = new;
                keys = keys.slice_assign(place.clone(), new_keys);
                values = values.slice_assign(place, new_values);
                [keys, values]
            }
        };
        self.len = end;
        let filled = buffers.clone().map(|buffer| buffer.narrow(2, 0, end));
        self.buffers = Some(buffers);
        filled
    }
}

/// Makes room for `missing` more positions, or for as many again as there are.
fn grow<B: Backend>(buffers: [Tensor<B, 4>; 2], missing: usize) -> [Tensor<B, 4>; 2] {
    buffers.map(|buffer| {
        let [batch, heads, capacity, width] = buffer.dims();
        let more = missing.max(capacity).max(MIN_GROWTH);
        let room = Tensor::zeros([batch, heads, more, width], &buffer.device());
        Tensor::cat(vec![buffer, room], 2)
    })
}
