//! `mcmoe allocate`.

use mcmoe_mixtral::{Allocator, AllocatorOptions, Budget, Exponents, Factors};

use super::{Failure, shared};
use crate::args::{AllocateArgs, ModeArg};
use crate::output;

pub(crate) fn run(args: &AllocateArgs) -> Result<(), Failure> {
    let factors = Factors::read(&args.factors)?;
    // Factors of a compression by matrices have no losses of whole experts.
    let only_matrices = factors.quant_loss.is_empty() && factors.matrices.is_some();
    let mode = args.mode.mode.unwrap_or(if only_matrices { ModeArg::Global } else { ModeArg::Mixed });
    let exponents = Exponents::default().alpha(args.alpha).beta(args.beta).gamma(args.gamma);
    let options = AllocatorOptions::default()
        .mode(shared::mode(mode, &args.mode))
        .budget(Budget::ExpertBits(args.expert_bits))
        .exponents(exponents)
        .seed(args.seed);
    let allocation = Allocator::new(options).allocate(&factors)?;
    allocation.write(&args.output)?;
    output::line(&format!(
        "{} layers of {} experts, {:.3} bits on average: {}",
        allocation.bits.len(),
        factors.num_experts,
        allocation.average_bits(),
        args.output.display()
    ))
}
