//! Trellis codes: GPTQ and rounding to nearest, from weights to packed matrices.

mod common;

use common::{gaussian, invert};
use mcmoe_quant::{
    Backend, Fallback, Hessian, KernelError, Matrix, Method, PackedMatrix, Precision, QuantError,
    QuantOptions, Quantized, TrellisRate, matmul, quantize, quantize_all,
};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

fn gaussians(count: usize, size: f32, rng: &mut ChaCha8Rng) -> Vec<f32> {
    (0..count).map(|_| size * gaussian(rng)).collect()
}

/// Inputs with strong correlations, as activations have: some directions that all columns share, and noise.
fn inputs(tokens: usize, cols: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let shared = cols.div_ceil(8);
    let mix = gaussians(shared * cols, 1.0 / (shared as f32).sqrt(), rng);
    let mut inputs = Vec::with_capacity(tokens * cols);
    for _ in 0..tokens {
        let mut token = gaussians(cols, 0.4, rng);
        for mix in mix.chunks_exact(cols) {
            let size = gaussian(rng);
            token.iter_mut().zip(mix).for_each(|(x, mix)| *x += size * mix);
        }
        inputs.append(&mut token);
    }
    inputs
}

/// The weights of a usual layer and the Hessian of so many tokens.
fn case(rows: usize, cols: usize, tokens: usize, seed: u64) -> (Vec<f32>, Hessian) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let weights = gaussians(rows * cols, 0.05, &mut rng);
    let mut hessian = Hessian::new(cols);
    hessian.add(&inputs(tokens, cols, &mut rng)).unwrap();
    (weights, hessian)
}

fn trellis(bits: f64, method: Method) -> QuantOptions {
    QuantOptions::trellis(bits).unwrap().method(method)
}

fn run(weights: &[f32], cols: usize, hessian: Option<&Hessian>, options: &QuantOptions) -> Quantized {
    quantize(Matrix::new(weights.len() / cols, cols, weights).unwrap(), hessian, options).unwrap()
}

/// Checks what every packed matrix promises, and returns its weights.
fn checked_weights(packed: &PackedMatrix) -> Vec<f32> {
    assert_eq!(packed.check_contents(), Ok(()));
    let weights = packed.dequantize();
    assert!(weights.iter().all(|weight| weight.is_finite()));
    weights
}

fn config(cases: u32) -> ProptestConfig {
    let rng_seed = RngSeed::Fixed(0);
    ProptestConfig { cases, rng_seed, failure_persistence: None, ..ProptestConfig::default() }
}

#[test]
fn a_trellis_beats_a_grid_and_feedback_beats_rounding() {
    for seed in 0..3 {
        let (weights, hessian) = case(16, 256, 600, seed);
        let output_error =
            |options: &QuantOptions| run(&weights, 256, Some(&hessian), options).report.output_error.unwrap();
        let gptq = output_error(&trellis(2.0, Method::Gptq));
        let grid = output_error(&QuantOptions::new(2).unwrap().group_size(128));
        let rtn = output_error(&trellis(2.0, Method::Rtn));
        assert!(gptq < 0.8 * grid, "seed {seed}: {gptq}, on a grid {grid}");
        assert!(gptq < 0.7 * rtn, "seed {seed}: {gptq}, without feedback {rtn}");
    }
}

#[test]
fn a_weight_takes_its_rate_and_a_share_of_a_scale() {
    let (weights, _) = case(16, 512, 0, 1);
    let stored = |options: &QuantOptions| run(&weights, 512, None, options).packed.shape().bits_per_weight();
    for rate in TrellisRate::ALL {
        assert_eq!(stored(&trellis(rate.bits(), Method::Rtn)), rate.bits() + 1.0 / 16.0);
    }
}

