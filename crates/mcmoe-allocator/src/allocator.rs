//! Factors in, allocation out.

use crate::allocation::{Allocation, average};
use crate::error::AllocatorError;
use crate::factors::{Factors, MatrixFactors};
use crate::measure::Measure;
use crate::mode::manual::Moves;
use crate::mode::{global, manual, mixed, random, uniform};
use crate::options::{AllocatorOptions, Mode};
use crate::solver::{Highs, Solver};

/// Allocates bit-widths by the rule and budget of its options.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Allocator {
    options: AllocatorOptions,
}

impl Allocator {
    /// An allocator with these options.
    #[must_use]
    pub fn new(options: AllocatorOptions) -> Self {
        Self { options }
    }

    /// One width per expert, by HiGHS where the mode needs a solver.
    ///
    /// The same factors and options give the same allocation in every run.
    ///
    /// # Errors
    /// Invalid factors or options, a budget that nothing fits ([`AllocatorError::Infeasible`] with
    /// the smallest size that would do), or a failing solver.
    pub fn allocate(&self, factors: &Factors) -> Result<Allocation, AllocatorError> {
        self.allocate_with(&Highs, factors)
    }

    /// Whether some allocation meets these options, for a model of `num_layers` blocks of `num_experts`
    /// experts and candidate widths `bits`: what can be known before anything is measured.
    ///
    /// # Errors
    /// As [`Allocator::allocate`].
    pub fn check(&self, num_layers: usize, num_experts: usize, bits: &[u8]) -> Result<(), AllocatorError> {
        Factors::unmeasured(num_layers, num_experts, bits.to_vec()).validate_shape()?;
        self.allocate(&Factors::alike(num_layers, num_experts, bits.to_vec())).map(drop)
    }

    /// As [`Allocator::check`] for [`Mode::Global`]: `matrices` matrices an expert, candidate code bits `bits`.
    ///
    /// # Errors
    /// As [`Allocator::allocate`].
    pub fn check_matrices(
        &self,
        num_layers: usize,
        num_experts: usize,
        matrices: usize,
        bits: Vec<f64>,
    ) -> Result<(), AllocatorError> {
        let loss = vec![vec![vec![vec![1.0; bits.len()]; matrices]; num_experts]; num_layers];
        let factors = Factors::unmeasured(num_layers, num_experts, vec![1]);
        self.allocate(&factors.with_matrices(MatrixFactors::new(bits, loss))).map(drop)
    }

    /// The same as [`Allocator::allocate`] with another solver.
    ///
    /// # Errors
    /// As [`Allocator::allocate`].
    pub fn allocate_with(
        &self,
        solver: &dyn Solver,
        factors: &Factors,
    ) -> Result<Allocation, AllocatorError> {
        let options = &self.options;
        factors.validate_shape()?;
        let measure = || Measure::new(options.budget, options.storage.as_ref(), factors);
        match options.mode {
            Mode::Global => {
                factors.validate_matrices()?;
                let storage = options.storage.as_ref();
                let (matrices, objective) = global::allocate(factors, options.budget, storage, solver)?;
                let rounded = |bits: &Vec<f64>| average(bits).round() as u8;
                let bits = matrices.iter().map(|layer| layer.iter().map(rounded).collect()).collect();
                let (matrices, objective) = (Some(matrices), Some(objective));
                Ok(Allocation { matrices, objective, ..self.stamped(bits) })
            }
            Mode::Mixed => {
                let (bits, objective) = mixed::allocate(factors, options, &measure()?, solver)?;
                let allocation = self.stamped(bits);
                Ok(Allocation {
                    objective: Some(objective),
                    exponents: Some(options.exponents),
                    ..allocation
                })
            }
            Mode::Uniform => Ok(self.stamped(uniform::allocate(factors, options.budget, &measure()?)?)),
            Mode::Random => {
                let allocation = self.stamped(random::allocate(factors, &measure()?, options.seed)?);
                Ok(Allocation { seed: Some(options.seed), ..allocation })
            }
            Mode::Manual { high, low } => {
                let bits = manual::allocate(factors, options, &measure()?, Moves { high, low })?;
                Ok(Allocation { exponents: Some(options.exponents), ..self.stamped(bits) })
            }
        }
    }

    fn stamped(&self, bits: Vec<Vec<u8>>) -> Allocation {
        let Self { options } = self;
        Allocation { mode: Some(options.mode), budget: Some(options.budget), ..Allocation::new(bits) }
    }
}
