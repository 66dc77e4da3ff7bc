//! The plot: excess over 16 bits against stored bits, one line a system.
//!
//! | file | holds |
//! |---|---|
//! | `axes` | where a point lies; ticks and labels |
//! | `legend` | names of the lines, what is cut off |
//! | `style` | how each system is drawn |
//! | `svg` | elements |

mod axes;
mod legend;
mod style;
mod svg;

use axes::Frame;
use style::Style;
use svg::Svg;

use crate::points::{Kind, Point};
use crate::systems;

/// The largest perplexity that is shown.
const MOST_PERPLEXITY: f64 = 32.0;
/// The most stored bits that are shown: the 16-bit model is a line, not a point.
const MOST_BITS: f64 = 4.0;

/// A system's points, by size.
struct Series<'a> {
    system: &'a str,
    style: Style,
    points: Vec<&'a Point>,
}

/// An SVG image of the points without pruning and foreign texts; `dense` is the perplexity of 16 bits.
pub(crate) fn draw(points: &[Point], dense: f64) -> String {
    let in_range = |point: &&Point| point.kind() == Kind::Main && point.bpw <= MOST_BITS;
    let shown: Vec<&Point> = points.iter().filter(in_range).collect();
    let series = series(&shown);
    let frame = Frame::around(&shown, dense);
    let mut svg = Svg::default();
    axes::draw(&mut svg, &frame);
    // The first of the legend lies on top.
    series.iter().rev().for_each(|series| lines(&mut svg, &frame, series));
    series.iter().rev().for_each(|series| markers(&mut svg, &frame, series));
    legend::draw(&mut svg, &series);
    let height = legend::cut_off(&mut svg, &shown);
    svg.finish(axes::WIDTH, height)
}

/// One series for each system that has points.
fn series<'a>(points: &[&'a Point]) -> Vec<Series<'a>> {
    let mut names: Vec<&str> = systems::PLOTTED.to_vec();
    for &point in points {
        if !names.contains(&point.system.as_str()) {
            names.push(&point.system);
        }
    }
    let mut series = Vec::new();
    for name in names {
        let mut own: Vec<&Point> = points.iter().copied().filter(|point| point.system == name).collect();
        own.sort_by(|a, b| a.bpw.total_cmp(&b.bpw));
        if let Some(&first) = own.first() {
            series.push(Series { system: &first.system, style: style::of(name), points: own });
        }
    }
    series
}

fn lines(svg: &mut Svg, frame: &Frame, series: &Series<'_>) {
    let places: Vec<(f64, f64)> = series.points.iter().map(|point| frame.place(point)).collect();
    if let Some(stroke) = series.style.stroke() {
        svg.polyline(&places, &format!("{stroke} clip-path=\"url(#{})\"", axes::CLIP));
    }
}

fn markers(svg: &mut Svg, frame: &Frame, series: &Series<'_>) {
    for point in series.points.iter().filter(|point| !is_cut_off(point)) {
        let Point { system, setting, bpw, perplexity, .. } = point;
        let title = format!("{system}, {setting}: perplexity {perplexity:.3} at {bpw:.4} stored bits");
        svg.titled(&title, &series.style.marker(frame.place(point)));
    }
}

fn is_cut_off(point: &Point) -> bool {
    point.perplexity > MOST_PERPLEXITY
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points() -> Vec<Point> {
        vec![
            Point::new(systems::HQQ, "2 bit", 2.25, 22.5),
            Point::new(systems::HQQ, "1 bit", 1.5, 706.67),
            Point::new(systems::TRELLIS, "2 bits", 2.0625, 21.0),
            Point::new(systems::TRELLIS, "3 bits", 3.0625, 20.5),
            Point::new("a < b", "x", 2.0, 19.0),
            Point::new(systems::DENSE, "as trained", 16.0, 20.4),
        ]
    }

    #[test]
    fn every_system_has_a_series_in_order() {
        let points = points();
        let points: Vec<&Point> = points.iter().take(5).collect();
        let series = series(&points);
        let names: Vec<&str> = series.iter().map(|series| series.system).collect();
        assert_eq!(names, [systems::TRELLIS, systems::HQQ, "a < b"]);
        assert_eq!(series[1].points[0].setting, "1 bit");
    }

    #[test]
    fn points_are_drawn_or_named_as_cut_off() {
        let svg = draw(&points(), 20.4);
        // Every marker has a title, and so has the image.
        assert_eq!(svg.matches("<title>").count(), 1 + 4);
        assert!(svg.contains("HQQ 1 bit (706.7 at 1.50 bits)"));
        assert!(svg.contains("a &lt; b") && !svg.contains("a < b"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        for element in ["g", "text", "clipPath", "svg"] {
            let opened = svg.matches(&format!("<{element}>")).count();
            let opened = opened + svg.matches(&format!("<{element} ")).count();
            assert_eq!(opened, svg.matches(&format!("</{element}>")).count(), "{element}");
        }
    }

    #[test]
    fn no_points_make_an_empty_plot() {
        assert!(draw(&[], 20.4).ends_with("</svg>\n"));
    }
}
