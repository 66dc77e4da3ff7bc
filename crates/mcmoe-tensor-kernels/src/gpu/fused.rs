//! [`PackedOps`] under burn's fusion: our operations run as they are, between those that it fuses.

use std::fmt;
use std::ops::Range;

use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{DType, Shape, TensorMetadata as _};
use burn_fusion::stream::{Operation, OperationStreams};
use burn_fusion::{Fusion, FusionBackend, FusionTensor, get_client};
use burn_ir::{CustomOpIr, HandleContainer, OperationIr, TensorIr};

use super::routes::{GpuRoutes, GpuTally, RouteSize, assigned, counts};
use crate::burn_ops::PackedOps;
use crate::routing::{RouteCounts, RouteRule};
use crate::{DenseMatrix, PackedMatrix, Precision};

/// The backend below hands out its tensors in containers of this type.
type Handles<B> = HandleContainer<<B as burn_ir::BackendIr>::Handle>;

/// One of our operations as fusion holds it.
struct Ours<F> {
    name: &'static str,
    ir: CustomOpIr,
    run: F,
}

impl<F> fmt::Debug for Ours<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl<B, F> Operation<B> for Ours<F>
where
    B: burn_fusion::FusionRuntime,
    F: Fn(&CustomOpIr, &mut HandleContainer<B::FusionHandle>) + Send + Sync,
{
    fn execute(&self, handles: &mut HandleContainer<B::FusionHandle>) {
        (self.run)(&self.ir, handles);
    }
}

/// Registers an operation that makes tensors of the shapes and types `outputs` out of `inputs`.
fn register<B: FusionBackend>(
    name: &'static str,
    device: &B::Device,
    inputs: Vec<FusionTensor<B::FusionRuntime>>,
    outputs: Vec<(Shape, DType)>,
    run: impl Fn(&CustomOpIr, &mut Handles<B>) + Send + Sync + 'static,
) -> Vec<FusionTensor<B::FusionRuntime>> {
    let client = get_client::<B>(device);
    let streams = OperationStreams::with_inputs(inputs.iter());
    let inputs: Vec<TensorIr> = inputs.into_iter().map(FusionTensor::into_ir).collect();
    let new = |(shape, dtype)| TensorIr::uninit(client.create_empty_handle(), shape, dtype);
    let outputs: Vec<TensorIr> = outputs.into_iter().map(new).collect();
    let ir = CustomOpIr::new(name, &inputs, &outputs);
    client.register(streams, OperationIr::Custom(ir.clone()), Ours { name, ir, run })
}

/// As [`register`], for operations on floats that make one tensor.
fn simple<B: FusionBackend, const N: usize>(
    name: &'static str,
    inputs: [FusionTensor<B::FusionRuntime>; N],
    shape: impl Into<Shape>,
    run: impl Fn([FloatTensor<B>; N]) -> FloatTensor<B> + Send + Sync + 'static,
) -> FusionTensor<B::FusionRuntime> {
    let (device, dtype) = (inputs[0].client.device().clone(), inputs[0].dtype);
    let run = move |ir: &CustomOpIr, handles: &mut Handles<B>| {
        let inputs = std::array::from_fn(|i| handles.get_float_tensor::<B>(&ir.inputs[i]));
        handles.register_float_tensor::<B>(&ir.outputs[0].id, run(inputs));
    };
    register::<B>(name, &device, inputs.into(), vec![(shape.into(), dtype)], run).remove(0)
}

/// The sides of a tensor.
fn dims<B: FusionBackend, const D: usize>(tensor: &FusionTensor<B::FusionRuntime>) -> [usize; D] {
    std::array::from_fn(|dim| tensor.shape[dim])
}

