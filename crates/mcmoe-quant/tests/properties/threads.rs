//! The number of threads shows in the time alone.

use mcmoe_quant::{Method, Quantized};
use proptest::prelude::*;

use crate::cases::{Case, METHODS, any_inputs, cases, config};

/// The case from its inputs on, in a pool of so many threads.
fn on_threads(threads: usize, case: &Case, weights: &[f32], method: Method, block_size: usize) -> Quantized {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let mut options = case.shape.options(method);
    options.block_size = block_size;
    pool.install(|| case.run(weights, Some(&case.hessian()), &options))
}

proptest! {
    #![proptest_config(config(24))]

    /// GPTQ deals rows to tasks by the number of threads, once there are more than 64 rows. Here matrices of
    /// up to 201 rows, many of them with a single row left for the last task of one thread, and small blocks,
    /// so that most of the feedback goes through products of whole tasks.
    #[test]
    fn threads_do_not_change_a_byte(
        case in cases(
            prop_oneof![1_usize..40, (17_usize..51).prop_map(|quarter| 4 * quarter + 1)],
            1..161,
            any_inputs(),
        ),
        block_size in 8_usize..129,
    ) {
        let weights = case.weights();
        for method in METHODS {
            let one = on_threads(1, &case, &weights, method, block_size);
            for threads in [2, 3] {
                let more = on_threads(threads, &case, &weights, method, block_size);
                let same = one.packed.bytes()[..] == more.packed.bytes()[..];
                prop_assert!(same, "{method:?} on {threads} threads");
                prop_assert_eq!(one.report, more.report);
            }
        }
    }
}
