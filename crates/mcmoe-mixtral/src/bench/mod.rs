//! How fast a model runs, and how fast this machine could have read its weights meanwhile.
//!
//! Machines are shared and their speed drifts: what is compared is measured in turns, and reported as
//! means. Tokens differ, too: each goes to experts of other widths.

mod kernels;
mod machine;
mod report;

use std::time::Instant;

use mcmoe_tensor_kernels::PackedOps;

pub use kernels::{KernelReport, bench_kernels};
pub(crate) use machine::matmul_flops;
use machine::{Machine, mean, median};
pub use report::{BenchReport, ContextReport, DecodeReport, LoadReport, PrefillReport, PruningReport};

use crate::model::{Activations, KvCache, Mixtral, Pruning, Routing, to_host};
use crate::random::Xorshift;
use crate::{MixtralError, Progress};

/// What to measure.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BenchOptions {
    /// Tokens already in the cache when decoding is measured, one measurement each.
    pub contexts: Vec<usize>,
    /// Tokens of the prompt whose prefill is measured; none if 0.
    pub prompt: usize,
    /// Rounds of a measurement: in each, memory is read, then tokens are decoded.
    pub rounds: usize,
    /// Layers of the whole model, which times are scaled to; those of the model itself if absent.
    pub whole_layers: Option<usize>,
}

impl Default for BenchOptions {
    fn default() -> Self {
        Self { contexts: vec![1], prompt: 512, rounds: 9, whole_layers: None }
    }
}

impl BenchOptions {
    fn check(&self) -> Result<(), MixtralError> {
        let range = |option, least: usize, value: usize| {
            if (least..=MOST).contains(&value) {
                return Ok(());
            }
            Err(MixtralError::option(option, format!("{value} is not between {least} and {MOST}")))
        };
        if self.contexts.is_empty() {
            return Err(MixtralError::option("--context", "give at least one number of tokens"));
        }
        self.contexts.iter().try_for_each(|&context| range("--context", 1, context))?;
        range("--rounds", 1, self.rounds)?;
        range("--prompt", 0, self.prompt)
    }

    /// Sets the numbers of tokens in the cache.
    #[must_use]
    pub fn contexts(mut self, contexts: Vec<usize>) -> Self {
        self.contexts = contexts;
        self
    }

    /// Sets the length of the prompt.
    #[must_use]
    pub const fn prompt(mut self, tokens: usize) -> Self {
        self.prompt = tokens;
        self
    }

    /// Sets the rounds of a measurement.
    #[must_use]
    pub const fn rounds(mut self, rounds: usize) -> Self {
        self.rounds = rounds;
        self
    }

    /// Sets the layers that times are scaled to.
    #[must_use]
    pub const fn whole_layers(mut self, layers: usize) -> Self {
        self.whole_layers = Some(layers);
        self
    }
}

/// The longest cache and prompt, and the most rounds.
const MOST: usize = 1 << 20;
/// Tokens decoded in a round.
const TOKENS_A_ROUND: usize = 4;
/// Tokens whose routing decides the thresholds of pruning, where the folder has none.
const ROUTED_TOKENS: usize = 64;

/// Runs `work` on a pool of so many threads, or on all that the machine has.
///
/// # Errors
/// Those of `work`; [`MixtralError::Option`] if the threads cannot be started.
pub fn on_threads<T: Send>(
    threads: Option<usize>,
    work: impl FnOnce() -> Result<T, MixtralError> + Send,
) -> Result<T, MixtralError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0)).build();
    let pool = pool.map_err(|e| MixtralError::option("--threads", e.to_string()))?;
    pool.install(work)
}

/// Measures `model` on the current rayon pool ([`on_threads`]).
///
/// `thresholds` are those of dynamic pruning; the median ratios of random tokens if absent. The model is
/// left without pruning.
///
/// # Errors
/// [`MixtralError::Option`] for no rounds, no context, one of no tokens, or numbers beyond all sense;
/// those of [`Mixtral::forward`].
pub fn bench<B: PackedOps>(
    model: &mut Mixtral<B>,
    thresholds: Option<Vec<f32>>,
    options: &BenchOptions,
    progress: &dyn Progress,
) -> Result<BenchReport, MixtralError> {
    options.check()?;
    let steps = options.contexts.len() * options.rounds + 2;
    progress.start("measuring", steps as u64);
    let machine = Machine::new(&model.places.first);
    let mut bench = Bench { model, machine, options, progress };
    let thresholds = match thresholds {
        Some(thresholds) => thresholds,
        None => bench.median_ratios()?,
    };
    let pruning = Pruning::new(thresholds);
    bench.warm_up()?;
    let contexts: Vec<ContextReport> =
        options.contexts.iter().map(|&context| bench.decode(context, &pruning)).collect::<Result<_, _>>()?;
    progress.advance(1);
    let prefill = if options.prompt > 0 { Some(bench.prefill()?) } else { None };
    progress.finish();
    let devices = &bench.model.places;
    let mut report = BenchReport::new(bench.model.config(), options, contexts, prefill);
    report.backend = B::kernels(&devices.first);
    report.device_memory_bytes = B::device_memory(&devices.first);
    Ok(report)
}

struct Bench<'a, B: PackedOps> {
    model: &'a mut Mixtral<B>,
    machine: Machine<B>,
    options: &'a BenchOptions,
    progress: &'a dyn Progress,
}

