//! Where a point lies, and what the axes say.

use super::svg::Svg;
use super::{MOST_PERPLEXITY, is_cut_off};
use crate::points::Point;
use crate::tables::excess;

pub(super) const WIDTH: f64 = 990.0;
pub(super) const LEFT: f64 = 76.0;
pub(super) const RIGHT: f64 = 690.0;
pub(super) const TOP: f64 = 74.0;
pub(super) const BOTTOM: f64 = 524.0;
/// Id of the clip path that is the inside of the frame.
pub(super) const CLIP: &str = "inside";

/// Ticks of the left axis, in percent. The axis ends at one of them.
const EXCESS_TICKS: [f64; 12] = [50.0, 20.0, 10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01];
/// Ticks of the right axis.
const PERPLEXITY_TICKS: [f64; 11] = [20.5, 20.6, 20.8, 21.0, 21.5, 22.0, 23.0, 24.0, 26.0, 28.0, 32.0];
/// Distance of ticks of the lower axis; it begins and ends at one.
const BITS_STEP: f64 = 0.25;
/// Bits that are always shown.
const BITS: (f64, f64) = (1.0, 3.5);
const GRID: &str = r##"stroke="#e3e3e3""##;

/// The part of the plane that is shown.
#[derive(Debug)]
pub(super) struct Frame {
    /// First and last stored bits.
    bits: (f64, f64),
    /// Least and largest excess over 16 bits, in percent, on a logarithmic axis.
    excess: (f64, f64),
    /// Perplexity of 16 bits.
    dense: f64,
}

impl Frame {
    /// Large enough for all points that are not cut off.
    pub(super) fn around(points: &[&Point], dense: f64) -> Self {
        let (mut bits, mut least) = (BITS, 1.0_f64);
        for point in points.iter().filter(|point| !is_cut_off(point)) {
            bits = (bits.0.min(point.bpw), bits.1.max(point.bpw));
            let excess = excess(point.perplexity, dense);
            least = if excess > 0.0 { least.min(excess) } else { least };
        }
        let bits = ((bits.0 / BITS_STEP).floor() * BITS_STEP, (bits.1 / BITS_STEP).ceil() * BITS_STEP);
        let floor = EXCESS_TICKS.into_iter().find(|tick| *tick <= least).unwrap_or(0.01);
        Self { bits, excess: (floor, excess(MOST_PERPLEXITY, dense).max(2.0 * floor)), dense }
    }

    /// Where a point lies; one without excess, which has no logarithm, at the lower end.
    pub(super) fn place(&self, point: &Point) -> (f64, f64) {
        (self.x(point.bpw), self.y(excess(point.perplexity, self.dense)))
    }

    fn x(&self, bits: f64) -> f64 {
        LEFT + (bits - self.bits.0) / (self.bits.1 - self.bits.0) * (RIGHT - LEFT)
    }

    fn y(&self, excess: f64) -> f64 {
        let (floor, most) = self.excess;
        BOTTOM - (excess.max(floor) / floor).ln() / (most / floor).ln() * (BOTTOM - TOP)
    }

    /// Stored bits of the ticks of the lower axis.
    fn bits_ticks(&self) -> impl Iterator<Item = f64> {
        let (first, last) = self.bits;
        let steps = ((last - first) / BITS_STEP).round() as u32;
        (0..=steps).map(move |step| first + f64::from(step) * BITS_STEP)
    }

    /// Heights and labels of the ticks of the left axis.
    fn excess_ticks(&self) -> Vec<(f64, String)> {
        let ticks = EXCESS_TICKS.into_iter().filter(|tick| self.shows(*tick));
        ticks.map(|tick| (self.y(tick), tick.to_string())).collect()
    }

    /// Heights and labels of the ticks of the right axis.
    fn perplexity_ticks(&self) -> Vec<(f64, String)> {
        let ticks = PERPLEXITY_TICKS.map(|tick| (excess(tick, self.dense), tick.to_string()));
        let ticks = ticks.into_iter().filter(|(excess, _)| self.shows(*excess));
        ticks.map(|(excess, label)| (self.y(excess), label)).collect()
    }