#[test]
fn errors_fall_with_the_rate() {
    let (weights, hessian) = case(16, 256, 400, 2);
    for method in [Method::Rtn, Method::Gptq] {
        let report = |rate: TrellisRate| {
            let report = run(&weights, 256, Some(&hessian), &trellis(rate.bits(), method)).report;
            [report.weight_error, report.output_error.unwrap()]
        };
        let reports = TrellisRate::ALL.map(report);
        for pair in reports.windows(2) {
            assert!((0..2).all(|at| pair[1][at] < 0.75 * pair[0][at]), "{method:?}: {reports:?}");
        }
    }
}

#[test]
fn rounding_errs_as_documented() {
    let (weights, _) = case(32, 256, 0, 3);
    for rate in TrellisRate::ALL {
        let report = run(&weights, 256, None, &trellis(rate.bits(), Method::Rtn)).report;
        assert_eq!((report.fallback, report.output_error), (None, None));
        let off = report.weight_error / rate.distortion() - 1.0;
        assert!(off.abs() < 0.1, "{rate}: {}", report.weight_error);
    }
}

/// Outliers and whole columns that are larger than others are rotated away.
#[test]
fn outliers_do_not_hurt() {
    let (mut weights, _) = case(16, 256, 0, 4);
    weights.iter_mut().skip(11).step_by(97).for_each(|weight| *weight *= 20.0);
    weights.iter_mut().skip(3).step_by(256).for_each(|weight| *weight *= 10.0);
    let rate = TrellisRate::new(2.0).unwrap();
    let error = run(&weights, 256, None, &trellis(2.0, Method::Rtn)).report.weight_error;
    assert!(error < 1.15 * rate.distortion(), "{error}");
}

/// The walk written plainly, in `f64`: what the codes found do to the columns after them, through the inverse
/// of the rotated Hessian, one column eliminated at a time. Scales tell what the walk here was up to: all of
/// them have the same proportion to the spread of their group, corrections included.
#[test]
fn scales_follow_the_corrected_weights() {
    let (rows, cols, group_size) = (6, 192, 64);
    let (weights, hessian) = case(rows, cols, 600, 5);
    let ridge = f64::from(0.01 * hessian.mean_diagonal());
    for bits in [1.0, 2.5] {
        let options = trellis(bits, Method::Gptq).group_size(group_size);
        let packed = run(&weights, cols, Some(&hessian), &options).packed;
        let levels = packed.unpack_codes();
        let mut rest = rotated(&weights, cols);
        let mut inverse = rotated_inverse(&hessian, ridge);
        let mut proportions = Vec::new();
        for col in 0..cols {
            let column: Vec<f64> = (0..cols).map(|i| inverse[i * cols + col]).collect();
            for (row, rest) in rest.chunks_exact_mut(cols).enumerate() {
                let (scale, zero) = packed.params(row, col / group_size);
                if col % group_size == 0 {
                    let square: f64 = rest[col..col + group_size].iter().map(|w| w * w).sum();
                    proportions.push(f64::from(scale) / (square / group_size as f64).sqrt());
                }
                let weight = f64::from(scale) * (f64::from(levels[row * cols + col]) - f64::from(zero));
                let error = (rest[col] - weight) / column[col];
                rest[col..].iter_mut().zip(&column[col..]).for_each(|(rest, u)| *rest -= error * u);
            }
            for (row, u) in inverse.chunks_exact_mut(cols).zip(&column) {
                row.iter_mut().zip(&column).for_each(|(entry, v)| *entry -= u * v / column[col]);
            }
        }
        assert_eq!(proportions.len(), 3 * rows);
        for proportion in &proportions {
            assert!((proportion / proportions[0] - 1.0).abs() < 0.01, "{bits} bits: {proportions:?}");
        }
    }
}

fn rotated(rows: &[f32], cols: usize) -> Vec<f64> {
    let mut rows = rows.to_vec();
    let backend = Backend::current().unwrap();
    rows.chunks_exact_mut(cols).for_each(|row| backend.rotate(row));
    rows.into_iter().map(f64::from).collect()
}

