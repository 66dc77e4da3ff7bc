//! One file a subcommand.

pub(crate) mod allocate;
pub(crate) mod bench;
pub(crate) mod compress;
pub(crate) mod eval;
pub(crate) mod factors;
pub(crate) mod generate;
pub(crate) mod inspect;
mod shared;
pub(crate) mod synthesize;
pub(crate) mod verify;

use std::{fmt, io};

use mcmoe_mixtral::{AllocatorError, MixtralError};

/// Why a command ended early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The library's error: exit code 1.
    Failed(MixtralError),
    /// Standard output could not be written: exit code 1, or none if the reader just left.
    Output(io::Error),
    /// The command line makes no sense: exit code 2.
    Usage(String),
}

impl Failure {
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(e) if e.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(e) => e.fmt(f),
            Self::Output(e) => write!(f, "cannot write to standard output: {e}"),
            Self::Usage(reason) => f.write_str(reason),
        }
    }
}

impl From<MixtralError> for Failure {
    fn from(error: MixtralError) -> Self {
        Self::Failed(error)
    }
}

impl From<AllocatorError> for Failure {
    fn from(error: AllocatorError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}
