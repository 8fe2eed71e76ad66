//! Draws the results that the benches have written to `target/bench` as SVG. Usage: `cargo bench --bench plot [--
//! FILE]` (`target/bench/performance.svg` if not given). The upper part shows each measured value as a share of its
//! target. The lower part shows bars of seconds and rates.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::Args;
use common::results::{digits, folder};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::PathBuf;

const WIDTH: f64 = 960.0;
const LABELS: f64 = 440.0;
const BARS: f64 = 330.0;
const ROW: f64 = 22.0;
/// The largest share that is drawn in full. Longer bars are cut.
const MOST_SHARE: f64 = 2.0;

/// An SVG drawing that is built from top to bottom.
struct Drawing {
    body: String,
    y: f64,
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

impl Drawing {
    fn text(&mut self, x: f64, class: &str, text: &str) {
        let y = self.y + 15.0;
        let _ = writeln!(self.body, "<text x=\"{x:.0}\" y=\"{y:.0}\" class=\"{class}\">{}</text>", escaped(text));
    }

    fn title(&mut self, title: &str) {
        self.y += 14.0;
        self.text(12.0, "title", title);
        self.y += 26.0;
    }

    /// Draws one bar whose length is `share` (0 to 1) of the width, with a label before it and a value behind it.
    fn bar(&mut self, label: &str, share: f64, class: &str, value: &str) {
        self.text(LABELS, "label", label);
        let (width, y) = ((BARS * share).clamp(1.0, BARS), self.y + 3.0);
        let x = LABELS + 10.0;
        let _ = writeln!(
            self.body,
            "<rect x=\"{x:.0}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"16\" class=\"{class}\"/>"
        );
        self.text(x + width + 6.0, "value", value);
        self.y += ROW;
    }

    fn finish(self) -> String {
        let height = self.y + 12.0;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" \
             font-family=\"sans-serif\" font-size=\"13\">\n<style>.title{{font-weight:bold;font-size:15px}}\
             .label{{text-anchor:end}}.value{{fill:#555}}.met{{fill:#2a7f62}}.missed{{fill:#c0392b}}\
             .plain{{fill:#4a78b5}}</style>\n<rect width=\"{WIDTH:.0}\" height=\"{height:.0}\" fill=\"#fff\"/>\n{}</svg>\n",
            self.body
        )
    }
}

fn main() {
    let args = Args::of_process();
    let out = args.as_slice().first().map_or_else(|| folder().join("performance.svg"), PathBuf::from);
    let mut kept = Vec::new();
    for name in ["restore", "fleet", "limits", "commit", "io"] {
        if let Ok(bytes) = std::fs::read(folder().join(format!("{name}.json"))) {
            kept.push(serde_json::from_slice::<Value>(&bytes).expect("the benches' JSON"));
        }
    }
    let all = |what: &str| -> Vec<&Value> { kept.iter().filter_map(|v| v[what].as_array()).flatten().collect() };
    let mut drawing = Drawing { body: String::new(), y: 0.0 };
    targets(&mut drawing, &all("targets"));
    charts(&mut drawing, &all("bars"));
    std::fs::write(&out, drawing.finish()).expect("the drawing");
    println!("{}", out.display());
}

fn targets(drawing: &mut Drawing, targets: &[&Value]) {
    drawing.title("Measured, as a share of the target's bound (left of the line: met)");
    let top = drawing.y;
    for target in targets {
        // An infinite share is null in JSON. It means that the target was never reached.
        let share = target["share"].as_f64().unwrap_or(f64::INFINITY);
        let text = |name: &str| target[name].as_str().unwrap_or_default();
        let value = target["measured"].as_f64().map_or("never".to_owned(), digits);
        let class = if share <= 1.0 { "met" } else { "missed" };
        let limit = digits(target["limit"].as_f64().unwrap_or(f64::NAN));
        let said = format!("{value} {} ({} {limit})", text("unit"), text("kind"));
        drawing.bar(text("name"), share.min(MOST_SHARE) / MOST_SHARE, class, &said.replace("  ", " "));
    }
    let x = LABELS + 10.0 + BARS / MOST_SHARE;
    let _ = writeln!(
        drawing.body,
        "<line x1=\"{x:.0}\" y1=\"{top:.0}\" x2=\"{x:.0}\" y2=\"{:.0}\" stroke=\"#333\" stroke-dasharray=\"4 3\"/>",
        drawing.y
    );
}

fn charts(drawing: &mut Drawing, bars: &[&Value]) {
    let mut charts: Vec<(&str, Vec<(&str, f64)>)> = Vec::new();
    for bar in bars {
        let (Some(chart), Some(label), Some(value)) =
            (bar["chart"].as_str(), bar["label"].as_str(), bar["value"].as_f64())
        else {
            continue;
        };
        match charts.iter_mut().find(|(name, _)| *name == chart) {
            Some((_, bars)) => bars.push((label, value)),
            None => charts.push((chart, vec![(label, value)])),
        }
    }
    for (chart, bars) in charts {
        drawing.title(chart);
        let most = bars.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
        for (label, value) in bars {
            drawing.bar(label, value / most, "plain", &digits(value));
        }
    }
}
