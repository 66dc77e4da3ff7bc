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
//!
//! It holds no quantizer, no solver and no kernel: those are the crates below.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use mcmoe_mixtral::compress::{CompressOptions, SizeGoal, compress};
//! use mcmoe_mixtral::calibrate::Calibration;
//! use mcmoe_mixtral::{CpuBackend, Silent};
//!
//! let text = "wikitext2:wiki.train.txt".parse()?;
//! let options = CompressOptions::default()
//!     .size(SizeGoal::ExpertBits(2.0))
//!     .calibration(Calibration::new(text).seq_len(512));
//! let (model, out) = (Path::new("Mixtral-8x7B-v0.1"), Path::new("mixtral-2bit"));
//! compress::<CpuBackend>(model, out, &options, &Default::default(), &Silent)?;
//! # Ok::<(), mcmoe_mixtral::MixtralError>(())
//! ```
#![forbid(unsafe_code)]

pub mod calibrate;
pub mod checkpoint;
pub mod compress;
mod config;
pub mod dataset;
mod device;
mod error;
pub mod evaluate;
pub mod folder;
pub mod generate;
pub mod inspect;
mod json;
pub mod model;
mod progress;
mod tokenizer;

pub use config::MixtralConfig;
pub use device::{CpuBackend, Device, OnDevice};
pub use error::MixtralError;
pub use mcmoe_allocator::{
    Allocation, Allocator, AllocatorError, AllocatorOptions, Budget, Exponents, Factors, Mode,
};
pub use mcmoe_quant::Method;
pub use mcmoe_tensor_kernels::PackedOps;
pub use progress::{Progress, Silent};
pub use tokenizer::{TextStream, Tokenizer};
