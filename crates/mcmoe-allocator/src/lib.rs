//! Bit-widths for the experts of a Mixture-of-Experts (MoE) model by integer programming.
//!
//! The experts of a MoE model are not equally important, so at the same size a model keeps more of
//! its quality when the experts that matter get more bits. This crate takes what calibration
//! measured about every expert ([`Factors`]), a size to stay within ([`Budget`]) and a rule
//! ([`Mode`]), and answers with one bit-width per expert ([`Allocation`]). The default rule is the
//! exact integer program of Pre-Loading Mixed-Precision Quantization (arXiv:2410.06270), solved with
//! HiGHS through `good_lp`.
//!
//! # What it holds
//! - [`Factors`] and [`Allocation`]: the two JSON files of this step, validated when they are read.
//! - [`Exponents`] and [`significance`]: how routing statistics become one number per expert.
//! - [`Budget`] and [`Storage`]: code bits, stored bits (scales and zero points included) or bytes.
//! - [`Program`]: the bare integer program, for any costs, sizes and number of choices.
//! - [`zoo`]: ready allocations of Mixtral 8x7B for every budget from 1.5 to 2.5 bits an expert.
//!
//! # What it does not hold
//! Measuring the factors (that needs the model), quantizing, and any knowledge of a model's
//! architecture: a layer is a row of experts, an expert is a column of numbers.
//!
//! # Example
//! ```
//! use mcmoe_allocator::{Allocator, AllocatorOptions, Budget, Factors};
//!
//! # fn main() -> Result<(), mcmoe_allocator::AllocatorError> {
//! let factors = Factors::from_json(
//!     r#"{"num_layers": 1, "num_experts": 4, "bits": [1, 2, 3],
//!         "frequency": [[10, 40, 30, 20]],
//!         "weight": [[4.0, 25.0, 12.0, 9.0]],
//!         "quant_loss": [[[9.0, 3.0, 1.0], [8.0, 3.0, 1.0], [9.0, 4.0, 1.0], [7.0, 2.0, 1.0]]]}"#,
//! )?;
//! let options = AllocatorOptions::default().budget(Budget::ExpertBits(2.0));
//! let allocation = Allocator::new(options).allocate(&factors)?;
//! assert_eq!(allocation.bits, vec![vec![1, 3, 2, 2]]);
//! assert_eq!(allocation.average_bits(), 2.0);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod allocation;
mod allocator;
mod budget;
mod error;
mod factors;
mod files;
mod measure;
mod mode;
mod options;
mod program;
mod significance;
mod solver;
mod storage;
mod widths;
pub mod zoo;

pub use allocation::Allocation;
pub use allocator::Allocator;
pub use budget::Budget;
pub use error::{AllocatorError, SizeUnit};
pub use factors::{Factors, MatrixFactors};
pub use options::{AllocatorOptions, Mode, Scope, Spread};
pub use program::{Assignment, Block, Candidate, Program, ScaledBlock, ScaledProgram};
pub use significance::{Exponents, costs, significance};
pub use solver::{Highs, Solver, SolverFailure};
pub use storage::Storage;
