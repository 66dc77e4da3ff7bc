//! `mcmoe compress`.

use std::path::PathBuf;

use mcmoe_mixtral::compress::{CompressOptions, CompressReport, SizeGoal, compress, rarely_reached};
use mcmoe_mixtral::folder::read_allocation;
use mcmoe_mixtral::inspect::{Inspection, inspect};
use mcmoe_mixtral::{Method, MixtralConfig, MixtralError, OnDevice, PackedOps};
use serde::Serialize;

use super::{Failure, shared};
use crate::args::{CompressArgs, MethodArg};
use crate::output;
use crate::progress::Reporter;

pub(crate) fn run(args: CompressArgs) -> Result<(), Failure> {
    let config = MixtralConfig::read(&args.model_dir)?;
    let (json, device) = (args.json, args.device);
    let (model, output) = (args.model_dir.clone(), args.output.clone());
    let options = options(args, &config)?;
    options.check_calibration().map_err(|error| Failure::Usage(error.to_string()))?;
    let report = device.run(Compress { model, output: output.clone(), options })?;
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
    let method = match args.method {
        MethodArg::Gptq => Method::Gptq,
        MethodArg::Hqq => Method::Hqq,
        MethodArg::Rtn => Method::Rtn,
    };
    let mut options = CompressOptions::default().size(size).method(method).mode(shared::mode(&args.mode));
    options.attention_bits = args.attention_bits;
    options.group_size = args.group_size;
    options.seed = args.calibration.seed;
    options.calibration = shared::calibration(args.calibration, config);
    let allocation = args.allocation.map(|path| read_allocation(&path, config));
    options.allocation = allocation.transpose()?;
    Ok(options)
}

struct Compress {
    model: PathBuf,
    output: PathBuf,
    options: CompressOptions,
}

impl OnDevice for Compress {
    type Output = CompressReport;

    fn run<B: PackedOps>(self, device: &B::Device) -> Result<CompressReport, MixtralError> {
        compress::<B>(&self.model, &self.output, &self.options, device, &Reporter::new())
    }
}

#[derive(Serialize)]
struct Summary<'a> {
    expert_bits: f64,
    expert_bpw: f64,
    attention_bpw: f64,
    model_bpw: f64,
    total_bytes: u64,
    rarely_reached: Vec<&'a str>,
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
        });
    }
    output::line(&format!(
        "{}: experts {:.2} bits a code, {:.3} stored; whole model {:.3} bits a weight",
        output::size(result.total_bytes),
        result.expert_bits,
        result.expert_bpw,
        result.model_bpw
    ))?;
    if !rare.is_empty() {
        output::line(&format!("calibration hardly reached {} matrices (report.json has each):", rare.len()))?;
    }
    rare.iter().try_for_each(|name| output::line(&format!("  {name}")))
}