impl<B> PackedOps for Fusion<B>
where
    B: FusionBackend + PackedOps<Routes = GpuRoutes<B>, Tally = GpuTally<B>>,
{
    type Packed = B::Packed;
    type Dense = B::Dense;
    type Experts = B::Experts;
    type Routes = GpuRoutes<Self>;
    type Tally = GpuTally<Self>;

    fn device_memory(device: &Self::Device) -> Option<u64> {
        B::device_memory(device)
    }

    fn packed_from(matrix: PackedMatrix, precision: Precision, device: &Self::Device) -> B::Packed {
        B::packed_from(matrix, precision, device)
    }

    fn dense_from(matrix: DenseMatrix, device: &Self::Device) -> B::Dense {
        B::dense_from(matrix, device)
    }

    fn packed_bytes(weight: &B::Packed) -> usize {
        B::packed_bytes(weight)
    }

    fn dense_bytes(weight: &B::Dense) -> usize {
        B::dense_bytes(weight)
    }

    fn packed_rows(weight: &B::Packed) -> usize {
        B::packed_rows(weight)
    }

    fn dense_sides(weight: &B::Dense) -> [usize; 2] {
        B::dense_sides(weight)
    }

    fn experts_from(experts: &mut [[&mut B::Packed; 3]], device: &Self::Device) -> Option<B::Experts> {
        B::experts_from(experts, device)
    }

    fn packed_linear(x: FloatTensor<Self>, weights: &[&B::Packed]) -> Vec<FloatTensor<Self>> {
        let (device, [tokens, _]) = (x.client.device().clone(), dims::<B, 2>(&x));
        let outputs = weights.iter().map(|weight| (Shape::from([tokens, B::packed_rows(weight)]), x.dtype));
        let outputs = outputs.collect();
        let weights: Vec<B::Packed> = weights.iter().map(|&weight| weight.clone()).collect();
        register::<B>("packed_linear", &device, vec![x], outputs, move |ir, handles| {
            let x = handles.get_float_tensor::<B>(&ir.inputs[0]);
            let products = B::packed_linear(x, &weights.iter().collect::<Vec<_>>());
            for (output, product) in ir.outputs.iter().zip(products) {
                handles.register_float_tensor::<B>(&output.id, product);
            }
        })
    }

    fn packed_weights(weight: &B::Packed, device: &Self::Device) -> FloatTensor<Self> {
        // The matrix is there, whatever else waits to be computed.
        let weights = B::packed_weights(weight, device);
        let (shape, dtype) = (weights.shape(), weights.dtype());
        let run = move |ir: &CustomOpIr, handles: &mut Handles<B>| {
            handles.register_float_tensor::<B>(&ir.outputs[0].id, weights.clone());
        };
        register::<B>("packed_weights", device, vec![], vec![(shape, dtype)], run).remove(0)
    }

    fn dense_linear(x: FloatTensor<Self>, weight: &B::Dense) -> FloatTensor<Self> {
        let (weight, [tokens, _]) = (weight.clone(), dims::<B, 2>(&x));
        let [rows, _] = B::dense_sides(&weight);
        simple::<B, 1>("dense_linear", [x], [tokens, rows], move |[x]| B::dense_linear(x, &weight))
    }

    fn dense_rows(weight: &B::Dense, rows: &[usize], device: &Self::Device) -> FloatTensor<Self> {
        let [_, cols] = B::dense_sides(weight);
        let dtype = <B::FloatElem as burn::tensor::Element>::dtype();
        let (weight, rows, here) = (weight.clone(), rows.to_vec(), device.clone());
        let shape = Shape::from([rows.len(), cols]);
        let run = move |ir: &CustomOpIr, handles: &mut Handles<B>| {
            let found = B::dense_rows(&weight, &rows, &here);
            handles.register_float_tensor::<B>(&ir.outputs[0].id, found);
        };
        register::<B>("dense_rows", device, vec![], vec![(shape, dtype)], run).remove(0)
    }

    fn write_positions(buffer: FloatTensor<Self>, start: usize, new: FloatTensor<Self>) -> FloatTensor<Self> {
        let shape = buffer.shape();
        simple::<B, 2>("write_positions", [buffer, new], shape, move |[buffer, new]| {
            B::write_positions(buffer, start, new)
        })
    }

    fn decode_attention(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        seen: Range<usize>,
    ) -> FloatTensor<Self> {
        let shape = queries.shape();
        simple::<B, 3>("decode_attention", [queries, keys, values], shape, move |[queries, keys, values]| {
            B::decode_attention(queries, keys, values, seen.clone())
        })
    }

    fn route(
        logits: FloatTensor<Self>,
        rule: RouteRule,
        protected: Option<FloatTensor<Self>>,
        tally: &mut GpuTally<Self>,
    ) -> GpuRoutes<Self> {
        let (device, [tokens, experts]) = (logits.client.device().clone(), dims::<B, 2>(&logits));
        let size = RouteSize { tokens, top_k: rule.top_k, experts };
        let (protects, counted) = (protected.is_some(), tally.counts.is_some());
        let inputs = [Some(logits), protected, tally.counts.take()].into_iter().flatten().collect();
        let outputs = vec![
            (Shape::from([size.plan()]), DType::I32),
            (Shape::from([tokens, rule.top_k]), DType::F32),
            (Shape::from([experts + 1]), DType::I32),
        ];
        let made = register::<B>("route", &device, inputs, outputs, move |ir, handles| {
            let logits = handles.get_float_tensor::<B>(&ir.inputs[0]);
            let protected = protects.then(|| handles.get_float_tensor::<B>(&ir.inputs[1]));
            let counts = counted.then(|| handles.get_int_tensor::<B>(&ir.inputs[1 + usize::from(protects)]));
            let mut tally = GpuTally { counts, activations: 0 };
            let routes = B::route(logits, rule, protected, &mut tally);
            handles.register_int_tensor::<B>(&ir.outputs[0].id, routes.plan);
            handles.register_float_tensor::<B>(&ir.outputs[1].id, routes.weights);
            let counts = tally.counts.expect("a pass was counted");
            handles.register_int_tensor::<B>(&ir.outputs[2].id, counts);
        });
        let [plan, weights, counts] = made.try_into().expect("as many outputs as were registered");
        tally.counts = Some(counts);
        tally.activations += size.slots() as u64;
        GpuRoutes { plan, weights, size }
    }

    fn protect(x: FloatTensor<Self>, received: FloatTensor<Self>, count: usize) -> FloatTensor<Self> {
        let [tokens, _] = dims::<B, 2>(&x);
        simple::<B, 2>("protect", [x, received], [tokens], move |[x, received]| {
            B::protect(x, received, count)
        })
    }

    fn assigned(routes: &GpuRoutes<Self>, _experts: usize) -> Vec<(Vec<usize>, Vec<f32>)> {
        assigned(routes)
    }

    fn counts(tally: &GpuTally<Self>) -> RouteCounts {
        counts(tally)
    }

    fn packed_experts(
        x: FloatTensor<Self>,
        experts: &B::Experts,
        routes: &GpuRoutes<Self>,
    ) -> FloatTensor<Self> {
        let (device, size, experts) = (x.client.device().clone(), routes.size, experts.clone());
        let output = vec![(x.shape(), x.dtype)];
        let plan: IntTensor<Self> = routes.plan.clone();
        let inputs = vec![x, plan, routes.weights.clone()];
        register::<B>("packed_experts", &device, inputs, output, move |ir, handles| {
            let x = handles.get_float_tensor::<B>(&ir.inputs[0]);
            let plan = handles.get_int_tensor::<B>(&ir.inputs[1]);
            let weights = handles.get_float_tensor::<B>(&ir.inputs[2]);
            let y = B::packed_experts(x, &experts, &GpuRoutes { plan, weights, size });
            handles.register_float_tensor::<B>(&ir.outputs[0].id, y);
        })
        .remove(0)
    }

    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f64) -> FloatTensor<Self> {
        let shape = x.shape();
        simple::<B, 2>("rms_norm", [x, weight], shape, move |[x, weight]| B::rms_norm(x, weight, eps))
    }

    fn rotate_heads(
        x: FloatTensor<Self>,
        [cos, sin]: [FloatTensor<Self>; 2],
        [batch, heads]: [usize; 2],
    ) -> FloatTensor<Self> {
        let [rows, features] = dims::<B, 2>(&x);
        let shape = [batch, heads, rows / batch, features / heads];
        simple::<B, 3>("rotate_heads", [x, cos, sin], shape, move |[x, cos, sin]| {
            B::rotate_heads(x, [cos, sin], [batch, heads])
        })
    }
}
