//! Which experts each token goes to, and with what weight.

/// How experts are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct RouteRule {
    /// Experts a token is routed to.
    pub top_k: usize,
    /// An expert is dropped when its probability is below this share of the first's
    /// (arXiv 2410.06270, section 3.3); none is at 0.
    pub threshold: f32,
}

impl RouteRule {
    /// The best `top_k`, all of them.
    pub const fn new(top_k: usize) -> Self {
        Self { top_k, threshold: 0.0 }
    }

    /// Sets the threshold below which experts are dropped.
    #[must_use]
    pub const fn threshold(mut self, threshold: f32) -> Self {
        self.threshold = threshold;
        self
    }
}

/// The experts chosen for each token of a batch, best first.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Routing {
    /// Experts a token is routed to.
    pub top_k: usize,
    /// Chosen experts, `[tokens, top_k]`.
    pub experts: Vec<usize>,
    /// Their softmax probabilities over all experts, `[tokens, top_k]`, descending.
    pub probabilities: Vec<f32>,
    /// Their share in the block's output, `[tokens, top_k]`: the probabilities renormalised over the
    /// choice. Zero where an expert has been pruned.
    pub weights: Vec<f32>,
}

impl Routing {
    /// Softmax over all experts, the best `top_k`, renormalised over these. Of equal logits the first
    /// expert's comes first.
    pub fn from_logits(logits: &[f32], experts: usize, top_k: usize) -> Self {
        let tokens = logits.len() / experts;
        let mut routing = Self {
            top_k,
            experts: Vec::with_capacity(tokens * top_k),
            probabilities: Vec::with_capacity(tokens * top_k),
            weights: Vec::with_capacity(tokens * top_k),
        };
        for logits in logits.chunks_exact(experts) {
            routing.push(logits);
        }
        routing
    }

    fn push(&mut self, logits: &[f32]) {
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        let chosen = &order[..self.top_k];
        let largest = logits[order[0]];
        let total: f32 = logits.iter().map(|logit| (logit - largest).exp()).sum();
        let probability = |&expert: &usize| (logits[expert] - largest).exp() / total;
        let kept: f32 = chosen.iter().map(probability).sum();
        self.experts.extend(chosen);
        self.probabilities.extend(chosen.iter().map(probability));
        self.weights.extend(chosen.iter().map(|expert| probability(expert) / kept));
    }

    /// Drops experts whose probability is below `threshold` times the first's, and gives what they weighed to
    /// the rest. Tokens that are `protected` keep all; those beyond its end are not.
    pub fn prune(&mut self, threshold: f32, protected: &[bool]) {
        let tokens =
            self.weights.chunks_exact_mut(self.top_k).zip(self.probabilities.chunks_exact(self.top_k));
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

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.experts.len() / self.top_k
    }

    /// Tokens that `expert` works on and its weight for each; pruned activations are left out.
    pub fn assigned(&self, expert: usize) -> (Vec<usize>, Vec<f32>) {
        let activations = self.experts.iter().zip(&self.weights).enumerate();
        let here = activations.filter(|(_, (e, weight))| **e == expert && **weight > 0.0);
        here.map(|(at, (_, weight))| (at / self.top_k, *weight)).unzip()
    }

    /// For every token, the second probability over the first (arXiv 2410.06270, section 3.3).
    pub fn ratios(&self) -> impl Iterator<Item = f32> {
        let pairs = self.probabilities.chunks_exact(self.top_k).filter(|p| p.len() > 1);
        pairs.map(|p| p[1] / p[0])
    }
}

/// What several passes did with the experts of a layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteCounts {
    /// Passes in which an expert had work, expert by expert; empty before the first pass.
    pub passes: Vec<u64>,
    /// Tokens times experts a token.
    pub activations: u64,
    /// Those that were pruned.
    pub pruned: u64,
}

impl RouteCounts {
    /// Counts one pass.
    pub(crate) fn add(&mut self, routing: &Routing, experts: usize) {
        self.passes.resize(experts, 0);
        let mut used = vec![false; experts];
        for (&expert, &weight) in routing.experts.iter().zip(&routing.weights) {
            used[expert] |= weight > 0.0;
            self.pruned += u64::from(weight == 0.0);
        }
        self.activations += routing.weights.len() as u64;
        self.passes.iter_mut().zip(used).for_each(|(passes, used)| *passes += u64::from(used));
    }
}

/// The tokens of one sequence that keep all experts: the most important ones, rounded up to whole tokens, by
/// `I_j = ‖t_j‖₁ · (1/(T−j)) · Σ_{i≥j} A_ij`.
///
/// `norms` holds ‖t_j‖₁ and `received` the sums of attention.
pub(crate) fn protected(norms: &[f32], received: &[f32], count: usize) -> Vec<bool> {
    let len = norms.len();
    let importance: Vec<f32> =
        norms.iter().zip(received).enumerate().map(|(j, (n, r))| n * r / (len - j) as f32).collect();
    let mut order: Vec<usize> = (0..importance.len()).collect();
    order.sort_by(|&a, &b| importance[b].total_cmp(&importance[a]));
    let mut protected = vec![false; len];
    order.iter().take(count).for_each(|&token| protected[token] = true);
    protected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_renormalised() {
        let logits = [0.0, 2.0, 1.0, -1.0, /* ties: */ 1.0, 1.0, 1.0, 1.0];
        let routing = Routing::from_logits(&logits, 4, 2);
        assert_eq!(routing.experts, [1, 2, 0, 1]);
        let total: f32 = [0.0, 2.0, 1.0, -1.0].map(f32::exp).iter().sum();
        assert!((routing.probabilities[0] - 2_f32.exp() / total).abs() < 1e-6);
        assert!((routing.weights[0] - 1.0 / (1.0 + (-1_f32).exp())).abs() < 1e-6);
        assert_eq!(routing.weights[2..], [0.5, 0.5]);
        assert_eq!(routing.assigned(1), (vec![0, 1], vec![routing.weights[0], 0.5]));
        let ratios: Vec<f32> = routing.ratios().collect();
        assert!((ratios[0] - (-1_f32).exp()).abs() < 1e-6 && ratios[1] == 1.0);
    }

    #[test]
    fn weak_seconds_are_dropped_unless_protected() {
        let logits = [2.0, 1.0, 2.0, 1.9, 2.0, 1.0];
        let mut routing = Routing::from_logits(&logits, 2, 2);
        routing.prune(0.5, &[false, false, true]);
        assert_eq!(routing.weights[..2], [1.0, 0.0]);
        assert!(routing.weights[3] > 0.4 && routing.weights[5] > 0.2);
        let mut counts = RouteCounts::default();
        counts.add(&routing, 2);
        assert_eq!((counts.activations, counts.pruned, counts.passes), (6, 1, vec![1, 1]));
    }

    #[test]
    fn importance_weighs_norm_and_attention() {
        // I = 1·4/4, 1·6/3, 3·1/2, 1·1/1
        assert_eq!(protected(&[1.0, 1.0, 3.0, 1.0], &[4.0, 6.0, 1.0, 1.0], 2), [false, true, true, false]);
    }
}
