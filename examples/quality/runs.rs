//! The settings of ours that are measured.

use mcmoe::mixtral::compress::{CompressOptions, Quantizer, Repair, SizeGoal};
use mcmoe::mixtral::{Method, Mode};

use crate::points::{Corpus, Point};
use crate::systems;

/// Sizes of the trellis, those of other systems among them.
const TRELLIS_BITS: [f64; 8] = [1.5, 1.5625, 1.75, 2.0625, 2.25, 2.5625, 3.0625, 3.4375];
/// The one at which pruning and foreign text are tried.
const LOOKED_INTO: f64 = 2.0625;

/// A compression and what is done with its result.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) system: &'static str,
    pub(crate) setting: String,
    /// Absent where no text is needed.
    pub(crate) calibrated: Option<Corpus>,
    /// Calibration left out; absent for the model as it is.
    pub(crate) options: Option<CompressOptions>,
    pub(crate) evaluations: Vec<Evaluation>,
}

/// A text to evaluate on, with or without pruning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Evaluation {
    pub(crate) corpus: Corpus,
    pub(crate) pruning: Option<PruningRule>,
}

/// Which experts online dynamic pruning drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PruningRule {
    /// Those below the median threshold of their layer.
    Median,
    /// The same, but none of the most important tokens.
    Protected,
}

impl PruningRule {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Median => "median threshold",
            Self::Protected => "2% protected",
        }
    }

    /// Share of protected tokens.
    pub(crate) const fn protect(self) -> f32 {
        match self {
            Self::Median => 0.0,
            Self::Protected => 0.02,
        }
    }
}

impl Evaluation {
    const fn on(corpus: Corpus) -> Self {
        Self { corpus, pruning: None }
    }

    const fn pruned(rule: PruningRule) -> Self {
        Self { corpus: Corpus::WikiText, pruning: Some(rule) }
    }

    fn has(self, point: &Point) -> bool {
        let rule = point.pruning.as_ref().map(|pruned| pruned.rule.as_str());
        point.evaluated == self.corpus && rule == self.pruning.map(PruningRule::name)
    }
}

impl Run {
    fn new(system: &'static str, setting: String, options: CompressOptions) -> Self {
        Self {
            system,
            setting,
            calibrated: Some(Corpus::WikiText),
            options: Some(options),
            evaluations: vec![Evaluation::on(Corpus::WikiText)],
        }
    }

    fn calibrated(self, calibrated: Option<Corpus>) -> Self {
        Self { calibrated, ..self }
    }

    fn also(mut self, evaluations: &[Evaluation]) -> Self {
        self.evaluations.extend(evaluations);
        self
    }

    /// What `--only` looks at.
    pub(crate) fn name(&self) -> String {
        let Self { system, setting, .. } = self;
        match self.calibrated {
            Some(corpus) => format!("{system}, {setting}, calibrated on {}", corpus.name()),
            None => format!("{system}, {setting}"),
        }
    }

    /// Whether `point` is of this run.
    pub(crate) fn has(&self, point: &Point) -> bool {
        self.is_source_of(point) && self.evaluations.iter().any(|evaluation| evaluation.has(point))
    }

    /// The evaluations without a point.
    pub(crate) fn missing(&self, points: &[Point]) -> Vec<Evaluation> {
        let own: Vec<&Point> = points.iter().filter(|point| self.is_source_of(point)).collect();
        let missing = |evaluation: &Evaluation| !own.iter().any(|point| evaluation.has(point));
        self.evaluations.iter().copied().filter(missing).collect()
    }

    fn is_source_of(&self, point: &Point) -> bool {
        (self.system, self.setting.as_str(), self.calibrated)
            == (point.system.as_str(), point.setting.as_str(), point.calibrated)
    }
}

/// All runs: the model as it is, the trellis, the grids.
pub(crate) fn all() -> Vec<Run> {
    let dense = Run {
        system: systems::DENSE,
        setting: "as trained".to_owned(),
        calibrated: None,
        options: None,
        evaluations: [Corpus::WikiText, Corpus::Book].map(Evaluation::on).to_vec(),
    };
    let mut runs = vec![dense];
    runs.extend(trellis());
    runs.extend(grids());
    runs
}

fn trellis() -> Vec<Run> {
    let sized = |bits: f64| CompressOptions::default().size(SizeGoal::BitsPerWeight(bits));
    let setting = |bits: f64| format!("at most {bits} bits");
    let default = |bits: f64| Run::new(systems::TRELLIS, setting(bits), sized(bits));
    let plain =
        |bits: f64| Run::new(systems::TRELLIS_PLAIN, setting(bits), sized(bits).repair(Repair::default()));
    let more = [
        Evaluation::pruned(PruningRule::Median),
        Evaluation::pruned(PruningRule::Protected),
        Evaluation::on(Corpus::Book),
    ];
    let looked_into = |bits: f64| if bits == LOOKED_INTO { default(bits).also(&more) } else { default(bits) };
    let mut runs: Vec<Run> = TRELLIS_BITS.into_iter().map(looked_into).collect();
    runs.push(default(LOOKED_INTO).calibrated(Some(Corpus::Book)));
    runs.push(plain(LOOKED_INTO).also(&[Evaluation::on(Corpus::Book)]));
    runs.push(plain(LOOKED_INTO).calibrated(Some(Corpus::Book)));
    runs.extend([1, 2, 3].map(|bits| uniform(systems::TRELLIS_UNIFORM, Quantizer::Trellis, bits)));
    runs
}

fn grids() -> Vec<Run> {
    let gptq = |bits| uniform(systems::GPTQ_UNIFORM, Quantizer::Grid(Method::Gptq), bits);
    let hqq = |bits| uniform(systems::HQQ_UNIFORM, Quantizer::Grid(Method::Hqq), bits).calibrated(None);
    let mixed = |bits: f64| {
        let options = CompressOptions::default().size(SizeGoal::ExpertBits(bits)).mode(Mode::Mixed);
        let options = options.quantizer(Quantizer::Grid(Method::Gptq));
        Run::new(systems::GPTQ_MIXED, format!("{bits} bits on average"), options)
    };
    let mut runs = vec![mixed(2.0)];
    let foreign = [Evaluation::on(Corpus::Book)];
    runs.extend([gptq(2).also(&foreign), gptq(2).calibrated(Some(Corpus::Book)), gptq(3)]);
    runs.extend([hqq(2).also(&foreign), hqq(3)]);
    runs
}

fn uniform(system: &'static str, quantizer: Quantizer, bits: u8) -> Run {
    let options = CompressOptions::default().size(SizeGoal::ExpertBits(f64::from(bits)));
    let options = options.mode(Mode::Uniform).quantizer(quantizer);
    Run::new(system, format!("{bits} {}", if bits == 1 { "bit" } else { "bits" }), options)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn runs_have_different_names() {
        let runs = all();
        let names: BTreeSet<String> = runs.iter().map(Run::name).collect();
        assert_eq!(names.len(), runs.len());
        assert_eq!(runs.iter().filter(|run| run.name().contains("Rust book")).count(), 3);
    }

    #[test]
    fn points_belong_to_their_runs() {
        let runs = all();
        let point = Point::new(systems::TRELLIS, "at most 2.0625 bits", 2.0625, 21.0);
        assert_eq!(runs.iter().filter(|run| run.has(&point)).count(), 1);
        let run = runs.iter().find(|run| run.has(&point)).unwrap();
        assert_eq!(run.evaluations.len(), 4);
        assert_eq!(run.missing(&[point]), run.evaluations[1..]);
    }
}
