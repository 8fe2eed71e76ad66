//! Tests of saved catalogues: shards and retries work on one recovery point and list nothing; what has changed since is
//! named; a catalogue of anything else is refused.

use super::*;
use crate::common::binary::hydrant;
use hydrant::sim::naive;

/// The database that the naive restorer makes of the files up to `txid`.
fn state_at(database: &GeneratedDatabase, txid: u64) -> Vec<u8> {
    let entries: Vec<_> = database
        .objects
        .iter()
        .map(|object| naive::NaiveEntry {
            level: object.level.get(),
            min_txid: object.min_txid.0,
            max_txid: object.max_txid.0,
            time_ns: object.litestream_timestamp.as_nanos(),
        })
        .collect();
    let files = naive::plan(&entries, naive::NaiveTarget::Txid(txid)).unwrap();
    naive::restore(files.iter().map(|&i| &database.objects[i].bytes[..])).unwrap()
}

/// The files of a database that satisfy `which`, given their level and their first and last TXID.
fn put_some(server: &SimServer, database: &GeneratedDatabase, which: impl Fn(u8, u64, u64) -> bool) {
    for object in &database.objects {
        if which(object.level.get(), object.min_txid.0, object.max_txid.0) {
            let stored = Object::new(object.bytes.clone()).litestream_timestamp(object.litestream_timestamp);
            server.objects().put("bucket", &object.key, stored.last_modified(object.last_modified));
        }
    }
}

fn lists(server: &SimServer) -> u64 {
    server.stats().of_kind(RequestKind::List)
}

/// A simulator with a fleet, and its catalogue in `fleet.cat`.
fn saved(host: &Host, count: usize) -> (SimServer, Vec<GeneratedDatabase>) {
    let server = simulator(SimOptions::default());
    let fleet = tiny(&server, count);
    let ran = host.run(&["-dry-run", "-save-catalogue", "fleet.cat", &url(&server, "bucket/**")]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains(" ago, saved in the catalogue fleet.cat\n"), "{}", ran.stderr);
    (server, fleet)
}

#[test]
fn sixteen_shards_restore_one_recovery_point_and_list_nothing() {
    const DATABASES: usize = 40;
    let (server, host) = (simulator(SimOptions { max_keys: 50, ..SimOptions::default() }), Host::new());
    let fleet = tiny_fleet(&TinyFleet { count: DATABASES, ..TinyFleet::default() }).unwrap();
    fleet.iter().for_each(|database| put_some(&server, database, |_, _, max| max < 7));
    let pattern = url(&server, "bucket/fleet/**");
    // The catalogue holds all databases, whatever the share of the run that saves it.
    let ran = host.run(&["-dry-run", "-json", "-shard", "3/16", "-save-catalogue", "fleet.cat", &pattern]);
    let (planned, summary) = json_lines(&ran.stdout);
    assert_eq!((ran.code, summary["matched"].as_u64()), (0, Some(DATABASES as u64)), "{}", ran.stderr);
    assert!(planned.len() < DATABASES && lists(&server) > 1);
    let size = std::fs::metadata(host.path("fleet.cat")).unwrap().len();
    assert!(size < 100 * 4 * DATABASES as u64, "{size} bytes for {} files", 4 * DATABASES);

    // Since then each database has gone on. A run without the catalogue restores the newer state.
    fleet.iter().for_each(|database| put_some(&server, database, |_, _, max| max == 7));
    let before = lists(&server);
    let (mut names, mut points) = (BTreeSet::new(), BTreeSet::new());
    for shard in 0..16 {
        let shard = format!("{shard}/16");
        let ran = host.run(&["-json", "-shard", &shard, "-catalogue", "fleet.cat", "-output-dir", "out", &pattern]);
        let (records, summary) = json_lines(&ran.stdout);
        assert_eq!((ran.code, &summary["lists"]), (0, &0.into()), "{shard}: {}", ran.stderr);
        assert_eq!((&summary["matched"], &summary["moved"]), (&DATABASES.into(), &0.into()), "{shard}");
        points.insert(summary["recovery_point"].as_str().unwrap().to_owned());
        for (name, record) in records {
            assert_eq!((&record["outcome"], &record["txid"]), (&"restored".into(), &"0000000000000006".into()));
            assert!(record.get("moved_from").is_none() && names.insert(name), "{shard}");
        }
    }
    assert_eq!(lists(&server) - before, 0, "16 shards have listed");
    assert_eq!((names.len(), points.len()), (DATABASES, 1), "{points:?}");
    for database in &fleet {
        let restored =
            std::fs::read(host.path("out").join(database.root.trim_end_matches('/').replacen("fleet/", "", 1)));
        assert!(restored.unwrap() == state_at(database, 6), "{}", database.root);
    }
    let ran = host.run(&["-json", "-output-dir", "newest", &pattern]);
    let (records, summary) = json_lines(&ran.stdout);
    assert!(records.values().all(|record| record["txid"] == "0000000000000007") && lists(&server) > before);
    assert!(summary.get("recovery_point").is_none() && summary.get("moved").is_none(), "{summary}");
}

