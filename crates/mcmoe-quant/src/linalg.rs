//! The factor of the inverse Hessian that GPTQ walks along, and the step that it takes beyond a block.

use std::ops::Range;

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::{cholesky_in_place, cholesky_in_place_scratch};
use faer::linalg::matmul::matmul;
use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::{Accum, Mat, MatMut, MatRef, Par, Spec};

use crate::Hessian;

/// Matrices from this side on are worth all threads; smaller ones are worked on side by side.
const SIDE_FOR_ALL_THREADS: usize = 2048;

/// How many threads work on a matrix with sides of `side`. Results are the same bits on any number: the
/// products of faer split rows and columns, never sums.
pub(crate) fn parallelism(side: usize) -> Par {
    if side < SIDE_FOR_ALL_THREADS { Par::Seq } else { Par::rayon(0) }
}

/// Upper-triangular `U` with `(H + λI)⁻¹ = Uᵀ U`, row-major, or `None` if the matrix is not positive
/// definite in `f32`.
///
/// Factoring `H` with rows and columns reversed, `P H P = L Lᵀ`, gives `U = P L⁻¹ P` at once: one
/// Cholesky and one triangular inverse, and never the inverse of `H` itself. Reversing a row-major square
/// matrix in both directions is reversing its elements.
pub(crate) fn inverse_factor(hessian: &Hessian, ridge: f32) -> Option<Vec<f32>> {
    let (n, par) = (hessian.features(), parallelism(hessian.features()));
    let mut lower = Mat::from_fn(n, n, |i, j| {
        let value = if i >= j { hessian.get(n - 1 - i, n - 1 - j) } else { 0.0 };
        if i == j { value + ridge } else { value }
    });
    let mut memory = MemBuffer::new(cholesky_in_place_scratch::<f32>(n, par, Spec::default()));
    let stack = MemStack::new(&mut memory);
    cholesky_in_place(lower.as_mut(), Default::default(), par, stack, Spec::default()).ok()?;
    let mut factor = vec![0.0; n * n];
    invert_lower_triangular(MatMut::from_row_major_slice_mut(&mut factor, n, n), lower.as_ref(), par);
    factor.reverse();
    factor.iter().all(|value| value.is_finite()).then_some(factor)
}

/// Takes the errors of the columns `range`, `[rows, range]` and each divided by its own entry of the
/// factor's diagonal, off all columns beyond, of `weights`, `[rows, cols]`.
pub(crate) fn correct_beyond(
    weights: &mut [f32],
    factor: &[f32],
    cols: usize,
    range: Range<usize>,
    errors: &[f32],
) {
    let (rows, beyond) = (weights.len() / cols, cols - range.end);
    if beyond == 0 {
        return;
    }
    let errors = MatRef::from_row_major_slice(errors, rows, range.len());
    let factor = MatRef::from_row_major_slice(factor, cols, cols);
    let factor = factor.submatrix(range.start, range.end, range.len(), beyond);
    let weights = MatMut::from_row_major_slice_mut(weights, rows, cols);
    let weights = weights.submatrix_mut(0, range.end, rows, beyond);
    matmul(weights, Accum::Add, errors, factor, -1.0, Par::Seq);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_factor_of_the_inverse() {
        let (n, tokens) = (40, 90);
        let inputs: Vec<f32> = (0..n * tokens).map(|i| ((i * i * 29 % 103) as f32 - 51.0) / 51.0).collect();
        let mut hessian = Hessian::new(n);
        hessian.add(&inputs).unwrap();
        let u = inverse_factor(&hessian, 0.01).unwrap();
        // (H + λI) Uᵀ U = I
        let inverse = |i: usize, j: usize| -> f32 { (0..n).map(|k| u[k * n + i] * u[k * n + j]).sum() };
        for i in 0..n {
            for j in 0..n {
                let ridge = |a: usize, b: usize| if a == b { 0.01 } else { 0.0 };
                let entry: f32 = (0..n).map(|k| (hessian.get(i, k) + ridge(i, k)) * inverse(k, j)).sum();
                assert!((entry - f32::from(u8::from(i == j))).abs() < 2e-3, "{i} {j} {entry}");
            }
        }
    }

    #[test]
    fn large_factors_do_not_depend_on_threads() {
        let n = SIDE_FOR_ALL_THREADS;
        let inputs: Vec<f32> =
            (0..n * 40).map(|i| ((i * i % 1009 * 29 % 103) as f32 - 51.0) / 51.0).collect();
        let factor = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut hessian = Hessian::new(n);
                hessian.add(&inputs).unwrap();
                (inverse_factor(&hessian, 0.5).unwrap(), hessian.energy(&inputs))
            })
        };
        let one = factor(1);
        for threads in [2, 3] {
            assert!(factor(threads) == one, "{threads} threads");
        }
    }

    #[test]
    fn what_is_not_positive_definite_is_refused() {
        let mut hessian = Hessian::new(3);
        hessian.add(&[1.0, 1.0, 1.0]).unwrap();
        assert!(inverse_factor(&hessian, -0.1).is_none());
        assert!(inverse_factor(&hessian, 0.1).is_some());
    }
}
