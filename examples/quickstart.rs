//! From a dense model to a compressed one, compared and put to use, with the libraries alone.
//!
//! ```text
//! cargo run --example quickstart [MODEL_DIR [CALIBRATION EVALUATION]]
//! ```
//! Without arguments it takes the demo model in `assets/`, which has 8.6 MB and was trained for this
//! purpose. `CALIBRATION` and `EVALUATION` are data sets such as `wikitext2:wiki.train.txt`.

use std::error::Error;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use mcmoe::mixtral::calibrate::Calibration;
use mcmoe::mixtral::compress::{CompressOptions, SizeGoal, compress, rarely_reached};
use mcmoe::mixtral::dataset::DataSpec;
use mcmoe::mixtral::evaluate::{EvalOptions, Perplexity, perplexity};
use mcmoe::mixtral::folder::ModelFolder;
use mcmoe::mixtral::generate::{GenerateOptions, Sampling, generate};
use mcmoe::mixtral::inspect::inspect;
use mcmoe::mixtral::{CpuBackend, Silent, Tokenizer};

const SEQ_LEN: usize = 256;
const SAMPLES: usize = 64;
const PROTECTED: f32 = 0.02;
const PROMPT: &str = " The ship was built in";

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo-mixtral");
    let model_dir = args.next().map_or_else(|| demo.clone(), PathBuf::from);
    let text = |given: Option<String>, name: &str| -> Result<DataSpec, Box<dyn Error>> {
        Ok(given.unwrap_or_else(|| format!("text:{}", demo.join(name).display())).parse()?)
    };
    let calibration = text(args.next(), "calibration.txt")?;
    let evaluation = text(args.next(), "evaluation.txt")?;

    let scratch = tempfile::tempdir()?;
    let out_dir = scratch.path().join("compressed");
    let device = Default::default();

    println!("Compressing {} to 2.0 bits an expert weight ...", model_dir.display());
    let options = CompressOptions::default()
        .size(SizeGoal::ExpertBits(2.0))
        .calibration(Calibration::new(calibration).samples(SAMPLES).seq_len(SEQ_LEN));
    let report = compress::<CpuBackend>(&model_dir, &out_dir, &options, &device, &Silent)?;
    for (matrix, why) in rarely_reached(&report) {
        println!("  note: calibration hardly reached {} ({why:?})", matrix.name);
    }

    let tokenizer = Tokenizer::read(&model_dir)?;
    let tokens = tokenizer.encode(&evaluation.text(None)?)?;
    let evaluate = |dir: &Path, prune: bool| -> Result<Perplexity, Box<dyn Error>> {
        let folder = ModelFolder::open(dir)?;
        let mut model = folder.model::<CpuBackend>(&device)?;
        model.set_pruning(if prune { Some(folder.pruning(PROTECTED)?) } else { None })?;
        Ok(perplexity(&model, &tokens, &EvalOptions::new(SEQ_LEN), &Silent)?)
    };
    println!("\n| model                | size     | expert bits | stored bits | perplexity | pruned |");
    println!("|----------------------|----------|-------------|-------------|------------|--------|");
    for (name, dir, prune) in [
        ("16-bit", model_dir.as_path(), false),
        ("compressed", &out_dir, false),
        ("compressed + pruning", &out_dir, true),
    ] {
        let (sizes, result) = (inspect(dir)?, evaluate(dir, prune)?);
        println!(
            "| {name:20} | {:5.2} MB | {:11.2} | {:11.3} | {:10.3} | {:4.1} % |",
            sizes.tensor_bytes as f64 / 1e6,
            sizes.expert_bits,
            sizes.expert_bpw,
            result.perplexity,
            100.0 * result.pruned_fraction,
        );
    }

    let folder = ModelFolder::open(&out_dir)?;
    let mut model = folder.model::<CpuBackend>(&device)?;
    model.set_pruning(Some(folder.pruning(PROTECTED)?))?;
    print!("\nThe compressed model, pruning as it goes, continues a prompt:\n\n >{PROMPT}");
    let sampling = Sampling::default().temperature(0.8).top_p(0.9).repetition_penalty(1.1);
    let options = GenerateOptions::default().max_new_tokens(60).sampling(sampling);
    generate(&model, &tokenizer, &tokenizer.encode(PROMPT)?, &options, &mut |piece| {
        print!("{piece}");
        ControlFlow::Continue(())
    })?;
    println!();
    Ok(())
}
