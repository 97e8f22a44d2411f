//! The few elements of an SVG file that the pictures are made of, and their colours.
//! Must escape what it is given; must not load anything: a picture in a README gets no fonts, scripts or files.
//! Called by the pictures.

use std::fmt::Write;

/// A picture under way; all lengths are pixels, from the upper left.
#[derive(Debug)]
pub(super) struct Svg {
    width: f64,
    height: f64,
    title: String,
    body: String,
}

/// Where a text stands, seen from its point.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Svg {
    /// `title` is read out to those who do not see the picture.
    pub(super) fn new(title: &str, width: f64, height: f64) -> Self {
        Self {
            width,
            height,
            title: title.to_owned(),
            body: String::new(),
        }
    }

    pub(super) fn text(&mut self, class: &str, anchor: Anchor, x: f64, y: f64, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escaped(text);
        self.push(format_args!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.push(format_args!(
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        ));
    }

    pub(super) fn rectangle(&mut self, class: &str, x: f64, y: f64, width: f64, height: f64) {
        self.push(format_args!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
        ));
    }

    pub(super) fn dot(&mut self, class: &str, x: f64, y: f64) {
        self.push(format_args!(
            "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>"
        ));
    }

    pub(super) fn path(&mut self, class: &str, points: &[(f64, f64)]) {
        let points: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let points = points.join(" ");
        self.push(format_args!("<polyline class=\"{class}\" points=\"{points}\"/>"));
    }

    pub(super) fn finish(self) -> String {
        let Self {
            width,
            height,
            title,
            body,
        } = self;
        let title = escaped(&title);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n\
             <rect class=\"ground\" width=\"100%\" height=\"100%\" rx=\"6\"/>\n{body}</svg>\n"
        )
    }

    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing into a string cannot fail.
        let _ = writeln!(self.body, "{element}");
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Each colour twice: for light and for dark. Hues of curves are told apart by the colour-blind, too (Okabe and Ito).
const STYLE: &str = "\
text { font: 12px -apple-system, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif; fill: #1f2328 }
text.title { font-size: 13px; font-weight: 600 }
text.note { font-size: 11px; fill: #59636e }
text.strong { font-weight: 600 }
line, polyline { fill: none; stroke-width: 1 }
polyline { stroke-width: 2 }
.ground { fill: #ffffff; stroke: #d1d9e0 }
.grid { stroke: #e4e8ec }
.axis { stroke: #818b98 }
.floor { stroke: #59636e; stroke-dasharray: 4 3 }
.ours { fill: #0969da }
.peer { fill: #b6bfc9 }
.range { stroke: #1f2328 }
.c0 { stroke: #0969da } .c1 { stroke: #d55e00 } .c2 { stroke: #009e73 } .c3 { stroke: #a3509a } .c4 { stroke: #8a6d00 }
circle.c0 { fill: #0969da } circle.c1 { fill: #d55e00 } circle.c2 { fill: #009e73 } circle.c3 { fill: #a3509a } circle.c4 { fill: #8a6d00 }
polyline.c0, polyline.c1, polyline.c2, polyline.c3, polyline.c4 { fill: none }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc }
text.note { fill: #9198a1 }
.ground { fill: #0d1117; stroke: #3d444d }
.grid { stroke: #262c36 }
.axis { stroke: #656c76 }
.floor { stroke: #9198a1 }
.ours { fill: #4493f8 }
.peer { fill: #59626d }
.range { stroke: #f0f6fc }
.c0 { stroke: #4493f8 } .c1 { stroke: #f0883e } .c2 { stroke: #2fc49a } .c3 { stroke: #d98bd0 } .c4 { stroke: #d7b740 }
circle.c0 { fill: #4493f8 } circle.c1 { fill: #f0883e } circle.c2 { fill: #2fc49a } circle.c3 { fill: #d98bd0 } circle.c4 { fill: #d7b740 }
polyline.c0, polyline.c1, polyline.c2, polyline.c3, polyline.c4 { fill: none }
}
";
