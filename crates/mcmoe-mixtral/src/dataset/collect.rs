//! Gathers documents up to a limit.

use std::path::Path;

use super::error::DatasetError;

/// Whether a reader should go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Appetite {
    More,
    Full,
}

/// The documents read so far and the bytes that may still come.
#[derive(Debug)]
pub(super) struct Documents {
    texts: Vec<String>,
    remaining: Option<usize>,
}

impl Documents {
    /// No document yet, and room for `limit` bytes.
    pub(super) fn new(limit: Option<usize>) -> Self {
        Self { texts: Vec::new(), remaining: limit }
    }

    /// Bytes that are still wanted; `None` without a limit.
    #[cfg(feature = "parquet")]
    pub(super) fn remaining(&self) -> Option<usize> {
        self.remaining
    }

    /// Takes `text`, cut at the first character boundary where the limit is reached.
    pub(super) fn push(&mut self, mut text: String) -> Appetite {
        if let Some(remaining) = &mut self.remaining {
            text.truncate(text.ceil_char_boundary(*remaining));
            *remaining = remaining.saturating_sub(text.len());
        }
        if !text.is_empty() {
            self.texts.push(text);
        }
        if self.remaining == Some(0) { Appetite::Full } else { Appetite::More }
    }

    /// The documents of the file at `path`; an error where they are nothing but white space.
    pub(super) fn finish(self, path: &Path) -> Result<Vec<String>, DatasetError> {
        if self.texts.iter().all(|text| text.trim().is_empty()) {
            return Err(DatasetError::NoText { path: path.to_path_buf() });
        }
        Ok(self.texts)
    }
}
