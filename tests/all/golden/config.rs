//! The output of `restore-pattern` with litestream.yml: names are configured paths, and databases without backups
//! are known.

use super::replicas::{Files, put, put_sound, simulator};
use super::support::*;
use hydrant::sim::server::SimServer;
use std::os::unix::fs::symlink;

/// A number of failures and of warnings that is more than stderr shows.
const MANY: usize = 25;

/// An entry of litestream.yml. `more` holds further lines of its replica.
fn entry(host: &Host, server: &SimServer, path: &str, more: &str) -> String {
    let name = path.rsplit('/').next().unwrap();
    let (path, url) = (host.path(path), url(server, &format!("backups/{name}")));
    format!("  - path: {}\n    replica:\n      url: {url}\n{more}", path.display())
}

#[test]
fn by_config() {
    let (server, host) = (simulator(1000), Host::new());
    for name in ["sound.db", "there.db", "loop.db", "refused.db", "dir/one.db", "dir/sub/two.db"] {
        put_sound(&server, &format!("backups/{name}"));
    }
    host.write("srv/there.db", "mine");
    symlink("loop", host.path("srv/loop")).unwrap();
    let dir = format!(
        "  - dir: {}\n    pattern: '*.db'\n    recursive: true\n    replica:\n      url: {}\n",
        host.path("srv/dir").display(),
        url(&server, "backups/dir")
    );
    let entries = [
        entry(&host, &server, "srv/sound.db", ""),
        entry(&host, &server, "srv/there.db", ""),
        entry(&host, &server, "srv/never.db", ""),
        // The directory of this database is a symbolic link to itself.
        entry(&host, &server, "srv/loop/loop.db", ""),
        entry(&host, &server, "srv/refused.db", "      age:\n        identities: [x]\n"),
        dir,
    ];
    host.write("litestream.yml", &format!("dbs:\n{}", entries.concat()));
    let pattern = format!("{}/**", host.path("srv").display());
    let mut seen = Transcript::new("restore-pattern-by-config", host.normal(&server));
    let common = [&["restore-pattern", "-config", "litestream.yml"], &STEADY[..], &STEADY_FLEET].concat();
    let run = |more: &[&str]| host.run(&[&common[..], more, &[&pattern]].concat());
    seen.ran(&run(&["-dry-run"]), Shape::PathTable, Shape::Messages);
    seen.ran(&run(&["-dry-run", "-json"]), Shape::JsonLines, Shape::Messages);
    let ran = run(&["-json", "--report", "report.json"]);
    seen.ran(&ran, Shape::JsonLines, Shape::Messages);
    seen.report(&host.read("report.json"), &ran);
    seen.error_log(&host.read("litestream-restore-errors.log"));
    let again = ["-if-db-not-exists", "-if-replica-exists"];
    let ran = run(&[&again[..], &["-json", "--report", "report.json"]].concat());
    seen.ran(&ran, Shape::JsonLines, Shape::Messages);
    seen.report(&host.read("report.json"), &ran);
    seen.ran(&run(&[&again[..], &["-v"]].concat()), Shape::Text, Shape::Messages);
    seen.matches();
}

/// A run has more failures and warnings than stderr shows. Which databases are named differs from run to run.
#[test]
fn many_failures_and_warnings() {
    let (server, host) = (simulator(1000), Host::new());
    let mut entries = String::new();
    for n in 10..10 + MANY {
        put(&server, &format!("backups/warned-{n}.db"), Files::add_v3);
        for name in ["warned", "never"] {
            entries += &entry(&host, &server, &format!("srv/{name}-{n}.db"), "");
        }
    }
    host.write("litestream.yml", &format!("dbs:\n{entries}"));
    let pattern = format!("{}/**", host.path("srv").display());
    let args = [&["restore-pattern", "-config", "litestream.yml"], &STEADY[..], &STEADY_FLEET, &[&pattern]].concat();
    let ran = host.run(&args).counting(|line| {
        let (name, number) = line.split_at(line.find("-1").or(line.find("-2")).or(line.find("-3"))?);
        Some(format!("{name}-<n>{}", number.get(3..)?)).filter(|_| number.get(3..6) == Some(".db"))
    });
    let mut seen = Transcript::new("restore-pattern-many", host.normal(&server));
    seen.ran(&ran, Shape::Text, Shape::Messages);
    seen.matches();
}
