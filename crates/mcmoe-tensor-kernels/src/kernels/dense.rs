//! Matrices that are not packed: embeddings and heads, read where they are mapped.

use half::f16;

use super::backend::Lanes;
use crate::shape::TILE_ROWS;
use crate::{KernelError, SharedBytes};

/// Independent partial sums of a dot product, a fixed order that compilers can vectorise.
pub(super) const PARTIAL_SUMS: usize = 64;

/// Element types of a [`DenseMatrix`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DenseType {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an `f32`.
    Bf16,
}

impl DenseType {
    /// Bytes an element.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// A matrix `[rows, cols]` of little-endian floating-point numbers over shared bytes, row-major.
#[derive(Clone, Debug)]
pub struct DenseMatrix {
    rows: usize,
    cols: usize,
    dtype: DenseType,
    bytes: SharedBytes,
}

impl DenseMatrix {
    /// A matrix over `bytes`, for example a range of a memory-mapped file. They are not looked at.
    ///
    /// # Errors
    /// [`KernelError::BadShape`] if a side is zero or the bytes overflow, [`KernelError::Length`] unless
    /// there are as many bytes as the shape needs.
    pub fn new(rows: usize, cols: usize, dtype: DenseType, bytes: SharedBytes) -> Result<Self, KernelError> {
        let expected = rows.checked_mul(cols).and_then(|n| n.checked_mul(dtype.bytes()));
        match expected {
            None | Some(0) => Err(KernelError::BadShape { rows, cols }),
            Some(expected) if expected != bytes.len() => {
                Err(KernelError::Length { what: "bytes of a dense matrix", expected, found: bytes.len() })
            }
            Some(_) => Ok(Self { rows, cols, dtype, bytes }),
        }
    }

    /// Output features.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Input features.
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// The type of its elements.
    pub const fn dtype(&self) -> DenseType {
        self.dtype
    }

    /// Its elements, row-major, little-endian.
    pub const fn bytes(&self) -> &SharedBytes {
        &self.bytes
    }

    /// Bytes of the matrix.
    pub fn total_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Row `row` as `f32`.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> Vec<f32> {
        let mut values = vec![0.0; self.cols];
        self.row_into(row, &mut values);
        values
    }

    #[inline(always)]
    fn row_into(&self, row: usize, values: &mut [f32]) {
        let bytes = self.row_bytes(row);
        match self.dtype {
            DenseType::F32 => read_into(bytes.as_chunks().0, from_f32, values),
            DenseType::F16 => read_into(bytes.as_chunks().0, from_f16, values),
            DenseType::Bf16 => read_into(bytes.as_chunks().0, from_bf16, values),
        }
    }

    #[inline(always)]
    fn row_bytes(&self, row: usize) -> &[u8] {
        let width = self.cols * self.dtype.bytes();
        &self.bytes[row * width..][..width]
    }
}

#[inline(always)]
fn from_f32(bytes: [u8; 4]) -> f32 {
    f32::from_le_bytes(bytes)
}

#[inline(always)]
fn from_f16(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32()
}

#[inline(always)]
fn from_bf16(bytes: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)
}

#[inline(always)]
fn read_into<T: Copy>(elements: &[T], read: impl Fn(T) -> f32, values: &mut [f32]) {
    values.iter_mut().zip(elements).for_each(|(value, element)| *value = read(*element));
}

/// Partial sums of a dot product: element `i` goes to sum `i % 64`.
pub(super) type Sums = [f32; PARTIAL_SUMS];
/// As many little-endian BF16 elements.
pub(super) type Bf16s = [[u8; 2]; PARTIAL_SUMS];

/// Products of the rows of a tile with each token, in plain code: each backend compiles it for its
/// instructions.
///
/// `add_bf16` adds the products of whole chunks of BF16 elements ([`add_bf16`]).
#[inline(always)]
pub(super) fn tile(
    matrix: &DenseMatrix,
    tile: usize,
    x: &[f32],
    out: &mut [Lanes],
    add_bf16: impl Fn(&mut Sums, &[Bf16s], &[Sums]),
) {
    let rows = tile * TILE_ROWS..matrix.rows.min((tile + 1) * TILE_ROWS);
    if let ([out], DenseType::Bf16) = (&mut *out, matrix.dtype) {
        for (lane, row) in rows.enumerate() {
            let (chunks, rest) = matrix.row_bytes(row).as_chunks().0.as_chunks();
            let (x, x_rest) = x.as_chunks();
            let mut sums = [0.0; PARTIAL_SUMS];
            add_bf16(&mut sums, chunks, x);
            for ((sum, element), x) in sums.iter_mut().zip(rest).zip(x_rest) {
                *sum += from_bf16(*element) * x;
            }
            out[lane] = halved(sums);
        }
        return;
    }
    let mut values = vec![0.0; matrix.cols];
    for (lane, row) in rows.enumerate() {
        matrix.row_into(row, &mut values);
        for (out, x) in out.iter_mut().zip(x.chunks_exact(matrix.cols)) {
            out[lane] = dot::<PARTIAL_SUMS>(&values, x);
        }
    }
}

/// Adds the products of whole chunks of BF16 elements, in plain code.
#[inline(always)]
pub(super) fn add_bf16(sums: &mut Sums, elements: &[Bf16s], x: &[Sums]) {
    for (elements, x) in elements.iter().zip(x) {
        for i in 0..PARTIAL_SUMS {
            sums[i] += from_bf16(elements[i]) * x[i];
        }
    }
}

/// `Σ a b` in `N` partial sums, a power of two of them.
#[inline(always)]
pub(super) fn dot<const N: usize>(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<N>(), b.as_chunks::<N>());
    let mut sums = [0.0; N];
    for (a, b) in a.iter().zip(b) {
        for i in 0..N {
            sums[i] += a[i] * b[i];
        }
    }
    for ((sum, a), b) in sums.iter_mut().zip(a_rest).zip(b_rest) {
        *sum += a * b;
    }
    halved(sums)
}

/// The sum of partial sums, a power of two of them: halved again and again.
#[inline(always)]
fn halved<const N: usize>(mut sums: [f32; N]) -> f32 {
    let mut width = N;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            sums[i] += sums[i + width];
        }
    }
    sums[0]
}
