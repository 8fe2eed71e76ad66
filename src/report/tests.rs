//! Whole reports: what the formats say, what they escape, and how large they get.

use crate::report::*;
use crate::telemetry::{Stage, Stages};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// A name that would run a script, end an element, or start markup.
const HOSTILE: &str = "</td><img src=x onerror=\"alert(1)\"><script>alert(2)</script>\u{202e}`a`|b";

fn good(name: &str, age: u64) -> DatabaseRow {
    DatabaseRow {
        kind: "database",
        name: name.to_owned(),
        key: Some(format!("bucket/{name}")),
        db_path: Some(format!("/restored/{name}")),
        outcome: "restored",
        replica: "s3",
        txid: Some("00000000000001a4".to_owned()),
        timestamp: Some("2026-09-21T14:13:20Z".to_owned()),
        time_source: Some("header"),
        age_seconds: Some(age),
        bytes: Some(1_234_567),
        files: Some(7),
        bytes_fetched: Some(345_678),
        requests: Some(9),
        seconds: Some(0.123),
        standing: RowStanding::Good,
        ..DatabaseRow::default()
    }
}

fn bad(name: &str) -> DatabaseRow {
    DatabaseRow {
        outcome: "failed",
        class: Some("hole"),
        reason: Some(format!("hole: {name} has none")),
        command: Some(format!("hydrant restore -o /restored/x s3://bucket/{name}")),
        standing: RowStanding::Bad,
        age_seconds: None,
        bytes: None,
        ..good(name, 0)
    }
}

fn end() -> RunEnd {
    let mut timeline = Timeline::default();
    for second in 1..=30 {
        let sample = CounterSample {
            done: second * 3,
            bytes: second * 1_000_000,
            requests: second * 40,
            ..CounterSample::default()
        };
        timeline.sample(Duration::from_secs(second), sample);
    }
    let mut stages = Stages::default();
    (1..100).for_each(|ms| stages.record(Stage::Fetch, Duration::from_millis(ms)));
    let summary: Map<String, Value> = [("type".to_owned(), json!("summary"))].into_iter().collect();
    let run = RunInfo {
        command: "restore-pattern",
        command_line: "hydrant restore-pattern 's3://bucket/**'".to_owned(),
        version: "0.1.0".to_owned(),
        host: HostInfo { name: "db-1".to_owned(), cores: 8, memory_bytes: 1 << 28 },
        source: "s3://bucket/**".to_owned(),
        started: "2026-09-21T14:13:20Z".to_owned(),
        ended: "2026-09-21T14:13:50Z".to_owned(),
        seconds: 30.0,
        ..RunInfo::default()
    };
    let reference = "2026-09-21T14:13:20Z".to_owned();
    RunEnd { run, summary, timeline: timeline.intervals(), stages, reference, ..RunEnd::default() }
}

/// Writes reports of these rows, and returns JSON, page and text.
fn written(rows: &[DatabaseRow], end: &RunEnd) -> [String; 3] {
    let dir = tempfile::tempdir().unwrap();
    let paths = ["r.json", "r.HTML", "r.md"].map(|name| dir.path().join(name));
    let mut book = ReportBook::open(&paths).unwrap();
    for (i, row) in rows.iter().enumerate() {
        book.add(row, Duration::from_millis(i as u64));
    }
    assert!(book.finish(end).is_empty());
    assert_eq!(book.complete_json(), Some(paths[0].as_path()));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    paths.map(|path| std::fs::read_to_string(path).unwrap())
}

#[test]
fn endings_decide_on_the_format() {
    let of = |name: &str| ReportFormat::of(&PathBuf::from(name));
    assert_eq!(["a.html", "a.HTML", "d.html/x.Html"].map(of), [ReportFormat::Html; 3]);
    assert_eq!(["a.md", "a.Md"].map(of), [ReportFormat::Markdown; 2]);
    assert_eq!(["a.json", "a", "a.html.bak", ".html", "/dev/stderr"].map(of), [ReportFormat::Json; 5]);
}

