//! The block of experts.

use burn::tensor::backend::Backend;
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
            if let Some(picked) = Picked::new(&tokens, x) {
                let weights = from_host(weights, [tokens.len(), 1], &x.device());
                let y = expert.forward(picked.inputs.clone());
                output = picked.add_to(output, y * weights);
            }
        }
        output
    }
}

/// The tokens of a batch that one expert works on.
pub(crate) struct Picked<B: Backend> {
    /// Which they are.
    pub(crate) indices: Tensor<B, 1, Int>,
    /// The tokens' inputs, `[picked, hidden]`.
    pub(crate) inputs: Tensor<B, 2>,
}

impl<B: Backend> Picked<B> {
    /// Gathers `tokens` of `x`; `None` if there are none.
    pub(crate) fn new(tokens: &[usize], x: &Tensor<B, 2>) -> Option<Self> {
        if tokens.is_empty() {
            return None;
        }
        let indices: Vec<i64> = tokens.iter().map(|&token| token as i64).collect();
        let indices = Tensor::from_data(TensorData::new(indices, [tokens.len()]), &x.device());
        let inputs = x.clone().select(0, indices.clone());
        Some(Self { indices, inputs })
    }

    /// Adds `y`, the expert's weighted outputs, to the tokens' rows of `output`.
    pub(crate) fn add_to(self, output: Tensor<B, 2>, y: Tensor<B, 2>) -> Tensor<B, 2> {
        output.select_assign(0, self.indices, y, IndexingUpdateOp::Add)
    }
}