/// `(R H Rᵀ + λI)⁻¹ = R (H + λI)⁻¹ Rᵀ` by Gauss–Jordan elimination.
fn rotated_inverse(hessian: &Hessian, ridge: f64) -> Vec<f64> {
    let n = hessian.features();
    let entries: Vec<f32> = (0..n * n).map(|at| hessian.get(at / n, at % n)).collect();
    let product = rotated(&entries, n);
    let transposed: Vec<f32> = (0..n * n).map(|at| product[at % n * n + at / n] as f32).collect();
    let mut a = rotated(&transposed, n);
    (0..n).for_each(|i| a[i * n + i] += ridge);
    invert(&a, n)
}

#[test]
fn without_tokens_weights_are_rounded_and_that_is_said() {
    let (weights, _) = case(5, 128, 0, 6);
    let rtn = run(&weights, 128, None, &trellis(1.5, Method::Rtn));
    assert_eq!(rtn.report.fallback, None);
    let (empty, mut silent) = (Hessian::new(128), Hessian::new(128));
    silent.add(&[0.0; 10 * 128]).unwrap();
    for hessian in [None, Some(&empty), Some(&silent)] {
        let gptq = run(&weights, 128, hessian, &trellis(1.5, Method::Gptq));
        assert_eq!(gptq.report.fallback, Some(Fallback::NoTokens));
        assert_eq!(gptq.packed.bytes()[..], rtn.packed.bytes()[..]);
    }
}

#[test]
fn few_tokens_stay_close_to_rounding() {
    let (weights, hessian) = case(16, 128, 3, 7);
    for rate in TrellisRate::ALL {
        let report = |method| run(&weights, 128, Some(&hessian), &trellis(rate.bits(), method)).report;
        let (gptq, rtn) = (report(Method::Gptq), report(Method::Rtn));
        assert_eq!((gptq.fallback, rtn.fallback), (Some(Fallback::FewTokens { tokens: 3 }), None));
        // Better on what was seen, at little cost to the weights that decide what was not.
        assert!(gptq.output_error < rtn.output_error, "{rate}: {gptq:?} {rtn:?}");
        assert!(gptq.weight_error < 1.25 * rtn.weight_error, "{rate}: {gptq:?} {rtn:?}");
    }
}

#[test]
fn singular_hessians_are_damped_or_weights_rounded() {
    let (weights, _) = case(8, 96, 0, 8);
    // Only the first input ever differs from zero: after rotation, the first 32.
    let mut hessian = Hessian::new(96);
    let token: Vec<f32> = (0..96).map(|i| f32::from(u8::from(i == 0))).collect();
    (0..100).for_each(|_| hessian.add(&token).unwrap());
    let damped = run(&weights, 96, Some(&hessian), &trellis(2.0, Method::Gptq));
    assert_eq!(damped.report.fallback, None);
    assert!(damped.report.output_error.unwrap() < 0.1 && damped.report.weight_error < 0.5);

    let undamped = run(&weights, 96, Some(&hessian), &trellis(2.0, Method::Gptq).damping(0.0));
    let rtn = run(&weights, 96, None, &trellis(2.0, Method::Rtn));
    assert_eq!(undamped.report.fallback, Some(Fallback::Singular));
    assert_eq!(undamped.packed.bytes()[..], rtn.packed.bytes()[..]);
}

#[test]
fn threads_do_not_change_a_byte() {
    let (weights, hessian) = case(37, 300, 350, 9);
    for method in [Method::Rtn, Method::Gptq] {
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| run(&weights, 300, Some(&hessian), &trellis(2.5, method)))
        };
        let one = on(1);
        for threads in [2, 3] {
            let more = on(threads);
            assert_eq!(one.packed.bytes()[..], more.packed.bytes()[..], "{method:?} on {threads} threads");
            assert_eq!(one.report, more.report, "{method:?} on {threads} threads");
        }
    }
}

