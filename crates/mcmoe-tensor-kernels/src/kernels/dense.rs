//! Matrices that are not packed: embeddings and heads, read where they are mapped.

use half::f16;

use super::backend::Lanes;
use crate::shape::TILE_ROWS;
use crate::{KernelError, SharedBytes};

/// Independent partial sums of a dot product, a fixed order that compilers can vectorise.
const PARTIAL_SUMS: usize = 64;

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
        let width = self.cols * self.dtype.bytes();
        let bytes = &self.bytes[row * width..][..width];
        match self.dtype {
            DenseType::F32 => {
                for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
                    *value = f32::from_le_bytes(*bytes);
                }
            }
            DenseType::F16 => {
                for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
                    *value = f16::from_le_bytes(*bytes).to_f32();
                }
            }
            DenseType::Bf16 => {
                for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
                    *value = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
                }
            }
        }
    }
}

/// Products of the rows of a tile with each token, in plain code: each backend compiles it for its
/// instructions.
#[inline(always)]
pub(super) fn tile(matrix: &DenseMatrix, tile: usize, x: &[f32], out: &mut [Lanes]) {
    let mut values = vec![0.0; matrix.cols];
    let rows = tile * TILE_ROWS..matrix.rows.min((tile + 1) * TILE_ROWS);
    for (lane, row) in rows.enumerate() {
        matrix.row_into(row, &mut values);
        for (out, x) in out.iter_mut().zip(x.chunks_exact(matrix.cols)) {
            out[lane] = dot(&values, x);
        }
    }
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<PARTIAL_SUMS>(), b.as_chunks::<PARTIAL_SUMS>());
    let mut sums = [0.0; PARTIAL_SUMS];
    for (a, b) in a.iter().zip(b) {
        for i in 0..PARTIAL_SUMS {
            sums[i] += a[i] * b[i];
        }
    }
    for ((sum, a), b) in sums.iter_mut().zip(a_rest).zip(b_rest) {
        *sum += a * b;
    }
    // Halved again and again.
    let mut width = PARTIAL_SUMS;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            sums[i] += sums[i + width];
        }
    }
    sums[0]
}
