//! JSON files, read and written with errors that name them.

use std::fs;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::MixtralError;

/// Files of settings and reports are small; what is larger is not one of them.
const MAX_BYTES: u64 = 256 << 20;

pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, MixtralError> {
    let size = fs::metadata(path).map_err(|e| MixtralError::read(path, e))?.len();
    if size > MAX_BYTES {
        let reason = format!("{size} bytes are too many for such a file");
        return Err(MixtralError::Json { path: path.to_owned(), reason });
    }
    let bytes = fs::read(path).map_err(|e| MixtralError::read(path, e))?;
    serde_json::from_slice(&bytes)
        .map_err(|e| MixtralError::Json { path: path.to_owned(), reason: e.to_string() })
}

pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), MixtralError> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|e| MixtralError::Json { path: path.to_owned(), reason: e.to_string() })?;
    bytes.push(b'\n');
    fs::write(path, bytes).map_err(|e| MixtralError::write(path, e))
}
