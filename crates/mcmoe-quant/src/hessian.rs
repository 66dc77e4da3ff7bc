//! The second moment of a layer's inputs.

use faer::linalg::matmul::triangular::{BlockStructure, matmul};
use faer::{Accum, MatMut, MatRef};
use mcmoe_tensor_kernels::Backend;
use rayon::prelude::*;

use crate::QuantError;
use crate::linalg::parallelism;

/// `H = (2/n) Σ x xᵀ` over `n` calibration tokens: how much an error in each weight of a row hurts.
///
/// Weights that read the same inputs (all rows of a matrix; an expert's `w1` and `w3`) share one.
#[derive(Clone, Debug)]
pub struct Hessian {
    features: usize,
    tokens: usize,
    /// `Σ x xᵀ`, row-major; only the lower triangle is kept up.
    sum: Vec<f32>,
}

impl Hessian {
    /// A Hessian that has seen no token, for inputs of `features` features.
    pub fn new(features: usize) -> Self {
        Self { features, tokens: 0, sum: vec![0.0; features * features] }
    }

    /// A Hessian from `Σ x xᵀ` over `tokens` tokens, `[features, features]`, computed elsewhere.
    ///
    /// # Errors
    /// [`QuantError::NotWholeRows`] unless `sum` is square.
    pub fn from_sum(features: usize, tokens: usize, sum: Vec<f32>) -> Result<Self, QuantError> {
        if sum.len() != features * features {
            return Err(QuantError::NotWholeRows { what: "sums", width: features, found: sum.len() });
        }
        Ok(Self { features, tokens, sum })
    }

    /// Makes sure that a batch is whole rows of `features` finite numbers, and counts them.
    ///
    /// # Errors
    /// As [`Hessian::add`].
    pub fn check(features: usize, inputs: &[f32]) -> Result<usize, QuantError> {
        if features == 0 || !inputs.len().is_multiple_of(features) {
            return Err(QuantError::NotWholeRows { what: "inputs", width: features, found: inputs.len() });
        }
        if let Some(at) = inputs.iter().position(|x| !x.is_finite()) {
            let (token, feature) = (at / features, at % features);
            return Err(QuantError::InputNotFinite { token, feature, value: inputs[at] });
        }
        Ok(inputs.len() / features)
    }

    /// Adds a batch of tokens, `[tokens, features]` row-major.
    ///
    /// # Errors
    /// [`QuantError::NotWholeRows`] for a ragged batch, [`QuantError::InputNotFinite`] if an input is
    /// infinite or NaN.
    pub fn add(&mut self, inputs: &[f32]) -> Result<(), QuantError> {
        let features = self.features;
        let tokens = Self::check(features, inputs)?;
        if tokens > 0 {
            let x = MatRef::from_row_major_slice(inputs, tokens, features);
            let sum = MatMut::from_row_major_slice_mut(&mut self.sum, features, features);
            let (lower, full) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
            matmul(sum, lower, Accum::Add, x.transpose(), full, x, full, 1.0, parallelism(features));
        }
        self.tokens += tokens;
        Ok(())
    }

    /// The Hessian of the rotated inputs ([`Backend::rotate`]).
    pub(crate) fn rotated(&self, backend: Backend) -> Self {
        let n = self.features;
        let mut sum = self.sum.clone();
        for i in 0..n {
            for j in 0..i {
                sum[j * n + i] = sum[i * n + j];
            }
        }
        // R H Rᵀ: each row rotated, then each column, which the symmetry turns into rows again.
        for _ in 0..2 {
            sum.par_chunks_exact_mut(n.max(1)).for_each(|row| backend.rotate(row));
            transpose(&mut sum, n);
        }
        Self { sum, ..*self }
    }

    /// Number of input features.
    pub const fn features(&self) -> usize {
        self.features
    }

    /// Tokens seen.
    pub const fn tokens(&self) -> usize {
        self.tokens
    }

    /// `H[i][j]`.
    ///
    /// # Panics
    /// If an index is not below [`Hessian::features`].
    pub fn get(&self, i: usize, j: usize) -> f32 {
        let scale = 2.0 / self.tokens.max(1) as f32;
        scale * self.sum[i.max(j) * self.features + i.min(j)]
    }

