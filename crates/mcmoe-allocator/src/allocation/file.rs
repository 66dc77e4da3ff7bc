//! An allocation as its JSON file has it.

use serde::{Deserialize, Serialize, Serializer};

use super::{Allocation, average};
use crate::budget::Budget;
use crate::options::Mode;
use crate::significance::Exponents;

/// The same fields, bits being numbers that need not be whole.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct File {
    bits: Vec<Vec<Bits>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    matrices: Option<Vec<Vec<Vec<Bits>>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<Mode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    budget: Option<Budget>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exponents: Option<Exponents>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    objective: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// Code bits, written as an integer where they are whole.
#[derive(Clone, Copy, Deserialize)]
#[serde(transparent)]
struct Bits(f64);

impl Serialize for Bits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(bits) = *self;
        if bits.fract() == 0.0 {
            serializer.serialize_u64(bits as u64)
        } else {
            serializer.serialize_f64(bits)
        }
    }
}

impl From<Allocation> for File {
    fn from(allocation: Allocation) -> Self {
        let Allocation { bits, matrices, mode, budget, exponents, objective, seed, note } = allocation;
        let bits = match &matrices {
            Some(layers) => layers
                .iter()
                .map(|experts| experts.iter().map(|bits| Bits(average(bits))).collect())
                .collect(),
            None => bits.iter().map(|row| row.iter().map(|&bits| Bits(f64::from(bits))).collect()).collect(),
        };
        let exact = |bits: Vec<f64>| bits.into_iter().map(Bits).collect();
        let layer = |experts: Vec<Vec<f64>>| experts.into_iter().map(exact).collect();
        let matrices = matrices.map(|layers| layers.into_iter().map(layer).collect());
        Self { bits, matrices, mode, budget, exponents, objective, seed, note }
    }
}

impl TryFrom<File> for Allocation {
    type Error = String;

    fn try_from(file: File) -> Result<Self, String> {
        let File { bits, matrices, mode, budget, exponents, objective, seed, note } = file;
        let all = || bits.iter().flatten().map(|bits| bits.0);
        if let Some(bits) = all().find(|bits| !(0.0..=255.0).contains(bits)) {
            return Err(format!("`bits` has {bits}, which is no width"));
        }
        if let Some(bits) = all().find(|bits| matrices.is_none() && bits.fract() != 0.0) {
            return Err(format!("`bits` has {bits}, which is no whole number; only `matrices` may be finer"));
        }
        let bits = bits.iter().map(|row| row.iter().map(|bits| bits.0.round() as u8).collect()).collect();
        let exact = |bits: Vec<Bits>| bits.into_iter().map(|bits| bits.0).collect();
        let layer = |experts: Vec<Vec<Bits>>| experts.into_iter().map(exact).collect();
        let matrices = matrices.map(|layers| layers.into_iter().map(layer).collect());
        Ok(Self { bits, matrices, mode, budget, exponents, objective, seed, note })
    }
}
