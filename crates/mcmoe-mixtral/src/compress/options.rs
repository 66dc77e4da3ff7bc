//! What to compress to.

use std::path::PathBuf;

use mcmoe_allocator::{Allocation, AllocatorOptions, Exponents, Mode};
use mcmoe_quant::{BitWidth, KernelError, Method, QuantOptions};

use super::{Repair, SizeGoal};
use crate::calibrate::{Calibration, CalibrationTokens};
use crate::dataset::MAX_SAMPLED_TOKENS;
use crate::folder::{ExpertCodes, ModelFolder};
use crate::model::Packing;
use crate::{MixtralConfig, MixtralError, Tokenizer};

/// Weights of a row that share a scale on a trellis: rotated, they hardly differ in size.
const TRELLIS_GROUP: usize = 256;

/// The quantizer of the experts. Attention projections are on a grid with each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quantizer {
    /// Trellis codes with the error feedback of GPTQ.
    #[default]
    Trellis,
    /// Codes on a grid.
    Grid(Method),
}

impl Quantizer {
    /// Its name: `trellis`, `gptq`, `hqq` or `rtn`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trellis => "trellis",
            Self::Grid(Method::Rtn) => "rtn",
            Self::Grid(Method::Gptq) => "gptq",
            Self::Grid(Method::Hqq) => "hqq",
        }
    }

    /// What its codes mean.
    pub const fn codes(self) -> ExpertCodes {
        match self {
            Self::Trellis => ExpertCodes::Trellis,
            Self::Grid(_) => ExpertCodes::Grid,
        }
    }
}

/// Settings of [`super::compress`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CompressOptions {
    /// How large the result may be.
    pub size: SizeGoal,
    /// Bits a code of the attention projections.
    pub attention_bits: u8,
    /// Weights that share a scale and a zero point.
    pub group_size: usize,
    /// The quantizer of the experts.
    pub quantizer: Quantizer,
    /// How widths are chosen within the size; what suits the quantizer if absent.
    pub mode: Option<Mode>,
    /// Exponents of significance and loss.
    pub exponents: Exponents,
    /// Widths decided beforehand; `size` and `mode` then do not matter.
    pub allocation: Option<Allocation>,
    /// The text to calibrate on.
    pub calibration: Option<Calibration>,
    /// What is repaired after rounding; what suits the quantizer if absent.
    pub repair: Option<Repair>,
    /// Seed of random allocations.
    pub seed: u64,
    /// Where the unfinished result and the samples' activations lie; beside the output folder if absent.
    pub work_dir: Option<PathBuf>,
    /// Refuse to start over where the work folder holds an unfinished run of other inputs.
    pub resume: bool,
}

impl Default for CompressOptions {
    fn default() -> Self {
        Self {
            size: SizeGoal::ExpertBits(2.0),
            attention_bits: 4,
            group_size: 128,
            quantizer: Quantizer::default(),
            mode: None,
            exponents: Exponents::default(),
            allocation: None,
            calibration: None,
            repair: None,
            seed: 0,
            work_dir: None,
            resume: false,
        }
    }
}

impl CompressOptions {
    /// Widths that the allocator may choose for an expert.
    pub const WIDTHS: [u8; 3] = [1, 2, 3];
    /// Widths that an allocation decided beforehand may name.
    pub(super) const WIDTHS_IN_FILES: [u8; 5] = [1, 2, 3, 4, 8];

    /// Sets the size of the result.
    #[must_use]
    pub const fn size(mut self, size: SizeGoal) -> Self {
        self.size = size;
        self
    }

    /// Sets the text to calibrate on.
    #[must_use]
    pub fn calibration(mut self, calibration: Calibration) -> Self {
        self.calibration = Some(calibration);
        self
    }

    /// Sets the quantizer to one of those that put weights on a grid.
    #[must_use]
    pub const fn method(self, method: Method) -> Self {
        self.quantizer(Quantizer::Grid(method))
    }

    /// Sets the quantizer.
    #[must_use]
    pub const fn quantizer(mut self, quantizer: Quantizer) -> Self {
        self.quantizer = quantizer;
        self
    }

    /// Sets how widths are chosen.
    #[must_use]
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Sets widths decided beforehand.
    #[must_use]
    pub fn allocation(mut self, allocation: Allocation) -> Self {
        self.allocation = Some(allocation);
        self
    }

    /// Sets what is repaired after rounding.
    #[must_use]
    pub const fn repair(mut self, repair: Repair) -> Self {
        self.repair = Some(repair);
        self
    }

    /// Sets where unfinished work lies.
    #[must_use]
    pub fn work_dir(mut self, dir: PathBuf) -> Self {
        self.work_dir = Some(dir);
        self
    }

    /// Goes on with the unfinished run in the work folder, if there is one, and with no other.
    #[must_use]
    pub const fn resume(mut self, resume: bool) -> Self {
        self.resume = resume;
        self
    }

