//! The steps that operations are made of, each a launch or two.

use burn::tensor::DType;
use burn::tensor::backend::Backend;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;

use super::code::Code;
use super::launch::{arg, batch, contiguous, cubes, dims, empty, empty_of, grid, plane, raw};
use super::matrices::{GpuExperts, GpuPacked, pieces, tile_words};
use super::rotate::MOST;
use super::routes::{GpuRoutes, RouteSize};
use super::{dense, linear, rotate, route};
use crate::burn_ops::PackedOps;
use crate::shape::TILE_ROWS;
use crate::{PackedShape, Precision};

/// Inputs as kernels for matrices of `shape` take them: rotated if it is a trellis, rows padded to whole
/// pieces.
pub(super) fn prepare<R: CubeRuntime>(x: &CubeTensor<R>, shape: &PackedShape) -> CubeTensor<R> {
    let ([rows, cols], stride) = (dims(x), shape.padded_cols());
    assert_eq!(cols, shape.cols(), "columns of a packed matrix");
    if Code::new(shape).rotated() {
        return rotated(x, stride, false);
    }
    if cols == stride {
        return x.clone();
    }
    let y = empty(x, [rows, stride]);
    let (count, dim) = cubes(&x.client, rows * stride);
    // SAFETY: the output has `rows * stride` elements, the input `rows * cols`.
    unsafe {
        rotate::pad::launch_unchecked::<R>(
            &x.client,
            count,
            dim,
            arg(x),
            arg(&y),
            rows * stride,
            cols,
            stride,
            x.dtype.into(),
        );
    }
    y
}

/// Rotated rows, `f32`, padded to `stride` columns; rotated back if asked for.
pub(super) fn rotated<R: CubeRuntime>(x: &CubeTensor<R>, stride: usize, back: bool) -> CubeTensor<R> {
    let [rows, cols] = dims(x);
    let y = empty_of(x, [rows, stride], DType::F32);
    let block = 1_usize << cols.trailing_zeros();
    let (size, chunks) = (block.min(MOST), block / block.min(MOST));
    let scale = 1.0 / (block as f32).sqrt();
    let (count, dim) = grid(cols / size, rows);
    // SAFETY: a cube for each chunk of each row, and a row of the output is at least as long as the input's.
    unsafe {
        rotate::rotate::launch_unchecked::<R>(
            &x.client,
            count,
            dim,
            arg(x),
            arg(&y),
            cols,
            stride,
            scale,
            size,
            !back,
            back && chunks == 1,
            x.dtype.into(),
        );
    }
    if chunks > 1 {
        let len = rows * cols / chunks;
        let (count, dim) = cubes(&x.client, len);
        // SAFETY: columns are whole blocks of `chunks * MOST`, without padding; each unit takes `chunks` of
        // them.
        unsafe {
            rotate::mix::launch_unchecked::<R>(&x.client, count, dim, arg(&y), cols, len, chunks, back);
        };
    }
    y
}

/// The product of few tokens, straight from packed weights.
pub(super) fn few<R: CubeRuntime>(
    x: &CubeTensor<R>,
    inputs: &CubeTensor<R>,
    weight: &GpuPacked,
) -> CubeTensor<R> {
    let (shape, [tokens, stride]) = (&weight.shape, dims(inputs));
    let y = empty(x, [tokens, shape.rows()]);
    let batch = batch(tokens);
    let (count, dim) = grid(shape.tiles(), tokens.div_ceil(batch));
    // SAFETY: a cube for each tile, whose bytes are there; inputs are whole pieces; no other tokens and rows
    // are written than there are.
    unsafe {
        linear::linear::launch_unchecked::<R>(
            &x.client,
            count,
            dim,
            raw(&weight.weights, shape.total_bytes()),
            raw(&weight.tables, 4),
            arg(inputs),
            arg(&y),
            shape.rows(),
            tokens,
            pieces(shape),
            tile_words(shape),
            stride / 4,
            weight.code(),
            batch,
            plane(&x.client),
            [inputs.dtype.into(), y.dtype.into()],
        );
    }
    y
}

/// The product of many tokens, with weights made dense.
pub(super) fn many<B, R>(x: &CubeTensor<R>, inputs: CubeTensor<R>, weight: &GpuPacked) -> CubeTensor<R>
where
    B: PackedOps<FloatTensorPrimitive = CubeTensor<R>>,
    R: CubeRuntime,
{
    let half = weight.precision == Precision::Int8 && !x.client.properties().features.matmul.cmma.is_empty();
    let dtype = if half { DType::F16 } else { inputs.dtype };
    let matrix = dequantized(&inputs, weight, dtype);
    let inputs = if half { B::float_cast(inputs, DType::F16.into()) } else { inputs };
    let y = B::float_matmul(inputs, B::float_swap_dims(matrix, 0, 1));
    if y.dtype == x.dtype { y } else { B::float_cast(y, x.dtype.into()) }
}

