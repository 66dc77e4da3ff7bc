//! A dense folder of random weights, as if downloaded.

use std::path::Path;

use mcmoe_quant::store::StoredTensor;
use safetensors::Dtype;
use serde_json::{Map, Value};

use super::{tokenizer, weights};
use crate::checkpoint::ShardWriter;
use crate::compress::folder_bytes;
use crate::folder::{MatrixInfo, Staging};
use crate::model::{names, weight};
use crate::random::seed_of_part;
use crate::{MixtralConfig, MixtralError, Progress, json};

/// Spread of a matrix's rows: the standard deviation of the logarithm of their scales.
const ROW_SPREAD: f32 = 0.25;
/// Spread of a gate's rows, large enough for some experts to get several times the tokens of others.
const GATE_SPREAD: f32 = 0.5;

/// Writes a dense model of the shape of `config` to the folder `dir`: random weights in BF16, a shard a
/// layer, and a tokenizer that makes a token of every byte. Returns the bytes of all files.
///
/// Weights are spread like those of a trained model, with a standard deviation of 0.02, so that
/// activations and logits are of moderate size and some experts get more tokens than others; what the
/// model says means nothing. The same `seed` gives the same bytes on any number of threads, and the same
/// first layers whatever their number ([`MixtralConfig::with_layers`]). One layer's weights are in
/// memory at a time. `dir` appears only when everything in it is complete.
///
/// # Errors
/// [`MixtralError::Option`] if the vocabulary has not 256 tokens, or if `config.raw`, which is what gets
/// written, does not describe `config`; [`MixtralError::OutputExists`] if `dir` is not empty;
/// [`MixtralError::Write`].
pub fn synthesize(
    config: &MixtralConfig,
    seed: u64,
    dir: &Path,
    progress: &dyn Progress,
) -> Result<u64, MixtralError> {
    check(config)?;
    let staging = Staging::create(dir)?;
    let shards = config.num_hidden_layers + 1;
    let mut writer = ShardWriter::new(staging.dir(), shards);
    progress.start("synthesizing", shards as u64);
    for shard in 0..shards {
        let parts = match shard.checked_sub(1) {
            None => outer_parts(config),
            Some(l) => layer_parts(config, l),
        };
        let seed = seed_of_part(seed, shard as u64);
        let tensors = parts.into_iter().enumerate().map(|(i, part)| part.make(seed_of_part(seed, i as u64)));
        writer.write(&tensors.collect::<Vec<_>>())?;
        progress.advance(1);
    }
    writer.finish()?;
    progress.finish();
    config.write(staging.dir(), None)?;
    json::write(&staging.dir().join("generation_config.json"), &generation_config(config))?;
    tokenizer::write(config.vocab_size, staging.dir())?;
    let bytes = folder_bytes(staging.dir())?;
    staging.commit()?;
    Ok(bytes)
}

/// Makes sure that `config` can be written, and read again as what it is.
fn check(config: &MixtralConfig) -> Result<(), MixtralError> {
    tokenizer::check(config.vocab_size)?;
    let written = MixtralConfig::from_json(config.raw.clone());
    if written.map_err(|reason| MixtralError::option("config", reason))? == *config {
        return Ok(());
    }
    Err(MixtralError::option("config", "its fields are not those of its raw JSON"))
}

/// A tensor to be made.
struct Part {
    name: String,
    shape: Vec<usize>,
    /// Spread of its rows, if it is a matrix; else it is a norm.
    row_spread: f32,
}

impl Part {
    fn norm(name: &str, config: &MixtralConfig) -> Self {
        Self { name: weight(name), shape: vec![config.hidden_size], row_spread: 0.0 }
    }

    fn matrix(name: &str, rows: usize, cols: usize, row_spread: f32) -> Self {
        Self { name: weight(name), shape: vec![rows, cols], row_spread }
    }

    fn make(self, seed: u64) -> StoredTensor {
        let data = match self.shape[..] {
            [rows, cols] => weights::matrix(rows, cols, self.row_spread, seed),
            _ => weights::norm(self.shape[0], seed),
        };
        StoredTensor { name: self.name, dtype: Dtype::BF16, shape: self.shape, data: data.into() }
    }
}

/// Embedding, final norm and head. Logits are as large as a row of the head is long, 1.3 for 8x7B.
fn outer_parts(config: &MixtralConfig) -> Vec<Part> {
    let table = |name| Part::matrix(name, config.vocab_size, config.hidden_size, ROW_SPREAD);
    let mut parts = vec![Part::norm(names::NORM, config), table(names::EMBED)];
    if !config.tie_word_embeddings {
        parts.push(table(names::HEAD));
    }
    parts
}

/// Norms, gate and matrices of layer `l`.
fn layer_parts(config: &MixtralConfig, l: usize) -> Vec<Part> {
    let gate = Part::matrix(&names::gate(l), config.num_local_experts, config.hidden_size, GATE_SPREAD);
    let mut parts = vec![
        Part::norm(&names::input_norm(l), config),
        Part::norm(&names::post_attention_norm(l), config),
        gate,
    ];
    let matrices = MatrixInfo::of_layer(config, l);
    parts.extend(matrices.iter().map(|info| Part::matrix(&info.name, info.rows, info.cols, ROW_SPREAD)));
    parts
}

