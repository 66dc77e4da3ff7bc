//! Which tokens each matrix was calibrated on.

use mcmoe_mixtral::Tokenizer;

use super::common::compression::calibration;
use super::common::{demo, load};
use super::{compressed, expert_matrices};

/// Layers are calibrated on the outputs of the quantized ones before them, so the tokens that reach an
/// expert are those that the compressed model itself routes there.
#[test]
fn experts_are_calibrated_on_the_tokens_that_the_compressed_model_sends_them() {
    let (dir, report) = compressed();
    let model = load(dir);
    let windows = calibration().tokenize(&Tokenizer::read(&demo()).unwrap()).unwrap().windows().unwrap();
    assert_eq!((windows.len(), windows[0].len()), (8, 64));
    let rows: Vec<&[u32]> = windows.iter().map(Vec::as_slice).collect();
    let (_, trace) = model.forward_traced(&rows).unwrap();
    for (layer, logits) in trace.router_logits.iter().enumerate() {
        let mut counts = [0; 8];
        for logits in logits.chunks_exact(8) {
            let better = |e: usize| logits.iter().filter(|&&other| other > logits[e]).count();
            (0..8).filter(|&e| better(e) < 2).for_each(|e| counts[e] += 1);
        }
        for (expert, &count) in counts.iter().enumerate() {
            for name in expert_matrices(layer, expert) {
                let found = report.matrices.iter().find(|matrix| matrix.name == name).unwrap();
                assert_eq!(found.tokens, Some(count), "{name}");
            }
        }
    }
    let attention = report.matrices.iter().filter(|matrix| matrix.name.contains("self_attn"));
    let tokens: Vec<usize> = attention.map(|matrix| matrix.tokens.unwrap()).collect();
    assert_eq!(tokens, [8 * 64; 3 * 4]);
}

#[test]
fn the_report_says_what_was_read() {
    let (_, report) = compressed();
    let record = report.calibration.as_ref().unwrap();
    assert_eq!(record.data, ["text:calibration.txt"]);
    assert_eq!((record.samples, record.seq_len, record.seed), (8, 64, 0));
}
