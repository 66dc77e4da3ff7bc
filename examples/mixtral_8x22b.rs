//! Mixtral 8x22B for a machine with 48 GB of memory: compressed from 281 GB to 37, evaluated, put to use.
//!
//! ```text
//! cargo run --release --example mixtral_8x22b -- FOLDER TEXT_FILE [EVALUATION_FILE]
//! cargo run --release --example mixtral_8x22b -- --synthetic
//! ```
//! `FOLDER` is the model as downloaded from Hugging Face, `TEXT_FILE` plain text to calibrate on, and to
//! evaluate on if there is no other. The result goes to `mixtral-8x22b-compressed` in the current folder;
//! started again, a run that was stopped goes on where it was. `--synthetic` does the same, on few and
//! short samples, to one layer of true shape with random weights, in 7.5 GB of temporary files; what that
//! model says means nothing.

mod common;

use std::error::Error;
use std::ops::ControlFlow;
use std::process::ExitCode;

use common::{Job, Lines, exit_code};
use mcmoe::mixtral::calibrate::Calibration;
use mcmoe::mixtral::compress::{CompressOptions, SizeGoal, compress};
use mcmoe::mixtral::evaluate::{EvalOptions, perplexity};
use mcmoe::mixtral::folder::ModelFolder;
use mcmoe::mixtral::generate::{GenerateOptions, Sampling, generate};
use mcmoe::mixtral::inspect::inspect;
use mcmoe::mixtral::synthetic::Shape;
use mcmoe::mixtral::{CpuBackend, Tokenizer};

/// Scales and zero points included, as memory counts them: 33.8 GB of experts beside 2.6 GB of attention
/// and 0.8 GB of embedding and head. Codes have 1.75 bits on average.
const SIZE: SizeGoal = SizeGoal::BitsPerWeight(2.0);
/// Activations of 128 samples would take 6.4 GB a copy. An expert sees 32,768 tokens of these on average,
/// twice as many as its `w2` has inputs.
const SAMPLES: usize = 64;
const SEQ_LEN: usize = 2048;
/// Windows to evaluate, enough for a first look.
const WINDOWS: usize = 4;
/// Share of the tokens of a sequence that keep all their experts under pruning.
const PROTECTED: f32 = 0.02;
const PROMPT: &str = "In a mixture of experts,";

fn main() -> ExitCode {
    exit_code(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let job = Job::from_args(Shape::Mixtral8x22b)?;
    let (samples, seq_len) = if job.synthetic { (4, 512) } else { (SAMPLES, SEQ_LEN) };
    let (device, progress) = (Default::default(), Lines::default());

    if !job.output.exists() {
        let calibration = Calibration::new(job.calibration.clone()).samples(samples).seq_len(seq_len);
        let mut options = CompressOptions::default().size(SIZE).calibration(calibration);
        if !job.synthetic {
            options = options.work_dir(job.output.with_extension("work")).resume(true);
        }
        println!("Compressing {} ...", job.model.display());
        compress::<CpuBackend>(&job.model, &job.output, &options, &device, &progress)?;
    }
    let sizes = inspect(&job.output)?;
    let bits = || sizes.experts.iter().map(|expert| expert.bits);
    let (least, most) = (bits().fold(f64::INFINITY, f64::min), bits().fold(0.0, f64::max));
    println!("{:.2} GB, experts {:.3} stored bits", sizes.total_bytes as f64 / 1e9, sizes.expert_bpw);
    println!("experts have {least:.2} to {most:.2} bits a code");

    let folder = ModelFolder::open(&job.output)?;
    let tokenizer = Tokenizer::read(&job.output)?;
    let mut model = folder.model::<CpuBackend>(&device)?;
    let tokens = tokenizer.encode(&job.evaluation.text(Some(8 * WINDOWS * seq_len))?)?;
    let options = EvalOptions::new(seq_len).windows(Some(WINDOWS));
    for pruning in [None, Some(folder.pruning(PROTECTED)?)] {
        model.set_pruning(pruning)?;
        let result = perplexity(&model, &tokens, &options, &progress)?;
        let pruned = 100.0 * result.pruned_fraction;
        println!("perplexity {:.3}, {pruned:.1} % of expert activations pruned", result.perplexity);
    }

    // The model prunes as it goes. A text starts with the beginning-of-text token.
    let mut prompt: Vec<u32> = folder.config().bos_token_id().into_iter().collect();
    prompt.extend(tokenizer.encode(PROMPT)?);
    let options = GenerateOptions::default()
        .max_new_tokens(64)
        .sampling(Sampling::default().temperature(0.7).top_p(0.9));
    print!("> {PROMPT}");
    let generation = generate(&model, &tokenizer, &prompt, &options, &mut |piece| {
        print!("{piece}");
        ControlFlow::Continue(())
    })?;
    println!("\n{} tokens in {:.1} s", generation.tokens.len(), generation.decode.as_secs_f64());
    Ok(())
}
