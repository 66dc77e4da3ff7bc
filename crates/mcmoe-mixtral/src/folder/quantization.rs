//! `quantization_config` in `config.json`: how a folder was compressed.

use std::path::Path;

use mcmoe_allocator::Allocation;
use mcmoe_quant::{BitWidth, Coding, KernelError, TrellisRate};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::compress::CompressOptions;
use crate::folder::files;
use crate::model::{LayerWidths, Packing, names};
use crate::{MixtralConfig, MixtralError, json};

/// The `quant_method` that marks our folders.
const METHOD: &str = "mcmoe";
/// The version of the layout that this crate reads and writes.
const VERSION: u32 = 3;
/// The version before, without trellis codes; read as well.
const VERSION_WITHOUT_TRELLIS: u32 = 2;
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
    /// Weights that share a scale and a zero point, experts on a trellis left out.
    pub group_size: usize,
    /// The codes of the experts.
    #[serde(default)]
    pub expert_codes: ExpertCodes,
    /// Weights of an expert that share a scale; those of `group_size` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expert_group_size: Option<usize>,
    /// Bits a code of the attention projections.
    pub attention_bits: u8,
    /// Average bits a code of the experts; `allocation.json` has each.
    pub expert_bits: f64,
    /// The quantizer: `trellis`, `gptq`, `hqq` or `rtn`. For information.
    pub quantizer: String,
}

/// What the codes of experts mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpertCodes {
    /// Levels of a grid: [`Coding::Grid`].
    #[default]
    Grid,
    /// Bits of a trellis: [`Coding::Trellis`].
    Trellis,
}

impl ExpertCodes {
    /// The coding of so many bits a weight.
    ///
    /// # Errors
    /// [`KernelError::UnsupportedBits`] or [`KernelError::UnsupportedRate`].
    pub fn coding(self, bits: f64) -> Result<Coding, KernelError> {
        match self {
            // A part of a bit is no width.
            Self::Grid => Ok(BitWidth::new(if bits.fract() == 0.0 { bits as u8 } else { 0 })?.into()),
            Self::Trellis => Ok(TrellisRate::new(bits)?.into()),
        }
    }
}

impl QuantizationConfig {
    pub(crate) fn new(options: &CompressOptions, expert_bits: f64) -> Self {
        let own_groups = options.expert_group_size() != options.group_size;
        Self {
            quant_method: METHOD.to_owned(),
            version: VERSION,
            group_size: options.group_size,
            expert_codes: options.quantizer.codes(),
            expert_group_size: own_groups.then(|| options.expert_group_size()),
            attention_bits: options.attention_bits,
            expert_bits,
            quantizer: options.quantizer.name().to_owned(),
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
        let known = [VERSION, VERSION_WITHOUT_TRELLIS].map(u64::from);
        if !version.is_some_and(|version| known.contains(&version)) {
            let found = version.map_or("missing".to_owned(), |version| version.to_string());
            return refuse(format!(
                "{KEY}.version is {found}; this build reads versions {VERSION_WITHOUT_TRELLIS} and {VERSION}"
            ));
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
        let coding = BitWidth::new(self.attention_bits).map_err(refuse)?.into();
        let attention = Packing { coding, group_size: self.group_size };
        attention.shape(1, 1).map_err(refuse)?;
        let group_size = self.expert_group_size.unwrap_or(self.group_size);
        let layers = allocation.matrix_bits(names::EXPERT.len());
        if let Some(found) = layers.iter().flatten().map(Vec::len).find(|&count| count != names::EXPERT.len())
        {
            let reason = format!("matrices: {found} to an expert, which has {}", names::EXPERT.len());
            return Err(MixtralError::Json { path: dir.join(files::ALLOCATION), reason });
        }
        let expert = |bits: Vec<f64>| {
            let mut packings = [attention; names::EXPERT.len()];
            for (packing, bits) in packings.iter_mut().zip(bits) {
                *packing = Packing { coding: self.expert_codes.coding(bits)?, group_size };
                packing.shape(1, 1)?;
            }
            Ok(packings)
        };
        let layer = |experts: Vec<Vec<f64>>| {
            let experts = experts.into_iter().map(expert).collect::<Result<_, _>>()?;
            Ok(LayerWidths { attention, experts })
        };
        layers.into_iter().map(layer).collect::<Result<_, _>>().map_err(refuse)
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
