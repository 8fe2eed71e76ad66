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

/// A directory with replicas below `fleet/`, one for each of `names`.
fn replicas(names: &[&str]) -> Place {
    let (folder, _) = fixture("block-4096");
    let place = Place::new();
    for name in names {
        for (path, what) in contents(&folder) {
            if what.starts_with("file") {
                let to = place.dir().join("fleet").join(name).join(&path);
                std::fs::create_dir_all(to.parent().unwrap()).unwrap();
                std::fs::copy(folder.join(&path), to).unwrap();
            }
        }
    }
    place
}

#[test]
fn databases_below_the_place() {
    let hash = source().1;
    let one = replicas(&["a b#1.db"]);
    let fleet = one.path("fleet");
    let database = format!("'file://{fleet}/a%20b%231.db'");
    for (line, better) in [
        (format!("hydrant restore -o 1.db file://{fleet}"), format!("hydrant restore -o 1.db {database}")),
        (
            format!("hydrant restore -dry-run -if-replica-exists -o 2.db file://{fleet}"),
            format!("hydrant restore -dry-run -if-replica-exists -o 2.db {database}"),
        ),
        (
            format!("hydrant restore -o 3.db '{fleet}/a b#1.db/0009'").replace(" '", " 'file://").replace('#', "%23"),
            format!("hydrant restore -o 3.db {database}"),
        ),
        (format!("hydrant ltx file://{fleet}"), format!("hydrant ltx {database}")),
        (format!("hydrant ltx 'file://{fleet}/a b%231.db/0009'"), format!("hydrant ltx {database}")),
    ] {
        let better = better.replace("'file://", "file://").replace(".db'", ".db");
        assert_eq!(tried(one.dir(), &line), better);
    }
    for out in ["1.db", "3.db"] {
        assert_eq!(sha256(&one.dir().join(out)), hash);
    }

    let two = replicas(&["a.db", "eu/b.db"]);
    let fleet = two.path("fleet");
    let out = two.path("x");
    assert_eq!(
        tried(
            two.dir(),
            &format!("hydrant restore -json -parallelism 1 -timestamp 2100-01-01T00:00:00Z -o x.db file://{fleet}")
        ),
        format!("hydrant restore-pattern -timestamp 2100-01-01T00:00:00Z -output-dir {out} 'file://{fleet}/**'")
    );
    for name in ["x/a.db", "x/eu/b.db"] {
        assert_eq!(sha256(&two.dir().join(name)), hash);
    }
    // The directory exists now.
    let better = tried(two.dir(), &format!("hydrant restore -o x.db file://{fleet}/"));
    assert_eq!(better, format!("hydrant restore-pattern -output-dir {out}.db.restored 'file://{fleet}/**'"));
    let better = tried(two.dir(), &format!("hydrant ltx -level 9 file://{fleet}"));
    assert_eq!(better, format!("hydrant restore-pattern -dry-run 'file://{fleet}/**'"));
    // A TXID is one of a single database.
    let ran = run(&mut shell(two.dir(), &format!("hydrant restore -txid 1 -o y.db file://{fleet}")));
    assert!(ran.failed("2 databases lie below it").stderr.lines().all(|line| !line.starts_with("Try:")));
}

#[test]
fn patterns_that_match_nothing() {
    let place = replicas(&["eu/a.db", "us/b[1].db"]);
    let fleet = place.path("fleet");
    for (command, typed, better) in [
        ("restore-pattern -output-dir 1", "*.db", "**/*.db"),
        ("restore-pattern -dry-run", "us/*.sqlite", "us/**"),
        ("restore-pattern -dry-run", "eu/a.db/0009/**", "eu/a.db"),
        ("restore-pattern -dry-run", "us/b%5C[1%5C].db/0009/**", "us/b\\[1\\].db"),
        ("bench -stage list", "*.db", "**/*.db"),
    ] {
        let tried = tried(place.dir(), &format!("hydrant {command} 'file://{fleet}/{typed}'"));
        assert_eq!(tried.replace('\'', ""), format!("hydrant {command} file://{fleet}/{better}"));
    }
    let served = serve(large(64 << 10, 0), Faults::default());
    let typed = url(&served.server.endpoint(), "*.sqlite");
    let better = tried(place.dir(), &format!("hydrant restore-pattern -output-dir 2 '{typed}'"));
    assert!(better.contains(" 's3://bucket/**?endpoint="), "{better}");
    assert_eq!(sha256(&place.dir().join("2/large.db")), served.sha256);
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
