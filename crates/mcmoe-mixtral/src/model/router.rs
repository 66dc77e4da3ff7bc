//! The router: which experts a token goes to, and with what weight.

use burn::tensor::Tensor;
use mcmoe_tensor_kernels::PackedOps;

use super::{Linear, to_host};

/// The gate of a MoE block.
#[derive(Clone, Debug)]
pub struct Router<B: PackedOps> {
    /// `[experts, hidden]`.
    pub gate: Linear<B>,
    /// Experts a token is routed to.
    pub top_k: usize,
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

impl<B: PackedOps> Router<B> {
    /// Router logits of `x`, `[tokens, experts]`, on the host.
    pub fn logits(&self, x: Tensor<B, 2>) -> Vec<f32> {
        to_host(self.gate.forward(x))
    }
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
}
