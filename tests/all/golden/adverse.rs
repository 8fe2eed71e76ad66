//! `restore-pattern` while the server fails, and when it is stopped.

use super::replicas::{NEWEST, SNAPSHOT, put, put_sound, refuse, simulator};
use super::support::*;
use hydrant::sim::server::{Failure, Outcome, RequestKind};
use std::io::{BufRead, BufReader};
use std::sync::mpsc;
use std::time::Duration;

/// How often a restore lists again when planned files are gone, before it gives up.
const RELISTINGS: usize = 8;

#[test]
fn tried_again_and_throttled() {
    let server = simulator(1000);
    for name in ["throttled.db", "again.db", "gone.db"] {
        put_sound(&server, &format!("fleet/{name}"));
    }
    server.script(RequestKind::Get, &format!("fleet/throttled.db/{NEWEST}"), [Some(Failure::SlowDown)]);
    // One more than a restore accepts: it fails, and its second try succeeds.
    let gone = vec![Some(Failure::NoSuchKey); RELISTINGS + 1];
    server.script(RequestKind::Get, &format!("fleet/again.db/{NEWEST}"), gone);
    refuse(&server, "fleet/gone.db", Failure::NoSuchKey);
    let host = Host::new();
    let mut seen = Transcript::new("restore-pattern-adverse", host.normal(&server));
    let args = ["-json", "--report", "report.json", "--output-dir", "out", &url(&server, "fleet/**")];
    let args = [&["restore-pattern"], &STEADY[..], &STEADY_FLEET, &args].concat();
    let ran = host.run(&args);
    seen.ran(&ran, Shape::JsonLines, Shape::Messages);
    seen.report(&host.read("report.json"), &ran);
    seen.matches();
}

/// A listing fails after its first page, and another with its first.
#[test]
fn a_listing_that_fails() {
    let server = simulator(6);
    for name in ["a.db", "b.db", "c.db"] {
        put_sound(&server, &format!("fleet/{name}"));
    }
    server.script(RequestKind::List, "fleet/", [vec![None], vec![Some(Failure::AccessDenied); 1000]].concat());
    let host = Host::new();
    let mut seen = Transcript::new("restore-pattern-listing-fails", host.normal(&server));
    let args = ["-json", "--report", "report.json", "--output-dir", "out", &url(&server, "fleet/**")];
    let args = [&["restore-pattern"], &STEADY[..], &STEADY_FLEET, &args].concat();
    let ran = host.run(&args);
    seen.ran(&ran, Shape::JsonLines, Shape::Messages);
    seen.report(&host.read("report.json"), &ran);
    server.script(RequestKind::List, "", vec![Some(Failure::AccessDenied); 1000]);
    let args = ["restore-pattern", "-json", "--output-dir", "none", &url(&server, "**")];
    seen.ran(&host.run(&args), Shape::JsonLines, Shape::Messages);
    seen.matches();
}

/// One database is restored, the other waits for an answer that never comes.
#[test]
fn interrupted() {
    let server = simulator(1000);
    put_sound(&server, "fleet/restored.db");
    put(&server, "fleet/waits.db", |files| files.keep_only(SNAPSHOT));
    server.script(RequestKind::Get, &format!("fleet/waits.db/{SNAPSHOT}"), vec![Some(Failure::BlackHole); 100]);
    let host = Host::new();
    let mut seen = Transcript::new("restore-pattern-interrupted", host.normal(&server));
    let files = ["--report", "report.json", "--io-engine", "pwrite", "-no-progress"];
    let url = url(&server, "fleet/**");
    // Two requests: the one that waits leaves room for the others.
    let args = [&["restore-pattern", "-json", "--parallel", "2", "--max-requests", "2"], &files[..]].concat();
    let args = [&args[..], &["--output-dir", "out", &url]].concat();
    let mut child = host.command(&args).spawn().unwrap();
    let (said, heard) = mpsc::channel();
    let listen = |stream: Box<dyn std::io::Read + Send>| {
        let said = said.clone();
        std::thread::spawn(move || {
            let mut all = String::new();
            for line in BufReader::new(stream).lines() {
                let line = line.unwrap();
                all.push_str(&line);
                all.push('\n');
                // The receiver is dropped once both lines have come.
                let _ = said.send(line);
            }
            all
        })
    };
    let stdout = listen(Box::new(child.stdout.take().unwrap()));
    let stderr = listen(Box::new(child.stderr.take().unwrap()));
    let (mut is_restored, mut is_found) = (false, false);
    while !(is_restored && is_found) {
        let line = heard.recv_timeout(Duration::from_secs(100)).unwrap();
        is_restored |= line.contains(r#""outcome":"restored""#);
        is_found |= line.starts_with("found 2 databases");
    }
    until(|| server.stats().count(RequestKind::Get, Outcome::BlackHole) > 0);
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    let code = child.wait().unwrap().code().unwrap();
    let ran = Ran::new(&args, code, stdout.join().unwrap(), stderr.join().unwrap());
    seen.ran(&ran, Shape::JsonLines, Shape::Messages);
    seen.report(&host.read("report.json"), &ran);
    seen.matches();
}
