//! What to compress to.

use std::path::PathBuf;

use mcmoe_allocator::{Allocation, AllocatorOptions, Exponents, Mode};
use mcmoe_quant::{BitWidth, Method, QuantOptions};

use super::SizeGoal;
use crate::calibrate::{Calibration, CalibrationTokens};
use crate::dataset::MAX_SAMPLED_TOKENS;
use crate::folder::ModelFolder;
use crate::{MixtralConfig, MixtralError, Tokenizer};

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
    /// The quantizer.
    pub method: Method,
    /// How widths are chosen within the size.
    pub mode: Mode,
    /// Exponents of significance and loss.
    pub exponents: Exponents,
    /// Widths decided beforehand; `size` and `mode` then do not matter.
    pub allocation: Option<Allocation>,
    /// The text to calibrate on.
    pub calibration: Option<Calibration>,
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
            method: Method::Gptq,
            mode: Mode::Mixed,
            exponents: Exponents::default(),
            allocation: None,
            calibration: None,
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

    /// Sets the quantizer.
    #[must_use]
    pub const fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// Sets how widths are chosen.
    #[must_use]
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Sets widths decided beforehand.
    #[must_use]
    pub fn allocation(mut self, allocation: Allocation) -> Self {
        self.allocation = Some(allocation);
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
        let Self { size, attention_bits, group_size, method, mode, exponents, allocation, seed, .. } = self;
        let bits = allocation.as_ref().map(|allocation| &allocation.bits);
        format!("{size:?} {attention_bits} {group_size} {method:?} {mode:?} {exponents:?} {bits:?} {seed}")
    }

    /// Makes sure that there is a calibration text if the mode or the quantizer needs one.
    ///
    /// # Errors
    /// [`MixtralError::Option`] if one is missing.
    pub fn check_calibration(&self) -> Result<(), MixtralError> {
        if self.calibration.is_some() || !(self.needs_factors() || self.needs_hessians()) {
            return Ok(());
        }
        let reason = "mixed and manual allocation and GPTQ need calibration text, for example \
            wikitext2:PATH; --mode uniform or random with --method hqq or rtn does without";
        Err(MixtralError::option("--calibration", reason))
    }

    pub(super) fn quantizer(&self) -> &'static str {
        match self.method {
            Method::Rtn => "rtn",
            Method::Gptq => "gptq",
            Method::Hqq => "hqq",
        }
    }

    pub(super) fn needs_hessians(&self) -> bool {
        self.method == Method::Gptq
    }

    pub(super) fn needs_losses(&self) -> bool {
        self.mode == Mode::Mixed
    }

    fn needs_factors(&self) -> bool {
        self.allocation.is_none() && matches!(self.mode, Mode::Mixed | Mode::Manual { .. })
    }

    /// Options of the quantizer for a matrix of `bits` bits.
    pub(super) fn quant(&self, bits: BitWidth) -> Result<QuantOptions, MixtralError> {
        let options = QuantOptions::new(bits.bits()).map_err(|e| MixtralError::shape("bits", &e))?;
        Ok(options.method(self.method).group_size(self.group_size))
    }

    /// Options of the allocator for this model.
    pub(super) fn allocator(&self, folder: &ModelFolder) -> Result<AllocatorOptions, MixtralError> {
        let storage = self.size.storage(folder.config(), self.group_size)?;
        let budget = self.size.budget(folder, self)?;
        let options = AllocatorOptions::default().mode(self.mode).budget(budget).storage(storage);
        Ok(options.exponents(self.exponents).seed(self.seed))
    }

    /// Checks what can be checked before any work.
    pub(super) fn check(&self, config: &MixtralConfig) -> Result<(), MixtralError> {
        let shape = |bits| mcmoe_quant::PackedShape::new(config.hidden_size, 8, bits, self.group_size);
        let bits =
            BitWidth::new(self.attention_bits).map_err(|e| MixtralError::shape("--attention-bits", &e))?;
        shape(bits).map_err(|e| MixtralError::shape("--group-size", &e))?;
        if let Some(Calibration { samples, seq_len, .. }) = self.calibration {
            let tokens = (samples as u64).checked_mul(seq_len as u64);
            if tokens.is_none_or(|tokens| tokens > MAX_SAMPLED_TOKENS) {
                let reason = format!("{samples} samples of {seq_len} tokens are more than 2^32 tokens");
                return Err(MixtralError::option("--samples", reason));
            }
        }
        self.check_calibration()
    }

    /// The tokenized calibration text, if there is one.
    pub(super) fn tokens(&self, tokenizer: &Tokenizer) -> Result<Option<CalibrationTokens>, MixtralError> {
        self.calibration.as_ref().map(|calibration| calibration.tokenize(tokenizer)).transpose()
    }
}
