//! `hydrant promote -output-dir`: the standbys of a pattern become ordinary databases.

use super::support::*;
use crate::common::binary::hydrant;
use crate::common::wait;
use hydrant::ltx::{PageSize, Txid};
use hydrant::sim::generate::{Change, Primary};
use hydrant::sim::server::RequestKind;
use serde_json::Value;
use std::path::PathBuf;

/// Databases `fleet/NAME` in the bucket of a [`World`], and standbys of them in `out`.
struct Fleet {
    world: World,
    primaries: Vec<(String, Primary)>,
}

impl Fleet {
    fn new(names: &[&str]) -> Self {
        let world = World::new(4096, 0);
        let mut primaries = Vec::new();
        for (seed, name) in names.iter().enumerate() {
            let key = format!("fleet/{name}");
            let mut primary = Primary::new(&key, PageSize::new(4096).unwrap(), 0, seed as u64 + 20).unwrap();
            [0, 9].into_iter().for_each(|level| world.put(primary.file(level, (1, 1)).unwrap()));
            primaries.push(((*name).to_owned(), primary));
        }
        Self { world, primaries }
    }

    fn transact(&mut self, name: &str) -> Txid {
        let (_, primary) = self.primaries.iter_mut().find(|(is, _)| is == name).unwrap();
        let file = primary.transact(Change::Transfer).unwrap();
        self.world.put(file);
        primary.txid()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.world.dir.path().join("out").join(name)
    }

    /// A follower of one database that has caught up.
    fn follower(&self, name: &str) -> Follower {
        let (url, out) = (self.world.url().replace("app.db", &format!("fleet/{name}")), format!("out/{name}"));
        let args = ["restore", "-f", "-follow-interval", "1h", "-v", "-o", &out, &url];
        let follower = Follower::start(&mut hydrant(self.world.dir.path(), &args));
        follower.until_line("caught up");
        follower
    }

    fn promote(&self, more: &[&str], pattern: &str) -> (Option<i32>, Vec<Value>, Vec<String>) {
        let args = [&["promote", "-v", "-output-dir", "out"], more, &[pattern]].concat();
        let (status, stdout, lines) = Follower::start(&mut hydrant(self.world.dir.path(), &args)).wait();
        let lines_of_json = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (status.code(), lines_of_json, lines)
    }

    fn pattern(&self) -> String {
        self.world.url().replace("app.db", "fleet/*")
    }

    fn is_standby(&self, name: &str) -> bool {
        self.path(&format!("{name}-txid")).exists()
    }

    #[track_caller]
    fn holds(&self, name: &str, txid: Txid) {
        assert_eq!(read_only(&self.path(name)).and_then(|reader| seq(&reader)).unwrap(), txid.0, "{name}");
    }
}

/// What a line of JSON says of the database `name`.
fn of<'a>(json: &'a [Value], name: &str) -> &'a Value {
    json.iter().find(|line| line["name"] == format!("fleet/{name}")).unwrap()
}

