//! Random weights that look like trained ones, as BF16 bytes.
//!
//! A weight is a Gaussian number times a scale of its row (output feature) times one of its column (input
//! feature). Weights of trained models are near Gaussian within a row (QLoRA, arXiv 2305.14314, appendix
//! F), and those that are hard to quantize gather in some rows and columns (SpQR, arXiv 2306.03078).
//!
//! Gaussian numbers are quantiles picked by random bits, four to each number of the generator, so that
//! disks rather than generators limit the speed. Each row has a generator of its own.

use std::sync::LazyLock;

use rayon::prelude::*;

use crate::random::{Xorshift, seed_of_part};

/// Standard deviation of all weights of a matrix: `initializer_range` in Mixtral's `config.json`.
const DEVIATION: f32 = 0.02;
/// Standard deviation of the logarithm of a column's scale.
const COLUMN_SPREAD: f32 = 0.25;
/// One column in so many stands out,
const COLUMNS_AN_OUTLIER: u64 = 256;
/// by this factor.
const OUTLIER: f32 = 4.0;
/// Standard deviation of the logarithm of a norm's weights.
const NORM_SPREAD: f32 = 0.1;

/// Quantiles of the normal distribution in equal steps, up to 3.7 standard deviations away from 0.
type Quantiles = [f32; 4096];

static QUANTILES: LazyLock<Quantiles> =
    LazyLock::new(|| std::array::from_fn(|i| normal_quantile((i as f64 + 0.5) / 4096.0) as f32));

/// A matrix `[rows, cols]`; the logarithm of its rows' scales has the standard deviation `row_spread`.
pub(super) fn matrix(rows: usize, cols: usize, row_spread: f32, seed: u64) -> Vec<u8> {
    let mut random = Xorshift::new(seed_of_part(seed, 0));
    let columns: Vec<f32> = (0..cols).map(|_| column_scale(random.next())).collect();
    let mut bytes = vec![0_u8; 2 * rows * cols];
    bytes.par_chunks_exact_mut(2 * cols).enumerate().for_each(|(row, bytes)| {
        let mut random = Xorshift::new(seed_of_part(seed, 1 + row as u64));
        let scale = DEVIATION * log_normal(random.next(), row_spread);
        fill(bytes, &columns, scale, &mut random);
    });
    bytes
}

/// The weights of a norm of `features` features, near 1.
pub(super) fn norm(features: usize, seed: u64) -> Vec<u8> {
    let mut random = Xorshift::new(seed_of_part(seed, 0));
    (0..features).flat_map(|_| bf16_bytes(log_normal(random.next(), NORM_SPREAD))).collect()
}

/// Fills a row: `columns` times `scale` times Gaussian numbers.
fn fill(bytes: &mut [u8], columns: &[f32], scale: f32, random: &mut Xorshift) {
    let quantiles = &*QUANTILES;
    let (weights, _) = bytes.as_chunks_mut::<2>();
    let (fours, rest) = weights.as_chunks_mut::<4>();
    let (columns, last_columns) = columns.as_chunks::<4>();
    for (four, columns) in fours.iter_mut().zip(columns) {
        put(four, columns, scale, random.next(), quantiles);
    }
    put(rest, last_columns, scale, random.next(), quantiles);
}

/// Up to four weights, each from 16 of `bits`.
#[inline(always)]
fn put(weights: &mut [[u8; 2]], columns: &[f32], scale: f32, mut bits: u64, quantiles: &Quantiles) {
    for (weight, column) in weights.iter_mut().zip(columns) {
        *weight = bf16_bytes(quantiles[bits as usize % quantiles.len()] * scale * column);
        bits >>= 16;
    }
}

/// The scale of a column from random bits; the mean of its square is 1.
fn column_scale(bits: u64) -> f32 {
    let outlier = if (bits >> 32).is_multiple_of(COLUMNS_AN_OUTLIER) { OUTLIER } else { 1.0 };
    let mean_square = 1.0 + (OUTLIER * OUTLIER - 1.0) / COLUMNS_AN_OUTLIER as f32;
    log_normal(bits, COLUMN_SPREAD) * outlier / mean_square.sqrt()
}

/// A positive number from random bits whose logarithm has the standard deviation `spread`; the mean of
/// its square is 1.
fn log_normal(bits: u64, spread: f32) -> f32 {
    (QUANTILES[bits as usize % QUANTILES.len()] * spread - spread * spread).exp()
}

/// BF16 is the upper half of `f32`; which way random numbers are rounded is of no account.
const fn bf16_bytes(value: f32) -> [u8; 2] {
    ((value.to_bits() >> 16) as u16).to_le_bytes()
}

/// The number that a normal variable stays below with probability `p`, within 0.0005 (Abramowitz and
/// Stegun 1964, 26.2.23).
fn normal_quantile(p: f64) -> f64 {
    let t = (-2.0 * p.min(1.0 - p).ln()).sqrt();
    let above = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    let below = 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308));
    (t - above / below).copysign(p - 0.5)
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    const ROWS: usize = 256;
    const COLS: usize = 1022;

    fn values(bytes: &[u8]) -> Vec<f64> {
        let (values, _) = bytes.as_chunks::<2>();
        values.iter().map(|&bytes| bf16::from_le_bytes(bytes).to_f64()).collect()
    }

    fn deviation(values: impl Iterator<Item = f64> + Clone) -> f64 {
        (values.clone().map(|v| v * v).sum::<f64>() / values.count() as f64).sqrt()
    }

    #[test]
    fn quantiles_are_those_of_tables() {
        let tables = [(0.001, -3.0902), (0.025, -1.9600), (0.5, 0.0), (0.841_345, 1.0), (0.999, 3.0902)];
        for (p, quantile) in tables {
            assert!((normal_quantile(p) - quantile).abs() < 5e-4, "{p}: {}", normal_quantile(p));
        }
        assert!((deviation(QUANTILES.iter().map(|&q| f64::from(q))) - 1.0).abs() < 2e-3);
    }

    #[test]
    fn matrices_are_spread_as_promised() {
        let values = values(&matrix(ROWS, COLS, 0.25, 7));
        assert_eq!(values.len(), ROWS * COLS);
        assert!(values.iter().all(|value| value.is_finite()));
        let whole = deviation(values.iter().copied());
        assert!((0.018..0.022).contains(&whole), "{whole}");
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        assert!(mean.abs() < 1e-3, "{mean}");

        let mut columns: Vec<f64> =
            (0..COLS).map(|c| deviation(values[c..].iter().step_by(COLS).copied())).collect();
        columns.sort_by(f64::total_cmp);
        let (middle, most) = (columns[COLS / 2], columns[COLS - 1]);
        assert!(middle < 0.022 && most > 3.0 * middle, "{middle} {most}");
        let rows: Vec<f64> = values.chunks(COLS).map(|row| deviation(row.iter().copied())).collect();
        let least = rows.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(least > 0.005 && rows.iter().any(|&row| row > 2.0 * least), "{least}");
    }

    #[test]
    fn norms_are_near_one() {
        let values = values(&norm(500, 7));
        assert!(values.len() == 500 && values.iter().all(|value| (0.6..1.5).contains(value)), "{values:?}");
        assert!((deviation(values.iter().copied()) - 1.0).abs() < 0.05);
    }

    #[test]
    fn seeds_and_rows_differ() {
        let bytes = matrix(2, COLS, 0.25, 7);
        assert_eq!(bytes, matrix(2, COLS, 0.25, 7));
        assert_ne!(bytes, matrix(2, COLS, 0.25, 8));
        assert_ne!(bytes[..2 * COLS], bytes[2 * COLS..]);
    }
}
