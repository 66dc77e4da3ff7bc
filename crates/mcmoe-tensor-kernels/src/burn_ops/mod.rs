//! The burn backend extension: packed and 16-bit products on burn tensors.

mod cpu;
pub mod plain;

use std::fmt::Debug;
use std::ops::Range;

use burn::tensor::backend::Backend as BurnBackend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorPrimitive};

pub use cpu::{CpuExpert, CpuPacked};

#[cfg(doc)]
use crate::Backend;
use crate::routing::{RouteCounts, RouteRule};
use crate::{DenseMatrix, PackedMatrix, Precision};

/// What a burn backend needs so that models can run on packed weights.
///
/// Inputs are `f32`. Operations panic as burn's own operators do, when shapes do not match.
pub trait PackedOps: BurnBackend {
    /// A packed matrix where the backend's kernels can read it, with the precision of its inputs.
    type Packed: Clone + Send + Sync + Debug + 'static;

    /// A matrix that is not packed where the backend's kernels can read it.
    type Dense: Clone + Send + Sync + Debug + 'static;

    /// The experts of a block, ready to be one piece of work.
    type Experts: Clone + Send + Sync + Debug + 'static;

    /// Which experts the tokens of a batch go to.
    type Routes: Send + Debug;

    /// What happened to the experts of a layer so far.
    type Tally: Clone + Default + Send + Sync + Debug + 'static;

    /// Whether tensors lie in the host's memory.
    const ON_HOST: bool = false;

    /// What computes.
    fn kernels(device: &Self::Device) -> String {
        format!("{} on {device:?}", Self::name(device))
    }

    /// Bytes of its own memory that a device has taken so far, if it has any and tells.
    fn device_memory(_device: &Self::Device) -> Option<u64> {
        None
    }

    /// Brings a packed matrix to `device`. On the CPU this copies nothing.
    fn packed_from(matrix: PackedMatrix, precision: Precision, device: &Self::Device) -> Self::Packed;

    /// Brings a matrix that is not packed to `device`. On the CPU this copies nothing.
    fn dense_from(matrix: DenseMatrix, device: &Self::Device) -> Self::Dense;

    /// Bytes of a packed matrix.
    fn packed_bytes(weight: &Self::Packed) -> usize;

    /// Bytes of a matrix that is not packed.
    fn dense_bytes(weight: &Self::Dense) -> usize;

    /// Rows of a packed matrix.
    fn packed_rows(weight: &Self::Packed) -> usize;

    /// Rows and columns of a matrix that is not packed.
    fn dense_sides(weight: &Self::Dense) -> [usize; 2];

    /// `x Wᵀ`, `[tokens, rows]`, for each of `weights` at once; `x` is `[tokens, cols]`. The first
    /// weight's precision is that of all.
    fn packed_linear(x: FloatTensor<Self>, weights: &[&Self::Packed]) -> Vec<FloatTensor<Self>>;

    /// The weights that a packed matrix stands for, `[rows, cols]`.
    fn packed_weights(weight: &Self::Packed, device: &Self::Device) -> FloatTensor<Self>;

    /// `x Wᵀ`, `[tokens, rows]`; `x` is `[tokens, cols]`.
    fn dense_linear(x: FloatTensor<Self>, weight: &Self::Dense) -> FloatTensor<Self>;

    /// Rows of a matrix, `[rows, cols]`.
    fn dense_rows(weight: &Self::Dense, rows: &[usize], device: &Self::Device) -> FloatTensor<Self>;

    /// Writes `new`, `[batch, heads, added, width]`, to the positions from `start` on of a contiguous
    /// `buffer`, `[batch, heads, capacity, width]`: in place if nobody else holds it.
    fn write_positions(buffer: FloatTensor<Self>, start: usize, new: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Attention of one new token a sequence, `[batch, heads, 1, head_dim]` like `queries`, over the
    /// positions `seen` of caches `[batch, kv_heads, capacity, head_dim]`.
    fn decode_attention(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        seen: Range<usize>,
    ) -> FloatTensor<Self>;

    /// Puts experts together, each its gate, up and down projection: `None` if their codes cannot be one piece
    /// of work. On a GPU the matrices move to one stretch of memory.
    fn experts_from(experts: &mut [[&mut Self::Packed; 3]], device: &Self::Device) -> Option<Self::Experts>;

    /// Chooses experts by router logits, `[tokens, experts]`, and adds the choice to `tally`. Tokens for which
    /// `protected`, `[tokens]`, is above zero keep all.
    fn route(
        logits: FloatTensor<Self>,
        rule: RouteRule,
        protected: Option<FloatTensor<Self>>,
        tally: &mut Self::Tally,
    ) -> Self::Routes;

    /// 1 for the `count` most important tokens of each sequence, else 0, `[tokens]`, by the ℓ₁ norms of the
    /// experts' inputs `x`, `[tokens, hidden]`, and the attention `received`, `[sequences, len]`.
    fn protect(x: FloatTensor<Self>, received: FloatTensor<Self>, count: usize) -> FloatTensor<Self>;

    /// The tokens of each expert and its weights for them, on the host.
    fn assigned(routes: &Self::Routes, experts: usize) -> Vec<(Vec<usize>, Vec<f32>)>;

    /// What `tally` has counted.
    fn counts(tally: &Self::Tally) -> RouteCounts;

    /// The output of a block of experts, `[tokens, hidden]` like `x` ([`Backend::experts`]). The first
    /// gate's precision is that of all.
    fn packed_experts(
        x: FloatTensor<Self>,
        experts: &Self::Experts,
        routes: &Self::Routes,
    ) -> FloatTensor<Self>;

    /// `x / sqrt(mean(x²) + ε) · weight` for every row of `x`, `[tokens, features]`.
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f64) -> FloatTensor<Self> {
        plain::rms_norm(tensor::<Self, 2>(x), tensor(weight), eps).into_primitive().tensor()
    }

