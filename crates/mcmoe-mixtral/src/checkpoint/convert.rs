//! Weights of any floating type: which they are, as `f32`, and whether they are finite.

use half::{bf16, f16};
use mcmoe_quant::DenseType;
use rayon::prelude::*;
use safetensors::Dtype;

/// The element type of a tensor that holds weights; `None` for any other.
pub(super) const fn weight_type(dtype: Dtype) -> Option<DenseType> {
    match dtype {
        Dtype::BF16 => Some(DenseType::Bf16),
        Dtype::F16 => Some(DenseType::F16),
        Dtype::F32 => Some(DenseType::F32),
        _ => None,
    }
}

/// The little-endian elements in `bytes` as `f32`.
pub(crate) fn to_f32(dtype: DenseType, bytes: &[u8]) -> Vec<f32> {
    match dtype {
        DenseType::Bf16 => map(bytes, |b: [u8; 2]| bf16::from_le_bytes(b).to_f32()),
        DenseType::F16 => map(bytes, |b: [u8; 2]| f16::from_le_bytes(b).to_f32()),
        DenseType::F32 => map(bytes, f32::from_le_bytes),
    }
}

/// `values` as little-endian elements of this type, each rounded to the nearest.
pub(crate) fn from_f32(dtype: DenseType, values: &[f32]) -> Vec<u8> {
    match dtype {
        DenseType::Bf16 => values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect(),
        DenseType::F16 => values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
        DenseType::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    }
}

/// Place and value of the first of the elements in `bytes` that is not finite.
pub(super) fn first_not_finite(dtype: DenseType, bytes: &[u8]) -> Option<(usize, f32)> {
    match dtype {
        DenseType::Bf16 => find(bytes, |b: [u8; 2]| bf16::from_le_bytes(b).to_f32()),
        DenseType::F16 => find(bytes, |b: [u8; 2]| f16::from_le_bytes(b).to_f32()),
        DenseType::F32 => find(bytes, f32::from_le_bytes),
    }
}

fn find<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f32 + Sync) -> Option<(usize, f32)> {
    /// Elements looked at in one go, without a branch for each.
    const PIECE: usize = 1 << 12;
    let (elements, _) = bytes.as_chunks::<N>();
    let damaged = |piece: &[[u8; N]]| piece.iter().fold(false, |bad, b| bad | !read(*b).is_finite());
    let piece = elements.par_chunks(PIECE).position_first(damaged)?;
    let mut rest = elements.iter().enumerate().skip(piece * PIECE);
    rest.find_map(|(place, b)| Some((place, read(*b))).filter(|(_, value)| !value.is_finite()))
}

fn map<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f32 + Sync) -> Vec<f32> {
    let (elements, _) = bytes.as_chunks::<N>();
    elements.par_iter().with_min_len(1 << 16).map(|element| read(*element)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_weight_type_is_read() {
        let values = [0.0_f32, -1.5, 2.0, 0.375];
        let bf16s: Vec<u8> = values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect();
        let f16s: Vec<u8> = values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
        let f32s: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        for (dtype, bytes) in [(Dtype::BF16, bf16s), (Dtype::F16, f16s), (Dtype::F32, f32s)] {
            let weight_type = weight_type(dtype).unwrap();
            assert_eq!(to_f32(weight_type, &bytes), values, "{dtype:?}");
            assert_eq!(from_f32(weight_type, &values), bytes, "{dtype:?}");
        }
        assert!(weight_type(Dtype::I64).is_none());
    }

    #[test]
    fn what_is_not_finite_is_found() {
        let mut values = vec![0.5_f32; 10_000];
        let bytes = |values: &[f32]| values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect();
        let find = |bytes: Vec<u8>| first_not_finite(DenseType::Bf16, &bytes);
        assert_eq!(find(bytes(&values)), None);
        (values[9_000], values[9_001]) = (f32::INFINITY, f32::NAN);
        assert_eq!(find(bytes(&values)), Some((9_000, f32::INFINITY)));
    }
}
