//! Prints tables and targets to stdout, and writes both as JSON to `target/bench`, from which the plot is drawn.

use super::{Args, load_average};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The directory that the JSON results of a bench are written to.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench")
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// The targets and bars that one bench has produced.
pub(crate) struct Results {
    bench: &'static str,
    load: f64,
    targets: Vec<Value>,
    bars: Vec<Value>,
}

impl Results {
    pub(crate) fn new(bench: &'static str) -> Self {
        Self { bench, load: load_average(), targets: Vec::new(), bars: Vec::new() }
    }

    /// Prints the title and the header row of a Markdown table.
    pub(crate) fn table(&self, title: &str, columns: &[&str]) {
        println!("\n### {title}\n");
        println!("| {} |", columns.join(" | "));
        println!("|{}", "---|".repeat(columns.len()));
    }

    pub(crate) fn row(&self, cells: &[String]) {
        println!("| {} |", cells.join(" | "));
    }

    /// Records a target and the measured value, so that the results show whether it was met.
    pub(crate) fn target(&mut self, name: &str, measured: f64, bound: Bound, unit: &str) {
        let (kind, limit, share) = match bound {
            Bound::AtMost(limit) => ("at most", limit, measured / limit),
            Bound::AtLeast(limit) => ("at least", limit, limit / measured),
        };
        self.targets.push(json!({
            "name": name, "measured": measured, "kind": kind, "limit": limit, "unit": unit, "share": share,
        }));
    }

    /// Adds a bar to the plot's chart `chart`.
    pub(crate) fn bar(&mut self, chart: &str, label: &str, value: f64) {
        self.bars.push(json!({"chart": chart, "label": label, "value": value}));
    }

    /// Prints the targets and writes everything to the results' directory.
    pub(crate) fn finish(self, args: &Args) {
        if !self.targets.is_empty() {
            self.table("Targets", &["target", "measured", "bound", "met"]);
        }
        for target in &self.targets {
            let number = |name: &str| digits(target[name].as_f64().unwrap_or(f64::NAN));
            let text = |name: &str| target[name].as_str().unwrap_or_default().to_owned();
            let met = target["share"].as_f64().is_some_and(|share| share <= 1.0);
            self.row(&[
                text("name"),
                format!("{} {}", number("measured"), text("unit")),
                format!("{} {} {}", text("kind"), number("limit"), text("unit")),
                if met { "yes" } else { "**no**" }.to_owned(),
            ]);
        }
        println!("\nLoad when it began: {:.1}.{}", self.load, if args.is_quick() { " Quick." } else { "" });
        let result = json!({
            "bench": self.bench, "load": self.load, "quick": args.is_quick(),
            "targets": self.targets, "bars": self.bars,
        });
        let folder = folder();
        std::fs::create_dir_all(&folder).expect("the results' folder");
        std::fs::write(folder.join(format!("{}.json", self.bench)), format!("{result:#}\n")).expect("the results");
    }
}

/// Formats a value with about three significant digits.
pub(crate) fn digits(value: f64) -> String {
    match value.abs() {
        1000.0.. => format!("{value:.0}"),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        0.1.. => format!("{value:.2}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.4}"),
    }
}