/// `generation_config.json`: where texts begin and end, as far as the config says.
fn generation_config(config: &MixtralConfig) -> Map<String, Value> {
    let ids = ["bos_token_id", "eos_token_id"].into_iter();
    ids.filter_map(|key| Some((key.to_owned(), config.raw.get(key)?.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::bench::on_threads;
    use crate::folder::ModelFolder;
    use crate::model::{Routing, to_host};
    use crate::synthetic::Shape;
    use crate::{CpuBackend, Silent, Tokenizer};

    /// Two layers of a model small enough for a test.
    fn small() -> MixtralConfig {
        let mut raw = Shape::Mixtral8x7b.config().raw;
        let sizes = [
            ("hidden_size", 64),
            ("intermediate_size", 90),
            ("num_hidden_layers", 2),
            ("num_attention_heads", 4),
            ("num_key_value_heads", 2),
            ("vocab_size", 300),
        ];
        raw.extend(sizes.map(|(key, size)| (key.to_owned(), json!(size))));
        MixtralConfig::from_json(raw).unwrap()
    }

    /// The files that `config` and `seed` lead to on so many threads.
    fn files(config: &MixtralConfig, seed: u64, threads: usize) -> BTreeMap<String, Vec<u8>> {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("model");
        let bytes = on_threads(Some(threads), || synthesize(config, seed, &dir, &Silent)).unwrap();
        let entries = fs::read_dir(&dir).unwrap().map(Result::unwrap);
        let files: BTreeMap<String, Vec<u8>> = entries
            .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
            .collect();
        assert_eq!(files.values().map(|file| file.len() as u64).sum::<u64>(), bytes);
        files
    }

    #[test]
    fn bytes_follow_the_seed_and_not_the_threads() {
        let first = files(&small(), 3, 1);
        let names: Vec<&str> = first.keys().map(String::as_str).collect();
        let expected = [
            "config.json",
            "generation_config.json",
            "model-00001-of-00003.safetensors",
            "model-00002-of-00003.safetensors",
            "model-00003-of-00003.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
        ];
        assert_eq!(names, expected);
        assert!(first == files(&small(), 3, 2));
        let other = files(&small(), 4, 2);
        for (name, bytes) in &first {
            assert_eq!(other[name] == *bytes, name.ends_with(".json"), "{name}");
        }
    }

    #[test]
    fn fewer_layers_are_the_same_layers() {
        let (two, one) = (files(&small(), 3, 2), files(&small().with_layers(1), 3, 2));
        assert!(one["model-00001-of-00002.safetensors"] == two["model-00001-of-00003.safetensors"]);
        assert!(one["model-00002-of-00002.safetensors"] == two["model-00002-of-00003.safetensors"]);
        assert_ne!(one["config.json"], two["config.json"]);
    }

    #[test]
    fn the_model_runs() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("model");
        synthesize(&small(), 0, &dir, &Silent).unwrap();
        let folder = ModelFolder::open(&dir).unwrap();
        assert_eq!(*folder.config(), small());
        let model = folder.model::<CpuBackend>(&Default::default()).unwrap();
        let tokens: Vec<u32> = (0..small().vocab_size as u32).collect();
        let logits = model.forward(&[&tokens], &mut model.new_cache()).unwrap();
        let logits = to_host(logits);
        let square = logits.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / logits.len() as f64;
        // A row of the head is 0.02 · √64 long.
        assert!((0.01..0.1).contains(&square) && logits.iter().all(|v| v.is_finite()), "{square}");

        let (_, trace) = model.forward_traced(&[&tokens]).unwrap();
        for logits in trace.router_logits {
            let mut counts = [0; 8];
            Routing::from_logits(&logits, 8, 2).experts.iter().for_each(|&expert| counts[expert] += 1);
            counts.sort_unstable();
            assert!(counts[7] > 2 * counts[0], "{counts:?}");
        }
        let text = "Any text will do.";
        assert_eq!(Tokenizer::read(&dir).unwrap().encode(text).unwrap().len(), text.len());
    }

    #[test]
    fn a_tied_head_is_left_out() {
        let mut raw = small().raw;
        raw.insert("tie_word_embeddings".to_owned(), true.into());
        let tied = files(&MixtralConfig::from_json(raw).unwrap(), 3, 2);
        let index = String::from_utf8(tied["model.safetensors.index.json"].clone()).unwrap();
        assert!(index.contains(names::EMBED) && !index.contains(names::HEAD), "{index}");
    }

    #[test]
    fn what_cannot_be_made_is_named() {
        let root = tempfile::tempdir().unwrap();
        let error = |config: &MixtralConfig| {
            synthesize(config, 0, &root.path().join("model"), &Silent).unwrap_err().to_string()
        };
        let mut raw = small().raw;
        raw.insert("vocab_size".to_owned(), 255.into());
        assert!(error(&MixtralConfig::from_json(raw).unwrap()).contains("vocab_size"));
        assert!(error(&small().with_layers(0)).contains("num_hidden_layers"));
        let mut config = small();
        config.hidden_size = 128;
        assert!(error(&config).contains("config"));
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }
}
