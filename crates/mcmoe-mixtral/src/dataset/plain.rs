//! Reads a plain UTF-8 file as it is: no newline translation, nothing stripped, a byte order mark kept.

use std::io::{BufRead, Read};
use std::path::Path;

use super::error::{DatasetError, Place};

/// The longest UTF-8 character, in bytes.
const MAX_CHAR_BYTES: u64 = 4;

/// The text of `stream`: all of it, or a start of at least `limit` bytes and at most one character more.
pub(super) fn read(stream: impl BufRead, path: &Path, limit: Option<usize>) -> Result<String, DatasetError> {
    let allowed = limit.map_or(u64::MAX, |limit| (limit as u64).saturating_add(MAX_CHAR_BYTES));
    let mut bytes = Vec::new();
    let read = stream.take(allowed).read_to_end(&mut bytes).map_err(|e| DatasetError::from_io(path, e))?;
    if read as u64 == allowed {
        drop_cut_char(&mut bytes);
    }
    String::from_utf8(bytes).map_err(|e| invalid_utf8(path, e.as_bytes(), e.utf8_error().valid_up_to()))
}

/// Removes a character that the end of `bytes` cuts in two.
fn drop_cut_char(bytes: &mut Vec<u8>) {
    if let Err(e) = std::str::from_utf8(bytes)
        && e.error_len().is_none()
    {
        bytes.truncate(e.valid_up_to());
    }
}

fn invalid_utf8(path: &Path, bytes: &[u8], valid_up_to: usize) -> DatasetError {
    let newlines = bytes[..valid_up_to].iter().filter(|&&byte| byte == b'\n').count();
    DatasetError::InvalidUtf8 { path: path.to_path_buf(), place: Place::Line(newlines + 1) }
}
