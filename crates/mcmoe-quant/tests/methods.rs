//! The quantizers against their definitions, written plainly.

mod common;

use common::{gaussian, invert};
use mcmoe_quant::{
    BitWidth, ErrorReport, Fallback, Hessian, Matrix, Method, QuantError, QuantOptions, Quantized, quantize,
};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Inputs with strong correlations, as activations have.
fn inputs(tokens: usize, cols: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let row = |rng: &mut ChaCha8Rng| {
        let (common, slope) = (gaussian(rng), gaussian(rng));
        (0..cols)
            .map(|i| common + slope * (i as f32 / cols as f32) + 0.3 * gaussian(rng))
            .collect::<Vec<f32>>()
    };
    (0..tokens).flat_map(|_| row(rng)).collect()
}

fn case(rows: usize, cols: usize, tokens: usize, seed: u64) -> (Vec<f32>, Hessian) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let weights = (0..rows * cols).map(|_| 0.05 * gaussian(&mut rng)).collect();
    let mut hessian = Hessian::new(cols);
    hessian.add(&inputs(tokens, cols, &mut rng)).unwrap();
    (weights, hessian)
}

fn run(weights: &[f32], cols: usize, hessian: Option<&Hessian>, options: &QuantOptions) -> Quantized {
    quantize(Matrix::new(weights.len() / cols, cols, weights).unwrap(), hessian, options).unwrap()
}

fn options(bits: BitWidth, method: Method) -> QuantOptions {
    QuantOptions::new(bits.bits()).unwrap().method(method).group_size(32)
}

/// `Σ (ΔW H ΔWᵀ)` by the definition, in `f64`.
fn loss(weights: &[f32], quantized: &Quantized, hessian: &Hessian) -> f64 {
    let n = hessian.features();
    let kept = quantized.packed.dequantize();
    let error: Vec<f64> = weights.iter().zip(&kept).map(|(w, q)| f64::from(w - q)).collect();
    let row = |e: &[f64]| -> f64 {
        (0..n).map(|i| (0..n).map(|j| e[i] * f64::from(hessian.get(i, j)) * e[j]).sum::<f64>()).sum()
    };
    error.chunks(n).map(row).sum()
}

#[test]
fn feedback_beats_rounding_at_every_width() {
    for bits in BitWidth::ALL {
        for seed in 0..5 {
            let (weights, hessian) = case(24, 96, 400, seed);
            let gptq = run(&weights, 96, Some(&hessian), &options(bits, Method::Gptq));
            let rtn = run(&weights, 96, Some(&hessian), &options(bits, Method::Rtn));
            let (gptq, rtn) = (loss(&weights, &gptq, &hessian), loss(&weights, &rtn, &hessian));
            assert!(gptq < 0.7 * rtn, "{bits}, seed {seed}: {gptq} against {rtn}");
        }
    }
}

#[test]
fn reports_follow_the_definitions() {
    let (weights, hessian) = case(8, 64, 200, 3);
    let quantized = run(&weights, 64, Some(&hessian), &options(BitWidth::B2, Method::Gptq));
    let zero = run(&[0.0; 8 * 64], 64, None, &options(BitWidth::B2, Method::Rtn));
    let whole = loss(&weights, &zero, &hessian);
    let expected = loss(&weights, &quantized, &hessian) / whole;
    let ErrorReport { output_error, fallback, .. } = quantized.report;
    assert!((output_error.unwrap() - expected).abs() < 1e-3 * expected);
    assert_eq!(fallback, None);
    assert_eq!(zero.report.weight_error, 0.0);
}

#[test]
fn more_bits_lose_less() {
    let (weights, hessian) = case(16, 128, 300, 9);
    for method in [Method::Rtn, Method::Gptq, Method::Hqq] {
        let error = |bits| run(&weights, 128, Some(&hessian), &options(bits, method)).report;
        let errors = BitWidth::ALL.map(|bits| error(bits).weight_error);
        assert!(errors.windows(2).all(|pair| pair[1] < pair[0]), "{method:?}: {errors:?}");
    }
}

