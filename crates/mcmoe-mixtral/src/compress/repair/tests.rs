use burn::tensor::Tensor;
use mcmoe_quant::DenseType;

use super::Repair;
use super::block::{Block, Tunable, dense};
use super::tune::{Sample, Tuner};
use crate::CpuBackend as B;
use crate::MixtralConfig;
use crate::model::{
    Attention, DecoderLayer, Expert, Linear, MoeBlock, RmsNorm, Rope, Router, from_host, to_host,
};
use crate::random::Xorshift;
use crate::synthetic::Shape;

/// Tokens of a sample.
const LEN: usize = 24;
const MATRICES: usize = 4 + 3 * 4;
const ALL: Repair = Repair { routers: true, norms: true, scales: true };

/// Uniformly distributed around `mean`.
fn random(random: &mut Xorshift, shape: [usize; 2], mean: f32, spread: f32) -> Tensor<B, 2> {
    let mut value = || mean + spread * ((random.next() >> 40) as f32 / (1 << 23) as f32 - 1.0);
    from_host((0..shape[0] * shape[1]).map(|_| value()).collect(), shape, &Default::default())
}

fn config() -> MixtralConfig {
    let mut config = Shape::Mixtral8x7b.config();
    (config.hidden_size, config.intermediate_size, config.num_local_experts) = (32, 48, 4);
    (config.num_attention_heads, config.num_key_value_heads, config.head_dim) = (4, 2, 8);
    config
}

/// A layer of random weights.
fn layer(seed: u64) -> DecoderLayer<B> {
    let mut seed = Xorshift::new(seed);
    let mut linear =
        |rows, cols| Linear::Dense(random(&mut seed, [rows, cols], 0.0, (6.0 / cols as f32).sqrt()));
    let projections = [linear(32, 32), linear(16, 32), linear(16, 32), linear(32, 32)];
    let experts = (0..4).map(|_| Expert { w1: linear(48, 32), w2: linear(32, 48), w3: linear(48, 32) });
    let (experts, gate) = (experts.collect(), linear(4, 32));
    let mut norm = || RmsNorm::new(random(&mut seed, [1, 32], 1.0, 0.3).squeeze_dim(0), 1e-5);
    DecoderLayer {
        input_norm: norm(),
        attention: Attention::new(projections, &config()),
        post_attention_norm: norm(),
        moe: MoeBlock::new(Router { gate, top_k: 2 }, experts, &Default::default()),
    }
}

/// What `layer` makes of random samples.
fn samples(layer: &DecoderLayer<B>, count: u64) -> Vec<Sample<B>> {
    let angles = Rope::new(8, 1e4).angles(0..LEN, &Default::default());
    let sample = |seed| {
        let hidden = random(&mut Xorshift::new(seed), [LEN, 32], 0.0, 2.0);
        let passed = layer.forward_alone(0, hidden.clone(), &angles);
        let log_router = burn::tensor::activation::log_softmax(passed.router_logits, 1);
        Sample { hidden, output: passed.hidden, log_router }
    };
    (100..100 + count).map(sample).collect()
}

fn tuner(layer: &DecoderLayer<B>, start: Tunable<Tensor<B, 2>>, repair: Repair) -> Tuner<B> {
    let angles = Rope::new(8, 1e4).angles(0..LEN, &Default::default());
    let types =
        Tunable { norms: [DenseType::F32; 2], gate: DenseType::F32, rows: vec![DenseType::F32; MATRICES] };
    Tuner { block: Block::new(layer, angles, &config()), start, types, repair, at_once: 3 }
}

/// What can be tuned, as it is in `layer`.
fn start(layer: &DecoderLayer<B>) -> Tunable<Tensor<B, 2>> {
    let norms = [&layer.input_norm, &layer.post_attention_norm].map(|n| n.weight().clone().unsqueeze());
    let attention = [32, 16, 16, 32].into_iter();
    let rows = attention.chain((0..4).flat_map(|_| [48, 32, 48]));
    let rows = rows.map(|rows| Tensor::ones([1, rows], &Default::default())).collect();
    Tunable { norms, gate: dense(&layer.moe.router.gate), rows }
}

/// Everything times random factors between `1 - spread` and `1 + spread`.
fn disturbed(tunable: Tunable<Tensor<B, 2>>, spread: f32) -> Tunable<Tensor<B, 2>> {
    let mut seed = Xorshift::new(9);
    tunable.map(|tensor| tensor.clone() * random(&mut seed, tensor.dims(), 1.0, spread))
}

#[test]
fn the_block_is_the_layer() {
    let layer = layer(1);
    let [before, after] = tuner(&layer, start(&layer), ALL).run(&samples(&layer, 3)).1;
    // Mean squares, of outputs of about unit size.
    for distance in [before, after] {
        assert!(distance.router.unwrap().abs() < 1e-6, "{distance:?}");
        assert!(distance.output.unwrap() < 1e-9, "{distance:?}");
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let (one, other) = (layer(1), layer(2));
    let samples = samples(&other, 1);
    let tuner = tuner(&one, start(&one), ALL);
    let before = tuner.distance(&tuner.start, &samples);
    let parameters = tuner.parameters();
    let gradients = tuner.gradients(&parameters, &before, &samples);
    assert_eq!(gradients.len(), 3 + MATRICES);
    // Along each gradient, alone.
    for (which, gradient) in gradients.into_iter().enumerate() {
        let gradient = gradient.expect("everything is tuned");
        let square: f32 = to_host(gradient.clone()).iter().map(|g| g * g).sum();
        let step = 0.01 / square.sqrt();
        let moved = |sign: f32| {
            let mut parameters = tuner.parameters();
            let steps = &mut parameters[which].steps;
            *steps = steps.take().map(|steps| steps + gradient.clone().mul_scalar(sign * step));
            let mut values = parameters.iter();
            let tunable = tuner.types.as_ref().map(|&dtype| values.next().unwrap().stored(dtype));
            tuner.distance(&tunable, &samples).relative_to(&before)
        };
        let (found, expected) = (moved(1.0) - moved(-1.0), f64::from(2.0 * step * square));
        assert!((found / expected - 1.0).abs() < 0.05, "{which}: {found} for {expected}");
    }
}

#[test]
fn what_was_disturbed_comes_back() {
    let layer = layer(1);
    let samples = samples(&layer, 25);
    let start = disturbed(start(&layer), 0.05);
    for (repair, least) in [
        (Repair { routers: true, ..Repair::default() }, 0.7),
        (Repair { norms: true, ..Repair::default() }, 0.9),
        (Repair { scales: true, ..Repair::default() }, 0.9),
        (ALL, 0.9),
    ] {
        let (tuned, [before, after]) = tuner(&layer, start.clone(), repair).run(&samples);
        assert!(tuned.is_some());
        for (before, after) in [(before.router, after.router), (before.output, after.output)] {
            assert!(
                after.is_none_or(|after| after < least * before.unwrap()),
                "{repair:?}: {before:?} {after:?}"
            );
        }
        assert_eq!(before.router.is_some(), repair.routers);
        assert_eq!(before.output.is_some(), repair.norms || repair.scales);
    }
}

#[test]
fn nothing_changes_where_no_sample_is_left_to_tune_on() {
    let layer = layer(1);
    let start = disturbed(start(&layer), 0.05);
    let (tuned, [before, after]) = tuner(&layer, start, ALL).run(&samples(&layer, 1));
    assert!(tuned.is_none());
    assert_eq!((before.router, before.output), (after.router, after.output));
}
