//! Points as Markdown tables.

use std::cmp::Ordering;

use crate::points::{Corpus, Kind, Point};

/// What stands in a cell without a value.
const NONE: &str = "–";

/// Perplexities of the 16-bit model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reference {
    pub(crate) wikitext: f64,
    pub(crate) book: Option<f64>,
}

impl Reference {
    /// How far the point's perplexity is above that of 16 bits on the same text, in percent.
    fn excess(&self, point: &Point) -> Option<f64> {
        let dense = match point.evaluated {
            Corpus::WikiText => Some(self.wikitext),
            Corpus::Book => self.book,
        };
        dense.map(|dense| excess(point.perplexity, dense))
    }
}

/// 100 times the difference of the logarithms.
pub(crate) fn excess(perplexity: f64, dense: f64) -> f64 {
    100.0 * (perplexity / dense).ln()
}

/// All systems, by size.
pub(crate) fn sizes(points: &[Point], reference: &Reference) -> String {
    let mut points: Vec<&Point> = points.iter().filter(|point| point.kind() == Kind::Main).collect();
    points.sort_by(|a, b| by_size(a, b));
    let head = ["system", "setting", "stored bits", "perplexity", "excess, %", "seconds"];
    let row = |point: &&Point| {
        let [system, setting, bits, perplexity] = identity(point);
        let seconds = cell(point.seconds, |seconds| format!("{seconds:.0}"));
        vec![system, setting, bits, perplexity, excess_cell(reference, point), seconds]
    };
    table(&head, 2, points.iter().map(row))
}

/// Online dynamic pruning beside the same model without it.
pub(crate) fn pruning(points: &[Point], reference: &Reference) -> String {
    let mut pruned: Vec<&Point> = points.iter().filter(|point| point.kind() == Kind::Pruning).collect();
    pruned.sort_by(|a, b| by_size(a, b));
    let head = ["system", "setting", "rule", "pruned", "stored bits", "unpruned", "perplexity", "excess, %"];
    let row = |point: &&Point| {
        let [system, setting, bits, perplexity] = identity(point);
        let (rule, share) = match &point.pruning {
            Some(pruning) => (pruning.rule.clone(), format!("{:.1} %", 100.0 * pruning.share)),
            None => (NONE.to_owned(), NONE.to_owned()),
        };
        let whole = points.iter().find(|other| other.kind() == Kind::Main && other.is_beside(point));
        let whole = cell(whole, |point| format!("{:.3}", point.perplexity));
        vec![system, setting, rule, share, bits, whole, perplexity, excess_cell(reference, point)]
    };
    table(&head, 3, pruned.iter().map(row))
}

/// Settings that were calibrated or evaluated on another text, beside the same ones on the usual text.
pub(crate) fn foreign(points: &[Point], reference: &Reference) -> String {
    let is_foreign = |point: &Point| point.kind() == Kind::Foreign;
    let looked_into = |point: &Point| points.iter().any(|other| is_foreign(other) && other.is_beside(point));
    let shown = points.iter().filter(|point| point.pruning.is_none() && looked_into(point));
    let mut shown: Vec<&Point> = shown.collect();
    shown.sort_by(|a, b| {
        let by_texts = (a.evaluated, a.calibrated).cmp(&(b.evaluated, b.calibrated));
        by_texts.then(a.perplexity.total_cmp(&b.perplexity))
    });
    let head =
        ["evaluated on", "calibrated on", "system", "setting", "stored bits", "perplexity", "excess, %"];
    let row = |point: &&Point| {
        let [system, setting, bits, perplexity] = identity(point);
        let calibrated = cell(point.calibrated, |corpus| corpus.name().to_owned());
        let evaluated = point.evaluated.name().to_owned();
        vec![evaluated, calibrated, system, setting, bits, perplexity, excess_cell(reference, point)]
    };
    table(&head, 4, shown.iter().map(row))
}

fn by_size(a: &Point, b: &Point) -> Ordering {
    a.bpw.total_cmp(&b.bpw).then(a.perplexity.total_cmp(&b.perplexity))
}

/// System, setting, stored bits and perplexity.
fn identity(point: &Point) -> [String; 4] {
    let Point { system, setting, bpw, perplexity, .. } = point;
    [system.clone(), setting.clone(), format!("{bpw:.4}"), format!("{perplexity:.3}")]
}

fn excess_cell(reference: &Reference, point: &Point) -> String {
    // Adding zero turns a negative zero into zero.
    cell(reference.excess(point), |excess| format!("{:.2}", (100.0 * excess).round() / 100.0 + 0.0))
}

fn cell<T>(value: Option<T>, text: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| NONE.to_owned(), text)
}

/// A table whose first `words` columns are text and the others numbers.
fn table(head: &[&str], words: usize, rows: impl Iterator<Item = Vec<String>>) -> String {
    let rule = |column: usize| if column < words { "---" } else { "--:" };
    let rules: Vec<&str> = (0..head.len()).map(rule).collect();
    let mut text = format!("| {} |\n|{}|\n", head.join(" | "), rules.join("|"));
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
        text += &format!("| {} |\n", cells.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::points::Pruned;

    const REFERENCE: Reference = Reference { wikitext: 20.0, book: Some(50.0) };

    fn points() -> Vec<Point> {
        let ours = Point { seconds: Some(61.4), ..Point::new("ours", "2 bits", 2.0625, 20.2) };
        let pruning = Some(Pruned { rule: "median".to_owned(), share: 0.244 });
        let book = Point { evaluated: Corpus::Book, perplexity: 55.0, ..ours.clone() };
        vec![
            Point { pruning, perplexity: 20.4, ..ours.clone() },
            Point::new("theirs", "A|B", 2.25, 22.0),
            ours,
            book,
        ]
    }

    #[test]
    fn rows_are_sorted_by_size() {
        assert_eq!(
            sizes(&points(), &REFERENCE),
            "| system | setting | stored bits | perplexity | excess, % | seconds |\n\
             |---|---|--:|--:|--:|--:|\n\
             | ours | 2 bits | 2.0625 | 20.200 | 1.00 | 61 |\n\
             | theirs | A\\|B | 2.2500 | 22.000 | 9.53 | – |\n"
        );
    }

    #[test]
    fn pruning_stands_beside_the_whole_model() {
        let text = pruning(&points(), &REFERENCE);
        let row = "| ours | 2 bits | median | 24.4 % | 2.0625 | 20.200 | 20.400 | 1.98 |";
        assert_eq!(text.lines().skip(2).collect::<Vec<_>>(), [row]);
    }

    #[test]
    fn foreign_text_stands_beside_the_usual_one() {
        let text = foreign(&points(), &REFERENCE);
        let rows = [
            "| WikiText-2 | WikiText-2 | ours | 2 bits | 2.0625 | 20.200 | 1.00 |",
            "| Rust book | WikiText-2 | ours | 2 bits | 2.0625 | 55.000 | 9.53 |",
        ];
        assert_eq!(text.lines().skip(2).collect::<Vec<_>>(), rows);
        let unknown = foreign(&points(), &Reference { book: None, ..REFERENCE });
        assert!(unknown.contains("| 55.000 | – |"));
    }

    #[test]
    fn a_hair_below_is_zero() {
        assert_eq!(excess_cell(&REFERENCE, &Point::new("ours", "16-bit", 16.0, 19.99999)), "0.00");
    }
}
