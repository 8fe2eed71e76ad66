//! Reads metrics files, and lets Prometheus' own tool judge them. The tool is `promtool` on PATH or named by
//! HYDRANT_PROMTOOL.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};

/// The samples of a file: the name with its labels → the value.
pub(crate) type Samples = BTreeMap<String, f64>;

/// Reads the file as Prometheus' format is described: every family has HELP and TYPE before its samples, and no series
/// is there twice.
pub(crate) fn samples(text: &str) -> Samples {
    let (mut samples, mut types) = (Samples::new(), BTreeMap::new());
    let mut helped = BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(helped.insert(rest.split_once(' ').unwrap().0.to_owned()), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(helped.contains(name) && types.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            let family = family.filter(|family| types.get(*family).is_some_and(|kind| kind == "histogram"));
            assert!(types.contains_key(family.unwrap_or(name)), "{line}");
            assert!(samples.insert(series.to_owned(), value.parse().unwrap()).is_none(), "{line}");
        }
    }
    samples
}

/// The value of the only series of this name that has this label.
pub(crate) fn value(samples: &Samples, name: &str, label: &str) -> f64 {
    let is_it = |series: &&String| series.split('{').next() == Some(name) && series.contains(label);
    let found: Vec<_> = samples.keys().filter(is_it).collect();
    assert_eq!(found.len(), 1, "{name} {label}: {samples:?}");
    samples[found[0]]
}

/// The command `promtool`, if it is here.
pub(crate) fn promtool() -> Option<Command> {
    let program = std::env::var("HYDRANT_PROMTOOL").unwrap_or_else(|_| "promtool".into());
    let is_here = Command::new(&program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !is_here {
        println!("skipped: promtool is not here");
        return None;
    }
    Some(Command::new(program))
}

/// Checks that promtool, if it is here, accepts the metrics and has nothing to say about them.
#[track_caller]
pub(crate) fn is_accepted(text: &str) {
    let Some(mut promtool) = promtool() else { return };
    let promtool = promtool.args(["check", "metrics"]).stdin(Stdio::piped());
    let mut child = promtool.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
}