    /// `tr(M H Mᵀ)` for the rows of `m`, `[rows, features]` row-major.
    pub(crate) fn energy(&self, m: &[f32]) -> f64 {
        /// Rows whose products with the Hessian are held at a time.
        const ROWS: usize = 1024;
        let n = self.features;
        let sum = MatRef::from_row_major_slice(&self.sum, n, n);
        let (lower, full) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
        let mut product = vec![0.0; n * ROWS.min(m.len() / n)];
        let mut total = 0.0;
        for m in m.chunks(ROWS * n) {
            let (rows, product) = (m.len() / n, &mut product[..m.len()]);
            let target = MatMut::from_row_major_slice_mut(product, rows, n);
            let lhs = MatRef::from_row_major_slice(m, rows, n);
            // Half the work: what lies below the diagonal counts twice.
            matmul(target, full, Accum::Replace, lhs, full, sum, lower, 1.0, parallelism(n));
            for (product, m) in product.chunks_exact(n).zip(m.chunks_exact(n)) {
                let of_column = |(j, (&p, &m)): (usize, (&f32, &f32))| {
                    let diagonal = self.sum[j * n + j] * m;
                    f64::from(m) * (2.0 * f64::from(p) - f64::from(diagonal))
                };
                total += product.iter().zip(m).enumerate().map(of_column).sum::<f64>();
            }
        }
        total * 2.0 / self.tokens.max(1) as f64
    }

    /// Mean of the diagonal.
    pub fn mean_diagonal(&self) -> f32 {
        (0..self.features).map(|i| self.get(i, i)).sum::<f32>() / self.features as f32
    }
}

/// Transposes a square matrix, in tiles that fit a cache.
fn transpose(matrix: &mut [f32], n: usize) {
    const TILE: usize = 32;
    for top in (0..n).step_by(TILE) {
        for left in (top..n).step_by(TILE) {
            for i in top..n.min(top + TILE) {
                for j in left.max(i + 1)..n.min(left + TILE) {
                    matrix.swap(i * n + j, j * n + i);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_definition() {
        let inputs: Vec<f32> = (0..7 * 5).map(|i| ((i * 31 % 17) as f32 - 8.0) / 4.0).collect();
        let mut hessian = Hessian::new(5);
        hessian.add(&inputs[..15]).unwrap();
        hessian.add(&inputs[15..]).unwrap();
        hessian.add(&[]).unwrap();
        assert_eq!(hessian.tokens(), 7);
        for i in 0..5 {
            for j in 0..5 {
                let sum: f32 = inputs.chunks(5).map(|x| x[i] * x[j]).sum();
                assert!((hessian.get(i, j) - 2.0 / 7.0 * sum).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn energy_is_the_trace() {
        let (features, rows) = (6, 5);
        let inputs: Vec<f32> = (0..9 * features).map(|i| ((i * 31 % 17) as f32 - 8.0) / 4.0).collect();
        let mut hessian = Hessian::new(features);
        hessian.add(&inputs).unwrap();
        let m: Vec<f32> = (0..rows * features).map(|i| ((i * 13 % 11) as f32 - 5.0) / 3.0).collect();
        // H = 2/n Σ x xᵀ, so the trace is 2/n Σ (m·x)² over rows and tokens.
        let product = |m: &[f32], x: &[f32]| m.iter().zip(x).map(|(m, x)| f64::from(m * x)).sum::<f64>();
        let tokens = inputs.chunks(features);
        let expected: f64 = tokens.flat_map(|x| m.chunks(features).map(move |m| product(m, x).powi(2))).sum();
        let expected = expected * 2.0 / 9.0;
        assert!((hessian.energy(&m) / expected - 1.0).abs() < 1e-5, "{} {expected}", hessian.energy(&m));
    }

    #[test]
    fn bad_inputs_are_named() {
        let mut hessian = Hessian::new(2);
        let error = hessian.add(&[1.0, 2.0, 3.0, f32::INFINITY]).unwrap_err();
        assert_eq!(error, QuantError::InputNotFinite { token: 1, feature: 1, value: f32::INFINITY });
        assert!(matches!(hessian.add(&[1.0]), Err(QuantError::NotWholeRows { width: 2, found: 1, .. })));
        assert_eq!(hessian.tokens(), 0);
    }
}
