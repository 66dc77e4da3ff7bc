//! What holds for every matrix, whatever its shape, groups, width, weights and calibration inputs.
//!
//! | property | where |
//! |---|---|
//! | codes fit, padding is clean, fallbacks are named; bytes and files give the same matrix | `packing` |
//! | no weight is off by more than its grid explains; searching never makes a group worse | `rounding` |
//! | GPTQ rounds what is left to the nearest level, and that pays | `feedback` |
//! | every further bit pays | `widths` |
//! | the same bytes on one, two and three threads | `threads` |
//! | mad weights, inputs and settings give an error or a sound matrix, never a panic | `hostile` |
//!
//! The cases are the same ones in every run. `PROPTEST_CASES=10000 cargo test --workspace --test properties`
//! looks further, `PROPTEST_RNG_SEED=1` elsewhere.

mod cases;
mod feedback;
mod hostile;
mod packing;
mod rounding;
mod threads;
mod widths;
