//! What a `tokenizer.json` may hold, so that no file decides over time and memory.
//!
//! The tokenizers crate trusts its files. It reserves memory by lengths that they state, frees some
//! vocabularies by recursion, and carries out any number of steps that each multiply a text.

use serde_json::{Map, Value};

/// Kinds of models that are read: Mixtral has byte pairs.
const MODELS: [&str; 2] = ["BPE", "WordLevel"];
/// The longest token, in bytes; tokens of many blanks or dashes have hundreds.
const MAX_TOKEN_BYTES: usize = 1 << 12;
/// The longest pattern that a step looks for, in bytes.
const MAX_PATTERN_BYTES: usize = 1 << 12;
/// Steps from a text to its words, or from tokens to their text. Mixtral has two and four.
const MAX_STEPS: usize = 16;
/// What these steps can make of one byte. Mixtral's make three of a blank.
const MAX_GROWTH: usize = 256;
/// Parts that go unread: texts are taken whole, and special tokens added by those who need them.
const UNREAD: [&str; 3] = ["truncation", "padding", "post_processor"];

/// The steps of a part of the file.
struct Part {
    field: &'static str,
    /// The field in which a sequence has its steps.
    sequence: &'static str,
    /// Types of steps, and what each makes of one byte if it inserts nothing that the file says.
    types: &'static [(&'static str, usize)],
}

const NORMALIZER: Part = Part {
    field: "normalizer",
    sequence: "normalizers",
    types: &[
        ("Sequence", 1),
        ("Prepend", 1),
        ("Replace", 1),
        ("Strip", 1),
        ("StripAccents", 1),
        ("Nmt", 1),
        ("Lowercase", 2),
        ("ByteLevel", 2),
        ("NFC", 3),
        ("NFD", 3),
        ("NFKC", 11),
        ("NFKD", 11),
    ],
};

const PRE_TOKENIZER: Part = Part {
    field: "pre_tokenizer",
    sequence: "pretokenizers",
    types: &[
        ("Sequence", 1),
        ("BertPreTokenizer", 1),
        ("Digits", 1),
        ("FixedLength", 1),
        ("Punctuation", 1),
        ("Split", 1),
        ("UnicodeScripts", 1),
        ("Whitespace", 1),
        ("WhitespaceSplit", 1),
        ("ByteLevel", 3),
        ("Metaspace", 5),
    ],
};

const DECODER: Part = Part {
    field: "decoder",
    sequence: "decoders",
    types: &[
        ("Sequence", 1),
        ("ByteFallback", 1),
        ("Fuse", 1),
        ("Metaspace", 1),
        ("Replace", 1),
        ("Strip", 1),
        ("ByteLevel", 2),
        ("WordPiece", 2),
        ("BPEDecoder", 3),
        ("CTC", 3),
    ],
};

/// The parts of the file of `bytes` that are read, checked.
///
/// # Errors
/// What is wrong, naming the part.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, String> {
    let mut file: Map<String, Value> = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    for field in UNREAD {
        file.remove(field);
    }
    check_model(file.get("model").unwrap_or(&Value::Null))?;
    check_tokens(&file)?;
    let mut encoding = Steps::default();
    encoding.add(&NORMALIZER, &file)?;
    encoding.add(&PRE_TOKENIZER, &file)?;
    Steps::default().add(&DECODER, &file)?;
    Ok(Value::Object(file))
}

fn check_model(model: &Value) -> Result<(), String> {
    let kind = text(model, "type");
    if !MODELS.contains(&kind) {
        return Err(format!("a model of type {kind:?} is not supported, only {}", MODELS.join(" and ")));
    }
    // It is cut off tokens at any byte, and what is left need not be UTF-8.
    let prefix = text(model, "continuing_subword_prefix");
    if prefix.is_empty() { Ok(()) } else { Err("continuing_subword_prefix is not supported".to_owned()) }
}

fn check_tokens(file: &Map<String, Value>) -> Result<(), String> {
    let vocab = file.get("model").and_then(|model| model.get("vocab")?.as_object());
    let added = file.get("added_tokens").and_then(Value::as_array);
    let added = added.into_iter().flatten().map(|token| text(token, "content"));
    let tokens = vocab.into_iter().flat_map(Map::keys).map(String::as_str).chain(added);
    let longest = tokens.map(str::len).max().unwrap_or(0);
    if longest <= MAX_TOKEN_BYTES {
        return Ok(());
    }
    Err(format!("a token has {longest} bytes; it can have {MAX_TOKEN_BYTES}"))
}

