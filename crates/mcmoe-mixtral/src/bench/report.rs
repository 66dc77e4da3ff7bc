//! The figures of a measurement.

use std::time::Instant;

use serde::Serialize;

use super::BenchOptions;
use crate::MixtralConfig;

/// How fast a model runs.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct BenchReport {
    /// Layers that were run.
    pub layers: usize,
    /// Layers of the whole model, which `token_gb_32_layers` is scaled to.
    pub whole_layers: usize,
    /// Threads.
    pub threads: usize,
    /// Kernels.
    pub backend: String,
    /// Tokens a second, one at a time, at the first context.
    pub decode_tokens_per_second: f64,
    /// Tokens a second of a prompt; absent if none was run.
    pub prefill_tokens_per_second: Option<f64>,
    /// Bytes of weights that a token reads.
    pub bytes_per_token: f64,
    /// Bytes of weights read a second while decoding, in 10⁹.
    pub read_gb_s: f64,
    /// Bytes that the machine reads a second, measured in turns with decoding, in 10⁹.
    pub machine_read_gb_s: f64,
    /// Bytes that the machine could have read while the whole model decodes a token, in 10⁹. Named for
    /// the 32 layers of Mixtral 8x7B.
    pub token_gb_32_layers: f64,
    /// Decoding at each context.
    pub contexts: Vec<ContextReport>,
    /// The prompt.
    pub prefill: Option<PrefillReport>,
    /// Prefill's floating-point operations a second over those of the machine's `f32` product.
    pub prefill_over_f32: Option<f64>,
    /// Tokens a second of a prompt, scaled to the whole model.
    pub prefill_tokens_per_second_whole: Option<f64>,
    /// The most memory the process has had, in bytes, pages of mapped files and the buffer that is read
    /// included; absent where the system does not say.
    pub peak_memory_bytes: Option<u64>,
    /// Bytes of memory that the first graphics card has taken; absent on the CPU.
    pub device_memory_bytes: Option<u64>,
    /// Opening and loading the folder; absent for synthetic models.
    pub load: Option<LoadReport>,
}

/// What it took to open and load a folder.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct LoadReport {
    /// Time.
    pub seconds: f64,
    /// Memory of the process that is not mapped from files, in bytes; absent where the system does not
    /// say.
    pub private_memory_bytes: Option<u64>,
}

impl LoadReport {
    /// Of what began at `start` and is done now.
    pub fn since(start: Instant) -> Self {
        Self { seconds: start.elapsed().as_secs_f64(), private_memory_bytes: memory("RssAnon:") }
    }
}

/// Decoding with some tokens in the cache.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ContextReport {
    /// Tokens in the cache with the first new one; three more follow in each round.
    pub context: usize,
    /// Bytes that the machine reads a second, in 10⁹.
    pub machine_read_gb_s: f64,
    /// Without pruning.
    pub decode: DecodeReport,
    /// With pruning.
    pub pruning: PruningReport,
    /// Seconds of final norm and head.
    pub head_seconds: f64,
}

/// Decoding one token at a time.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct DecodeReport {
    /// The mean time of a token.
    pub seconds_per_token: f64,
    /// Its inverse.
    pub tokens_per_second: f64,
    /// Bytes of weights that a token reads, on average.
    pub bytes_per_token: f64,
    /// Bytes of keys and values that a token reads.
    pub kv_bytes_per_token: f64,
}

/// Decoding with online dynamic pruning of experts.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PruningReport {
    /// Times and bytes.
    #[serde(flatten)]
    pub decode: DecodeReport,
    /// Share of expert activations that was dropped.
    pub pruned_fraction: f64,
}

/// A prompt run in one go.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PrefillReport {
    /// Tokens of the prompt.
    pub tokens: usize,
    /// Time for all of them.
    pub seconds: f64,
    /// Bytes that the machine reads a second, in 10⁹.
    pub machine_read_gb_s: f64,
    /// Floating-point operations a second of the machine's `f32` matrix product, in 10⁹.
    pub machine_f32_gflops: f64,
}

impl BenchReport {
    pub(super) fn new(
        config: &MixtralConfig,
        options: &BenchOptions,
        contexts: Vec<ContextReport>,
        prefill: Option<PrefillReport>,
    ) -> Self {
        let layers = config.num_hidden_layers;
        let whole_layers = options.whole_layers.unwrap_or(layers);
        let scale = whole_layers as f64 / layers as f64;
        let whole = |seconds: f64, head: f64| (seconds - head).max(0.0) * scale + head;
        let first = &contexts[0];
        let (decode, head) = (&first.decode, first.head_seconds);
        let speed = |seconds: f64| move |prefill: &PrefillReport| prefill.tokens as f64 / seconds;
        let of_prefill = prefill.as_ref();
        Self {
            layers,
            whole_layers,
            threads: rayon::current_num_threads(),
            backend: String::new(),
            decode_tokens_per_second: decode.tokens_per_second,
            prefill_tokens_per_second: of_prefill.map(|prefill| speed(prefill.seconds)(prefill)),
            bytes_per_token: decode.bytes_per_token,
            read_gb_s: decode.bytes_per_token * decode.tokens_per_second / 1e9,
            machine_read_gb_s: first.machine_read_gb_s,
            token_gb_32_layers: whole(decode.seconds_per_token, head) * first.machine_read_gb_s,
            prefill_over_f32: of_prefill.map(|prefill| {
                let operations = operations(config, prefill.tokens);
                operations / prefill.seconds / 1e9 / prefill.machine_f32_gflops
            }),
            prefill_tokens_per_second_whole: of_prefill
                .map(|prefill| speed(whole(prefill.seconds, head))(prefill)),
            peak_memory_bytes: memory("VmHWM:"),
            device_memory_bytes: None,
            load: None,
            contexts,
            prefill,
        }
    }
}

impl ContextReport {
    /// How many times as fast decoding is with pruning.
    pub fn pruning_speed_up(&self) -> f64 {
        self.pruning.decode.tokens_per_second / self.decode.tokens_per_second
    }

    /// Share of the weights' bytes that pruning saves.
    pub fn pruned_bytes(&self) -> f64 {
        1.0 - self.pruning.decode.bytes_per_token / self.decode.bytes_per_token
    }
}

/// Multiplications and additions of a prompt's projections and experts, and of one token's head.
fn operations(config: &MixtralConfig, tokens: usize) -> f64 {
    let attention = 2 * config.hidden_size * (config.query_size() + config.key_value_size());
    let experts = config.num_experts_per_tok * config.weights_per_expert();
    let layers = config.num_hidden_layers * (attention + experts);
    2.0 * (tokens * layers + config.vocab_size * config.hidden_size) as f64
}

/// An entry of the process's status in bytes, where the system tells.
fn memory(entry: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(entry))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}
