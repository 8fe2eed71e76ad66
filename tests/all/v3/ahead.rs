//! Tests of snapshots that are ahead of the WAL (docs/FORMAT-V3.md, "The snapshot that is ahead"), whose frames and
//! segments are placed by hand.

use super::support::*;
use hydrant::error::Class;
use hydrant::io::IoBackend;
use hydrant::ltx::PageSize;
use hydrant::plan::Target;
use hydrant::restore::{RestoreError, SEGMENT_BYTES};
use hydrant::sim::generate::v3::{GeneratedV3, GeneratedV3Object, WalWriter, pack};
use hydrant::sim::naive_v3::{NaiveTarget, restore_state};
use hydrant::sim::sqlite::is_intact;
use hydrant::store::Store;
use hydrant::timestamp::Timestamp;
use rusqlite::Connection;
use std::ops::Range;
use std::sync::Arc;

const PAGE_BYTES: usize = 512;
// When the objects were uploaded, in milliseconds.
const FIRST: i64 = 50;
const SNAPSHOT: i64 = 100;
const SECOND: i64 = 150;

/// A database before and after a transaction that changes its first page, a table's page and an index's page.
struct TwoStates {
    before: Vec<u8>,
    after: Vec<u8>,
    /// The pages that differ, except for the first: that of the table, then that of the index.
    changed: [u32; 2],
}

impl TwoStates {
    fn create() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("live.db");
        let live = Connection::open(&path).unwrap();
        let schema = "PRAGMA page_size = 512; CREATE TABLE t (a); CREATE INDEX i ON t (a); INSERT INTO t VALUES (1)";
        live.execute_batch(schema).unwrap();
        let before = std::fs::read(&path).unwrap();
        live.execute_batch("INSERT INTO t VALUES (2)").unwrap();
        let after = std::fs::read(&path).unwrap();
        let changed = (2..=before.len() / PAGE_BYTES).filter(|&pgno| page(&before, pgno) != page(&after, pgno));
        Self { changed: changed.map(|pgno| pgno as u32).collect::<Vec<_>>().try_into().unwrap(), before, after }
    }

    /// The state before, in which a checkpoint has already changed the index's page.
    fn mixture(&self) -> Vec<u8> {
        let mut mixture = self.before.clone();
        let start = (self.changed[1] as usize - 1) * PAGE_BYTES;
        mixture[start..start + PAGE_BYTES].copy_from_slice(page(&self.after, self.changed[1] as usize));
        mixture
    }

    /// A WAL whose first transaction, of two frames, writes the state before. The second one writes the state after:
    /// the index's page first, then the table's and the first page.
    fn wal(&self) -> WalWriter {
        let mut wal = WalWriter::new(PageSize::new(PAGE_BYTES as u32).unwrap(), false, 7);
        let size = (self.before.len() / PAGE_BYTES) as u32;
        let [table, index] = self.changed;
        wal.frame(index, 0, page(&self.before, index as usize));
        wal.frame(1, size, page(&self.before, 1));
        wal.frame(index, 0, page(&self.after, index as usize));
        wal.frame(table, 0, page(&self.after, table as usize));
        wal.frame(1, size, page(&self.after, 1));
        wal
    }
}

fn page(database: &[u8], pgno: usize) -> &[u8] {
    &database[(pgno - 1) * PAGE_BYTES..pgno * PAGE_BYTES]
}

/// A replica of one snapshot, and of the WAL of its index. Each of `segments` has a range of frames, and the time of
/// its upload in milliseconds.
fn replica(snapshot: &[u8], wal: &WalWriter, segments: &[(Range<u64>, i64)]) -> GeneratedV3 {
    let generation = "r/generations/0123456789abcdef";
    let object = |name: String, content: &[u8], time| GeneratedV3Object {
        key: format!("{generation}/{name}"),
        bytes: pack(content).into(),
        last_modified: Timestamp::from_millis(time),
    };
    let mut objects = vec![object("snapshots/00000000.snapshot.lz4".into(), snapshot, SNAPSHOT)];
    for (frames, time) in segments {
        let offset = |frames| if frames == 0 { 0 } else { wal.offset(frames) };
        let (start, end) = (offset(frames.start), offset(frames.end));
        let content = &wal.bytes()[start as usize..end as usize];
        objects.push(object(format!("wal/00000000_{start:08x}.wal.lz4"), content, *time));
    }
    let page_size = PageSize::new(PAGE_BYTES as u32).unwrap();
    GeneratedV3 { root: "r".into(), objects, page_size, truths: Vec::new() }
}

/// Restores the newest state, or that of a time in milliseconds: the engine, and the naive restorer.
fn restore_both(replica: &GeneratedV3, at: Option<i64>) -> [Result<Vec<u8>, String>; 2] {
    let dir = tempfile::tempdir().unwrap();
    for object in &replica.objects {
        write_file(&dir.path().join(&object.key), &object.bytes, object.last_modified);
    }
    let at = at.map(Timestamp::from_millis);
    let (store, path) = (Store::File(Default::default()), dir.path().join("r"));
    let output = dir.path().join("out.db");
    let engine = engine(IoBackend::Pwrite, SEGMENT_BYTES, 64 << 20, &Arc::default());
    let wanted = Wanted::at(&store, path.to_str().unwrap(), at.map_or(Target::Latest, Target::Timestamp));
    let restored = wanted.restore(&engine, &output).map(|_| std::fs::read(&output).unwrap());
    let naive_target = at.map_or(NaiveTarget::Latest, |at| NaiveTarget::At(at.as_nanos()));
    let naive = restore_state(&replica.entries(), naive_target, None, &is_intact);
    let class = |error: RestoreError| error.class().as_str().to_owned();
    [restored.map_err(class), naive.map(|naive| naive.database).map_err(|error| error.class.to_owned())]
}

/// The transaction that the snapshot has begun to hold was uploaded in two pieces. The frame that shows it is in the
/// first one, whose time is before the snapshot's; its commit is in the second one.
#[test]
fn a_transaction_that_began_before_the_snapshot_is_completed() {
    let states = TwoStates::create();
    assert!(!is_intact(&states.mixture()));
    let replica = replica(&states.mixture(), &states.wal(), &[(0..3, FIRST), (3..5, SECOND)]);
    for restored in restore_both(&replica, Some(SNAPSHOT)) {
        assert!(restored.as_ref() == Ok(&states.after), "{restored:?}");
    }
    for restored in restore_both(&replica, None) {
        assert!(restored.as_ref() == Ok(&states.after), "{restored:?}");
    }
}

/// The machine died before the rest of the transaction was uploaded: there is no right state, unless the WAL that was
/// uploaded holds all that the snapshot has too much.
#[test]
fn a_snapshot_that_nothing_completes_is_an_error() {
    let states = TwoStates::create();
    let error = Err(Class::IntegrityCheck.as_str().to_owned());
    for (segments, expected) in
        [(&[][..], &error), (&[(0..3, FIRST)], &error), (&[(0..2, FIRST)], &Ok(states.before.clone()))]
    {
        let replica = replica(&states.mixture(), &states.wal(), segments);
        for restored in restore_both(&replica, None) {
            assert!(restored == *expected, "{segments:?}: {restored:?}");
        }
    }
}