    /// The options that decide the result, calibration left out.
    pub(super) fn decisive(&self) -> String {
        let Self { size, attention_bits, group_size, quantizer, mode, exponents, allocation, .. } = self;
        let (repair, seed) = (self.repair_in_use(), self.seed);
        let bits = allocation.as_ref().map(|allocation| (&allocation.bits, &allocation.matrices));
        format!(
            "{size:?} {attention_bits} {group_size} {quantizer:?} {mode:?} {exponents:?} {bits:?} {repair:?} {seed}"
        )
    }

    /// Makes sure that there is a calibration text if the mode or the quantizer needs one.
    ///
    /// # Errors
    /// [`MixtralError::Option`] if one is missing.
    pub fn check_calibration(&self) -> Result<(), MixtralError> {
        if self.calibration.is_some() || !(self.needs_factors() || self.needs_hessians()) {
            return Ok(());
        }
        let reason = "all but uniform and random allocation, the trellis and GPTQ need calibration text, for \
            example wikitext2:PATH; --mode uniform or random with --method hqq or rtn does without";
        Err(MixtralError::option("--calibration", reason))
    }

    /// How widths are chosen.
    pub fn mode_in_use(&self) -> Mode {
        self.mode.unwrap_or(match self.quantizer {
            Quantizer::Trellis => Mode::Global,
            Quantizer::Grid(_) => Mode::Mixed,
        })
    }

    /// What is repaired after rounding.
    pub fn repair_in_use(&self) -> Repair {
        self.repair.unwrap_or(match self.quantizer {
            Quantizer::Trellis => Repair { norms: true, scales: true, routers: false },
            Quantizer::Grid(_) => Repair::default(),
        })
    }

    /// Weights of an expert that share a scale.
    pub fn expert_group_size(&self) -> usize {
        match self.quantizer {
            Quantizer::Trellis => TRELLIS_GROUP,
            Quantizer::Grid(_) => self.group_size,
        }
    }

    pub(super) fn needs_hessians(&self) -> bool {
        matches!(self.quantizer, Quantizer::Trellis | Quantizer::Grid(Method::Gptq))
    }

    pub(super) fn needs_losses(&self) -> bool {
        self.mode_in_use() == Mode::Mixed
    }

    pub(super) fn needs_matrix_losses(&self) -> bool {
        self.allocation.is_none() && self.mode_in_use() == Mode::Global
    }

    fn needs_factors(&self) -> bool {
        self.allocation.is_none()
            && matches!(self.mode_in_use(), Mode::Global | Mode::Mixed | Mode::Manual { .. })
    }

    /// Options of the quantizer for a matrix packed this way.
    pub(super) fn quant(&self, packing: Packing) -> QuantOptions {
        let method = match self.quantizer {
            Quantizer::Trellis => Method::Gptq,
            Quantizer::Grid(method) => method,
        };
        QuantOptions::coded(packing.coding).method(method).group_size(packing.group_size)
    }

    /// How attention is packed.
    pub(super) fn attention(&self) -> Result<Packing, MixtralError> {
        let bits =
            BitWidth::new(self.attention_bits).map_err(|e| MixtralError::shape("--attention-bits", &e))?;
        Ok(Packing { coding: bits.into(), group_size: self.group_size })
    }

    /// How the experts' matrices are packed at so many bits.
    pub(super) fn expert(&self, bits: f64) -> Result<Packing, KernelError> {
        let coding = self.quantizer.codes().coding(bits)?;
        Ok(Packing { coding, group_size: self.expert_group_size() })
    }

    /// Options of the allocator for this model.
    pub(super) fn allocator(&self, folder: &ModelFolder) -> Result<AllocatorOptions, MixtralError> {
        let storage = self.size.storage(folder.config(), self)?;
        let budget = self.size.budget(folder, self)?;
        let options = AllocatorOptions::default().mode(self.mode_in_use()).budget(budget).storage(storage);
        Ok(options.exponents(self.exponents).seed(self.seed))
    }

    /// Checks what can be checked before any work.
    pub(super) fn check(&self, config: &MixtralConfig) -> Result<(), MixtralError> {
        let shape = self.attention()?.shape(config.hidden_size, 8);
        shape.map_err(|e| MixtralError::shape("--group-size", &e))?;
        if self.needs_matrix_losses() && self.quantizer != Quantizer::Trellis {
            return Err(MixtralError::option("--mode", "global allocation is for --method trellis"));
        }
        if let Some(Calibration { samples, seq_len, .. }) = self.calibration {
            let tokens = (samples as u64).checked_mul(seq_len as u64);
            if tokens.is_none_or(|tokens| tokens > MAX_SAMPLED_TOKENS) {
                let reason = format!("{samples} samples of {seq_len} tokens are more than 2^32 tokens");
                return Err(MixtralError::option("--samples", reason));
            }
        }
        if self.repair_in_use().any() && !self.needs_hessians() {
            let reason = "repair goes with --method trellis or gptq: the others pass no text through layers";
            return Err(MixtralError::option("--repair", reason));
        }
        self.check_calibration()
    }

    /// The tokenized calibration text, if there is one.
    pub(super) fn tokens(&self, tokenizer: &Tokenizer) -> Result<Option<CalibrationTokens>, MixtralError> {
        self.calibration.as_ref().map(|calibration| calibration.tokenize(tokenizer)).transpose()
    }
}
