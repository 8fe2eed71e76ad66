//! JSON reports against docs/report.schema.json, by a validator that others wrote: PyPI's `jsonschema`. The Python
//! that has it is named by HYDRANT_PYTHON. Without it these tests are skipped.

use super::{fleet, json, reported, url};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;

const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/report.schema.json");
const VALIDATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/all/reports/validate.py");

/// Validates files. Returns whether they are valid and what was said; None without the validator.
fn validated(files: &[PathBuf]) -> Option<(bool, String)> {
    let python = std::env::var("HYDRANT_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = Command::new(&python).args(["-c", "import jsonschema"]).output();
    if !has.is_ok_and(|output| output.status.success()) {
        println!("skipped: no jsonschema");
        return None;
    }
    let output = Command::new(&python).arg(VALIDATE).arg(SCHEMA).args(files).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    Some((output.status.success(), said.into_owned()))
}

#[test]
fn reports_are_valid() {
    let server = fleet();
    let all = url(&server, "fleet/**");
    let v3 = format!("file://{}/tests/fixtures/corpus-v3/fleet/**", env!("CARGO_MANIFEST_DIR"));
    let kept = tempfile::tempdir().unwrap();
    let catalogue = kept.path().join("catalogue");
    let catalogue = catalogue.to_str().unwrap();
    let runs: [&[&str]; 13] = [
        &["restore-pattern", "--max-retries", "0", "--output-dir", "out", &all],
        &["restore-pattern", "--fail-fast", "--shard", "1/3", "--output-dir", "out", &all],
        &["restore-pattern", "--dry-run", &all],
        &["restore-pattern", "--newest-intact", "--output-dir", "out", &all],
        &["restore-pattern", "--output-dir", "out", &v3],
        &["restore-pattern", &url(&server, "nothing/**")],
        &["verify", "--max-age", "1s", &all],
        &["verify", "--depth", "sqlite", "--sql", "SELECT 1, 'x'", &v3],
        &["verify", "--depth", "plan", "--save-catalogue", catalogue, &all],
        &["verify", "--depth", "headers", "--catalogue", catalogue, &all],
        &["verify", "--sample", "1/4", "--seed", "s", &v3],
        &["restore-pattern", "--catalogue", catalogue, "--output-dir", "out", &all],
        &["bench", "--stage", "decode", &all],
    ];
    let run = |args: &&[&str]| {
        let dir = tempfile::tempdir().unwrap();
        let report = reported(dir.path(), args).1[0].clone();
        (dir, report)
    };
    let (dirs, files): (Vec<_>, Vec<PathBuf>) = runs.iter().map(run).unzip();
    let Some((is_valid, said)) = validated(&files) else { return };
    assert!(is_valid && said.matches("valid").count() == files.len(), "{said}");

    // A row with the fields of a drill is valid, and a wrong one is not.
    let mut report = json(&files[0]);
    let first: &mut Value = &mut report["databases"][0];
    first.as_object_mut().unwrap().remove("outcome");
    first["verdict"] = json!("degraded");
    first["moved_from"] = json!("0000000000000006");
    first["lost"] = json!("a hole");
    first["damaged"] = json!(["a is torn"]);
    first["newest_intact"] = json!({
        "txid": "0000000000000007", "timestamp": "2026-01-01T00:00:00Z", "time_source": "header", "age_seconds": 7,
    });
    first["queries"] = json!([{"sql": "SELECT 1", "row": ["1", "x"]}]);
    let path = dirs[0].path().join("changed.json");
    let is_valid = |report: &Value| {
        std::fs::write(&path, report.to_string()).unwrap();
        validated(std::slice::from_ref(&path)).unwrap()
    };
    let (valid, said) = is_valid(&report);
    assert!(valid, "{said}");
    for (pointer, wrong) in [
        ("/schema_version", json!(2)),
        ("/databases/0/txid", json!("7")),
        ("/databases/0/verdict", json!("fine")),
        ("/databases/1/bytes", json!(-1)),
        ("/run/started", json!("yesterday")),
        ("/timeline/0/done", json!("1")),
        ("/ages/groups", json!([])),
    ] {
        let mut report = report.clone();
        *report.pointer_mut(pointer).unwrap() = wrong;
        let (valid, said) = is_valid(&report);
        assert!(!valid && said.contains('$'), "{pointer}: {said}");
    }
    report["unknown"] = json!(1);
    assert!(!is_valid(&report).0);
}
