//! `mcmoe bench`.

use std::time::Instant;

use mcmoe_mixtral::bench::{
    BenchOptions, BenchReport, KernelReport, LoadReport, bench, bench_kernels, on_threads,
};
use mcmoe_mixtral::folder::ModelFolder;
use mcmoe_mixtral::synthetic::{Shape, Synthetic};
use mcmoe_mixtral::{MixtralError, OnDevice, PackedOps};

use super::Failure;
use super::shared::run_on;
use crate::args::BenchArgs;
use crate::output;
use crate::progress::Reporter;

pub(crate) fn run(args: &BenchArgs) -> Result<(), Failure> {
    if args.kernels {
        let reports = on_threads(args.threads, || run_on(&args.compute.device, Kernels { args }))?;
        return if args.json {
            output::json(&serde_json::json!({ "kernels": reports }))
        } else {
            kernel_table(&reports)
        };
    }
    let report = on_threads(args.threads, || run_on(&args.compute.device, Measure { args }))?;
    if args.json { output::json(&report) } else { table(&report) }
}

struct Kernels<'a> {
    args: &'a BenchArgs,
}

impl OnDevice for Kernels<'_> {
    type Output = Vec<KernelReport>;

    fn run<B: PackedOps>(self, devices: &[B::Device]) -> Result<Vec<KernelReport>, MixtralError> {
        bench_kernels::<B>(&Shape::Mixtral8x7b.config(), self.args.rounds, &devices[0], &Reporter::new())
    }
}

fn kernel_table(reports: &[KernelReport]) -> Result<(), Failure> {
    output::line("kernel   codes            rows x cols     read GB/s  of memory's GB/s")?;
    for report in reports {
        output::line(&format!(
            "{:7}  {:15}  {:5} x {:5}  {:10.1}  {:5.1} ({:.0} %)",
            report.kernel,
            report.coding,
            report.rows,
            report.cols,
            report.gb_s,
            report.machine_gb_s,
            100.0 * report.gb_s / report.machine_gb_s,
        ))?;
    }
    Ok(())
}

struct Measure<'a> {
    args: &'a BenchArgs,
}

impl OnDevice for Measure<'_> {
    type Output = BenchReport;

    fn run<B: PackedOps>(self, devices: &[B::Device]) -> Result<BenchReport, MixtralError> {
        let args = self.args;
        let mut options =
            BenchOptions::default().contexts(args.context.clone()).prompt(args.prompt).rounds(args.rounds);
        let start = Instant::now();
        let (mut model, thresholds) = match (&args.dir, args.synthetic) {
            (Some(dir), _) => {
                let folder = ModelFolder::open(dir)?;
                let thresholds = folder.compression().and_then(|compression| compression.thresholds.clone());
                (folder.model_with::<B>(args.compute.activations, devices)?, thresholds)
            }
            (None, shape) => {
                let missing = || MixtralError::Option {
                    option: "--synthetic",
                    reason: "give a folder or a shape".to_owned(),
                };
                let config = shape.ok_or_else(missing)?.config();
                options = options.whole_layers(config.num_hidden_layers);
                let layers = args.layers.unwrap_or(config.num_hidden_layers);
                let synthetic =
                    Synthetic::new(config).layers(layers).expert_bits(args.expert_bits.unwrap_or(2.0));
                (synthetic.precision(args.compute.activations).model_on::<B>(devices)?, None)
            }
        };
        let load = args.dir.is_some().then(|| LoadReport::since(start));
        let mut report = bench(&mut model, thresholds, &options, &Reporter::new())?;
        report.load = load;
        Ok(report)
    }
}

fn table(report: &BenchReport) -> Result<(), Failure> {
    let BenchReport { layers, whole_layers, threads, backend, .. } = report;
    output::line(&format!("{layers} of {whole_layers} layers, {threads} threads, {backend} kernels"))?;
    output::line(
        "context  tokens/s  weights read  of the machine's  pruned: tokens/s  speed-up  bytes saved",
    )?;
    for context in &report.contexts {
        let read = context.decode.bytes_per_token * context.decode.tokens_per_second / 1e9;
        output::line(&format!(
            "{:7}  {:8.2}  {read:7.2} GB/s  {:5.2} ({:4.1} %)   {:16.2}  {:8.3}  {:9.1} %",
            context.context,
            context.decode.tokens_per_second,
            context.machine_read_gb_s,
            100.0 * read / context.machine_read_gb_s,
            context.pruning.decode.tokens_per_second,
            context.pruning_speed_up(),
            100.0 * context.pruned_bytes(),
        ))?;
    }
    output::line(&format!(
        "a token of {whole_layers} layers takes the time in which the machine reads {:.2} GB; it reads {:.2} GB in {layers}",
        report.token_gb_32_layers,
        report.bytes_per_token / 1e9
    ))?;
    if let (Some(prefill), Some(speed)) = (&report.prefill, report.prefill_tokens_per_second) {
        output::line(&format!(
            "prefill of {} tokens: {speed:.1} tokens/s, {:.1} with {whole_layers} layers; {:.2} times the machine's f32 product ({:.0} GFLOP/s)",
            prefill.tokens,
            report.prefill_tokens_per_second_whole.unwrap_or(speed),
            report.prefill_over_f32.unwrap_or_default(),
            prefill.machine_f32_gflops
        ))?;
    }
    if let Some(load) = &report.load {
        let memory = load.private_memory_bytes.map_or("unknown".to_owned(), output::size);
        output::line(&format!("loaded in {:.3} s, {memory} of memory besides mapped files", load.seconds))?;
    }
    if let Some(bytes) = report.device_memory_bytes {
        output::line(&format!("{} of the card's memory taken", output::size(bytes)))?;
    }
    if let Some(bytes) = report.peak_memory_bytes {
        output::line(&format!("peak memory {}", output::size(bytes)))?;
    }
    Ok(())
}