#[test]
fn all_formats_have_the_same_numbers() {
    let mut degraded = good("b.db", 100_000);
    (degraded.standing, degraded.warnings) = (RowStanding::Degraded, vec!["went around x.ltx".to_owned()]);
    let [json, html, md] = written(&[good("a.db", 5), degraded, bad("c.db")], &end());
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["schema_version"], SCHEMA_VERSION);
    assert_eq!(json["databases"].as_array().unwrap().len(), 3);
    assert_eq!(json["milestones"]["databases"], 2);
    assert_eq!(json["ages"]["older_than_a_day"], 1);
    assert_eq!(json["run"]["host"]["name"], "db-1");
    assert_eq!(json["timeline"].as_array().unwrap().len(), 30);
    assert!(html.contains(">2 of 3 databases were restored</h1>"), "{html}");
    assert!(html.contains("1 failed, 1 around damage") && html.contains("went around x.ltx"));
    assert!(html.contains("hydrant restore -o /restored/x s3://bucket/c.db"));
    assert!(md.starts_with("## 2 of 3 databases were restored\n\n**1 failed, 1 around damage**\n"), "{md}");
    let damaged = "\n### 1 database with damage in the backup\n\n- `b.db`: restored (2026-09-21 14:13:20 UTC)\n";
    assert!(md.contains(&format!("{damaged}  - `went around x.ltx`\n")), "{md}");
    assert!(md.contains("\n- `c.db`: `hole: c.db has none`\n  - `hydrant restore -o /restored/x s3://bucket/c.db`\n"));
}

#[test]
fn hostile_names_are_text() {
    let mut skipped = good(HOSTILE, 1);
    (skipped.standing, skipped.reason) = (RowStanding::Skipped, Some(HOSTILE.to_owned()));
    let mut end = end();
    end.run.command_line = HOSTILE.to_owned();
    end.run.source = HOSTILE.to_owned();
    end.listing_error = Some(HOSTILE.to_owned());
    end.run.host.name = HOSTILE.to_owned();
    let [json, html, md] = written(&[skipped, bad(HOSTILE)], &end);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["databases"][0]["name"], HOSTILE);
    assert_eq!(html.matches("<script>").count(), 1, "{html}");
    assert!(!html.contains("<img") && !html.contains('\u{202e}') && !md.contains('\u{202e}'));
    // Every cell of a table is still where it was.
    assert_eq!(html.matches("<td>").count() + html.matches("<td ").count(), html.matches("</td>").count());
    for line in md.lines().filter(|line| line.contains("<img")) {
        assert!(line.contains("``") || line.contains("\\<img"), "{line}");
    }
    let rows = md.lines().filter(|line| line.starts_with('|'));
    for row in rows {
        let bars = row.replace("\\|", "").matches('|').count();
        assert_eq!(bars, 3, "{row}");
    }
}

#[test]
fn a_page_asks_for_nothing() {
    let [_, html, _] = written(&[good("a.db", 5), bad("c.db")], &end());
    for forbidden in [" src=", " href=", " style=", "url(", "@import", "http://", "https://", " onclick", "innerHTML"] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
    let between = |start: &str, end: &str| html.split_once(start).unwrap().1.split_once(end).unwrap().0.to_owned();
    for (what, text) in [("style", between("<style>", "</style>")), ("script", between("<script>", "</script>"))] {
        use sha2::Digest;
        let hash = aws_smithy_types::base64::encode(sha2::Sha256::digest(&text));
        assert!(
            html.contains(&format!("{what}-src 'sha256-{hash}'").replace('\'', "&#39;"))
                || html.contains(&format!("{what}-src 'sha256-{hash}'")),
            "{what}"
        );
    }
    assert!(html.find("Content-Security-Policy").unwrap() < html.find("<style>").unwrap());
}

#[test]
fn a_fleet_of_ten_thousand_fits_four_megabytes() {
    let name = |i: usize| format!("tenants/{:04}/databases/customer-{i:06}.db", i % 500);
    let rows: Vec<_> =
        (0..10_000).map(|i| if i % 100 == 0 { bad(&name(i)) } else { good(&name(i), i as u64) }).collect();
    let [_, html, md] = written(&rows, &end());
    assert!(html.len() < 4_000_000, "{}", html.len());
    assert_eq!(html.matches("<tr><td>").count(), 10_000);
    assert!(md.len() < 30_000, "{}", md.len());
    assert!(md.contains("\nand 50 more.\n"));
}

#[test]
fn a_page_shows_so_many_rows_and_counts_the_rest() {
    let rows: Vec<_> =
        (0..26_000).map(|i| if i < 5_500 { bad(&format!("{i}")) } else { good(&format!("{i}"), 1) }).collect();
    let [json, html, _] = written(&rows, &end());
    let failed = html.split_once("id=\"others\"").unwrap().0;
    assert_eq!(failed.matches("<tr><td>").count(), 5_000);
    assert_eq!(html.matches("<tr><td>").count(), 25_000);
    assert!(html.contains("5,000 of 5,500 failed databases are shown here."), "{}", &failed[failed.len() - 4000..]);
    assert!(html.contains("20,000 of 20,500 databases are shown here."));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["databases"].as_array().unwrap().len(), 26_000);
}

