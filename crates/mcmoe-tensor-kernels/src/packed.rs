//! The packed matrix: codes, scales and zero points over shared bytes.

use half::f16;

use crate::{BitWidth, KernelError, PackedShape, SharedBytes};

/// A matrix `[rows, cols]` of packed codes with a scale and a zero point a group.
///
/// `w[r][c] = scale[r][g] * (code[r][c] - zero[r][g])` with `g = c / group_size`. See [`PackedShape`]
/// for the order of the bits. Scales and zeros are little-endian `f16`, row-major `[rows, groups]`.
#[derive(Clone, Debug)]
pub struct PackedMatrix {
    shape: PackedShape,
    codes: SharedBytes,
    scales: SharedBytes,
    zeros: SharedBytes,
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
        let mut packed = Vec::with_capacity(shape.code_bytes());
        for row in codes.chunks_exact(shape.cols()) {
            pack_row(row, shape.bits(), &mut packed);
        }
        Self::from_bytes(shape, packed.into(), to_bytes(scales).into(), to_bytes(zeros).into())
    }

    /// A matrix over bytes in the packed layout, for example a range of a memory-mapped file.
    ///
    /// # Errors
    /// [`KernelError::Length`] if a part does not have the length that `shape` needs,
    /// [`KernelError::NotFinite`] for a scale or zero that is infinite or NaN,
    /// [`KernelError::DirtyPadding`] if bits are set beyond a row's last code.
    pub fn from_bytes(
        shape: PackedShape,
        codes: SharedBytes,
        scales: SharedBytes,
        zeros: SharedBytes,
    ) -> Result<Self, KernelError> {
        check_length("packed codes", shape.code_bytes(), codes.len())?;
        check_length("bytes of scales", 2 * shape.params(), scales.len())?;
        check_length("bytes of zeros", 2 * shape.params(), zeros.len())?;
        check_finite("scale", &shape, &scales)?;
        check_finite("zero point", &shape, &zeros)?;
        check_padding(&shape, &codes)?;
        Ok(Self { shape, codes, scales, zeros })
    }

    /// The matrix's shape.
    pub const fn shape(&self) -> &PackedShape {
        &self.shape
    }

    /// All packed codes.
    pub fn code_bytes(&self) -> &[u8] {
        &self.codes
    }

    /// All scales as little-endian `f16`, `[rows, groups]`.
    pub fn scale_bytes(&self) -> &[u8] {
        &self.scales
    }

    /// All zero points as little-endian `f16`, `[rows, groups]`.
    pub fn zero_bytes(&self) -> &[u8] {
        &self.zeros
    }

    /// One row, for kernels.
    ///
    /// # Panics
    /// If `row` is not below [`PackedShape::rows`].
    pub fn row(&self, row: usize) -> PackedRow<'_> {
        let (bytes, params) = (self.shape.row_bytes(), 2 * self.shape.groups());
        PackedRow {
            shape: &self.shape,
            codes: &self.codes[row * bytes..][..bytes],
            scales: &self.scales[row * params..][..params],
            zeros: &self.zeros[row * params..][..params],
        }
    }

    /// The codes of the whole matrix, one byte each, row-major.
    pub fn unpack_codes(&self) -> Vec<u8> {
        let mut codes = vec![0; self.shape.weights()];
        for (row, out) in codes.chunks_exact_mut(self.shape.cols()).enumerate() {
            self.row(row).codes_into(out);
        }
        codes
    }

    /// The weights the matrix stands for, `f32`, row-major.
    pub fn dequantize(&self) -> Vec<f32> {
        let mut weights = vec![0.0; self.shape.weights()];
        for (row, out) in weights.chunks_exact_mut(self.shape.cols()).enumerate() {
            self.row(row).dequantize_into(out);
        }
        weights
    }
}

