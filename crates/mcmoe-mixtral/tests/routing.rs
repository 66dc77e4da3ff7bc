//! Statistics of the router: against an independent implementation, and recomputed from its logits.

mod common;

use std::fs;
use std::path::Path;

use common::{demo, demo_tokens, fixture, json, load, numbers};
use mcmoe_mixtral::calibrate::{FactorOptions, collect_factors};
use mcmoe_mixtral::folder::ModelFolder;
use mcmoe_mixtral::{CpuBackend, Factors, Silent, Tokenizer};
use serde_json::Value;

const WINDOW: usize = 256;
const EXPERTS: usize = 8;

#[test]
fn factors_count_what_the_router_logits_say() {
    let windows: Vec<Vec<u32>> = demo_tokens(0, 4 * 64).chunks(64).map(<[u32]>::to_vec).collect();
    let factors = routing_factors(&demo(), &windows);
    let statistics = statistics(&demo(), &windows);
    for (layer, expected) in statistics.iter().enumerate() {
        assert_eq!(factors.frequency[layer], expected.top2_count, "layer {layer}");
        for (found, expected) in factors.weight[layer].iter().zip(&expected.probability) {
            assert!((found - expected).abs() < 1e-4, "layer {layer}: {found} instead of {expected}");
        }
        let (found, expected) = (factors.ratio_median.as_ref().unwrap()[layer], expected.quantile(0.5));
        assert!((found - expected).abs() < 1e-6, "layer {layer}: {found} instead of {expected}");
    }
}

#[test]
#[ignore = "slow: runs 409,344 tokens through tiny-mixtral"]
fn factors_of_the_whole_text_of_tiny_mixtral() {
    compare_factors("tiny-mixtral");
}

#[test]
#[ignore = "slow: runs 409,344 tokens through demo-mixtral"]
fn factors_of_the_whole_text_of_demo_mixtral() {
    compare_factors("demo-mixtral");
}

#[test]
#[ignore = "slow: runs 409,344 tokens through tiny-mixtral"]
fn router_logits_of_the_whole_text() {
    let Some((layers, windows)) = reference("tiny-mixtral") else { return };
    let found = statistics(&fixture("tiny-mixtral").unwrap(), &windows);
    assert_eq!(found.len(), layers.len());
    for (found, expected) in found.iter().zip(&layers) {
        assert_counts(&found.top2_count, &numbers(&expected["top2_count"]));
        assert_counts(&found.top1_count, &numbers(&expected["top1_count"]));
        for (found, expected) in found.renormalised.iter().zip(numbers(&expected["sum_renormalised_weight"]))
        {
            assert!((found / expected - 1.0).abs() < 1e-4, "{found} instead of {expected}");
        }
        for (share, expected) in expected["w2_over_w1_quantiles"].as_object().unwrap() {
            let (found, expected) = (found.quantile(share.parse().unwrap()), expected.as_f64().unwrap());
            println!("quantile {share}: {found:.6} for {expected:.6}");
            assert!((found - expected).abs() < 1e-3, "quantile {share}: {found} instead of {expected}");
        }
    }
}

fn compare_factors(name: &str) {
    let Some((layers, windows)) = reference(name) else { return };
    let found = routing_factors(&fixture(name).unwrap(), &windows);
    let medians = found.ratio_median.unwrap();
    assert_eq!((found.frequency.len(), medians.len()), (layers.len(), layers.len()));
    for ((expected, frequency), median) in layers.iter().zip(&found.frequency).zip(medians) {
        assert_counts(frequency, &numbers(&expected["top2_count"]));
        let expected = expected["w2_over_w1_quantiles"]["0.5"].as_f64().unwrap();
        println!("{name}: median {median:.6} for {expected:.6}");
        assert!((median - expected).abs() < 1e-3, "{median} instead of {expected}");
    }
}

/// Counts agree to 0.01 %: rounding may tip a token between two experts of equal weight.
fn assert_counts(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    println!("{found:?} for {expected:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found / expected - 1.0).abs() <= 1e-4, "{found} instead of {expected}");
    }
}

/// What the reference says of each layer, and the windows that it ran.
fn reference(name: &str) -> Option<(Vec<Value>, Vec<Vec<u32>>)> {
    let expected = json(fixture(&format!("{name}-reference"))?.join("routing.json"));
    let text = fs::read_to_string(fixture("wikitext-2/test.txt")?).unwrap();
    let tokens = Tokenizer::read(&fixture(name)?).unwrap().encode(&text).unwrap();
    let windows: Vec<Vec<u32>> = tokens.chunks_exact(WINDOW).map(<[u32]>::to_vec).collect();
    assert_eq!(expected["tokens_per_layer"].as_u64(), Some((windows.len() * WINDOW) as u64));
    Some((expected["layers"].as_array().unwrap().clone(), windows))
}

fn routing_factors(dir: &Path, windows: &[Vec<u32>]) -> Factors {
    let folder = ModelFolder::open(dir).unwrap();
    let options = FactorOptions::default().bits(vec![]);
    collect_factors::<CpuBackend>(&folder.source(), windows, &options, &Default::default(), &Silent).unwrap()
}

/// One layer's routing, counted from router logits.
#[derive(Clone, Default)]
struct Statistics {
    top1_count: Vec<f64>,
    top2_count: Vec<f64>,
    /// Sums of softmax probabilities of the chosen experts.
    probability: Vec<f64>,
    /// The same after renormalising.
    renormalised: Vec<f64>,
    /// Second over first probability.
    ratios: Vec<f64>,
}

fn statistics(dir: &Path, windows: &[Vec<u32>]) -> Vec<Statistics> {
    let model = load(dir);
    let zeros = || vec![0.0; EXPERTS];
    let empty = Statistics {
        top1_count: zeros(),
        top2_count: zeros(),
        probability: zeros(),
        renormalised: zeros(),
        ratios: vec![],
    };
    let mut layers = vec![empty; model.config().num_hidden_layers];
    for batch in windows.chunks(8) {
        let rows: Vec<&[u32]> = batch.iter().map(Vec::as_slice).collect();
        let (_, trace) = model.forward_traced(&rows).unwrap();
        for (layer, logits) in layers.iter_mut().zip(&trace.router_logits) {
            logits.chunks_exact(EXPERTS).for_each(|logits| layer.count(logits));
        }
    }
    layers.iter_mut().for_each(|layer| layer.ratios.sort_by(f64::total_cmp));
    layers
}

impl Statistics {
    fn count(&mut self, logits: &[f32]) {
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        let exps: Vec<f64> = logits.iter().map(|&logit| f64::from(logit).exp()).collect();
        let (total, chosen) = (exps.iter().sum::<f64>(), exps[order[0]] + exps[order[1]]);
        self.top1_count[order[0]] += 1.0;
        for &expert in &order[..2] {
            self.top2_count[expert] += 1.0;
            self.probability[expert] += exps[expert] / total;
            self.renormalised[expert] += exps[expert] / chosen;
        }
        self.ratios.push(exps[order[1]] / exps[order[0]]);
    }

    /// The quantile of the sorted ratios, interpolated between neighbours.
    fn quantile(&self, share: f64) -> f64 {
        let place = share * (self.ratios.len() - 1) as f64;
        let (below, above) = (self.ratios[place.floor() as usize], self.ratios[place.ceil() as usize]);
        below + (above - below) * place.fract()
    }
}
