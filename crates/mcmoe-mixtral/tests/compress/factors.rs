//! Quantization losses of single experts, against the outputs of a model with that expert rounded.

use std::sync::OnceLock;

use half::f16;
use mcmoe_mixtral::calibrate::{FactorOptions, collect_factors};
use mcmoe_mixtral::folder::ModelFolder;
use mcmoe_mixtral::{CpuBackend, Factors, Method, Silent};
use mcmoe_quant::{Matrix, QuantOptions, quantize};

use super::common::weights::Weights;
use super::common::{demo, demo_tokens, load};
use super::expert_matrices;

const GROUP: usize = 64;

/// One bit is the sign of a weight times the mean magnitude of its group.
#[test]
fn losses_at_one_bit() {
    let binary = |_: &[usize], values: &[f32]| -> Vec<f32> {
        let group = |group: &[f32]| {
            let mean = group.iter().map(|v| f64::from(v.abs())).sum::<f64>() / group.len() as f64;
            let level = f16::from_f64(2.0 * mean).to_f32() / 2.0;
            group.iter().map(|v| if *v >= 0.0 { level } else { -level }).collect::<Vec<_>>()
        };
        values.chunks(GROUP).flat_map(group).collect()
    };
    for (layer, expert) in [(0, 1), (1, 4), (2, 7)] {
        compare(layer, expert, 1, binary);
    }
}

#[test]
fn losses_at_more_bits() {
    for (layer, expert, bits) in [(0, 5, 3), (1, 0, 2), (2, 2, 3)] {
        compare(layer, expert, bits, |shape, values| {
            let options = QuantOptions::new(bits).unwrap().method(Method::Rtn).group_size(GROUP);
            let matrix = Matrix::new(shape[0], shape[1], values).unwrap();
            quantize(matrix, None, &options).unwrap().packed.dequantize()
        });
    }
}

#[test]
fn more_bits_lose_less() {
    for losses in factors().quant_loss.concat() {
        assert!(losses.is_sorted_by(|narrow, wide| narrow > wide) && losses[2] > 0.0, "{losses:?}");
    }
}

/// A layer whose only change is one rounded expert changes its output by that expert's error, because
/// its input and its routing stay the same.
fn compare(layer: usize, expert: usize, bits: u8, round: impl Fn(&[usize], &[f32]) -> Vec<f32>) {
    let mut weights = Weights::read(&demo());
    for name in expert_matrices(layer, expert) {
        let (shape, values) = weights.tensors.get_mut(&format!("{name}.weight")).unwrap();
        *values = round(shape, values);
    }
    let (original, rounded) = (load(&demo()), load(weights.folder().path()));
    let norm_of_change = |sample: &Vec<u32>| {
        let output = |model: &mcmoe_mixtral::model::Mixtral<CpuBackend>| {
            model.forward_traced(&[sample]).unwrap().1.hidden_states[layer + 1].clone()
        };
        let (a, b) = (output(&original), output(&rounded));
        a.iter().zip(&b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>().sqrt()
    };
    let expected: f64 = samples().iter().map(norm_of_change).sum();
    let found = factors().quant_loss[layer][expert][usize::from(bits) - 1];
    println!("layer {layer}, expert {expert}, {bits} bits: {found} for {expected}");
    assert!(expected > 0.0 && (found / expected - 1.0).abs() < 1e-3, "{found} instead of {expected}");
}

/// Factors of the demo model, measured once.
fn factors() -> &'static Factors {
    static MEASURED: OnceLock<Factors> = OnceLock::new();
    MEASURED.get_or_init(|| {
        let folder = ModelFolder::open(&demo()).unwrap();
        let options = FactorOptions::default().group_size(GROUP);
        let (source, device) = (folder.source(), Default::default());
        collect_factors::<CpuBackend>(&source, &samples(), &options, &device, &Silent).unwrap()
    })
}

fn samples() -> Vec<Vec<u32>> {
    demo_tokens(0, 4 * 48).chunks(48).map(<[u32]>::to_vec).collect()
}
