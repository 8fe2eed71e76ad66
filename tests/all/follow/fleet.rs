//! A fleet: `hydrant restore-pattern --follow` with several generated primaries in one bucket.

use super::support::*;
use crate::common::binary::hydrant;
use crate::common::{metrics, wait};
use hydrant::ltx::{PageSize, Txid};
use hydrant::sim::generate::{Change, GeneratedObject, Primary};
use hydrant::sim::server::{Object, Outcome, RequestKind, SimServer};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

struct Fleet {
    primaries: BTreeMap<String, Primary>,
    server: SimServer,
    dir: tempfile::TempDir,
}

impl Fleet {
    fn new(names: &[&str]) -> Self {
        let server = serve();
        let mut fleet = Self { primaries: BTreeMap::new(), server, dir: tempfile::tempdir().unwrap() };
        names.iter().for_each(|name| fleet.add(name));
        fleet
    }

    /// A new database, with a snapshot.
    fn add(&mut self, name: &str) {
        let seed = self.primaries.len() as u64 + 1;
        let mut primary = Primary::new(&format!("dbs/{name}"), PageSize::new(4096).unwrap(), 0, seed).unwrap();
        let files = [primary.file(0, (1, 1)).unwrap(), primary.file(9, (1, 1)).unwrap()];
        files.into_iter().for_each(|file| self.put(file));
        self.primaries.insert(name.to_owned(), primary);
    }

    fn put(&self, object: GeneratedObject) {
        let stored = Object::new(object.bytes).last_modified(object.last_modified);
        self.server.objects().put(BUCKET, &object.key, stored);
    }

    fn transact(&mut self, name: &str, change: Change) {
        let file = self.primaries.get_mut(name).unwrap().transact(change).unwrap();
        self.put(file);
    }

    fn remove(&self, name: &str, level: u8, min: u64, max: u64) {
        let key = format!("dbs/{name}/{level:04x}/{min:016x}-{max:016x}.ltx");
        assert!(self.server.objects().remove(BUCKET, &key), "{key}");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("out").join(name)
    }

    fn command(&self, more: &[&str]) -> Command {
        let url = format!("s3://{BUCKET}/dbs/**?endpoint={}&region=us-east-1", self.server.endpoint());
        let fixed = ["restore-pattern", "--follow", "--follow-interval", "20ms", "--list-rate", "1000"];
        let args = [&fixed[..], &["-v", "--output-dir", "out"], more, &[&*url]].concat();
        hydrant(self.dir.path(), &args)
    }

    fn follow(&self, more: &[&str]) -> Follower {
        Follower::start(&mut self.command(more))
    }

    /// Waits until every standby shows its primary's newest transaction, stops the fleet, and checks each byte.
    #[track_caller]
    fn catch_up_and_stop(&self, follower: Follower) -> (String, Vec<String>) {
        follower.until_line("caught up:");
        for (name, primary) in &self.primaries {
            follower.until_seq(&self.path(name), primary.txid());
        }
        let stopped = follower.stop();
        for (name, primary) in &self.primaries {
            self.is_state(name, primary.txid());
        }
        stopped
    }

    #[track_caller]
    fn is_state(&self, name: &str, txid: Txid) {
        let image = self.primaries[name].image(txid).unwrap().to_vec();
        assert!(masked(std::fs::read(self.path(name)).unwrap()) == masked(image), "{name}: another state than {txid}");
        let mut sidecar = self.path(name).into_os_string();
        sidecar.push("-txid");
        assert_eq!(std::fs::read_to_string(sidecar).unwrap(), format!("{txid}\n"), "{name}");
    }
}