    /// Splits `x`, `[batch · len, heads · width]`, into heads and rotates them by their positions:
    /// `[batch, heads, len, width]`. Cosines and sines are `[1, len · width]`.
    fn rotate_heads(
        x: FloatTensor<Self>,
        [cos, sin]: [FloatTensor<Self>; 2],
        [batch, heads]: [usize; 2],
    ) -> FloatTensor<Self> {
        let heads = plain::split_heads(tensor::<Self, 2>(x), batch, heads);
        plain::rotate_heads(heads, &tensor(cos), &tensor(sin)).into_primitive().tensor()
    }
}

/// `x Wᵀ` for each of `weights` on burn tensors: `x` is `[tokens, cols]`, results are `[tokens, rows]`.
///
/// # Panics
/// When `x`'s second dimension is not the number of columns of a weight.
pub fn packed_linear<B: PackedOps>(x: Tensor<B, 2>, weights: &[&B::Packed]) -> Vec<Tensor<B, 2>> {
    B::packed_linear(x.into_primitive().tensor(), weights).into_iter().map(tensor).collect()
}

/// The weights that a packed matrix stands for as a burn tensor, `[rows, cols]`.
pub fn packed_weights<B: PackedOps>(weight: &B::Packed, device: &B::Device) -> Tensor<B, 2> {
    tensor(B::packed_weights(weight, device))
}

/// `x Wᵀ` on burn tensors for a matrix that is not packed.
///
/// # Panics
/// As [`packed_linear`].
pub fn dense_linear<B: PackedOps>(x: Tensor<B, 2>, weight: &B::Dense) -> Tensor<B, 2> {
    tensor(B::dense_linear(x.into_primitive().tensor(), weight))
}

/// Rows of a matrix as a burn tensor, `[rows, cols]`.
///
/// # Panics
/// If there is no such row.
pub fn dense_rows<B: PackedOps>(weight: &B::Dense, rows: &[usize], device: &B::Device) -> Tensor<B, 2> {
    tensor(B::dense_rows(weight, rows, device))
}

/// The output of a block of experts on burn tensors, `[tokens, hidden]` like `x`.
///
/// # Panics
/// When the shapes of the experts do not fit together or to `x`.
pub fn packed_experts<B: PackedOps>(
    x: Tensor<B, 2>,
    experts: &B::Experts,
    routes: &B::Routes,
) -> Tensor<B, 2> {
    tensor(B::packed_experts(x.into_primitive().tensor(), experts, routes))
}

/// Chooses experts by router logits on burn tensors ([`PackedOps::route`]).
///
/// # Panics
/// When there are fewer experts than a token needs.
pub fn route<B: PackedOps>(
    logits: Tensor<B, 2>,
    rule: RouteRule,
    protected: Option<Tensor<B, 1>>,
    tally: &mut B::Tally,
) -> B::Routes {
    let protected = protected.map(|protected| protected.into_primitive().tensor());
    B::route(logits.into_primitive().tensor(), rule, protected, tally)
}

/// The most important tokens on burn tensors ([`PackedOps::protect`]).
///
/// # Panics
/// When the shapes do not match.
pub fn protect<B: PackedOps>(x: Tensor<B, 2>, received: Tensor<B, 2>, count: usize) -> Tensor<B, 1> {
    tensor(B::protect(x.into_primitive().tensor(), received.into_primitive().tensor(), count))
}

/// `x / sqrt(mean(x²) + ε) · weight` for every row of `x` on burn tensors ([`PackedOps::rms_norm`]).
///
/// # Panics
/// When the shapes do not match.
pub fn rms_norm<B: PackedOps>(x: Tensor<B, 2>, weight: Tensor<B, 1>, eps: f64) -> Tensor<B, 2> {
    tensor(B::rms_norm(x.into_primitive().tensor(), weight.into_primitive().tensor(), eps))
}

/// Splits burn tensors into heads and rotates these ([`PackedOps::rotate_heads`]).
///
/// # Panics
/// When the shapes do not match.
pub fn rotate_heads<B: PackedOps>(
    x: Tensor<B, 2>,
    angles: [Tensor<B, 2>; 2],
    batch_and_heads: [usize; 2],
) -> Tensor<B, 4> {
    let angles = angles.map(|angles| angles.into_primitive().tensor());
    tensor(B::rotate_heads(x.into_primitive().tensor(), angles, batch_and_heads))
}

/// Writes positions of a buffer of burn tensors ([`PackedOps::write_positions`]).
///
/// # Panics
/// When the shapes do not match.
pub fn write_positions<B: PackedOps>(buffer: Tensor<B, 4>, start: usize, new: Tensor<B, 4>) -> Tensor<B, 4> {
    let (buffer, new) = (buffer.into_primitive().tensor(), new.into_primitive().tensor());
    tensor(B::write_positions(buffer, start, new))
}

/// Attention of a decode step on burn tensors ([`PackedOps::decode_attention`]).
///
/// # Panics
/// When the shapes do not match.
pub fn decode_attention<B: PackedOps>(
    queries: Tensor<B, 4>,
    [keys, values]: [Tensor<B, 4>; 2],
    seen: Range<usize>,
) -> Tensor<B, 4> {
    let primitive = |tensor: Tensor<B, 4>| tensor.into_primitive().tensor();
    tensor(B::decode_attention(primitive(queries), primitive(keys), primitive(values), seen))
}

pub(crate) fn tensor<B: BurnBackend, const D: usize>(primitive: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}
