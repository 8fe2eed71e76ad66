//! Measures the memory per database and the time per object while listings are collected: of a fleet of databases with
//! ten files each, of one with one file each, and of one database with very many files. Usage:
//! `cargo bench --bench catalogue [databases]` (100,000 databases if not given).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(unsafe_code)]

use hydrant::catalogue::{Catalogue, Layout, Replica};
use hydrant::store::{Etag, ObjectMeta};
use hydrant::timestamp::Timestamp;
use std::alloc::{GlobalAlloc, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

const FILES_EACH: u64 = 10;
/// The promised limit of memory for a database of ten files, in bytes.
const MAX_BYTES_EACH: usize = 1024;
/// The promised limit of memory for a database of one file, in bytes.
const MAX_BYTES_OF_ONE: usize = 350;
/// The promised limit of memory for one file of a database with very many, in bytes.
const MAX_BYTES_PER_FILE: usize = 140;

/// An allocator that counts the bytes allocated from the system's allocator.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: std::alloc::Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(live, Relaxed);
        // SAFETY: the caller keeps the promises about `layout`, which is passed on unchanged.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: std::alloc::Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `at` came from `alloc` above with this `layout`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn object(database: u64, n: u64) -> ObjectMeta {
    let (level, min, max) = match n {
        9 => (9, 1, 5),
        n => (0, n + 1, n + 1),
    };
    ObjectMeta {
        key: format!("backups/tenants/tenant-{database:06}/app.db/{level:04x}/{min:016x}-{max:016x}.ltx"),
        size: 4096 + n,
        last_modified: Timestamp::from_millis(1_700_000_000_000 + (database * FILES_EACH + n) as i64),
        etag: Etag::parse(&format!("{:032x}", u128::from(database * FILES_EACH + n) * 0x9e37_79b9_7f4a_7c15)),
        archived: false,
    }
}

/// Collects `objects`, which are `databases` databases of `files` files each. Fails if one takes more than `max` bytes.
fn report(
    order: &str,
    (databases, files, max): (u64, u64, usize),
    mut objects: impl Iterator<Item = ObjectMeta>,
) -> Vec<Replica> {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let start = Instant::now();
    let mut catalogue = Catalogue::new(Layout::Hex);
    objects.by_ref().for_each(|object| catalogue.insert(object));
    let replicas = catalogue.finish();
    let elapsed = start.elapsed();
    assert_eq!(replicas.len() as u64, databases);
    assert!(replicas.iter().all(|r| r.files.len() as u64 == files));
    let each = |bytes: usize| bytes.saturating_sub(before) / databases as usize;
    let (kept, peak) = (each(LIVE.load(Relaxed)), each(PEAK.load(Relaxed)));
    println!(
        "{order:9} {databases} databases × {files} files: {kept} B each kept, {peak} B each at most, {:.0} ns per \
         object (making its name included)",
        elapsed.as_nanos() as f64 / (databases * files) as f64
    );
    assert!(kept <= max && peak <= 2 * max, "{kept} B kept, {peak} B at most per database");
    replicas
}

fn main() {
    let databases = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(100_000);
    let all = |database| (0..FILES_EACH).map(move |n| object(database, n));
    let ordered = report("ordered", (databases, FILES_EACH, MAX_BYTES_EACH), (0..databases).flat_map(all));
    drop(ordered);
    // The keys are in an order in which each belongs to another database than the one before.
    let scattered = (0..FILES_EACH).flat_map(|n| (0..databases).map(move |d| object(d, n)));
    report("scattered", (databases, FILES_EACH, MAX_BYTES_EACH), scattered);
    report("ordered", (databases, 1, MAX_BYTES_OF_ONE), (0..databases).map(|database| object(database, 9)));
    let one = (0..databases)
        .map(|n| ObjectMeta { key: format!("backups/app.db/0000/{:016x}-{:016x}.ltx", n + 1, n + 1), ..object(n, 0) });
    report("ordered", (1, databases, MAX_BYTES_PER_FILE * databases as usize), one);
}
