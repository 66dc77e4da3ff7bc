//! Perplexity of WikiText-2's test text against the figures of an independent implementation.

mod common;

use std::fs;
use std::path::Path;

use common::{fixture, json, load, numbers};
use mcmoe_mixtral::evaluate::{EvalOptions, Perplexity, perplexity};
use mcmoe_mixtral::{Silent, Tokenizer};
use serde_json::Value;

#[test]
fn the_first_windows_of_tiny_mixtral() {
    compare_first_windows("tiny-mixtral");
}

#[test]
fn the_first_windows_of_demo_mixtral() {
    compare_first_windows("demo-mixtral");
}

#[test]
#[ignore = "slow: evaluates 409,485 tokens"]
fn the_whole_text_in_windows_of_256() {
    compare_whole_text("test");
}

#[test]
#[ignore = "slow: evaluates 409,485 tokens"]
fn the_whole_text_in_windows_of_128() {
    compare_whole_text("test_seqlen128");
}

/// Each of the first windows alone, then all of them together.
fn compare_first_windows(name: &str) {
    let Some((expected, tokens)) = reference(name) else { return };
    let model = load(&fixture(name).unwrap());
    for length in ["test", "test_seqlen128"] {
        let expected = &expected[length];
        let seq_len = expected["seqlen"].as_u64().unwrap() as usize;
        let sums = numbers(&expected["first_5_windows_sum_nll"]);
        assert_eq!(tokens.len() as u64, expected["tokens_total"].as_u64().unwrap());
        let evaluate = |tokens: &[u32], windows| {
            let options = EvalOptions::new(seq_len).windows(Some(windows));
            perplexity(&model, tokens, &options, &Silent).unwrap()
        };
        for (window, sum) in tokens.chunks_exact(seq_len).zip(&sums) {
            let found = evaluate(window, 1);
            assert_eq!((found.windows, found.tokens, found.pruned_fraction), (1, seq_len - 1, 0.0));
            assert_close(found.nll * (seq_len - 1) as f64, *sum, 1e-6);
        }
        let together = evaluate(&tokens, sums.len());
        assert_eq!((together.windows, together.tokens), (sums.len(), sums.len() * (seq_len - 1)));
        assert_close(together.nll * together.tokens as f64, sums.iter().sum(), 1e-6);
        assert_close(together.perplexity, (sums.iter().sum::<f64>() / together.tokens as f64).exp(), 1e-5);
    }
}

fn compare_whole_text(length: &str) {
    let Some((expected, tokens)) = reference("tiny-mixtral") else { return };
    let expected = &expected[length];
    let whole = |key: &str| expected[key].as_u64().unwrap() as usize;
    let model = load(&fixture("tiny-mixtral").unwrap());
    let found: Perplexity = perplexity(&model, &tokens, &EvalOptions::new(whole("seqlen")), &Silent).unwrap();
    assert_eq!((found.windows, found.tokens), (whole("windows"), whole("predicted_tokens")));
    // Half a unit in the fourth digit of 20.14.
    assert_close(found.perplexity, expected["ppl"].as_f64().unwrap(), 0.005 / 20.14);
}

/// The reference figures of model `name`, and the token ids of the text they are about.
fn reference(name: &str) -> Option<(Value, Vec<u32>)> {
    let expected = json(fixture(&format!("{name}-reference"))?.join("ppl.json"));
    let text = fs::read_to_string(fixture("wikitext-2/test.txt")?).unwrap();
    let model: &Path = &fixture(name)?;
    Some((expected, Tokenizer::read(model).unwrap().encode(&text).unwrap()))
}

fn assert_close(found: f64, expected: f64, relative: f64) {
    let off = (found / expected - 1.0).abs();
    println!("{found} for {expected}, off by {off:.1e}");
    assert!(off <= relative, "{found} instead of {expected}");
}
