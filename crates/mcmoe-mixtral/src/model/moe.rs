//! The block of experts.

use burn::tensor::backend::Backend;
use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};
use mcmoe_tensor_kernels::{PackedOps, packed_experts};

use super::{Expert, Router, from_host};

/// Router and experts of one layer.
#[derive(Clone, Debug)]
pub struct MoeBlock<B: PackedOps> {
    /// Chooses the experts.
    pub router: Router<B>,
    /// All experts of the layer.
    pub experts: Vec<Expert<B>>,
    /// The experts as one piece of work, if all are packed.
    together: Option<B::Experts>,
}

impl<B: PackedOps> MoeBlock<B> {
    /// A block of these experts; packed ones are put together.
    pub fn new(router: Router<B>, mut experts: Vec<Expert<B>>, device: &B::Device) -> Self {
        let packed = experts.iter_mut().map(|expert| {
            let Expert { w1, w2, w3 } = expert;
            Some([w1.as_packed_mut()?, w3.as_packed_mut()?, w2.as_packed_mut()?])
        });
        let packed: Option<Vec<_>> = packed.collect();
        let together = packed.filter(|packed| !packed.is_empty());
        let together = together.and_then(|mut packed| B::experts_from(&mut packed, device));
        Self { router, experts, together }
    }

    /// The weighted sum of the chosen experts' outputs. Experts that no token needs do no work.
    pub fn forward(&self, x: &Tensor<B, 2>, routes: &B::Routes) -> Tensor<B, 2> {
        match &self.together {
            Some(together) => packed_experts(x.clone(), together, routes),
            None => self.one_by_one(x, routes),
        }
    }

    fn one_by_one(&self, x: &Tensor<B, 2>, routes: &B::Routes) -> Tensor<B, 2> {
        let mut output = x.zeros_like();
        let assigned = B::assigned(routes, self.experts.len());
        for (expert, (tokens, weights)) in self.experts.iter().zip(assigned) {
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
