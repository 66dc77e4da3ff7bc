//! Seeded samples of a calibration text.

use serde::{Deserialize, Serialize};

use crate::dataset::{DataSpec, DatasetError, blocks, random_windows, split_shares};
use crate::durable::{Digest, Hasher};
use crate::{MixtralError, Tokenizer};

/// Text read of a data set at the least, however few samples are asked for.
const MIN_TEXT: usize = 16 << 20;
/// Text read for each token of the samples, so that these are spread over plenty of it.
const TEXT_A_TOKEN: usize = 16;

/// What to calibrate on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Calibration {
    /// The text.
    pub data: DataSpec,
    /// Number of sequences.
    pub samples: usize,
    /// Tokens a sequence.
    pub seq_len: usize,
    /// Seed of the choice.
    pub seed: u64,
}

/// What a model was calibrated on, for its report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CalibrationRecord {
    /// Kinds and file names of the data sets.
    pub data: Vec<String>,
    /// Sequences of the quantizer's calibration.
    pub samples: usize,
    /// Tokens a sequence.
    pub seq_len: usize,
    /// Seed of the choice.
    pub seed: u64,
}

/// The tokenized text of a calibration, one list for each part of a mix.
#[derive(Clone, Debug)]
pub struct CalibrationTokens {
    parts: Vec<Vec<u32>>,
    calibration: Calibration,
}

/// Takes a number of sequences of a length from tokens, by a seed.
type Sampler = fn(&[u32], usize, usize, u64) -> Result<Vec<Vec<u32>>, DatasetError>;

impl Calibration {
    /// 128 sequences of 2048 tokens from `data`, seed 0.
    pub const fn new(data: DataSpec) -> Self {
        Self { data, samples: 128, seq_len: 2048, seed: 0 }
    }

    /// Sets the number of sequences.
    #[must_use]
    pub const fn samples(mut self, samples: usize) -> Self {
        self.samples = samples;
        self
    }

    /// Sets the tokens a sequence.
    #[must_use]
    pub const fn seq_len(mut self, seq_len: usize) -> Self {
        self.seq_len = seq_len;
        self
    }

    /// Sets the seed.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Reads and tokenizes the text, as much of it as the samples call for.
    ///
    /// # Errors
    /// [`MixtralError::Dataset`] for files that cannot be used, [`MixtralError::Tokenizer`].
    pub fn tokenize(&self, tokenizer: &Tokenizer) -> Result<CalibrationTokens, MixtralError> {
        let wanted = self.samples.saturating_mul(self.seq_len).saturating_mul(TEXT_A_TOKEN);
        let texts = self.data.part_texts(Some(wanted.max(MIN_TEXT)))?;
        let parts = texts.iter().map(|text| tokenizer.encode(text)).collect::<Result<_, _>>()?;
        Ok(CalibrationTokens { parts, calibration: self.clone() })
    }

    /// The record of this calibration: file names, not paths, so that it is the same everywhere.
    pub fn record(&self) -> CalibrationRecord {
        let name =
            |path: &std::path::Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let parts = self.data.parts().iter();
        CalibrationRecord {
            data: parts.map(|part| format!("{}:{}", part.format(), name(part.path()))).collect(),
            samples: self.samples,
            seq_len: self.seq_len,
            seed: self.seed,
        }
    }
}

impl CalibrationTokens {
    /// Blocks for the significance factors: the text cut into consecutive sequences, a seeded choice
    /// of them. All of them where the text has fewer.
    ///
    /// # Errors
    /// [`MixtralError::Sequences`] if a text is shorter than a sequence.
    pub fn blocks(&self) -> Result<Vec<Vec<u32>>, MixtralError> {
        self.sample(blocks)
    }

    /// Windows at random places for the quantizer's Hessians.
    ///
    /// # Errors
    /// [`MixtralError::Sequences`] if a text is shorter than a sequence.
    pub fn windows(&self) -> Result<Vec<Vec<u32>>, MixtralError> {
        self.sample(random_windows)
    }

    /// Of the tokens and of how samples are drawn from them.
    pub(crate) fn digest(&self) -> Digest {
        let mut hasher = Hasher::default();
        hasher.add(format!("{:?} {}\n", self.calibration.record(), self.parts.len()).as_bytes());
        for tokens in &self.parts {
            hasher.add(&(tokens.len() as u64).to_le_bytes());
            tokens.iter().for_each(|token| hasher.add(&token.to_le_bytes()));
        }
        hasher.finish()
    }

    fn sample(&self, sampler: Sampler) -> Result<Vec<Vec<u32>>, MixtralError> {
        let Calibration { samples, seq_len, seed, .. } = self.calibration;
        let mut sequences = Vec::with_capacity(samples.min(1 << 20));
        let shares = split_shares(samples, self.parts.len());
        for (part, (tokens, share)) in self.parts.iter().zip(shares).enumerate() {
            // A mix of more parts than samples leaves some without a share; no samples at all is an error.
            if share > 0 || samples == 0 {
                let cut = sampler(tokens, share, seq_len, seed);
                sequences.extend(cut.map_err(|source| self.error(part, source))?);
            }
        }
        Ok(sequences)
    }

    fn error(&self, part: usize, source: DatasetError) -> MixtralError {
        let data = self.calibration.data.parts().get(part).map(ToString::to_string);
        MixtralError::Sequences { data: data.unwrap_or_default(), source }
    }
}
