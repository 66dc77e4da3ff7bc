//! The burn backend extension: packed and 16-bit products on burn tensors.

use std::fmt::Debug;
use std::ops::Range;

use burn::tensor::backend::Backend as BurnBackend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorData, TensorPrimitive};
use burn_flex::{Flex, FlexTensor};

use crate::{Backend, DecodeAttention, DenseMatrix, ExpertWork, PackedMatrix, Precision};

/// What a burn backend needs so that models can run on packed weights.
///
/// Inputs are `f32`. Operations panic as burn's own operators do, when shapes do not match.
pub trait PackedOps: BurnBackend {
    /// A packed matrix where the backend's kernels can read it, with the precision of its inputs.
    type Packed: Clone + Send + Sync + Debug + 'static;

    /// A matrix that is not packed where the backend's kernels can read it.
    type Dense: Clone + Send + Sync + Debug + 'static;

    /// Brings a packed matrix to `device`. On the CPU this copies nothing.
    fn packed_from(matrix: PackedMatrix, precision: Precision, device: &Self::Device) -> Self::Packed;

    /// Brings a matrix that is not packed to `device`. On the CPU this copies nothing.
    fn dense_from(matrix: DenseMatrix, device: &Self::Device) -> Self::Dense;

    /// Bytes of a packed matrix.
    fn packed_bytes(weight: &Self::Packed) -> usize;

    /// Bytes of a matrix that is not packed.
    fn dense_bytes(weight: &Self::Dense) -> usize;

    /// `x Wᵀ`, `[tokens, rows]`, for each of `weights` at once; `x` is `[tokens, cols]`. The first
    /// weight's precision is that of all.
    fn packed_linear(x: FloatTensor<Self>, weights: &[&Self::Packed]) -> Vec<FloatTensor<Self>>;

    /// `x Wᵀ`, `[tokens, rows]`; `x` is `[tokens, cols]`.
    fn dense_linear(x: FloatTensor<Self>, weight: &Self::Dense) -> FloatTensor<Self>;

    /// Rows of a matrix, `[rows, cols]`.
    fn dense_rows(weight: &Self::Dense, rows: &[usize]) -> FloatTensor<Self>;

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

