//! Reports of real runs: JSON against its schema, pages in a browser, and the commands that they suggest.

mod browser;
mod chromium;
mod schema;

use crate::common::binary::hydrant;
use hydrant::sim::generate::{TinyFleet, tiny_fleet};
use hydrant::sim::server::{Object, SimCredentials, SimOptions, SimServer};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A database with this name would run a script, if a page took it for markup.
const HOSTILE: &str = "<img src=x onerror=alert(1)>.db";
/// The number of sound databases of the fleet.
const SOUND: usize = 40;

/// A simulator with 40 sound databases, one of them with a hostile name, one around whose damage there is a way, and
/// two that cannot be restored.
fn fleet() -> SimServer {
    let credentials = SimCredentials {
        access_key: "AKIDHYDRANTTESTS".into(),
        secret_key: "hydrant-tests-secret-key".into(),
        session_token: None,
    };
    let options = SimOptions { credentials: Some(credentials), ..SimOptions::default() };
    let server = SimServer::start(options).unwrap();
    server.objects().create_bucket("bucket");
    for (index, database) in
        tiny_fleet(&TinyFleet { count: SOUND + 2, ..TinyFleet::default() }).unwrap().into_iter().enumerate()
    {
        for object in database.objects {
            let file = object.key.strip_prefix(&format!("{}/", database.root)).unwrap().to_owned();
            let mut bytes = object.bytes.to_vec();
            let root = match index {
                0 => format!("fleet/{HOSTILE}"),
                _ => database.root.clone(),
            };
            match index {
                // The level 0 files hold the same transactions.
                1 if file.starts_with("0001/") => bytes[500] ^= 1,
                SOUND if file.starts_with("0009/") => bytes.truncate(1000),
                index if index > SOUND && file.ends_with("0007.ltx") => bytes[0] = b'X',
                _ => {}
            }
            let object = Object::new(bytes)
                .litestream_timestamp(object.litestream_timestamp)
                .last_modified(object.last_modified);
            server.objects().put("bucket", &format!("{root}/{file}"), object);
        }
    }
    server
}

fn url(server: &SimServer, path: &str) -> String {
    format!("s3://bucket/{path}?endpoint={}&region=us-east-1", server.endpoint())
}

