//! Hugging Face folders: which tensor lies where, mapped but not read.
//!
//! Both dense checkpoints and compressed folders are opened through [`Checkpoint`]; it knows files,
//! names, types and shapes, and nothing of layers.

mod aligned;
mod convert;
mod index;
mod mapped;
mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mcmoe_quant::store::StoredTensor;
use mcmoe_quant::{DenseMatrix, DenseType, QuantError, SharedBytes};
use safetensors::Dtype;

pub(crate) use convert::{from_f32, to_f32};
pub use writer::ShardWriter;

use crate::MixtralError;
use mapped::MappedFile;

/// A tensor of a checkpoint: its description and its bytes in the map.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TensorBytes {
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Little-endian elements, row-major.
    pub bytes: SharedBytes,
    /// The file it lies in.
    pub path: PathBuf,
}

/// The safetensors files of a model folder.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    files: Vec<MappedFile>,
    /// Tensor name to place in `files`.
    places: BTreeMap<String, usize>,
}

impl Checkpoint {
    /// Maps the files of `dir`: `model.safetensors`, or the shards that the index names.
    ///
    /// # Errors
    /// [`MixtralError::NoWeights`] if there are none, [`MixtralError::Read`] for a file that cannot be
    /// opened, [`MixtralError::Safetensors`] for a damaged one, [`MixtralError::Json`] for a bad index,
    /// [`MixtralError::MissingTensor`] if a shard lacks a tensor that the index puts there.
    pub fn open(dir: &Path) -> Result<Self, MixtralError> {
        let (names, index) = index::shards(dir)?;
        let files: Vec<MappedFile> =
            names.iter().map(|name| MappedFile::open(&dir.join(name))).collect::<Result<_, _>>()?;
        let mut places = BTreeMap::new();
        for (place, file) in files.iter().enumerate() {
            places.extend(file.names().map(|name| (name.to_owned(), place)));
        }
        for (name, file) in index {
            let place = names.binary_search(&file).ok();
            match place.filter(|&place| files[place].contains(&name)) {
                Some(place) => drop(places.insert(name, place)),
                None => return Err(MixtralError::MissingTensor { name, path: dir.join(file) }),
            }
        }
        Ok(Self { dir: dir.to_owned(), files, places })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Bytes of all tensors.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.data_len() as u64).sum()
    }

    /// Names of all tensors, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// The tensor `name`, if there is one.
    pub fn get(&self, name: &str) -> Option<TensorBytes> {
        self.files[*self.places.get(name)?].get(name)
    }

    /// The tensor `name` as part of a packed matrix, if there is one.
    pub(crate) fn stored(&self, name: &str) -> Option<StoredTensor> {
        let TensorBytes { dtype, shape, bytes, .. } = self.get(name)?;
        Some(StoredTensor { name: name.to_owned(), dtype, shape, data: bytes })
    }

    /// The tensor `name`.
    ///
    /// # Errors
    /// [`MixtralError::MissingTensor`] if there is none.
    pub fn tensor(&self, name: &str) -> Result<TensorBytes, MixtralError> {
        let missing = || MixtralError::MissingTensor { name: name.to_owned(), path: self.dir.clone() };
        self.get(name).ok_or_else(missing)
    }

    /// The tensor `name` of exactly this `shape`.
    ///
    /// # Errors
    /// [`MixtralError::MissingTensor`], or [`MixtralError::TensorShape`] if it has another shape.
    pub fn tensor_of_shape(&self, name: &str, shape: &[usize]) -> Result<TensorBytes, MixtralError> {
        let tensor = self.tensor(name)?;
        if tensor.shape == shape {
            return Ok(tensor);
        }
        let (expected, found) = (shape.to_vec(), tensor.shape);
        Err(MixtralError::TensorShape { name: name.to_owned(), path: tensor.path, expected, found })
    }

    /// The tensor `name` of exactly this `shape` with the type of its elements, which are checked where
    /// they are mapped.
    ///
    /// # Errors
    /// Those of [`Checkpoint::tensor_of_shape`], or [`MixtralError::TensorType`] unless it is BF16,
    /// F16 or F32, [`MixtralError::TensorNotFinite`] if an element is infinite or NaN.
    pub fn weights(&self, name: &str, shape: &[usize]) -> Result<(TensorBytes, DenseType), MixtralError> {
        let tensor = self.tensor_of_shape(name, shape)?;
        let (name, path) = (name.to_owned(), tensor.path.clone());
        let Some(dtype) = convert::weight_type(tensor.dtype) else {
            return Err(MixtralError::TensorType { name, path, found: format!("{:?}", tensor.dtype) });
        };
        match convert::first_not_finite(dtype, &tensor.bytes) {
            None => Ok((tensor, dtype)),
            Some((element, value)) => Err(MixtralError::TensorNotFinite { name, path, element, value }),
        }
    }

    /// The matrix `name` of this `shape`, left where it is mapped.
    ///
    /// # Errors
    /// As [`Checkpoint::weights`].
    pub fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<DenseMatrix, MixtralError> {
        let (tensor, dtype) = self.weights(name, &shape)?;
        let (name, path) = (name.to_owned(), tensor.path);
        let matrix = DenseMatrix::new(shape[0], shape[1], dtype, tensor.bytes);
        matrix.map_err(|source| MixtralError::Packed {
            path,
            source: QuantError::TensorContent { name, source },
        })
    }

    /// The elements of tensor `name` of this `shape` as `f32`, row-major.
    ///
    /// # Errors
    /// As [`Checkpoint::weights`].
    pub fn read_f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, MixtralError> {
        let (tensor, dtype) = self.weights(name, shape)?;
        let values = to_f32(dtype, &tensor.bytes);
        tensor.bytes.unload();
        Ok(values)
    }
}
