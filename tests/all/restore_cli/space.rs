//! Tests of disks that are too small or nearly so: what is fetched before a database is refused, and that nothing is
//! added where there is space enough.

use super::support::*;
use crate::common::disk::SmallDisk;
use hydrant::sim::server::{Faults, RequestKind};

/// All files of the database are smaller than a segment, so they would be fetched at once.
#[test]
fn a_database_that_does_not_fit_is_refused_by_its_header_alone() {
    let place = Place::new();
    let Some(_disk) = SmallDisk::on(place.dir(), "64k") else { return };
    let served = serve(large(1 << 20, 20), Faults::default());
    for check in ["none", "quick"] {
        let before = served.server.stats();
        let ran = run(&mut hydrant_s3(&["restore", "-integrity-check", check, "-o", &place.out(), &served.url]));
        let needed = served.database.expected.bytes;
        ran.failed(&format!(
            "cannot reserve {needed} bytes for {}: no space left on device (65536 bytes free)",
            place.out()
        ));
        place.is_empty();
        let made = served.server.stats().since(&before);
        // The listing counts too, and a request that is late is sent twice.
        assert!((1..=2).contains(&made.of_kind(RequestKind::Get)) && made.body_bytes < 16 << 10, "{made:?}");
    }
}

#[test]
fn a_dry_run_says_that_the_disk_is_too_small() {
    let place = Place::new();
    let Some(_disk) = SmallDisk::on(place.dir(), "64k") else { return };
    let served = serve(large(1 << 20, 0), Faults::default());
    let dry = |out: &str| run(&mut hydrant_s3(&["restore", "-dry-run", "-o", out, &served.url])).succeeded().stderr;
    let stderr = dry(&place.path("new/x.db"));
    let below = format!(" of files, 64.0 KiB free below {}/new\n", place.dir().display());
    assert!(stderr.contains("Warning: about ") && stderr.contains(&below), "{stderr}");
    assert!(!dry(&Place::new().out()).contains("Warning"));
}

/// Scarce, but large enough: the header is read alone, and the database is restored.
#[test]
fn a_database_that_just_fits_takes_one_request_more() {
    let served = serve(large(1 << 20, 5), Faults::default());
    let requests = |place: &Place| {
        let ran = run(&mut hydrant_s3(&["restore", "-json", "-o", &place.out(), &served.url])).succeeded().json();
        place.holds_only(&served.sha256);
        // A request that is late is sent twice.
        ran["requests"].as_u64().unwrap() - ran["hedged"].as_u64().unwrap()
    };
    let ample = requests(&Place::new());
    assert!(ample <= 1 + served.database.objects.len() as u64, "one LIST, and one GET for each file");
    let tight = Place::new();
    let Some(_disk) = SmallDisk::on(tight.dir(), "1400k") else { return };
    assert_eq!(requests(&tight), ample + 1);
}
