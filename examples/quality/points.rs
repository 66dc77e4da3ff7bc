//! What is measured: one perplexity at one size.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::files;
use crate::stamp::Stamp;

/// A text to calibrate on or to evaluate on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Corpus {
    /// WikiText-2: its training text to calibrate, its test text to evaluate.
    WikiText,
    /// The Rust Programming Language, the same text for both.
    Book,
}

impl Corpus {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::WikiText => "WikiText-2",
            Self::Book => "Rust book",
        }
    }
}

/// Online dynamic pruning of a point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pruned {
    /// Which experts were pruned.
    pub(crate) rule: String,
    /// Share of the expert activations that was pruned.
    pub(crate) share: f64,
}

/// One perplexity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    pub(crate) system: String,
    pub(crate) setting: String,
    /// Absent where no text is needed.
    pub(crate) calibrated: Option<Corpus>,
    pub(crate) evaluated: Corpus,
    pub(crate) pruning: Option<Pruned>,
    /// Stored bits a weight over all experts, everything included.
    pub(crate) bpw: f64,
    /// Stored bits a weight of the attention projections, where measured here.
    pub(crate) attention_bpw: Option<f64>,
    pub(crate) perplexity: f64,
    /// What compressing took.
    pub(crate) seconds: Option<f64>,
    /// Absent for baselines.
    pub(crate) stamp: Option<Stamp>,
}

/// The table that a point belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Calibrated and evaluated on the same kind of text, all experts as routed.
    Main,
    /// With online dynamic pruning.
    Pruning,
    /// Evaluated on another kind of text than calibrated on.
    Foreign,
}

impl Point {
    /// A perplexity on WikiText-2 after calibration on it, with nothing else known.
    pub(crate) fn new(system: &str, setting: &str, bpw: f64, perplexity: f64) -> Self {
        Self {
            system: system.to_owned(),
            setting: setting.to_owned(),
            calibrated: Some(Corpus::WikiText),
            evaluated: Corpus::WikiText,
            pruning: None,
            bpw,
            attention_bpw: None,
            perplexity,
            seconds: None,
            stamp: None,
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        let wikitext = Corpus::WikiText;
        if self.pruning.is_some() {
            Kind::Pruning
        } else if self.evaluated != wikitext || self.calibrated.is_some_and(|corpus| corpus != wikitext) {
            Kind::Foreign
        } else {
            Kind::Main
        }
    }

    /// Whether both are of the same system at the same setting.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        (&self.system, &self.setting) == (&other.system, &other.setting)
    }

    /// A line for whoever waits.
    pub(crate) fn summary(&self) -> String {
        let Self { bpw, perplexity, .. } = self;
        let mut line = format!("{bpw:.4} bits, perplexity {perplexity:.4} on {}", self.evaluated.name());
        if let Some(Pruned { rule, share }) = &self.pruning {
            line += &format!(", {:.1} % pruned ({rule})", 100.0 * share);
        }
        if let Some(seconds) = self.seconds {
            line += &format!(", compressed in {seconds:.0} s");
        }
        line
    }
}

/// The points saved in `path`; none if there is no such file.
pub(crate) fn read(path: &Path) -> Result<Vec<Point>, String> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    serde_json::from_str(&files::read(path)?).map_err(|e| format!("{}: {e}", path.display()))
}

/// Saves `points`.
pub(crate) fn write(path: &Path, points: &[Point]) -> Result<(), String> {
    let text = serde_json::to_string_pretty(points).map_err(|e| format!("{}: {e}", path.display()))?;
    files::write(path, &(text + "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("points.json");
        assert_eq!(read(&path), Ok(Vec::new()));
        let pruning = Some(Pruned { rule: "median".to_owned(), share: 0.25 });
        let stamp = Some(Stamp { date: "2000-01-01".to_owned(), machine: "a CPU".to_owned() });
        let points = vec![Point { pruning, stamp, ..Point::new("ours", "2 bits", 2.0625, 21.5) }];
        write(&path, &points).unwrap();
        assert_eq!(read(&path), Ok(points));
        files::write(&path, "[{}]").unwrap();
        assert!(read(&path).unwrap_err().contains("points.json"));
    }

    #[test]
    fn kinds_follow_from_texts_and_pruning() {
        let point = Point::new("ours", "2 bits", 2.0, 21.0);
        assert_eq!(point.kind(), Kind::Main);
        assert_eq!(Point { calibrated: None, ..point.clone() }.kind(), Kind::Main);
        assert_eq!(Point { calibrated: Some(Corpus::Book), ..point.clone() }.kind(), Kind::Foreign);
        assert_eq!(Point { evaluated: Corpus::Book, ..point }.kind(), Kind::Foreign);
    }
}
