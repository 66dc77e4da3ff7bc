//! Packed matrices as safetensors tensors (`docs/format.md`).
//!
//! A matrix `NAME` is one tensor: `NAME.packed`, `U8 [tiles, tile_bytes]`, the bytes that kernels read.
//! Its shape and width are not stored beside it: the reader knows the [`PackedShape`] it expects.

use mcmoe_tensor_kernels::{PackedMatrix, PackedShape, SharedBytes};
use safetensors::Dtype;

use crate::QuantError;

/// A tensor as it lies in a file.
#[derive(Clone, Debug)]
pub struct StoredTensor {
    /// Full name.
    pub name: String,
    /// Element type: `U8` for packed matrices.
    pub dtype: Dtype,
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Little-endian elements, row-major.
    pub data: SharedBytes,
}

/// Name of the tensor that holds matrix `name`.
pub fn tensor_name(name: &str) -> String {
    format!("{name}.packed")
}

/// The tensor of matrix `name`, to be written to a file. Shares the matrix's bytes.
pub fn to_tensor(name: &str, matrix: &PackedMatrix) -> StoredTensor {
    let shape = vec![matrix.shape().tiles(), matrix.shape().tile_bytes()];
    StoredTensor { name: tensor_name(name), dtype: Dtype::U8, shape, data: matrix.bytes().clone() }
}

/// Reads matrix `name` of the expected `shape` through `find`, which looks a tensor up by name. The
/// bytes are shared, not looked at: see [`PackedMatrix::check_contents`].
///
/// # Errors
/// [`QuantError::MissingTensor`], [`QuantError::TensorType`] or [`QuantError::TensorShape`] if the tensor
/// is not as the layout says, [`QuantError::TensorContent`] if it has not as many bytes as its shape.
pub fn from_tensor(
    name: &str,
    shape: PackedShape,
    find: impl FnOnce(&str) -> Option<StoredTensor>,
) -> Result<PackedMatrix, QuantError> {
    let name = tensor_name(name);
    let Some(tensor) = find(&name) else { return Err(QuantError::MissingTensor { name }) };
    if tensor.dtype != Dtype::U8 {
        let found = format!("{:?}", tensor.dtype);
        return Err(QuantError::TensorType { name, expected: "U8", found });
    }
    let expected = vec![shape.tiles(), shape.tile_bytes()];
    if tensor.shape != expected {
        return Err(QuantError::TensorShape { name, expected, found: tensor.shape });
    }
    PackedMatrix::from_bytes(shape, tensor.data).map_err(|source| QuantError::TensorContent { name, source })
}