#[test]
fn matrices_of_the_same_inputs_are_quantized_as_alone() {
    let (first, hessian) = case(8, 192, 300, 10);
    let (second, _) = case(20, 192, 0, 11);
    let options = trellis(1.5, Method::Gptq).group_size(128);
    let matrices = [&first, &second].map(|weights| Matrix::new(weights.len() / 192, 192, weights).unwrap());
    let together = quantize_all(&matrices, Some(&hessian), &options).unwrap();
    for (quantized, weights) in together.iter().zip([&first, &second]) {
        let alone = run(weights, 192, Some(&hessian), &options);
        assert_eq!(quantized.packed.bytes()[..], alone.packed.bytes()[..]);
        assert_eq!(quantized.report, alone.report);
    }
}

#[test]
fn any_number_of_columns_works() {
    for (seed, cols) in [1, 2, 63, 64, 65, 70, 100, 257, 300].into_iter().enumerate() {
        let (weights, hessian) = case(20, cols, 3 * cols, seed as u64);
        for bits in [1.0, 2.5] {
            let rate = TrellisRate::new(bits).unwrap();
            let rtn = run(&weights, cols, Some(&hessian), &trellis(bits, Method::Rtn));
            let gptq = run(&weights, cols, Some(&hessian), &trellis(bits, Method::Gptq));
            checked_weights(&rtn.packed);
            checked_weights(&gptq.packed);
            if cols >= 63 {
                let (gptq, rtn) = (gptq.report, rtn.report);
                assert!(rtn.weight_error < 1.3 * rate.distortion(), "{cols} columns: {rtn:?}");
                assert!(gptq.output_error < rtn.output_error, "{cols} columns: {gptq:?} {rtn:?}");
            }
        }
    }
}

#[test]
fn odd_weights_are_survived() {
    let (cols, rows) = (96, 6);
    let (gauss, hessian) = case(rows, cols, 200, 12);
    let zeros = vec![0.0_f32; rows * cols];
    let constants: Vec<f32> = [0.0_f32, 1.0, -0.3, 1e-6, 5.0, 1e4].map(|value| vec![value; cols]).concat();
    let single: Vec<f32> = (0..rows * cols).map(|at| f32::from(u8::from(at % cols == at / cols))).collect();
    let mut last_rows = gauss.clone();
    last_rows[..3 * cols].fill(0.0);
    for method in [Method::Rtn, Method::Gptq] {
        for rate in TrellisRate::ALL {
            let options = trellis(rate.bits(), method).group_size(64);
            let quantized = |weights: &[f32]| run(weights, cols, Some(&hessian), &options);
            let none = quantized(&zeros);
            assert_eq!(checked_weights(&none.packed), zeros, "{method:?}, {rate}");
            assert_eq!((none.report.weight_error, none.report.output_error), (0.0, Some(0.0)));
            for weights in [&constants, &single, &last_rows] {
                let quantized = quantized(weights);
                checked_weights(&quantized.packed);
                assert!(quantized.report.weight_error < 1.0, "{method:?}, {rate}: {:?}", quantized.report);
            }
            // A row of zeros stays one, whatever its neighbours are.
            let kept = checked_weights(&quantized(&last_rows).packed);
            assert!(kept[..3 * cols].iter().all(|weight| *weight == 0.0), "{method:?}, {rate}");
        }
    }
}

#[test]
fn weights_of_any_size_stay_finite() {
    let (gauss, hessian) = case(4, 96, 200, 13);
    for size in [f32::MIN_POSITIVE, 1e-30, 1e-7, 1e-3, 1e3, 1e7, 1e18, 1e30, f32::MAX] {
        // Up to `size`, from weights of at most five standard deviations.
        let weights: Vec<f32> = gauss.iter().map(|weight| (4.0 * weight).clamp(-1.0, 1.0) * size).collect();
        for method in [Method::Rtn, Method::Gptq] {
            for bits in [1.0, 2.5] {
                let quantized = run(&weights, 96, Some(&hessian), &trellis(bits, method));
                checked_weights(&quantized.packed);
                if (1e-3..1e6).contains(&size) {
                    assert!(quantized.report.weight_error < 0.9, "{size}: {:?}", quantized.report);
                }
            }
        }
    }
}

