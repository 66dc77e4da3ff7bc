//! Text to token ids and back.

use std::path::{Path, PathBuf};

use crate::MixtralError;

/// The tokenizer of a model folder (`tokenizer.json`).
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
}

impl Tokenizer {
    /// Reads `tokenizer.json` in `dir`.
    ///
    /// # Errors
    /// [`MixtralError::Tokenizer`] if there is none or it is damaged.
    pub fn read(dir: &Path) -> Result<Self, MixtralError> {
        let path = dir.join("tokenizer.json");
        let inner = tokenizers::Tokenizer::from_file(&path)
            .map_err(|e| MixtralError::Tokenizer { path: path.clone(), reason: e.to_string() })?;
        Ok(Self { inner, path })
    }

    /// Token ids of `text`, without special tokens.
    ///
    /// # Errors
    /// [`MixtralError::Tokenizer`] if the text cannot be tokenized.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, MixtralError> {
        let encoding = self.inner.encode_fast(text, false).map_err(|e| self.error(&e.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of `ids`, special tokens left out.
    ///
    /// # Errors
    /// [`MixtralError::Tokenizer`] if the ids cannot be decoded.
    pub fn decode(&self, ids: &[u32]) -> Result<String, MixtralError> {
        self.inner.decode(ids, true).map_err(|e| self.error(&e.to_string()))
    }

    /// The id of a token given by its text, special ones such as `<s>` included.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// A decoder that takes ids one by one and yields text as soon as it is whole characters.
    pub fn stream(&self) -> TextStream<'_> {
        TextStream { tokenizer: self, ids: Vec::new(), printed: 0 }
    }

    fn error(&self, reason: &str) -> MixtralError {
        MixtralError::Tokenizer { path: self.path.clone(), reason: reason.to_owned() }
    }
}

/// Decodes a growing list of ids.
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    ids: Vec<u32>,
    printed: usize,
}

impl TextStream<'_> {
    /// Adds `id`; returns the text that is new and complete, if any.
    ///
    /// # Errors
    /// [`MixtralError::Tokenizer`] if the ids cannot be decoded.
    pub fn push(&mut self, id: u32) -> Result<String, MixtralError> {
        self.ids.push(id);
        let text = self.tokenizer.decode(&self.ids)?;
        // A character cut in two decodes to the replacement character until its rest arrives.
        if text.ends_with(char::REPLACEMENT_CHARACTER) {
            return Ok(String::new());
        }
        self.take(&text)
    }

    /// What is left when no more ids come.
    ///
    /// # Errors
    /// [`MixtralError::Tokenizer`] if the ids cannot be decoded.
    pub fn finish(mut self) -> Result<String, MixtralError> {
        let text = self.tokenizer.decode(&self.ids)?;
        self.take(&text)
    }

    fn take(&mut self, text: &str) -> Result<String, MixtralError> {
        let new = text.get(self.printed..).unwrap_or_default().to_owned();
        self.printed = text.len();
        Ok(new)
    }
}
