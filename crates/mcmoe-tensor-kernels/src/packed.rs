//! The packed matrix: tiles of codes, scales and zero points over shared bytes.

pub(crate) mod block;
mod synthetic;
mod tile;

use half::f16;
use rayon::prelude::*;

pub(crate) use block::Line;
#[cfg(target_arch = "x86_64")]
pub(crate) use tile::Halves;
pub(crate) use tile::{Group, Tile};

use crate::shape::{BLOCK_STEPS, HALVES, LINE, STEP_COLS, TILE_ROWS};
use crate::{Coding, KernelError, PackedShape, SharedBytes, rotation, trellis};

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
    /// On a trellis a code is the bits that the weight appends to its stream
    /// ([`Backend::search_trellis`](crate::Backend::search_trellis)), columns are those of rotated inputs,
    /// and there are no zero points.
    ///
    /// # Errors
    /// [`KernelError::Length`] for a slice of the wrong length, [`KernelError::CodeOutOfRange`] for a
    /// code with more bits than it has, [`KernelError::NotFinite`] for a bad scale or zero.
    pub fn pack(
        shape: PackedShape,
        codes: &[u8],
        scales: &[f16],
        zeros: &[f16],
    ) -> Result<Self, KernelError> {
        let zero_points = if matches!(shape.coding(), Coding::Grid(_)) { shape.params() } else { 0 };
        check_length("codes", shape.weights(), codes.len())?;
        check_length("scales", shape.params(), scales.len())?;
        check_length("zeros", zero_points, zeros.len())?;
        let too_large = |(at, &code): (usize, &u8)| u32::from(code) >> code_bits(&shape, at) != 0;
        if let Some((at, &code)) = codes.iter().enumerate().find(|&code| too_large(code)) {
            let (row, col) = (at / shape.cols(), at % shape.cols());
            return Err(KernelError::CodeOutOfRange { row, col, code, bits: code_bits(&shape, at) });
        }
        for (what, values) in [("scale", scales), ("zero point", zeros)] {
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                let (row, group) = (at / shape.groups(), at % shape.groups());
                return Err(KernelError::NotFinite { what, row, group });
            }
        }
        let mut bytes = vec![0; shape.total_bytes()];
        bytes.par_chunks_exact_mut(shape.tile_bytes()).enumerate().for_each(|(tile, bytes)| {
            pack_tile(&shape, tile * TILE_ROWS, [scales, zeros], codes, bytes);
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

    /// The matrix with all weights of a row times the row's factor: scales, rounded to `f16` again, change,
    /// codes do not.
    ///
    /// # Errors
    /// [`KernelError::Length`] unless there is one factor a row, [`KernelError::NotFinite`] where a scale
    /// becomes infinite or NaN.
    pub fn scale_rows(&self, factors: &[f32]) -> Result<Self, KernelError> {
        let shape = self.shape;
        check_length("factors", shape.rows(), factors.len())?;
        let mut bytes = self.bytes.to_vec();
        for (tile, (bytes, factors)) in
            bytes.chunks_exact_mut(shape.tile_bytes()).zip(factors.chunks(TILE_ROWS)).enumerate()
        {
            for group in 0..shape.groups() {
                let (scales, _) = bytes[shape.group_start(group)..][..HALVES].as_chunks_mut();
                for (lane, (scale, factor)) in scales.iter_mut().zip(factors).enumerate() {
                    let scaled = f16::from_f32(f16::from_le_bytes(*scale).to_f32() * factor);
                    if !scaled.is_finite() {
                        return Err(KernelError::NotFinite {
                            what: "scale",
                            row: tile * TILE_ROWS + lane,
                            group,
                        });
                    }
                    *scale = scaled.to_le_bytes();
                }
            }
        }
        Ok(Self { shape, bytes: bytes.into() })
    }

    /// Reads the whole matrix and checks what its layout promises.
    ///
    /// # Errors
    /// [`KernelError::NotFinite`] for a scale or zero point that is infinite or NaN,
    /// [`KernelError::DirtyPadding`] if anything but zero lies beyond the last row or column.
    pub fn check_contents(&self) -> Result<(), KernelError> {
        for tile in 0..self.shape.tiles() {
            for group in 0..self.shape.groups() {
                self.check_group(tile, group, self.tile(tile).group(group))?;
            }
        }
        Ok(())
    }

    fn check_group(&self, tile: usize, index: usize, group: Group<'_>) -> Result<(), KernelError> {
        let rows = (self.shape.rows() - tile * TILE_ROWS).min(TILE_ROWS);
        let mut params = vec![("scale", group.scales)];
        if matches!(group.coding(), Coding::Grid(_)) {
            params.push(("zero point", group.zeros));
        }
        for (what, values) in params {
            let values = tile::to_halves(values);
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
        let padding = |step: usize, at: usize| {
            at / STEP_COLS >= rows || range.start + group.column(step, at) >= self.shape.cols()
        };
        let mut clean = true;
        match group.coding() {
            Coding::Grid(_) => group.for_each_step(|step, codes| {
                clean &= codes.iter().enumerate().all(|(at, &code)| code == 0 || !padding(step, at));
            }),
            Coding::Trellis(rate) => {
                let places =
                    (0..range.len() / STEP_COLS).flat_map(|step| (0..LINE).map(move |at| (step, at)));
                let mut padded = places.filter(|&(step, at)| padding(step, at));
                clean = padded.all(|(step, at)| trellis::symbol(rate, step, at, group.codes) == 0);
            }
        }
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
        let [scales, zeros] = self.tile(row / TILE_ROWS).group(group).params();
        (scales[row % TILE_ROWS], zeros[row % TILE_ROWS])
    }

    /// The codes of the whole matrix, one byte each, row-major; on a trellis the levels, of rotated columns.
    pub fn unpack_codes(&self) -> Vec<u8> {
        self.map_codes(|_, code| code)
    }

    /// The weights the matrix stands for, `f32`, row-major.
    pub fn dequantize(&self) -> Vec<f32> {
        let mut weights = self.map_codes(|(scale, zero), code| scale * (f32::from(code) - zero));
        if matches!(self.shape.coding(), Coding::Trellis(_)) {
            weights.par_chunks_exact_mut(self.shape.cols()).for_each(rotation::rotate_back);
        }
        weights
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
                    let columns = [0, 1, 2, 3].map(|at| range.start + group.column(step, at));
                    let lanes = codes.chunks_exact(STEP_COLS).zip(values.chunks_exact_mut(cols)).enumerate();
                    for (lane, (codes, row)) in lanes {
                        let params = (params[0][lane], params[1][lane]);
                        for (col, &code) in columns.into_iter().zip(codes) {
                            if let Some(target) = row.get_mut(col) {
                                *target = value(params, code);
                            }
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
        Tile::new(&self.shape, &self.bytes[tile * bytes..][..bytes])
    }
}

/// Bits that the code of weight `at`, row-major, may have.
fn code_bits(shape: &PackedShape, at: usize) -> usize {
    match shape.coding() {
        Coding::Grid(bits) => bits.bits() as usize,
        Coding::Trellis(rate) => rate.bits_at(at % shape.cols() % shape.group_size()),
    }
}

/// Packs the tile whose first row is `first`; `bytes` are zero.
fn pack_tile(shape: &PackedShape, first: usize, params: [&[f16]; 2], codes: &[u8], bytes: &mut [u8]) {
    let rows = first..shape.rows().min(first + TILE_ROWS);
    for group in 0..shape.groups() {
        let range = shape.group_range(group);
        let (head, body) = bytes[shape.group_start(group)..].split_at_mut(shape.head_bytes());
        for (half, values) in head.chunks_exact_mut(HALVES).zip(params) {
            for (bytes, row) in half.chunks_exact_mut(2).zip(rows.clone()) {
                bytes.copy_from_slice(&values[row * shape.groups() + group].to_le_bytes());
            }
        }
        let lines = body.as_chunks_mut().0;
        // The code of byte `at` of a step's line, whose column in the group is `column`; padding is zero.
        let code = |at: usize, column: usize| {
            let (row, col) = (first + at / STEP_COLS, range.start + column);
            if row < rows.end && col < shape.cols() { codes[row * shape.cols() + col] } else { 0 }
        };
        let steps = range.len() / STEP_COLS;
        match shape.coding() {
            Coding::Grid(bits) => {
                for (block, lines) in
                    lines.chunks_exact_mut(bits.bits() as usize).enumerate().take(steps / BLOCK_STEPS)
                {
                    let line = |step| std::array::from_fn(|at| code(at, step * STEP_COLS + at % STEP_COLS));
                    let steps = std::array::from_fn(|step| line(block * BLOCK_STEPS + step));
                    block::pack(bits, &steps, lines);
                }
            }
            Coding::Trellis(rate) => {
                for step in 0..steps {
                    let symbols = std::array::from_fn(|at| code(at, at % STEP_COLS * steps + step));
                    trellis::pack(rate, step, &symbols, lines);
                }
            }
        }
    }
}

fn check_length(what: &'static str, expected: usize, found: usize) -> Result<(), KernelError> {
    if expected == found { Ok(()) } else { Err(KernelError::Length { what, expected, found }) }
}

#[cfg(test)]
mod tests;
