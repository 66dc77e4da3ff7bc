//! The journal: what of a compression is done and durable, in a file that is replaced after each layer.
//!
//! ```text
//! MCMOEJNL  version: u32  SHA-256 of the rest  bincode of the state
//! ```
//! Only this version of the tool reads it, within one work folder; nothing else is stored with bincode.

use std::path::{Path, PathBuf};

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use mcmoe_quant::ErrorReport;
use serde::{Deserialize, Serialize};

use super::clock::TimeSplit;
use super::fingerprint::Fingerprint;
use super::repair::RepairReport;
use super::report::MatrixReport;
use crate::MixtralError;
use crate::calibrate::LayerFactors;
use crate::durable::{self, Digest};
use crate::regular_file;

const MAGIC: &[u8; 8] = b"MCMOEJNL";
const VERSION: u32 = 3;
/// Magic, version and digest.
const HEADER_BYTES: usize = 8 + 4 + 32;
/// A journal of the largest model takes far less.
const MAX_BYTES: usize = 64 << 20;

const FORMAT: Configuration<LittleEndian, Fixint, Limit<MAX_BYTES>> =
    bincode::config::standard().with_fixed_int_encoding().with_limit::<MAX_BYTES>();

/// The state of a compression.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct State {
    /// What it is made from.
    pub(super) fingerprint: Fingerprint,
    /// What errors in each layer's output do, if that is needed.
    pub(super) sensitivities: Vec<f64>,
    /// Layers measured.
    pub(super) measured: Vec<LayerFactors>,
    /// Layers quantized.
    pub(super) quantized: Vec<Vec<MatrixRecord>>,
    /// What repair did to them, if it was asked for.
    pub(super) repairs: Vec<RepairReport>,
    /// The shards in the result so far.
    pub(super) shards: Vec<Digest>,
    /// The stream before the next layer of the phase under way, unless that is the first one.
    pub(super) activations: Option<Digest>,
    /// Every file of the complete result.
    pub(super) finished: Option<Vec<(String, Digest)>>,
    /// Time spent.
    pub(super) times: TimeSplit,
}

/// A [`MatrixReport`] as the journal keeps it: bincode cannot read flattened fields.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct MatrixRecord {
    name: String,
    bits: f64,
    tokens: Option<usize>,
    errors: ErrorReport,
}

impl From<&MatrixReport> for MatrixRecord {
    fn from(report: &MatrixReport) -> Self {
        let MatrixReport { name, bits, tokens, errors } = report.clone();
        Self { name, bits, tokens, errors }
    }
}

impl From<MatrixRecord> for MatrixReport {
    fn from(record: MatrixRecord) -> Self {
        let MatrixRecord { name, bits, tokens, errors } = record;
        Self { name, bits, tokens, errors }
    }
}

/// A state and the file it is kept in.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    pub(super) state: State,
}

impl Journal {
    /// A journal in which nothing is done. It becomes a file with the first record.
    pub(super) fn new(path: &Path, fingerprint: Fingerprint) -> Self {
        let state = State {
            fingerprint,
            sensitivities: Vec::new(),
            measured: Vec::new(),
            quantized: Vec::new(),
            repairs: Vec::new(),
            shards: Vec::new(),
            activations: None,
            finished: None,
            times: TimeSplit::default(),
        };
        Self { path: path.to_owned(), state }
    }

    /// The journal at `path`.
    ///
    /// # Errors
    /// [`MixtralError::Read`], or [`MixtralError::Journal`] if it is not as it was written.
    pub(super) fn read(path: &Path) -> Result<Self, MixtralError> {
        let damaged = |reason: String| MixtralError::Journal { path: path.to_owned(), reason };
        let bytes = regular_file::read(path, MAX_BYTES as u64).map_err(|e| MixtralError::read(path, e))?;
        let state = decode(&bytes).map_err(damaged)?;
        Ok(Self { path: path.to_owned(), state })
    }

    /// Makes the state durable.
    pub(super) fn record(&self) -> Result<(), MixtralError> {
        let refused = |e: bincode::error::EncodeError| MixtralError::Journal {
            path: self.path.clone(),
            reason: e.to_string(),
        };
        durable::write(&self.path, &encode(&self.state).map_err(refused)?)
    }

    /// The result is complete.
    pub(super) const fn is_finished(&self) -> bool {
        self.state.finished.is_some()
    }

    /// Layers done, in either phase.
    pub(super) fn layers_done(&self) -> usize {
        self.state.measured.len() + self.state.quantized.len()
    }
}

fn encode(state: &State) -> Result<Vec<u8>, bincode::error::EncodeError> {
    let body = bincode::serde::encode_to_vec(state, FORMAT)?;
    let digest = Digest::of(&body);
    Ok([&MAGIC[..], &VERSION.to_le_bytes(), digest.as_bytes(), &body].concat())
}

fn decode(bytes: &[u8]) -> Result<State, String> {
    let (header, body) = bytes.split_at_checked(HEADER_BYTES).ok_or("it is cut short")?;
    if !header.starts_with(MAGIC) {
        return Err("it is not a journal".to_owned());
    }
    if header[8..12] != VERSION.to_le_bytes() {
        return Err(format!("this build reads version {VERSION}"));
    }
    if header[12..] != *Digest::of(body).as_bytes() {
        return Err("its content differs from its checksum".to_owned());
    }
    match bincode::serde::decode_from_slice(body, FORMAT) {
        Ok((state, read)) if read == body.len() => Ok(state),
        Ok(_) => Err("something follows its end".to_owned()),
        Err(e) => Err(e.to_string()),
    }
}

#[cfg(test)]
mod tests;
