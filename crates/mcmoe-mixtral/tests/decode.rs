//! Decoding through the KV cache gives what one pass over the whole text gives.

mod common;

use std::ops::Range;
use std::sync::OnceLock;

use common::compression::data_free;
use common::weights::Weights;
use common::{demo, demo_tokens, host, load, logits, max_difference};
use mcmoe_mixtral::CpuBackend;
use mcmoe_mixtral::model::{Activations, KvCache, Mixtral, Pruning};
use serde_json::json;
use tempfile::TempDir;

const TOLERANCE: f64 = 1e-4;
/// Uneven steps; the cache's room grows on the way.
const CHUNKS: [usize; 6] = [3, 1, 40, 7, 70, 19];
const WINDOW: usize = 16;

#[test]
fn one_token_at_a_time() {
    for (name, mut model) in models() {
        for pruning in prunings() {
            model.set_pruning(pruning.clone()).unwrap();
            let tokens = demo_tokens(0, 64);
            compare(&model, &[&tokens], &[1; 64], &format!("{name}, {pruning:?}"));
        }
    }
}

#[test]
fn uneven_chunks() {
    for (name, mut model) in models() {
        for pruning in prunings() {
            model.set_pruning(pruning.clone()).unwrap();
            let tokens = demo_tokens(64, CHUNKS.iter().sum());
            compare(&model, &[&tokens], &CHUNKS, &format!("{name}, {pruning:?}"));
        }
    }
}

#[test]
fn a_batch_decodes_as_each_of_its_sequences() {
    let rows = [0, 300, 600].map(|start| demo_tokens(start, 40));
    let batch: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    for (name, mut model) in models() {
        for pruning in prunings() {
            model.set_pruning(pruning.clone()).unwrap();
            let alone: Vec<f32> = batch.iter().flat_map(|row| logits(&model, &[row])).collect();
            let difference = max_difference(&logits(&model, &batch), &alone);
            println!("{name}, {pruning:?}: a batch is off by {difference:.1e}");
            assert!(difference <= TOLERANCE, "{name}, {pruning:?}: {difference}");
            compare(&model, &batch, &[17, 1, 1, 20, 1], &format!("batch, {name}, {pruning:?}"));
        }
    }
}

/// `forward_last` is the last row of `forward`, on a cache as well.
#[test]
fn only_the_last_logits_on_request() {
    let model = load(&demo());
    let rows = [demo_tokens(0, 30), demo_tokens(90, 30)];
    let all = logits(&model, &[&rows[0], &rows[1]]);
    let vocab = model.config().vocab_size;
    let expected: Vec<f32> =
        all.chunks(30 * vocab).flat_map(|logits| &logits[29 * vocab..]).copied().collect();
    let mut cache = model.new_cache();
    model.forward_last(&[&rows[0][..20], &rows[1][..20]], &mut cache).unwrap();
    let last = model.forward_last(&[&rows[0][20..], &rows[1][20..]], &mut cache).unwrap();
    assert_eq!(last.dims(), [2, 1, vocab]);
    assert!(max_difference(&host(last), &expected) <= TOLERANCE);
    let activations = model.take_activations(&mut cache);
    assert_eq!(activations.total, (2 * 30 * 2 * model.config().num_hidden_layers) as u64);
}

#[test]
fn the_cache_of_another_batch_or_model_is_refused() {
    let (model, tokens) = (load(&demo()), demo_tokens(0, 4));
    let mut two = model.new_cache();
    model.forward(&[&tokens, &tokens], &mut two).unwrap();
    for mut cache in [two, KvCache::new(1)] {
        let error = model.forward(&[&tokens], &mut cache).unwrap_err().to_string();
        assert!(error.contains("cache"), "{error}");
    }
}

#[test]
fn a_sliding_window_decodes_as_one_pass() {
    let model = windowed(Weights::read(&demo()));
    let tokens = demo_tokens(64, CHUNKS.iter().sum());
    compare(&model, &[&tokens], &CHUNKS, "window, chunks");
    compare(&model, &[&tokens[..64]], &[1; 64], "window, single tokens");
}

