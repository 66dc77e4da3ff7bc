//! Mixtral on burn: reading, measuring, compressing, running and evaluating it.
//!
//! ```text
//! folder on disk ─ checkpoint (mapped) ─┬─ model ─ evaluate, generate
//!                                       ├─ calibrate ─ factors ─ (mcmoe-allocator) ─ allocation
//!                                       └─ compress ─ (mcmoe-quant) ─ packed folder on disk
//! ```
//!
//! | room | holds |
//! |---|---|
//! | [`checkpoint`] | Hugging Face files: tensors by name, mapped; shards written |
//! | [`folder`] | a model folder, dense or compressed, and everything that lies in it |
//! | [`model`] | the network on burn tensors, routing, dynamic pruning, KV cache |
//! | [`dataset`] | calibration and evaluation texts |
//! | [`calibrate`] | samples of a text; significance factors of experts |
//! | [`compress`](mod@compress) | the pipeline from a dense folder to a compressed one |
//! | [`evaluate`], [`generate`](mod@generate), [`inspect`](mod@inspect) | perplexity, text, sizes |
//! | [`bench`](mod@bench), [`synthetic`] | speed; random models of true shape, in memory and on disk |
//!
//! It holds no quantizer, no solver and no kernel: those are the crates below.
//!
//! ```
//! use std::ops::ControlFlow;
//! use std::path::Path;
//!
//! use mcmoe_mixtral::folder::ModelFolder;
//! use mcmoe_mixtral::generate::{GenerateOptions, generate};
//! use mcmoe_mixtral::{CpuBackend, Tokenizer};
//!
//! // Any Mixtral folder, dense or compressed; here the demo model of this repository.
//! let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/demo-mixtral"));
//! let tokenizer = Tokenizer::read(dir)?;
//! let model = ModelFolder::open(dir)?.model::<CpuBackend>(&Default::default())?;
//!
//! let prompt = tokenizer.encode(" The ship was")?;
//! let options = GenerateOptions::default().max_new_tokens(8);
//! let generation = generate(&model, &tokenizer, &prompt, &options, &mut |text| {
//!     print!("{text}");
//!     ControlFlow::Continue(())
//! })?;
//! assert_eq!(generation.tokens.len(), 8);
//! # Ok::<(), mcmoe_mixtral::MixtralError>(())
//! ```
#![forbid(unsafe_code)]

pub mod bench;
pub mod calibrate;
pub mod checkpoint;
pub mod compress;
mod config;
pub mod dataset;
mod device;
mod durable;
mod error;
pub mod evaluate;
pub mod folder;
pub mod generate;
pub mod inspect;
mod json;
pub mod model;
mod progress;
mod random;
mod regular_file;
pub mod synthetic;
mod tokenizer;

pub use config::MixtralConfig;
pub use device::{CpuBackend, Device, OnDevice};
#[cfg(feature = "cuda")]
pub use device::{CudaBackend, cuda_device};
#[cfg(feature = "wgpu")]
pub use device::{WgpuBackend, wgpu_device};
pub use error::MixtralError;
pub use mcmoe_allocator::{
    Allocation, Allocator, AllocatorError, AllocatorOptions, Budget, Exponents, Factors, Mode,
};
pub use mcmoe_quant::{Backend, Method, Precision};
pub use mcmoe_tensor_kernels::PackedOps;
pub use progress::{Progress, Silent};
pub use tokenizer::{TextStream, Tokenizer};
