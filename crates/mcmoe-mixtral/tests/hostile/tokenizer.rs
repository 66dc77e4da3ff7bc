//! `tokenizer.json`: what is in it decides over text, not over the program.

use std::fs;

use mcmoe_mixtral::Tokenizer;
use tempfile::TempDir;

use super::attack::{answer, on_cases};
use super::folder::TOKENIZER;
use super::shard::attacks;
use super::{every_seed, memory};

/// Bytes that a tokenizer of any file may take: a regular expression has 10 MiB before it is refused.
const FIXED: usize = 128 << 20;

#[test]
fn a_sound_tokenizer_works() {
    let _alone = memory::alone();
    let dir = folder(TOKENIZER.as_bytes());
    let tokenizer = Tokenizer::read(dir.path()).unwrap();
    assert_eq!(tokenizer.encode("the a").unwrap(), [8, 2, 1]);
    assert_eq!(tokenizer.decode(&[8, 2, 1]).unwrap(), "the a");
}

#[test]
fn seeds_are_survived() {
    let _alone = memory::alone();
    for (seed, file) in every_seed() {
        println!("{seed}");
        survive(&file);
    }
}

/// A token as long as this must not become a chain of nodes, each freed by the one before.
#[test]
fn a_very_long_token_is_survived() {
    let _alone = memory::alone();
    let token = "a".repeat(200_000);
    for model in ["Unigram", "BPE", "WordLevel", "WordPiece"] {
        println!("{model}");
        let vocab = match model {
            "Unigram" => format!(r#"[["<unk>", 0.0], ["{token}", -1.0]]"#),
            _ => format!(r#"{{"<unk>": 0, "{token}": 1}}"#),
        };
        let rest = r#""unk_id": 0, "unk_token": "<unk>", "merges": [], "max_input_chars_per_word": 9,
            "continuing_subword_prefix": """#;
        survive(format!(r#"{{"model": {{"type": "{model}", "vocab": {vocab}, {rest}}}}}"#).as_bytes());
    }
}

#[test]
fn attacked_tokenizers_are_survived() {
    let _alone = memory::alone();
    on_cases(1_500, &attacks(), |attack| survive(&attack.on(TOKENIZER.as_bytes())));
}

fn folder(file: &[u8]) -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("tokenizer.json"), file).unwrap();
    dir
}

/// Reads a tokenizer and has it say something.
fn survive(file: &[u8]) {
    let dir = folder(file);
    memory::within(file.len(), FIXED, || {
        let Some(tokenizer) = answer(Tokenizer::read(dir.path())) else { return };
        for text in ["", "the a", " \u{0}é\u{301}🚢\n<unk> the<unk>"] {
            answer(tokenizer.encode(text));
        }
        let ids = [8, 0, 1, 2, 2, 7, 9, u32::MAX];
        answer(tokenizer.decode(&ids));
        let Some(mut stream) = answer(tokenizer.stream_after(&ids[..3])) else { return };
        for id in ids {
            answer(stream.push(id));
        }
        answer(stream.finish());
    });
}
