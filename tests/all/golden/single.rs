//! `restore` and `ltx`, of one database.

#![allow(unsafe_code)]

use super::replicas::{DAMAGED, FILE_SIZE_LIMIT, L1, RESTORED, SNAPSHOT, fleet, put, simulator};
use super::support::*;
use hydrant::sim::generate::{TinyFleet, tiny_fleet};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// No file of the program becomes larger than `bytes`; who tries gets an error, not a signal.
pub(super) fn limited(command: &mut Command, bytes: u64) -> &mut Command {
    // SAFETY: setrlimit and signal are async-signal-safe and touch no memory of the parent.
    unsafe {
        command.pre_exec(move || {
            let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            match libc::setrlimit(libc::RLIMIT_FSIZE, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        })
    }
}

#[test]
fn restore() {
    let server = simulator(1000);
    fleet(&server);
    let host = Host::new();
    let mut seen = Transcript::new("restore", host.normal(&server));
    for name in RESTORED {
        let (out, url) = (name.replace('/', "-"), url(&server, &format!("fleet/{name}")));
        let args = [&["restore"], &STEADY[..], &["-json", "-o", &out, &url]].concat();
        seen.ran(&host.run(&args), Shape::Json, Shape::Text);
    }
    let sound = url(&server, "fleet/ok/plain.db");
    let text = [&["restore", "-v"], &STEADY[..], &["-force", "-o", "ok-plain.db", &sound]].concat();
    seen.ran(&host.run(&text), Shape::Text, Shape::Messages);
    for name in DAMAGED {
        let url = url(&server, &format!("fleet/{name}"));
        let args = [&["restore"], &STEADY[..], &["-json", "-o", "bad.db", &url]].concat();
        let output = limited(&mut host.command(&args), FILE_SIZE_LIMIT).output().unwrap();
        seen.ran(&Ran::of(&args, output), Shape::Json, Shape::Text);
        assert!(!host.path("bad.db").exists(), "{name}");
    }
    let never = url(&server, "fleet/never.db");
    let skips: [&[&str]; 7] = [
        &["-o", "ok-plain.db", &sound],
        &["-if-db-not-exists", "-o", "ok-plain.db", &sound],
        &["-o", "never.db", &never],
        &["-if-replica-exists", "-o", "never.db", &never],
        &["-txid", "6", "-o", "sixth.db", &sound],
        &["-timestamp", "2001-01-01T00:00:00Z", "-o", "out.db", &sound],
        // Pages of the generator's own, no database of SQLite's.
        &["-integrity-check", "quick", "-o", "out.db", &sound],
    ];
    for more in skips {
        let args = [&["restore", "-json"], &STEADY[..], more].concat();
        seen.ran(&host.run(&args), Shape::Json, Shape::Text);
    }
    seen.matches();
}

#[test]
fn restore_from_files() {
    let server = simulator(1000);
    let host = Host::new();
    let database = tiny_fleet(&TinyFleet { count: 1, prefix: "backups".into(), ..TinyFleet::default() }).unwrap();
    hydrant::sim::server::write_folder(&host.path("replica"), &database).unwrap();
    let url = format!("file://{}", host.path("replica/backups/000000.db").display());
    let mut seen = Transcript::new("restore-from-files", host.normal(&server));
    let out = host.path("out.db");
    let args = [&["restore"], &STEADY[..], &["-json", "-o", out.to_str().unwrap(), &url]].concat();
    seen.ran(&host.run(&args), Shape::Json, Shape::Text);
    seen.matches();
}

#[test]
fn restore_dry_run() {
    let server = simulator(1000);
    fleet(&server);
    let host = Host::new();
    let mut seen = Transcript::new("restore-dry-run", host.normal(&server));
    for name in ["ok/plain.db", "ok/archived.db"] {
        let url = url(&server, &format!("fleet/{name}"));
        for more in [&["-json"][..], &[], &["-json", "-timestamp", "2026-09-21T14:13:26Z"]] {
            let args = [&["restore", "-dry-run"], &STEADY[..], more, &["-o", "out.db", &url]].concat();
            let shape = if more.is_empty() { Shape::Text } else { Shape::Json };
            seen.ran(&host.run(&args), shape, Shape::Text);
        }
    }
    seen.matches();
}

#[test]
fn ltx() {
    let server = simulator(1000);
    put(&server, "fleet/plain.db", |_| {});
    // Its time has to be looked for in the header; the second is no LTX file, the third archived.
    put(&server, "fleet/odd.db", |files| {
        files.file(L1).bytes[0] = b'X';
        files.file(SNAPSHOT).is_archived = true;
        files.add_v3();
    });
    for key in server.objects().keys("bucket", "fleet/odd.db/") {
        assert!(server.objects().update("bucket", &key, |object| object.metadata.clear()));
    }
    let host = Host::new();
    let mut seen = Transcript::new("ltx", host.normal(&server));
    for (name, level) in [("plain.db", "all"), ("odd.db", "all"), ("plain.db", "3")] {
        let url = url(&server, &format!("fleet/{name}"));
        for more in [&["-json"][..], &["-json", "-times"], &[], &["-times"]] {
            let args = [&["ltx", "-level", level], more, &[&url]].concat();
            let shape = if more.contains(&"-json") { Shape::Json } else { Shape::Text };
            seen.ran(&host.run(&args), shape, Shape::Text);
        }
    }
    let url = url(&server, "fleet/odd.db");
    let args = ["ltx", "-level", "all", "-times", "-json", "--log-format", "json", &url];
    seen.ran(&host.run(&args), Shape::Json, Shape::JsonMessages);
    seen.matches();
}
