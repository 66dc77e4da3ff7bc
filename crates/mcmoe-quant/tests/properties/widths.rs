//! More bits, smaller errors.

use mcmoe_quant::{BitWidth, Method};
use proptest::prelude::*;

use crate::cases::{Shape, cases, config, inputs};

proptest! {
    #![proptest_config(config(24))]

    /// For Gaussian weights every step from 1 to 2, 3, 4 and 8 bits takes off at least two fifths of the
    /// error, that of the weights (rounding to nearest) and that of the outputs (GPTQ), whatever the groups.
    /// Most take off two thirds; the rest is for chance in small matrices.
    #[test]
    fn every_further_bit_pays(case in cases(8_usize..40, 33..201, inputs(1.1_f32..4.0))) {
        let case = case.gaussian();
        let (weights, hessian) = (case.weights(), case.hessian());
        let report = |bits, method| {
            let shape = Shape { bits, ..case.shape };
            case.run(&weights, Some(&hessian), &shape.options(method)).report
        };
        let rtn = BitWidth::ALL.map(|bits| report(bits, Method::Rtn).weight_error);
        let gptq = BitWidth::ALL.map(|bits| report(bits, Method::Gptq).output_error.unwrap());
        for errors in [rtn, gptq] {
            prop_assert!(errors.windows(2).all(|pair| pair[1] < 0.6 * pair[0]), "{errors:?}");
        }
    }
}