/// The state of one database was compacted away. It alone is listed again, and moves on to the next newer state.
#[test]
fn what_cannot_be_reached_any_more_moves_on_and_is_named() {
    let (server, host) = (simulator(SimOptions::default()), Host::new());
    let fleet = tiny_fleet(&TinyFleet { count: 3, ..TinyFleet::default() }).unwrap();
    // The newest state is 5: a snapshot up to TXID 4, and TXID 5.
    fleet.iter().for_each(|database| put_some(&server, database, |level, _, max| level != 1 && max < 6));
    let pattern = url(&server, "bucket/fleet/**");
    let ran = host.run(&["-dry-run", "-save-catalogue", "fleet.cat", &pattern]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    put_some(&server, &fleet[1], |level, _, max| level == 1 || max > 5);
    let compacted = format!("{}/0000/0000000000000005-0000000000000005.ltx", fleet[1].root.trim_end_matches('/'));
    assert!(server.objects().remove("bucket", &compacted));

    let before = lists(&server);
    let args = ["-catalogue", "fleet.cat", "-json", "-report", "report.json", "-output-dir", "out", &pattern];
    let ran = host.run(&args);
    let (records, summary) = json_lines(&ran.stdout);
    assert_eq!((ran.code, &summary["moved"], lists(&server) - before), (0, &1.into(), 1), "{}", ran.stderr);
    let moved = &records["fleet/000001.db"];
    assert_eq!((&moved["txid"], &moved["moved_from"]), (&"0000000000000006".into(), &"0000000000000005".into()));
    let text = "TXID 0000000000000005, cannot be reached exactly any more: moved on to the next newer one";
    assert!(moved["warnings"][0].as_str().unwrap().contains(text), "{moved}");
    assert!(ran.stderr.contains("Warning: fleet/000001.db: the state of the catalogue, "), "{}", ran.stderr);
    let line = "\nmoved on to a newer state than the catalogue's: 1 database: fleet/000001.db\n";
    assert!(ran.stderr.contains(line), "{}", ran.stderr);
    let report: Value = serde_json::from_slice(&std::fs::read(host.path("report.json")).unwrap()).unwrap();
    let in_report: Vec<&Value> =
        report["databases"].as_array().unwrap().iter().filter(|d| d.get("moved_from").is_some()).collect();
    assert_eq!((in_report.len(), &report["summary"]["moved"]), (1, &1.into()));
    for (i, txid) in [(0, 5), (1, 6), (2, 5)] {
        let restored = std::fs::read(host.path(&format!("out/{i:06}.db"))).unwrap();
        assert!(restored == state_at(&fleet[i], txid), "{i}");
    }
    // A dry run fetches nothing, so it does not notice that a file is gone.
    let ran = host.run(&["-dry-run", "-catalogue", "fleet.cat", "-json", &pattern]);
    let (records, _) = json_lines(&ran.stdout);
    assert!(records.values().all(|record| record["txid"] == "0000000000000005"), "{}", ran.stdout);
}

#[test]
fn a_drill_works_on_the_states_of_a_catalogue() {
    let (server, host) = (simulator(SimOptions::default()), Host::new());
    let fleet = tiny_fleet(&TinyFleet { count: 4, ..TinyFleet::default() }).unwrap();
    fleet.iter().for_each(|database| put_some(&server, database, |_, _, max| max < 7));
    let pattern = url(&server, "bucket/fleet/**");
    let verify = |more: &[&str]| {
        let args = [&["verify", "-json", "-depth"], more, &[pattern.as_str()]].concat();
        let output = hydrant(host.dir.path(), &args).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        json_lines(&String::from_utf8(output.stdout).unwrap())
    };
    verify(&["plan", "-save-catalogue", "fleet.cat"]);
    fleet.iter().for_each(|database| put_some(&server, database, |_, _, max| max == 7));
    let before = lists(&server);
    for depth in ["plan", "headers", "full"] {
        let (records, summary) = verify(&[depth, "-catalogue", "fleet.cat"]);
        assert!(records.values().all(|record| record["txid"] == "0000000000000006"), "{depth}: {records:?}");
        assert_eq!((records.len(), &summary["moved"]), (4, &0.into()), "{depth}: {summary}");
        assert!(summary["recovery_point"].is_string(), "{depth}: {summary}");
    }
    assert_eq!(lists(&server) - before, 0);
}

#[test]
fn a_catalogue_of_anything_else_is_refused_by_name() {
    let host = Host::new();
    let (server, _) = saved(&host, 2);
    let sound = std::fs::read(host.path("fleet.cat")).unwrap();
    std::fs::write(host.path("short.cat"), &sound[..sound.len() - 1]).unwrap();
    std::fs::write(host.path("none.cat"), "{}").unwrap();
    let mut damaged = sound.clone();
    damaged[30] ^= 1;
    std::fs::write(host.path("damaged.cat"), damaged).unwrap();
    let mut newer = sound;
    newer[8] = 2;
    std::fs::write(host.path("newer.cat"), newer).unwrap();
    server.objects().create_bucket("other");
    let elsewhere = simulator(SimOptions::default());
    let total = server.stats().total();
    for (file, pattern, text) in [
        ("short.cat", url(&server, "bucket/**"), "catalogue short.cat: truncated: it was not written or copied"),
        ("none.cat", url(&server, "bucket/**"), "catalogue none.cat: this is no catalogue of Hydrant"),
        ("damaged.cat", url(&server, "bucket/**"), "catalogue damaged.cat: damaged: a wrong checksum, at byte "),
        (
            "newer.cat",
            url(&server, "bucket/**"),
            "catalogue newer.cat: this is a catalogue of version 2, and this program",
        ),
        ("absent.cat", url(&server, "bucket/**"), "catalogue absent.cat: No such file or directory"),
        (
            "fleet.cat",
            url(&server, "other/**"),
            "catalogue fleet.cat: it is of another bucket: bucket, and not other; save",
        ),
        (
            "fleet.cat",
            url(&elsewhere, "bucket/**"),
            "catalogue fleet.cat: it is of another endpoint: http://127.0.0.1:",
        ),
        (
            "fleet.cat",
            url(&server, "bucket/fleet/**"),
            "catalogue fleet.cat: it is of another pattern: **, and not fleet/**",
        ),
    ] {
        let ran = host.run(&["-catalogue", file, "-output-dir", "out", &pattern]);
        assert!(ran.code == 1 && ran.stderr.contains(&format!("Error: {text}")), "{file}: {}", ran.stderr);
    }
    assert_eq!((server.stats().total(), elsewhere.stats().total()), (total, 0), "nothing is asked for");
    assert!(!host.path("out").exists());
    let pattern = url(&server, "bucket/**");
    for (args, code, text) in [
        (["-catalogue", "fleet.cat", "-save-catalogue", "x"], 2, "cannot specify -save-catalogue and -catalogue"),
        (
            ["-save-catalogue", "absent/x.cat", "-output-dir", "out"],
            1,
            "cannot write the catalogue absent/x.cat: No such",
        ),
        (["-save-catalogue", "x", "-report", "./x"], 2, "the catalogue and the report cannot be one file: x"),
    ] {
        let ran = host.run(&[&args[..], &[pattern.as_str()]].concat());
        assert!(ran.code == code && ran.stderr.contains(text), "{args:?}: {}", ran.stderr);
    }
    assert_eq!(server.stats().total(), total);
}

/// What failed is done again on the same states, also where the first run has saved the catalogue itself.
#[test]
fn what_failed_is_done_again_with_the_catalogue() {
    let (server, host) = (simulator(SimOptions::default()), Host::new());
    let fleet = tiny(&server, 3);
    std::fs::create_dir_all(host.path("out/fleet")).unwrap();
    std::fs::write(host.path("out/fleet/000001.db"), "mine").unwrap();
    let pattern = url(&server, "bucket/**");
    let ran = host.run(&["--save-catalogue", "my fleet.cat", "--output-dir", "out", &pattern]);
    assert_eq!((ran.code, ran.failures.len()), (3, 1), "{}", ran.stderr);
    let line = ran.stderr.lines().find_map(|line| line.strip_prefix("to do again what failed: hydrant ")).unwrap();
    assert!(line.contains(" --catalogue 'my fleet.cat'") && !line.contains("--save-catalogue"), "{line}");
    let before = lists(&server);
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("exec \"$0\" {line} --force")).arg(env!("CARGO_BIN_EXE_hydrant"));
    let again = host.ran(host.in_its_own(command).output().unwrap());
    assert_eq!((again.code, lists(&server) - before), (0, 0), "{}", again.stderr);
    assert_eq!(whole_ones(&host, "out", &fleet), 3);
}

