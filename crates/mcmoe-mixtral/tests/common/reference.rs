//! What an independent implementation computed for the reference prompts, against a model on any device.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use mcmoe_mixtral::folder::ModelFolder;
use mcmoe_mixtral::generate::{GenerateOptions, generate};
use mcmoe_mixtral::{PackedOps, Precision, Tokenizer};
use safetensors::SafeTensors;

use super::weights::elements;
use super::{fixture, host, ids, json, max_difference, numbers};

/// Largest difference allowed in any logit or hidden state.
const TOLERANCE: f64 = 2e-3;
/// Where the reference's two best logits are closer than this, rounding may choose either.
const CLEAR_MARGIN: f64 = 1e-2;

/// Logits, hidden states and router logits of the reference prompt.
pub(crate) fn compare_forward<B: PackedOps>(name: &str, device: &B::Device) {
    let (Some(model), Some(reference)) = (fixture(name), fixture(&format!("{name}-reference"))) else {
        return;
    };
    let (prompt, expected) = read_reference(&reference.join("logits.safetensors"));
    let model = ModelFolder::open(&model).unwrap().model::<B>(device).unwrap();
    let (logits, trace) = model.forward_traced(&[&prompt]).unwrap();
    let mut found = BTreeMap::from([
        ("logits".to_owned(), host(logits)),
        ("hidden_states.embed".to_owned(), trace.hidden_states[0].clone()),
        ("hidden_states.final_norm".to_owned(), trace.final_norm),
    ]);
    for (layer, hidden) in trace.hidden_states[1..].iter().enumerate() {
        found.insert(format!("hidden_states.layer{layer}"), hidden.clone());
    }
    for (layer, logits) in trace.router_logits.iter().enumerate() {
        found.insert(format!("router_logits.{layer}"), logits.clone());
    }
    assert!(found.keys().eq(expected.keys()), "{:?} instead of {:?}", found.keys(), expected.keys());
    for (part, expected) in &expected {
        let difference = max_difference(&found[part], expected);
        println!("{name} {part}: {difference:.1e}");
        assert!(difference <= TOLERANCE, "{name} {part}: {difference}");
    }
}

/// The prompt and every float tensor of a reference file.
fn read_reference(path: &Path) -> (Vec<u32>, BTreeMap<String, Vec<f32>>) {
    let bytes = fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let prompt = tensors.tensor("input_ids").unwrap();
    let prompt =
        prompt.data().chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().unwrap()) as u32).collect();
    let floats = tensors.iter().filter(|(name, _)| *name != "input_ids");
    (prompt, floats.map(|(name, view)| (name.to_owned(), elements(&view))).collect())
}

/// Greedy continuations of the first `prompts` reference prompts.
pub(crate) fn compare_continuations<B: PackedOps>(name: &str, prompts: usize, device: &B::Device) {
    let (Some(dir), Some(reference)) = (fixture(name), fixture(&format!("{name}-reference"))) else { return };
    let model = ModelFolder::open(&dir)
        .unwrap()
        .model_with::<B>(Precision::F32, std::slice::from_ref(device))
        .unwrap();
    let tokenizer = Tokenizer::read(&dir).unwrap();
    let generated = json(reference.join("generate.json"));
    for prompt in generated["prompts"].as_array().unwrap().iter().take(prompts) {
        let expected = ids(&prompt["new_ids"]);
        let options = GenerateOptions::default().max_new_tokens(expected.len());
        let mut emitted = String::new();
        let mut emit = |piece: &str| {
            emitted.push_str(piece);
            ControlFlow::Continue(())
        };
        let found = generate(&model, &tokenizer, &ids(&prompt["prompt_ids"]), &options, &mut emit).unwrap();
        let margins = numbers(&prompt["top1_minus_top2_logit"]);
        let clear = margins.iter().position(|&margin| margin < CLEAR_MARGIN).unwrap_or(expected.len());
        let same = found.tokens.iter().zip(&expected).take_while(|(a, b)| a == b).count();
        println!(
            "{name} {}: {same} of {} tokens the same, {clear} have to be",
            prompt["prompt"],
            expected.len()
        );
        assert_eq!(found.tokens[..clear], expected[..clear], "{name} {}", prompt["prompt"]);
        assert_eq!(found.text, emitted);
        if same == expected.len() {
            assert_eq!(found.text, prompt["continuation"].as_str().unwrap());
        }
    }
}
