//! `mcmoe eval`.

use mcmoe_mixtral::evaluate::{EvalOptions, Perplexity, perplexity};
use mcmoe_mixtral::folder::ModelFolder;
use mcmoe_mixtral::model::Mixtral;
use mcmoe_mixtral::{MixtralError, PackedOps, Tokenizer};
use serde::Serialize;

use super::{Failure, shared};
use crate::args::EvalArgs;
use crate::output;
use crate::progress::Reporter;

pub(crate) fn run(args: &EvalArgs) -> Result<(), Failure> {
    let folder = ModelFolder::open(&args.dir)?;
    let tokens = Tokenizer::read(&args.dir)?.encode(&args.dataset.text(None).map_err(MixtralError::from)?)?;
    let seq_len = shared::seq_len(args.seq_len, folder.config());
    let options = EvalOptions::new(seq_len).windows(args.windows);
    let result = shared::with_model(&folder, &args.run, Evaluate { args, tokens, options })?;
    if args.json {
        return output::json(&Report { dataset: args.dataset.to_string(), seq_len, result });
    }
    output::line(&format!(
        "perplexity {:.4} over {} windows of {seq_len} tokens ({} predicted)",
        result.perplexity, result.windows, result.tokens
    ))?;
    if args.run.prune.prune {
        output::line(&format!("{:.1} % of expert activations pruned", 100.0 * result.pruned_fraction))?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Report {
    dataset: String,
    seq_len: usize,
    #[serde(flatten)]
    result: Perplexity,
}

struct Evaluate<'a> {
    args: &'a EvalArgs,
    tokens: Vec<u32>,
    options: EvalOptions,
}

impl shared::WithModel for Evaluate<'_> {
    type Output = Perplexity;

    fn run<B: PackedOps>(self, model: &Mixtral<B>) -> Result<Perplexity, MixtralError> {
        perplexity(model, &self.tokens, &self.options, &Reporter::new()).map_err(|error| match error {
            MixtralError::Dataset(source) => {
                MixtralError::Sequences { data: self.args.dataset.to_string(), source }
            }
            other => other,
        })
    }
}
