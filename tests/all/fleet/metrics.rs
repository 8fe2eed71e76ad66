//! Tests of `-metrics-textfile`: what the file says after runs of every kind, and that Prometheus' own tool accepts it and
//! the alert rules in docs/operations.md. The tool is `promtool` on PATH or named by HYDRANT_PROMTOOL. The tests with it
//! are skipped if it is not installed.

use super::*;
use crate::common::binary::hydrant;
use crate::common::metrics::{Samples, is_accepted, promtool, samples, value};
use crate::common::wait::until;
use hydrant::sim::server::Outcome;
use std::os::unix::fs::PermissionsExt;

fn read(host: &Host, file: &str) -> Samples {
    samples(&std::fs::read_to_string(host.path(file)).unwrap())
}

fn outcomes(samples: &Samples) -> Vec<(String, f64)> {
    let of = |series: &String| Some(series.strip_prefix("hydrant_databases{")?.split("outcome=\"").nth(1)?.to_owned());
    let outcome = |(series, value): (&String, &f64)| Some((of(series)?.trim_end_matches("\"}").to_owned(), *value));
    samples.iter().filter_map(outcome).filter(|(_, value)| *value > 0.0).collect()
}

#[test]
fn the_figures_of_a_run_are_those_of_its_summary() {
    let (server, host) = (simulator(SimOptions::default()), Host::new());
    tiny(&server, 5);
    let key = server.objects().keys("bucket", "fleet/000002.db/0009/").remove(0);
    assert!(server.objects().update("bucket", &key, |object| *object = Object::new("no ltx file")));
    std::fs::create_dir_all(host.path("out/fleet")).unwrap();
    std::fs::write(host.path("out/fleet/000003.db"), "there").unwrap();
    let pattern = url(&server, "bucket/**");
    let args = ["-json", "-if-db-not-exists", "-output-dir", "out", "-metrics-textfile", "fleet.prom", &pattern];
    let ran = host.run(&args);
    let (records, summary) = json_lines(&ran.stdout);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    let found = read(&host, "fleet.prom");
    let of = |name: &str| value(&found, name, "depth=\"restore\"");
    let expected = [("failed", 1.0), ("restored", 3.0), ("skipped", 1.0)].map(|(name, n)| (name.to_owned(), n));
    assert_eq!(outcomes(&found), expected);
    assert_eq!(of("hydrant_run_success"), 0.0);
    assert_eq!(of("hydrant_last_success_timestamp_seconds"), 0.0, "never");
    assert_eq!(of("hydrant_database_bytes"), summary["bytes"].as_f64().unwrap());
    assert!(of("hydrant_received_bytes") >= summary["bytes_fetched"].as_f64().unwrap());
    let ages: Vec<f64> = records.values().filter_map(|record| record["age_s"].as_f64()).collect();
    assert_eq!((of("hydrant_state_age_seconds_count"), ages.len()), (3.0, 3));
    // The test may see the next second.
    assert!((of("hydrant_oldest_state_age_seconds") - ages.iter().copied().fold(0.0, f64::max)).abs() <= 1.0);
    assert!((of("hydrant_state_age_seconds_sum") - ages.iter().sum::<f64>()).abs() <= 3.0);
    let bounds: Vec<f64> = found.iter().filter(|(name, _)| name.contains("_bucket{")).map(|(_, n)| *n).collect();
    assert!(bounds.len() > 5 && bounds.iter().all(|n| *n <= 3.0), "{bounds:?}");
    assert_eq!(value(&found, "hydrant_state_age_seconds_bucket", "le=\"+Inf\""), 3.0);
    let sent = ["succeeded", "failed", "throttled", "hedged"];
    let sent: f64 = sent.iter().map(|outcome| value(&found, "hydrant_requests", &format!("\"{outcome}\""))).sum();
    assert_eq!(sent, summary["requests"].as_f64().unwrap());
    assert!(of("hydrant_run_duration_seconds") > 0.0 && of("hydrant_run_start_timestamp_seconds") > 1.7e9);
    // The label `source` has no endpoint's secrets, but the pattern as typed.
    assert!(found.keys().all(|series| series.contains("source=\"s3://bucket/**?endpoint=")), "{found:?}");
}

