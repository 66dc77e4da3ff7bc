//! Online dynamic pruning (arXiv 2410.06270, section 3.3): tokens that hardly need their later
//! experts skip them, important tokens never do.

use super::Routing;

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

    /// Drops experts from `routing` and gives what they weighed to the rest.
    pub(crate) fn apply(&self, layer: usize, routing: &mut Routing, protected: &[bool]) {
        let (top_k, threshold) = (routing.top_k, self.thresholds[layer]);
        let tokens = routing.weights.chunks_exact_mut(top_k).zip(routing.probabilities.chunks_exact(top_k));
        for (token, (weights, probabilities)) in tokens.enumerate() {
            if protected.get(token).copied().unwrap_or(false) {
                continue;
            }
            for (weight, probability) in weights.iter_mut().zip(probabilities).skip(1) {
                if *probability < threshold * probabilities[0] {
                    *weight = 0.0;
                }
            }
            let kept: f32 = weights.iter().sum();
            weights.iter_mut().for_each(|weight| *weight /= kept);
        }
    }

    /// The tokens of one sequence that keep all experts: the most important ones by
    /// `I_j = ‖t_j‖₁ · (1/(T−j)) · Σ_{i≥j} A_ij`.
    ///
    /// `norms` holds ‖t_j‖₁ and `received` the sums of attention.
    pub(crate) fn protected(&self, norms: &[f32], received: &[f32]) -> Vec<bool> {
        let len = norms.len();
        let count = ((len as f32 * self.protect).ceil() as usize).min(len);
        let importance: Vec<f32> =
            norms.iter().zip(received).enumerate().map(|(j, (n, r))| n * r / (len - j) as f32).collect();
        let mut order: Vec<usize> = (0..importance.len()).collect();
        order.sort_by(|&a, &b| importance[b].total_cmp(&importance[a]));
        let mut protected = vec![false; len];
        order.iter().take(count).for_each(|&token| protected[token] = true);
        protected
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
    /// Counts a layer's choice; `bytes` are those of each expert.
    pub(crate) fn count(&mut self, routing: &Routing, bytes: impl Iterator<Item = u64>) {
        self.total += routing.weights.len() as u64;
        self.pruned += routing.weights.iter().filter(|&&weight| weight == 0.0).count() as u64;
        let runs = |e: usize| routing.experts.iter().zip(&routing.weights).any(|(x, w)| *x == e && *w > 0.0);
        self.expert_bytes += bytes.enumerate().filter(|(e, _)| runs(*e)).map(|(_, bytes)| bytes).sum::<u64>();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_seconds_are_dropped_unless_protected() {
        let logits = [2.0, 1.0, 2.0, 1.9, 2.0, 1.0];
        let mut routing = Routing::from_logits(&logits, 2, 2);
        Pruning::new(vec![0.5]).apply(0, &mut routing, &[false, false, true]);
        assert_eq!(routing.weights[..2], [1.0, 0.0]);
        assert!(routing.weights[3] > 0.4 && routing.weights[5] > 0.2);
        let mut count = Activations::default();
        count.count(&routing, [10, 1].into_iter());
        assert_eq!((count.total, count.pruned, count.expert_bytes), (6, 1, 11));
    }

    #[test]
    fn importance_weighs_norm_and_attention() {
        let pruning = Pruning::new(vec![]).protect(0.3);
        // I = 1·4/4, 1·6/3, 3·1/2, 1·1/1
        assert_eq!(
            pruning.protected(&[1.0, 1.0, 3.0, 1.0], &[4.0, 6.0, 1.0, 1.0]),
            [false, true, true, false]
        );
    }
}
