//! One bit-width per expert, and how it came about.

mod file;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::budget::Budget;
use crate::error::AllocatorError;
use crate::factors::{Factors, check};
use crate::files;
use crate::options::Mode;
use crate::significance::Exponents;
use crate::storage::Storage;
use crate::widths;
use file::File;

/// Bit-widths of the experts of a model.
///
/// Only `bits` has to be in a JSON file; the other fields record how it was made.
///
/// ```
/// use mcmoe_allocator::Allocation;
/// # fn main() -> Result<(), mcmoe_allocator::AllocatorError> {
/// let by_hand = Allocation::from_json(r#"{"bits": [[3, 1], [2, 1]]}"#)?;
/// by_hand.validate(2, 2, &[1, 2, 3])?;
/// assert_eq!(by_hand.average_bits(), 1.75);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "File", into = "File")]
#[non_exhaustive]
pub struct Allocation {
    /// Bit-width of every expert, `[layer][expert]`.
    pub bits: Vec<Vec<u8>>,
    /// Code bits of every matrix, `[layer][expert][matrix]`, where the matrices of an expert may differ;
    /// `bits` then has their averages, rounded here and exact in the file, for information.
    pub matrices: Option<Vec<Vec<Vec<f64>>>>,
    /// The rule.
    pub mode: Option<Mode>,
    /// The budget.
    pub budget: Option<Budget>,
    /// The exponents, where the rule used significance.
    pub exponents: Option<Exponents>,
    /// The objective reached, summed over layers, where the rule had one.
    pub objective: Option<f64>,
    /// The seed, where the rule was random.
    pub seed: Option<u64>,
    /// Remarks for a reader.
    pub note: Option<String>,
}

impl Allocation {
    /// These widths, `[layer][expert]`, with nothing recorded about how they were made.
    #[must_use]
    pub fn new(bits: Vec<Vec<u8>>) -> Self {
        Self { bits, ..Self::default() }
    }

    /// Parses JSON and checks that `bits` is a table of widths from 1 to 16.
    ///
    /// # Errors
    /// [`AllocatorError::Json`], [`AllocatorError::Empty`], [`AllocatorError::Shape`] or
    /// [`AllocatorError::Width`].
    pub fn from_json(json: &str) -> Result<Self, AllocatorError> {
        let allocation: Self = files::parse(json, "an allocation")?;
        allocation.check_table()?;
        Ok(allocation)
    }

    /// The JSON form, on one line.
    ///
    /// # Errors
    /// As [`Allocation::from_json`]: what could not be read again is not written.
    pub fn to_json(&self) -> Result<String, AllocatorError> {
        self.check_table()?;
        files::print(self, "an allocation")
    }

