//! Reading and durable writing of the JSON files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::AllocatorError;

/// The largest file that is read; factors of the most experts take half of it.
const MAX_BYTES: u64 = 64 << 20;

/// Parses `json`; `what` names the expected content in the error.
pub(crate) fn parse<T: DeserializeOwned>(json: &str, what: &'static str) -> Result<T, AllocatorError> {
    serde_json::from_str(json).map_err(|source| AllocatorError::Json { what, path: None, source })
}

/// Compact JSON of `value`.
pub(crate) fn print<T: Serialize>(value: &T, what: &'static str) -> Result<String, AllocatorError> {
    serde_json::to_string(value).map_err(|source| AllocatorError::Json { what, path: None, source })
}

/// Reads the regular file at `path` and hands its text to `parse`, whose errors get the path added.
pub(crate) fn read<T>(
    path: &Path,
    parse: impl FnOnce(&str) -> Result<T, AllocatorError>,
) -> Result<T, AllocatorError> {
    let text = read_text(path).map_err(|source| io_error("read", path, source))?;
    parse(&text).map_err(|error| match error {
        AllocatorError::Json { what, source, .. } => {
            AllocatorError::Json { what, path: Some(path.to_owned()), source }
        }
        other => AllocatorError::InFile { path: path.to_owned(), source: Box::new(other) },
    })
}

fn read_text(path: &Path) -> io::Result<String> {
    // Opening a pipe would wait for its writer, and a device has no end.
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    if metadata.len() > MAX_BYTES {
        let reason = format!("more than {MAX_BYTES} bytes are too many for such a file");
        return Err(io::Error::new(ErrorKind::FileTooLarge, reason));
    }
    let mut text = String::with_capacity(metadata.len() as usize);
    File::open(path)?.take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// Writes `text` to `path` so that a crash leaves either the old file or the new one, never a part.
///
/// A link is followed; what is neither file nor missing (a device, a pipe) is written to, not replaced.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), AllocatorError> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let written = match fs::metadata(&target) {
        Ok(metadata) if !metadata.is_file() && !metadata.is_dir() => fs::write(&target, text),
        _ => replace(&target, text),
    };
    written.map_err(|source| io_error("write", path, source))
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let temporary = sibling(path);
    let written = write_synced(&temporary, text)
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| sync_directory(path));
    if written.is_err() {
        // The file is already gone when only the last step failed.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_synced(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// A name beside `path` that no other writer of this machine uses: a rename within one folder is atomic.
fn sibling(path: &Path) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}-{}.tmp", process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)));
    path.with_file_name(name)
}

/// Makes the rename itself durable; only Unix lets a folder be opened for that.
fn sync_directory(path: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> AllocatorError {
    AllocatorError::Io { action, path: path.to_owned(), source }
}
