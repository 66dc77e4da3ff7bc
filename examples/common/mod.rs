//! What the examples of true size share: arguments, progress as lines, errors in words.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use mcmoe::mixtral::Progress;
use mcmoe::mixtral::dataset::{DataFormat, DataSource, DataSpec};
use mcmoe::mixtral::synthetic::{Shape, synthesize};
use tempfile::TempDir;

/// What to compress, and on what text.
pub(crate) struct Job {
    /// Folder of the dense model.
    pub(crate) model: PathBuf,
    /// Folder of the compressed one.
    pub(crate) output: PathBuf,
    /// Whether the model's weights are random.
    pub(crate) synthetic: bool,
    pub(crate) calibration: DataSpec,
    pub(crate) evaluation: DataSpec,
    /// Holds the folders of a synthetic model, and removes them at the end.
    _scratch: Option<TempDir>,
}

impl Job {
    /// `FOLDER TEXT_FILE [EVALUATION_FILE]`, or `--synthetic` for one layer of `shape` that is made now.
    pub(crate) fn from_args(shape: Shape) -> Result<Self, Box<dyn Error>> {
        let args: Vec<String> = std::env::args().skip(1).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        match args[..] {
            ["--synthetic"] => Self::synthetic(shape),
            [model, text] => Ok(Self::real(shape, model, text, text)),
            [model, text, evaluation] => Ok(Self::real(shape, model, text, evaluation)),
            _ => Err("give FOLDER TEXT_FILE [EVALUATION_FILE], or --synthetic".into()),
        }
    }

    fn real(shape: Shape, model: &str, text: &str, evaluation: &str) -> Self {
        Self {
            model: model.into(),
            output: format!("{shape}-compressed").into(),
            synthetic: false,
            calibration: plain_text(text),
            evaluation: plain_text(evaluation),
            _scratch: None,
        }
    }

    fn synthetic(shape: Shape) -> Result<Self, Box<dyn Error>> {
        let scratch = tempfile::tempdir()?;
        let model = scratch.path().join("model");
        println!("Writing one layer of {shape} with random weights to {} ...", model.display());
        synthesize(&shape.config().with_layers(1), 0, &model, &Lines::default())?;
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo-mixtral");
        Ok(Self {
            model,
            output: scratch.path().join("compressed"),
            synthetic: true,
            calibration: plain_text(demo.join("calibration.txt")),
            evaluation: plain_text(demo.join("evaluation.txt")),
            _scratch: Some(scratch),
        })
    }
}

fn plain_text(path: impl Into<PathBuf>) -> DataSpec {
    DataSource::new(DataFormat::Text, path).into()
}

/// Reports progress on stderr, up to ten lines a phase.
#[derive(Default)]
pub(crate) struct Lines {
    phase: Mutex<Phase>,
}

#[derive(Default)]
struct Phase {
    name: String,
    steps: u64,
    done: u64,
}

impl Phase {
    fn tenths(&self) -> u64 {
        10 * self.done / self.steps.max(1)
    }
}

impl Progress for Lines {
    fn start(&self, phase: &str, steps: u64) {
        let phase = Phase { name: phase.to_owned(), steps, done: 0 };
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    fn advance(&self, steps: u64) {
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        let before = phase.tenths();
        phase.done += steps;
        if phase.tenths() > before {
            eprintln!("  {}: {} of {}", phase.name, phase.done, phase.steps);
        }
    }

    fn finish(&self) {}
}

/// Says what went wrong, if anything did.
pub(crate) fn exit_code(outcome: Result<(), Box<dyn Error>>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
