//! `quantization_config` in `config.json`: how a folder was compressed.

use std::path::Path;

use mcmoe_allocator::Allocation;
use mcmoe_quant::{BitWidth, PackedShape};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::LayerWidths;
use crate::{MixtralConfig, MixtralError, json};

/// The `quant_method` that marks our folders.
const METHOD: &str = "mcmoe";
/// The version of the layout that this crate reads and writes.
const VERSION: u32 = 2;
/// The key in `config.json`.
const KEY: &str = "quantization_config";

/// `quantization_config` of a compressed folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QuantizationConfig {
    /// Always `mcmoe`.
    pub quant_method: String,
    /// Version of the layout (`docs/format.md`).
    pub version: u32,
    /// Weights that share a scale and a zero point.
    pub group_size: usize,
    /// Bits a code of the attention projections.
    pub attention_bits: u8,
    /// Average bits a code of the experts; `allocation.json` has each.
    pub expert_bits: f64,
    /// The quantizer: `gptq`, `hqq` or `rtn`. For information.
    pub quantizer: String,
}

impl QuantizationConfig {
    pub(crate) fn new(group_size: usize, attention_bits: u8, expert_bits: f64, quantizer: &str) -> Self {
        Self {
            quant_method: METHOD.to_owned(),
            version: VERSION,
            group_size,
            attention_bits,
            expert_bits,
            quantizer: quantizer.to_owned(),
        }
    }

    /// The configuration in `config.json` of `dir`; `None` for a dense model.
    pub(crate) fn of(config: &MixtralConfig, dir: &Path) -> Result<Option<Self>, MixtralError> {
        let refuse = |reason: String| Err(MixtralError::config(&dir.join("config.json"), reason));
        let Some(value) = config.raw.get(KEY).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        let method = value.get("quant_method").and_then(Value::as_str).unwrap_or_default();
        if method != METHOD {
            return refuse(format!(
                "{KEY}.quant_method is {method:?}; this tool reads dense models and {METHOD:?}"
            ));
        }
        let version = value.get("version").and_then(Value::as_u64);
        if version != Some(u64::from(VERSION)) {
            let found = version.map_or("missing".to_owned(), |version| version.to_string());
            return refuse(format!("{KEY}.version is {found}; this build reads version {VERSION}"));
        }
        match serde_json::from_value(value.clone()) {
            Ok(quantization) => Ok(Some(quantization)),
            Err(e) => refuse(format!("{KEY}: {e}")),
        }
    }

    /// The widths of every layer.
    pub(crate) fn widths(
        &self,
        allocation: &Allocation,
        dir: &Path,
    ) -> Result<Vec<LayerWidths>, MixtralError> {
        let refuse = |e: mcmoe_quant::KernelError| {
            MixtralError::config(&dir.join("config.json"), format!("{KEY}: {e}"))
        };
        let attention = BitWidth::new(self.attention_bits).map_err(refuse)?;
        PackedShape::new(1, 1, attention, self.group_size).map_err(refuse)?;
        let layer = |bits: &Vec<u8>| {
            let experts = bits.iter().map(|&bits| BitWidth::new(bits)).collect::<Result<_, _>>()?;
            Ok(LayerWidths { attention, experts, group_size: self.group_size })
        };
        allocation.bits.iter().map(layer).collect::<Result<_, _>>().map_err(refuse)
    }
}

impl MixtralConfig {
    /// Writes `config.json` with this compression, or none.
    pub(crate) fn write(
        &self,
        dir: &Path,
        quantization: Option<&QuantizationConfig>,
    ) -> Result<(), MixtralError> {
        let path = dir.join("config.json");
        let mut raw = self.raw.clone();
        raw.remove(KEY);
        if let Some(quantization) = quantization {
            let value = serde_json::to_value(quantization)
                .map_err(|e| MixtralError::Json { path: path.clone(), reason: e.to_string() })?;
            raw.insert(KEY.to_owned(), value);
        }
        json::write(&path, &raw)
    }
}