/// Runs the program with a report in each format. Returns their paths.
fn reported(dir: &Path, args: &[&str]) -> (Output, [PathBuf; 3]) {
    let names = ["report.json", "report.html", "report.md"];
    let flags = names.map(|name| format!("--report={name}"));
    let args: Vec<&str> =
        args[..1].iter().copied().chain(flags.iter().map(String::as_str)).chain(args[1..].iter().copied()).collect();
    let output = hydrant(dir, &args).output().unwrap();
    (output, names.map(|name| dir.join(name)))
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The sum of `field` over the timeline.
fn sum(report: &Value, field: &str) -> u64 {
    report["timeline"].as_array().unwrap().iter().map(|interval| interval[field].as_u64().unwrap()).sum()
}

#[test]
fn a_run_and_its_three_reports() {
    let (server, dir) = (fleet(), tempfile::tempdir().unwrap());
    let pattern = url(&server, "fleet/**");
    let (output, [json_path, html, md]) =
        reported(dir.path(), &["restore-pattern", "--max-retries", "0", "--output-dir", "out", "-json", &pattern]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    let report = json(&json_path);
    let rows = report["databases"].as_array().unwrap();
    let (summary, run) = (&report["summary"], &report["run"]);
    assert_eq!((rows.len(), summary["restored"].as_u64(), summary["failed"].as_u64()), (42, Some(40), Some(2)));
    // The lines on stdout are the rows.
    let printed = String::from_utf8(output.stdout).unwrap();
    let printed: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(&printed[..42], rows.as_slice());
    // The timeline has everything that the summary has, up to its last moment.
    assert_eq!((sum(&report, "done"), sum(&report, "failed")), (40, 2));
    assert_eq!(sum(&report, "requests"), summary["requests"].as_u64().unwrap());
    assert_eq!(report["timeline"].as_array().unwrap().last().unwrap()["seconds"], run["seconds"]);
    let marks = &report["milestones"];
    assert_eq!(marks["databases"], 40);
    let at = |name: &str| marks[name].as_f64().unwrap();
    let order = ["first_seconds", "half_seconds", "p99_seconds", "all_seconds"].map(at);
    assert!(order.is_sorted() && order[0] > 0.0 && order[3] <= run["seconds"].as_f64().unwrap(), "{order:?}");
    let groups: u64 =
        report["ages"]["groups"].as_array().unwrap().iter().map(|group| group["databases"].as_u64().unwrap()).sum();
    assert_eq!(groups, 40);
    assert_eq!(run["source"], pattern.as_str());
    let line = run["command_line"].as_str().unwrap();
    assert!(line.starts_with("hydrant restore-pattern --report report.json --report report.html"), "{line}");
    assert!(line.contains(" --only ") || line.ends_with(&format!(" '{pattern}'")), "{line}");

    let (html, md) = (std::fs::read_to_string(html).unwrap(), std::fs::read_to_string(md).unwrap());
    for text in [&html, &md] {
        assert!(
            text.contains("40 of 42 databases were restored") && text.contains("2 failed, 1 around damage"),
            "{text}"
        );
        assert!(!text.contains("hydrant-tests-secret-key"));
    }
    assert!(html.contains("&lt;img src=x onerror=alert(1)&gt;.db") && !html.contains("<img"));
}

/// The command beside a failure restores that database, once what was wrong is right.
#[test]
fn the_command_of_a_failure_works() {
    let (server, dir) = (fleet(), tempfile::tempdir().unwrap());
    let out = dir.path().join("out/fleet");
    std::fs::create_dir_all(out.join(HOSTILE)).unwrap();
    std::fs::create_dir_all(out.join("000003.db")).unwrap();
    let only = "fleet/000003.db\nfleet/<img src=x onerror=alert(1)>.db\n";
    std::fs::write(dir.path().join("names"), only).unwrap();
    let args = ["restore-pattern", "--no-progress", "--only", "names", "--output-dir", "out", &url(&server, "**")];
    let (output, [report, ..]) = reported(dir.path(), &args);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let report = json(&report);
    for row in report["databases"].as_array().unwrap() {
        let command = row["command"].as_str().unwrap_or_else(|| panic!("{row}"));
        assert!(command.starts_with("hydrant restore -o "), "{command}");
        std::fs::remove_dir(row["db_path"].as_str().unwrap()).unwrap();
        // A shell reads it, as it would read what a person pastes.
        let mut shell = Command::new("sh");
        shell.args(["-c", &command.replacen("hydrant ", "exec \"$0\" ", 1)]).arg(env!("CARGO_BIN_EXE_hydrant"));
        for (name, value) in hydrant(dir.path(), &[]).get_envs() {
            shell.env(name, value.unwrap());
        }
        let output = shell.current_dir(dir.path()).output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(Path::new(row["db_path"].as_str().unwrap()).is_file());
    }
    assert_eq!(report["databases"].as_array().unwrap().len(), 2);
}

#[test]
fn a_drill_has_reports_too() {
    let (server, dir) = (fleet(), tempfile::tempdir().unwrap());
    let pattern = url(&server, "fleet/**");
    let (output, [json_path, html, md]) = reported(dir.path(), &["verify", "--max-retries", "0", "-json", &pattern]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    let report = json(&json_path);
    let rows = report["databases"].as_array().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let printed: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(&printed[..42], rows.as_slice());
    assert_eq!(report["forecast"], printed[42]["forecast"]);
    let verdict = |word: &str| rows.iter().filter(|row| row["verdict"] == word).count();
    assert_eq!((verdict("restorable"), verdict("degraded"), verdict("not restorable")), (39, 1, 2));
    assert_eq!((sum(&report, "done"), sum(&report, "failed"), sum(&report, "bytes_written")), (40, 2, 0));
    assert_eq!(report["milestones"]["databases"], 40);
    let (html, md) = (std::fs::read_to_string(html).unwrap(), std::fs::read_to_string(md).unwrap());
    for text in [&html, &md] {
        assert!(
            text.contains("40 of 42 databases are restorable") && text.contains("2 not restorable, 1 around damage"),
            "{text}"
        );
    }
    assert!(html.contains("What a restore of everything would take") && html.contains("Newest intact state: TXID"));

    // Each command beside a failure verifies that database alone.
    for row in rows.iter().filter(|row| row["verdict"] == "not restorable") {
        let command = row["command"].as_str().unwrap();
        assert!(command.starts_with("hydrant verify -max-retries 0 's3://bucket/fleet/0000"), "{command}");
        let name = row["name"].as_str().unwrap();
        let output = hydrant(dir.path(), &["verify", "-json", &url(&server, name)]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(
            String::from_utf8(output.stdout)
                .unwrap()
                .starts_with(&format!("{{\"type\":\"database\",\"name\":\"{name}\""))
        );
    }

    // The report is what a later drill compares itself with, and may replace.
    let again = ["verify", "--expect", "report.json", "--report", "report.json", &pattern];
    let output = hydrant(dir.path(), &again).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(json(&json_path)["databases"].as_array().unwrap().len(), 42);
}

#[test]
fn a_forecast_knows_the_disk() {
    let (server, dir) = (fleet(), tempfile::tempdir().unwrap());
    let pattern = url(&server, "fleet/00001**");
    let (output, [json_path, html, _]) = reported(dir.path(), &["verify", "--scratch", ".", &pattern]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let forecast = &json(&json_path)["forecast"];
    for field in ["disk_bytes_per_second", "bytes_needed", "bytes_free"] {
        assert!(forecast[field].as_f64().unwrap() > 0.0, "{forecast}");
    }
    let html = std::fs::read_to_string(html).unwrap();
    assert!(html.contains(" free. The disk writes "), "{html}");
    // The probe and the scratch directory are gone.
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
}

#[test]
fn a_measurement_has_reports_too() {
    let (server, dir) = (fleet(), tempfile::tempdir().unwrap());
    let pattern = url(&server, "fleet/0000**");
    let (output, [json_path, html, md]) = reported(dir.path(), &["bench", "--json", &pattern]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    let report = json(&json_path);
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["bench"], printed);
    // The rows are those of one pass of the last stage; the timeline counts all stages.
    let rows = report["databases"].as_array().unwrap();
    let outcome = |word: &str| rows.iter().filter(|row| row["outcome"] == word).count();
    assert_eq!((outcome("rehearsed"), outcome("failed")), (39, 2));
    assert_eq!(sum(&report, "done") + sum(&report, "failed"), report["summary"]["databases"].as_u64().unwrap() - 41);
    assert!(report.get("milestones").is_none());
    let (html, md) = (std::fs::read_to_string(html).unwrap(), std::fs::read_to_string(md).unwrap());
    for text in [&html, &md] {
        assert!(text.contains("39 of 41 databases were measured") && text.contains("Speed of each stage"), "{text}");
    }
}

#[test]
fn two_reports_cannot_be_one_file() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("a.json", dir.path().join("b.json")).unwrap();
    std::fs::write(dir.path().join("a.json"), "old").unwrap();
    let log = "litestream-restore-errors.log";
    for (command, one, other, text) in [
        ("restore-pattern", "a.json", "./a.json", "two reports cannot be one file: ./a.json"),
        ("restore-pattern", "b.json", "a.json", "two reports cannot be one file: a.json"),
        ("restore-pattern", "x.md", log, "the report and the error log cannot be one file: litestream"),
        ("bench", "a.json", "b.json", "two reports cannot be one file: b.json"),
    ] {
        let flags = [command, "--report", one, "--report", other, "file:///nothing/**"];
        let output = hydrant(dir.path(), &flags).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(text), "{said}");
    }
    assert_eq!(std::fs::read_to_string(dir.path().join("a.json")).unwrap(), "old");
}

/// A page names failures too, but no run can read them from it.
#[test]
fn a_page_is_no_list_of_names() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("r.html"), "<!DOCTYPE html><html></html>").unwrap();
    let output = hydrant(dir.path(), &["restore-pattern", "--only", "r.html", "file:///nothing/**"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("it is a page; name the report that ends in .json"), "{said}");
}
