//! The expert significance factors that calibration measures.

pub(crate) mod check;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::AllocatorError;
use crate::files;
use crate::significance::{Exponents, costs, significance};

/// What calibration measured about every expert (arXiv:2410.06270, expert significance analysis).
///
/// Tables are indexed `[layer][expert]`. The JSON form has the same field names.
///
/// A caller that only wants [`Mode::Uniform`](crate::Mode::Uniform) or
/// [`Mode::Random`](crate::Mode::Random) needs no measurement: [`Factors::unmeasured`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Factors {
    /// Name of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Name of the calibration text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<String>,
    /// Where the numbers come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Remarks for a reader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Number of MoE blocks, at most 4096.
    pub num_layers: usize,
    /// Experts in each block, at most 4096, and 65,536 in all blocks.
    pub num_experts: usize,
    /// Candidate bit-widths, strictly increasing.
    pub bits: Vec<u8>,
    /// φ: how many calibration tokens were routed to the expert.
    pub frequency: Vec<Vec<f64>>,
    /// w: sum of the softmax routing weights of those tokens, before renormalising.
    pub weight: Vec<Vec<f64>>,
    /// ε, indexed `[layer][expert][width]`: Frobenius norm of the change of the block's output when
    /// this expert alone is rounded to `bits[width]` bits.
    pub quant_loss: Vec<Vec<Vec<f64>>>,
    /// What was measured of the matrices of each expert, for [`Mode::Global`](crate::Mode::Global).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matrices: Option<MatrixFactors>,
    /// μ: one median per layer of (second routing weight / first), the threshold of dynamic pruning.
    /// Not used for allocating.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio_median: Option<Vec<f64>>,
}

/// Losses of single matrices, comparable over the whole model: what quantizing one of them costs the
/// model's predictions.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MatrixFactors {
    /// Candidate code bits, strictly increasing.
    pub bits: Vec<f64>,
    /// `[layer][expert][matrix][candidate]`; as many matrices for every expert.
    pub loss: Vec<Vec<Vec<Vec<f64>>>>,
}

impl MatrixFactors {
    /// Losses `[layer][expert][matrix][candidate]` at candidate code bits.
    #[must_use]
    pub const fn new(bits: Vec<f64>, loss: Vec<Vec<Vec<Vec<f64>>>>) -> Self {
        Self { bits, loss }
    }

    /// Matrices of an expert.
    pub(crate) fn matrices(&self) -> usize {
        self.loss.iter().flatten().next().map_or(0, Vec::len)
    }
}

impl Factors {
    /// Only a shape and candidate widths, without any measurement.
    #[must_use]
    pub fn unmeasured(num_layers: usize, num_experts: usize, bits: Vec<u8>) -> Self {
        Self { num_layers, num_experts, bits, ..Self::default() }
    }

    /// A model whose experts and widths are all alike.
    pub(crate) fn alike(num_layers: usize, num_experts: usize, bits: Vec<u8>) -> Self {
        let ones = vec![vec![1.0; num_experts]; num_layers];
        let quant_loss = vec![vec![vec![1.0; bits.len()]; num_experts]; num_layers];
        let (frequency, weight) = (ones.clone(), ones);
        Self { num_layers, num_experts, bits, frequency, weight, quant_loss, ..Self::default() }
    }

    /// The same with losses of matrices.
    #[must_use]
    pub fn with_matrices(self, matrices: MatrixFactors) -> Self {
        Self { matrices: Some(matrices), ..self }
    }

    /// Measured factors; `frequency` and `weight` are `[layer][expert]`, `quant_loss` is
    /// `[layer][expert][width]`. The number of layers and experts is taken from `frequency`.
    ///
    /// # Errors
    /// The same as [`Factors::validate`].
    pub fn measured(
        bits: Vec<u8>,
        frequency: Vec<Vec<f64>>,
        weight: Vec<Vec<f64>>,
        quant_loss: Vec<Vec<Vec<f64>>>,
    ) -> Result<Self, AllocatorError> {
        let (num_layers, num_experts) = (frequency.len(), frequency.first().map_or(0, Vec::len));
        let factors =
            Self { num_layers, num_experts, bits, frequency, weight, quant_loss, ..Self::default() };
        factors.validate()?;
        Ok(factors)
    }