    /// The output of a block of experts, `[tokens, hidden]` like `x` ([`Backend::experts`]). The first
    /// gate's precision is that of all.
    fn packed_experts(x: FloatTensor<Self>, work: &[ExpertWork<'_, Self::Packed>]) -> FloatTensor<Self>;
}

/// `x Wᵀ` for each of `weights` on burn tensors: `x` is `[tokens, cols]`, results are `[tokens, rows]`.
///
/// # Panics
/// When `x`'s second dimension is not the number of columns of a weight.
pub fn packed_linear<B: PackedOps>(x: Tensor<B, 2>, weights: &[&B::Packed]) -> Vec<Tensor<B, 2>> {
    B::packed_linear(x.into_primitive().tensor(), weights).into_iter().map(tensor).collect()
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
pub fn dense_rows<B: PackedOps>(weight: &B::Dense, rows: &[usize]) -> Tensor<B, 2> {
    tensor(B::dense_rows(weight, rows))
}

/// The output of a block of experts on burn tensors, `[tokens, hidden]` like `x`.
///
/// # Panics
/// When the shapes of the experts do not fit together or to `x`.
pub fn packed_experts<B: PackedOps>(x: Tensor<B, 2>, work: &[ExpertWork<'_, B::Packed>]) -> Tensor<B, 2> {
    tensor(B::packed_experts(x.into_primitive().tensor(), work))
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

fn tensor<B: BurnBackend, const D: usize>(primitive: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

/// A packed matrix on the CPU with the precision of its inputs.
#[derive(Clone, Debug)]
pub struct CpuPacked {
    matrix: PackedMatrix,
    precision: Precision,
}

impl PackedOps for Flex {
    type Packed = CpuPacked;
    type Dense = DenseMatrix;

    fn packed_from(matrix: PackedMatrix, precision: Precision, _device: &Self::Device) -> CpuPacked {
        CpuPacked { matrix, precision }
    }

    fn dense_from(matrix: DenseMatrix, _device: &Self::Device) -> DenseMatrix {
        matrix
    }

    fn packed_bytes(weight: &CpuPacked) -> usize {
        weight.matrix.bytes().len()
    }

    fn dense_bytes(weight: &DenseMatrix) -> usize {
        weight.total_bytes()
    }

    fn packed_linear(x: FlexTensor, weights: &[&CpuPacked]) -> Vec<FlexTensor> {
        let Some(first) = weights.first() else { return vec![] };
        let (x, [tokens, _]) = host(&x);
        let matrices: Vec<&PackedMatrix> = weights.iter().map(|weight| &weight.matrix).collect();
        let products = backend().matmul(&matrices, slice(&x), first.precision).expect("shapes that match");
        let rows = matrices.iter().map(|matrix| matrix.shape().rows());
        products.into_iter().zip(rows).map(|(y, rows)| device(y, [tokens, rows])).collect()
    }

    fn dense_linear(x: FlexTensor, weight: &DenseMatrix) -> FlexTensor {
        let (x, [tokens, _]) = host(&x);
        let y = backend().dense_matmul(weight, slice(&x)).expect("shapes that match");
        device(y, [tokens, weight.rows()])
    }

    fn dense_rows(weight: &DenseMatrix, rows: &[usize]) -> FlexTensor {
        let values = rows.iter().flat_map(|&row| weight.row(row)).collect();
        device(values, [rows.len(), weight.cols()])
    }

    fn write_positions(mut buffer: FlexTensor, start: usize, new: FlexTensor) -> FlexTensor {
        assert!(buffer.is_contiguous() && buffer.layout().start_offset() == 0, "a buffer of its own");
        let new = new.to_contiguous();
        let [batch, heads, added, width] = [0, 1, 2, 3].map(|dim| new.layout().shape()[dim]);
        let [old_batch, old_heads, capacity, old_width] =
            [0, 1, 2, 3].map(|dim| buffer.layout().shape()[dim]);
        assert_eq!([batch, heads, width], [old_batch, old_heads, old_width], "positions of one shape");
        assert!(start + added <= capacity, "room for new positions");
        if added == 0 {
            return buffer;
        }
        let places = buffer.storage_mut::<f32>().chunks_exact_mut(capacity * width);
        for (place, new) in places.zip(slice(&new).chunks_exact(added * width)) {
            place[start * width..][..new.len()].copy_from_slice(new);
        }
        buffer
    }

    fn decode_attention(
        queries: FlexTensor,
        keys: FlexTensor,
        values: FlexTensor,
        seen: Range<usize>,
    ) -> FlexTensor {
        let (queries, keys, values) = (queries.to_contiguous(), keys.to_contiguous(), values.to_contiguous());
        let shape = [0, 1, 2, 3].map(|dim| queries.layout().shape()[dim]);
        assert_eq!(shape[2], 1, "decode_attention: more than one new token a sequence");
        let step = DecodeAttention {
            queries: slice(&queries),
            keys: slice(&keys),
            values: slice(&values),
            head_dim: shape[3],
            heads: shape[1],
            kv_heads: keys.layout().shape()[1],
            capacity: keys.layout().shape()[2],
            seen,
        };
        device(backend().decode_attention(&step).expect("shapes that match"), shape)
    }

    fn packed_experts(x: FlexTensor, work: &[ExpertWork<'_, CpuPacked>]) -> FlexTensor {
        let (x, [tokens, hidden]) = host(&x);
        let precision = work.first().map(|expert| expert.gate.precision).unwrap_or_default();
        let work: Vec<ExpertWork<'_>> = work
            .iter()
            .map(|&ExpertWork { gate, up, down, tokens, weights }| ExpertWork {
                gate: &gate.matrix,
                up: &up.matrix,
                down: &down.matrix,
                tokens,
                weights,
            })
            .collect();
        let y = backend().experts(&work, slice(&x), hidden, precision).expect("shapes that match");
        device(y, [tokens, hidden])
    }
}

/// The backend of the process; burn's operators have no errors to return.
fn backend() -> Backend {
    Backend::current().unwrap_or_else(|error| panic!("{}: {error}", Backend::VARIABLE))
}

/// A contiguous tensor of two dimensions.
fn host(x: &FlexTensor) -> (FlexTensor, [usize; 2]) {
    let x = x.to_contiguous();
    let shape = x.layout().shape();
    let dims = [shape[0], shape[1]];
    (x, dims)
}

fn slice(x: &FlexTensor) -> &[f32] {
    x.as_slice().expect("a contiguous tensor has a slice")
}

fn device<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::{BitWidth, DenseType, PackedShape};

    fn packed(rows: usize, cols: usize) -> PackedMatrix {
        let shape = PackedShape::new(rows, cols, BitWidth::B2, 32).unwrap();
        let codes: Vec<u8> = (0..rows * cols).map(|i| (i * 7 % 4) as u8).collect();
        let scales: Vec<f16> = (1..=shape.params()).map(|i| f16::from_f32(i as f32 / 4.0)).collect();
        let zeros = vec![f16::from_f32(1.5); shape.params()];
        PackedMatrix::pack(shape, &codes, &scales, &zeros).unwrap()
    }

    fn random_tensor(shape: [usize; 2]) -> Tensor<Flex, 2> {
        let x: Vec<f32> = (0..shape[0] * shape[1]).map(|i| (i % 5) as f32 - 2.0).collect();
        Tensor::from_data(TensorData::new(x, shape), &Default::default())
    }

    fn values(x: Tensor<Flex, 2>) -> Vec<f32> {
        x.into_data().to_vec().unwrap()
    }

    #[test]
    fn agrees_with_the_dense_product() {
        let (packed, device) = (packed(3, 16), Default::default());
        let dense = Tensor::<Flex, 2>::from_data(TensorData::new(packed.dequantize(), [3, 16]), &device);
        // A transposed, hence not contiguous, input.
        let x = random_tensor([16, 2]).transpose();
        let weight = Flex::packed_from(packed, Precision::F32, &device);
        let found = packed_linear(x.clone(), &[&weight, &weight]);
        let expected = values(x.matmul(dense.transpose()));
        for found in found {
            assert_eq!(values(found), expected);
        }
    }

    #[test]
    fn dense_matrices_are_read_where_they_lie() {
        let elements = [1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0];
        let bytes: Vec<u8> = elements.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect();
        let matrix = DenseMatrix::new(2, 3, DenseType::Bf16, bytes.into()).unwrap();
        let weight = Flex::dense_from(matrix, &Default::default());
        assert_eq!(
            values(dense_rows::<Flex>(&weight, &[1, 0, 1])),
            [4.0, 5.0, 6.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        );
        let x = Tensor::from_data(TensorData::new(vec![1.0_f32, 0.0, -1.0], [1, 3]), &Default::default());
        assert_eq!(values(dense_linear(x, &weight)), [-2.0, -2.0]);
    }

    #[test]
    fn positions_are_written() {
        let numbered = |shape: [usize; 4], from: f32| {
            let values: Vec<f32> = (0..shape.iter().product()).map(|i| i as f32 + from).collect();
            Tensor::<Flex, 4>::from_data(TensorData::new(values, shape), &Default::default())
        };
        let (buffer, new) = (numbered([1, 2, 3, 2], 0.0), numbered([1, 2, 1, 2], 100.0));
        let kept = buffer.clone();
        let written = write_positions(buffer, 1, new);
        let expected = [0.0, 1.0, 100.0, 101.0, 4.0, 5.0, 6.0, 7.0, 102.0, 103.0, 10.0, 11.0];
        assert_eq!(written.into_data().to_vec::<f32>().unwrap(), expected);
        // Whoever holds the buffer, too, sees no change.
        assert_eq!(kept.into_data().to_vec::<f32>().unwrap()[2], 2.0);
    }

    #[test]
    fn experts_run_on_tensors() {
        let device = Default::default();
        let on_device = |matrix| Flex::packed_from(matrix, Precision::F32, &device);
        let [gate, up, down] = [packed(8, 16), packed(8, 16), packed(16, 8)].map(on_device);
        let work = ExpertWork { gate: &gate, up: &up, down: &down, tokens: &[1], weights: &[0.5] };
        let x = random_tensor([2, 16]);
        let found = values(packed_experts(x.clone(), &[work]));
        let [g, u] = [&gate, &up].map(|w| packed_linear(x.clone(), &[w]).remove(0));
        let gated = burn::tensor::activation::silu(g) * u;
        let expected = values(packed_linear(gated, &[&down]).remove(0) * 0.5);
        assert_eq!(found[..16], [0.0; 16]);
        for (found, expected) in found[16..].iter().zip(&expected[16..]) {
            assert!((found - expected).abs() <= 1e-5 * expected.abs(), "{found} {expected}");
        }
    }
}