#[test]
fn the_last_success_is_kept_until_the_next() {
    let (server, host) = (simulator(SimOptions::default()), Host::new());
    tiny(&server, 2);
    let pattern = url(&server, "bucket/**");
    let run = |more: &[&str]| {
        let args = ["-metrics-textfile", "fleet.prom", "-max-retries", "0"];
        let code = host.run(&[&args[..], more, &[pattern.as_str()]].concat()).code;
        let found = read(&host, "fleet.prom");
        let of = |name: &str| value(&found, name, "");
        (code, of("hydrant_run_success"), of("hydrant_last_success_timestamp_seconds"))
    };
    let (code, success, first) = run(&["-output-dir", "one"]);
    assert!((code, success) == (0, 1.0) && first > 1.7e9);
    server.set_faults(Faults { fail: vec![(Failure::AccessDenied, 1.0)], ..Faults::default() });
    assert_eq!(run(&["-output-dir", "two"]), (1, 0.0, first));
    // A second failure reads what the first one has kept.
    assert_eq!(run(&["-output-dir", "two"]), (1, 0.0, first));
    server.set_faults(Faults::default());
    // All is skipped: that shows nothing about the backups.
    assert_eq!(run(&["-output-dir", "one", "-if-db-not-exists"]), (0, 0.0, first));
    let (code, success, second) = run(&["-output-dir", "two"]);
    assert!((code, success) == (0, 1.0) && second > first);
    // A dry run is another series, which knows no success of restores. It has one of its own.
    let (code, success, planned) = run(&["-dry-run"]);
    assert!((code, success) == (0, 1.0) && planned >= second);
    assert!(read(&host, "fleet.prom").keys().all(|series| series.contains("depth=\"plan\"")));
    server.set_faults(Faults { fail: vec![(Failure::AccessDenied, 1.0)], ..Faults::default() });
    assert_eq!(run(&["-output-dir", "three"]), (1, 0.0, 0.0));
}

#[test]
fn an_interrupted_run_writes_its_metrics() {
    let (server, host) = (simulator(SimOptions::default()), Host::new());
    tiny(&server, 3);
    server.set_faults(Faults { fail: vec![(Failure::BlackHole, 1.0)], ..Faults::default() });
    let pattern = url(&server, "bucket/**");
    let mut child = host.command(&["-output-dir", "out", "-metrics-textfile", "fleet.prom", &pattern]).spawn().unwrap();
    until(|| server.stats().with_outcome(Outcome::BlackHole) > 0);
    assert!(!host.path("fleet.prom").exists());
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let found = read(&host, "fleet.prom");
    assert_eq!((value(&found, "hydrant_run_success", ""), outcomes(&found).len()), (0.0, 0));
    assert_eq!(host.files("."), BTreeSet::from(["fleet.prom".to_owned()]), "no temporary file is left");
}

#[test]
fn one_database_has_metrics_too() {
    let (server, host) = (simulator(SimOptions::default()), Host::new());
    tiny(&server, 1);
    let source = url(&server, "bucket/fleet/000000.db");
    let run = |args: &[&str]| {
        let args = [&["restore", "-metrics-textfile", "one.prom"], args, &[source.as_str()]].concat();
        let code = hydrant(host.dir.path(), &args).output().unwrap().status.code().unwrap();
        (code, read(&host, "one.prom"))
    };
    let (code, found) = run(&["-o", "a.db"]);
    assert_eq!((code, outcomes(&found)), (0, vec![("restored".to_owned(), 1.0)]));
    let size = std::fs::metadata(host.path("a.db")).unwrap().len();
    assert_eq!(value(&found, "hydrant_database_bytes", "command=\"restore\""), size as f64);
    assert_eq!(value(&found, "hydrant_state_age_seconds_count", ""), 1.0);
    let success = value(&found, "hydrant_last_success_timestamp_seconds", "");
    let (code, found) = run(&["-o", "a.db"]);
    assert_eq!((code, outcomes(&found)), (1, vec![("failed".to_owned(), 1.0)]));
    assert_eq!(value(&found, "hydrant_last_success_timestamp_seconds", ""), success);
    let (code, found) = run(&["-o", "a.db", "-if-db-not-exists"]);
    assert_eq!((code, outcomes(&found)), (0, vec![("skipped".to_owned(), 1.0)]));
    assert_eq!(value(&found, "hydrant_last_success_timestamp_seconds", ""), success);
    let same = ["restore", "-metrics-textfile", "./b.db", "-o", "b.db", &source];
    let output = hydrant(host.dir.path(), &same).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("cannot be one file: ./b.db"), "{said}");
    let (code, found) = run(&["-o", "b.db", "-dry-run"]);
    assert_eq!((code, outcomes(&found)), (0, vec![("planned".to_owned(), 1.0)]));
    assert!(value(&found, "hydrant_oldest_state_age_seconds", "depth=\"plan\"") > 0.0);
    assert!(!host.path("b.db").exists());
}

