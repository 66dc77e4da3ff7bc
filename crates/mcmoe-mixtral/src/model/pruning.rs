//! Online dynamic pruning (arXiv 2410.06270, section 3.3): tokens that hardly need their later
//! experts skip them, important tokens never do.

use mcmoe_tensor_kernels::{RouteCounts, RouteRule};

/// When to drop experts.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Pruning {
    /// μ of each layer: an expert is dropped when its routing weight is below μ times the first's.
    pub thresholds: Vec<f32>,
    /// Share of a sequence's tokens that keep all their experts, 0 to 1. Rounded up to whole tokens;
    /// single tokens (decode steps) are never protected.
    pub protect: f32,
}

impl Pruning {
    /// Pruning with these thresholds, one a layer, and no protected tokens.
    pub const fn new(thresholds: Vec<f32>) -> Self {
        Self { thresholds, protect: 0.0 }
    }

    /// Sets the share of protected tokens.
    #[must_use]
    pub const fn protect(mut self, share: f32) -> Self {
        self.protect = share;
        self
    }

    /// Whether attention has to sum up what each token receives.
    pub(crate) fn needs_importance(&self, len: usize) -> bool {
        self.protect > 0.0 && len > 1
    }

    /// How layer `layer` chooses `top_k` experts.
    pub(crate) fn rule(&self, layer: usize, top_k: usize) -> RouteRule {
        RouteRule::new(top_k).threshold(self.thresholds[layer])
    }

    /// How many tokens of a sequence of `len` keep all experts.
    pub(crate) fn protected(&self, len: usize) -> usize {
        ((len as f32 * self.protect).ceil() as usize).min(len)
    }
}

/// How many expert activations there were and how many were pruned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Activations {
    /// Tokens times experts a token, over all layers.
    pub total: u64,
    /// Those that were dropped.
    pub pruned: u64,
    /// Bytes of the experts that ran, each counted once a batch and layer.
    pub expert_bytes: u64,
}

impl Activations {
    /// Counts what a layer did; `bytes` are those of each expert.
    pub(crate) fn count(&mut self, counts: &RouteCounts, bytes: impl Iterator<Item = u64>) {
        self.total += counts.activations;
        self.pruned += counts.pruned;
        self.expert_bytes +=
            counts.passes.iter().zip(bytes).map(|(passes, bytes)| passes * bytes).sum::<u64>();
    }

    /// Adds the counts of another batch.
    pub const fn add(&mut self, other: &Self) {
        self.total += other.total;
        self.pruned += other.pruned;
        self.expert_bytes += other.expert_bytes;
    }

    /// Share of the activations that was pruned.
    pub fn pruned_fraction(&self) -> f64 {
        if self.total == 0 { 0.0 } else { self.pruned as f64 / self.total as f64 }
    }
}
