//! Compresses and evaluates.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use mcmoe::mixtral::calibrate::Calibration;
use mcmoe::mixtral::compress::compress;
use mcmoe::mixtral::dataset::{DataFormat, DataSource, DataSpec};
use mcmoe::mixtral::evaluate::{EvalOptions, perplexity};
use mcmoe::mixtral::folder::ModelFolder;
use mcmoe::mixtral::inspect::inspect;
use mcmoe::mixtral::model::Mixtral;
use mcmoe::mixtral::{CpuBackend, Silent, Tokenizer};

use crate::points::{Corpus, Point, Pruned};
use crate::runs::{Evaluation, PruningRule, Run};
use crate::stamp::Stamp;

/// Tokens of a calibration sample and of an evaluated window.
const SEQ_LEN: usize = 256;
const SAMPLES: usize = 128;
const WINDOWS: usize = 256;
const SEED: u64 = 0;

/// The fixtures, ready to be measured on.
pub(crate) struct Bench {
    fixtures: PathBuf,
    wikitext: Vec<u32>,
    book: Vec<u32>,
    stamp: Stamp,
}

impl Bench {
    /// Reads the texts to evaluate on.
    pub(crate) fn open(fixtures: &Path) -> Result<Self, Box<dyn Error>> {
        let tokenizer = Tokenizer::read(&model_dir(fixtures))?;
        let wikitext = DataSource::new(DataFormat::WikiText2, fixtures.join("wikitext-2/test.txt"));
        Ok(Self {
            wikitext: tokenizer.encode(&DataSpec::from(wikitext).text(None)?)?,
            book: tokenizer.encode(&book(fixtures).text(None)?)?,
            fixtures: fixtures.to_owned(),
            stamp: Stamp::now(),
        })
    }

    /// Does `run`; the points of these of its evaluations.
    pub(crate) fn measure(
        &self,
        run: &Run,
        evaluations: &[Evaluation],
    ) -> Result<Vec<Point>, Box<dyn Error>> {
        let scratch = tempfile::tempdir()?;
        let (dir, seconds) = self.compress(run, scratch.path())?;
        let sizes = inspect(&dir)?;
        let folder = ModelFolder::open(&dir)?;
        let mut model = folder.model::<CpuBackend>(&Default::default())?;
        let mut points = Vec::with_capacity(evaluations.len());
        for evaluation in evaluations {
            let (perplexity, pruning) = self.evaluate(&folder, &mut model, *evaluation)?;
            points.push(Point {
                system: run.system.to_owned(),
                setting: run.setting.clone(),
                calibrated: run.calibrated,
                evaluated: evaluation.corpus,
                pruning,
                bpw: sizes.expert_bpw,
                attention_bpw: Some(sizes.attention_bpw),
                perplexity,
                seconds,
                stamp: Some(self.stamp.clone()),
            });
        }
        Ok(points)
    }

    /// The folder of the result and how long it took to make; the model itself where nothing is compressed.
    fn compress(&self, run: &Run, scratch: &Path) -> Result<(PathBuf, Option<f64>), Box<dyn Error>> {
        let model = model_dir(&self.fixtures);
        let Some(mut options) = run.options.clone() else { return Ok((model, None)) };
        if let Some(corpus) = run.calibrated {
            options = options.calibration(self.calibration(corpus));
        }
        let out = scratch.join("compressed");
        let start = Instant::now();
        compress::<CpuBackend>(&model, &out, &options, &Default::default(), &Silent)?;
        Ok((out, Some(start.elapsed().as_secs_f64())))
    }

    fn evaluate(
        &self,
        folder: &ModelFolder,
        model: &mut Mixtral<CpuBackend>,
        evaluation: Evaluation,
    ) -> Result<(f64, Option<Pruned>), Box<dyn Error>> {
        let pruning = evaluation.pruning.map(|rule| folder.pruning(rule.protect())).transpose()?;
        model.set_pruning(pruning)?;
        let tokens = match evaluation.corpus {
            Corpus::WikiText => &self.wikitext,
            Corpus::Book => &self.book,
        };
        let options = EvalOptions::new(SEQ_LEN).windows(Some(WINDOWS));
        let result = perplexity(model, tokens, &options, &Silent)?;
        let pruned =
            |rule: PruningRule| Pruned { rule: rule.name().to_owned(), share: result.pruned_fraction };
        Ok((result.perplexity, evaluation.pruning.map(pruned)))
    }

    fn calibration(&self, corpus: Corpus) -> Calibration {
        let data: DataSpec = match corpus {
            Corpus::WikiText => {
                let train = self.fixtures.join("wikitext-2/train.txt");
                DataSource::new(DataFormat::WikiText2, train).into()
            }
            Corpus::Book => book(&self.fixtures),
        };
        Calibration::new(data).samples(SAMPLES).seq_len(SEQ_LEN).seed(SEED)
    }
}

fn model_dir(fixtures: &Path) -> PathBuf {
    fixtures.join("tiny-mixtral")
}

fn book(fixtures: &Path) -> DataSpec {
    DataSource::new(DataFormat::C4, fixtures.join("other-text/rust-book.jsonl.gz")).into()
}