/// The last token of one layer sees exactly the window's tokens.
#[test]
fn one_layer_sees_its_window() {
    let one = Weights::read(&demo()).first_layers(1);
    let (windowed, full) = (windowed(one.clone()), load(one.folder().path()));
    let edge = 64 - WINDOW;
    let beyond = [effect_of_change(&windowed, edge - 1..edge), effect_of_change(&windowed, 0..edge)];
    let (within, unlimited) =
        (effect_of_change(&windowed, edge..edge + 1), effect_of_change(&full, edge - 1..edge));
    println!("beyond the window {beyond:?}, at its edge {within:.1e}, without a window {unlimited:.1e}");
    assert!(beyond.iter().all(|effect| *effect <= 1e-5), "{beyond:?}");
    assert!(within > 1e-3 && unlimited > 1e-3, "{within}, {unlimited}");
}

/// Each layer looks back `WINDOW - 1` positions, so three of them reach back three times as far.
#[test]
fn tokens_beyond_the_reach_of_all_windows_do_not_matter() {
    let (windowed, full) = (windowed(Weights::read(&demo())), load(&demo()));
    let edge = 63 - full.config().num_hidden_layers * (WINDOW - 1);
    let (beyond, unlimited) = (effect_of_change(&windowed, 0..edge), effect_of_change(&full, 0..edge));
    // Twice the window back, tokens still matter through the layers between.
    let through_layers = effect_of_change(&windowed, edge..64 - 2 * WINDOW);
    println!(
        "beyond the reach {beyond:.1e}, before two windows {through_layers:.1e}, without a window {unlimited:.1e}"
    );
    assert!(beyond <= 1e-5, "{beyond}");
    assert!(through_layers > 1e-3 && unlimited > 1e-2, "{through_layers}, {unlimited}");
}

/// How far the last logits of a 64-token prompt move when the tokens of `range` are others.
fn effect_of_change(model: &Mixtral<CpuBackend>, range: Range<usize>) -> f64 {
    let tokens = demo_tokens(0, 64);
    let mut changed = tokens.clone();
    changed[range].iter_mut().for_each(|token| *token = (*token + 500) % 2000);
    let last = |tokens: &[u32]| host(model.forward_last(&[tokens], &mut model.new_cache()).unwrap());
    max_difference(&last(&changed), &last(&tokens))
}

/// Every position's logits from steps of `chunks` tokens, against one pass over all of them.
fn compare(model: &Mixtral<CpuBackend>, rows: &[&[u32]], chunks: &[usize], what: &str) {
    let len = rows[0].len();
    assert_eq!(chunks.iter().sum::<usize>(), len);
    let mut cache = model.new_cache();
    let expected = host(model.forward(rows, &mut cache).unwrap());
    let expected_activations = model.take_activations(&mut cache);
    let vocab = model.config().vocab_size;

    let mut cache = model.new_cache();
    let (mut start, mut worst) = (0, 0.0_f64);
    for &chunk in chunks {
        assert_eq!(cache.len(), start);
        let step: Vec<&[u32]> = rows.iter().map(|row| &row[start..start + chunk]).collect();
        let found = host(model.forward(&step, &mut cache).unwrap());
        for (row, found) in found.chunks(chunk * vocab).enumerate() {
            let expected = &expected[(row * len + start) * vocab..][..chunk * vocab];
            worst = worst.max(max_difference(found, expected));
        }
        start += chunk;
    }
    let activations = model.take_activations(&mut cache);
    println!("{what}: off by {worst:.1e}, {activations:?}");
    assert!(worst <= TOLERANCE, "{what}: {worst}");
    let counts = |activations: &Activations| (activations.total, activations.pruned);
    assert_eq!(counts(&activations), counts(&expected_activations), "{what}");
    assert!(activations.expert_bytes >= expected_activations.expert_bytes, "{what}: one pass reads less");
}

/// The demo model, dense and compressed.
fn models() -> [(&'static str, Mixtral<CpuBackend>); 2] {
    static PACKED: OnceLock<TempDir> = OnceLock::new();
    let packed = PACKED.get_or_init(|| data_free(2));
    [("dense", load(&demo())), ("packed", load(packed.path()))]
}

fn prunings() -> [Option<Pruning>; 2] {
    [None, Some(Pruning::new(vec![0.5, 0.35, 0.6]))]
}

fn windowed(mut weights: Weights) -> Mixtral<CpuBackend> {
    weights.config["sliding_window"] = json!(WINDOW);
    load(weights.folder().path())
}
