//! The burn backend extension: packed products on burn tensors.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorPrimitive};
use burn_flex::{Flex, FlexTensor};

use crate::{PackedMatrix, matmul};

/// What a burn backend needs so that models can run on packed weights.
pub trait PackedOps: Backend {
    /// A packed matrix where the backend's kernels can read it.
    type Packed: Clone + Send + Sync + std::fmt::Debug + 'static;

    /// Brings a packed matrix to `device`. On the CPU this copies nothing.
    fn packed_from(matrix: PackedMatrix, device: &Self::Device) -> Self::Packed;

    /// `x Wᵀ` for `x` of `[tokens, cols]` (`f32`), giving `[tokens, rows]`.
    ///
    /// # Panics
    /// As burn's own operators do, when the shapes do not match.
    fn packed_linear(x: FloatTensor<Self>, weight: &Self::Packed) -> FloatTensor<Self>;
}

/// `x Wᵀ` on burn tensors: `x` is `[tokens, cols]`, the result `[tokens, rows]`.
///
/// # Panics
/// When `x`'s second dimension is not the number of columns of `weight`.
pub fn packed_linear<B: PackedOps>(x: Tensor<B, 2>, weight: &B::Packed) -> Tensor<B, 2> {
    let y = B::packed_linear(x.into_primitive().tensor(), weight);
    Tensor::from_primitive(TensorPrimitive::Float(y))
}

impl PackedOps for Flex {
    type Packed = PackedMatrix;

    fn packed_from(matrix: PackedMatrix, _device: &Self::Device) -> PackedMatrix {
        matrix
    }

    fn packed_linear(x: FlexTensor, weight: &PackedMatrix) -> FlexTensor {
        let x = x.to_contiguous();
        let (rows, cols) = (weight.shape().rows(), weight.shape().cols());
        let shape = x.layout().shape();
        assert_eq!(shape[shape.num_dims() - 1], cols, "packed_linear: inputs do not match the weight");
        let input: &[f32] = x.as_slice().expect("a contiguous tensor has a slice");
        let tokens = input.len() / cols;
        let mut y = vec![0.0_f32; tokens * rows];
        matmul(weight, input, &mut y).expect("lengths follow from the shapes");
        FlexTensor::from_data(burn::tensor::TensorData::new(y, [tokens, rows]))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;
    use half::f16;

    use super::*;
    use crate::{BitWidth, PackedShape};

    #[test]
    fn agrees_with_the_dense_product() {
        let shape = PackedShape::new(3, 16, BitWidth::B2, 8).unwrap();
        let codes: Vec<u8> = (0..48).map(|i| (i * 7 % 4) as u8).collect();
        let scales: Vec<f16> = (1..=6).map(|i| f16::from_f32(i as f32 / 4.0)).collect();
        let packed = PackedMatrix::pack(shape, &codes, &scales, &[f16::from_f32(1.5); 6]).unwrap();
        let device = Default::default();
        let dense = Tensor::<Flex, 2>::from_data(TensorData::new(packed.dequantize(), [3, 16]), &device);
        // A transposed, hence not contiguous, input.
        let x: Vec<f32> = (0..32).map(|i| (i % 5) as f32 - 2.0).collect();
        let x = Tensor::<Flex, 2>::from_data(TensorData::new(x, [16, 2]), &device).transpose();
        let weight = Flex::packed_from(packed, &device);
        let found = packed_linear(x.clone(), &weight).into_data();
        let expected = x.matmul(dense.transpose()).into_data();
        assert_eq!(found.to_vec::<f32>().unwrap(), expected.to_vec::<f32>().unwrap());
    }
}