/// One row of a [`PackedMatrix`].
#[derive(Clone, Copy, Debug)]
pub struct PackedRow<'a> {
    shape: &'a PackedShape,
    codes: &'a [u8],
    scales: &'a [u8],
    zeros: &'a [u8],
}

impl PackedRow<'_> {
    /// Scale and zero point of group `group`.
    pub fn params(&self, group: usize) -> (f32, f32) {
        let read = |bytes: &[u8]| f16::from_le_bytes([bytes[2 * group], bytes[2 * group + 1]]).to_f32();
        (read(self.scales), read(self.zeros))
    }

    /// Writes the row's codes, one byte each. `out` has `cols` elements.
    pub fn codes_into(&self, out: &mut [u8]) {
        unpack_row(self.codes, self.shape.bits(), out);
    }

    /// Writes the row's weights. `out` has `cols` elements.
    pub fn dequantize_into(&self, out: &mut [f32]) {
        let bits = self.shape.bits();
        let group_bytes = self.shape.group_size() / 8 * bits.bits() as usize;
        let groups = out.chunks_mut(self.shape.group_size()).zip(self.codes.chunks(group_bytes));
        for (group, (weights, codes)) in groups.enumerate() {
            let (scale, zero) = self.params(group);
            for (eight, bytes) in weights.chunks_mut(8).zip(codes.chunks(bits.bits() as usize)) {
                let codes = unpack_eight(bytes, bits);
                for (weight, code) in eight.iter_mut().zip(codes) {
                    *weight = scale * (f32::from(code) - zero);
                }
            }
        }
    }
}

/// Eight codes fill exactly `bits` bytes, whatever the width.
fn pack_row(codes: &[u8], bits: BitWidth, packed: &mut Vec<u8>) {
    let width = u32::from(bits.bits());
    for eight in codes.chunks(8) {
        let word = eight.iter().rev().fold(0_u64, |word, &code| word << width | u64::from(code));
        let bytes = (eight.len() * width as usize).div_ceil(8);
        packed.extend_from_slice(&word.to_le_bytes()[..bytes]);
    }
}

fn unpack_row(packed: &[u8], bits: BitWidth, codes: &mut [u8]) {
    for (eight, bytes) in codes.chunks_mut(8).zip(packed.chunks(bits.bits() as usize)) {
        let unpacked = unpack_eight(bytes, bits);
        eight.copy_from_slice(&unpacked[..eight.len()]);
    }
}

fn unpack_eight(bytes: &[u8], bits: BitWidth) -> [u8; 8] {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    let word = u64::from_le_bytes(word);
    let (width, mask) = (u32::from(bits.bits()), bits.max_code());
    std::array::from_fn(|i| (word >> (width * i as u32)) as u8 & mask)
}

fn to_bytes(values: &[f16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn check_length(what: &'static str, expected: usize, found: usize) -> Result<(), KernelError> {
    if expected == found { Ok(()) } else { Err(KernelError::Length { what, expected, found }) }
}

fn check_finite(what: &'static str, shape: &PackedShape, bytes: &[u8]) -> Result<(), KernelError> {
    let finite = |pair: &[u8]| f16::from_le_bytes([pair[0], pair[1]]).is_finite();
    match bytes.chunks_exact(2).position(|pair| !finite(pair)) {
        None => Ok(()),
        Some(at) => {
            Err(KernelError::NotFinite { what, row: at / shape.groups(), group: at % shape.groups() })
        }
    }
}

fn check_padding(shape: &PackedShape, codes: &[u8]) -> Result<(), KernelError> {
    let used = shape.cols() * shape.bits().bits() as usize % 8;
    if used == 0 {
        return Ok(());
    }
    let last_bytes = codes.chunks_exact(shape.row_bytes()).map(|row| row[row.len() - 1]);
    match last_bytes.into_iter().position(|byte| byte >> used != 0) {
        None => Ok(()),
        Some(row) => Err(KernelError::DirtyPadding { row }),
    }
}

#[cfg(test)]
mod tests;
