//! Small sound folders, held in memory.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use half::bf16;
use mcmoe_mixtral::compress::CompressOptions;
use mcmoe_mixtral::folder::ModelFolder;
use mcmoe_mixtral::{Allocation, Method, Mode};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::common::compression::run;
use super::shard::shard;

/// A byte-pair tokenizer of nine tokens, made as Mixtral's is.
pub(crate) const TOKENIZER: &str = r#"{
    "version": "1.0", "truncation": null, "padding": null,
    "added_tokens": [{"id": 0, "content": "<unk>", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true}],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
    "pre_tokenizer": null, "post_processor": null,
    "decoder": {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
        {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
        "vocab": {"<unk>": 0, "a": 1, "▁": 2, "t": 3, "h": 4, "e": 5, "th": 6, "the": 7, "▁the": 8},
        "merges": ["t h", "th e", "▁ the"]}
}"#;

/// Every tensor of the dense folder.
const TENSORS: [(&str, &[usize]); 16] = [
    ("model.embed_tokens.weight", &[16, 32]),
    ("model.norm.weight", &[32]),
    ("lm_head.weight", &[16, 32]),
    ("model.layers.0.input_layernorm.weight", &[32]),
    ("model.layers.0.post_attention_layernorm.weight", &[32]),
    ("model.layers.0.self_attn.q_proj.weight", &[32, 32]),
    ("model.layers.0.self_attn.k_proj.weight", &[16, 32]),
    ("model.layers.0.self_attn.v_proj.weight", &[16, 32]),
    ("model.layers.0.self_attn.o_proj.weight", &[32, 32]),
    ("model.layers.0.block_sparse_moe.gate.weight", &[2, 32]),
    ("model.layers.0.block_sparse_moe.experts.0.w1.weight", &[32, 32]),
    ("model.layers.0.block_sparse_moe.experts.0.w2.weight", &[32, 32]),
    ("model.layers.0.block_sparse_moe.experts.0.w3.weight", &[32, 32]),
    ("model.layers.0.block_sparse_moe.experts.1.w1.weight", &[32, 32]),
    ("model.layers.0.block_sparse_moe.experts.1.w2.weight", &[32, 32]),
    ("model.layers.0.block_sparse_moe.experts.1.w3.weight", &[32, 32]),
];

/// Names and bytes of a folder's files.
#[derive(Clone, Debug)]
pub(crate) struct Folder(BTreeMap<String, Vec<u8>>);

impl Folder {
    /// One layer of two experts, 32 features wide.
    pub(crate) fn dense() -> Self {
        let config = json!({
            "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_act": "silu",
            "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
            "num_key_value_heads": 1, "head_dim": 16, "num_local_experts": 2, "num_experts_per_tok": 2,
            "vocab_size": 16, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
            "sliding_window": null, "tie_word_embeddings": false, "bos_token_id": 1, "eos_token_id": [2, 3],
        });
        Self(BTreeMap::from([
            ("config.json".to_owned(), config.to_string().into_bytes()),
            ("model.safetensors".to_owned(), weights()),
            ("tokenizer.json".to_owned(), TOKENIZER.into()),
        ]))
    }

    /// The dense folder compressed, with a threshold for pruning, which calibration would have found.
    pub(crate) fn packed() -> Self {
        let allocation = Allocation::new(vec![vec![2, 3]]);
        let options = CompressOptions::default().method(Method::Rtn).mode(Mode::Uniform);
        let dense = Self::dense().write();
        let (packed, _) = run(dense.path(), &options.allocation(allocation));
        fs::write(packed.path().join("pruning.json"), r#"{"thresholds": [0.5]}"#).unwrap();
        let saved = TempDir::new().unwrap();
        ModelFolder::open(packed.path()).unwrap().save(saved.path()).unwrap();
        Self::read(saved.path())
    }

    fn read(dir: &Path) -> Self {
        let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
        let file =
            |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
        Self(entries.map(file).collect())
    }

    /// The names of its files.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// The bytes of the file `name`.
    pub(crate) fn file(&self, name: &str) -> &[u8] {
        &self.0[name]
    }

    /// The same folder with these bytes in the file `name`.
    pub(crate) fn with(&self, name: &str, bytes: &[u8]) -> Self {
        let mut files = self.0.clone();
        files.insert(name.to_owned(), bytes.to_vec());
        Self(files)
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// The folder on disk.
    pub(crate) fn write(&self) -> TempDir {
        let dir = TempDir::new().unwrap();
        for (name, bytes) in &self.0 {
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        dir
    }
}

/// The dense weights as one safetensors file.
fn weights() -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    let value = |i: usize| bf16::from_f32((i * 37 % 101) as f32 / 200.0 - 0.25);
    for (name, shape) in TENSORS {
        let (start, elements) = (data.len(), shape.iter().product::<usize>());
        data.extend((0..elements).flat_map(|i| value(i).to_le_bytes()));
        let tensor = json!({"dtype": "BF16", "shape": shape, "data_offsets": [start, data.len()]});
        header.insert(name.to_owned(), tensor);
    }
    shard(Value::Object(header).to_string().as_bytes(), &data)
}