/// The weights of a packed matrix as they meet prepared inputs, `[rows, padded columns]`.
pub(super) fn dequantized<R: CubeRuntime>(
    like: &CubeTensor<R>,
    weight: &GpuPacked,
    dtype: DType,
) -> CubeTensor<R> {
    let shape = &weight.shape;
    let stride = shape.padded_cols();
    let y = empty_of(like, [shape.rows(), stride], dtype);
    let (count, dim) = grid(shape.tiles(), 1);
    // SAFETY: a cube for each tile, whose bytes are there; no other rows and columns are written than there
    // are.
    unsafe {
        dense::dequantize::launch_unchecked::<R>(
            &like.client,
            count,
            dim,
            raw(&weight.weights, shape.total_bytes()),
            raw(&weight.tables, 4),
            arg(&y),
            shape.rows(),
            shape.cols(),
            stride,
            pieces(shape),
            tile_words(shape),
            weight.code(),
            y.dtype.into(),
        );
    }
    y
}

/// The plan of a batch, the shares of chosen experts, and the new tally.
pub(super) fn choose<R: CubeRuntime>(
    logits: CubeTensor<R>,
    size: RouteSize,
    threshold: f32,
    protected: Option<CubeTensor<R>>,
    tally: Option<CubeTensor<R>>,
) -> [CubeTensor<R>; 3] {
    let logits = contiguous(logits);
    let RouteSize { tokens, top_k, experts } = size;
    assert!((1..=experts).contains(&top_k), "as many experts as a token needs");
    let plan = empty_of(&logits, [size.plan()], DType::I32);
    let weights = empty_of(&logits, [tokens, top_k], DType::F32);
    let counts = empty_of(&logits, [experts + 1], DType::I32);
    let protected = protected.map(contiguous);
    let (count, dim) = grid(1, 1);
    // SAFETY: one cube does it all; there is room for the plan, the weights and the counts, and what stands in
    // for absent arrays is not read.
    unsafe {
        route::route::launch_unchecked::<R>(
            &logits.client,
            count,
            dim,
            arg(&logits),
            arg(protected.as_ref().unwrap_or(&logits)),
            arg(tally.as_ref().unwrap_or(&logits)),
            arg(&plan),
            arg(&weights),
            arg(&counts),
            tokens,
            size.chunks(),
            threshold,
            experts,
            top_k,
            size.batch(),
            protected.is_some(),
            tally.is_some(),
            logits.dtype.into(),
        );
    }
    [plan, weights, counts]
}

/// Gate and up projections (`role` 0) or down projections (1) of all chosen experts: a row for each slot.
pub(super) fn run_experts<
    R: CubeRuntime,
    B: Backend<FloatTensorPrimitive = CubeTensor<R>, IntTensorPrimitive = CubeTensor<R>>,
>(
    x: &CubeTensor<R>,
    inputs: &CubeTensor<R>,
    experts: &GpuExperts,
    routes: &GpuRoutes<B>,
    role: usize,
) -> CubeTensor<R> {
    let (shape, size) = (&experts.shapes[role], routes.size);
    let y = empty_of(x, [size.slots(), shape.rows()], DType::F32);
    let (count, dim) = grid(shape.rows().div_ceil(TILE_ROWS), size.chunks());
    // SAFETY: a cube for each tile and chunk; the plan names experts and slots that are there, the places lie
    // within the experts' memory.
    unsafe {
        linear::experts::launch_unchecked::<R>(
            &x.client,
            count,
            dim,
            raw(&experts.weights, experts.bytes),
            raw(&experts.tables, 4),
            raw(&experts.places[role], 4),
            arg(&routes.plan),
            arg(inputs),
            arg(&y),
            shape.rows(),
            size.slots(),
            pieces(shape),
            dims::<R, 2>(inputs)[1] / 4,
            size.top_k,
            experts.codes.clone(),
            2 - role,
            size.batch(),
            plane(&x.client),
            inputs.dtype.into(),
        );
    }
    y
}

/// The first `cols` columns of rows, contiguous.
pub(super) fn narrowed<R: CubeRuntime>(x: CubeTensor<R>, cols: usize) -> CubeTensor<R> {
    let [rows, stride] = dims(&x);
    if stride == cols {
        return x;
    }
    let y = empty(&x, [rows, cols]);
    let (count, dim) = cubes(&x.client, rows * cols);
    // SAFETY: the output has `rows * cols` elements, the input's rows are longer.
    unsafe {
        rotate::pad::launch_unchecked::<R>(
            &x.client,
            count,
            dim,
            arg(&x),
            arg(&y),
            rows * cols,
            stride,
            cols,
            x.dtype.into(),
        );
    }
    y
}
