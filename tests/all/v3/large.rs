//! Tests of replicas that are large compared with the memory budget.

use super::support::*;
use crate::common::wait::{AT_MOST, until};
use hydrant::ltx::PageSize;
use hydrant::restore::SEGMENT_BYTES;
use hydrant::sim::generate::v3::{LargeV3Spec, large_v3, pack};
use hydrant::sim::server::{RequestKind, SimServer};
use hydrant::store::Store;
use hydrant::telemetry::Counters;
use hydrant::wal::{Decoded, ObjectDecoder};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A generated replica, in the simulator and on disk.
struct Large {
    server: SimServer,
    dir: tempfile::TempDir,
    root: String,
    hash: String,
    objects: u64,
    largest: usize,
    /// The snapshot on disk.
    snapshot: PathBuf,
}

impl Large {
    fn make(spec: &LargeV3Spec) -> Self {
        let replica = large_v3(spec).unwrap().to_replica();
        let (server, dir) = (simulator(), tempfile::tempdir().unwrap());
        for object in &replica.objects {
            write_file(&dir.path().join(&object.key), &object.bytes, object.last_modified);
        }
        server.objects().put_v3("bucket", &replica);
        let snapshot = replica.objects.iter().find(|object| object.key.contains("/snapshots/")).unwrap();
        Self {
            server,
            snapshot: dir.path().join(&snapshot.key),
            dir,
            hash: hydrant::hex::Hex(&replica.newest().unwrap().sha256).to_string(),
            objects: replica.objects.len() as u64,
            largest: replica.objects.iter().map(|object| object.bytes.len()).max().unwrap(),
            root: replica.root,
        }
    }

    fn url(&self) -> String {
        url(&self.server, &self.root)
    }
}

/// Runs `hydrant restore` with these arguments. Returns the run and its largest resident memory in bytes.
fn measured(args: &[&str]) -> (Ran, u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut child = command_in(&dir, &[&["restore", "-json", "-o", "out.db"], args].concat()).spawn().unwrap();
    let (begun, mut peak) = (Instant::now(), 0);
    while child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < AT_MOST, "still running");
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
        peak = peak.max(kib.unwrap_or(0u64) << 10);
        std::thread::sleep(Duration::from_millis(3));
    }
    (Ran::of(dir, child.wait_with_output().unwrap()), peak)
}

/// One index of 90 MiB, whose pages cannot be held. Most of them are written more than once.
#[test]
fn an_index_larger_than_the_memory_budget() {
    let spec = LargeV3Spec {
        bytes: 24 << 20,
        indexes: 1,
        segments: 90,
        pages_per_segment: 256,
        overlap: 0.3,
        ..LargeV3Spec::default()
    };
    let large = Large::make(&spec);
    for engine in ["auto", "pwrite"] {
        let (ran, peak) = measured(&["--memory", "16MiB", "--io-engine", engine, &large.url()]);
        println!("--memory 16MiB, {engine}: {} MiB", peak >> 20);
        let ran = ran.gives(&large.hash);
        assert_eq!(ran.json()["index"], "00000000");
        assert!(peak < 96 << 20, "{peak} bytes");
    }
    assert_eq!(large.server.stats().of_kind(RequestKind::List), 2);
    let on_disk = format!("file://{}", large.dir.path().join(&large.root).display());
    measured(&["--memory", "16MiB", &on_disk]).0.gives(&large.hash);
}

/// An index that no checkpoint has ended for a long time: hundreds of small segments, more than memory may hold. They
/// are fetched side by side nevertheless.
#[test]
fn small_segments_of_a_large_index_are_fetched_side_by_side() {
    let spec = LargeV3Spec {
        bytes: 2 << 20,
        indexes: 1,
        segments: 700,
        pages_per_segment: 8,
        overlap: 0.3,
        ..LargeV3Spec::default()
    };
    let large = Large::make(&spec);
    // The snapshot may come first. Its answer is one request.
    large.server.answer_only(RequestKind::Get, Some(1));
    let dir = tempfile::tempdir().unwrap();
    let args = ["restore", "-json", "-o", "out.db", &large.url()];
    let child = command_in(&dir, &args).spawn().unwrap();
    until(|| large.server.stats().in_flight_now >= 8);
    large.server.answer_only(RequestKind::Get, None);
    Ran::of(dir, child.wait_with_output().unwrap()).gives(&large.hash);
}

/// Many indexes and a snapshot that is fetched in segments, with less memory than they take together.
#[test]
fn many_indexes_side_by_side() {
    let spec = LargeV3Spec {
        bytes: 40 << 20,
        indexes: 60,
        segments: 3,
        pages_per_segment: 120,
        overlap: 0.5,
        ..LargeV3Spec::default()
    };
    let large = Large::make(&spec);
    for memory in ["16MiB", "256MiB"] {
        let (ran, peak) = measured(&["--memory", memory, &large.url()]);
        println!("--memory {memory}: {} MiB", peak >> 20);
        let ran = ran.gives(&large.hash);
        assert_eq!(ran.json()["files"], large.objects);
    }
    assert!(large.largest as u64 > SEGMENT_BYTES, "the snapshot is fetched in one piece: {} bytes", large.largest);
}

