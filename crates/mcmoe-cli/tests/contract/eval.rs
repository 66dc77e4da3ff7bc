//! `eval`: perplexity, with and without pruning.

use std::path::Path;

use serde_json::Value;

use super::{assert_close, compressed, number};
use crate::common::{DEMO, ask};

/// `eval --json` of four windows of 64 tokens.
fn eval(dir: &Path, args: &str) -> Value {
    let args = format!("--dataset {} --seq-len 64 --windows 4 --json {args}", dataset());
    ask("eval", dir, &args).json()
}

fn dataset() -> String {
    format!("text:{DEMO}/evaluation.txt")
}

#[test]
fn every_field_is_there_and_right() {
    for dir in [compressed(), Path::new(DEMO)] {
        let report = eval(dir, "");
        assert_eq!(report["dataset"], dataset());
        assert_eq!((&report["windows"], &report["tokens"]), (&4.into(), &(4 * 63).into()));
        assert_close(number(&report, "perplexity"), number(&report, "nll").exp());
        assert_eq!(number(&report, "pruned_fraction"), 0.0);
    }
}

#[test]
fn compression_costs_some_perplexity_and_not_all() {
    let (dense, packed) = (eval(Path::new(DEMO), ""), eval(compressed(), ""));
    let (dense, packed) = (number(&dense, "perplexity"), number(&packed, "perplexity"));
    let vocabulary = 2048.0;
    assert!(1.0 < dense && dense < packed && packed < vocabulary / 4.0, "{dense} {packed}");
}

#[test]
fn pruning_drops_some_experts() {
    let (all, pruned) = (eval(compressed(), ""), eval(compressed(), "--prune"));
    let fraction = number(&pruned, "pruned_fraction");
    assert!(0.0 < fraction && fraction < 0.5, "of two experts a token at most one is dropped: {fraction}");
    assert_ne!(number(&pruned, "nll"), number(&all, "nll"));
}

#[test]
fn protection_spares_tokens() {
    let fraction = |args: &str| number(&eval(compressed(), args), "pruned_fraction");
    let (none, half) = (fraction("--prune --protect 0"), fraction("--prune --protect 0.5"));
    assert!(half < none, "{half} {none}");
    assert_eq!(fraction("--prune --protect 1"), 0.0);
}

#[test]
fn all_windows_are_taken_by_default_and_progress_stays_off_stdout() {
    let args = format!("--dataset {} --seq-len 512 --json", dataset());
    let ended = ask("eval", Path::new(DEMO), &args);
    assert!(ended.stderr.contains("evaluating"), "{}", ended.stderr);
    let report = ended.json();
    let windows = number(&report, "windows");
    assert!(windows > 4.0, "{report}");
    assert_eq!(number(&report, "tokens"), windows * 511.0);
}

#[test]
fn people_get_the_perplexity_in_words() {
    let args = format!("--dataset {} --seq-len 64 --windows 4", dataset());
    let text = ask("eval", compressed(), &args).done();
    let perplexity = number(&eval(compressed(), ""), "perplexity");
    assert!(text.starts_with(&format!("perplexity {perplexity:.4} ")), "{text}");
}
