//! What can go wrong between a folder on disk and a token.

use std::io;
use std::path::{Path, PathBuf};

use mcmoe_allocator::AllocatorError;
use mcmoe_quant::{KernelError, QuantError};

use crate::dataset::DatasetError;

/// Errors of this crate. Each names the file, the tensor or the option it is about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MixtralError {
    /// A file or folder could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A file or folder could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A JSON file, or a list of checksums, that is not what it should be.
    #[error("{}: {reason}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the place.
        reason: String,
    },
    /// A model that this crate cannot run.
    #[error("{}: {reason}", path.display())]
    Config {
        /// The `config.json`.
        path: PathBuf,
        /// The field and what is wrong with it.
        reason: String,
    },
    /// A folder without weights.
    #[error("{} holds neither model.safetensors nor model.safetensors.index.json", path.display())]
    NoWeights {
        /// The folder.
        path: PathBuf,
    },
    /// A safetensors file that is cut short or otherwise damaged.
    #[error("{} is not a sound safetensors file: {reason}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What the parser found.
        reason: String,
    },
    /// A tensor that the model needs and the folder lacks.
    #[error("tensor {} is missing from {}", name.escape_debug(), path.display())]
    MissingTensor {
        /// Full name of the tensor.
        name: String,
        /// The file or folder searched.
        path: PathBuf,
    },
    /// A tensor of a type that cannot be read as a weight.
    #[error(
        "tensor {} in {} has type {found}; weights must be BF16, F16 or F32",
        name.escape_debug(), path.display()
    )]
    TensorType {
        /// Full name of the tensor.
        name: String,
        /// The file.
        path: PathBuf,
        /// The type found.
        found: String,
    },
    /// A tensor whose shape does not follow from the config.
    #[error(
        "tensor {} in {} has shape {found:?}, but config.json asks for {expected:?}",
        name.escape_debug(), path.display()
    )]
    TensorShape {
        /// Full name of the tensor.
        name: String,
        /// The file.
        path: PathBuf,
        /// The shape that follows from the config.
        expected: Vec<usize>,
        /// The shape found.
        found: Vec<usize>,
    },
    /// A file whose content is not what it was when it was written.
    #[error("{} is damaged: its content differs from its recorded checksum", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
    },
    /// The journal of an unfinished compression that cannot be read.
    #[error("{} is damaged: {reason}; remove the folder to start over", path.display())]
    Journal {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A work folder that another run is using.
    #[error("{} is in use by another run", path.display())]
    WorkInUse {
        /// The work folder.
        path: PathBuf,
    },
    /// An unfinished compression of something else.
    #[error(
        "{} holds an unfinished run with other {what}: \
         start over without --resume, or choose another --work-dir", path.display()
    )]
    OtherRun {
        /// The work folder.
        path: PathBuf,
        /// What differs.
        what: &'static str,
    },
    /// A weight that is infinite or not a number.
    #[error(
        "tensor {} in {} holds {value} at element {element}; weights must be finite",
        name.escape_debug(), path.display()
    )]
    TensorNotFinite {
        /// Full name of the tensor.
        name: String,
        /// The file.
        path: PathBuf,
        /// Place of the first such weight.
        element: usize,
        /// The weight.
        value: f32,
    },
    /// A computation that overflowed, because weights are damaged or far too large.
    #[error("{what} are not finite: the weights are damaged or far too large")]
    NotFinite {
        /// What was computed.
        what: String,
    },
    /// A tensor that could not be quantized.
    #[error("tensor {name}: {source}")]
    Quantize {
        /// Full name of the tensor.
        name: String,
        /// What is wrong.
        source: QuantError,
    },
    /// Packed tensors that do not fit the folder's own description.
    #[error("{}: {source}", path.display())]
    Packed {
        /// The folder.
        path: PathBuf,
        /// What is wrong, naming the tensor.
        source: QuantError,
    },
    /// A tokenizer that could not be loaded, or text it could not handle.
    #[error("{}: {reason}", path.display())]
    Tokenizer {
        /// The `tokenizer.json`.
        path: PathBuf,
        /// The tokenizer's reason.
        reason: String,
    },
    /// A token id that the model's vocabulary does not have.
    #[error("token id {id} is not below the model's vocabulary of {vocab_size}")]
    TokenId {
        /// The id.
        id: u32,
        /// Number of rows of the embedding.
        vocab_size: usize,
    },
    /// An option outside its range, or one that contradicts another.
    #[error("{option}: {reason}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// What is wrong and what would do.
        reason: String,
    },
    /// A device that this build or this machine does not have.
    #[error("device {device}: {reason}")]
    Device {
        /// As the user wrote it.
        device: String,
        /// What is missing.
        reason: String,
    },
    /// An output folder that already holds something.
    #[error("{} already exists and is not empty: choose another output folder or remove it", path.display())]
    OutputExists {
        /// The folder.
        path: PathBuf,
    },
    /// An allocation that does not fit the model.
    #[error("{}: {source}", path.display())]
    Allocation {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: AllocatorError,
    },
    /// A text that cannot be cut into the sequences asked for.
    #[error("{data}: {source}")]
    Sequences {
        /// The data set.
        data: String,
        /// What is wrong.
        source: DatasetError,
    },
    /// A data set that could not be used.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// Factors or an allocation that could not be used, or a budget that cannot be met.
    #[error(transparent)]
    Allocator(#[from] AllocatorError),
}

impl MixtralError {
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }

    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        Self::Write { path: path.to_owned(), source }
    }

    pub(crate) fn config(path: &Path, reason: impl Into<String>) -> Self {
        Self::Config { path: path.to_owned(), reason: reason.into() }
    }

    pub(crate) fn option(option: &'static str, reason: impl Into<String>) -> Self {
        Self::Option { option, reason: reason.into() }
    }

    pub(crate) fn quantize(name: &str, source: impl Into<QuantError>) -> Self {
        Self::Quantize { name: name.to_owned(), source: source.into() }
    }

    pub(crate) fn shape(option: &'static str, source: &KernelError) -> Self {
        Self::option(option, source.to_string())
    }
}
