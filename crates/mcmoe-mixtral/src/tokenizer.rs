//! Text to token ids and back.

mod file;

use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use crate::{MixtralError, regular_file};

/// The largest `tokenizer.json` that is read; vocabularies of 250,000 tokens take half of it.
const MAX_BYTES: u64 = 64 << 20;

/// The tokenizer of a model folder (`tokenizer.json`).
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
}

impl Tokenizer {
    /// Reads `tokenizer.json` in `dir`.
    ///
    /// # Errors
    /// [`MixtralError::Tokenizer`] if there is none, it is damaged, or it has parts that are not supported.
    pub fn read(dir: &Path) -> Result<Self, MixtralError> {
        let path = dir.join("tokenizer.json");
        match read(&path) {
            Ok(inner) => Ok(Self { inner, path }),
            Err(reason) => Err(MixtralError::Tokenizer { path, reason }),
        }
    }

    /// Token ids of `text`, without special tokens.
    ///
    /// # Errors
    /// [`MixtralError::Tokenizer`] if the text cannot be tokenized.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, MixtralError> {
        let encoding = guarded(|| self.inner.encode_fast(text, false)).map_err(|e| self.error(e))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of `ids`, special tokens left out.
    ///
    /// # Errors
    /// [`MixtralError::Tokenizer`] if the ids cannot be decoded.
    pub fn decode(&self, ids: &[u32]) -> Result<String, MixtralError> {
        guarded(|| self.inner.decode(ids, true)).map_err(|e| self.error(e))
    }

    /// A decoder that takes the ids that follow `prompt` one by one and yields their text as soon as it
    /// is whole characters. Prompt and pieces join to the text of all ids.
    ///
    /// # Errors
    /// [`MixtralError::Tokenizer`] if the prompt's ids cannot be decoded.
    pub fn stream_after(&self, prompt: &[u32]) -> Result<TextStream<'_>, MixtralError> {
        let ids = prompt[prompt.len().saturating_sub(CONTEXT)..].to_vec();
        let printed = self.decode(&ids)?.len();
        Ok(TextStream { tokenizer: self, known: ids.len(), ids, printed })
    }

    fn error(&self, reason: String) -> MixtralError {
        MixtralError::Tokenizer { path: self.path.clone(), reason }
    }
}

fn read(path: &Path) -> Result<tokenizers::Tokenizer, String> {
    let bytes = regular_file::read(path, MAX_BYTES).map_err(|e| e.to_string())?;
    let file = file::parse(&bytes)?;
    guarded(|| Ok(serde_json::from_value(file)?))
}

/// Does `work` with the tokenizers crate, which panics on some damaged files: while reading them, or at a
/// text.
fn guarded<T>(work: impl FnOnce() -> Result<T, tokenizers::Error>) -> Result<T, String> {
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    done.map_or_else(|_| Err("the file is damaged".to_owned()), |result| result.map_err(|e| e.to_string()))
}

/// Ids of the prompt that the first piece of a stream is decoded with.
const CONTEXT: usize = 16;

/// Decodes a growing list of ids.
///
/// A token's text can depend on the one before it (Llama's decoder strips the space of the first
/// word), so each piece is decoded together with the piece before.
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    /// The last piece's ids and those after it.
    ids: Vec<u32>,
    /// How many of them are the last piece's.
    known: usize,
    /// Length of the last piece's text.
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
        let new = text.get(self.printed..).unwrap_or_default().to_owned();
        self.ids.drain(..self.known);
        self.known = self.ids.len();
        self.printed = self.tokenizer.decode(&self.ids)?.len();
        Ok(new)
    }

    /// What is left when no more ids come.
    ///
    /// # Errors
    /// [`MixtralError::Tokenizer`] if the ids cannot be decoded.
    pub fn finish(self) -> Result<String, MixtralError> {
        let text = self.tokenizer.decode(&self.ids)?;
        Ok(text.get(self.printed..).unwrap_or_default().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words with a leading mark for the space, bytes for the rest, as Llama's and Mixtral's.
    const LLAMA: &str = r#"{
        "version": "1.0", "normalizer": null, "post_processor": null, "added_tokens": [],
        "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "a"},
        "pre_tokenizer": {"type": "Whitespace"},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "WordLevel", "unk_token": "a",
            "vocab": {"a": 0, "▁The": 1, "▁ship": 2, "s": 3, "<0xC3>": 4, "<0xA9>": 5}}
    }"#;

    fn tokenizer(file: &str) -> Result<Tokenizer, MixtralError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("tokenizer.json"), file).unwrap();
        Tokenizer::read(dir.path())
    }

    fn llama() -> Tokenizer {
        tokenizer(LLAMA).unwrap()
    }

    #[test]
    fn text_is_taken_whole() {
        assert_eq!(llama().encode("s s s s").unwrap(), [3; 4]);
    }

    #[test]
    fn pieces_join_to_the_text_of_all_ids() {
        let tokenizer = llama();
        let ids = [1, 2, 3, 2, 4, 5, 3, 1];
        let whole = tokenizer.decode(&ids).unwrap();
        assert_eq!(whole, "The ships shipés The");
        // Not 5: no prompt ends amid a character.
        for start in [0, 1, 2, 3, 4, 6, 7, 8] {
            let (prompt, rest) = ids.split_at(start);
            let mut stream = tokenizer.stream_after(prompt).unwrap();
            let pieces: String = rest.iter().map(|&id| stream.push(id).unwrap()).collect();
            let joined = tokenizer.decode(prompt).unwrap() + &pieces + &stream.finish().unwrap();
            assert_eq!(joined, whole, "{start}");
        }
    }

    #[test]
    fn panics_are_errors() {
        let greedy = tokenizer(&LLAMA.replace("\"stop\": 0", "\"stop\": 9")).unwrap();
        assert!(greedy.decode(&[0]).is_ok(), "nothing to strip");
        let blanks = tokenizer(&LLAMA.replace("▁ship", "▁").replace("\"stop\": 0", "\"stop\": 9")).unwrap();
        let error = blanks.decode(&[2]).unwrap_err();
        assert!(matches!(error, MixtralError::Tokenizer { .. }), "{error}");
    }

    #[test]
    fn half_a_character_waits_for_the_rest() {
        let tokenizer = llama();
        let mut stream = tokenizer.stream_after(&[2]).unwrap();
        assert_eq!([4, 5, 2].map(|id| stream.push(id).unwrap()), ["", "é", " ship"]);
        assert_eq!(stream.push(4).unwrap(), "");
        assert_eq!(stream.finish().unwrap(), "\u{fffd}");
    }
}
