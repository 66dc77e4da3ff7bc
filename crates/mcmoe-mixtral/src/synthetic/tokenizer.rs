//! A tokenizer for models that were never trained: every byte is a token.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::{MixtralError, json};

/// Tokens that stand for a byte.
const BYTES: usize = 256;
/// Tokens before them, where the vocabulary has room, with the ids that Mixtral gives them.
const SPECIAL: [&str; 3] = ["<unk>", "<s>", "</s>"];

/// Makes sure that a vocabulary of `vocab_size` has a token for every byte.
///
/// # Errors
/// [`MixtralError::Option`] if it has not.
pub(super) fn check(vocab_size: usize) -> Result<(), MixtralError> {
    if vocab_size >= BYTES {
        return Ok(());
    }
    let reason = format!("{vocab_size} tokens; a synthetic model needs one for each of {BYTES} bytes");
    Err(MixtralError::option("vocab_size", reason))
}

/// Writes `tokenizer.json`, which makes a token of every byte of a text, but one of a special token that the
/// text spells out, as any tokenizer of Mixtral does. Further ids of the vocabulary have no text.
pub(super) fn write(vocab_size: usize, dir: &Path) -> Result<(), MixtralError> {
    json::write(&dir.join("tokenizer.json"), &tokenizer(vocab_size))
}

/// `tokenizer.json`: byte pair encoding without merges on GPT-2's characters for bytes.
fn tokenizer(vocab_size: usize) -> Value {
    let special = if vocab_size >= SPECIAL.len() + BYTES { &SPECIAL[..] } else { &[] };
    let added = special.iter().enumerate().map(|(id, content)| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        })
    });
    let tokens = special.iter().map(|&token| token.to_owned()).chain(byte_characters());
    let vocab: Map<String, Value> = tokens.enumerate().map(|(id, token)| (token, Value::from(id))).collect();
    let bytes =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": null, "pre_tokenizer": bytes, "post_processor": null, "decoder": bytes,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": [],
        },
    })
}

/// The character that stands for each byte in GPT-2's vocabulary: itself if it can be seen in Latin-1, else
/// the next one from U+0100 on.
fn byte_characters() -> impl Iterator<Item = String> {
    let mut others = '\u{100}'..;
    (0..=u8::MAX).map(move |byte| match byte {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte).to_string(),
        _ => others.next().expect("characters do not run out").to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tokenizer;

    const TEXT: &str = " The ship's  name\n\t\0was “Été” 👍🏽 \u{a0}\u{ad}\r\n";

    fn read(vocab_size: usize) -> Tokenizer {
        let dir = tempfile::tempdir().unwrap();
        write(vocab_size, dir.path()).unwrap();
        Tokenizer::read(dir.path()).unwrap()
    }

    #[test]
    fn every_byte_is_a_token_and_comes_back() {
        for (vocab_size, first) in [(256, 0), (258, 0), (259, 3), (32000, 3)] {
            let tokenizer = read(vocab_size);
            let ids = tokenizer.encode(TEXT).unwrap();
            let expected: Vec<u32> = TEXT.bytes().map(|byte| first + u32::from(byte)).collect();
            assert_eq!(ids, expected);
            assert_eq!(tokenizer.decode(&ids).unwrap(), TEXT);
        }
    }

    #[test]
    fn special_tokens_and_ids_without_text_leave_nothing() {
        let tokenizer = read(300);
        assert_eq!(tokenizer.decode(&[1, 3 + u32::from(b'a'), 0, 299, 2]).unwrap(), "a");
        assert_eq!(tokenizer.encode("a</s>").unwrap(), [3 + u32::from(b'a'), 2]);
    }

    #[test]
    fn small_vocabularies_are_refused() {
        assert!(check(256).is_ok());
        let error = check(255).unwrap_err().to_string();
        assert!(error.contains("vocab_size") && error.contains("255"), "{error}");
    }
}
