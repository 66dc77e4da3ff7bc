//! `quality.md` and `quality.svg`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::baselines::Baselines;
use crate::points::{Corpus, Point};
use crate::tables::{self, Reference};
use crate::{files, plot, systems};

/// How everything is measured.
const COMMAND: &str = "cargo run --release --example quality -- --fixtures ../shared/fixtures";
const PAGE: &str = "quality.md";
const PLOT: &str = "quality.svg";

/// All points, ours and those of others.
pub(crate) struct Report {
    points: Vec<Point>,
    reference: Reference,
}

impl Report {
    pub(crate) fn new(baselines: Baselines, ours: Vec<Point>) -> Self {
        let dense = |point: &&Point| point.system == systems::DENSE && point.evaluated == Corpus::Book;
        let book = ours.iter().find(dense).map(|point| point.perplexity);
        let reference = Reference { wikitext: baselines.dense, book };
        let mut points = ours;
        points.extend(baselines.points);
        Self { points, reference }
    }

    /// Writes page and plot to `out`; the prose of the page is that of the page in `docs`.
    pub(crate) fn publish(&self, docs: &Path, out: &Path) -> Result<(), String> {
        let template = docs.join(PAGE);
        let mut page = files::read(&template)?;
        for (name, content) in self.sections() {
            page = fill(&page, name, &content).map_err(|e| format!("{}: {e}", template.display()))?;
        }
        fs::create_dir_all(out).map_err(|e| format!("cannot make {}: {e}", out.display()))?;
        files::write(&out.join(PAGE), &page)?;
        files::write(&out.join(PLOT), &plot::draw(&self.points, self.reference.wikitext))
    }

    /// The tables alone.
    pub(crate) fn text(&self) -> String {
        self.sections().map(|(_, content)| content).join("\n")
    }

    /// What goes between the markers of each name.
    fn sections(&self) -> [(&'static str, String); 3] {
        let Self { points, reference } = self;
        let sizes = format!("{}\n{}", self.caption(), tables::sizes(points, reference));
        [
            ("table", sizes),
            ("pruning", tables::pruning(points, reference)),
            ("foreign", tables::foreign(points, reference)),
        ]
    }

    /// When, where and how ours was measured.
    fn caption(&self) -> String {
        let stamps = || self.points.iter().filter_map(|point| point.stamp.as_ref());
        let dates = distinct(stamps().map(|stamp| stamp.date.clone()));
        let machines = distinct(stamps().map(|stamp| stamp.machine.clone()));
        let compressed = self.points.iter().filter(|point| point.seconds.is_some());
        let attention =
            distinct(compressed.filter_map(|point| point.attention_bpw).map(|b| format!("{b:.4}")));
        format!(
            "Ours measured {dates} on {machines}, by\n`{COMMAND}`.\n\
             Ours has attention at {attention} stored bits a weight.\n"
        )
    }
}

/// Each of `values` once, in order.
fn distinct(values: impl Iterator<Item = String>) -> String {
    let values: BTreeSet<String> = values.collect();
    values.into_iter().collect::<Vec<_>>().join(" and ")
}

/// Puts `content` between the markers called `name` and leaves everything else as it is.
fn fill(page: &str, name: &str, content: &str) -> Result<String, String> {
    let (begin, end) = (format!("<!-- {name}: begin -->"), format!("<!-- {name}: end -->"));
    let (before, rest) = page.split_once(&begin).ok_or_else(|| format!("{begin} is missing"))?;
    let (_, after) = rest.split_once(&end).ok_or_else(|| format!("{end} is missing after {begin}"))?;
    Ok(format!("{before}{begin}\n\n{content}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::Stamp;

    fn report() -> Report {
        let stamp = Some(Stamp { date: "2000-01-01".to_owned(), machine: "a CPU, 2 threads".to_owned() });
        let ours = Point::new(systems::TRELLIS, "2 bits", 2.0625, 21.0);
        let ours = Point { seconds: Some(9.0), attention_bpw: Some(4.25), stamp, ..ours };
        let theirs = Point::new(systems::HQQ, "2 bit", 2.25, 22.0);
        Report::new(Baselines { dense: 20.0, points: vec![theirs] }, vec![ours])
    }

    #[test]
    fn prose_outside_the_markers_is_kept() {
        let page = "a\n<!-- t: begin -->\n\nold\n\n<!-- t: end -->\nb\n";
        let filled = fill(page, "t", "new\n").unwrap();
        assert_eq!(filled, "a\n<!-- t: begin -->\n\nnew\n\n<!-- t: end -->\nb\n");
        assert_eq!(fill(&filled, "t", "old\n").unwrap(), page);
        assert!(fill("<!-- t: end --><!-- t: begin -->", "t", "").is_err());
    }

    #[test]
    fn the_page_in_docs_takes_the_tables() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
        let out = tempfile::tempdir().unwrap();
        report().publish(&docs, &out.path().join("new")).unwrap();
        let page = files::read(&out.path().join("new/quality.md")).unwrap();
        assert!(page.contains("| mcmoe, trellis | 2 bits | 2.0625 | 21.000 | 4.88 | 9 |\n"));
        assert!(page.contains("Ours measured 2000-01-01 on a CPU, 2 threads, by\n`cargo run"));
        assert!(page.contains("attention at 4.2500 stored bits"));
        assert!(files::read(&out.path().join("new/quality.svg")).unwrap().starts_with("<svg"));
    }
}