    fn shows(&self, excess: f64) -> bool {
        (self.excess.0..=self.excess.1).contains(&excess)
    }
}

/// Title, frame, grid, ticks and labels.
pub(super) fn draw(svg: &mut Svg, frame: &Frame) {
    titles(svg, frame);
    let (width, height) = (RIGHT - LEFT, BOTTOM - TOP);
    let inside = format!(r#"x="{LEFT}" y="{TOP}" width="{width}" height="{height}""#);
    svg.push(&format!(r#"<clipPath id="{CLIP}"><rect {inside}/></clipPath>"#));
    for bits in frame.bits_ticks() {
        let x = frame.x(bits);
        svg.line((x, TOP), (x, BOTTOM + 5.0), GRID);
        svg.text((x, BOTTOM + 20.0), r#"text-anchor="middle""#, &format!("{bits:.2}"));
    }
    for (y, label) in frame.excess_ticks() {
        svg.line((LEFT - 5.0, y), (RIGHT, y), GRID);
        svg.text((LEFT - 9.0, y + 4.0), r#"text-anchor="end""#, &label);
    }
    for (y, label) in frame.perplexity_ticks() {
        svg.line((RIGHT, y), (RIGHT + 5.0, y), r##"stroke="#333333""##);
        svg.text((RIGHT + 9.0, y + 4.0), "", &label);
    }
    svg.push(&format!(r##"<rect {inside} fill="none" stroke="#333333"/>"##));
}

fn titles(svg: &mut Svg, frame: &Frame) {
    let middle = f64::midpoint(LEFT, RIGHT);
    let dense = frame.dense;
    let title = "Perplexity after compression: tiny-mixtral, WikiText-2 test";
    svg.text((LEFT, 32.0), r#"font-size="18" font-weight="bold""#, title);
    let subtitle = format!(
        "Farther down and left is better. The 16-bit model has perplexity {dense:.2}; \
         the left axis says how far above it a model is."
    );
    svg.text((LEFT, 54.0), r#"font-size="13""#, &subtitle);
    let below = "stored bits per expert weight, scales and all else included";
    svg.text((middle, BOTTOM + 44.0), r#"text-anchor="middle" font-size="13""#, below);
    upright(svg, LEFT - 50.0, "ln(perplexity) above 16 bits, × 100 (logarithmic)");
    upright(svg, RIGHT + 54.0, "perplexity");
}

/// Text that reads upwards, beside the middle of the frame.
fn upright(svg: &mut Svg, x: f64, text: &str) {
    let y = f64::midpoint(TOP, BOTTOM);
    let rotated = format!(r#"text-anchor="middle" font-size="13" transform="rotate(-90 {x:.1} {y:.1})""#);
    svg.text((x, y), &rotated, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(perplexities: &[f64]) -> Frame {
        let points: Vec<Point> = perplexities.iter().map(|&ppl| Point::new("ours", "", 2.0, ppl)).collect();
        Frame::around(&points.iter().collect::<Vec<_>>(), 20.4228)
    }

    #[test]
    fn the_frame_holds_all_points() {
        let frame = frame(&[20.5032, 23.0, 20.0, 700.0]);
        assert_eq!((frame.bits, frame.excess.0), (BITS, 0.2));
        assert_eq!(frame.place(&Point::new("ours", "", 1.0, 32.0)), (LEFT, TOP));
        let (x, y) = frame.place(&Point::new("ours", "", 3.5, 20.0));
        assert!((x - RIGHT).abs() < 1e-9 && (y - BOTTOM).abs() < 1e-9);
    }

    #[test]
    fn labels_keep_their_distance() {
        for frame in [frame(&[20.5032]), frame(&[20.45])] {
            for mut ticks in [frame.excess_ticks(), frame.perplexity_ticks()] {
                assert!(ticks.len() > 5);
                ticks.sort_by(|a, b| a.0.total_cmp(&b.0));
                assert!(ticks.windows(2).all(|pair| pair[1].0 - pair[0].0 > 13.0), "{ticks:?}");
            }
        }
        let bits: Vec<f64> = frame(&[21.0]).bits_ticks().collect();
        assert_eq!((bits.len(), bits[0], bits[10]), (11, 1.0, 3.5));
    }
}
