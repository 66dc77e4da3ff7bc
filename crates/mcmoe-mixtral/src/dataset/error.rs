//! What can be wrong with a data set, its spec or a request for samples.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The specs that are accepted, as error messages show them.
const ACCEPTED: &str = "wikitext2:PATH, ptb:PATH, text:PATH, c4:PATH, math:PATH or mix:SPEC,SPEC,… of these";

/// An error from parsing a data set spec, reading its files or sampling its tokens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// The spec is not one of the accepted forms.
    #[error("data set `{spec}`: {problem}; accepted: {ACCEPTED}")]
    InvalidSpec {
        /// The spec, or the part of a mix, as it was given.
        spec: String,
        /// What is wrong with it.
        problem: SpecProblem,
    },

    /// The file does not exist.
    #[error("{path}: no such file")]
    NotFound {
        /// The missing file.
        path: PathBuf,
    },

    /// The path is a directory; data sets are single files.
    #[error("{path}: is a directory; name the file in it that holds the text")]
    IsDirectory {
        /// The directory.
        path: PathBuf,
    },

    /// The operating system or the gzip decoder could not read the file.
    #[error("{path}: cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },

    /// The file holds no byte.
    #[error("{path}: the file is empty")]
    EmptyFile {
        /// The file.
        path: PathBuf,
    },

    /// The file is well formed, and every text in it is empty or white space.
    #[error("{path}: the file holds no text")]
    NoText {
        /// The file.
        path: PathBuf,
    },

    /// The text is not UTF-8.
    #[error("{path}, {place}: not valid UTF-8")]
    InvalidUtf8 {
        /// The file.
        path: PathBuf,
        /// Where the first wrong byte is.
        place: Place,
    },

    /// A line of a JSON-lines file, or a JSON file, is not JSON.
    #[error("{path}, line {line}, column {column}: not valid JSON: {reason}")]
    InvalidJson {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Byte within the line, from 1; 0 where the error is the line's end.
        column: usize,
        /// The parser's message.
        reason: String,
    },

    /// A line is too long to be one document.
    #[error("{path}, line {line}: longer than {max_bytes} bytes")]
    LineTooLong {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// The most bytes a line may have.
        max_bytes: usize,
    },

    /// A record (JSON value or parquet row) holds no text where the format wants it.
    #[error("{path}, {place}: no text; expected {expected}")]
    MissingText {
        /// The file.
        path: PathBuf,
        /// The record.
        place: Place,
        /// What a record should look like.
        expected: String,
    },

    /// A parquet file has no text column of the format.
    #[error("{path}: no text column; expected {expected}, found {}", found.join(", "))]
    MissingColumn {
        /// The file.
        path: PathBuf,
        /// The columns that would do.
        expected: String,
        /// The columns that the file has, as dotted paths.
        found: Vec<String>,
    },

    /// The parquet file is damaged or uses an encoding that this build cannot read.
    #[error("{path}: cannot be read as parquet: {reason}")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The parquet reader's message.
        reason: String,
    },

    /// The file is parquet, and this build cannot read any.
    #[error(
        "{path}: is a parquet file, and this build has the feature `parquet` off; rebuild with it or convert to text"
    )]
    ParquetDisabled {
        /// The file.
        path: PathBuf,
    },

    /// The byte limit leaves a part without any text.
    #[error("a limit of {limit} bytes leaves nothing for some of {parts} data set(s)")]
    LimitTooSmall {
        /// The limit, in bytes of text.
        limit: usize,
        /// Among how many files the limit is shared.
        parts: usize,
    },

    /// A sequence of less than two tokens has nothing to predict.
    #[error("a sequence length of {seq_len} is too short: at least 2 tokens are needed")]
    SequenceTooShort {
        /// The sequence length asked for, in tokens.
        seq_len: usize,
    },

    /// No sequence was asked for.
    #[error("0 sequences were asked for: at least 1 is needed")]
    NoSamples,

    /// The text is too short for one sequence.
    #[error("the text has {found} tokens, and {needed} are needed")]
    TooFewTokens {
        /// Tokens in the text.
        found: usize,
        /// Tokens that one sequence takes.
        needed: usize,
    },

    /// The sequences asked for would fill more memory than any calibration can use.
    #[error("{samples} sequences of {seq_len} tokens are too many: {max_tokens} tokens at most")]
    TooManyTokens {
        /// Sequences asked for.
        samples: usize,
        /// Tokens in each.
        seq_len: usize,
        /// The most tokens over all sequences.
        max_tokens: u64,
    },
}

impl DatasetError {
    /// The error for an `io::Error` met while opening or reading `path`.
    pub(super) fn from_io(path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { path },
            io::ErrorKind::IsADirectory => Self::IsDirectory { path },
            _ => Self::Read { path, source },
        }
    }
}

/// What is wrong with a data set spec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecProblem {
    /// There is no `KIND:` in front.
    #[error("names no kind of data")]
    NoKind,
    /// The word before the colon is no known kind.
    #[error("`{kind}` is no known kind of data")]
    UnknownKind {
        /// The word.
        kind: String,
    },
    /// Nothing follows the colon.
    #[error("names no file")]
    NoPath,
    /// A mix holds a mix.
    #[error("a mix cannot hold another mix")]
    NestedMix,
    /// A mix holds fewer than two parts.
    #[error("a mix needs at least two parts")]
    TooFewParts,
    /// A path within a mix holds a comma, which separates the parts.
    #[error("a path in a mix cannot hold a comma")]
    CommaInPath,
}

/// A place within a file, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// A line of text or of JSON lines.
    Line(usize),
    /// An element of a JSON array.
    Item(usize),
    /// A row of a parquet file, over all its row groups.
    Row(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(n) => write!(f, "line {n}"),
            Self::Item(n) => write!(f, "item {n}"),
            Self::Row(n) => write!(f, "row {n}"),
        }
    }
}