/// By litestream.yml: databases of both kinds of entries, one without a backup, one whose bucket does not exist, and one
/// whose entry is for a path above other databases.
#[test]
fn a_configured_fleet_is_the_same_with_its_catalogue() {
    let (server, host) = (simulator(SimOptions::default()), Host::new());
    let fleet = tiny_fleet(&TinyFleet { count: 6, ..TinyFleet::default() }).unwrap();
    fleet.iter().for_each(|database| server.objects().put_database("bucket", database));
    let replica = |key: &str| format!("    replica:\n      url: {}\n", url(&server, key));
    let entries = [
        format!("  - path: /srv/a.db\n{}", replica("bucket/fleet/000000.db")),
        format!("  - path: /srv/b.db\n{}", replica("bucket/fleet/000001.db")),
        format!("  - path: /srv/never.db\n{}", replica("bucket/fleet/never.db")),
        format!("  - path: /srv/above.db\n{}", replica("bucket/elsewhere")),
        format!("  - path: /srv/lost.db\n{}", replica("absent/lost.db")),
        format!("  - dir: /srv/tenants\n    pattern: '*.db'\n    recursive: true\n{}", replica("bucket/tenants")),
    ];
    for (i, root) in [(2, "tenants/x.db"), (3, "tenants/y/z.db"), (4, "elsewhere/c.db")] {
        for object in &fleet[i].objects {
            let key = object.key.replacen(&format!("fleet/{i:06}.db"), root, 1);
            server.objects().put("bucket", &key, Object::new(object.bytes.clone()));
        }
    }
    std::fs::write(host.path("litestream.yml"), format!("dbs:\n{}", entries.concat())).unwrap();
    let run = |more: &[&str]| {
        let args = ["-config", "litestream.yml", "-max-retries", "0", "-json"];
        host.run(&[&args[..], more, &["/srv/**"]].concat())
    };
    let shown = |ran: &Ran| -> BTreeMap<String, (Value, Value)> {
        let (records, _) = json_lines(&ran.stdout);
        records
            .into_iter()
            .map(|(name, record)| (name, (record["outcome"].clone(), record["reason"].clone())))
            .collect()
    };
    let saving = run(&["-save-catalogue", "fleet.cat", "-output-dir", "one"]);
    let expected = shown(&saving);
    let of = |outcome: &str| expected.values().filter(|(found, _)| found == outcome).count();
    assert_eq!((saving.code, of("restored"), of("failed")), (3, 4, 3), "{expected:?}");

    let before = server.stats().of_kind(RequestKind::List);
    let with = run(&["-catalogue", "fleet.cat", "-output-dir", "two"]);
    assert_eq!(shown(&with), expected, "{}", with.stderr);
    assert_eq!(server.stats().of_kind(RequestKind::List) - before, 0);
    assert_eq!(host.files("two"), host.files("one"));
    let mut together = BTreeMap::new();
    for shard in 0..4 {
        let ran = run(&["-catalogue", "fleet.cat", "-dry-run", "-shard", &format!("{shard}/4")]);
        for (name, _) in shown(&ran) {
            *together.entry(name).or_insert(0) += 1;
        }
    }
    assert!(together.len() == expected.len() && together.values().all(|times| *times == 1), "{together:?}");
    assert_eq!(server.stats().of_kind(RequestKind::List) - before, 0);

    let moved = format!("dbs:\n{}", entries.concat()).replace("fleet/000001.db", "fleet/000005.db");
    std::fs::write(host.path("litestream.yml"), moved).unwrap();
    let ran = run(&["-catalogue", "fleet.cat", "-output-dir", "three"]);
    let text = "Error: catalogue fleet.cat: the configuration file names other databases or other places than when";
    assert!(ran.code == 1 && ran.stderr.contains(text), "{}", ran.stderr);
}

/// A catalogue holds no secrets.
#[test]
fn a_catalogue_holds_no_secret() {
    let host = Host::new();
    let (server, _) = saved(&host, 2);
    let pattern = format!(
        "{}&sse-customer-algorithm=AES256&sse-customer-key=Q0FOQVJZQ0FOQVJZQ0FOQVJZQ0FOQVJZQ0FOQVJZMTI=",
        url(&server, "bucket/**")
    );
    let ran = host.run(&["-dry-run", "-save-catalogue", "secret.cat", &pattern]);
    assert!(host.path("secret.cat").exists(), "{}", ran.stderr);
    for file in ["fleet.cat", "secret.cat"] {
        let text = String::from_utf8_lossy(&std::fs::read(host.path(file)).unwrap()).into_owned();
        for secret in ["hydrant-tests-secret-key", "AKIDHYDRANTTESTS", "Q0FOQVJZ"] {
            assert!(!text.contains(secret), "{file}: {secret}");
        }
    }
}
