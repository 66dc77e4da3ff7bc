//! Matrices in a GPU's memory.

use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;
use cubecl::server::Handle;

use super::code::{Code, tables};
use super::launch::{cubes, raw};
use crate::{DenseMatrix, DenseType, PackedMatrix, PackedShape, Precision};

/// Where a binding may begin, on any GPU.
const ALIGNMENT: usize = 256;

/// A packed matrix on a GPU.
#[derive(Clone, Debug)]
pub struct GpuPacked {
    pub(super) shape: PackedShape,
    pub(super) precision: Precision,
    pub(super) weights: Handle,
    pub(super) tables: Handle,
}

/// A matrix that is not packed on a GPU: rows of whole words.
#[derive(Clone, Debug)]
pub struct GpuDense {
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) dtype: DenseType,
    pub(super) elements: Handle,
}

/// The experts of a block in one stretch of a GPU's memory.
#[derive(Clone, Debug)]
pub struct GpuExperts {
    pub(super) weights: Handle,
    pub(super) bytes: usize,
    pub(super) tables: Handle,
    /// The codes of all matrices, each once.
    pub(super) codes: Vec<Code>,
    /// Of gate and up projections, and of down projections: see [`super::linear::experts`].
    pub(super) places: [Handle; 2],
    /// Shapes of a gate, and of a down projection, but for their codes.
    pub(super) shapes: [PackedShape; 2],
    pub(super) count: usize,
}

impl GpuPacked {
    pub(super) fn new<R: CubeRuntime>(
        matrix: &PackedMatrix,
        precision: Precision,
        client: &ComputeClient<R>,
    ) -> Self {
        let shape = *matrix.shape();
        let weights = uploaded(client, matrix.bytes());
        let tables = client.create_from_slice(u32::as_bytes(&tables(&[Code::new(&shape)])));
        Self { shape, precision, weights, tables }
    }

    pub(super) fn code(&self) -> Code {
        Code::new(&self.shape)
    }
}

/// Pieces of a row, and quads of words of a tile.
pub(super) fn pieces(shape: &PackedShape) -> usize {
    shape.padded_cols() / Code::new(shape).piece_cols()
}

pub(super) const fn tile_words(shape: &PackedShape) -> usize {
    shape.tile_bytes() / 16
}

impl GpuDense {
    pub(super) fn new<R: CubeRuntime>(matrix: &DenseMatrix, client: &ComputeClient<R>) -> Self {
        let (rows, cols) = (matrix.rows(), matrix.cols());
        let whole_words = matrix.dtype() == DenseType::F32 || cols.is_multiple_of(2);
        let (dtype, elements) = if whole_words {
            (matrix.dtype(), uploaded(client, matrix.bytes()))
        } else {
            let values: Vec<f32> = (0..rows).flat_map(|row| matrix.row(row)).collect();
            (DenseType::F32, uploaded(client, f32::as_bytes(&values)))
        };
        Self { rows, cols, dtype, elements }
    }

    /// Words of a row.
    pub(super) const fn words(&self) -> usize {
        self.cols * self.element_bytes() / 4
    }

    pub(super) const fn bytes(&self) -> usize {
        self.rows * self.cols * self.element_bytes()
    }

    const fn element_bytes(&self) -> usize {
        match self.dtype {
            DenseType::F32 => 4,
            DenseType::F16 | DenseType::Bf16 => 2,
        }
    }
}

impl GpuExperts {
    /// Moves experts, each its gate, up and down projection, to one stretch of memory. `None` if grids and
    /// trellises are mixed among those that share inputs, or no stretch is long enough.
    pub(super) fn gather<R: CubeRuntime>(
        experts: &mut [[&mut GpuPacked; 3]],
        client: &ComputeClient<R>,
    ) -> Option<Self> {
        let [gate, _, down] = experts.first()?;
        let shapes = [gate.shape, down.shape];
        let fits = |expert: &[&mut GpuPacked; 3]| {
            expert.iter().zip([0, 0, 1]).all(|(matrix, role)| {
                let (shape, first) = (&matrix.shape, &shapes[role]);
                let sides = |shape: &PackedShape| (shape.rows(), shape.cols());
                sides(shape) == sides(first) && Code::new(shape).rotated() == Code::new(first).rotated()
            })
        };
        let all = experts.iter().flatten().map(|matrix| matrix.shape.total_bytes());
        let bytes: usize = all.map(|bytes| bytes.next_multiple_of(ALIGNMENT)).sum();
        if !experts.iter().all(fits) || bytes as u64 > client.properties().memory.max_page_size {
            return None;
        }
        let weights = client.empty(bytes);
        let (mut codes, mut places, mut start) = (vec![], [vec![], vec![]], 0);
        for expert in experts.iter_mut() {
            for (matrix, role) in expert.iter_mut().zip([0, 0, 1]) {
                let (code, len) = (matrix.code(), matrix.shape.total_bytes());
                let number = codes.iter().position(|known| *known == code).unwrap_or_else(|| {
                    codes.push(code);
                    codes.len() - 1
                });
                places[role]
                    .extend([start / 16, tile_words(&matrix.shape), number].map(|place| place as u32));
                matrix.weights = moved(client, &matrix.weights, &weights, start, len, bytes);
                start += len.next_multiple_of(ALIGNMENT);
            }
        }
        Some(Self {
            weights,
            bytes,
            tables: client.create_from_slice(u32::as_bytes(&tables(&codes))),
            codes,
            places: places.map(|places| client.create_from_slice(u32::as_bytes(&places))),
            shapes,
            count: experts.len(),
        })
    }
}

/// A matrix's bytes in the card's memory. Backends have no errors to return here; the card's would say nothing
/// of what was too large.
fn uploaded<R: CubeRuntime>(client: &ComputeClient<R>, bytes: &[u8]) -> Handle {
    let most = client.properties().memory.max_page_size;
    let len = bytes.len();
    assert!(
        len as u64 <= most,
        "a matrix of {len} bytes is more than the {most} that this card takes in one piece"
    );
    client.create_from_slice(bytes)
}

/// Copies a matrix of `len` bytes to its place in `to`, of `bytes`, and returns that place.
fn moved<R: CubeRuntime>(
    client: &ComputeClient<R>,
    from: &Handle,
    to: &Handle,
    start: usize,
    len: usize,
    bytes: usize,
) -> Handle {
    let (count, dim) = cubes(client, len / 4);
    // SAFETY: tiles are whole words, and the place is as long as what is copied to it.
    unsafe {
        copy::launch_unchecked::<R>(client, count, dim, raw(from, len), raw(to, bytes), start / 4, len / 4);
    };
    to.clone().offset_start(start as u64).offset_end((bytes - start - len) as u64)
}

#[cube(launch_unchecked)]
fn copy(from: &Array<u32>, to: &mut Array<u32>, start: usize, len: usize) {
    if ABSOLUTE_POS < len {
        to[start + ABSOLUTE_POS] = from[ABSOLUTE_POS];
    }
}
