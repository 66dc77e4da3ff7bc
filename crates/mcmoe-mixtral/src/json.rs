//! JSON files, read and written with errors that name them.

use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};

use crate::{MixtralError, regular_file};

/// The index and the report of a model with as many experts as a config may have are smaller.
const MAX_BYTES: u64 = 64 << 20;
/// Files of settings are far smaller.
const MAX_SETTINGS_BYTES: u64 = 16 << 20;

/// Reads an index or a report.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, MixtralError> {
    read_at_most(path, MAX_BYTES)
}

/// Reads a file of settings.
pub(crate) fn read_settings<T: DeserializeOwned>(path: &Path) -> Result<T, MixtralError> {
    read_at_most(path, MAX_SETTINGS_BYTES)
}

fn read_at_most<T: DeserializeOwned>(path: &Path, most: u64) -> Result<T, MixtralError> {
    let bytes = regular_file::read(path, most).map_err(|e| MixtralError::read(path, e))?;
    serde_json::from_slice(&bytes)
        .map_err(|e| MixtralError::Json { path: path.to_owned(), reason: e.to_string() })
}

/// Writes a number without a fraction as an integer.
pub(crate) fn whole_or_not<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.fract() == 0.0 {
        serializer.serialize_i64(*value as i64)
    } else {
        serializer.serialize_f64(*value)
    }
}

pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), MixtralError> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|e| MixtralError::Json { path: path.to_owned(), reason: e.to_string() })?;
    bytes.push(b'\n');
    fs::write(path, bytes).map_err(|e| MixtralError::write(path, e))
}
