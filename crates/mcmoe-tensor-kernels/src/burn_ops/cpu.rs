//! The CPU's kernels on the tensors of burn's CPU backend.

use std::ops::Range;

use burn::tensor::TensorData;
use burn_flex::{Flex, FlexTensor};

use super::{PackedOps, tensor};
use crate::routing::{RouteCounts, RouteRule, Routing, protected};
use crate::{Backend, DecodeAttention, DenseMatrix, ExpertWork, PackedMatrix, Precision};

/// A packed matrix on the CPU with the precision of its inputs.
#[derive(Clone, Debug)]
pub struct CpuPacked {
    matrix: PackedMatrix,
    precision: Precision,
}

/// An expert's gate, up and down projection on the CPU.
pub type CpuExpert = [CpuPacked; 3];

impl PackedOps for Flex {
    type Packed = CpuPacked;
    type Dense = DenseMatrix;
    type Experts = Vec<CpuExpert>;
    type Routes = Routing;
    type Tally = RouteCounts;

    const ON_HOST: bool = true;

    fn kernels(_device: &Self::Device) -> String {
        backend().to_string()
    }

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

    fn packed_rows(weight: &CpuPacked) -> usize {
        weight.matrix.shape().rows()
    }

    fn dense_sides(weight: &DenseMatrix) -> [usize; 2] {
        [weight.rows(), weight.cols()]
    }

    fn packed_linear(x: FlexTensor, weights: &[&CpuPacked]) -> Vec<FlexTensor> {
        let Some(first) = weights.first() else { return vec![] };
        let (x, [tokens, _]) = host(&x);
        let matrices: Vec<&PackedMatrix> = weights.iter().map(|weight| &weight.matrix).collect();
        let products = backend().matmul(&matrices, slice(&x), first.precision).expect("shapes that match");
        let rows = matrices.iter().map(|matrix| matrix.shape().rows());
        products.into_iter().zip(rows).map(|(y, rows)| device(y, [tokens, rows])).collect()
    }

    fn packed_weights(weight: &CpuPacked, _device: &Self::Device) -> FlexTensor {
        let shape = weight.matrix.shape();
        device(weight.matrix.dequantize(), [shape.rows(), shape.cols()])
    }

    fn dense_linear(x: FlexTensor, weight: &DenseMatrix) -> FlexTensor {
        let (x, [tokens, _]) = host(&x);
        let y = backend().dense_matmul(weight, slice(&x)).expect("shapes that match");
        device(y, [tokens, weight.rows()])
    }

    fn dense_rows(weight: &DenseMatrix, rows: &[usize], _device: &Self::Device) -> FlexTensor {
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

    fn experts_from(experts: &mut [[&mut CpuPacked; 3]], _device: &Self::Device) -> Option<Vec<CpuExpert>> {
        Some(experts.iter().map(|[gate, up, down]| [&**gate, up, down].map(CpuPacked::clone)).collect())
    }

    fn route(
        logits: FlexTensor,
        rule: RouteRule,
        protected: Option<FlexTensor>,
        tally: &mut RouteCounts,
    ) -> Routing {
        let (logits, [_, experts]) = host(&logits);
        let mut routing = Routing::from_logits(slice(&logits), experts, rule.top_k);
        if rule.threshold > 0.0 {
            let protected = protected.map(|protected| protected.to_contiguous());
            let protected = protected.iter().flat_map(|protected| slice(protected).iter());
            routing.prune(rule.threshold, &protected.map(|&flag| flag > 0.0).collect::<Vec<_>>());
        }
        tally.add(&routing, experts);
        routing
    }

    fn protect(x: FlexTensor, received: FlexTensor, count: usize) -> FlexTensor {
        let norms = tensor::<Flex, 2>(x).abs().sum_dim(1).into_primitive().tensor();
        let ((norms, [tokens, _]), (received, [_, len])) = (host(&norms), host(&received));
        let sequences = slice(&norms).chunks_exact(len).zip(slice(&received).chunks_exact(len));
        let protected = sequences.flat_map(|(norms, received)| protected(norms, received, count));
        device(protected.map(|flag| f32::from(u8::from(flag))).collect(), [tokens])
    }

    fn assigned(routes: &Routing, experts: usize) -> Vec<(Vec<usize>, Vec<f32>)> {
        (0..experts).map(|expert| routes.assigned(expert)).collect()
    }

    fn counts(tally: &RouteCounts) -> RouteCounts {
        tally.clone()
    }

    fn packed_experts(x: FlexTensor, experts: &Vec<CpuExpert>, routes: &Routing) -> FlexTensor {
        let (x, [tokens, hidden]) = host(&x);
        let precision = experts.first().map(|[gate, ..]| gate.precision).unwrap_or_default();
        let assigned = Self::assigned(routes, experts.len());
        let work: Vec<ExpertWork<'_>> = experts
            .iter()
            .zip(&assigned)
            .filter(|(_, (tokens, _))| !tokens.is_empty())
            .map(|([gate, up, down], (tokens, weights))| ExpertWork {
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

    use burn::tensor::Tensor;

    use super::*;
    use crate::{
        BitWidth, DenseType, PackedShape, dense_linear, dense_rows, packed_experts, packed_linear, route,
        write_positions,
    };

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
            values(dense_rows::<Flex>(&weight, &[1, 0, 1], &Default::default())),
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
        let [mut gate, mut up, mut down] = [packed(8, 16), packed(8, 16), packed(16, 8)].map(on_device);
        let experts = Flex::experts_from(&mut [[&mut gate, &mut up, &mut down]], &device).unwrap();
        let x = random_tensor([2, 16]);
        let logits = Tensor::<Flex, 2>::zeros([2, 1], &device);
        let mut tally = RouteCounts::default();
        let routes = route(logits, RouteRule::new(1), None, &mut tally);
        assert_eq!((tally.activations, tally.passes), (2, vec![1]));
        let found = values(packed_experts(x.clone(), &experts, &routes));
        let [g, u] = [&gate, &up].map(|w| packed_linear(x.clone(), &[w]).remove(0));
        let gated = burn::tensor::activation::silu(g) * u;
        let expected = values(packed_linear(gated, &[&down]).remove(0));
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() <= 1e-5 * expected.abs(), "{found} {expected}");
        }
    }
}