/// Times and counts of decoding, round by round.
#[derive(Default)]
struct Rounds {
    seconds: Vec<f64>,
    activations: Activations,
    tokens: usize,
}

impl<B: PackedOps> Bench<'_, B> {
    /// Decodes every token once for nothing: experts that lie in mapped files are read in.
    fn warm_up(&mut self) -> Result<(), MixtralError> {
        self.model.set_pruning(None)?;
        let mut cache = self.model.new_cache();
        (0..=self.options.rounds).try_for_each(|round| self.round(round, &mut cache, &mut Rounds::default()))
    }

    /// Decodes in turns without and with pruning, memory being read before each.
    fn decode(&mut self, context: usize, pruning: &Pruning) -> Result<ContextReport, MixtralError> {
        let (mut plain, mut pruned, mut reads, mut heads) =
            (Rounds::default(), Rounds::default(), vec![], vec![]);
        let past = context - 1;
        let mut cache =
            KvCache::synthetic(self.model.config(), past, TOKENS_A_ROUND, &self.model.places.layers);
        // Once for nothing: the new cache is touched.
        self.round(0, &mut cache, &mut Rounds::default())?;
        for round in 1..=self.options.rounds {
            reads.push(self.machine.read());
            cache.truncate(past);
            self.round(round, &mut cache, &mut plain)?;
            cache.truncate(past);
            self.model.set_pruning(Some(pruning.clone()))?;
            let outcome = self.round(round, &mut cache, &mut pruned);
            self.model.set_pruning(None)?;
            outcome?;
            heads.push(self.head()?);
            self.progress.advance(1);
        }
        let fixed = self.model.fixed_bytes() as f64;
        let kv =
            2 * self.model.config().num_hidden_layers * self.model.config().key_value_size() * 4 * context;
        let report = |rounds: &Rounds| {
            let seconds = mean(&rounds.seconds);
            DecodeReport {
                seconds_per_token: seconds,
                tokens_per_second: 1.0 / seconds,
                bytes_per_token: fixed + rounds.activations.expert_bytes as f64 / rounds.tokens as f64,
                kv_bytes_per_token: kv as f64,
            }
        };
        Ok(ContextReport {
            context,
            machine_read_gb_s: mean(&reads) / 1e9,
            decode: report(&plain),
            pruning: PruningReport {
                decode: report(&pruned),
                pruned_fraction: pruned.activations.pruned_fraction(),
            },
            head_seconds: mean(&heads),
        })
    }

    /// Decodes some tokens, the same ones in every call with the same `round`.
    fn round(
        &mut self,
        round: usize,
        cache: &mut KvCache<B>,
        rounds: &mut Rounds,
    ) -> Result<(), MixtralError> {
        for token in tokens(round as u64, TOKENS_A_ROUND, self.model.config().vocab_size) {
            let start = Instant::now();
            to_host(self.model.forward_last(&[&[token]], cache)?);
            rounds.seconds.push(start.elapsed().as_secs_f64());
            rounds.tokens += 1;
        }
        rounds.activations.add(&self.model.take_activations(cache));
        Ok(())
    }

    /// Seconds for the logits of one token.
    fn head(&self) -> Result<f64, MixtralError> {
        let hidden = self.model.embedded(&[&[1]])?;
        let start = Instant::now();
        to_host(self.model.logits(hidden, 1));
        Ok(start.elapsed().as_secs_f64())
    }

    fn prefill(&mut self) -> Result<PrefillReport, MixtralError> {
        let prompt = tokens(u64::MAX, self.options.prompt, self.model.config().vocab_size);
        let mut reads = vec![self.machine.read()];
        let mut flops = vec![machine::matmul_flops::<B>(&self.model.places.first)];
        let start = Instant::now();
        let mut cache = self.model.new_cache();
        to_host(self.model.forward_last(&[&prompt], &mut cache)?);
        let seconds = start.elapsed().as_secs_f64();
        reads.push(self.machine.read());
        flops.push(machine::matmul_flops::<B>(&self.model.places.first));
        self.progress.advance(1);
        Ok(PrefillReport {
            tokens: prompt.len(),
            seconds,
            machine_read_gb_s: mean(&reads) / 1e9,
            machine_f32_gflops: flops.iter().fold(0.0, |most: f64, rate| most.max(*rate)) / 1e9,
        })
    }

    /// The median ratio of the second routing probability to the first, layer by layer.
    fn median_ratios(&self) -> Result<Vec<f32>, MixtralError> {
        let config = self.model.config();
        let tokens = tokens(0, ROUTED_TOKENS, config.vocab_size);
        let (_, trace) = self.model.forward_traced(&[&tokens])?;
        let medians = trace.router_logits.iter().map(|logits| {
            let routing = Routing::from_logits(logits, config.num_local_experts, config.num_experts_per_tok);
            let ratios: Vec<f64> = routing.ratios().map(f64::from).collect();
            if ratios.is_empty() { 0.0 } else { median(&ratios) as f32 }
        });
        Ok(medians.collect())
    }
}

/// `count` token ids, the same for the same `seed`.
fn tokens(seed: u64, count: usize, vocab_size: usize) -> Vec<u32> {
    let mut random = Xorshift::new(seed);
    (0..count).map(|_| ((random.next() >> 33) % vocab_size as u64) as u32).collect()
}
