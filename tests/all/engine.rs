//! Compares restores with the naive restorer on random histories. The databases grow and shrink; files are sparse
//! and overlap; encodings, page sizes and checksum tracking vary. Files are fetched whole and in segments, with and
//! without memory for the overlay (the pages of increments that wait in memory), with both writers.

use hydrant::cancel::CancellationToken;
use hydrant::catalogue::Layout;
use hydrant::commit::{CommitContext, Destination, Replace};
use hydrant::io::{BackendChoice, IoBackend, probe};
use hydrant::ltx::PageSize;
use hydrant::plan::Target;
use hydrant::restore::{Request, RestoreError, RestoreOutcome, SEGMENT_BYTES, Workers, WorkersOptions, restore};
use hydrant::sim::generate::{EncodingMix, GeneratedDatabase, HistoryParams, random_history};
use hydrant::sim::naive;
use hydrant::store::Store;
use hydrant::telemetry::Counters;
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;

/// Writes the replica below `dir`.
fn write(dir: &Path, database: &GeneratedDatabase) {
    for object in &database.objects {
        let path = dir.join(&object.key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &object.bytes).unwrap();
    }
}

fn run(engine: &Workers, path: &Path, target: Target, output: &Path) -> Result<RestoreOutcome, RestoreError> {
    let destination = Arc::new(Destination::prepare(&CommitContext::default(), output, Replace::Never).unwrap());
    let request = Request {
        store: Store::File(Default::default()),
        path: path.to_str().unwrap().to_owned(),
        replica: None,
        target,
        generation: None,
        newest_intact: false,
        destination,
        check: None,
        parallelism: None,
    };
    let restored = engine.run(move |worker| Box::pin(async move { restore(&worker, request).await })).unwrap()?;
    restored.published.sync_dir()?;
    Ok(restored.outcome)
}

fn engine(kind: IoBackend, segment_bytes: u64, memory_bytes: u64) -> Workers {
    let options = WorkersOptions {
        workers: 2,
        kind,
        memory_bytes,
        tasks: 4,
        segment_bytes,
        checks: false,
        catalogue: Default::default(),
    };
    Workers::start(&options, Arc::new(Counters::default()), CancellationToken::new()).unwrap()
}

/// The database that the naive restorer makes of the files that the naive planner chooses. None if there is no
/// plan.
fn naively(database: &GeneratedDatabase, target: naive::NaiveTarget) -> Option<Vec<u8>> {
    let entries: Vec<_> = database
        .objects
        .iter()
        .map(|o| naive::NaiveEntry {
            level: o.level.get(),
            min_txid: o.min_txid.0,
            max_txid: o.max_txid.0,
            time_ns: o.litestream_timestamp.as_nanos(),
        })
        .collect();
    let files = naive::plan(&entries, target).ok()?;
    Some(naive::restore(files.iter().map(|&i| &database.objects[i].bytes[..])).unwrap())
}

