//! Data set specs: what the user names on the command line.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::error::{DatasetError, SpecProblem};
use super::format::DataFormat;
use super::read;
use super::sampling::split_shares;

/// The word that opens a spec of several parts.
const MIX: &str = "mix";

/// What separates documents where several become one text.
const DOCUMENT_SEPARATOR: &str = "\n\n";

/// One file of text and the kind of data it holds, written `KIND:PATH`.
///
/// Only the first colon counts, so a path may hold colons.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DataSource {
    format: DataFormat,
    path: PathBuf,
}

impl DataSource {
    /// The file at `path`, read as `format`.
    pub fn new(format: DataFormat, path: impl Into<PathBuf>) -> Self {
        Self { format, path: path.into() }
    }

    /// The kind of data.
    pub fn format(&self) -> DataFormat {
        self.format
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Display for DataSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.format, self.path.display())
    }
}

impl FromStr for DataSource {
    type Err = DatasetError;

    fn from_str(spec: &str) -> Result<Self, Self::Err> {
        let (kind, path) = spec.split_once(':').ok_or_else(|| invalid(spec, SpecProblem::NoKind))?;
        if kind == MIX {
            return Err(invalid(spec, SpecProblem::NestedMix));
        }
        let format = DataFormat::from_name(kind)
            .ok_or_else(|| invalid(spec, SpecProblem::UnknownKind { kind: kind.to_owned() }))?;
        if path.is_empty() {
            return Err(invalid(spec, SpecProblem::NoPath));
        }
        Ok(Self::new(format, path))
    }
}

/// A data set: one file, or a mix of files in equal shares.
///
/// Written `KIND:PATH` (kinds: [`DataFormat::ALL`]) or `mix:KIND:PATH,KIND:PATH,…` with at least two parts. What it
/// displays parses back to an equal spec, unless a path is not Unicode. Serde stores it as that string.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DataSpec {
    // One part is a plain source, more are a mix; never empty.
    parts: Vec<DataSource>,
}

impl DataSpec {
    /// A mix of `parts` in equal shares.
    ///
    /// # Errors
    /// [`DatasetError::InvalidSpec`] for fewer than two parts, and for a path with a comma, which a spec cannot spell.
    pub fn mix(parts: Vec<DataSource>) -> Result<Self, DatasetError> {
        let spec = Self { parts };
        let problem = if spec.parts.len() < 2 {
            SpecProblem::TooFewParts
        } else if spec.parts.iter().any(|part| part.path.to_string_lossy().contains(',')) {
            SpecProblem::CommaInPath
        } else {
            return Ok(spec);
        };
        Err(invalid(&format!("{MIX}:{}", spec.listed()), problem))
    }

    /// The files: one, or several for a mix.
    pub fn parts(&self) -> &[DataSource] {
        &self.parts
    }

    /// Whether this is a mix.
    pub fn is_mix(&self) -> bool {
        self.parts.len() > 1
    }

    /// The documents, in file order, a mix's parts one after the other.
    ///
    /// `limit` bounds the bytes of text and, for every format but a JSON array, what is read of the file: documents
    /// are taken until they hold that many bytes, and the last is cut at the first character boundary there. A mix
    /// gives each part an equal share of the limit; a part that is shorter than its share is taken whole. Without a
    /// limit every part is taken whole. Empty documents are left out.
    ///
    /// # Errors
    /// Any variant of [`DatasetError`] about files; [`DatasetError::LimitTooSmall`] for less than a byte a part.
    pub fn documents(&self, limit: Option<usize>) -> Result<Vec<String>, DatasetError> {
        Ok(self.part_documents(limit)?.concat())
    }

    /// All documents as one text, joined by a blank line (`"\n\n"`, not counted in `limit`).
    ///
    /// Perplexity tokenizes a data set whole; this is the text it is defined over.
    ///
    /// # Errors
    /// As [`documents`](Self::documents).
    pub fn text(&self, limit: Option<usize>) -> Result<String, DatasetError> {
        Ok(self.part_texts(limit)?.join(DOCUMENT_SEPARATOR))
    }

    /// One text for each of [`parts`](Self::parts), made as in [`text`](Self::text), under the same limits.
    ///
    /// # Errors
    /// As [`documents`](Self::documents).
    pub fn part_texts(&self, limit: Option<usize>) -> Result<Vec<String>, DatasetError> {
        let parts = self.part_documents(limit)?;
        Ok(parts.iter().map(|documents| documents.join(DOCUMENT_SEPARATOR)).collect())
    }

    fn part_documents(&self, limit: Option<usize>) -> Result<Vec<Vec<String>>, DatasetError> {
        let limits = self.part_limits(limit)?;
        self.parts.iter().zip(limits).map(|(part, limit)| read::documents(part, limit)).collect()
    }

    fn part_limits(&self, limit: Option<usize>) -> Result<Vec<Option<usize>>, DatasetError> {
        let parts = self.parts.len();
        match limit {
            None => Ok(vec![None; parts]),
            Some(limit) if limit < parts => Err(DatasetError::LimitTooSmall { limit, parts }),
            Some(limit) => Ok(split_shares(limit, parts).into_iter().map(Some).collect()),
        }
    }

    fn listed(&self) -> String {
        let parts: Vec<String> = self.parts.iter().map(ToString::to_string).collect();
        parts.join(",")
    }
}

impl From<DataSource> for DataSpec {
    fn from(source: DataSource) -> Self {
        Self { parts: vec![source] }
    }
}

impl fmt::Display for DataSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_mix() {
            write!(f, "{MIX}:")?;
        }
        f.write_str(&self.listed())
    }
}

impl FromStr for DataSpec {
    type Err = DatasetError;

    fn from_str(spec: &str) -> Result<Self, Self::Err> {
        match spec.split_once(':') {
            Some((MIX, "")) => Err(invalid(spec, SpecProblem::TooFewParts)),
            Some((MIX, parts)) => Self::mix(parts.split(',').map(str::parse).collect::<Result<_, _>>()?),
            _ => spec.parse::<DataSource>().map(Self::from),
        }
    }
}

impl TryFrom<String> for DataSpec {
    type Error = DatasetError;

    fn try_from(spec: String) -> Result<Self, Self::Error> {
        spec.parse()
    }
}

impl From<DataSpec> for String {
    fn from(spec: DataSpec) -> Self {
        spec.to_string()
    }
}

fn invalid(spec: &str, problem: SpecProblem) -> DatasetError {
    DatasetError::InvalidSpec { spec: spec.to_owned(), problem }
}
