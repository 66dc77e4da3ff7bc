//! Mad weights, inputs and settings: an error that says so, or a sound matrix; no panic.

use mcmoe_quant::{Hessian, KernelError, Matrix, Method, QuantError, QuantOptions, quantize};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use rand::Rng;

use crate::cases::{Case, METHODS, any_inputs, cases, config, inputs, random};

const NOT_FINITE: [f32; 4] = [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY];

/// Finite weights at the ends of `f32` and of `f16`.
const WEIGHTS: [f32; 12] =
    [0.0, -0.0, 1e-45, -1e-40, f32::MIN_POSITIVE, 3e-8, -0.1, 1.0, 65_504.0, -1e5, f32::MAX, f32::MIN];

/// Finite inputs whose products leave `f32` at either end.
const INPUTS: [f32; 12] = [0.0, -0.0, 1e-45, 1e-30, -1e-22, 1e-10, -1.0, 1e5, -1e15, 1e18, 1e19, f32::MAX];

/// Values in the place of settings.
const SETTINGS: [f32; 9] =
    [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -1.0, -0.0, 1e-30, 0.5, 1.1];

/// Values that are not finite, and where to put them.
fn not_finite() -> impl Strategy<Value = Vec<(Index, f32)>> {
    prop::collection::vec((any::<Index>(), select(NOT_FINITE.to_vec())), 1..4)
}

fn put(places: &[(Index, f32)], values: &mut [f32]) {
    for (place, value) in places {
        *place.get_mut(values) = *value;
    }
}

/// Puts one of `extremes` in the place of every `one_of`th value or so.
fn sprinkle(extremes: &[f32], one_of: u32, seed: u64, values: &mut [f32]) {
    let mut rng = random(seed);
    for value in values {
        if rng.next_u32().is_multiple_of(one_of) {
            *value = extremes[rng.next_u32() as usize % extremes.len()];
        }
    }
}

/// Whether the result is a matrix, which is then sound; else it is an error about what is not finite.
fn survive(
    case: &Case,
    weights: &[f32],
    hessian: &Hessian,
    options: &QuantOptions,
) -> Result<bool, TestCaseError> {
    match quantize(case.matrix(weights), Some(hessian), options) {
        Ok(quantized) => {
            prop_assert_eq!(quantized.packed.check_contents(), Ok(()));
            prop_assert!(quantized.packed.dequantize().iter().all(|weight| weight.is_finite()));
            Ok(true)
        }
        Err(QuantError::HessianNotFinite | QuantError::Kernel(KernelError::NotFinite { .. })) => Ok(false),
        Err(error) => Err(TestCaseError::fail(error.to_string())),
    }
}

/// All entries and the number of tokens.
fn contents(hessian: &Hessian) -> (Vec<f32>, usize) {
    let n = hessian.features();
    ((0..n * n).map(|at| hessian.get(at / n, at % n)).collect(), hessian.tokens())
}

proptest! {
    #![proptest_config(config(64))]

    /// The first weight that is not finite is named.
    #[test]
    fn weights_that_are_not_finite_are_named(
        case in cases(1_usize..40, 1..321, any_inputs()),
        places in not_finite(),
    ) {
        let (mut weights, cols) = (case.weights(), case.shape.cols);
        put(&places, &mut weights);
        let first = weights.iter().position(|weight| !weight.is_finite());
        let named = match Matrix::new(case.shape.rows, cols, &weights) {
            Err(QuantError::WeightNotFinite { row, col, value }) => {
                prop_assert_eq!(value.to_bits(), weights[row * cols + col].to_bits());
                Some(row * cols + col)
            }
            _ => None,
        };
        prop_assert_eq!(named, first);
    }

    /// The first input that is not finite is named, and its batch leaves no trace.
    #[test]
    fn inputs_that_are_not_finite_are_named(
        case in cases(Just(1_usize), 1..65, any_inputs()),
        tokens in 1_usize..20,
        places in not_finite(),
    ) {
        let (mut hessian, features) = (case.hessian(), case.shape.cols);
        let before = contents(&hessian);
        let mut batch = vec![0.5; tokens * features];
        put(&places, &mut batch);
        let first = batch.iter().position(|input| !input.is_finite());
        let named = match hessian.add(&batch) {
            Err(QuantError::InputNotFinite { token, feature, value }) => {
                prop_assert_eq!(value.to_bits(), batch[token * features + feature].to_bits());
                Some(token * features + feature)
            }
            _ => None,
        };
        prop_assert_eq!(named, first);
        prop_assert!(contents(&hessian) == before, "the batch was added");
    }

    /// Finite weights of any size. Rounding to nearest has no reason to fail.
    #[test]
    fn extreme_weights_are_survived(
        case in cases(1_usize..40, 1..161, any_inputs()),
        method in select(METHODS.to_vec()),
        one_of in 1_u32..50,
    ) {
        let (mut weights, hessian) = (case.weights(), case.hessian());
        sprinkle(&WEIGHTS, one_of, case.seed, &mut weights);
        let sound = survive(&case, &weights, &hessian, &case.shape.options(method))?;
        prop_assert!(sound || method != Method::Rtn);
    }

    /// Finite inputs of any size, after usual ones or none.
    #[test]
    fn extreme_inputs_are_survived(
        case in cases(1_usize..20, 1..97, any_inputs()),
        method in select(METHODS.to_vec()),
        tokens in 1_usize..20,
        one_of in 1_u32..50,
    ) {
        let mut hessian = case.hessian();
        let mut batch = vec![0.5; tokens * case.shape.cols];
        sprinkle(&INPUTS, one_of, case.seed, &mut batch);
        hessian.add(&batch).unwrap();
        survive(&case, &case.weights(), &hessian, &case.shape.options(method))?;
    }

    /// Dampings, blocks and searches that nobody would ask for.
    #[test]
    fn odd_settings_are_survived(
        case in cases(1_usize..20, 1..97, inputs(0.1_f32..2.0)),
        method in select(METHODS.to_vec()),
        damping in select(SETTINGS.to_vec()),
        (from, to, norm) in (select(SETTINGS.to_vec()), select(SETTINGS.to_vec()), select(SETTINGS.to_vec())),
        (steps, block_size) in (0_usize..5, select(vec![0, 1, 33, usize::MAX])),
    ) {
        let mut options = case.shape.options(method).damping(damping);
        (options.grid.from, options.grid.to, options.grid.norm) = (from, to, norm);
        (options.grid.steps, options.block_size) = (steps, block_size);
        survive(&case, &case.weights(), &case.hessian(), &options)?;
    }

    /// Group sizes are whole blocks of 32 columns, up to any number: what reaches beyond a row is one group.
    #[test]
    fn group_sizes_are_whole_blocks(
        case in cases(1_usize..20, 1..321, any_inputs()),
        group_size in prop_oneof![
            2 => 0_usize..600,
            2 => (0_usize..20).prop_map(|blocks| 32 * blocks),
            1 => Just(usize::MAX - 31),
        ],
        method in select(METHODS.to_vec()),
    ) {
        let weights = case.weights();
        let options = case.shape.options(method).group_size(group_size);
        let result = quantize(case.matrix(&weights), None, &options);
        if group_size > 0 && group_size.is_multiple_of(32) {
            let packed = result.map(|quantized| quantized.packed.check_contents());
            prop_assert_eq!(packed, Ok(Ok(())));
        } else {
            let refused = matches!(result, Err(QuantError::Kernel(KernelError::BadGroupSize { .. })));
            prop_assert!(refused, "groups of {group_size}");
        }
    }
}