fn params() -> impl Strategy<Value = (u64, HistoryParams)> {
    let encoding = prop_oneof![Just(EncodingMix::Block), Just(EncodingMix::Frame), Just(EncodingMix::Mixed)];
    (any::<u64>(), 9u32..=16, any::<bool>(), encoding, prop_oneof![Just(0.0), Just(1.0), Just(0.3)], any::<bool>())
        .prop_map(|(seed, page_bits, hex, encoding, tracked, retention)| {
            let page_size = PageSize::new(1 << page_bits).unwrap();
            let layout = if hex { Layout::Hex } else { Layout::Decimal };
            // The database has about one megabyte of pages, whatever their size.
            let max_pages = (1 << 20 >> page_bits).clamp(8, 300);
            let defaults = HistoryParams::default();
            (seed, HistoryParams { layout, page_size, encoding, tracked, retention, max_pages, ..defaults })
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn equals_the_naive_restorer((seed, params) in params(), pick in any::<prop::sample::Index>()) {
        let database = random_history(seed, &params).unwrap();
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &database);
        let root = dir.path().join(&database.root);
        let auto = probe(BackendChoice::Auto).unwrap().kind;
        let state = &database.states[pick.index(database.states.len())];
        let targets = [
            (Target::Latest, naive::NaiveTarget::Latest),
            (Target::Txid(state.txid), naive::NaiveTarget::Txid(state.txid.0)),
        ];
        // The three cases: whole files, files in segments, and segments without memory for the overlay.
        for (kind, segment_bytes, memory_bytes) in
            [(auto, SEGMENT_BYTES, 64 << 20), (auto, 2_000, 64 << 20), (IoBackend::Pwrite, 2_000, 1 << 20)]
        {
            let engine = engine(kind, segment_bytes, memory_bytes);
            for (target, naive_target) in targets {
                let output = dir.path().join("out.db");
                let expected = naively(&database, naive_target);
                let written = || engine.shared().counters.bytes_out.get();
                let before = written();
                match (run(&engine, &root, target, &output), expected) {
                    (Ok(_), Some(expected)) => {
                        let found = std::fs::read(&output).unwrap();
                        prop_assert_eq!(found.len(), expected.len());
                        let differs = found.iter().zip(&expected).position(|(a, b)| a != b);
                        prop_assert_eq!(differs, None, "{:?} {} {}", kind, segment_bytes, memory_bytes);
                        // The progress display counts every byte written once, whether a page was held in the
                        // overlay or written at once.
                        prop_assert_eq!(written() - before, expected.len() as u64);
                        std::fs::remove_file(&output).unwrap();
                    }
                    (Err(_), None) => prop_assert!(!output.exists()),
                    (Err(e), Some(_)) => prop_assert!(false, "{:?}: failed: {e}", target),
                    (Ok(r), None) => prop_assert!(false, "{:?}: restored TXID {}", target, r.txid),
                }
            }
        }
    }
}

/// The database is larger than 1 GiB but has few stored bytes. Its lock page must be a page of zeros, and the pages
/// around it must be in the right places.
#[test]
fn the_lock_page_near_one_gibibyte() {
    use crate::common::ltx_header;
    use hydrant::ltx::encode::Encoder;
    use hydrant::ltx::frame::Encoding;
    use hydrant::ltx::{Pgno, Txid};
    use std::os::unix::fs::FileExt;

    let page_size = PageSize::new(65536).unwrap();
    let lock = page_size.lock_page().0;
    let commit = lock + 2;
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("db");
    std::fs::create_dir_all(root.join("ltx/0")).unwrap();
    let mut page = vec![0; page_size.bytes()];
    let mut mark = |pgno: u32| {
        page[..4].copy_from_slice(&pgno.to_be_bytes());
        page.clone()
    };
    for (txid, pages) in [(1u64, 1..=commit - 1), (2, lock - 1..=commit)] {
        let header = ltx_header(page_size, *pages.end(), txid, 1);
        let mut encoder = Encoder::new(&header, Encoding::Block);
        for pgno in pages.filter(|&p| p != lock) {
            encoder.page(Pgno(pgno), &mark(pgno)).unwrap();
        }
        let name = format!("ltx/0/{}-{}.ltx", Txid(txid), Txid(txid));
        std::fs::write(root.join(name), encoder.finish(0).unwrap()).unwrap();
    }
    for (kind, segment_bytes) in [(probe(BackendChoice::Auto).unwrap().kind, 100_000), (IoBackend::Pwrite, 8 << 20)] {
        let output = dir.path().join("out.db");
        run(&engine(kind, segment_bytes, 64 << 20), &root, Target::Latest, &output).unwrap();
        let file = std::fs::File::open(&output).unwrap();
        assert_eq!(file.metadata().unwrap().len(), u64::from(commit) * 65536);
        for pgno in [1, 2, lock - 1, lock, lock + 1, commit] {
            let mut head = [0; 4];
            file.read_exact_at(&mut head, page_size.offset_of(Pgno(pgno))).unwrap();
            let expected = if pgno == lock { 0 } else { pgno };
            assert_eq!(u32::from_be_bytes(head), expected, "page {pgno}");
        }
        drop(file);
        std::fs::remove_file(output).unwrap();
    }
}
