//! The packed matrix: tiles of codes, scales and zero points over shared bytes.

pub(crate) mod block;
mod synthetic;
mod tile;

use half::f16;
use rayon::prelude::*;

pub(crate) use block::Line;
pub(crate) use tile::{Group, Tile};

use crate::shape::{BLOCK_COLS, BLOCK_STEPS, LINE, STEP_COLS, TILE_ROWS};
use crate::{KernelError, PackedShape, SharedBytes};

/// A matrix `[rows, cols]` of packed codes with a scale and a zero point a group.
///
/// `w[r][c] = scale[r][g] * (code[r][c] - zero[r][g])` with `g = c / group_size`. See [`PackedShape`]
/// for the layout of the bytes; they are the same in memory and on disk.
#[derive(Clone, Debug)]
pub struct PackedMatrix {
    shape: PackedShape,
    bytes: SharedBytes,
}

impl PackedMatrix {
    /// Packs one code a weight (`codes`, row-major) with its `scales` and `zeros` (`[rows, groups]`).
    ///
    /// # Errors
    /// [`KernelError::Length`] for a slice of the wrong length, [`KernelError::CodeOutOfRange`] for a
    /// code above the width's maximum, [`KernelError::NotFinite`] for a bad scale or zero.
    pub fn pack(
        shape: PackedShape,
        codes: &[u8],
        scales: &[f16],
        zeros: &[f16],
    ) -> Result<Self, KernelError> {
        check_length("codes", shape.weights(), codes.len())?;
        check_length("scales", shape.params(), scales.len())?;
        check_length("zeros", shape.params(), zeros.len())?;
        if let Some(at) = codes.iter().position(|&code| code > shape.bits().max_code()) {
            let (row, col) = (at / shape.cols(), at % shape.cols());
            return Err(KernelError::CodeOutOfRange { row, col, code: codes[at], bits: shape.bits().bits() });
        }
        for (what, values) in [("scale", scales), ("zero point", zeros)] {
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                let (row, group) = (at / shape.groups(), at % shape.groups());
                return Err(KernelError::NotFinite { what, row, group });
            }
        }
        let mut bytes = vec![0; shape.total_bytes()];
        bytes.par_chunks_exact_mut(shape.tile_bytes()).enumerate().for_each(|(tile, lines)| {
            pack_tile(&shape, tile * TILE_ROWS, [scales, zeros], codes, lines.as_chunks_mut().0);
        });
        Ok(Self { shape, bytes: bytes.into() })
    }

    /// A matrix over bytes in the packed layout, for example a range of a memory-mapped file.
    ///
    /// Looks at the length alone, so that opening a large model is quick;
    /// [`PackedMatrix::check_contents`] reads the bytes. No content can do worse than make results
    /// that are not finite.
    ///
    /// # Errors
    /// [`KernelError::Length`] unless there are as many bytes as `shape` needs.
    pub fn from_bytes(shape: PackedShape, bytes: SharedBytes) -> Result<Self, KernelError> {
        check_length("packed bytes", shape.total_bytes(), bytes.len())?;
        Ok(Self { shape, bytes })
    }

    /// Reads the whole matrix and checks what its layout promises.
    ///
    /// # Errors
    /// [`KernelError::NotFinite`] for a scale or zero point that is infinite or NaN,
    /// [`KernelError::DirtyPadding`] if anything but zero lies beyond the last row or column.
    pub fn check_contents(&self) -> Result<(), KernelError> {
        for (tile, view) in self.tiles().enumerate() {
            for group in 0..self.shape.groups() {
                self.check_group(tile, group, view.group(group))?;
            }
        }
        Ok(())
    }

    fn check_group(&self, tile: usize, index: usize, group: Group<'_>) -> Result<(), KernelError> {
        let rows = (self.shape.rows() - tile * TILE_ROWS).min(TILE_ROWS);
        for (what, values) in [("scale", group.scales()), ("zero point", group.zeros())] {
            if let Some(row) = values.iter().position(|value| !value.is_finite()) {
                return Err(KernelError::NotFinite { what, row: tile * TILE_ROWS + row, group: index });
            }
            if values[rows..].iter().any(|value| value.to_bits() != 0) {
                return Err(KernelError::DirtyPadding { tile });
            }
        }
        let range = self.shape.group_range(index);
        if rows == TILE_ROWS && range.end <= self.shape.cols() {
            return Ok(());
        }
        let mut clean = true;
        group.for_each_step(|step, codes| {
            let col = range.start + step * STEP_COLS;
            let padding = |at: usize| at / STEP_COLS >= rows || col + at % STEP_COLS >= self.shape.cols();
            clean &= codes.iter().enumerate().all(|(at, &code)| code == 0 || !padding(at));
        });
        if clean { Ok(()) } else { Err(KernelError::DirtyPadding { tile }) }
    }

    /// The matrix's shape.
    pub const fn shape(&self) -> &PackedShape {
        &self.shape
    }

    /// All bytes, in the layout of [`PackedShape`].
    pub const fn bytes(&self) -> &SharedBytes {
        &self.bytes
    }

    /// Scale and zero point of group `group` of row `row`.
    ///
    /// # Panics
    /// If the matrix has no such row or group.
    pub fn params(&self, row: usize, group: usize) -> (f32, f32) {
        assert!(row < self.shape.rows() && group < self.shape.groups(), "no row {row}, group {group}");
        let group = self.tile(row / TILE_ROWS).group(group);
        (group.scales()[row % TILE_ROWS].to_f32(), group.zeros()[row % TILE_ROWS].to_f32())
    }

    /// The codes of the whole matrix, one byte each, row-major.
    pub fn unpack_codes(&self) -> Vec<u8> {
        self.map_codes(|_, code| code)
    }

    /// The weights the matrix stands for, `f32`, row-major.
    pub fn dequantize(&self) -> Vec<f32> {
        self.map_codes(|(scale, zero), code| scale * (f32::from(code) - zero))
    }

    /// What `value` makes of every weight's scale and zero point and its code, row-major.
    fn map_codes<T: Copy + Default + Send>(&self, value: impl Fn((f32, f32), u8) -> T + Sync) -> Vec<T> {
        let cols = self.shape.cols();
        let mut values = vec![T::default(); self.shape.weights()];
        values.par_chunks_mut(TILE_ROWS * cols).enumerate().for_each(|(tile, values)| {
            let view = self.tile(tile);
            for index in 0..self.shape.groups() {
                let (group, range) = (view.group(index), self.shape.group_range(index));
                let params = group.params();
                group.for_each_step(|step, codes| {
                    let start = range.start + step * STEP_COLS;
                    let width = cols.saturating_sub(start).min(STEP_COLS);
                    let lanes = codes.chunks_exact(STEP_COLS).zip(values.chunks_exact_mut(cols)).enumerate();
                    for (lane, (codes, row)) in lanes {
                        let params = (params[0][lane], params[1][lane]);
                        for (target, &code) in row[cols.min(start)..][..width].iter_mut().zip(codes) {
                            *target = value(params, code);
                        }
                    }
                });
            }
        });
        values
    }

    /// Tile `tile` for kernels.
    pub(crate) fn tile(&self, tile: usize) -> Tile<'_> {
        let bytes = self.shape.tile_bytes();
        Tile::new(&self.shape, self.bytes[tile * bytes..][..bytes].as_chunks().0)
    }

    fn tiles(&self) -> impl Iterator<Item = Tile<'_>> {
        let tiles = self.bytes.chunks_exact(self.shape.tile_bytes());
        tiles.map(|bytes| Tile::new(&self.shape, bytes.as_chunks().0))
    }
}

