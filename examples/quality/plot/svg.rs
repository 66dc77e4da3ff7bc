//! Elements of an SVG image.

/// Text without a size of its own.
const FONT: &str = r##"font-family="Helvetica, Arial, sans-serif" font-size="12" fill="#222222""##;

/// An image that grows element by element.
#[derive(Debug, Default)]
pub(super) struct Svg {
    body: String,
}

impl Svg {
    /// Adds an element as it is.
    pub(super) fn push(&mut self, element: &str) {
        self.body += element;
        self.body.push('\n');
    }

    /// Adds an element with a title, which browsers show when pointed at.
    pub(super) fn titled(&mut self, title: &str, element: &str) {
        self.push(&format!("<g><title>{}</title>{element}</g>", escaped(title)));
    }

    pub(super) fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), attributes: &str) {
        self.push(&format!(r#"<path d="M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}" {attributes}/>"#));
    }

    pub(super) fn polyline(&mut self, points: &[(f64, f64)], attributes: &str) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let points = points.join(" ");
        self.push(&format!(r#"<polyline points="{points}" fill="none" {attributes}/>"#));
    }

    /// Adds text whose first line stands on `(x, y)`.
    pub(super) fn text(&mut self, (x, y): (f64, f64), attributes: &str, text: &str) {
        let text = escaped(text);
        self.push(&format!(r#"<text x="{x:.1}" y="{y:.1}" {attributes}>{text}</text>"#));
    }

    /// The whole image, on white, so that it can be read on dark pages too.
    pub(super) fn finish(self, width: f64, height: f64) -> String {
        let Self { body } = self;
        let size = format!(r#"width="{width}" height="{height}" viewBox="0 0 {width} {height}""#);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" {size} {FONT}>\n\
             <title>Perplexity against stored bits</title>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n"
        )
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        let mut svg = Svg::default();
        svg.text((1.0, 2.5), "", "a < b & c");
        svg.titled("<", "<path/>");
        let image = svg.finish(10.0, 20.0);
        assert!(image.contains(r#"y="2.5" >a &lt; b &amp; c</text>"#));
        assert!(image.contains("<g><title>&lt;</title><path/></g>"));
        assert!(image.starts_with("<svg ") && image.contains(r#"viewBox="0 0 10 20""#));
    }
}
