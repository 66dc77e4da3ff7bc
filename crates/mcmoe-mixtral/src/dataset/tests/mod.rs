//! Tests of the data sets, one file a subject, and what they share.

mod fixtures;
mod json;
#[cfg(feature = "parquet")]
mod parquet;
mod plain;
mod sampling;
mod spec;

use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

use super::{DataFormat, DataSource, DataSpec, DatasetError};

/// A folder with one file in it.
struct Scratch {
    folder: TempDir,
    name: &'static str,
}

impl Scratch {
    fn with(name: &'static str, bytes: &[u8]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join(name), bytes).expect("a scratch file");
        Self { folder, name }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join(self.name)
    }

    /// The file as a data set of `format`.
    fn spec(&self, format: DataFormat) -> DataSpec {
        DataSource::new(format, self.path()).into()
    }
}

/// The documents of a file of `bytes`.
fn read(format: DataFormat, bytes: &[u8], limit: Option<usize>) -> Result<Vec<String>, DatasetError> {
    Scratch::with("data", bytes).spec(format).documents(limit)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("writing to memory")
}
