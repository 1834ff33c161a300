//! Growth curves as pictures: points joined by lines, the horizontal axis logarithmic.

use std::fmt::Write;

/// A line with its name.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

/// A picture.
#[derive(Debug, Clone)]
pub(crate) struct Chart {
    pub(crate) title: &'static str,
    pub(crate) across: &'static str,
    pub(crate) up: &'static str,
    pub(crate) lines: Vec<Line>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
/// Left, top, right and bottom of the plot.
const PLOT: (f64, f64, f64, f64) = (70.0, 40.0, 500.0, 300.0);
const COLOURS: [&str; 4] = ["#1f6feb", "#8b949e", "#d1242f", "#1a7f37"];

impl Chart {
    /// The picture as SVG.
    pub(crate) fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let xs: Vec<f64> = ordered(points().map(|point| point.0));
        let top = nice(points().map(|point| point.1).fold(0.0, f64::max));
        let (low, high) = (
            xs.first().copied().unwrap_or(1.0),
            xs.last().copied().unwrap_or(10.0),
        );
        let spread = (high / low).ln().max(f64::MIN_POSITIVE);
        let x = |value: f64| PLOT.0 + (PLOT.2 - PLOT.0) * (value / low).ln() / spread;
        let y = |value: f64| PLOT.3 - (PLOT.3 - PLOT.1) * value / top;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
        );
        text(&mut out, (PLOT.0, 22.0), "start", self.title);
        text(
            &mut out,
            ((PLOT.0 + PLOT.2) / 2.0, HEIGHT - 15.0),
            "middle",
            self.across,
        );
        text(&mut out, (8.0, PLOT.1 - 6.0), "start", self.up);
        for step in 0..=4 {
            let value = top * f64::from(step) / 4.0;
            line(&mut out, (PLOT.0, y(value)), (PLOT.2, y(value)), "#d0d7de");
            text(&mut out, (PLOT.0 - 6.0, y(value) + 4.0), "end", &short(value));
        }
        for value in &xs {
            line(
                &mut out,
                (x(*value), PLOT.3),
                (x(*value), PLOT.3 + 4.0),
                "#57606a",
            );
            text(&mut out, (x(*value), PLOT.3 + 18.0), "middle", &short(*value));
        }
        for (at, (each, colour)) in self.lines.iter().zip(COLOURS).enumerate() {
            let path: Vec<String> = each
                .points
                .iter()
                .map(|(px, py)| format!("{:.1},{:.1}", x(*px), y(*py)))
                .collect();
            let _ = writeln!(
                out,
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
                path.join(" ")
            );
            for (px, py) in &each.points {
                let _ = writeln!(
                    out,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>",
                    x(*px),
                    y(*py)
                );
            }
            let row = PLOT.1 + 18.0 * (at as f64);
            line(&mut out, (PLOT.2 + 12.0, row), (PLOT.2 + 32.0, row), colour);
            text(&mut out, (PLOT.2 + 38.0, row + 4.0), "start", each.name);
        }
        out.push_str("</svg>\n");
        out
    }
}

fn ordered(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut all: Vec<f64> = values.collect();
    all.sort_by(f64::total_cmp);
    all.dedup();
    all
}

/// The next of 1, 2, 4, 5, 10, … above.
fn nice(value: f64) -> f64 {
    let power = 10f64.powf(value.max(1e-3).log10().floor());
    let steps = [1.0, 2.0, 4.0, 5.0, 8.0, 10.0];
    steps
        .into_iter()
        .map(|step| step * power)
        .find(|step| *step >= value)
        .unwrap_or(10.0 * power)
}

fn short(value: f64) -> String {
    match value {
        value if value >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        value if value >= 1.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

fn text(out: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#24292f\">{text}</text>"
    );
}

fn line(out: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64), colour: &str) {
    let _ = writeln!(
        out,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"/>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_stand_within_the_plot() {
        let chart = Chart {
            title: "t",
            across: "x",
            up: "y",
            lines: vec![Line {
                name: "one",
                points: vec![(10.0, 0.0), (1000.0, 7.0)],
            }],
        };
        let svg = chart.svg();
        assert!(svg.contains("points=\"70.0,300.0 500.0,72.5\""), "{svg}");
    }

    #[test]
    fn axes_end_at_round_numbers() {
        for (value, expected) in [(7.0, 8.0), (0.013, 0.02), (431.0, 500.0), (10.0, 10.0)] {
            assert!((nice(value) - expected).abs() < 1e-9, "{value}: {}", nice(value));
        }
    }
}
