//! Tests of fleets that do not fit the disk: a warning at the start, and all that fits is restored.

use super::*;
use crate::common::disk::SmallDisk;
use hydrant::sim::generate::{LargeSpec, large_database};

/// Databases of these sizes in KiB, named `fleet/<index>.db`.
fn sized(server: &SimServer, sizes: &[u64]) -> Vec<GeneratedDatabase> {
    let database = |(i, kib): (usize, &u64)| {
        let spec =
            LargeSpec { root: format!("fleet/{i}.db/"), bytes: kib << 10, seed: i as u64, ..LargeSpec::default() };
        large_database(&spec).unwrap().to_database()
    };
    let fleet: Vec<_> = sizes.iter().enumerate().map(database).collect();
    fleet.iter().for_each(|database| server.objects().put_database("bucket", database));
    fleet
}

#[test]
fn what_fits_is_restored_and_what_does_not_is_refused_before_it_is_fetched() {
    let host = Host::new();
    let out = host.path("out");
    std::fs::create_dir(&out).unwrap();
    let Some(_disk) = SmallDisk::on(&out, "2m") else { return };
    let server = simulator(SimOptions::default());
    // The largest come first, and none of these fits. The small ones fit together.
    let fleet = sized(&server, &[9000, 8000, 7000, 6000, 5000, 200, 200, 200, 200, 200]);
    let pattern = url(&server, "bucket/**");
    let args = ["--output-dir", "out", "--max-retries", "0", "-json", &pattern];
    let planned = host.run(&[&args[..], &["-dry-run"]].concat());
    assert_eq!(planned.code, 0, "{}", planned.stderr);
    let before = server.stats();
    let ran = host.run(&args);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert_eq!(whole_ones(&host, "out", &fleet), 5);
    for i in 0..10 {
        let reason = ran.failures.get(&format!("fleet/{i}.db"));
        assert_eq!(reason.is_some_and(|why| why.contains(": no space left on device (")), i < 5, "{i}: {reason:?}");
        assert!(!reason.is_some_and(|why| why.contains("(0 bytes free)")), "{reason:?}");
    }
    // Of those that do not fit, only the newest file's header was fetched.
    let fetched = server.stats().since(&before).body_bytes;
    let restored: u64 = fleet[5..].iter().flat_map(|database| &database.objects).map(|o| o.bytes.len() as u64).sum();
    assert!(fetched < restored + (100 << 10), "{fetched} bytes, {restored} needed");
    for stderr in [&planned.stderr, &ran.stderr] {
        let warning = stderr.lines().find(|line| line.contains(" of files, 2.0 MiB free below "));
        let warning = warning.unwrap_or_else(|| panic!("{stderr}"));
        assert!(warning.contains("about ") && warning.ends_with(out.to_str().unwrap()), "{warning}");
    }

    // Databases that exist already do not count.
    let again =
        host.run(&["--output-dir", "out", "-if-db-not-exists", "-json", &url(&server, "bucket/fleet/[5-9].db")]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(!again.stderr.contains("free below"), "{}", again.stderr);
}
