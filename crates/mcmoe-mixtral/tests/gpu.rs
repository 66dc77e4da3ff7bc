//! The model on a graphics card, against what an independent implementation computed. A software driver will
//! do (`mesa-vulkan-drivers`); without any, tests say so and pass.

mod common;

use burn::tensor::backend::BackendTypes;
use common::reference::{compare_continuations, compare_forward};
use common::{demo, demo_tokens, host, load, max_difference};
use mcmoe_mixtral::folder::ModelFolder;
use mcmoe_mixtral::model::Pruning;
use mcmoe_mixtral::{Precision, WgpuBackend};

type Card = <WgpuBackend as BackendTypes>::Device;

/// The first card.
fn card() -> Option<Card> {
    let found = mcmoe_mixtral::wgpu_device(0);
    found.inspect_err(|error| eprintln!("SKIPPED: no graphics card here: {error}")).ok()
}

#[test]
fn the_reference_logits() {
    let Some(card) = card() else { return };
    compare_forward::<WgpuBackend>("tiny-mixtral", &card);
    compare_forward::<WgpuBackend>("demo-mixtral", &card);
}

#[test]
fn the_reference_text() {
    let Some(card) = card() else { return };
    compare_continuations::<WgpuBackend>("tiny-mixtral", 1, &card);
}

/// Pruning with protected tokens, a cache that grows, and layers on two devices.
#[test]
fn the_same_as_on_the_cpu() {
    let Some(card) = card() else { return };
    let folder = ModelFolder::open(&demo()).unwrap();
    // The same card by another name is a device of its own.
    let devices = [card, Card::DefaultDevice];
    let mut model = folder.model_with::<WgpuBackend>(Precision::F32, &devices).unwrap();
    let mut here = load(&demo());
    let pruning = Pruning::new(vec![0.6; model.config().num_hidden_layers]).protect(0.1);
    model.set_pruning(Some(pruning.clone())).unwrap();
    here.set_pruning(Some(pruning)).unwrap();
    let tokens = demo_tokens(0, 70);
    let (mut cache, mut cache_here) = (model.new_cache(), here.new_cache());
    for step in [0..64, 64..65, 65..66, 66..70] {
        let found = host(model.forward(&[&tokens[step.clone()]], &mut cache).unwrap());
        let expected = host(here.forward(&[&tokens[step.clone()]], &mut cache_here).unwrap());
        let off = max_difference(&found, &expected);
        assert!(off < 1e-3, "tokens {step:?}: off by {off}");
    }
    let found = model.take_activations(&mut cache);
    assert_eq!(found, here.take_activations(&mut cache_here));
    assert!(found.pruned > 0 && found.total == 2 * 70 * model.config().num_hidden_layers as u64, "{found:?}");
}
