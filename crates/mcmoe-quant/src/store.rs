//! Packed matrices as safetensors tensors (`docs/format.md`).
//!
//! A matrix `NAME` is three tensors: `NAME.codes` (`U8 [rows, row_bytes]`), `NAME.scales` and
//! `NAME.zeros` (`F16 [rows, groups]`). Its width is not stored beside it: the reader knows the
//! [`PackedShape`] it expects and every byte is checked against it.

use mcmoe_tensor_kernels::{PackedMatrix, PackedShape, SharedBytes};
use safetensors::Dtype;

use crate::QuantError;

/// One tensor of a packed matrix, as it lies in a file.
#[derive(Clone, Debug)]
pub struct StoredTensor {
    /// Full name.
    pub name: String,
    /// Element type: `U8` for codes, `F16` for scales and zero points.
    pub dtype: Dtype,
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Little-endian elements, row-major.
    pub data: SharedBytes,
}

/// The tensors of matrix `name`, to be written to a file.
pub fn to_tensors(name: &str, matrix: &PackedMatrix) -> [StoredTensor; 3] {
    let parts = [matrix.code_bytes(), matrix.scale_bytes(), matrix.zero_bytes()];
    let mut parts = parts.into_iter();
    layout(name, matrix.shape()).map(|(name, dtype, shape)| StoredTensor {
        name,
        dtype,
        shape,
        data: parts.next().unwrap_or_default().to_vec().into(),
    })
}

/// Reads matrix `name` of the expected `shape` through `find`, which looks a tensor up by name.
///
/// # Errors
/// [`QuantError::MissingTensor`], [`QuantError::TensorType`] or [`QuantError::TensorShape`] if a tensor
/// is not as the layout says, [`QuantError::TensorContent`] if its bytes cannot be right.
pub fn from_tensors(
    name: &str,
    shape: PackedShape,
    mut find: impl FnMut(&str) -> Option<StoredTensor>,
) -> Result<PackedMatrix, QuantError> {
    let mut read = |(name, dtype, shape): (String, Dtype, Vec<usize>)| {
        let tensor = find(&name).ok_or_else(|| QuantError::MissingTensor { name: name.clone() })?;
        if tensor.dtype != dtype {
            let found = format!("{:?}", tensor.dtype);
            return Err(QuantError::TensorType { name, expected: dtype_name(dtype), found });
        }
        if tensor.shape != shape {
            return Err(QuantError::TensorShape { name, expected: shape, found: tensor.shape });
        }
        Ok(tensor.data)
    };
    let [codes, scales, zeros] = layout(name, &shape);
    PackedMatrix::from_bytes(shape, read(codes)?, read(scales)?, read(zeros)?)
        .map_err(|source| QuantError::TensorContent { name: name.to_owned(), source })
}

fn layout(name: &str, shape: &PackedShape) -> [(String, Dtype, Vec<usize>); 3] {
    let params = vec![shape.rows(), shape.groups()];
    [
        (format!("{name}.codes"), Dtype::U8, vec![shape.rows(), shape.row_bytes()]),
        (format!("{name}.scales"), Dtype::F16, params.clone()),
        (format!("{name}.zeros"), Dtype::F16, params),
    ]
}

fn dtype_name(dtype: Dtype) -> &'static str {
    if dtype == Dtype::U8 { "U8" } else { "F16" }
}