    /// Parses and validates JSON.
    ///
    /// # Errors
    /// [`AllocatorError::Json`] for text that is not the schema, else as [`Factors::validate`].
    pub fn from_json(json: &str) -> Result<Self, AllocatorError> {
        let factors: Self = files::parse(json, "factors")?;
        factors.validate()?;
        Ok(factors)
    }

    /// The JSON form, on one line.
    ///
    /// # Errors
    /// As [`Factors::validate`]: numbers that JSON cannot hold are refused, not written as `null`.
    pub fn to_json(&self) -> Result<String, AllocatorError> {
        self.validate()?;
        files::print(self, "factors")
    }

    /// Reads and validates a JSON file.
    ///
    /// # Errors
    /// [`AllocatorError::Io`], [`AllocatorError::Json`] or [`AllocatorError::InFile`], each naming `path`.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, AllocatorError> {
        files::read(path.as_ref(), Self::from_json)
    }

    /// Writes a JSON file; after a crash the old file or the new one is there, never a part of one.
    ///
    /// # Errors
    /// As [`Factors::to_json`], and [`AllocatorError::Io`].
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), AllocatorError> {
        files::write(path.as_ref(), &self.to_json()?)
    }

    /// Checks every list's length and every number.
    ///
    /// # Errors
    /// [`AllocatorError::Empty`], [`AllocatorError::TooMany`], [`AllocatorError::Shape`],
    /// [`AllocatorError::Value`] or [`AllocatorError::Widths`], naming the field, layer and expert.
    pub fn validate(&self) -> Result<(), AllocatorError> {
        check::shape(self)?;
        check::routing(self)?;
        if self.matrices.is_none() || !self.quant_loss.is_empty() {
            check::quant_loss(self)?;
        }
        check::matrices(self)?;
        check::ratio_median(self)
    }

    /// Checks what is needed to allocate bits to matrices.
    pub(crate) fn validate_matrices(&self) -> Result<(), AllocatorError> {
        check::matrices(self)
    }

    /// Checks what is needed to allocate without any measurement.
    pub(crate) fn validate_shape(&self) -> Result<(), AllocatorError> {
        check::shape(self)
    }

    /// Checks what is needed to rank experts.
    pub(crate) fn validate_routing(&self) -> Result<(), AllocatorError> {
        check::shape(self)?;
        check::routing(self)
    }

    /// Costs of every choice in every layer, `[layer][expert][width]`: see [`costs`].
    ///
    /// # Errors
    /// As [`Factors::validate`], [`AllocatorError::Exponent`], and [`AllocatorError::NonFiniteCost`]
    /// when a power overflows.
    pub fn costs(&self, exponents: Exponents) -> Result<Vec<Vec<Vec<f64>>>, AllocatorError> {
        self.validate()?;
        check::quant_loss(self)?;
        exponents.validate()?;
        (0..self.num_layers).map(|layer| self.layer_costs(layer, exponents)).collect()
    }

    fn layer_costs(&self, layer: usize, exponents: Exponents) -> Result<Vec<Vec<f64>>, AllocatorError> {
        let significance = significance(&self.frequency[layer], &self.weight[layer], exponents);
        let costs = costs(&significance, &self.quant_loss[layer], exponents);
        for (expert, row) in costs.iter().enumerate() {
            if let Some((choice, &cost)) = row.iter().enumerate().find(|(_, c)| !c.is_finite()) {
                return Err(AllocatorError::NonFiniteCost { layer, expert, choice, cost });
            }
        }
        Ok(costs)
    }
}
