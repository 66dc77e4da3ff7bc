//! The block of experts.

use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};
use mcmoe_tensor_kernels::{ExpertWork, PackedOps, packed_experts};

use super::{Expert, Router, Routing, from_host};

/// Router and experts of one layer.
#[derive(Clone, Debug)]
pub struct MoeBlock<B: PackedOps> {
    /// Chooses the experts.
    pub router: Router<B>,
    /// All experts of the layer.
    pub experts: Vec<Expert<B>>,
}

impl<B: PackedOps> MoeBlock<B> {
    /// The choice that follows from router logits, `[tokens, experts]`.
    pub fn routing(&self, logits: &[f32]) -> Routing {
        Routing::from_logits(logits, self.experts.len(), self.router.top_k)
    }

    /// The weighted sum of the chosen experts' outputs. Experts that no token needs do no work.
    pub fn forward(&self, x: &Tensor<B, 2>, routing: &Routing) -> Tensor<B, 2> {
        self.packed(x, routing).unwrap_or_else(|| self.one_by_one(x, routing))
    }

    /// All chosen experts as one piece of work, if all are packed.
    fn packed(&self, x: &Tensor<B, 2>, routing: &Routing) -> Option<Tensor<B, 2>> {
        let assigned: Vec<(Vec<usize>, Vec<f32>)> =
            (0..self.experts.len()).map(|e| routing.assigned(e)).collect();
        let work = self.experts.iter().zip(&assigned).filter(|(_, (tokens, _))| !tokens.is_empty());
        let work = work.map(|(expert, (tokens, weights))| {
            let (gate, up, down) = (expert.w1.as_packed()?, expert.w3.as_packed()?, expert.w2.as_packed()?);
            Some(ExpertWork { gate, up, down, tokens, weights })
        });
        Some(packed_experts(x.clone(), &work.collect::<Option<Vec<_>>>()?))
    }

    fn one_by_one(&self, x: &Tensor<B, 2>, routing: &Routing) -> Tensor<B, 2> {
        let mut output = x.zeros_like();
        for (e, expert) in self.experts.iter().enumerate() {
            let (tokens, weights) = routing.assigned(e);
            if let Some(picked) = Picked::new(tokens, weights, x) {
                let y = expert.forward(picked.inputs.clone());
                output = picked.add_to(output, y);
            }
        }
        output
    }
}

/// The tokens of a batch that one expert works on.
struct Picked<B: PackedOps> {
    indices: Tensor<B, 1, Int>,
    weights: Tensor<B, 2>,
    /// The tokens' inputs, `[picked, hidden]`.
    inputs: Tensor<B, 2>,
}

impl<B: PackedOps> Picked<B> {
    /// Gathers `tokens` of `x`; `None` if there are none.
    fn new(tokens: Vec<usize>, weights: Vec<f32>, x: &Tensor<B, 2>) -> Option<Self> {
        let (count, device) = (tokens.len(), x.device());
        if count == 0 {
            return None;
        }
        let indices: Vec<i64> = tokens.into_iter().map(|token| token as i64).collect();
        let indices = Tensor::<B, 1, Int>::from_data(TensorData::new(indices, [count]), &device);
        let inputs = x.clone().select(0, indices.clone());
        Some(Self { indices, weights: from_host(weights, [count, 1], &device), inputs })
    }

    /// Adds the weighted outputs of the expert to the tokens' rows of `output`.
    fn add_to(&self, output: Tensor<B, 2>, y: Tensor<B, 2>) -> Tensor<B, 2> {
        output.select_assign(0, self.indices.clone(), y * self.weights.clone(), IndexingUpdateOp::Add)
    }
}
