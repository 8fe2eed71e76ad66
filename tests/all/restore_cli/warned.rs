//! What is wrong with URLs and litestream.yml and stops no restore: a warning, once.

use super::support::*;
use hydrant::sim::server::Faults;

fn warnings(ran: &Ran) -> Vec<&str> {
    ran.stderr.lines().filter_map(|line| line.strip_prefix("Warning: ")).collect()
}

#[test]
fn parameters_without_effect() {
    let served = serve(large(64 << 10, 0), Faults::default());
    let unknown = "replica url: the parameter 'colour' is unknown and has no effect";
    for (more, want) in [("&storageClass=STANDARD&part-size=5", &[][..]), ("&colour=red&colour=blue", &[unknown])] {
        let (place, url) = (Place::new(), format!("{}{more}", served.url));
        let pattern = url.replace("large.db", "**");
        let out = place.path("all");
        for args in [
            &["restore", "-o", &place.out(), &url][..],
            &["ltx", &url],
            &["restore-pattern", "-output-dir", &out, &pattern],
            &["bench", "-stage", "list", &pattern],
        ] {
            let ran = run(hydrant_s3(args).current_dir(place.dir())).succeeded();
            assert_eq!(warnings(&ran), want, "{ran:?}");
        }
    }
    let place = Place::new();
    for (more, text) in [
        ("&forcepathstyle=true", "replica url: unknown parameter 'forcepathstyle': did you mean forcePathStyle?"),
        ("&secret-access-key=canary-secret", "keys do not belong in a URL: set AWS_ACCESS_KEY_ID"),
    ] {
        run(&mut hydrant_s3(&["restore", "-o", &place.out(), &format!("{}{more}", served.url)])).failed(text);
    }
    place.is_empty();
}

#[test]
fn the_config() {
    let served = serve(large(64 << 10, 0), Faults::default());
    let place = Place::new();
    let url = format!("{}&colour=red", served.url);
    let entry = |name: &str| format!("- path: {}\n  replica: {{url: '{url}'}}\n", place.path(name));
    let text = format!(
        "dbs:\n{}{}{}restore-pattern:\n  max-retires: 3\n---\nno: [yaml\n",
        entry("a.db"),
        entry("b.db"),
        entry("a.db")
    );
    let config = place.write("l.yml", &text);
    let twice =
        format!("config file {config}: {} is configured twice, in lines 2 and 6: the first counts", place.path("a.db"));
    let section = format!(
        "config file {config}, line 9, column 3: restore-pattern: unknown key 'max-retires', expected \
         parallel-workers, max-retries, retry-delay, owner, mode, dir-mode, connect-timeout, stall-timeout"
    );
    let unknown = "replica url: the parameter 'colour' is unknown and has no effect";
    let refused = format!("{section}; restore-pattern would refuse this file");
    // The replica is a snapshot alone.
    let level_0 = "level 0 of the replica ends at nothing, all levels at txid 0000000000000001: litestream replicate \
                   would give TXIDs that the replica has already, and restores would miss what it writes. Replicate to a \
                   new path";
    let ran = run(&mut hydrant_s3(&["restore", "-config", &config, &place.path("b.db")])).succeeded();
    assert_eq!(warnings(&ran), [twice.as_str(), &refused, unknown, level_0], "{ran:?}");
    let pattern = format!("{}/*.db", place.dir().display());
    let args = ["restore-pattern", "-config", &config, "-if-db-not-exists", &pattern];
    let ran = run(hydrant_s3(&args).current_dir(place.dir()));
    assert_eq!(warnings(&ran), [twice.as_str(), unknown], "{ran:?}");
    ran.failed(&section);
    place.write("l.yml", &text.replace("retires", "retries"));
    let ran = run(hydrant_s3(&args).current_dir(place.dir())).succeeded();
    let of_one = format!("{}: {level_0}", place.path("a.db"));
    assert_eq!(warnings(&ran), [twice.as_str(), unknown, &of_one], "{ran:?}");
    assert_eq!(sha256(&place.dir().join("a.db")), served.sha256);
}

#[test]
fn an_entry_that_cannot_be_used_names_its_place() {
    let place = Place::new();
    let config = place.write("l.yml", "dbs:\n- path: /a.db\n  replica: {type: s3, bucket: $BUCKET}\n");
    let want =
        format!("bucket required for s3 replica ($BUCKET is not set); database /a.db in config file {config}, line 2");
    run(&mut hydrant(&["restore", "-config", &config, "-o", &place.out(), "/a.db"])).failed(&want);
}