#[test]
fn all_standbys_of_a_pattern_are_promoted_but_those_that_fail() {
    let mut fleet = Fleet::new(&["a.db", "b.db", "not-here.db", "replicated.db"]);
    let follower = fleet.follower("a.db");
    for name in ["b.db", "replicated.db"] {
        fleet.follower(name).stop();
    }
    // The follower of a fleet holds the lock of the directory.
    std::fs::hard_link(fleet.path(".a.db-hydrant-follow"), fleet.path(".hydrant-follow")).unwrap();
    std::fs::create_dir(fleet.path(".replicated.db-litestream")).unwrap();
    let newest = [fleet.transact("a.db"), fleet.transact("b.db")];
    let (code, json, lines) = fleet.promote(&["-json"], &fleet.pattern());
    assert_eq!(code, Some(3), "{lines:#?}");
    let (status, _, said) = follower.wait();
    assert_eq!(status.code(), Some(0), "{said:#?}");
    for (name, txid) in ["a.db", "b.db"].into_iter().zip(newest) {
        let line = of(&json, name);
        let expected = ["database", "promoted", &txid.to_string(), "full"];
        assert_eq!(["type", "outcome", "txid", "integrity_check"].map(|key| line[key].as_str().unwrap()), expected);
        assert_eq!((line["can_replicate"].as_bool(), &line["reason"]), (Some(true), &Value::Null));
        assert_eq!(line["db_path"].as_str(), fleet.path(name).to_str());
        assert_eq!(line["key"], format!("bucket/fleet/{name}"));
        assert!(!fleet.is_standby(name) && !fleet.path(&format!(".{name}-hydrant-follow")).exists());
        fleet.holds(name, txid);
    }
    assert_eq!(
        (&of(&json, "not-here.db")["outcome"], &of(&json, "not-here.db")["reason"]),
        (&"skipped".into(), &"no standby".into())
    );
    let failed = of(&json, "replicated.db");
    assert_eq!((&failed["outcome"], &failed["class"]), (&"failed".into(), &"output in use".into()), "{failed}");
    assert!(failed["reason"].as_str().unwrap().contains("litestream reset "), "{failed}");
    assert!(fleet.is_standby("replicated.db") && fleet.path(".replicated.db-hydrant-follow").exists());
    let summary = json.last().unwrap();
    assert_eq!((&summary["type"], &summary["ended_follower"]), (&"summary".into(), &true.into()));
    let counts =
        ["databases", "promoted", "failed", "skipped", "interrupted"].map(|key| summary[key].as_u64().unwrap());
    assert_eq!(counts, [4, 2, 1, 1, 0]);
    assert!(lines.iter().any(|line| line.contains("promoted 2, failed 1, no standbys 1; in ")), "{lines:#?}");
    let error = "Error: 1 of 3 standbys were not promoted: 1 output in use";
    assert!(lines.iter().any(|line| line == error), "{lines:#?}");
    // Again, for what has failed.
    std::fs::remove_dir(fleet.path(".replicated.db-litestream")).unwrap();
    let (code, json, lines) = fleet.promote(&["-json", "-integrity-check", "quick"], &fleet.pattern());
    assert_eq!(code, Some(0), "{lines:#?}");
    assert_eq!(of(&json, "replicated.db")["outcome"], "promoted");
    assert_eq!(of(&json, "a.db")["outcome"], "skipped");
    let (code, json, lines) = fleet.promote(&[], &fleet.pattern());
    assert_eq!((code, json.len()), (Some(1), 0), "{lines:#?}");
    let error = "Error: no database of the pattern is a standby there";
    assert!(lines.iter().any(|line| line == error), "{lines:#?}");
}

/// With the follower of the fleet itself.
#[test]
fn a_fleet_that_is_followed_is_ended_and_promoted() {
    let names = ["a.db", "b.db", "c.db"];
    let mut fleet = Fleet::new(&names);
    let pattern = fleet.pattern();
    let args = ["restore-pattern", "--follow", "--follow-interval", "1h", "-v", "-output-dir", "out", &pattern];
    let follow = |fleet: &Fleet| Follower::start(&mut hydrant(fleet.world.dir.path(), &args));
    let follower = follow(&fleet);
    follower.until_line("caught up: 3 databases: 3 up to date");
    // It has not seen these yet.
    let newest = names.map(|name| fleet.transact(name));
    let (code, json, lines) = fleet.promote(&["-json"], &pattern);
    assert_eq!(code, Some(0), "{lines:#?}");
    let (status, _, said) = follower.wait();
    assert_eq!(status.code(), Some(0), "{said:#?}");
    let summary = json.last().unwrap();
    assert_eq!((&summary["promoted"], &summary["ended_follower"]), (&3.into(), &true.into()), "{summary}");
    let is_promoted = |fleet: &Fleet| {
        for (name, txid) in names.iter().zip(newest) {
            fleet.holds(name, txid);
            assert!(!fleet.is_standby(name));
        }
    };
    is_promoted(&fleet);
    assert!(!fleet.path(".hydrant-follow").exists());
    // What was promoted is not followed any more, also where its replica goes on.
    for name in names {
        fleet.transact(name);
    }
    let lines = follow(&fleet).fails("no database can be followed");
    let unknown = "it exists and has no sidecar (-txid), so its TXID is unknown";
    assert_eq!(lines.iter().filter(|line| line.contains(unknown)).count(), names.len(), "{lines:#?}");
    is_promoted(&fleet);
}

