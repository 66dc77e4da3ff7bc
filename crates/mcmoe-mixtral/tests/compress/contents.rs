//! A compressed folder holds what it says.

use std::collections::BTreeSet;
use std::fs;

use mcmoe_mixtral::folder::ModelFolder;
use mcmoe_mixtral::inspect::inspect;

use super::common::weights::{Weights, headers};
use super::common::{demo, json};
use super::{allocated_bits, compressed, expert_bpw, expert_matrices, files, packed_bytes, size};

const GROUP: usize = 128;

#[test]
fn sizes_are_those_of_the_tensors() {
    let (dir, _) = compressed();
    let (found, headers) = (inspect(dir).unwrap(), headers(dir));
    assert_eq!(found.expert_bpw, expert_bpw(dir));
    let tensor_bytes: u64 = headers.values().map(|(_, bytes)| bytes).sum();
    let total_bytes: usize = files(dir).values().map(Vec::len).sum();
    assert_eq!((found.tensor_bytes, found.total_bytes), (tensor_bytes, total_bytes as u64));
    assert_eq!((found.format.as_str(), found.layers, found.pruning), ("mcmoe", 3, true));

    let attention =
        |l| ["q_proj", "k_proj", "v_proj", "o_proj"].map(|p| format!("model.layers.{l}.self_attn.{p}"));
    let attention_bytes: u64 = (0..3).flat_map(attention).map(|name| packed_bytes(&headers, &name)).sum();
    let attention_weights = 3 * 128 * (128 + 64 + 64 + 128);
    assert_eq!(found.attention_bpw, attention_bytes as f64 * 8.0 / f64::from(attention_weights));
    let weights: usize = Weights::read(&demo()).tensors.values().map(|(_, values)| values.len()).sum();
    assert_eq!(found.weights, weights as u64);
    assert_eq!(found.model_bpw, tensor_bytes as f64 * 8.0 / weights as f64);
}

#[test]
fn every_expert_has_the_bits_of_the_allocation() {
    let (dir, report) = compressed();
    let (bits, headers) = (allocated_bits(dir), headers(dir));
    assert!(bits.iter().all(|layer| layer.contains(&3) && layer.contains(&2)), "{bits:?}");
    let inspection = inspect(dir).unwrap();
    let mut experts = inspection.experts.iter();
    for (layer, row) in bits.iter().enumerate() {
        for (expert, &bits) in row.iter().enumerate() {
            let mut bytes = 0;
            for name in expert_matrices(layer, expert) {
                let cols = if name.ends_with("w2") { 384 } else { 128 };
                let rows = 384 * 128 / cols;
                // 16 rows a tile: codes, and 16 bits each for the scale and the zero point of a group.
                let tile = 16 * (cols * bits as usize / 8 + cols / GROUP * 4);
                assert_eq!(headers[&format!("{name}.packed")].0, [rows / 16, tile], "{name}");
                let reported = report.matrices.iter().find(|matrix| matrix.name == name).unwrap();
                assert_eq!(reported.bits, f64::from(bits), "{name}");
                bytes += packed_bytes(&headers, &name);
            }
            let found = experts.next().unwrap();
            assert_eq!((found.layer, found.expert, found.bytes), (layer, expert, bytes));
            assert_eq!(found.bits, f64::from(bits));
            assert_eq!(found.bpw, bytes as f64 * 8.0 / (3.0 * 128.0 * 384.0));
        }
    }
    assert!(experts.next().is_none());
    let all = bits.concat();
    assert_eq!(inspection.expert_bits, f64::from(all.iter().sum::<u32>()) / all.len() as f64);
}

/// Embedding, head, norms and gates are the source's, bit for bit.
#[test]
fn everything_else_is_unchanged() {
    let (dir, _) = compressed();
    let source = Weights::read(&demo());
    let folder = ModelFolder::open(dir).unwrap();
    let packed = |name: &str| name.contains("self_attn") || name.contains("experts");
    let mut unpacked = 0;
    for (name, (shape, values)) in source.tensors.iter().filter(|(name, _)| !packed(name)) {
        let found = folder.checkpoint().tensor(name).unwrap();
        assert_eq!((&found.shape, found.bytes.len()), (shape, 2 * values.len()), "{name}");
        assert_eq!(&folder.checkpoint().read_f32(name, shape).unwrap(), values, "{name}");
        unpacked += 1;
    }
    assert_eq!(unpacked, 3 + 3 * size(dir, "num_hidden_layers"));
    assert!(!headers(dir).keys().any(|name| packed(name) && name.ends_with(".weight")));
    for name in
        ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json"]
    {
        assert_eq!(fs::read(dir.join(name)).unwrap(), fs::read(demo().join(name)).unwrap(), "{name}");
    }
}

#[test]
fn the_config_keeps_its_fields_and_says_how_it_was_compressed() {
    let (dir, _) = compressed();
    let mut config = json(dir.join("config.json"));
    let quantization = config.as_object_mut().unwrap().remove("quantization_config").unwrap();
    assert_eq!(config, json(demo().join("config.json")));
    assert_eq!(quantization["quant_method"], "mcmoe");
    assert_eq!((&quantization["group_size"], &quantization["attention_bits"]), (&128.into(), &4.into()));
    assert_eq!(quantization["expert_bits"], 2.0);
}

#[test]
fn the_index_names_every_tensor_where_it_is() {
    let (dir, _) = compressed();
    let index = json(dir.join("model.safetensors.index.json"));
    let places = index["weight_map"].as_object().unwrap();
    let found = headers(dir);
    assert!(places.keys().collect::<BTreeSet<_>>() == found.keys().collect());
    let total: u64 = found.values().map(|(_, bytes)| bytes).sum();
    assert_eq!(index["metadata"]["total_size"], total);
    for (name, file) in places {
        let bytes = fs::read(dir.join(file.as_str().unwrap())).unwrap();
        assert!(safetensors::SafeTensors::deserialize(&bytes).unwrap().tensor(name).is_ok(), "{name}");
    }
}
