//! Names of the lines, and what the plot does not show.

use super::axes::{BOTTOM, LEFT, RIGHT, TOP};
use super::svg::Svg;
use super::{MOST_PERPLEXITY, Series, is_cut_off};
use crate::points::Point;

const LINE_HEIGHT: f64 = 24.0;
/// Beside the labels of the right axis.
const START: f64 = RIGHT + 80.0;
const SAMPLE: f64 = 34.0;
/// Characters of a line of the note: as many as fit under plot and legend.
const NOTE_LENGTH: usize = 120;
const NOTE_HEIGHT: f64 = 17.0;

/// One line a series.
pub(super) fn draw(svg: &mut Svg, series: &[Series<'_>]) {
    let mut y = TOP + 10.0;
    for Series { system, style, .. } in series {
        if let Some(stroke) = style.stroke() {
            svg.polyline(&[(START, y), (START + SAMPLE, y)], &stroke);
        }
        svg.push(&style.marker((START + SAMPLE / 2.0, y)));
        svg.text((START + SAMPLE + 8.0, y + 4.0), "", system);
        y += LINE_HEIGHT;
    }
}

/// Names the points above the frame; returns the height of the whole image.
pub(super) fn cut_off(svg: &mut Svg, points: &[&Point]) -> f64 {
    let mut above: Vec<&Point> = points.iter().copied().filter(|point| is_cut_off(point)).collect();
    above.sort_by(|a, b| a.perplexity.total_cmp(&b.perplexity));
    let item = |point: &&Point| {
        let Point { system, setting, bpw, perplexity, .. } = point;
        format!("{system} {setting} ({perplexity:.1} at {bpw:.2} bits)")
    };
    let items: Vec<String> = above.iter().map(item).collect();
    let mut y = BOTTOM + 72.0;
    if !items.is_empty() {
        let start = format!("Perplexities above {MOST_PERPLEXITY} are cut off:");
        for line in wrapped(&start, &items) {
            svg.text((LEFT, y), "", &line);
            y += NOTE_HEIGHT;
        }
    }
    y
}

/// `start` and the items in lines of at most [`NOTE_LENGTH`] characters.
fn wrapped(start: &str, items: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = start.to_owned();
    for (i, item) in items.iter().enumerate() {
        let end = if i + 1 < items.len() { ";" } else { "." };
        if line.chars().count() + item.chars().count() + 2 > NOTE_LENGTH {
            lines.push(std::mem::take(&mut line));
        }
        let space = if line.is_empty() { "" } else { " " };
        line += &format!("{space}{item}{end}");
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_notes_are_wrapped() {
        let items: Vec<String> = ["a", "b", "c"].map(|item| item.repeat(50)).to_vec();
        let lines = wrapped("Cut off:", &items);
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line.len() <= NOTE_LENGTH));
        assert!(lines[0].starts_with("Cut off: aaa") && lines[1].ends_with("ccc."));
    }

    #[test]
    fn nothing_is_said_where_all_is_shown() {
        let mut svg = Svg::default();
        assert!(cut_off(&mut svg, &[]) > BOTTOM);
        assert!(!svg.finish(1.0, 1.0).contains("cut off"));
    }
}
