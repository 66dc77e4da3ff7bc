//! `mcmoe compress`.

use std::path::PathBuf;

use mcmoe_mixtral::compress::{
    CompressOptions, CompressReport, Plan, Quantizer, Repair, SizeGoal, Spent, compress, plan, rarely_reached,
};
use mcmoe_mixtral::folder::read_allocation;
use mcmoe_mixtral::inspect::{Inspection, inspect};
use mcmoe_mixtral::{Method, MixtralConfig, MixtralError, OnDevice, PackedOps};
use serde::Serialize;

use super::Failure;
use super::shared::{self, run_on};
use crate::args::{CompressArgs, MethodArg, RepairArg};
use crate::output;
use crate::progress::Reporter;

pub(crate) fn run(args: CompressArgs) -> Result<(), Failure> {
    let config = MixtralConfig::read(&args.model_dir)?;
    let (json, dry_run, device) = (args.json, args.dry_run, args.device.clone());
    let (model, output) = (args.model_dir.clone(), args.output.clone());
    let options = options(args, &config)?;
    options.check_calibration().map_err(|error| Failure::Usage(error.to_string()))?;
    if dry_run {
        let plan = run_on(&device, DryRun { model, options })?;
        return if json { output::json(&plan) } else { print_plan(&plan) };
    }
    let report = run_on(&device, Compress { model, output: output.clone(), options })?;
    for (matrix, fallback) in rarely_reached(&report) {
        tracing::info!(matrix = matrix.name, ?fallback, "rarely reached by calibration");
    }
    print(&inspect(&output)?, &report, json)
}

fn options(args: CompressArgs, config: &MixtralConfig) -> Result<CompressOptions, Failure> {
    let size = match (args.expert_bits, args.bpw, args.size) {
        (_, Some(bits), _) => SizeGoal::BitsPerWeight(bits),
        (_, _, Some(bytes)) => SizeGoal::Bytes(bytes),
        (bits, None, None) => SizeGoal::ExpertBits(bits.unwrap_or(2.0)),
    };
    let quantizer = match args.method {
        MethodArg::Trellis => Quantizer::Trellis,
        MethodArg::Gptq => Quantizer::Grid(Method::Gptq),
        MethodArg::Hqq => Quantizer::Grid(Method::Hqq),
        MethodArg::Rtn => Quantizer::Grid(Method::Rtn),
    };
    let mut options = CompressOptions::default().size(size).quantizer(quantizer);
    options.mode = args.mode.mode.map(|mode| shared::mode(mode, &args.mode));
    options.attention_bits = args.attention_bits;
    options.group_size = args.group_size;
    options.seed = args.calibration.seed;
    options.repair = args.repair.as_deref().map(repair).transpose()?;
    (options.work_dir, options.resume) = (args.work_dir, args.resume);
    options.calibration = shared::calibration(args.calibration, config);
    let allocation = args.allocation.map(|path| read_allocation(&path, config));
    options.allocation = allocation.transpose()?;
    Ok(options)
}

fn repair(parts: &[RepairArg]) -> Result<Repair, Failure> {
    let asked = |part| parts.contains(&part);
    if asked(RepairArg::None) && parts.len() > 1 {
        return Err(Failure::Usage("--repair none goes with no other part".to_owned()));
    }
    Ok(Repair {
        routers: asked(RepairArg::Routers),
        norms: asked(RepairArg::Norms),
        scales: asked(RepairArg::Scales),
    })
}

struct Compress {
    model: PathBuf,
    output: PathBuf,
    options: CompressOptions,
}

impl OnDevice for Compress {
    type Output = CompressReport;

    fn run<B: PackedOps>(self, devices: &[B::Device]) -> Result<CompressReport, MixtralError> {
        compress::<B>(&self.model, &self.output, &self.options, &devices[0], &Reporter::new())
    }
}

struct DryRun {
    model: PathBuf,
    options: CompressOptions,
}

impl OnDevice for DryRun {
    type Output = Plan;

    fn run<B: PackedOps>(self, devices: &[B::Device]) -> Result<Plan, MixtralError> {
        plan::<B>(&self.model, &self.options, &devices[0])
    }
}

fn print_plan(plan: &Plan) -> Result<(), Failure> {
    let Plan { layers, calibration_tokens, flops, .. } = plan;
    output::line(&format!("{layers} layers, {calibration_tokens} calibration tokens"))?;
    output::line(&format!("result  {}", output::size(plan.result_bytes)))?;
    output::line(&format!(
        "memory  at most {} (one layer in f32 is {}, the Hessians at a time {})",
        output::size(plan.memory_bytes),
        output::size(plan.layer_bytes),
        output::size(plan.hessian_bytes),
    ))?;
    output::line(&format!("disk    at most {} with the result", output::size(plan.disk_bytes)))?;
    let (time, gflops) = (output::duration(plan.seconds), flops / 1e9);
    output::line(&format!(
        "time    about {time} on this machine ({gflops:.0} GFLOP/s), within a factor of two"
    ))
}

/// Where the time went, and how near each part came to the speed of a large product.
#[derive(Serialize)]
struct Part {
    part: &'static str,
    seconds: f64,
    gflops: f64,
}

fn parts(report: &CompressReport) -> Vec<Part> {
    let gflops = |spent: Spent| if spent.seconds > 0.0 { spent.flops / spent.seconds / 1e9 } else { 0.0 };
    let part = |(part, spent): (_, Spent)| Part { part, seconds: spent.seconds, gflops: gflops(spent) };
    report.times.parts().map(part).into_iter().filter(|part| part.seconds > 0.0).collect()
}

#[derive(Serialize)]
struct Summary<'a> {
    expert_bits: f64,
    expert_bpw: f64,
    attention_bpw: f64,
    model_bpw: f64,
    total_bytes: u64,
    rarely_reached: Vec<&'a str>,
    times: Vec<Part>,
}

fn print(result: &Inspection, report: &CompressReport, json: bool) -> Result<(), Failure> {
    let rare: Vec<&str> = rarely_reached(report).map(|(matrix, _)| matrix.name.as_str()).collect();
    if json {
        return output::json(&Summary {
            expert_bits: result.expert_bits,
            expert_bpw: result.expert_bpw,
            attention_bpw: result.attention_bpw,
            model_bpw: result.model_bpw,
            total_bytes: result.total_bytes,
            rarely_reached: rare,
            times: parts(report),
        });
    }
    output::line(&format!(
        "{}: experts {:.2} bits a code, {:.3} stored; whole model {:.3} bits a weight",
        output::size(result.total_bytes),
        result.expert_bits,
        result.expert_bpw,
        result.model_bpw
    ))?;
    for Part { part, seconds, gflops } in parts(report) {
        output::line(&format!("{seconds:9.1} s  {part}, {gflops:.0} GFLOP/s"))?;
    }
    if !rare.is_empty() {
        output::line(&format!("calibration hardly reached {} matrices (report.json has each):", rare.len()))?;
    }
    rare.iter().try_for_each(|name| output::line(&format!("  {name}")))
}
