//! The Precision Zoo: allocations that are ready to use without calibration.
//!
//! A [`Zoo`] holds one model's allocations for several budgets; [`mixtral_8x7b`] comes with the
//! crate.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::allocation::Allocation;
use crate::allocator::Allocator;
use crate::budget::Budget;
use crate::error::AllocatorError;
use crate::factors::Factors;
use crate::files;
use crate::options::{AllocatorOptions, Mode};
use crate::significance::Exponents;

/// The embedded file, so that a build of the crate needs nothing beside itself.
const MIXTRAL_8X7B: &str = include_str!("../zoo/mixtral-8x7b.json");

/// Allocations of one model by total code bits a block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Zoo {
    /// The model.
    pub model: String,
    /// Where the allocations come from.
    pub note: String,
    /// Exponents of the objective that they minimise.
    pub exponents: Exponents,
    /// Candidate bit-widths.
    pub bits: Vec<u8>,
    /// Widths by total code bits of a block, `[layer][expert]`.
    pub allocation: BTreeMap<u32, Vec<Vec<u8>>>,
}

/// Our solver's allocation of Mixtral 8x7B from the factors published with arXiv:2410.06270, with
/// `total_bits` code bits in each block of 8 experts: 12 (1.5 bits an expert) to 20 (2.5 bits).
///
/// ```
/// let allocation = mcmoe_allocator::zoo::mixtral_8x7b(16)?;
/// assert_eq!((allocation.bits.len(), allocation.average_bits()), (32, 2.0));
/// # Ok::<(), mcmoe_allocator::AllocatorError>(())
/// ```
///
/// # Errors
/// [`AllocatorError::NotInZoo`] for another total.
pub fn mixtral_8x7b(total_bits: u32) -> Result<Allocation, AllocatorError> {
    Zoo::from_json(MIXTRAL_8X7B)?.allocation(total_bits)
}

impl Zoo {
    /// Solves [`Mode::Mixed`] for every total of `totals`.
    ///
    /// # Errors
    /// As [`Allocator::allocate`].
    pub fn compute(
        factors: &Factors,
        totals: RangeInclusive<u32>,
        exponents: Exponents,
        note: impl Into<String>,
    ) -> Result<Self, AllocatorError> {
        let solve = |total: u32| {
            let options = AllocatorOptions::default().budget(Budget::TotalBits(total)).exponents(exponents);
            Ok((total, Allocator::new(options).allocate(factors)?.bits))
        };
        let model = factors.model.clone().unwrap_or_default();
        let allocation = totals.map(solve).collect::<Result<_, AllocatorError>>()?;
        Ok(Self { model, note: note.into(), exponents, bits: factors.bits.clone(), allocation })
    }

    /// Parses JSON and checks every allocation.
    ///
    /// # Errors
    /// [`AllocatorError::Json`], [`AllocatorError::Widths`], [`AllocatorError::Shape`] or
    /// [`AllocatorError::Width`].
    pub fn from_json(json: &str) -> Result<Self, AllocatorError> {
        let zoo: Self = files::parse(json, "a precision zoo")?;
        crate::widths::check(&zoo.bits)?;
        let first = zoo.allocation.values().next();
        let (layers, experts) = first.map_or((0, 0), |bits| (bits.len(), bits.first().map_or(0, Vec::len)));
        for bits in zoo.allocation.values() {
            Allocation::new(bits.clone()).validate(layers, experts, &zoo.bits)?;
        }
        Ok(zoo)
    }

    /// The JSON form, one block a line so that two versions can be compared.
    ///
    /// # Errors
    /// [`AllocatorError::Json`].
    pub fn to_json(&self) -> Result<String, AllocatorError> {
        let head = Self { allocation: BTreeMap::new(), ..self.clone() };
        let head = files::print(&head, "a precision zoo")?;
        let head = head.strip_suffix("{}}").unwrap_or(&head);
        let totals: Vec<String> = self.allocation.iter().map(|(total, bits)| entry(*total, bits)).collect();
        Ok(format!("{head}{{\n{}\n}}}}\n", totals.join(",\n")))
    }

    /// Writes a JSON file; after a crash the old file or the new one is there, never a part of one.
    ///
    /// # Errors
    /// As [`Zoo::to_json`], and [`AllocatorError::Io`].
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), AllocatorError> {
        files::write(path.as_ref(), &self.to_json()?)
    }

    /// The allocation with `total_bits` code bits a block.
    ///
    /// # Errors
    /// [`AllocatorError::NotInZoo`] for a total that the zoo does not have.
    pub fn allocation(&self, total_bits: u32) -> Result<Allocation, AllocatorError> {
        let Some(bits) = self.allocation.get(&total_bits) else {
            let available = self.allocation.keys().copied().collect();
            return Err(AllocatorError::NotInZoo { total_bits, available });
        };
        Ok(Allocation {
            mode: Some(Mode::Mixed),
            budget: Some(Budget::TotalBits(total_bits)),
            exponents: Some(self.exponents),
            note: Some(self.note.clone()),
            ..Allocation::new(bits.clone())
        })
    }
}

/// One total with a line for each block; a row of numbers prints the same in JSON and in Rust.
fn entry(total: u32, bits: &[Vec<u8>]) -> String {
    let rows: Vec<String> = bits.iter().map(|row| format!("{row:?}")).collect();
    format!("\"{total}\": [\n{}\n]", rows.join(",\n"))
}
