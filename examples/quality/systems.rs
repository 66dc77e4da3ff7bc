//! The systems that are compared. Tables and plot know them by these names.

/// The model as it was trained.
pub(crate) const DENSE: &str = "16-bit";

/// Trellis codes, widths by one program over all matrices: what `mcmoe compress` does by default.
pub(crate) const TRELLIS: &str = "mcmoe, trellis";
/// Trellis codes, one width for all.
pub(crate) const TRELLIS_UNIFORM: &str = "mcmoe, trellis, uniform";
/// Like the first, without repair.
pub(crate) const TRELLIS_PLAIN: &str = "mcmoe, trellis, no repair";
/// GPTQ on a grid, widths by the published program.
pub(crate) const GPTQ_MIXED: &str = "mcmoe, GPTQ grid, mixed";
/// GPTQ on a grid, one width for all.
pub(crate) const GPTQ_UNIFORM: &str = "mcmoe, GPTQ grid, uniform";
/// HQQ on a grid, one width for all.
pub(crate) const HQQ_UNIFORM: &str = "mcmoe, HQQ grid, uniform";

/// The published code of arXiv 2410.06270.
pub(crate) const MC_MOE: &str = "MC-MoE code, mixed";
/// The same code with one width for all.
pub(crate) const MC_MOE_UNIFORM: &str = "MC-MoE code, uniform";
/// The published HQQ.
pub(crate) const HQQ: &str = "HQQ";
/// Codebooks of llama.cpp: `IQ1_S` and so on.
pub(crate) const LLAMA_I: &str = "llama.cpp, i-quants";
/// Grids of llama.cpp: `Q2_K` and so on.
pub(crate) const LLAMA_K: &str = "llama.cpp, k-quants";

/// Those in the plot, as its legend lists them.
pub(crate) const PLOTTED: [&str; 10] = [
    TRELLIS,
    TRELLIS_UNIFORM,
    GPTQ_MIXED,
    GPTQ_UNIFORM,
    HQQ_UNIFORM,
    MC_MOE,
    MC_MOE_UNIFORM,
    HQQ,
    LLAMA_I,
    LLAMA_K,
];
