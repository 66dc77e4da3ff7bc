//! A safetensors file whose packed matrices start on cache lines.
//!
//! The safetensors crate aligns data to 8 bytes; kernels read lines of 64.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use mcmoe_quant::store::StoredTensor;
use safetensors::tensor::{Metadata, TensorInfo, TensorView};
use safetensors::{Dtype, SafeTensorError};

use crate::MixtralError;

/// Bytes that the data, and packed matrices in it, start at a multiple of.
const ALIGNMENT: usize = 64;
/// Bytes before the header: its length.
const LENGTH_BYTES: usize = 8;

/// Writes `tensors` to a new file at `path`: packed matrices first, whole cache lines all of them, then
/// the others, each kind by name.
///
/// # Errors
/// [`MixtralError::Write`] if the file system refuses, [`MixtralError::Safetensors`] if a tensor's bytes
/// do not fit its shape.
pub(super) fn write(path: &Path, tensors: &[StoredTensor]) -> Result<(), MixtralError> {
    let mut tensors: Vec<&StoredTensor> = tensors.iter().collect();
    tensors.sort_by_key(|tensor| (tensor.dtype != Dtype::U8, &tensor.name));
    let header = header(&tensors)
        .map_err(|e| MixtralError::Safetensors { path: path.to_owned(), reason: e.to_string() })?;
    let write = || {
        let mut file = BufWriter::new(File::create(path)?);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        tensors.iter().try_for_each(|tensor| file.write_all(&tensor.data))?;
        file.flush()
    };
    write().map_err(|e| MixtralError::write(path, e))
}

/// The header, filled up with spaces so that data start aligned.
fn header(tensors: &[&StoredTensor]) -> Result<Vec<u8>, SafeTensorError> {
    let mut offset = 0;
    let mut infos = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.data)?;
        let end = offset + tensor.data.len();
        let (dtype, shape) = (tensor.dtype, tensor.shape.clone());
        infos.push((tensor.name.clone(), TensorInfo { dtype, shape, data_offsets: (offset, end) }));
        offset = end;
    }
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let mut header = serde_json::to_vec(&Metadata::new(Some(format), infos)?)?;
    let data = (LENGTH_BYTES + header.len()).next_multiple_of(ALIGNMENT);
    header.resize(data - LENGTH_BYTES, b' ');
    Ok(header)
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;

    fn tensor(name: &str, dtype: Dtype, shape: &[usize], bytes: usize) -> StoredTensor {
        let data = (0..bytes).map(|i| i as u8).collect::<Vec<u8>>().into();
        StoredTensor { name: name.to_owned(), dtype, shape: shape.to_vec(), data }
    }

    #[test]
    fn packed_matrices_lie_on_cache_lines() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("a.safetensors");
        for odd in ["", "x", "a longer name"] {
            let name = format!("norm{odd}");
            let tensors = [
                tensor(&name, Dtype::BF16, &[3], 6),
                tensor("b.packed", Dtype::U8, &[1, 128], 128),
                tensor("a.packed", Dtype::U8, &[1, 64], 64),
            ];
            write(&path, &tensors).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            let read = SafeTensors::deserialize(&bytes).unwrap();
            for expected in &tensors {
                let found = read.tensor(&expected.name).unwrap();
                assert_eq!((found.dtype(), found.shape()), (expected.dtype, &expected.shape[..]));
                assert_eq!(found.data(), &expected.data[..]);
                let offset = found.data().as_ptr() as usize - bytes.as_ptr() as usize;
                assert!(expected.dtype != Dtype::U8 || offset.is_multiple_of(ALIGNMENT), "{offset}");
            }
        }
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let dir = tempfile::TempDir::new().unwrap();
        let wrong = [tensor("a.packed", Dtype::U8, &[1, 64], 63)];
        let error = write(&dir.path().join("a"), &wrong).unwrap_err();
        assert!(matches!(error, MixtralError::Safetensors { .. }), "{error}");
        let nowhere = dir.path().join("no/such/folder");
        assert!(matches!(write(&nowhere, &[]).unwrap_err(), MixtralError::Write { .. }));
    }
}