/// The output paths are those of `restore-pattern`.
#[test]
fn standbys_of_litestream_yml_are_promoted_where_restore_pattern_restores_them() {
    let fleet = Fleet::new(&["a.db", "b.db"]);
    let replica = |name: &str| {
        format!(
            "  - path: /data/{name}\n    replica: {{type: s3, bucket: {BUCKET}, path: fleet/{name}, endpoint: '{}', \
             region: us-east-1, force-path-style: true}}\n",
            fleet.world.server.endpoint()
        )
    };
    let config = format!("dbs:\n{}{}", replica("a.db"), replica("b.db"));
    std::fs::write(fleet.world.dir.path().join("litestream.yml"), config).unwrap();
    let args = ["restore-pattern", "-config", "litestream.yml", "-output-dir", "out", "/data/**"];
    let (status, _, lines) = Follower::start(&mut hydrant(fleet.world.dir.path(), &args)).wait();
    assert!(status.success(), "{lines:#?}");
    let written = walk(&fleet.world.dir.path().join("out"));
    let names: Vec<PathBuf> =
        written.into_iter().filter(|path| path.extension().is_some_and(|is| is == "db")).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    // Standbys of Litestream, which do not name their source.
    let sidecar = |path: &PathBuf| path.with_extension("db-txid");
    names.iter().for_each(|path| std::fs::write(sidecar(path), "0000000000000001\n").unwrap());
    let (code, _, lines) = fleet.promote(&["-config", "litestream.yml"], "/data/a*");
    assert_eq!(code, Some(0), "{lines:#?}");
    let left: Vec<_> = names.iter().filter(|path| sidecar(path).exists()).collect();
    assert!(left.len() == 1 && left[0].ends_with("b.db"), "{left:?}");
}

fn walk(directory: &std::path::Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// A standby of another database that lies at the output path of this one.
#[test]
fn a_standby_of_another_replica_is_not_promoted() {
    let fleet = Fleet::new(&["a.db", "b.db"]);
    fleet.follower("a.db").stop();
    for suffix in ["", "-txid"] {
        std::fs::rename(fleet.path(&format!("a.db{suffix}")), fleet.path(&format!("b.db{suffix}"))).unwrap();
    }
    std::fs::rename(fleet.path(".a.db-hydrant-follow"), fleet.path(".b.db-hydrant-follow")).unwrap();
    let (code, _, lines) = fleet.promote(&["-force"], &fleet.pattern());
    assert_eq!(code, Some(1), "{lines:#?}");
    let text = "this is a standby of s3://bucket/fleet/a.db, and not of s3://bucket/fleet/b.db, as ";
    assert!(lines.iter().any(|line| line.starts_with("Warning: fleet/b.db: ") && line.contains(text)), "{lines:#?}");
    assert!(fleet.is_standby("b.db"));
}

#[test]
fn a_signal_leaves_standbys() {
    let mut fleet = Fleet::new(&["a.db", "b.db"]);
    ["a.db", "b.db"].iter().for_each(|name| drop(fleet.follower(name).stop()));
    fleet.transact("a.db");
    let server = &fleet.world.server;
    server.answer_only(RequestKind::Get, Some(0));
    let listed = fleet.world.stats().of_kind(RequestKind::List);
    let args = ["promote", "-json", "-output-dir", "out", &fleet.pattern()];
    let promoting = Follower::start(&mut hydrant(fleet.world.dir.path(), &args));
    // The listing of the fleet, then those of its databases, whose files are then read.
    wait::until(|| fleet.world.stats().of_kind(RequestKind::List) >= listed + 3);
    promoting.signal(Signal::TERM);
    let (status, stdout, lines) = promoting.wait();
    assert_eq!(status.code(), Some(143), "{lines:#?}");
    let summary: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&summary["promoted"], &summary["interrupted"]), (&0.into(), &2.into()), "{stdout}");
    server.answer_only(RequestKind::Get, None);
    assert!(fleet.is_standby("a.db") && fleet.is_standby("b.db"));
    let (code, _, lines) = fleet.promote(&[], &fleet.pattern());
    assert_eq!(code, Some(0), "{lines:#?}");
}

#[test]
fn a_pattern_that_finds_nothing_leaves_the_follower_alone() {
    let fleet = Fleet::new(&["a.db"]);
    let follower = fleet.follower("a.db");
    std::fs::hard_link(fleet.path(".a.db-hydrant-follow"), fleet.path(".hydrant-follow")).unwrap();
    let (code, _, lines) = fleet.promote(&[], &fleet.world.url().replace("app.db", "elsewhere/*"));
    assert_eq!(code, Some(1), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("Error: no database matches ")), "{lines:#?}");
    let (code, _, lines) = fleet.promote(&["-o", "out/a.db"], &fleet.pattern());
    assert_eq!(code, Some(2), "{lines:#?}");
    let args = ["promote", "-output-dir", "nowhere", &fleet.pattern()];
    Follower::start(&mut hydrant(fleet.world.dir.path(), &args)).fails("nowhere is no directory");
    follower.stop();
    assert!(fleet.is_standby("a.db"));
}
