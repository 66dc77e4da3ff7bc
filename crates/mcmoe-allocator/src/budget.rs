//! How much room the experts may take.

use serde::{Deserialize, Serialize};

/// The size that an allocation stays within.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Budget {
    /// Average code bits per expert, as arXiv:2410.06270 counts them: scales and zero points are
    /// free. A block of E experts gets ⌊average · E + 1e-9⌋ bits.
    ExpertBits(f64),
    /// Sum of the code bits of the experts of one block.
    TotalBits(u32),
    /// Average stored bits per expert weight; what a width costs comes from
    /// [`AllocatorOptions::storage`](crate::AllocatorOptions::storage). Exact to 2⁻²⁴ bit.
    StoredBits {
        /// Average over all expert weights.
        bits_per_weight: f64,
    },
    /// Bytes of all expert weights of the model; needs
    /// [`Storage::weights_per_expert`](crate::Storage::weights_per_expert). Unless the scope is
    /// [`Scope::Model`](crate::Scope::Model) every block gets an equal part.
    Bytes(u64),
}
