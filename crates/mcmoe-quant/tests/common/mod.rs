//! What several suites need.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// A normally distributed number of variance 1 (Box–Muller).
pub(crate) fn gaussian(rng: &mut ChaCha8Rng) -> f32 {
    let uniform = |rng: &mut ChaCha8Rng| (rng.next_u32() as f32 + 1.0) / 4_294_967_808.0;
    (-2.0 * uniform(rng).ln()).sqrt() * (std::f32::consts::TAU * uniform(rng)).cos()
}

/// The inverse of an `n` by `n` matrix, by Gauss–Jordan elimination.
pub(crate) fn invert(matrix: &[f64], n: usize) -> Vec<f64> {
    let mut a = matrix.to_vec();
    let mut inverse: Vec<f64> = (0..n * n).map(|at| f64::from(u8::from(at / n == at % n))).collect();
    for col in 0..n {
        let pivot = a[col * n + col];
        for j in 0..n {
            a[col * n + j] /= pivot;
            inverse[col * n + j] /= pivot;
        }
        for i in (0..n).filter(|&i| i != col) {
            let factor = a[i * n + col];
            for j in 0..n {
                a[i * n + j] -= factor * a[col * n + j];
                inverse[i * n + j] -= factor * inverse[col * n + j];
            }
        }
    }
    inverse
}
