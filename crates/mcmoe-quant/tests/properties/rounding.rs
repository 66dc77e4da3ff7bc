//! Rounding to nearest against what its grids explain, weight by weight and group by group.

use mcmoe_quant::Method;
use proptest::prelude::*;
use proptest::sample::select;

use crate::cases::{any_inputs, cases, config, search};

/// Half the spacing of `f16` numbers, relative to their size and at least.
const HALF_SPACING: [f64; 2] = [1.0 / 2_048.0, 1.0 / 33_554_432.0];
/// The largest `f16`.
const LARGEST: f64 = 65_504.0;
/// What `f32` arithmetic may add, relative to errors of half a step.
const SLACK: f64 = 1.001;

/// The most that a value loses as an `f16`.
fn rounding(value: f64) -> f64 {
    (value * HALF_SPACING[0]).max(HALF_SPACING[1]).max(value - LARGEST)
}

/// The most that a weight of a group may be off on the plain min–max grid.
///
/// A weight between the first and the last level is off by half a step at most. The smallest and the
/// largest weight should be levels themselves, but scale and zero point are rounded to `f16` (and cut off at
/// its largest number), which moves those levels. That costs less than half a step unless the scale is
/// outside the range in which `f16` keeps all its digits.
fn bound(weights: &[f32], max_code: f64) -> f64 {
    let extremes = |(low, high): (f64, f64), &w: &f32| (low.min(f64::from(w)), high.max(f64::from(w)));
    let (low, high) = weights.iter().fold((0.0, 0.0), extremes);
    let step = (high - low) / max_code;
    if step == 0.0 {
        return 0.0;
    }
    let zero = -low / step;
    let scale = (step + rounding(step)).min(LARGEST);
    let beyond = zero.max(max_code - zero) * rounding(step) + scale * rounding(zero);
    beyond.max(0.5 * scale)
}

/// `Σ|w − ŵ|^norm`.
fn loss(weights: &[f32], kept: &[f32], norm: f64) -> f64 {
    weights.iter().zip(kept).map(|(&w, &q)| (f64::from(w) - f64::from(q)).abs().powf(norm)).sum()
}

proptest! {
    #![proptest_config(config(96))]

    /// On the min–max grid no weight is off by more than half a step or what `f16` explains. At one bit every
    /// weight becomes plus or minus the mean magnitude of its group, by its sign.
    #[test]
    fn no_weight_is_off_by_more_than_its_grid_explains(case in cases(1_usize..40, 1..321, any_inputs())) {
        let weights = case.weights();
        let options = case.shape.options(Method::Rtn).grid(search(1.0, 1.0, 1));
        let kept = case.run(&weights, None, &options).packed.dequantize();
        for (_, _, range) in case.shape.groups() {
            let (weights, kept) = (&weights[range.clone()], &kept[range]);
            let bound = bound(weights, f64::from(case.shape.bits.max_code()));
            let mean = weights.iter().map(|&w| f64::from(w).abs()).sum::<f64>() / weights.len() as f64;
            let mean = mean.min(0.5 * LARGEST);
            for (&w, &q) in weights.iter().zip(kept) {
                let (w, q) = (f64::from(w), f64::from(q));
                let error = (w - q).abs();
                if case.shape.bits.bits() == 1 {
                    let expected = (w.abs() - mean).abs();
                    let allowed = 1.25 * mean * HALF_SPACING[0] + HALF_SPACING[1];
                    prop_assert!((error - expected).abs() <= allowed, "{w} became {q}, mean {mean}");
                } else {
                    prop_assert!(error <= SLACK * bound, "{w} became {q}, bound {bound}");
                }
            }
        }
    }

    /// A search that tries the min–max grid, too, ends with no larger loss in any group, under the norm that
    /// it minimises. These searches hit a factor of one exactly.
    #[test]
    fn searching_makes_no_group_worse(
        case in cases(1_usize..40, 1..321, any_inputs()),
        (from, to, steps) in select(vec![(0.5_f32, 1.0_f32, 33_usize), (0.5, 1.5, 65), (0.75, 1.25, 17)]),
        norm in select(vec![2.0_f32, 2.4, 3.0]),
    ) {
        let weights = case.weights();
        let kept = |from, to, steps| {
            let mut options = case.shape.options(Method::Rtn).grid(search(from, to, steps));
            options.grid.norm = norm;
            case.run(&weights, None, &options).packed.dequantize()
        };
        let (searched, plain) = (kept(from, to, steps), kept(1.0, 1.0, 1));
        for (row, group, range) in case.shape.groups() {
            let loss = |kept: &[f32]| loss(&weights[range.clone()], &kept[range.clone()], f64::from(norm));
            let (searched, plain) = (loss(&searched), loss(&plain));
            // The search knows powers to five digits, and none below the smallest normal `f32`.
            let allowed = SLACK * plain + 1e-35;
            prop_assert!(searched <= allowed, "row {row}, group {group}: {searched} against {plain}");
        }
    }
}
