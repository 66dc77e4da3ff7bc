//! `mcmoe generate`.

use std::ops::ControlFlow;

use mcmoe_mixtral::folder::ModelFolder;
use mcmoe_mixtral::generate::{GenerateOptions, Generation, Sampling, generate};
use mcmoe_mixtral::model::Mixtral;
use mcmoe_mixtral::{MixtralError, PackedOps, Tokenizer};
use serde::Serialize;

use super::{Failure, shared};
use crate::args::GenerateArgs;
use crate::output;

pub(crate) fn run(args: &GenerateArgs) -> Result<(), Failure> {
    let folder = ModelFolder::open(&args.dir)?;
    let tokenizer = Tokenizer::read(&args.dir)?;
    let prompt = prompt(args, &folder, &tokenizer)?;
    let mut written = Ok(());
    let mut emit = |text: &str| {
        if !args.json {
            written = output::piece(text);
        }
        if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let work = Run { args, tokenizer: &tokenizer, prompt, emit: &mut emit };
    let result = shared::with_model(&folder, &args.run, work)?;
    written?;
    let speed = |tokens: usize, time: std::time::Duration| tokens as f64 / time.as_secs_f64().max(1e-9);
    let decode_speed = speed(result.tokens.len().saturating_sub(1), result.decode);
    if args.json {
        return output::json(&Report {
            prompt: &args.prompt,
            text: &result.text,
            tokens: &result.tokens,
            pruned_fraction: result.pruned_fraction,
            decode_tokens_per_second: decode_speed,
        });
    }
    tracing::info!(
        tokens = result.tokens.len(),
        decode_tokens_per_second = decode_speed,
        pruned_fraction = result.pruned_fraction,
        "generated"
    );
    output::line("")
}

#[derive(Serialize)]
struct Report<'a> {
    prompt: &'a str,
    text: &'a str,
    tokens: &'a [u32],
    pruned_fraction: f64,
    decode_tokens_per_second: f64,
}

/// The prompt's tokens, after the beginning-of-text token if that is wanted.
fn prompt(
    args: &GenerateArgs,
    folder: &ModelFolder,
    tokenizer: &Tokenizer,
) -> Result<Vec<u32>, MixtralError> {
    let mut prompt = tokenizer.encode(&args.prompt)?;
    if args.bos {
        let missing = || MixtralError::Option {
            option: "--bos",
            reason: "config.json names no bos_token_id".to_owned(),
        };
        prompt.insert(0, folder.config().bos_token_id().ok_or_else(missing)?);
    }
    Ok(prompt)
}

struct Run<'a> {
    args: &'a GenerateArgs,
    tokenizer: &'a Tokenizer,
    prompt: Vec<u32>,
    emit: &'a mut dyn FnMut(&str) -> ControlFlow<()>,
}

impl shared::WithModel for Run<'_> {
    type Output = Generation;

    fn run<B: PackedOps>(self, model: &Mixtral<B>) -> Result<Generation, MixtralError> {
        let args = self.args;
        let sampling = Sampling::default()
            .temperature(args.temperature)
            .top_k(args.top_k)
            .top_p(args.top_p)
            .repetition_penalty(args.repetition_penalty)
            .seed(args.seed);
        let options = GenerateOptions::default().max_new_tokens(args.max_new_tokens).sampling(sampling);
        generate(model, self.tokenizer, &self.prompt, &options, self.emit)
    }
}
