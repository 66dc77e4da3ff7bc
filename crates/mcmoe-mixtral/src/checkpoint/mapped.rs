//! One safetensors file, mapped; its header parsed and trusted in nothing.

use std::panic;
use std::path::{Path, PathBuf};

use mcmoe_quant::SharedBytes;
use safetensors::SafeTensors;
use safetensors::tensor::Metadata;

use super::TensorBytes;
use crate::MixtralError;

/// Bytes before the header: its length.
const LENGTH_BYTES: usize = 8;

#[derive(Debug)]
pub(super) struct MappedFile {
    path: PathBuf,
    metadata: Metadata,
    /// The file's bytes behind the header.
    data: SharedBytes,
}

impl MappedFile {
    pub(super) fn open(path: &Path) -> Result<Self, MixtralError> {
        let bytes = SharedBytes::map(path).map_err(|e| MixtralError::read(path, e))?;
        let damaged =
            |reason: String| MixtralError::Safetensors { path: path.to_owned(), reason: reason.clone() };
        // In builds that check for it, sizes that add up to nearly 2^64 overflow in the safetensors crate.
        let content: &[u8] = &bytes;
        let read = panic::catch_unwind(|| SafeTensors::read_metadata(content));
        let (header, metadata) = match read {
            Ok(read) => read.map_err(|e| damaged(e.to_string()))?,
            Err(_) => return Err(damaged("its header describes more bytes than can be counted".into())),
        };
        let start = header + LENGTH_BYTES;
        let data = bytes.slice(start..bytes.len()).ok_or_else(|| damaged("cut in its header".into()))?;
        let needed = metadata.data_len();
        if needed != data.len() {
            return Err(damaged(format!(
                "its header describes {needed} bytes of tensors, the file holds {}",
                data.len()
            )));
        }
        Ok(Self { path: path.to_owned(), metadata, data })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = String> + use<> {
        self.metadata.offset_keys().into_iter()
    }

    /// Bytes of all tensors.
    pub(super) fn data_len(&self) -> usize {
        self.data.len()
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.metadata.info(name).is_some()
    }

    pub(super) fn get(&self, name: &str) -> Option<TensorBytes> {
        let info = self.metadata.info(name)?;
        let bytes = self.data.slice(info.data_offsets.0..info.data_offsets.1)?;
        Some(TensorBytes { dtype: info.dtype, shape: info.shape.clone(), bytes, path: self.path.clone() })
    }
}
