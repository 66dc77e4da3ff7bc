//! The plain kernel: decode a row, then dot it with every token.

use rayon::prelude::*;

use crate::PackedMatrix;

/// Rows a task works on: enough to pay for the task, few enough to share out evenly.
const ROWS_A_TASK: usize = 16;
/// Independent partial sums of a dot product, a fixed order that compilers can vectorise.
const LANES: usize = 16;

/// `y[t][r] = Σ_c x[t][c] w[r][c]`; lengths have been checked, there is at least one token.
pub(super) fn matmul(weight: &PackedMatrix, x: &[f32], y: &mut [f32]) {
    let tokens = x.len() / weight.shape().cols();
    if tokens == 1 {
        return by_rows(weight, x, y, 1);
    }
    // Tasks own rows of W, hence columns of y: they write yᵀ, which is turned at the end.
    let mut transposed = vec![0.0; y.len()];
    by_rows(weight, x, &mut transposed, tokens);
    let rows = weight.shape().rows();
    y.par_chunks_mut(rows).enumerate().for_each(|(token, out)| {
        for (row, value) in out.iter_mut().enumerate() {
            *value = transposed[row * tokens + token];
        }
    });
}

/// Writes `yᵀ`, `[rows, tokens]`.
fn by_rows(weight: &PackedMatrix, x: &[f32], transposed: &mut [f32], tokens: usize) {
    let cols = weight.shape().cols();
    transposed.par_chunks_mut(ROWS_A_TASK * tokens).enumerate().for_each(|(task, out)| {
        let mut decoded = vec![0.0; cols];
        for (i, out) in out.chunks_exact_mut(tokens).enumerate() {
            weight.row(task * ROWS_A_TASK + i).dequantize_into(&mut decoded);
            for (value, token) in out.iter_mut().zip(x.chunks_exact(cols)) {
                *value = dot(&decoded, token);
            }
        }
    });
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    let mut sums = [0.0; LANES];
    for (a, b) in a.zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f32>() + tail
}

#[cfg(test)]
mod tests {
    use half::f16;
    use proptest::prelude::*;

    use crate::{BitWidth, KernelError, PackedMatrix, PackedShape, matmul};

    /// `y = x Wᵀ` in `f64` from the dequantized weights.
    fn oracle(weight: &PackedMatrix, x: &[f32]) -> Vec<f64> {
        let (w, cols) = (weight.dequantize(), weight.shape().cols());
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        x.chunks(cols).flat_map(|x| w.chunks(cols).map(|w| dot(w, x)).collect::<Vec<f64>>()).collect()
    }

    fn random(shape: PackedShape, seed: u64) -> (PackedMatrix, impl FnMut() -> f32) {
        let mut state = seed | 1;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
        };
        let max = f32::from(shape.bits().max_code());
        let codes: Vec<u8> =
            (0..shape.weights()).map(|_| ((next() + 1.0) / 2.0 * (max + 0.99)) as u8).collect();
        let scales: Vec<f16> = (0..shape.params()).map(|_| f16::from_f32(next())).collect();
        let zeros: Vec<f16> = (0..shape.params()).map(|_| f16::from_f32(next() * max)).collect();
        (PackedMatrix::pack(shape, &codes, &scales, &zeros).unwrap(), next)
    }

    proptest! {
        #[test]
        fn equals_the_oracle(
            rows in 1_usize..40,
            cols in 1_usize..200,
            tokens in 1_usize..5,
            width in prop::sample::select(BitWidth::ALL.to_vec()),
            group_size in prop::sample::select(vec![8_usize, 64, 128]),
            seed in any::<u64>(),
        ) {
            let shape = PackedShape::new(rows, cols, width, group_size).unwrap();
            let (weight, mut next) = random(shape, seed);
            let x: Vec<f32> = (0..tokens * cols).map(|_| next()).collect();
            let mut y = vec![f32::NAN; tokens * rows];
            matmul(&weight, &x, &mut y).unwrap();
            let largest = weight.dequantize().iter().fold(0.0_f32, |m, w| m.max(w.abs()));
            let tolerance = 1e-6 * f64::from(largest) * cols as f64 + 1e-12;
            for (found, expected) in y.iter().zip(oracle(&weight, &x)) {
                prop_assert!((f64::from(*found) - expected).abs() <= tolerance, "{found} {expected}");
            }
            // A token's result does not depend on its company.
            let mut alone = vec![f32::NAN; rows];
            matmul(&weight, &x[..cols], &mut alone).unwrap();
            prop_assert_eq!(&y[..rows], &alone[..]);
        }
    }

    #[test]
    fn lengths_are_checked() {
        let shape = PackedShape::new(2, 8, BitWidth::B4, 8).unwrap();
        let (weight, _) = random(shape, 1);
        let input = matmul(&weight, &[0.0; 9], &mut [0.0; 2]).unwrap_err();
        assert_eq!(input, KernelError::Length { what: "input", expected: 16, found: 9 });
        let output = matmul(&weight, &[0.0; 16], &mut [0.0; 3]).unwrap_err();
        assert_eq!(output, KernelError::Length { what: "output", expected: 4, found: 3 });
        assert_eq!(matmul(&weight, &[], &mut []), Ok(()));
    }
}
