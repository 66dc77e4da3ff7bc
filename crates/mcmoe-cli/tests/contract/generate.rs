//! `generate`: text on stdout and nothing else, the same for the same seed.

use std::path::Path;

use serde_json::Value;

use super::compressed;
use crate::common::{DEMO, Ended, ask};

fn generate(args: &str) -> Ended {
    ask("generate", compressed(), &format!("--prompt The {args}"))
}

fn tokens(args: &str) -> Vec<u64> {
    serde_json::from_value(generate(&format!("{args} --json")).json()["tokens"].take()).unwrap()
}

#[test]
fn stdout_is_the_text_alone() {
    let report: Value = generate("--max-new-tokens 16 --json").json();
    let text = report["text"].as_str().unwrap();
    assert!(!text.is_empty());
    assert_eq!(generate("--max-new-tokens 16").done(), format!("{text}\n"));
    assert_eq!(report["prompt"], "The");
}

#[test]
fn greedy_choice_is_always_the_same() {
    assert_eq!(tokens("--max-new-tokens 16"), tokens("--max-new-tokens 16 --seed 9"));
}

#[test]
fn sampling_follows_the_seed() {
    let sample = |seed: u64| tokens(&format!("--max-new-tokens 24 --temperature 1 --seed {seed}"));
    assert_eq!(sample(1), sample(1));
    assert_ne!(sample(1), sample(2));
}

#[test]
fn no_more_tokens_come_than_asked_for() {
    let end_of_text = 2;
    let many = tokens("--max-new-tokens 12");
    for asked in [0, 1, 5, 12] {
        let some = tokens(&format!("--max-new-tokens {asked}"));
        assert!(some.len() == asked || some.last() == Some(&end_of_text), "{asked}: {some:?}");
        assert_eq!(some, many[..some.len()], "greedy text only grows");
    }
}

#[test]
fn narrow_sampling_is_greedy_and_a_penalty_is_felt() {
    let greedy = tokens("--max-new-tokens 16");
    assert_eq!(tokens("--max-new-tokens 16 --temperature 1 --top-k 1 --seed 3"), greedy);
    assert_eq!(tokens("--max-new-tokens 16 --temperature 1 --top-p 0.000001 --seed 3"), greedy);
    let penalised = tokens("--max-new-tokens 16 --repetition-penalty 1000");
    let distinct: std::collections::BTreeSet<_> = penalised.iter().collect();
    assert_eq!(distinct.len(), penalised.len(), "no token twice: {penalised:?}");
}

#[test]
fn a_dense_model_and_pruning_do_as_well() {
    let dense = ask("generate", Path::new(DEMO), "--prompt The --max-new-tokens 8 --json").json();
    assert!(!dense["text"].as_str().unwrap().is_empty());
    let pruned = generate("--max-new-tokens 16 --prune --json").json();
    assert!(pruned["pruned_fraction"].as_f64().unwrap() > 0.0, "{pruned}");
}
