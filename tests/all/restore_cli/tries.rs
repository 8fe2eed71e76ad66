//! Whatever stands after `Try: ` can be run as it is, and succeeds.

use super::support::*;
use hydrant::sim::server::Faults;
use std::path::Path;
use std::process::Command;

/// The program in a shell with its own directory in PATH.
fn shell(dir: &Path, line: &str) -> Command {
    let command = hydrant_s3(&[]);
    let program = Path::new(env!("CARGO_BIN_EXE_hydrant")).parent().unwrap();
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", line]).current_dir(dir).env_clear();
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.env("PATH", program).env("HOME", dir);
    shell.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    shell
}

/// Runs `line`, which must fail, and then the command line that it suggests, which must succeed. Returns that line.
#[track_caller]
fn tried(dir: &Path, line: &str) -> String {
    let ran = run(&mut shell(dir, line));
    assert!(ran.code != Some(0), "{line}: {ran:?}");
    let mut tries = ran.stderr.lines().filter_map(|line| line.strip_prefix("Try: "));
    let better = tries.next().unwrap_or_else(|| panic!("{line} suggests nothing: {ran:?}")).to_owned();
    assert_eq!(tries.next(), None);
    // A path that the user is to choose.
    let runnable = better.replace("/path/to/db", "chosen.db");
    let again = run(&mut shell(dir, &runnable));
    assert_eq!(again.code, Some(0), "{line} suggests {better}: {again:?}");
    better
}

fn source() -> (String, String) {
    let (folder, manifest) = fixture("block-4096");
    (folder.to_str().unwrap().to_owned(), latest(&manifest))
}

#[test]
fn an_output_that_exists() {
    let (folder, hash) = source();
    for in_the_way in ["out.db", "out.db-wal", "a b.db"] {
        let place = Place::new();
        place.write(in_the_way, "old");
        let out = in_the_way.trim_end_matches("-wal");
        let better = tried(place.dir(), &format!("hydrant restore -o '{out}' file://{folder}"));
        assert!(better.starts_with("hydrant restore -force -o "), "{better}");
        assert_eq!(sha256(&place.dir().join(out)), hash);
    }
}

#[test]
fn an_output_in_use() {
    let (folder, hash) = source();
    let place = Place::new();
    let database = rusqlite::Connection::open(place.out()).unwrap();
    database.execute_batch("PRAGMA journal_mode=wal; CREATE TABLE t (x); BEGIN; INSERT INTO t VALUES (1)").unwrap();
    let better = tried(place.dir(), &format!("hydrant restore -force -o {} file://{folder}", place.out()));
    assert!(!better.contains(&format!("{} ", place.out())), "{better}");
    assert_eq!(sha256(&place.dir().join("out.db.restored")), hash);
    drop(database);
}

#[test]
fn holes_and_damage() {
    for name in ["hole", "no-first", "truncated", "bit-in-trailer", "magic", "renamed", "trailing"] {
        let place = Place::new();
        let better = tried(place.dir(), &format!("hydrant restore -json -memory 8MiB -o out.db {}", damaged(name)));
        assert_eq!(better, format!("hydrant ltx -memory 8MiB -level all {}", damaged(name)));
    }
    let (folder, _) = source();
    let place = Place::new();
    tried(place.dir(), &format!("hydrant restore -txid ffffffffffff -o out.db file://{folder}"));
}

#[test]
fn outputs_of_a_fleet_that_exist() {
    let (folder, _) = source();
    let parent = Path::new(&folder).parent().unwrap();
    let place = Place::new();
    place.write("out/block-4096", "old");
    let line = format!("hydrant restore-pattern -output-dir out 'file://{}/block-4096'", parent.display());
    let better = tried(place.dir(), &line);
    assert!(better.starts_with("hydrant restore-pattern -if-db-not-exists -output-dir out "), "{better}");
}

#[test]
fn slips_of_urls() {
    let (folder, _) = source();
    let served = serve(large(64 << 10, 0), Faults::default());
    let endpoint = served.server.endpoint();
    for (line, better) in [
        (format!("hydrant restore -o x1.db file:{folder}"), format!("hydrant restore -o x1.db file://{folder}")),
        (format!("hydrant restore -o x2.db {folder}"), format!("hydrant restore -o x2.db file://{folder}")),
        (format!("hydrant restore {folder}"), format!("hydrant restore -o block-4096 file://{folder}")),
        (format!("hydrant ltx file:{folder}"), format!("hydrant ltx file://{folder}")),
        (format!("hydrant ltx {folder}"), format!("hydrant ltx file://{folder}")),
        (
            format!("hydrant restore -endpoint {endpoint} -o x3.db s3:/bucket/{}", served.database.root),
            format!("hydrant restore -endpoint {endpoint} -o x3.db s3://bucket/{}", served.database.root),
        ),
    ] {
        let place = Place::new();
        assert_eq!(tried(place.dir(), &line), better);
    }
}

#[test]
fn wrong_command_lines() {
    let (folder, _) = source();
    let url = format!("file://{folder}");
    for line in [
        format!("hydrant restore {url}"),
        format!("hydrant restore {url} x.db"),
        format!("hydrant restore x.db {url}"),
        format!("hydrant restore -o {url} x.db"),
        format!("hydrant restore -o '~/x.db' {url}"),
        format!("hydrant restor -o x.db {url}"),
        format!("hydrant restore -intergrity-check full -o x.db {url}"),
        format!("hydrant -force restore -o x.db {url}"),
        format!("hydrant wal {url}"),
        format!("hydrant snapshots {url}"),
        format!("hydrant generations {url}"),
        format!("hydrant bench -stage all {url}"),
        format!("hydrant bench {folder}"),
        "hydrant replicate".to_owned(),
        "hydrant databases".to_owned(),
        "hydrant nothing-like-this".to_owned(),
        "hydrant restore".to_owned(),
        "hydrant ltx".to_owned(),
        "hydrant bench".to_owned(),
        "hydrant restore-pattern".to_owned(),
        "hydrant restore-pattern a b".to_owned(),
        "hydrant restore -quux x".to_owned(),
        "hydrant completions".to_owned(),
        "hydrant completions bash zsh".to_owned(),
        "hydrant man restore ltx".to_owned(),
        "hydrant man restor".to_owned(),
        "hydrant help restor".to_owned(),
    ] {
        let place = Place::new();
        tried(place.dir(), &line);
    }
}

#[test]
fn a_command_line_with_a_secret_is_not_repeated() {
    let place = Place::new();
    for line in ["hydrant restore s3://AK:CANARY@b/p", "hydrant restore 's3://b/p?sse-customer-key=CANARY'"] {
        let ran = run(&mut shell(place.dir(), line));
        assert!(ran.code == Some(2) && !ran.stderr.contains("CANARY") && !ran.stderr.contains("Try:"), "{ran:?}");
    }
}
