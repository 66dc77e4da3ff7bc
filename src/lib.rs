//! mcmoe: Mixture-of-Experts language models at 1.5 to 2.5 bits a weight.
//!
//! This crate re-exports the libraries under one roof and owns the examples and benchmarks. Depend on
//! a single library where one is enough: [`quant`] and [`allocator`] know nothing of Mixtral or burn.
//!
//! | module | crate | for |
//! |---|---|---|
//! | [`kernels`] | `mcmoe-tensor-kernels` | packed matrices and products with them |
//! | [`quant`] | `mcmoe-quant` | weights to packed matrices: GPTQ, HQQ, round to nearest |
//! | [`allocator`] | `mcmoe-allocator` | bits for each expert by integer programming |
//! | [`mixtral`] | `mcmoe-mixtral` | the model, calibration, compression, evaluation, generation |
//!
//! `examples/quickstart.rs` goes from a dense model to generated text with these libraries alone.
//! `examples/mixtral_8x7b.rs` and `examples/mixtral_8x22b.rs` do so at true size, with or without a download.
#![forbid(unsafe_code)]

pub use mcmoe_allocator as allocator;
pub use mcmoe_mixtral as mixtral;
pub use mcmoe_quant as quant;
pub use mcmoe_tensor_kernels as kernels;