/// Databases end in any order. What is worse is shown, whatever came before it.
#[test]
fn what_matters_less_gives_way() {
    let stale = |i: usize| DatabaseRow { outcome: "", verdict: "stale", class: None, ..bad(&format!("stale-{i}")) };
    let lost = |i: usize| DatabaseRow { outcome: "", verdict: "not restorable", ..bad(&format!("z-lost-{i}")) };
    let noted = |i: usize| DatabaseRow { warnings: vec!["went around x.ltx".to_owned()], ..good(&format!("z-{i}"), 1) };
    let good = |i: usize| good(&format!("a-{i}"), 1);
    let rows = (0..5_000).map(stale).chain((0..20_000).map(good)).chain((0..10).map(noted));
    let rows: Vec<_> = rows.chain((0..10).map(lost)).chain((0..10).map(stale)).collect();
    let [_, html, _] = written(&rows, &end());
    for (what, shown) in [("<tr><td>stale-", 4_990), ("<tr><td>z-lost-", 10), ("<tr><td>a-", 19_990)] {
        assert_eq!(html.matches(what).count(), shown, "{what}");
    }
    // Once with the warning and once among all.
    assert_eq!(html.matches("<tr><td>z-").count(), 10 + 2 * 10);
    assert!(html.find("<td>z-lost-9<").unwrap() < html.find("<td>stale-0<").unwrap());
    assert!(html.contains("By class: 10 hole, 5,010 stale."));
}

#[test]
fn a_drill_shows_its_own_columns() {
    let mut row = good("a.db", 3);
    (row.outcome, row.verdict, row.standing) = ("", "degraded", RowStanding::Degraded);
    row.damaged = vec!["f.ltx is torn, g.ltx covers it".to_owned()];
    row.oldest = Some("2026-01-02T00:00:00Z".to_owned());
    row.files_without_another_chain = Some(2);
    let answer = vec!["1".to_owned(), "x".to_owned()];
    row.queries = vec![QueryAnswer { sql: "SELECT 1".to_owned(), row: Some(answer), error: None }];
    let mut lost = bad("b.db");
    (lost.outcome, lost.verdict) = ("", "not restorable");
    lost.newest_intact = Some(NewestIntact {
        txid: Some("0000000000000007".to_owned()),
        timestamp: "2026-01-01T00:00:00Z".to_owned(),
        time_source: "header",
        age_seconds: 7200,
        command: Some("hydrant restore -txid 7 x".to_owned()),
        ..NewestIntact::default()
    });
    let mut end = end();
    (end.run.command, end.run.purpose) = ("verify", Purpose::Verify);
    end.forecast = Some(RestoreForecast {
        half_seconds: 60.0,
        all_seconds: 90.0,
        limited_by: "network",
        bytes_needed: 1 << 30,
        hosts: vec![ShardsForecast { hosts: 4, all_seconds: 25.0 }],
        ..RestoreForecast::default()
    });
    let [json, html, md] = written(&[row, lost], &end);
    for text in [
        "1 of 2 databases are restorable",
        "f.ltx is torn, g.ltx covers it",
        "<td>2026-01-02 00:00:00</td>",
        "Without another chain</th>",
        "<td>SELECT 1: 1 | x</td>",
        "Newest intact state: TXID 0000000000000007, 2026-01-01 00:00:00 UTC (header), 2 hours old",
        "hydrant restore -txid 7 x",
        "after 1m00s and all after 1m30s",
        "The disk was not measured.",
    ] {
        assert!(html.contains(text), "{text}");
    }
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["databases"][0]["verdict"], &json["databases"][0].get("outcome")), (&json!("degraded"), &None));
    assert_eq!(json["forecast"]["hosts"][0]["hosts"], 4);
    assert!(md.contains("| forecast, half / all | 1m00s / 1m30s, held back by network |"), "{md}");
}

#[test]
fn a_report_that_cannot_be_written_is_given_up_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("no/such/dir/r.html");
    let error = ReportBook::open(&[dir.path().join("r.json"), missing]).unwrap_err();
    assert!(error.to_string().starts_with("cannot write the report ") && error.to_string().contains("no/such/dir"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    // A disk that is full while rows are written costs one report and not the other.
    let kept = dir.path().join("kept.json");
    let mut book = ReportBook::open(&[PathBuf::from("/dev/full"), kept.clone()]).unwrap();
    let long = bad(&"x".repeat(10_000));
    (0..3).for_each(|_| book.add(&long, Duration::ZERO));
    let trouble = book.take_trouble().unwrap();
    assert!(trouble.starts_with("cannot write the report /dev/full: "), "{trouble}");
    assert_eq!(book.take_trouble(), None);
    assert!(book.finish(&end()).is_empty());
    assert!(kept.exists());
}
