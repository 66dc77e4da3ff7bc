//! What is known of a batch's routing on the GPU.

use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{Int, Tensor, TensorPrimitive};

use crate::routing::RouteCounts;

/// The experts of a batch's tokens, planned for kernels.
#[derive(Clone, Debug)]
pub struct GpuRoutes<B: Backend> {
    /// See [`super::route`].
    pub(super) plan: IntTensor<B>,
    /// `[tokens, top_k]`; zero for pruned experts.
    pub(super) weights: FloatTensor<B>,
    pub(super) size: RouteSize,
}

/// The sizes of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RouteSize {
    pub(super) tokens: usize,
    pub(super) top_k: usize,
    pub(super) experts: usize,
}

/// What happened to the experts of a layer: counted on the GPU, read when somebody asks.
#[derive(Clone, Debug)]
pub struct GpuTally<B: Backend> {
    /// For each expert the passes that used it, then pruned activations.
    pub(super) counts: Option<IntTensor<B>>,
    pub(super) activations: u64,
}

impl<B: Backend> Default for GpuTally<B> {
    fn default() -> Self {
        Self { counts: None, activations: 0 }
    }
}

impl RouteSize {
    /// Tokens times experts a token.
    pub(super) const fn slots(self) -> usize {
        self.tokens * self.top_k
    }

    /// Slots of a chunk.
    pub(super) fn batch(self) -> usize {
        super::launch::batch(self.tokens)
    }

    pub(super) fn chunks(self) -> usize {
        super::route::most_chunks(self.slots(), self.experts, self.batch())
    }

    /// Words of a plan.
    pub(super) fn plan(self) -> usize {
        2 * self.slots() + 3 * self.chunks()
    }
}

/// The tokens of each expert and its weights for them.
pub(super) fn assigned<B: Backend>(routes: &GpuRoutes<B>) -> Vec<(Vec<usize>, Vec<f32>)> {
    let weights = Tensor::<B, 2>::from_primitive(TensorPrimitive::Float(routes.weights.clone()));
    let weights: Vec<f32> = weights.into_data().convert::<f32>().into_vec().expect("converted to f32");
    let mut assigned = vec![(vec![], vec![]); routes.size.experts];
    for (slot, (expert, weight)) in words::<B>(routes.plan.clone()).into_iter().zip(weights).enumerate() {
        if weight > 0.0 {
            let (tokens, weights) = &mut assigned[expert as usize];
            tokens.push(slot / routes.size.top_k);
            weights.push(weight);
        }
    }
    assigned
}

/// What a tally has counted.
pub(super) fn counts<B: Backend>(tally: &GpuTally<B>) -> RouteCounts {
    let mut passes: Vec<u64> = tally.counts.clone().map_or(vec![], |counts| words::<B>(counts));
    let pruned = passes.pop().unwrap_or_default();
    RouteCounts { passes, activations: tally.activations, pruned }
}

/// The elements of a tensor of words.
fn words<B: Backend>(tensor: IntTensor<B>) -> Vec<u64> {
    let data = Tensor::<B, 1, Int>::from_primitive(tensor).into_data().convert::<i64>();
    data.into_vec::<i64>().expect("converted to i64").into_iter().map(|word| word as u64).collect()
}
