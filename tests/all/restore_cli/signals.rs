//! Tests of restores that are stopped half-way, by signals that can be handled and by SIGKILL.

use super::support::*;
use crate::common::wait::grant_time_to_end;
use hydrant::sim::server::{Faults, RequestKind};
use std::process::Stdio;

/// Too slow for a restore to end before it is stopped, and not so slow that a body is given up.
fn crawling() -> Faults {
    Faults { bandwidth_per_connection: Some(40 << 10), ..Faults::default() }
}

fn slow() -> Served {
    serve(large(24 << 20, 3), crawling())
}

/// Bytes of bodies that a whole restore fetches.
fn whole(served: &Served) -> u64 {
    served.database.objects.iter().map(|object| object.bytes.len() as u64).sum()
}

/// Runs until the pages are being fetched. Returns how many bytes had been sent before, too.
fn half_way(served: &Served, args: &[&str]) -> (Running, u64) {
    let sent = served.server.stats().body_bytes;
    let running = start(&mut hydrant_s3(&[&["restore", &served.url], args].concat()));
    until(|| served.server.stats().body_bytes > sent + (200 << 10));
    (running, sent)
}

#[test]
fn an_interrupted_restore_ends_soon_and_leaves_nothing() {
    let served = slow();
    for (signal, code) in [(Signal::HUP, 129), (Signal::INT, 130), (Signal::TERM, 143)] {
        for engine in ["auto", "pwrite"] {
            for check in ["none", "full"] {
                for force in [false, true] {
                    let place = Place::new();
                    if force {
                        place.write("out.db", "old");
                        place.write("out.db-wal", "old wal");
                    }
                    let before = place.contents();
                    let out = place.out();
                    let force = if force { "-force" } else { "-force=false" };
                    let args = ["-o", &out, "-io-engine", engine, "-integrity-check", check, force, "-json"];
                    let (running, before_it) = half_way(&served, &args);
                    running.signal(signal);
                    let ran = running.wait();
                    // It has not waited for the bodies that were on their way.
                    let sent = served.server.stats().body_bytes - before_it;
                    assert!(sent < whole(&served) / 2, "{sent} bytes of {} were fetched", whole(&served));
                    assert_eq!((ran.code, &*ran.stdout), (Some(code), ""), "{ran:?}");
                    assert!(ran.stderr.starts_with("Error: "), "{ran:?}");
                    assert_eq!(place.contents(), before, "{args:?}");
                }
            }
        }
    }
}

#[test]
fn a_new_parent_of_an_interrupted_restore_goes_too() {
    let served = slow();
    let place = Place::new();
    let (running, _) = half_way(&served, &["-o", &place.path("new/deep/out.db")]);
    running.signal(Signal::TERM);
    assert_eq!(running.wait().code, Some(143));
    place.is_empty();
}

#[test]
fn under_nohup_a_hangup_is_ignored_and_others_are_not() {
    let nohup = |args: &[&str]| {
        let mut command = std::process::Command::new("nohup");
        command.arg(env!("CARGO_BIN_EXE_hydrant")).args(args);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("AWS_EC2_METADATA_DISABLED", "true");
        grant_time_to_end(&mut command);
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        command.env("AWS_SESSION_TOKEN", SESSION_TOKEN);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let quick = serve(large(8 << 20, 3), Faults { bandwidth_per_connection: Some(2 << 20), ..Faults::default() });
    for (served, end) in [(quick, None), (slow(), Some((Signal::TERM, 143)))] {
        let place = Place::new();
        let running = start(&mut nohup(&["restore", "-o", &place.out(), &served.url]));
        until(|| served.server.stats().body_bytes > 200 << 10);
        running.signal(Signal::HUP);
        if let Some((signal, code)) = end {
            running.signal(signal);
            assert_eq!(running.wait().code, Some(code));
            place.is_empty();
        } else {
            running.wait().succeeded();
            place.holds_only(&served.sha256);
        }
    }
}

#[test]
fn before_the_first_answer() {
    let served = serve(large(64 << 10, 0), Faults::default());
    served.server.script(RequestKind::List, "large.db/", [Some(hydrant::sim::server::Failure::BlackHole)]);
    let place = Place::new();
    let running = start(&mut hydrant_s3(&["restore", &served.url, "-o", &place.out()]));
    until(|| served.server.stats().in_flight_now > 0);
    running.signal(Signal::INT);
    assert_eq!(running.wait().code, Some(130));
    // It has not waited for the request's time-out, after which it would have sent another.
    assert_eq!(served.server.stats().of_kind(RequestKind::List), 1);
    place.is_empty();
}

#[test]
fn after_a_kill_the_next_run_sweeps_and_succeeds() {
    let served = slow();
    for (check, force) in [("none", false), ("quick", false), ("quick", true)] {
        let place = Place::new();
        if force {
            place.write("out.db", "old");
            place.write("out.db-wal", "old wal");
        }
        let before = place.contents();
        let out = place.out();
        let flag = if force { "-force" } else { "-force=false" };
        let (running, _) = half_way(&served, &["-o", &out, "-integrity-check", check, flag]);
        running.signal(Signal::KILL);
        assert_eq!(running.wait().code, None);
        let mut left = place.contents();
        left.retain(|name, _| !before.contains_key(name));
        println!("-integrity-check {check}: a kill leaves {:?}", left.keys());
        // A kill leaves a file with a name if SQLite is to check it, and on ext4 without a journal. Otherwise the
        // new file has no name.
        assert!(left.len() <= 1 && left.keys().all(|name| name.starts_with(".out.db.hydrant-")), "{:?}", left.keys());
        assert!(check == "none" || left.len() == 1);
        for name in before.keys() {
            assert_eq!(place.contents()[name], before[name]);
        }
        served.server.set_faults(Faults::default());
        run(&mut hydrant_s3(&["restore", flag, "-o", &out, &served.url])).succeeded();
        place.holds_only(&served.sha256);
        served.server.set_faults(crawling());
    }
}

#[test]
fn a_closed_pipe_ends_ltx_quietly() {
    let (folder, _) = fixture("block-4096");
    let script = "\"$0\" ltx -level all \"$1\" | head -n 1; exit ${PIPESTATUS[0]}";
    let output = std::process::Command::new("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_hydrant"), &format!("file://{}", folder.display())])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.stdout.iter().filter(|b| **b == b'\n').count(), 1);
}