/// `y = x Wᵀ` by the definition.
fn naive_product(x: &[f32], weights: &[f32], cols: usize) -> Vec<f64> {
    let dot = |x: &[f32], row: &[f32]| -> f64 {
        x.iter().zip(row).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum()
    };
    x.chunks_exact(cols).flat_map(|x| weights.chunks_exact(cols).map(move |row| dot(x, row))).collect()
}

proptest! {
    #![proptest_config(config(24))]

    /// Kernels multiply rotated inputs with levels, `dequantize` takes the rotation back: both have to mean
    /// the same weights.
    #[test]
    fn products_are_those_of_the_dequantized_weights(
        rows in 1_usize..20,
        cols in prop_oneof![1_usize..300, select(vec![64_usize, 128, 256])],
        rate in select(TrellisRate::ALL.to_vec()),
        group_size in select(vec![64_usize, 128, 256]),
        tokens in 1_usize..4,
        seed in any::<u64>(),
    ) {
        let (weights, hessian) = case(rows, cols, 2 * cols, seed);
        let options = trellis(rate.bits(), Method::Gptq).group_size(group_size);
        let packed = run(&weights, cols, Some(&hessian), &options).packed;
        let kept = checked_weights(&packed);
        let x = gaussians(tokens * cols, 1.0, &mut ChaCha8Rng::seed_from_u64(seed));
        let expected = naive_product(&x, &kept, cols);
        let norm = |values: &[f32]| values.iter().map(|v| f64::from(v * v)).sum::<f64>().sqrt();
        let size = norm(&x) * kept.chunks_exact(cols).map(norm).fold(1e-6, f64::max);

        let mut y = vec![0.0; tokens * rows];
        matmul(&packed, &x, &mut y).unwrap();
        let backend = Backend::current().unwrap();
        let exact = backend.matmul(&[&packed], &x, Precision::F32).unwrap().remove(0);
        let rounded = backend.matmul(&[&packed], &x, Precision::Int8).unwrap().remove(0);
        prop_assert_eq!(&y, &exact);
        for (at, expected) in expected.iter().enumerate() {
            let off = [&exact, &rounded].map(|found| (f64::from(found[at]) - expected).abs() / size);
            prop_assert!(off[0] < 1e-4 && off[1] < 0.03, "{expected} {} {}", exact[at], rounded[at]);
        }
    }
}

#[test]
fn what_a_trellis_cannot_do_is_refused() {
    let (weights, hessian) = case(4, 64, 100, 14);
    let matrix = Matrix::new(4, 64, &weights).unwrap();
    for hessian in [None, Some(&hessian)] {
        let error = quantize(matrix, hessian, &trellis(2.0, Method::Hqq)).unwrap_err();
        assert_eq!(error, QuantError::NoZeroPoints);
    }
    let bad_group = KernelError::BadGroupSize { group_size: 96, multiple: 64 };
    let error = quantize(matrix, None, &trellis(2.0, Method::Rtn).group_size(96)).unwrap_err();
    assert_eq!(error, QuantError::Kernel(bad_group));
    assert!(matches!(QuantOptions::trellis(1.2), Err(KernelError::UnsupportedRate { .. })));
    let error = quantize(matrix, Some(&Hessian::new(63)), &trellis(2.0, Method::Gptq)).unwrap_err();
    assert_eq!(error, QuantError::HessianSize { expected: 64, found: 63 });
    let mut huge = Hessian::new(64);
    huge.add(&[1e30; 64]).unwrap();
    let error = quantize(matrix, Some(&huge), &trellis(2.0, Method::Gptq)).unwrap_err();
    assert_eq!(error, QuantError::HessianNotFinite);
}
