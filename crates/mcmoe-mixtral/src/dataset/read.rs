//! Reads one source, whatever its format and storage.

use std::fs::File;

use super::collect::Documents;
use super::error::DatasetError;
use super::format::DataFormat;
use super::open::{Opened, open};
use super::spec::DataSource;
use super::{json, plain};

/// The documents of `source`, at most about `limit` bytes of them.
pub(super) fn documents(source: &DataSource, limit: Option<usize>) -> Result<Vec<String>, DatasetError> {
    let mut documents = Documents::new(limit);
    match open(source.path())? {
        Opened::Parquet(file) => read_parquet(file, source, &mut documents)?,
        Opened::Stream(stream) => match source.format() {
            DataFormat::WikiText2 | DataFormat::Ptb | DataFormat::Text => {
                documents.push(plain::read(stream, source.path(), limit)?);
            }
            DataFormat::C4 => json::read_lines(stream, source, &mut documents)?,
            DataFormat::Math => json::read(stream, source, &mut documents)?,
        },
    }
    documents.finish(source.path())
}

#[cfg(feature = "parquet")]
fn read_parquet(file: File, source: &DataSource, documents: &mut Documents) -> Result<(), DatasetError> {
    super::parquet::read(file, source, documents)
}

#[cfg(not(feature = "parquet"))]
fn read_parquet(_: File, source: &DataSource, _: &mut Documents) -> Result<(), DatasetError> {
    Err(DatasetError::ParquetDisabled { path: source.path().to_path_buf() })
}
