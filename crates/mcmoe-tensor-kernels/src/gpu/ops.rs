//! [`PackedOps`] on the backends of CubeCL.

use std::ops::Range;

use burn::tensor::ops::{FloatTensor, FloatTensorOps as _};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};
use cubecl::prelude::*;

use super::launch::{arg, batch, contiguous, cubes, dims, empty, grid, raw};
use super::matrices::{GpuDense, GpuExperts, GpuPacked};
use super::routes::{GpuRoutes, GpuTally, RouteSize, assigned, counts};
use super::steps::{choose, dequantized, few, many, narrowed, prepare, rotated, run_experts};
use super::{attention, dense, linear, route};
use crate::burn_ops::PackedOps;
use crate::routing::{RouteCounts, RouteRule};
use crate::{DenseMatrix, PackedMatrix, Precision};

/// Up to so many tokens are multiplied by packed weights; for more, these are made dense first.
const FEW_TOKENS: usize = 16;

impl<R, F, I, BT> PackedOps for CubeBackend<R, F, I, BT>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    type Packed = GpuPacked;
    type Dense = GpuDense;
    type Experts = GpuExperts;
    type Routes = GpuRoutes<Self>;
    type Tally = GpuTally<Self>;

    fn device_memory(device: &R::Device) -> Option<u64> {
        R::client(device).memory_usage().ok().map(|usage| usage.bytes_reserved)
    }

    fn packed_from(matrix: PackedMatrix, precision: Precision, device: &R::Device) -> GpuPacked {
        GpuPacked::new(&matrix, precision, &R::client(device))
    }

    fn dense_from(matrix: DenseMatrix, device: &R::Device) -> GpuDense {
        GpuDense::new(&matrix, &R::client(device))
    }

    fn packed_bytes(weight: &GpuPacked) -> usize {
        weight.shape.total_bytes()
    }

    fn dense_bytes(weight: &GpuDense) -> usize {
        weight.bytes()
    }

    fn packed_rows(weight: &GpuPacked) -> usize {
        weight.shape.rows()
    }

    fn dense_sides(weight: &GpuDense) -> [usize; 2] {
        [weight.rows, weight.cols]
    }

    fn experts_from(experts: &mut [[&mut GpuPacked; 3]], device: &R::Device) -> Option<GpuExperts> {
        GpuExperts::gather(experts, &R::client(device))
    }

    fn packed_linear(x: FloatTensor<Self>, weights: &[&GpuPacked]) -> Vec<FloatTensor<Self>> {
        let x = contiguous(x);
        let mut ready: Option<(bool, CubeTensor<R>)> = None;
        let product = |weight: &&GpuPacked| {
            let rotated = weight.code().rotated();
            let inputs = match ready.take() {
                Some((like, inputs)) if like == rotated => inputs,
                _ => prepare(&x, &weight.shape),
            };
            ready = Some((rotated, inputs.clone()));
            if dims::<R, 2>(&x)[0] <= FEW_TOKENS {
                few(&x, &inputs, weight)
            } else {
                many::<Self, R>(&x, inputs, weight)
            }
        };
        weights.iter().map(product).collect()
    }

    fn packed_weights(weight: &GpuPacked, device: &R::Device) -> FloatTensor<Self> {
        let [rows, cols] = [weight.shape.rows(), weight.shape.cols()];
        let like = Self::float_empty([1].into(), device, F::dtype().into());
        if !weight.code().rotated() {
            return narrowed(dequantized(&like, weight, like.dtype), cols);
        }
        let weights = narrowed(dequantized(&like, weight, burn::tensor::DType::F32), cols);
        let weights = rotated(&weights, cols, true);
        debug_assert_eq!(dims::<R, 2>(&weights), [rows, cols]);
        if weights.dtype == like.dtype { weights } else { Self::float_cast(weights, F::dtype().into()) }
    }

    fn dense_linear(x: FloatTensor<Self>, weight: &GpuDense) -> FloatTensor<Self> {
        let x = contiguous(x);
        let [tokens, cols] = dims(&x);
        assert_eq!(cols, weight.cols, "columns of a dense matrix");
        let y = empty(&x, [tokens, weight.rows]);
        let batch = batch(tokens);
        let (count, dim) = grid(weight.rows.div_ceil(dense::ROWS), tokens.div_ceil(batch));
        // SAFETY: the matrix has its rows of whole words, inputs are as wide; the kernel writes no other
        // tokens and rows than there are.
        unsafe {
            dense::linear::launch_unchecked::<R>(
                &x.client,
                count,
                dim,
                raw(&weight.elements, weight.bytes()),
                arg(&x),
                arg(&y),
                weight.rows,
                tokens,
                weight.words(),
                weight.dtype,
                batch,
                [x.dtype.into(), y.dtype.into()],
            );
        }
        y
    }

    fn dense_rows(weight: &GpuDense, rows: &[usize], device: &R::Device) -> FloatTensor<Self> {
        assert!(rows.iter().all(|&row| row < weight.rows), "no such row");
        let rows: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        let client = R::client(device);
        let indices = client.create_from_slice(u32::as_bytes(&rows));
        let y = Self::float_empty([rows.len(), weight.cols].into(), device, F::dtype().into());
        let y = empty(&y, [rows.len(), weight.cols]);
        let len = rows.len() * weight.words();
        let (count, dim) = cubes(&client, len);
        // SAFETY: all rows are there; the output has their columns.
        unsafe {
            dense::rows::launch_unchecked::<R>(
                &client,
                count,
                dim,
                raw(&weight.elements, weight.bytes()),
                raw(&indices, 4 * rows.len()),
                arg(&y),
                len,
                weight.words(),
                weight.dtype,
                y.dtype.into(),
            );
        }
        y
    }

    fn write_positions(buffer: FloatTensor<Self>, start: usize, new: FloatTensor<Self>) -> FloatTensor<Self> {
        let new = contiguous(new);
        let ([batch, heads, added, width], [old_batch, old_heads, capacity, old_width]) =
            (dims(&new), dims(&buffer));
        assert_eq!([batch, heads, width], [old_batch, old_heads, old_width], "positions of one shape");
        assert!(start + added <= capacity, "room for new positions");
        let buffer = contiguous(buffer);
        let buffer = if buffer.can_mut() { buffer } else { buffer.copy() };
        let elements = batch * heads * added * width;
        if elements == 0 {
            return buffer;
        }
        let (count, dim) = cubes(&new.client, elements);
        // SAFETY: the positions are there, as was made sure, and nobody else reads the buffer.
        unsafe {
            attention::write_positions::launch_unchecked::<R>(
                &new.client,
                count,
                dim,
                arg(&new),
                arg(&buffer),
                elements,
                added,
                capacity,
                width,
                start,
                new.dtype.into(),
            );
        }
        buffer
    }

    fn decode_attention(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        seen: Range<usize>,
    ) -> FloatTensor<Self> {
        let [queries, keys, values] = [queries, keys, values].map(contiguous);
        let ([batch, heads, added, width], [_, kv_heads, capacity, _]) = (dims(&queries), dims(&keys));
        assert_eq!(added, 1, "decode_attention: more than one new token a sequence");
        assert_eq!(dims::<R, 4>(&keys), [batch, kv_heads, capacity, width], "keys of the queries' heads");
        assert_eq!(dims::<R, 4>(&keys), dims(&values), "as many values as keys");
        assert!(heads.is_multiple_of(kv_heads) && seen.end <= capacity, "positions and heads that are there");
        let y = empty(&queries, [batch, heads, 1, width]);
        let (count, dim) = grid(batch * heads, 1);
        // SAFETY: a cube for each head; the positions that it reads are there.
        unsafe {
            attention::decode::launch_unchecked::<R>(
                &queries.client,
                count,
                dim,
                arg(&queries),
                arg(&keys),
                arg(&values),
                arg(&y),
                capacity,
                seen.start,
                seen.end,
                heads / kv_heads,
                width,
                queries.dtype.into(),
            );
        }
        y
    }

    fn route(
        logits: FloatTensor<Self>,
        rule: RouteRule,
        protected: Option<FloatTensor<Self>>,
        tally: &mut GpuTally<Self>,
    ) -> GpuRoutes<Self> {
        let [tokens, experts] = dims(&logits);
        let size = RouteSize { tokens, top_k: rule.top_k, experts };
        let old = tally.counts.take();
        let [plan, weights, counts] = choose(logits, size, rule.threshold, protected, old);
        tally.counts = Some(counts);
        tally.activations += size.slots() as u64;
        GpuRoutes { plan, weights, size }
    }

    fn protect(x: FloatTensor<Self>, received: FloatTensor<Self>, count: usize) -> FloatTensor<Self> {
        let norms = contiguous(Self::float_sum_dim(Self::float_abs(x), 1));
        let received = contiguous(received);
        let [sequences, len] = dims(&received);
        let tokens = sequences * len;
        let protected = empty(&received, [tokens]);
        let (cube_count, dim) = cubes(&norms.client, tokens);
        // SAFETY: norms, attention and the output have an element a token.
        unsafe {
            route::protect::launch_unchecked::<R>(
                &norms.client,
                cube_count,
                dim,
                arg(&norms),
                arg(&received),
                arg(&protected),
                tokens,
                len,
                count,
            );
        }
        protected
    }

    fn assigned(routes: &GpuRoutes<Self>, _experts: usize) -> Vec<(Vec<usize>, Vec<f32>)> {
        assigned(routes)
    }

    fn counts(tally: &GpuTally<Self>) -> RouteCounts {
        counts(tally)
    }

    fn packed_experts(
        x: FloatTensor<Self>,
        experts: &GpuExperts,
        routes: &GpuRoutes<Self>,
    ) -> FloatTensor<Self> {
        let x = contiguous(x);
        let [tokens, hidden] = dims(&x);
        assert_eq!(
            [tokens, experts.count],
            [routes.size.tokens, routes.size.experts],
            "routes of these tokens"
        );
        let [gate, down] = &experts.shapes;
        assert_eq!([hidden, gate.rows()], [gate.cols(), down.cols()], "experts of these sizes");
        let inputs = prepare(&x, gate);
        let gated = run_experts(&x, &inputs, experts, routes, 0);
        let inputs = prepare(&gated, down);
        let parts = run_experts(&x, &inputs, experts, routes, 1);
        let y = empty(&x, [tokens, down.rows()]);
        let len = tokens * down.rows();
        let (count, dim) = cubes(&x.client, len);
        // SAFETY: a part of `down.rows()` columns for each slot, an output of as many for each token.
        unsafe {
            linear::combine::launch_unchecked::<R>(
                &x.client,
                count,
                dim,
                arg(&parts),
                arg(&routes.weights),
                arg(&y),
                len,
                down.rows(),
                routes.size.top_k,
                y.dtype.into(),
            );
        }
        y
    }

    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f64) -> FloatTensor<Self> {
        let (x, weight) = (contiguous(x), contiguous(weight));
        let [rows, cols] = dims(&x);
        assert_eq!([cols], dims(&weight), "a weight a feature");
        let y = empty(&x, [rows, cols]);
        let (count, dim) = grid(rows, 1);
        // SAFETY: a cube for each row; the weight and all rows have `cols` elements.
        unsafe {
            attention::rms_norm::launch_unchecked::<R>(
                &x.client,
                count,
                dim,
                arg(&x),
                arg(&weight),
                arg(&y),
                eps as f32,
                cols,
                x.dtype.into(),
            );
        }
        y
    }

    fn rotate_heads(
        x: FloatTensor<Self>,
        [cos, sin]: [FloatTensor<Self>; 2],
        [batch, heads]: [usize; 2],
    ) -> FloatTensor<Self> {
        let [x, cos, sin] = [x, cos, sin].map(contiguous);
        let [rows, features] = dims(&x);
        let (len, width) = (rows / batch, features / heads);
        assert_eq!([dims(&cos), dims(&sin)], [[1, len * width]; 2], "an angle a position and feature");
        let y = empty(&x, [batch, heads, len, width]);
        let elements = rows * features;
        let (count, dim) = cubes(&x.client, elements);
        // SAFETY: angles for all positions; the output has the input's elements.
        unsafe {
            attention::rotate_heads::launch_unchecked::<R>(
                &x.client,
                count,
                dim,
                arg(&x),
                arg(&cos),
                arg(&sin),
                arg(&y),
                elements,
                len,
                heads,
                width,
                x.dtype.into(),
            );
        }
        y
    }
}