#[test]
fn others_may_read_the_file_as_far_as_the_umask_permits() {
    let (server, host) = (simulator(SimOptions::default()), Host::new());
    tiny(&server, 1);
    let pattern = url(&server, "bucket/**");
    for (umask, mode) in [("000", 0o644), ("022", 0o644), ("027", 0o640), ("077", 0o600)] {
        let mut command = Command::new("bash");
        command.arg("-c").arg(format!("umask {umask} && exec \"$@\"")).arg("bash").arg(env!("CARGO_BIN_EXE_hydrant"));
        command.args(["restore-pattern", "-dry-run", "-metrics-textfile", "fleet.prom", &pattern]);
        let ran = host.ran(host.in_its_own(command).output().unwrap());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let found = std::fs::metadata(host.path("fleet.prom")).unwrap().permissions().mode();
        assert_eq!(found & 0o7777, mode, "umask {umask}");
    }
}

#[test]
fn a_file_that_cannot_be_written_is_found_first() {
    let (server, host) = (simulator(SimOptions::default()), Host::new());
    tiny(&server, 1);
    let pattern = url(&server, "bucket/**");
    let ran = host.run(&["-output-dir", "out", "-metrics-textfile", "absent/fleet.prom", &pattern]);
    let text = "Error: cannot write the metrics absent/fleet.prom: No such file or directory";
    assert!(ran.code == 1 && ran.stderr.contains(text), "{}", ran.stderr);
    let ran = host.run(&["-report", "x.prom", "-output-dir", "out", "-metrics-textfile", "./x.prom", &pattern]);
    assert!(ran.code == 2 && ran.stderr.contains("cannot be one file: ./x.prom"), "{}", ran.stderr);
    assert_eq!(server.stats().total(), 0);
    let ran = host.run(&["-output-dir", "out", "-metrics-textfile", "metrics.txt", &pattern]);
    let warning = "Warning: metrics.txt: node_exporter reads only files whose names end in .prom";
    assert!(ran.code == 0 && ran.stderr.contains(warning), "{}", ran.stderr);
    assert!(host.path("metrics.txt").exists());
}

#[test]
fn a_drill_has_metrics_by_verdict() {
    let (server, host) = (simulator(SimOptions::default()), Host::new());
    tiny(&server, 4);
    let pattern = url(&server, "bucket/**");
    let run = |more: &[&str]| {
        let args = [&["verify", "-metrics-textfile", "drill.prom"], more, &[pattern.as_str()]].concat();
        let code = hydrant(host.dir.path(), &args).output().unwrap().status.code().unwrap();
        (code, read(&host, "drill.prom"))
    };
    let (code, found) = run(&[]);
    assert_eq!((code, outcomes(&found)), (0, vec![("restorable".to_owned(), 4.0)]));
    let success = value(&found, "hydrant_last_success_timestamp_seconds", "command=\"verify\",depth=\"full\"");
    assert!(success > 1.7e9 && value(&found, "hydrant_received_bytes", "") > 0.0);
    assert_eq!(value(&found, "hydrant_state_age_seconds_count", ""), 4.0);
    let key = server.objects().keys("bucket", "fleet/000002.db/0009/").remove(0);
    assert!(server.objects().update("bucket", &key, |object| *object = Object::new(vec![7; 500])));
    let (code, found) = run(&[]);
    let expected = [("not_restorable", 1.0), ("restorable", 3.0)].map(|(name, n)| (name.to_owned(), n));
    assert_eq!((code, outcomes(&found)), (3, expected.to_vec()));
    assert_eq!(value(&found, "hydrant_last_success_timestamp_seconds", ""), success);
    let (code, found) = run(&["-max-age", "1s", "-depth", "plan", "-shard", "0/1"]);
    assert_eq!((code, outcomes(&found)), (1, vec![("stale".to_owned(), 4.0)]));
    assert_eq!(value(&found, "hydrant_run_success", "depth=\"plan\""), 0.0);
    assert!(found.keys().all(|series| series.contains("shard=\"0/1\"")), "{found:?}");
}

