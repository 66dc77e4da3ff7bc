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
    let (seq_len, result) = shared::with_model(&args.dir, &args.prune, args.device, Evaluate { args })?;
    if args.json {
        return output::json(&Report { dataset: args.dataset.to_string(), seq_len, result });
    }
    output::line(&format!(
        "perplexity {:.4} over {} windows of {seq_len} tokens ({} predicted)",
        result.perplexity, result.windows, result.tokens
    ))?;
    if args.prune.prune {
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
}

impl shared::WithModel for Evaluate<'_> {
    type Output = (usize, Perplexity);

    fn run<B: PackedOps>(
        self,
        folder: &ModelFolder,
        model: &Mixtral<B>,
    ) -> Result<Self::Output, MixtralError> {
        let tokens = Tokenizer::read(folder.dir())?.encode(&self.args.dataset.text(None)?)?;
        let seq_len = shared::seq_len(self.args.seq_len, folder.config());
        let options = EvalOptions::new(seq_len).windows(self.args.windows);
        match perplexity(model, &tokens, &options, &Reporter::new()) {
            Ok(result) => Ok((seq_len, result)),
            Err(MixtralError::Dataset(source)) => {
                Err(MixtralError::Sequences { data: self.args.dataset.to_string(), source })
            }
            Err(error) => Err(error),
        }
    }
}
