//! Matrices of random codes, to measure speed with.

use half::f16;
use rayon::prelude::*;

use super::PackedMatrix;
use crate::shape::TILE_ROWS;
use crate::trellis::{ZERO, levels};
use crate::{Coding, PackedShape, SharedBytes};

impl PackedMatrix {
    /// A matrix of random codes whose weights are spread around zero such that inputs of unit size give
    /// outputs of unit size. The same `seed` gives the same matrix.
    ///
    /// Rows and columns that pad the shape hold codes, too: products do not show it, but
    /// [`PackedMatrix::check_contents`] refuses them.
    pub fn synthetic(shape: PackedShape, seed: u64) -> Self {
        // The spread of evenly distributed codes is that of their range over √12, nearly.
        let (spread, zero) = match shape.coding() {
            Coding::Grid(bits) => {
                let max = f32::from(bits.max_code());
                ((max * (max + 2.0) / 12.0).sqrt(), max / 2.0)
            }
            Coding::Trellis(rate) => {
                let levels = levels(rate).as_flattened();
                let square =
                    levels.iter().map(|&level| (f32::from(level) - f32::from(ZERO)).powi(2)).sum::<f32>();
                ((square / levels.len() as f32).sqrt(), 0.0)
            }
        };
        let scale = f16::from_f32(1.0 / (spread * (shape.cols() as f32).sqrt()));
        let params = [scale, f16::from_f32(zero)].map(|value| [value.to_le_bytes(); TILE_ROWS]);
        let head = &params.as_flattened().as_flattened()[..shape.head_bytes()];
        let mut bytes = vec![0; shape.total_bytes()];
        bytes.par_chunks_exact_mut(shape.tile_bytes()).enumerate().for_each(|(tile, bytes)| {
            let (words, _) = bytes.as_chunks_mut();
            let mut state = (seed ^ tile as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
            for word in words {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                *word = state.to_le_bytes();
            }
            for group in 0..shape.groups() {
                bytes[shape.group_start(group)..][..head.len()].copy_from_slice(head);
            }
        });
        Self { shape, bytes: SharedBytes::from(bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BitWidth, TrellisRate};

    #[test]
    fn weights_are_spread_around_zero() {
        let grids = BitWidth::ALL.map(Coding::Grid).into_iter();
        for coding in grids.chain(TrellisRate::ALL.map(Coding::Trellis)) {
            let shape = PackedShape::new(64, 512, coding, 128).unwrap();
            let matrix = PackedMatrix::synthetic(shape, 7);
            assert_eq!(matrix.check_contents(), Ok(()));
            let weights = matrix.dequantize();
            let mean = weights.iter().sum::<f32>() / weights.len() as f32;
            let square = weights.iter().map(|w| w * w).sum::<f32>() / weights.len() as f32 * 512.0;
            assert!(mean.abs() < 2e-3 && (square - 1.0).abs() < 0.1, "{coding}: {mean} {square}");
            assert_eq!(weights, PackedMatrix::synthetic(shape, 7).dequantize());
            assert_ne!(weights, PackedMatrix::synthetic(shape, 8).dequantize());
        }
    }
}