/// The same through the engine, with segments so small that everything is large.
#[test]
fn small_segments_and_little_memory() {
    let spec = LargeV3Spec {
        bytes: 4 << 20,
        indexes: 6,
        segments: 5,
        pages_per_segment: 90,
        overlap: 0.4,
        ..LargeV3Spec::default()
    };
    let large = Large::make(&spec);
    let counters = Arc::<Counters>::default();
    let path = large.dir.path().join(&large.root).to_str().unwrap().to_owned();
    let bucket = store(&large.server, &Default::default(), &counters);
    for kind in kinds() {
        for (segment_bytes, memory_bytes) in
            [(2_000, 64 << 20), (2_000, 1 << 20), (100_000, 1 << 20), (SEGMENT_BYTES, 1 << 20)]
        {
            let engine = engine(kind, segment_bytes, memory_bytes, &counters);
            for (store, path) in [(&Store::File(Default::default()), path.as_str()), (&bucket, large.root.as_str())] {
                let dir = tempfile::tempdir().unwrap();
                let output = dir.path().join("out.db");
                let outcome = Wanted::newest(store, path).restore(&engine, &output);
                let scene = format!("{kind:?} {segment_bytes} {memory_bytes} {path}: {outcome:?}");
                assert!(outcome.is_ok() && sha256(&output) == large.hash, "{scene}");
            }
        }
    }
}

/// Blocks of the snapshot that hold no page of the WAL, pages that wait in memory, and pages that were written before.
#[test]
fn blocks_of_a_snapshot_with_all_kinds_of_pages() {
    // With 64 MiB of memory, 8 MiB of pages wait at most. The second and the last have more.
    for (page_size, pages_per_segment, overlap) in [(4096, 60, 0.97), (4096, 90, 0.2), (512, 60, 0.2), (65_536, 5, 0.2)]
    {
        let spec = LargeV3Spec {
            page_size: PageSize::new(page_size).unwrap(),
            bytes: 22_000_000,
            indexes: 9,
            segments: 5,
            pages_per_segment,
            overlap,
            ..LargeV3Spec::default()
        };
        let large = Large::make(&spec);
        let content = unpacked(&std::fs::read(&large.snapshot).unwrap());
        for block_bytes in [4 << 20, 2_000_003] {
            std::fs::write(&large.snapshot, packed_in_blocks(&content, block_bytes)).unwrap();
            for (kind, memory_bytes) in kinds().into_iter().flat_map(|kind| [(kind, 256 << 20), (kind, 64 << 20)]) {
                let scene = format!("{page_size} {overlap} {block_bytes} {kind:?} {memory_bytes}");
                let counters = Arc::<Counters>::default();
                let engine = engine(kind, SEGMENT_BYTES, memory_bytes, &counters);
                let path = large.dir.path().join(&large.root);
                let dir = tempfile::tempdir().unwrap();
                let output = dir.path().join("out.db");
                let store = Store::File(Default::default());
                let outcome = Wanted::newest(&store, path.to_str().unwrap()).restore(&engine, &output);
                assert!(outcome.is_ok() && sha256(&output) == large.hash, "{scene}: {outcome:?}");
            }
        }
    }
}

/// The content of a snapshot or a piece of WAL.
fn unpacked(object: &[u8]) -> Vec<u8> {
    let mut decoder = ObjectDecoder::new(object.len() as u64);
    decoder.push(object.to_vec().into());
    let mut content = Vec::new();
    while let Decoded::Bytes(bytes) = decoder.next().unwrap() {
        content.extend_from_slice(bytes);
    }
    content
}

/// Packs `content` in blocks of any length, which other writers of LZ4 frames may make. Blocks that pack badly are stored
/// as they are.
fn packed_in_blocks(content: &[u8], block_bytes: usize) -> Vec<u8> {
    // The header and the end of an empty frame of Litestream's own.
    let empty = pack(&[]);
    let mut frame = empty[..7].to_vec();
    for (i, block) in content.chunks(block_bytes).enumerate() {
        let packed = lz4_flex::block::compress(block);
        let (field, stored) = match i % 5 {
            4 => (block.len() as u32 | 1 << 31, block),
            _ => (packed.len() as u32, &packed[..]),
        };
        frame.extend(field.to_le_bytes());
        frame.extend_from_slice(stored);
    }
    frame.extend([0; 4]);
    frame.extend(twox_hash::XxHash32::oneshot(0, content).to_le_bytes());
    frame
}
