//! The whole forward pass, with and without dynamic pruning, against plain loops in `f64`.

mod common;

use common::oracle::{Oracle, OraclePruning, Run};
use common::weights::Weights;
use common::{demo, demo_tokens, host, load};
use mcmoe_mixtral::CpuBackend;
use mcmoe_mixtral::model::{Activations, Mixtral, Pruning};

const TOLERANCE: f64 = 2e-3;
/// Decisions that are closer than this could go either way in `f32`.
const CLEAR: f64 = 1e-5;
const THRESHOLDS: [f32; 3] = [0.55, 0.4, 0.6];

#[test]
fn without_pruning() {
    compare(&Weights::read(&demo()), &[&demo_tokens(0, 100)], None);
}

#[test]
fn beyond_a_tile_of_queries() {
    compare(&Weights::read(&demo()), &[&demo_tokens(100, 300)], None);
}

#[test]
fn a_batch_of_two() {
    let rows = [demo_tokens(3, 70), demo_tokens(500, 70)];
    compare(&Weights::read(&demo()), &[&rows[0], &rows[1]], None);
}

#[test]
fn with_a_sliding_window() {
    let mut weights = Weights::read(&demo());
    weights.config["sliding_window"] = 24.into();
    compare(&weights, &[&demo_tokens(40, 80)], None);
    compare(&weights, &[&demo_tokens(1300, 280)], Some(0.1));
}

#[test]
fn thresholds_alone() {
    compare(&Weights::read(&demo()), &[&demo_tokens(0, 100)], Some(0.0));
}

#[test]
fn protected_shares() {
    for share in [0.02, 0.07, 0.3] {
        compare(&Weights::read(&demo()), &[&demo_tokens(200, 90)], Some(share));
    }
}

#[test]
fn protected_tokens_beyond_a_tile_of_queries() {
    compare(&Weights::read(&demo()), &[&demo_tokens(1000, 390)], Some(0.02));
}

#[test]
fn protected_tokens_of_each_sequence_of_a_batch() {
    let rows = [demo_tokens(900, 270), demo_tokens(2000, 270)];
    compare(&Weights::read(&demo()), &[&rows[0], &rows[1]], Some(0.05));
}

/// With thresholds of 1 every token that is not protected loses its second expert, so the number of
/// prunings tells the number of protected tokens.
#[test]
fn the_protected_share_is_rounded_up_to_whole_tokens() {
    let mut model = load(&demo());
    let tokens = demo_tokens(0, 101);
    let layers = model.config().num_hidden_layers;
    for (percent, len) in
        [(2, 50), (2, 51), (2, 100), (2, 101), (7, 100), (10, 30), (30, 10), (29, 100), (100, 9)]
    {
        let pruning = Pruning::new(vec![1.0; layers]).protect(percent as f32 / 100.0);
        model.set_pruning(Some(pruning)).unwrap();
        let (_, activations) = run(&model, &[&tokens[..len]]);
        let kept = (percent * len).div_ceil(100);
        assert_eq!(activations.pruned, (layers * (len - kept)) as u64, "{percent} % of {len} tokens");
        assert_eq!(activations.total, (layers * len * 2) as u64);
    }
}

/// Compares the library with the oracle; `protect` switches pruning on.
fn compare(weights: &Weights, rows: &[&[u32]], protect: Option<f32>) {
    let folder = weights.folder();
    let mut model = load(folder.path());
    let pruning = protect.map(|share| Pruning::new(THRESHOLDS.to_vec()).protect(share));
    model.set_pruning(pruning).unwrap();
    let (logits, activations) = run(&model, rows);

    let pruning = protect.map(|share| OraclePruning {
        thresholds: THRESHOLDS.map(f64::from).to_vec(),
        protect: f64::from(share),
    });
    let oracle = Oracle::new(weights);
    let runs: Vec<Run> = rows.iter().map(|row| oracle.forward(row, pruning.as_ref())).collect();
    let closest = runs.iter().map(|run| run.closest).fold(f64::INFINITY, f64::min);
    assert!(closest > CLEAR, "a decision of this prompt hangs on {closest}; take another prompt");

    let pruned: u64 = runs.iter().map(|run| run.pruned).sum();
    let total = (rows.len() * rows[0].len() * 2 * model.config().num_hidden_layers) as u64;
    assert_eq!((activations.pruned, activations.total), (pruned, total));
    assert!((activations.pruned_fraction() - pruned as f64 / total as f64).abs() < 1e-12);
    assert_eq!(pruned > 0, protect.is_some());
    let expected = runs.iter().flat_map(|run| run.logits.concat());
    let difference = expected.zip(&logits).map(|(e, f)| (e - f64::from(*f)).abs()).fold(0.0, f64::max);
    assert_eq!(logits.len(), rows.len() * rows[0].len() * model.config().vocab_size);
    assert!(logits.iter().all(|logit| logit.is_finite()));
    println!(
        "{rows} × {len} tokens, protect {protect:?}: off by {difference:.1e}, pruned {pruned}, closest {closest:.0e}",
        rows = rows.len(),
        len = rows[0].len()
    );
    assert!(difference <= TOLERANCE, "{difference}");
}

fn run(model: &Mixtral<CpuBackend>, rows: &[&[u32]]) -> (Vec<f32>, Activations) {
    let mut cache = model.new_cache();
    let logits = model.forward(rows, &mut cache).unwrap();
    (host(logits), model.take_activations(&mut cache))
}
