//! What to allocate and how.

use serde::{Deserialize, Serialize};

use crate::budget::Budget;
use crate::significance::Exponents;
use crate::storage::Storage;

/// The rule that turns factors into widths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Mode {
    /// The integer program of arXiv:2410.06270: least significance-weighted loss within the budget.
    #[default]
    Mixed,
    /// One program over every matrix of every expert of the model: least loss of the model's predictions,
    /// as [`Factors::matrices`](crate::Factors::matrices) has it, within the budget.
    Global,
    /// The same width for every expert. A budget in code bits must be a candidate width; of a budget
    /// in stored bits or bytes the widest that fits is taken. Needs no measurements.
    Uniform,
    /// A seeded draw, block by block, among all allocations whose size is the largest possible
    /// within the budget, each equally likely. Needs no measurements and ignores [`Spread`]. Hundreds of
    /// experts whose widths cost unevenly can have too many sizes to tell apart, which is an error.
    Random,
    /// The width of [`Mode::Uniform`], moved by hand: the `high` most significant experts of each
    /// block get the next wider candidate, the `low` least significant the next narrower, where
    /// there is one. The size follows from that and is not held to the budget. Needs frequencies
    /// and weights, no losses.
    Manual {
        /// Experts raised in each block.
        high: usize,
        /// Experts lowered in each block.
        low: usize,
    },
}

/// Which widths a block has to show in [`Mode::Mixed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Spread {
    /// At least one expert at each of the two widest candidates (3 and 2 bits of 1, 2 and 3), as in
    /// arXiv:2410.06270. A budget too small for that is an error. With a single candidate width, or
    /// a single expert per block, there is nothing to spread, and this is the same as
    /// [`Spread::Free`].
    #[default]
    TwoWidest,
    /// No requirement.
    Free,
}

/// How far a budget reaches in [`Mode::Mixed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Scope {
    /// Every block has its own part of the budget, as in arXiv:2410.06270.
    #[default]
    Block,
    /// One program for the whole model: blocks with larger losses may take more than their part,
    /// and rounding loses at most one step in all, not one a block. Assumes that the losses of
    /// different layers can be compared.
    Model,
}

/// Options of an [`Allocator`](crate::Allocator).
///
/// ```
/// use mcmoe_allocator::{AllocatorOptions, Budget, Mode, Storage};
/// let options = AllocatorOptions::default()
///     .mode(Mode::Random)
///     .seed(7)
///     .budget(Budget::StoredBits { bits_per_weight: 2.3 })
///     .storage(Storage::grouped([1, 2, 3], 128, 32));
/// assert_eq!(options.seed, 7);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AllocatorOptions {
    /// The rule; [`Mode::Mixed`] by default.
    pub mode: Mode,
    /// The room; an average of 2 code bits by default.
    pub budget: Budget,
    /// Exponents of the objective; those of the published bit-widths by default.
    pub exponents: Exponents,
    /// Widths that a block has to show; the two widest by default.
    pub spread: Spread,
    /// Reach of the budget; one block by default.
    pub scope: Scope,
    /// Stored bits per width, for budgets that count them; none by default.
    pub storage: Option<Storage>,
    /// Seed of [`Mode::Random`]; 0 by default.
    pub seed: u64,
}

impl Default for AllocatorOptions {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            budget: Budget::ExpertBits(2.0),
            exponents: Exponents::default(),
            spread: Spread::default(),
            scope: Scope::default(),
            storage: None,
            seed: 0,
        }
    }
}

impl AllocatorOptions {
    /// Sets the rule.
    #[must_use]
    pub fn mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// Sets the budget.
    #[must_use]
    pub fn budget(self, budget: Budget) -> Self {
        Self { budget, ..self }
    }

    /// Sets the exponents of the objective.
    #[must_use]
    pub fn exponents(self, exponents: Exponents) -> Self {
        Self { exponents, ..self }
    }

    /// Sets which widths a block has to show.
    #[must_use]
    pub fn spread(self, spread: Spread) -> Self {
        Self { spread, ..self }
    }

    /// Sets how far the budget reaches.
    #[must_use]
    pub fn scope(self, scope: Scope) -> Self {
        Self { scope, ..self }
    }

    /// Sets what each width costs in storage.
    #[must_use]
    pub fn storage(self, storage: Storage) -> Self {
        Self { storage: Some(storage), ..self }
    }

    /// Sets the seed of [`Mode::Random`].
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }
}
