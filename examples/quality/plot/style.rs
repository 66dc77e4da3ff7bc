//! How each system is drawn: a colour and a shape a family, hollow where all widths are the same.

use crate::systems;

/// Half the size of a marker.
const SIZE: f64 = 4.5;

#[derive(Clone, Copy, Debug)]
enum Shape {
    Circle,
    Square,
    Triangle,
    Diamond,
    Cross,
}

#[derive(Clone, Copy, Debug)]
enum Line {
    None,
    Thick,
    Thin,
    Dashed,
}

/// Colour, marker and line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    color: &'static str,
    shape: Shape,
    fill: Fill,
    line: Line,
}

#[derive(Clone, Copy, Debug)]
enum Fill {
    Full,
    Hollow,
}

/// The style of a system; grey crosses for one that is not known.
pub(super) fn of(system: &str) -> Style {
    use Fill::{Full, Hollow};
    use Shape::{Circle, Cross, Diamond, Square, Triangle};
    let (color, shape, fill, line) = match system {
        systems::TRELLIS => ("#d55e00", Circle, Full, Line::Thick),
        systems::TRELLIS_UNIFORM => ("#d55e00", Circle, Hollow, Line::None),
        systems::GPTQ_MIXED => ("#b8860b", Square, Full, Line::Dashed),
        systems::GPTQ_UNIFORM => ("#b8860b", Square, Hollow, Line::None),
        systems::HQQ_UNIFORM => ("#b0307a", Diamond, Hollow, Line::None),
        systems::MC_MOE => ("#0072b2", Triangle, Full, Line::Thin),
        systems::MC_MOE_UNIFORM => ("#0072b2", Triangle, Hollow, Line::Dashed),
        systems::HQQ => ("#b0307a", Diamond, Full, Line::Thin),
        systems::LLAMA_I => ("#00805c", Square, Full, Line::Thin),
        systems::LLAMA_K => ("#00805c", Cross, Full, Line::Dashed),
        _ => ("#666666", Cross, Full, Line::Dashed),
    };
    Style { color, shape, fill, line }
}

impl Style {
    /// Attributes of the line, if there is one.
    pub(super) fn stroke(self) -> Option<String> {
        let rest = match self.line {
            Line::None => return None,
            Line::Thick => r#"stroke-width="2.6""#,
            Line::Thin => r#"stroke-width="1.4""#,
            Line::Dashed => r#"stroke-width="1.4" stroke-dasharray="5 4""#,
        };
        let Self { color, .. } = self;
        Some(format!(r#"stroke="{color}" {rest}"#))
    }

    /// The element of a marker at `(x, y)`.
    pub(super) fn marker(self, (x, y): (f64, f64)) -> String {
        let Self { color, .. } = self;
        let fill = match self.fill {
            Fill::Full => color,
            Fill::Hollow => "#ffffff",
        };
        let paint = format!(r#"fill="{fill}" stroke="{color}" stroke-width="1.6""#);
        let (low, high, wide) = (SIZE * 0.75, SIZE * 1.25, SIZE * 2.0);
        let path = match self.shape {
            Shape::Circle => return format!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="{SIZE}" {paint}/>"#),
            Shape::Square => format!("m-{SIZE} -{SIZE}h{wide}v{wide}h-{wide}z"),
            Shape::Triangle => format!("m0 -{high}l{SIZE} {wide}h-{wide}z"),
            Shape::Diamond => format!("m0 -{high}l{high} {high}l-{high} {high}l-{high} -{high}z"),
            Shape::Cross => {
                format!("m-{low} -{low}l{rise} {rise}m0 -{rise}l-{rise} {rise}", rise = 2.0 * low)
            }
        };
        format!(r#"<path d="M{x:.1} {y:.1}{path}" {paint}/>"#)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn styles_differ() {
        let drawn = systems::PLOTTED.map(|system| (of(system).marker((0.0, 0.0)), of(system).stroke()));
        assert_eq!(BTreeSet::from(drawn.clone()).len(), drawn.len());
    }
}