/// Steps met so far, and what they make of one byte.
struct Steps {
    count: usize,
    growth: usize,
}

impl Default for Steps {
    fn default() -> Self {
        Self { count: 0, growth: 1 }
    }
}

impl Steps {
    /// Adds the steps of `part`, if `file` has it.
    fn add(&mut self, part: &Part, file: &Map<String, Value>) -> Result<(), String> {
        match file.get(part.field) {
            None | Some(Value::Null) => Ok(()),
            Some(step) => self.add_step(part, step),
        }
    }

    fn add_step(&mut self, part: &Part, step: &Value) -> Result<(), String> {
        let (field, kind) = (part.field, text(step, "type"));
        let Some((_, growth)) = part.types.iter().find(|(name, _)| *name == kind) else {
            return Err(format!("a {field} of type {kind:?} is not supported"));
        };
        // Comes before every byte at worst.
        let inserted = match kind {
            "Prepend" => text(step, "prepend").len(),
            "Replace" => text(step, "content").len(),
            _ => 0,
        };
        self.count += 1;
        self.growth = self.growth.saturating_mul(growth * (1 + inserted));
        if self.count > MAX_STEPS || self.growth > MAX_GROWTH {
            return Err(format!(
                "{field}: more than {MAX_STEPS} steps, or steps that make more than {MAX_GROWTH} bytes of one"
            ));
        }
        let pattern = step.get("pattern").and_then(Value::as_object);
        let patterns = pattern.into_iter().flat_map(Map::values).filter_map(Value::as_str);
        if patterns.map(str::len).any(|bytes| bytes > MAX_PATTERN_BYTES) {
            return Err(format!("{field}: a pattern has more than {MAX_PATTERN_BYTES} bytes"));
        }
        let steps = step.get(part.sequence).and_then(Value::as_array);
        steps.into_iter().flatten().try_for_each(|step| self.add_step(part, step))
    }
}

/// The string in `field` of an object; empty if there is none.
fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// As Mixtral's, without its tokens.
    fn mixtral() -> Value {
        json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": [{"id": 0, "content": "<unk>", "normalized": false, "special": true}],
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
            "pre_tokenizer": null, "post_processor": {"type": "TemplateProcessing"},
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
                {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
            "model": {"type": "BPE", "continuing_subword_prefix": null, "vocab": {"<unk>": 0}, "merges": []},
        })
    }

    fn check(change: impl FnOnce(&mut Value)) -> Result<Value, String> {
        let mut file = mixtral();
        change(&mut file);
        parse(file.to_string().as_bytes())
    }

    #[test]
    fn the_tokenizer_of_mixtral_is_taken() {
        let mut expected = mixtral();
        for field in UNREAD {
            expected.as_object_mut().unwrap().remove(field);
        }
        assert_eq!(check(|_| ()).unwrap(), expected);
    }

    #[test]
    fn unsupported_types_are_named() {
        let error = check(|file| file["model"] = json!({"type": "Unigram", "vocab": []})).unwrap_err();
        assert!(error.contains("Unigram") && error.contains("BPE"), "{error}");
        let precompiled = json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"});
        let error = check(|file| file["normalizer"]["normalizers"][0] = precompiled).unwrap_err();
        assert!(error.contains("normalizer") && error.contains("Precompiled"), "{error}");
        for untyped in [json!(["AAAA"]), json!(1), json!({"precompiled_charsmap": "AAAA"})] {
            assert!(check(|file| file["normalizer"] = untyped).unwrap_err().contains("normalizer"));
        }
        assert!(parse(b"[]").is_err());
    }

    #[test]
    fn what_grows_without_measure_is_refused() {
        let doubling = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
        let fuse = json!({"type": "Fuse"});
        for (step, fitting) in [(doubling, 5), (fuse, 15)] {
            let decoder = |steps| json!({"type": "Sequence", "decoders": vec![step.clone(); steps]});
            assert!(check(|file| file["decoder"] = decoder(fitting)).is_ok());
            assert!(check(|file| file["decoder"] = decoder(fitting + 1)).unwrap_err().contains("decoder"));
        }
        let long = "a".repeat(MAX_TOKEN_BYTES + 1);
        assert!(check(|file| file["added_tokens"][0]["content"] = long.as_str().into()).is_err());
        assert!(check(|file| file["model"]["vocab"][&long] = 1.into()).is_err());
        let split = json!({"type": "Split", "pattern": {"Regex": long}});
        assert!(check(|file| file["pre_tokenizer"] = split).unwrap_err().contains("pattern"));
    }
}
