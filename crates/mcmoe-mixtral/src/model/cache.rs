//! Keys and values of the tokens so far.

use burn::tensor::{Distribution, Tensor};
use mcmoe_tensor_kernels::{PackedOps, write_positions};

use crate::{MixtralConfig, MixtralError};

/// Positions that a cache grows by at least.
const MIN_GROWTH: usize = 64;

/// The KV cache of a batch of sequences of equal length, one entry a layer.
#[derive(Clone, Debug)]
pub struct KvCache<B: PackedOps> {
    layers: Vec<LayerCache<B>>,
}

/// Keys and values of one layer, `[batch, kv_heads, capacity, head_dim]`, filled up to `len`.
#[derive(Clone, Debug)]
pub(crate) struct LayerCache<B: PackedOps> {
    buffers: Option<[Tensor<B, 4>; 2]>,
    len: usize,
    /// What became of the experts of the layer.
    pub(crate) tally: B::Tally,
}

impl<B: PackedOps> KvCache<B> {
    /// An empty cache for a model of `layers` layers.
    pub fn new(layers: usize) -> Self {
        Self { layers: vec![LayerCache::empty(); layers] }
    }

    /// A cache of `len` random positions, with room for `room` more, for one sequence.
    pub(crate) fn synthetic(config: &MixtralConfig, len: usize, room: usize, devices: &[B::Device]) -> Self {
        let layer = |device| {
            let shape = [1, config.num_key_value_heads, len + room, config.head_dim];
            let random = || Tensor::random(shape, Distribution::Normal(0.0, 1.0), device);
            LayerCache { buffers: Some([random(), random()]), len, tally: B::Tally::default() }
        };
        Self { layers: devices.iter().map(layer).collect() }
    }

    /// Forgets all but the first `len` tokens.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.layers.iter_mut().for_each(|layer| layer.len = layer.len.min(len));
    }

    /// Tokens in the cache.
    pub fn len(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.len)
    }

    /// Whether no token is cached.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes sure that the cache belongs to a model of this shape and a batch of `batch` sequences.
    pub(crate) fn check(&self, config: &MixtralConfig, batch: usize) -> Result<(), MixtralError> {
        let layers = config.num_hidden_layers;
        let filled = self.layers.first().and_then(|layer| layer.buffers.as_ref());
        let wanted = [batch, config.num_key_value_heads, config.head_dim];
        let [held, heads, width] = filled.map_or(wanted, |[keys, _]| [0, 1, 3].map(|dim| keys.dims()[dim]));
        if self.layers.len() == layers && [held, heads, width] == wanted {
            return Ok(());
        }
        let found = self.layers.len();
        let reason = format!(
            "the cache holds {held} sequences of {heads} heads of {width} features in {found} layers where \
             {batch} of {} heads of {} in {layers} are needed",
            config.num_key_value_heads, config.head_dim
        );
        Err(MixtralError::option("cache", reason))
    }

    pub(crate) fn layer(&mut self, layer: usize) -> &mut LayerCache<B> {
        &mut self.layers[layer]
    }
}

impl<B: PackedOps> LayerCache<B> {
    pub(crate) fn empty() -> Self {
        Self { buffers: None, len: 0, tally: B::Tally::default() }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Adds the new tokens' keys and values and returns the buffers, filled up to
    /// [`LayerCache::len`].
    pub(crate) fn extend(&mut self, new: [Tensor<B, 4>; 2]) -> [Tensor<B, 4>; 2] {
        let [batch, heads, added, width] = new[0].dims();
        let (start, end) = (self.len, self.len + added);
        let empty = || Tensor::zeros([batch, heads, 0, width], &new[0].device());
        let buffers = self.buffers.take().unwrap_or_else(|| [empty(), empty()]);
        let missing = end.saturating_sub(buffers[0].dims()[2]);
        let [keys, values] = if missing > 0 { grow(buffers, missing) } else { buffers };
        let [new_keys, new_values] = new;
        let buffers = [write_positions(keys, start, new_keys), write_positions(values, start, new_values)];
        self.len = end;
        self.buffers.insert(buffers).clone()
    }
}

/// Makes room for `missing` more positions and some to come: few enough that the cache stays close to
/// the size of what it holds.
fn grow<B: PackedOps>(buffers: [Tensor<B, 4>; 2], missing: usize) -> [Tensor<B, 4>; 2] {
    buffers.map(|buffer| {
        let [batch, heads, capacity, width] = buffer.dims();
        let needed = capacity + missing;
        let room = needed + (needed / 8).max(MIN_GROWTH);
        let grown = Tensor::zeros([batch, heads, room, width], &buffer.device());
        if capacity == 0 { grown } else { write_positions(grown, 0, buffer) }
    })
}
