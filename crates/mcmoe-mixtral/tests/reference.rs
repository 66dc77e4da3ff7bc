//! What an independent implementation computed for the reference prompts.

mod common;

use common::reference::{compare_continuations, compare_forward};
use common::{fixture, ids, json};
use mcmoe_mixtral::{CpuBackend, Tokenizer};

#[test]
fn logits_and_hidden_states_of_tiny_mixtral() {
    compare_forward::<CpuBackend>("tiny-mixtral", &Default::default());
}

#[test]
fn logits_and_hidden_states_of_demo_mixtral() {
    compare_forward::<CpuBackend>("demo-mixtral", &Default::default());
}

#[test]
fn greedy_continuations_of_tiny_mixtral() {
    compare_continuations::<CpuBackend>("tiny-mixtral", usize::MAX, &Default::default());
}

#[test]
fn greedy_continuations_of_demo_mixtral() {
    compare_continuations::<CpuBackend>("demo-mixtral", usize::MAX, &Default::default());
}

#[test]
fn token_ids_of_the_prompts() {
    for name in ["tiny-mixtral", "demo-mixtral"] {
        let (Some(model), Some(reference)) = (fixture(name), fixture(&format!("{name}-reference"))) else {
            return;
        };
        let tokenizer = Tokenizer::read(&model).unwrap();
        let prompt = json(reference.join("prompt.json"));
        assert_eq!(tokenizer.encode(prompt["text"].as_str().unwrap()).unwrap(), ids(&prompt["input_ids"]));
        let generated = json(reference.join("generate.json"));
        for prompt in generated["prompts"].as_array().unwrap() {
            let found = tokenizer.encode(prompt["prompt"].as_str().unwrap()).unwrap();
            assert_eq!(found, ids(&prompt["prompt_ids"]), "{}", prompt["prompt"]);
        }
    }
}
