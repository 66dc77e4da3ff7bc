//! What can be wrong with the input of a quantizer.

use mcmoe_tensor_kernels::KernelError;

/// Errors of the quantizers and of the packed tensor store.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantError {
    /// The packed layout refused a shape, a width or a buffer.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A weight that is infinite or not a number.
    #[error("the weight at row {row}, column {col} is {value}: weights must be finite")]
    WeightNotFinite {
        /// Row of the weight.
        row: usize,
        /// Column of the weight.
        col: usize,
        /// The value.
        value: f32,
    },
    /// A calibration input that is infinite or not a number.
    #[error("feature {feature} of calibration token {token} is {value}: activations must be finite")]
    InputNotFinite {
        /// Token within the batch.
        token: usize,
        /// Feature of the token.
        feature: usize,
        /// The value.
        value: f32,
    },
    /// Products of inputs that overflow `f32`.
    #[error("the Hessian is not finite: the calibration activations are too large")]
    HessianNotFinite,
    /// A Hessian of another size than the matrix's columns.
    #[error("the Hessian covers {found} input features, the matrix has {expected}")]
    HessianSize {
        /// Columns of the matrix.
        expected: usize,
        /// Features of the Hessian.
        found: usize,
    },
    /// HQQ asked for on a trellis.
    #[error("HQQ tunes zero points, which a trellis does not have: use GPTQ or rounding")]
    NoZeroPoints,
    /// A slice that is not a whole number of rows.
    #[error("{what}: {found} values are not whole rows of {width}")]
    NotWholeRows {
        /// The slice.
        what: &'static str,
        /// Values a row.
        width: usize,
        /// Values given.
        found: usize,
    },
    /// A tensor that a packed layer needs is not there.
    #[error("tensor {name} is missing")]
    MissingTensor {
        /// Full name of the tensor.
        name: String,
    },
    /// A tensor of a packed layer with the wrong type.
    #[error("tensor {name} has type {found}, expected {expected}")]
    TensorType {
        /// Full name of the tensor.
        name: String,
        /// The type of the layout.
        expected: &'static str,
        /// The type found.
        found: String,
    },
    /// A tensor of a packed layer with the wrong shape.
    #[error("tensor {name} has shape {found:?}, expected {expected:?}")]
    TensorShape {
        /// Full name of the tensor.
        name: String,
        /// The shape of the layout.
        expected: Vec<usize>,
        /// The shape found.
        found: Vec<usize>,
    },
    /// A tensor of a packed layer with impossible contents.
    #[error("tensor {name}: {source}")]
    TensorContent {
        /// Full name of the layer.
        name: String,
        /// What is wrong.
        source: KernelError,
    },
}