/// Packs the tile whose first row is `first`; `lines` are zero.
fn pack_tile(shape: &PackedShape, first: usize, params: [&[f16]; 2], codes: &[u8], lines: &mut [Line]) {
    let rows = first..shape.rows().min(first + TILE_ROWS);
    let block_lines = shape.bits().bits() as usize;
    for group in 0..shape.groups() {
        let range = shape.group_range(group);
        let (head, body) = lines[shape.group_line(group)..].split_at_mut(1);
        for (half, values) in head[0].chunks_exact_mut(LINE / 2).zip(params) {
            for (bytes, row) in half.chunks_exact_mut(2).zip(rows.clone()) {
                bytes.copy_from_slice(&values[row * shape.groups() + group].to_le_bytes());
            }
        }
        for (block, start) in range.step_by(BLOCK_COLS).enumerate() {
            let mut steps = [[0; LINE]; BLOCK_STEPS];
            for row in rows.clone() {
                let end = shape.cols().min(start + BLOCK_COLS);
                for (i, &code) in codes[row * shape.cols()..][start.min(end)..end].iter().enumerate() {
                    steps[i / STEP_COLS][(row - first) * STEP_COLS + i % STEP_COLS] = code;
                }
            }
            block::pack(shape.bits(), &steps, &mut body[block * block_lines..][..block_lines]);
        }
    }
}

fn check_length(what: &'static str, expected: usize, found: usize) -> Result<(), KernelError> {
    if expected == found { Ok(()) } else { Err(KernelError::Length { what, expected, found }) }
}

#[cfg(test)]
mod tests;