/// GPTQ as the paper writes it: one column at a time, the inverse Hessian updated by elimination.
fn naive_gptq(weights: &[f32], hessian: &Hessian, bits: BitWidth, ridge: f64) -> Vec<f64> {
    let n = hessian.features();
    let mut h: Vec<f64> = (0..n * n).map(|at| f64::from(hessian.get(at / n, at % n))).collect();
    (0..n).for_each(|i| h[i * n + i] += ridge);
    let mut inverse = invert(&h, n);
    let mut w: Vec<f64> = weights.iter().map(|&w| f64::from(w)).collect();
    let mut grids = vec![None; w.len() / n];
    for col in 0..n {
        for (row, grid) in w.chunks_mut(n).zip(&mut grids) {
            if col % 32 == 0 {
                let group: Vec<f32> = row[col..n.min(col + 32)].iter().map(|&w| w as f32).collect();
                *grid = Some(mcmoe_quant::Grid::fit(&group, bits, &mcmoe_quant::GridSearch::default()));
            }
            let grid = grid.unwrap();
            let rounded = f64::from(grid.weight(grid.code(row[col] as f32)));
            let error = (row[col] - rounded) / inverse[col * n + col];
            row[col] = rounded;
            for j in col + 1..n {
                row[j] -= error * inverse[col * n + j];
            }
        }
        let pivot = inverse[col * n + col];
        let column: Vec<f64> = (0..n).map(|i| inverse[i * n + col]).collect();
        for i in 0..n {
            for j in 0..n {
                inverse[i * n + j] -= column[i] * column[j] / pivot;
            }
        }
    }
    w
}

#[test]
fn gptq_equals_the_paper_written_plainly() {
    for bits in [BitWidth::B1, BitWidth::B2, BitWidth::B3, BitWidth::B4] {
        let (weights, hessian) = case(6, 80, 300, 17);
        // Blocks within groups, across groups, and of all columns must agree with the plain sweep.
        for block_size in [0, 16, 32, 80, usize::MAX] {
            let mut options = options(bits, Method::Gptq);
            options.block_size = block_size;
            let fast = run(&weights, 80, Some(&hessian), &options).packed.dequantize();
            let ridge = f64::from(0.01 * hessian.mean_diagonal());
            let plain = naive_gptq(&weights, &hessian, bits, ridge);
            let same = fast.iter().zip(&plain).filter(|(f, p)| (f64::from(**f) - **p).abs() < 1e-6).count();
            assert!(same * 100 >= fast.len() * 99, "{bits}, blocks of {block_size}: {same} equal");
        }
    }
}

#[test]
fn experts_without_tokens_are_rounded_and_named() {
    let (weights, _) = case(4, 64, 1, 5);
    let empty = Hessian::new(64);
    let gptq = run(&weights, 64, Some(&empty), &options(BitWidth::B2, Method::Gptq));
    let rtn = run(&weights, 64, None, &options(BitWidth::B2, Method::Rtn));
    assert_eq!(gptq.packed.bytes()[..], rtn.packed.bytes()[..]);
    assert_eq!(gptq.report.fallback, Some(Fallback::NoTokens));
    let without = run(&weights, 64, None, &options(BitWidth::B2, Method::Gptq));
    assert_eq!(without.report.fallback, Some(Fallback::NoTokens));
}

#[test]
fn experts_with_three_tokens_stay_close_to_rounding() {
    let (weights, hessian) = case(16, 128, 3, 6);
    for bits in BitWidth::ALL {
        let gptq = run(&weights, 128, Some(&hessian), &options(bits, Method::Gptq));
        let rtn = run(&weights, 128, Some(&hessian), &options(bits, Method::Rtn));
        assert_eq!(gptq.report.fallback, Some(Fallback::FewTokens { tokens: 3 }));
        // Better on what was seen, at little cost to the weights that decide what was not.
        assert!(gptq.report.output_error < rtn.report.output_error, "{bits}");
        assert!(gptq.report.weight_error < 1.25 * rtn.report.weight_error, "{bits}");
    }
}

#[test]
fn dead_columns_and_dead_inputs_do_no_harm() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let (weights, _) = case(8, 64, 1, 8);
    let mut x = inputs(200, 64, &mut rng);
    x.chunks_mut(64).for_each(|token| token[5..40].fill(0.0));
    let mut hessian = Hessian::new(64);
    hessian.add(&x).unwrap();
    let quantized = run(&weights, 64, Some(&hessian), &options(BitWidth::B3, Method::Gptq));
    assert!(quantized.report.weight_error < 0.2);
    assert_eq!(quantized.report.fallback, None);

    let mut silent = Hessian::new(64);
    silent.add(&[0.0; 640]).unwrap();
    let quantized = run(&weights, 64, Some(&silent), &options(BitWidth::B3, Method::Gptq));
    assert_eq!(quantized.report.fallback, Some(Fallback::NoTokens));
}

#[test]
fn singular_hessians_are_damped_or_rounded_and_named() {
    let (weights, _) = case(8, 64, 1, 9);
    // Only the first input ever differs from zero: 63 directions without any weight.
    let mut hessian = Hessian::new(64);
    let token: Vec<f32> = (0..64).map(|i| f32::from(u8::from(i == 0))).collect();
    (0..100).for_each(|_| hessian.add(&token).unwrap());
    let damped = run(&weights, 64, Some(&hessian), &options(BitWidth::B2, Method::Gptq));
    assert_eq!(damped.report.fallback, None);
    assert!(damped.report.weight_error.is_finite() && damped.report.output_error.unwrap() < 1.0);

    let undamped = options(BitWidth::B2, Method::Gptq).damping(0.0);
    let undamped = run(&weights, 64, Some(&hessian), &undamped);
    let rtn = run(&weights, 64, None, &options(BitWidth::B2, Method::Rtn));
    assert_eq!(undamped.report.fallback, Some(Fallback::Singular));
    assert_eq!(undamped.packed.bytes()[..], rtn.packed.bytes()[..]);
}