    /// Reads a JSON file.
    ///
    /// # Errors
    /// [`AllocatorError::Io`], [`AllocatorError::Json`] or [`AllocatorError::InFile`], each naming `path`.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, AllocatorError> {
        files::read(path.as_ref(), Self::from_json)
    }

    /// Writes a JSON file; after a crash the old file or the new one is there, never a part of one.
    ///
    /// # Errors
    /// As [`Allocation::to_json`], and [`AllocatorError::Io`].
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), AllocatorError> {
        files::write(path.as_ref(), &self.to_json()?)
    }

    /// Checks that the allocation is for a model of `num_layers` × `num_experts` and uses only
    /// `widths`.
    ///
    /// # Errors
    /// [`AllocatorError::Shape`] or [`AllocatorError::Width`].
    pub fn validate(
        &self,
        num_layers: usize,
        num_experts: usize,
        widths: &[u8],
    ) -> Result<(), AllocatorError> {
        self.check_shape(num_layers, num_experts)?;
        self.check_matrices()?;
        // Where matrices have bits of their own, these are for information.
        if self.matrices.is_some() {
            return Ok(());
        }
        self.check_widths(|width| widths.contains(&width), widths)
    }

    /// Code bits of the `matrices` matrices of every expert, `[layer][expert][matrix]`.
    #[must_use]
    pub fn matrix_bits(&self, matrices: usize) -> Vec<Vec<Vec<f64>>> {
        let alike = |row: &Vec<u8>| row.iter().map(|&bits| vec![f64::from(bits); matrices]).collect();
        self.matrices.clone().unwrap_or_else(|| self.bits.iter().map(alike).collect())
    }

    /// Average code bits over all experts, 0 if there are none.
    #[must_use]
    pub fn average_bits(&self) -> f64 {
        if let Some(matrices) = &self.matrices {
            return average(matrices.iter().flatten().flatten());
        }
        let total: u64 = self.experts().map(u64::from).sum();
        self.mean(total as f64)
    }

    /// Average stored bits per expert weight, scales and zero points included, 0 without experts.
    ///
    /// # Errors
    /// [`AllocatorError::Storage`] for a width that `storage` does not have.
    pub fn average_stored_bits(&self, storage: &Storage) -> Result<f64, AllocatorError> {
        let total: f64 = self.experts().map(|width| storage.checked_bits(width)).sum::<Result<_, _>>()?;
        Ok(self.mean(total))
    }

    /// The objective of this allocation under measured factors, summed over layers: what
    /// [`Mode::Mixed`] minimises, for comparing any two allocations.
    ///
    /// # Errors
    /// As [`Factors::costs`] and [`Allocation::validate`].
    pub fn objective_under(&self, factors: &Factors, exponents: Exponents) -> Result<f64, AllocatorError> {
        let costs = factors.costs(exponents)?;
        self.validate(factors.num_layers, factors.num_experts, &factors.bits)?;
        let choice = |width: u8| factors.bits.iter().position(|&b| b == width);
        let rows = costs.iter().flatten().zip(self.experts());
        Ok(rows.filter_map(|(row, width)| row.get(choice(width)?)).sum())
    }

    fn experts(&self) -> impl Iterator<Item = u8> {
        self.bits.iter().flatten().copied()
    }

    fn mean(&self, total: f64) -> f64 {
        let count = self.experts().count();
        if count == 0 { 0.0 } else { total / count as f64 }
    }

    fn check_table(&self) -> Result<(), AllocatorError> {
        let experts = self.bits.first().map_or(0, Vec::len);
        if experts == 0 {
            return Err(AllocatorError::Empty { field: "bits" });
        }
        self.check_shape(self.bits.len(), experts)?;
        self.check_matrices()?;
        let any: Vec<u8> = (u8::MIN..=u8::MAX).filter(|&width| widths::is_width(width)).collect();
        self.check_widths(widths::is_width, &any)
    }

    fn check_shape(&self, num_layers: usize, num_experts: usize) -> Result<(), AllocatorError> {
        let field = "bits";
        let (expected, found) = (num_layers, self.bits.len());
        if expected != found {
            return Err(AllocatorError::Shape { field, layer: None, expert: None, expected, found });
        }
        match self.bits.iter().enumerate().find(|(_, row)| row.len() != num_experts) {
            None => Ok(()),
            Some((layer, row)) => {
                let (layer, expected, found) = (Some(layer), num_experts, row.len());
                Err(AllocatorError::Shape { field, layer, expert: None, expected, found })
            }
        }
    }

    /// As many matrices for every expert, each with a positive number of bits.
    fn check_matrices(&self) -> Result<(), AllocatorError> {
        let Some(matrices) = &self.matrices else { return Ok(()) };
        let field = "matrices";
        let count = matrices.iter().flatten().next().map_or(0, Vec::len);
        if count == 0 {
            return Err(AllocatorError::Empty { field });
        }
        let length = |layer, expert, expected, found| check::length(field, layer, expert, expected, found);
        length(None, None, self.bits.len(), matrices.len())?;
        for (layer, (experts, bits)) in matrices.iter().zip(&self.bits).enumerate() {
            length(Some(layer), None, bits.len(), experts.len())?;
            for (expert, bits) in experts.iter().enumerate() {
                length(Some(layer), Some(expert), count, bits.len())?;
                if let Some(&value) = bits.iter().find(|bits| !(0.0..=16.0).contains(*bits)) {
                    return Err(AllocatorError::Value {
                        field,
                        layer: Some(layer),
                        expert: Some(expert),
                        value,
                    });
                }
            }
        }
        Ok(())
    }

    fn check_widths(&self, is_allowed: impl Fn(u8) -> bool, allowed: &[u8]) -> Result<(), AllocatorError> {
        for (layer, row) in self.bits.iter().enumerate() {
            if let Some((expert, &width)) = row.iter().enumerate().find(|(_, width)| !is_allowed(**width)) {
                return Err(AllocatorError::Width { layer, expert, width, allowed: allowed.to_vec() });
            }
        }
        Ok(())
    }
}

/// The mean, 0 of nothing.
pub(crate) fn average<'a>(bits: impl IntoIterator<Item = &'a f64>) -> f64 {
    let (sum, count) = bits.into_iter().fold((0.0, 0_usize), |(sum, count), bits| (sum + bits, count + 1));
    sum / count.max(1) as f64
}
