//! `mcmoe synthesize`.

use mcmoe_mixtral::synthetic::synthesize;
use mcmoe_mixtral::{MixtralConfig, MixtralError};
use serde::Serialize;

use super::Failure;
use crate::args::{ShapeArg, SynthesizeArgs};
use crate::output;
use crate::progress::Reporter;

pub(crate) fn run(args: &SynthesizeArgs) -> Result<(), Failure> {
    let config = config(args)?;
    let layers = config.num_hidden_layers;
    let total_bytes = synthesize(&config, args.seed, &args.output, &Reporter::new())?;
    if args.json {
        return output::json(&Summary { total_bytes, layers });
    }
    output::line(&format!(
        "{} of random weights in {layers} layers: {}",
        output::size(total_bytes),
        args.output.display()
    ))
}

#[derive(Serialize)]
struct Summary {
    total_bytes: u64,
    layers: usize,
}

/// The dimensions of the wanted shape with as many layers as wanted.
fn config(args: &SynthesizeArgs) -> Result<MixtralConfig, Failure> {
    let config = match &args.shape {
        ShapeArg::Known(shape) => shape.config(),
        ShapeArg::File(path) => MixtralConfig::read_file(path)
            .map_err(|error| MixtralError::Option { option: "--shape", reason: error.to_string() })?,
    };
    let most = config.num_hidden_layers;
    match args.layers {
        None => Ok(config),
        Some(layers) if layers <= most => Ok(config.with_layers(layers)),
        Some(layers) => {
            Err(Failure::Usage(format!("--layers: there are no {layers} layers: the shape has {most}")))
        }
    }
}
