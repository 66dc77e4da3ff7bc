//! The model on burn tensors: embedding, decoder layers, head.
//!
//! ```text
//! tokens → embed → [ norm → attention → + → norm → router → experts → + ] × L → norm → lm_head → logits
//! ```
//! Weights are dense or packed ([`Linear`]); everything else is the same for both.

mod attention;
mod cache;
mod expert;
mod forward;
mod layer;
mod linear;
mod load;
mod moe;
mod norm;
mod pruning;
mod rope;
mod router;

pub use attention::Attention;
pub(crate) use attention::Heads;
pub use cache::KvCache;
pub(crate) use cache::LayerCache;
pub use expert::Expert;
pub(crate) use expert::gated;
pub use forward::{Mixtral, Trace};
pub(crate) use forward::{Places, check_tokens, embed};
pub use layer::{DecoderLayer, Sequences};
pub use linear::Linear;
pub use load::{LayerWidths, Packing, WeightSource, names};
pub(crate) use load::{check_kernels, weight};
pub use moe::MoeBlock;
pub(crate) use moe::Picked;
pub use norm::RmsNorm;
pub use pruning::{Activations, Pruning};
pub use rope::{Angles, Rope};
pub use router::Router;

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
pub use mcmoe_tensor_kernels::Routing;

/// A tensor's elements on the host, row-major.
pub(crate) fn to_host<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().into_vec().expect("converted to f32 just before")
}

/// A tensor on `device`, by way of the host: not every card can reach the memory of another.
pub(crate) fn moved<B: Backend, const D: usize>(tensor: Tensor<B, D>, device: &B::Device) -> Tensor<B, D> {
    if tensor.device() == *device { tensor } else { Tensor::from_data(tensor.into_data(), device) }
}

/// A tensor from elements on the host.
pub(crate) fn from_host<B: Backend, const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
    device: &B::Device,
) -> Tensor<B, D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}