#[test]
fn changes_reach_all_standbys_and_a_restart_takes_them_up() {
    let mut fleet = Fleet::new(&["a.db", "b.db", "sub/c.db"]);
    let follower = fleet.follow(&[]);
    follower.until_line("caught up: 3 databases: 3 up to date");
    for change in [Change::Transfer, Change::Grow(50_000), Change::Schema, Change::Vacuum] {
        fleet.transact("a.db", change);
        fleet.transact("sub/c.db", change);
        follower.until_seq(&fleet.path("a.db"), fleet.primaries["a.db"].txid());
    }
    let (_, log) = fleet.catch_up_and_stop(follower);
    assert!(log.iter().any(|line| line.contains("stopped: 3 databases: 3 up to date")), "{log:#?}");
    // While nobody follows, a database changes, and level 0 of another one is compacted away.
    fleet.transact("b.db", Change::Transfer);
    fleet.transact("b.db", Change::Transfer);
    let merged = fleet.primaries.get_mut("b.db").unwrap().file(1, (2, 3)).unwrap();
    fleet.put(merged);
    fleet.remove("b.db", 0, 2, 2);
    fleet.remove("b.db", 0, 3, 3);
    fleet.transact("a.db", Change::Grow(9_000));
    let follower = fleet.follow(&["-json"]);
    follower.until_lines("applied txid", 2);
    let (stdout, log) = fleet.catch_up_and_stop(follower);
    assert!(!log.iter().any(|line| line.starts_with("Warning")), "{log:#?}");
    let last: serde_json::Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&last["type"], &last["databases"], &last["up_to_date"]), (&"followed".into(), &3.into(), &3.into()));
    assert_eq!((&last["applied"], &last["stopped"]), (&2.into(), &0.into()), "{last}");
    assert!(stdout.lines().any(|line| line.contains(r#""skipped":3"#)), "{stdout}");
}

#[test]
fn new_databases_appear_and_vanished_ones_are_named() {
    let mut fleet = Fleet::new(&["b.db"]);
    let follower = fleet.follow(&[]);
    follower.until_line("caught up:");
    fleet.add("a.db");
    fleet.add("z.db");
    follower.until_line("new: dbs/a.db, restored at txid 0000000000000001");
    follower.until_line("new: dbs/z.db, restored at txid 0000000000000001");
    fleet.transact("z.db", Change::Transfer);
    follower.until_seq(&fleet.path("z.db"), Txid(2));
    let gone = [fleet.primaries.get_mut("a.db").unwrap().file(9, (1, 1)).unwrap()];
    fleet.remove("a.db", 0, 1, 1);
    fleet.remove("a.db", 9, 1, 1);
    follower.until_line("the replica of dbs/a.db is gone");
    gone.into_iter().for_each(|file| fleet.put(file));
    follower.until_line("the replica of dbs/a.db is there again");
    let (_, log) = fleet.catch_up_and_stop(follower);
    assert_eq!(log.iter().filter(|line| line.starts_with("Warning")).count(), 1, "{log:#?}");
}

#[test]
fn one_database_that_stops_does_not_stop_the_others() {
    let mut fleet = Fleet::new(&["a.db", "b.db", "c.db"]);
    fleet.transact("b.db", Change::Transfer);
    let follower = fleet.follow(&[]);
    fleet.catch_up_and_stop(follower);
    // b.db's replica is taken back, and c.db's sidecar is lost.
    fleet.remove("b.db", 0, 2, 2);
    std::fs::remove_file(fleet.dir.path().join("out/c.db-txid")).unwrap();
    let follower = fleet.follow(&[]);
    follower.until_line("dbs/b.db is not followed any more: the replica ends at txid 0000000000000001");
    follower.until_line("out/c.db: it exists and has no sidecar (-txid), so its TXID is unknown");
    fleet.transact("a.db", Change::Transfer);
    follower.until_line("dbs/a.db: applied txid");
    let (_, log) = follower.stop();
    let last = log.iter().find(|line| line.contains("stopped: 2 databases: ")).unwrap();
    assert!(last.contains("1 up to date, ") && last.contains("1 stopped; 1 change applied"), "{log:#?}");
    fleet.is_state("a.db", Txid(2));
}

#[test]
fn a_replica_that_is_replaced_while_its_standby_is_idle_is_never_mixed_in() {
    let mut fleet = Fleet::new(&["a.db", "b.db"]);
    for _ in 0..3 {
        fleet.transact("a.db", Change::Transfer);
    }
    let follower = fleet.follow(&[]);
    follower.until_line("caught up: 2 databases");
    // A tenant that was deleted and made anew: the same key, another database with newer TXIDs.
    let old = fleet.primaries["a.db"].image(Txid(4)).unwrap().to_vec();
    fleet.add("a.db");
    for _ in 0..8 {
        fleet.transact("a.db", Change::Grow(9_000));
    }
    follower.until_line("dbs/a.db is not followed any more: another program writes to this replica");
    fleet.transact("b.db", Change::Transfer);
    follower.until_seq(&fleet.path("b.db"), Txid(2));
    follower.stop();
    assert!(masked(std::fs::read(fleet.path("a.db")).unwrap()) == masked(old));
    // A restart, which remembers nothing, does not take it up either.
    let follower = fleet.follow(&[]);
    follower.until_line("a.db: it exists and has no sidecar (-txid)");
    follower.until_line("caught up: 1 database");
    follower.stop();
}

#[test]
fn a_database_that_another_program_has_open_is_tried_again() {
    let mut fleet = Fleet::new(&["a.db", "b.db"]);
    let follower = fleet.follow(&[]);
    fleet.catch_up_and_stop(follower);
    let writer = rusqlite::Connection::open(fleet.path("a.db")).unwrap();
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    fleet.transact("a.db", Change::Transfer);
    let follower = fleet.follow(&[]);
    follower.until_line("dbs/a.db cannot go on: ");
    writer.execute_batch("ROLLBACK").unwrap();
    drop(writer);
    let (_, log) = fleet.catch_up_and_stop(follower);
    assert_eq!(log.iter().filter(|line| line.starts_with("Warning")).count(), 1, "{log:#?}");
}

#[test]
fn a_directory_of_databases_that_are_no_standbys_is_an_error() {
    let fleet = Fleet::new(&["a.db"]);
    std::fs::create_dir(fleet.dir.path().join("out")).unwrap();
    std::fs::write(fleet.path("a.db"), "somebody's").unwrap();
    let log = fleet.follow(&[]).fails("no database can be followed");
    assert!(log.iter().any(|line| line.contains("has no sidecar")), "{log:#?}");
    assert_eq!(std::fs::read(fleet.path("a.db")).unwrap(), b"somebody's");
}

#[test]
fn configured_databases_in_several_directories_are_followed() {
    let mut fleet = Fleet::new(&["x/a.db", "y/b.db"]);
    let (endpoint, dir) = (fleet.server.endpoint(), fleet.dir.path());
    let entry = |name: &str| {
        format!(
            "  - path: {}\n    replica: {{type: s3, bucket: {BUCKET}, path: dbs/{name}, endpoint: '{endpoint}', region: us-east-1}}\n",
            dir.join("out").join(name).display()
        )
    };
    std::fs::write(dir.join("litestream.yml"), format!("dbs:\n{}{}", entry("x/a.db"), entry("y/b.db"))).unwrap();
    let glob = format!("{}/**", dir.join("out").display());
    let args = ["restore-pattern", "-follow", "-follow-interval", "20ms", "-list-rate", "1000", "-v"];
    let args = [&args[..], &["-config", "litestream.yml", &glob]].concat();
    let follower = Follower::start(&mut hydrant(dir, &args));
    follower.until_line("caught up: 2 databases");
    for name in ["x/a.db", "y/b.db"] {
        fleet.transact(name, Change::Transfer);
        follower.until_seq(&fleet.path(name), Txid(2));
    }
    fleet.catch_up_and_stop(follower);
}

#[test]
fn a_store_that_is_down_holds_up_no_other() {
    let (mut fleet, other) = (Fleet::new(&["a.db"]), Fleet::new(&["d.db"]));
    let dir = fleet.dir.path();
    let entry = |name: &str, endpoint: &str| {
        format!(
            "  - path: {}\n    replica: {{type: s3, bucket: {BUCKET}, path: dbs/{name}, endpoint: '{endpoint}', region: us-east-1}}\n",
            dir.join("out").join(name).display()
        )
    };
    let dbs = entry("a.db", &fleet.server.endpoint()) + &entry("d.db", &other.server.endpoint());
    std::fs::write(dir.join("litestream.yml"), format!("dbs:\n{dbs}")).unwrap();
    let glob = format!("{}/**", dir.join("out").display());
    let args = ["restore-pattern", "-follow", "-follow-interval", "20ms", "-v", "-config", "litestream.yml", &glob];
    let follower = Follower::start(&mut hydrant(dir, &args));
    follower.until_line("caught up: 2 databases");
    drop(other);
    fleet.transact("a.db", Change::Transfer);
    follower.until_seq(&fleet.path("a.db"), Txid(2));
    follower.until_line("trying again");
    fleet.catch_up_and_stop(follower);
}

#[test]
fn a_hole_is_waited_for_and_named_once() {
    let mut fleet = Fleet::new(&["a.db", "b.db"]);
    let follower = fleet.follow(&[]);
    follower.until_line("caught up:");
    let unseen = fleet.primaries.get_mut("a.db").unwrap().transact(Change::Transfer).unwrap();
    fleet.transact("a.db", Change::Transfer);
    follower.until_line("waits at txid 0000000000000001: no file continues from it");
    fleet.transact("b.db", Change::Transfer);
    follower.until_seq(&fleet.path("b.db"), Txid(2));
    fleet.put(unseen);
    let (_, log) = fleet.catch_up_and_stop(follower);
    assert_eq!(log.iter().filter(|line| line.contains("waits at txid")).count(), 1, "{log:#?}");
}

#[test]
fn more_databases_change_than_may_be_open() {
    let names: Vec<String> = (0..6).map(|n| format!("{n}.db")).collect();
    let mut fleet = Fleet::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let program = fleet.command(&[]);
    // Descriptors for one open database.
    let mut limited = Command::new("sh");
    limited.arg("-c").arg(r#"ulimit -n 96; exec "$0" "$@""#).arg(program.get_program()).args(program.get_args());
    limited.current_dir(fleet.dir.path()).env_clear();
    limited.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let follower = Follower::start(&mut limited);
    follower.until_line("caught up:");
    for _ in 0..3 {
        names.iter().for_each(|name| fleet.transact(name, Change::Transfer));
        for name in &names {
            follower.until_seq(&fleet.path(name), fleet.primaries[name].txid());
        }
    }
    fleet.catch_up_and_stop(follower);
}

#[test]
fn an_idle_fleet_costs_one_list_per_scan() {
    let names: Vec<String> = (0..20).map(|n| format!("{n:02}.db")).collect();
    let fleet = Fleet::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let follower = fleet.follow(&["--follow-interval", "50ms"]);
    follower.until_line("caught up:");
    let before = fleet.server.stats();
    wait::until(|| fleet.server.stats().since(&before).of_kind(RequestKind::List) >= 20);
    let spent = fleet.server.stats().since(&before);
    assert_eq!(spent.total(), spent.of_kind(RequestKind::List), "{spent:?}");
    assert_eq!(spent.count(RequestKind::List, Outcome::Ok), spent.of_kind(RequestKind::List));
    let (_, log) = fleet.catch_up_and_stop(follower);
    assert!(log.iter().any(|line| line.contains("1 LIST every")), "{log:#?}");
}

#[test]
fn metrics_say_how_the_fleet_is() {
    let mut fleet = Fleet::new(&["a.db", "b.db"]);
    let follower = fleet.follow(&["-metrics-textfile", "fleet.prom"]);
    follower.until_line("caught up:");
    for _ in 0..3 {
        fleet.transact("a.db", Change::Transfer);
        // Readers may see a change before it is counted.
        follower.until_line(&format!("to {}:", fleet.primaries["a.db"].txid()));
    }
    fleet.catch_up_and_stop(follower);
    let text = std::fs::read_to_string(fleet.dir.path().join("fleet.prom")).unwrap();
    metrics::is_accepted(&text);
    let samples = metrics::samples(&text);
    let value = |name: &str, label: &str| metrics::value(&samples, &format!("hydrant_fleet_{name}"), label);
    assert_eq!((value("running", ""), value("transactions_total", "")), (0.0, 3.0));
    assert!(value("lag_seconds_count", "") >= 1.0 && value("lag_seconds_bucket", "+Inf") >= 1.0);
    assert!(value("scans_total", "succeeded") >= 1.0 && value("requests_total", "") >= 5.0);
    assert!(value("last_scan_timestamp_seconds", "") > value("start_timestamp_seconds", ""));
}

#[test]
fn a_database_with_the_name_of_a_sidecar_is_refused() {
    let mut fleet = Fleet::new(&["a.db", "a.db-txid"]);
    let follower = fleet.follow(&[]);
    follower.until_line("dbs/a.db-txid: ");
    follower.until_line("caught up: 1 database");
    let (_, log) = follower.stop();
    assert!(log.iter().any(|line| line.contains("cannot stand beside")), "{log:#?}");
    fleet.primaries.remove("a.db-txid");
    fleet.is_state("a.db", Txid(1));
}

#[test]
fn a_second_follower_of_the_same_directory_is_refused() {
    let fleet = Fleet::new(&["a.db"]);
    let follower = fleet.follow(&[]);
    follower.until_line("caught up:");
    let second = fleet.follow(&[]);
    second.fails(&format!("out is followed already, by a process with process ID {}", follower.pid()));
    fleet.catch_up_and_stop(follower);
}

#[test]
fn a_fleet_of_replicas_on_disk_is_followed() {
    let mut fleet = Fleet::new(&["a.db", "b.db"]);
    let replicas = tempfile::tempdir().unwrap();
    let write = |name: &str, file: &GeneratedObject| {
        let (level, min, max) = (file.level, file.min_txid, file.max_txid);
        let path = replicas.path().join(format!("{name}/ltx/{level}/{min}-{max}.ltx"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let temporary = path.with_extension("tmp");
        std::fs::write(&temporary, &file.bytes).unwrap();
        std::fs::rename(temporary, path).unwrap();
    };
    for (name, primary) in &mut fleet.primaries {
        [primary.file(0, (1, 1)), primary.file(9, (1, 1))].iter().for_each(|file| write(name, file.as_ref().unwrap()));
    }
    let url = format!("file://{}/**", replicas.path().display());
    let args = ["restore-pattern", "-f", "-follow-interval", "20ms", "-v", "-output-dir", "out", &url];
    let follower = Follower::start(&mut hydrant(fleet.dir.path(), &args));
    follower.until_line("caught up: 2 databases");
    for _ in 0..3 {
        for (name, primary) in &mut fleet.primaries {
            write(name, &primary.transact(Change::Transfer).unwrap());
        }
    }
    fleet.catch_up_and_stop(follower);
}

#[test]
fn a_killed_fleet_goes_on_where_it_was() {
    let names = ["a.db", "b.db", "c.db"];
    let mut fleet = Fleet::new(&names);
    let mut follower = fleet.follow(&[]);
    follower.until_line("caught up:");
    let readers: Vec<_> = names.iter().map(|name| Readers::start(&fleet.path(name))).collect();
    for round in 0..6 {
        for change in [Change::Transfer, Change::Grow(30_000), Change::Vacuum] {
            names.iter().for_each(|name| fleet.transact(name, change));
            let name = names[round % names.len()];
            // Others are in the middle of it.
            follower.until_seq(&fleet.path(name), fleet.primaries[name].txid());
        }
        follower.kill();
        follower = fleet.follow(&[]);
    }
    readers.into_iter().for_each(Readers::stop);
    fleet.catch_up_and_stop(follower);
}
