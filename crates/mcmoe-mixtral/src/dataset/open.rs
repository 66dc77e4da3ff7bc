//! Opens a file and finds out from its first bytes how it is stored.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::error::DatasetError;

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const PARQUET_MAGIC: &[u8] = b"PAR1";
const BUFFER_BYTES: usize = 1 << 16;

/// A file, opened.
pub(super) enum Opened {
    /// Text in any form, gzip already undone.
    Stream(Box<dyn BufRead>),
    /// A parquet file, which needs random access.
    Parquet(File),
}

/// Opens `path`. Magic bytes decide, not the extension: downloads often lose or keep the wrong one.
pub(super) fn open(path: &Path) -> Result<Opened, DatasetError> {
    try_open(path).map_err(|source| DatasetError::from_io(path, source))?.ok_or_else(|| {
        let path = path.to_path_buf();
        DatasetError::EmptyFile { path }
    })
}

/// `None` for an empty file.
fn try_open(path: &Path) -> std::io::Result<Option<Opened>> {
    // Not every system refuses to open a directory, and none says so in the same way.
    if fs::metadata(path)?.is_dir() {
        return Err(std::io::ErrorKind::IsADirectory.into());
    }
    let mut file = BufReader::with_capacity(BUFFER_BYTES, File::open(path)?);
    let start = file.fill_buf()?;
    Ok(if start.is_empty() {
        None
    } else if start.starts_with(PARQUET_MAGIC) {
        Some(Opened::Parquet(file.into_inner()))
    } else if start.starts_with(GZIP_MAGIC) {
        let plain = BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(file));
        Some(Opened::Stream(Box::new(plain)))
    } else {
        Some(Opened::Stream(Box::new(file)))
    })
}