#[test]
fn promtool_accepts_the_metrics() {
    let (server, host) = (simulator(SimOptions::default()), Host::new());
    tiny(&server, 3);
    let odd = "bucket/fleet/*[\"\\\\]*";
    for (file, pattern, more) in [
        ("restored.prom", "bucket/**", &["-output-dir", "out"][..]),
        ("failed.prom", "bucket/**", &["-output-dir", "out"]),
        ("planned.prom", "bucket/**", &["-dry-run", "-shard", "1/3"]),
        ("odd.prom", odd, &["-output-dir", "odd"]),
    ] {
        let pattern = url(&server, pattern);
        let args = [&["-metrics-textfile", file], more, &[pattern.as_str()]].concat();
        let ran = host.run(&args);
        let text = std::fs::read_to_string(host.path(file)).unwrap_or_else(|e| panic!("{e}: {}", ran.stderr));
        assert!(!samples(&text).is_empty());
        is_accepted(&text);
    }
}

/// The rules of docs/operations.md.
fn rules() -> String {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md")).unwrap();
    let (_, rest) = page.split_once("```yaml\ngroups:\n").expect("rules");
    format!("groups:\n{}", rest.split("```").next().unwrap())
}

/// Series by the hour: a drill whose last success was at time 0, and ages of which all but one are within the hour.
const RULE_TESTS: &str = r#"
rule_files: [rules.yml]
evaluation_interval: 1h
tests:
  - interval: 1h
    input_series:
      - series: 'hydrant_last_success_timestamp_seconds{command="verify", depth="full", source="s3://b/**", shard="0/2"}'
        values: '0x800'
      - series: 'hydrant_last_success_timestamp_seconds{command="verify", depth="full", source="s3://b/**", shard="1/2"}'
        values: '0+3600x800'
      - series: 'hydrant_last_success_timestamp_seconds{command="verify", depth="full", source="s3://c/**"}'
        values: '0+3600x800'
      - series: 'hydrant_last_success_timestamp_seconds{command="restore-pattern", depth="plan", source="s3://d/**"}'
        values: '0x800'
      - series: 'hydrant_state_age_seconds_bucket{command="verify", source="s3://b/**", le="3600"}'
        values: '9x800'
      - series: 'hydrant_state_age_seconds_bucket{command="verify", source="s3://b/**", le="+Inf"}'
        values: '10x800'
      - series: 'hydrant_state_age_seconds_count{command="verify", source="s3://b/**"}'
        values: '10x800'
      - series: 'hydrant_state_age_seconds_bucket{command="verify", source="s3://c/**", le="3600"}'
        values: '10x800'
      - series: 'hydrant_state_age_seconds_count{command="verify", source="s3://c/**"}'
        values: '10x800'
    alert_rule_test:
      - eval_time: 31d
        alertname: HydrantNoSuccessfulDrill
      - eval_time: 33d
        alertname: HydrantNoSuccessfulDrill
        exp_alerts:
          - exp_labels: {severity: critical, source: s3://b/**}
            exp_annotations:
              summary: No successful drill of s3://b/** for 32 days
              description: The last one was 33d 0h 0m 0s ago. Look at the report of the runs since.
      - eval_time: 3h
        alertname: HydrantStateTooOld
        exp_alerts:
          - exp_labels: {severity: warning, source: s3://b/**, command: verify}
            exp_annotations:
              summary: States of s3://b/** are older than one hour
              description: It was so for 1 databases when the last run ended. Is Litestream running for them?
      - eval_time: 33d
        alertname: HydrantDrillUnknown
  - interval: 1h
    input_series:
      - series: 'hydrant_last_success_timestamp_seconds{command="restore-pattern", depth="plan", source="s3://d/**"}'
        values: '0x800'
    alert_rule_test:
      - eval_time: 2d
        alertname: HydrantDrillUnknown
        exp_alerts:
          - exp_labels: {severity: critical}
            exp_annotations:
              summary: No metrics of a drill
              description: No run has written its metrics, or the textfile collector does not read them.
"#;

#[test]
fn promtool_accepts_the_alert_rules_and_they_fire() {
    let rules = rules();
    for family in ["hydrant_last_success_timestamp_seconds", "hydrant_state_age_seconds_bucket"] {
        assert!(rules.contains(family), "{rules}");
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("rules.yml"), &rules).unwrap();
    std::fs::write(dir.path().join("tests.yml"), RULE_TESTS).unwrap();
    for args in [["check", "rules", "rules.yml"], ["test", "rules", "tests.yml"]] {
        let Some(mut promtool) = promtool() else { return };
        let output = promtool.args(args).current_dir(dir.path()).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success() && said.contains("SUCCESS"), "{args:?}: {said}");
    }
}
