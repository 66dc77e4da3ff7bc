//! A linear layer whose weight is dense, left as it is stored, or packed.

use burn::tensor::Tensor;
use mcmoe_quant::{DenseMatrix, PackedMatrix, Precision};
use mcmoe_tensor_kernels::{PackedOps, dense_linear, packed_linear};

use super::from_host;

/// `y = x Wᵀ`, without bias.
#[derive(Clone, Debug)]
pub enum Linear<B: PackedOps> {
    /// `f32` weights `[out, in]`.
    Dense(Tensor<B, 2>),
    /// Weights `[out, in]` of the type that they have in their file, where they are mapped.
    Stored(B::Dense),
    /// Packed codes with scales and zero points.
    Packed(B::Packed),
}

impl<B: PackedOps> Linear<B> {
    /// A dense layer from row-major weights `[rows, cols]`.
    pub fn dense(weights: Vec<f32>, rows: usize, cols: usize, device: &B::Device) -> Self {
        Self::Dense(from_host(weights, [rows, cols], device))
    }

    /// A layer that reads its weights where they are stored.
    pub fn stored(matrix: DenseMatrix, device: &B::Device) -> Self {
        Self::Stored(B::dense_from(matrix, device))
    }

    /// A packed layer whose inputs enter with `precision`.
    pub fn packed(matrix: PackedMatrix, precision: Precision, device: &B::Device) -> Self {
        Self::Packed(B::packed_from(matrix, precision, device))
    }

    /// Applies the layer to `x` of `[tokens, in]`, giving `[tokens, out]`.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        match self {
            Self::Dense(weight) => x.matmul(weight.clone().transpose()),
            Self::Stored(weight) => dense_linear(x, weight),
            Self::Packed(weight) => packed_linear(x, &[weight]).remove(0),
        }
    }

    /// Applies several layers to the same `x`, packed ones in one piece of work.
    pub(crate) fn forward_each<const N: usize>(layers: [&Self; N], x: &Tensor<B, 2>) -> [Tensor<B, 2>; N] {
        let packed: Vec<&B::Packed> = layers.iter().filter_map(|layer| layer.as_packed()).collect();
        let outputs = if packed.len() == N { packed_linear(x.clone(), &packed) } else { vec![] };
        outputs.try_into().unwrap_or_else(|_| layers.map(|layer| layer.forward(x.clone())))
    }

    /// Bytes of its weights.
    pub(crate) fn bytes(&self) -> u64 {
        let bytes = match self {
            Self::Dense(weight) => weight.shape().num_elements() * size_of::<f32>(),
            Self::Stored(weight) => B::dense_bytes(weight),
            Self::Packed(weight) => B::packed_bytes(weight),
        };
        bytes as u64
    }

    /// The dense weight, if it is one.
    pub(crate) const fn as_dense(&self) -> Option<&Tensor<B, 2>> {
        match self {
            Self::Dense(weight) => Some(weight),
            _ => None,
        }
    }

    /// The packed weight, if it is one.
    pub(crate) const fn as_packed(&self) -> Option<&B::Packed> {
        match self {
            Self::Packed(weight) => Some(weight),
            _ => None,
        }
    }

    /// The packed weight, if it is one, to be moved.
    pub(crate) const fn as_packed_mut(&mut self) -> Option<&mut B::Packed> {
        match self {
            Self::Packed(weight) => Some(weight),
            _ => None,
        }
    }
}