#[test]
fn matrices_of_the_same_inputs_are_quantized_as_alone() {
    let (first, hessian) = case(8, 96, 200, 10);
    let (second, _) = case(24, 96, 1, 11);
    let options = options(BitWidth::B3, Method::Gptq);
    let matrices = [&first, &second].map(|weights| Matrix::new(weights.len() / 96, 96, weights).unwrap());
    let together = mcmoe_quant::quantize_all(&matrices, Some(&hessian), &options).unwrap();
    for (quantized, weights) in together.iter().zip([&first, &second]) {
        let alone = run(weights, 96, Some(&hessian), &options);
        assert_eq!(quantized.packed.bytes()[..], alone.packed.bytes()[..]);
        assert_eq!(quantized.report, alone.report);
    }
}

#[test]
fn bad_input_is_an_error() {
    let mut weights = vec![0.1; 64];
    weights[37] = f32::NAN;
    let error = Matrix::new(2, 32, &weights).unwrap_err();
    assert!(matches!(error, QuantError::WeightNotFinite { row: 1, col: 5, .. }));
    assert!(matches!(Matrix::new(2, 31, &weights), Err(QuantError::NotWholeRows { .. })));

    let good = vec![0.1; 64];
    let matrix = Matrix::new(2, 32, &good).unwrap();
    let other = quantize(matrix, Some(&Hessian::new(31)), &QuantOptions::new(2).unwrap()).unwrap_err();
    assert_eq!(other, QuantError::HessianSize { expected: 32, found: 31 });
    let mut huge = Hessian::new(32);
    huge.add(&[1e30; 64]).unwrap();
    let overflow = quantize(matrix, Some(&huge), &QuantOptions::new(2).unwrap()).unwrap_err();
    assert_eq!(overflow, QuantError::HessianNotFinite);
    let group = quantize(matrix, None, &QuantOptions::new(2).unwrap().group_size(12)).unwrap_err();
    assert!(matches!(group, QuantError::Kernel(_)));
}

#[test]
fn threads_do_not_change_a_code() {
    let (weights, hessian) = case(50, 96, 300, 21);
    for method in [Method::Rtn, Method::Gptq, Method::Hqq] {
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| run(&weights, 96, Some(&hessian), &options(BitWidth::B2, method)))
        };
        let (one, four) = (on(1), on(4));
        assert_eq!(one.packed.bytes()[..], four.packed.bytes()[..], "{method:?}");
        assert_eq!(one.report, four.report, "{method:?}");
    }
}

proptest! {
    #[test]
    fn any_finite_matrix_is_packed(
        rows in 1_usize..5,
        cols in 1_usize..70,
        bits in prop::sample::select(BitWidth::ALL.to_vec()),
        method in prop::sample::select(vec![Method::Rtn, Method::Gptq, Method::Hqq]),
        magnitude in -30_i32..30,
        seed in any::<u64>(),
    ) {
        let (weights, hessian) = case(rows, cols, 20, seed);
        let weights: Vec<f32> = weights.iter().map(|w| w * 2_f32.powi(magnitude)).collect();
        let quantized = run(&weights, cols, Some(&hessian), &options(bits, method));
        prop_assert!(quantized.packed.dequantize().iter().all(|w| w.is_finite()));
        prop_assert!(quantized.report.weight_error.is_finite());
    }

    #[test]
    fn rounding_stays_within_half_a_step(seed in any::<u64>(), bits in 2_u8..5) {
        // With the min-max grid (no shrinking) every weight is within half a step, plus f16 rounding.
        let (weights, _) = case(2, 64, 1, seed);
        let mut options = options(BitWidth::new(bits).unwrap(), Method::Rtn);
        (options.grid.from, options.grid.to, options.grid.steps) = (1.0, 1.0, 1);
        let kept = run(&weights, 64, None, &options).packed.dequantize();
        for (group, kept) in weights.chunks(32).zip(kept.chunks(32)) {
            let high = group.iter().fold(0.0_f32, |m, &w| m.max(w));
            let low = group.iter().fold(0.0_f32, |m, &w| m.min(w));
            let step = (high - low) / f32::from(BitWidth::new(bits).unwrap().max_code());
            for (w, q) in group.iter().zip(kept) {
                prop_assert!((w - q).abs() <= 0.5 * step + 0.004 * (high - low), "{w} {q} {step}");
            }
        }
    }
}
