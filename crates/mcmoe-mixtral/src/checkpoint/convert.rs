//! Weights of any floating type as `f32`.

use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;

/// The little-endian elements in `bytes` as `f32`, or `None` for a type that holds no weights.
pub(super) fn to_f32(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let values = match dtype {
        Dtype::BF16 => map(bytes, |b: [u8; 2]| bf16::from_le_bytes(b).to_f32()),
        Dtype::F16 => map(bytes, |b: [u8; 2]| f16::from_le_bytes(b).to_f32()),
        Dtype::F32 => map(bytes, f32::from_le_bytes),
        _ => return None,
    };
    Some(values)
}

/// Place and value of the first weight that is not finite.
pub(super) fn first_not_finite(values: &[f32]) -> Option<(usize, f32)> {
    values.iter().position(|value| !value.is_finite()).map(|place| (place, values[place]))
}

/// As [`first_not_finite`] for the elements in `bytes`, without making them `f32`s first.
pub(super) fn find_not_finite(dtype: Dtype, bytes: &[u8]) -> Option<(usize, f32)> {
    match dtype {
        Dtype::BF16 => find(bytes, |b: [u8; 2]| bf16::from_le_bytes(b).to_f32()),
        Dtype::F16 => find(bytes, |b: [u8; 2]| f16::from_le_bytes(b).to_f32()),
        _ => find(bytes, f32::from_le_bytes),
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
            assert_eq!(to_f32(dtype, &bytes).unwrap(), values, "{dtype:?}");
        }
        assert!(to_f32(Dtype::I64, &[0; 8]).is_none());
    }

    #[test]
    fn what_is_not_finite_is_found() {
        let mut values = vec![0.5_f32; 10_000];
        let bytes = |values: &[f32]| values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect();
        let find = |bytes: Vec<u8>| find_not_finite(Dtype::BF16, &bytes);
        assert_eq!(find(bytes(&values)), None);
        (values[9_000], values[9_001]) = (f32::INFINITY, f32::NAN);
        assert_eq!(find(bytes(&values)), Some((9_000, f32::INFINITY)));
    }
}
