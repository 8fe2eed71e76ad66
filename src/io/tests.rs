//! Tests that both writers produce the same bytes and the same errors for the same writes.

use super::fault::{Effect, inject};
use super::*;
use crate::error::Class;
use rustix::io::Errno;
use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Barrier};
use std::time::Duration;

/// The environment variable that tells a child process of a test what to do.
const CHILD: &str = "HYDRANT_TEST_IO_CHILD";

fn kinds() -> Vec<IoBackend> {
    match probe(BackendChoice::Uring) {
        Ok(_) => vec![IoBackend::Uring, IoBackend::Pwrite],
        Err(error) => {
            println!("skipped for io_uring: {error}");
            vec![IoBackend::Pwrite]
        }
    }
}

fn dirs() -> Vec<tempfile::TempDir> {
    let mut dirs = vec![tempfile::tempdir().unwrap()];
    match tempfile::tempdir_in("/dev/shm") {
        Ok(dir) => dirs.push(dir),
        Err(error) => println!("skipped for /dev/shm: {error}"),
    }
    dirs
}

pub(super) fn output(path: &Path, size: u64) -> Arc<OutputFile> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    file.set_len(size).unwrap();
    let output = OutputFile::new(file.into(), path.to_owned());
    // The size is announced as large, so that even the small files of tests are written with O_DIRECT.
    output.expect_size(if size >= 1 << 20 { u64::MAX } else { size });
    Arc::new(output)
}

pub(super) fn options(buffer_bytes: usize, buffers: usize) -> IoOptions {
    IoOptions { buffer_bytes, buffers }
}

/// Writes `expected` to a new file in the given pieces. As many writes are in flight as there are buffers.
fn write_pieces(kind: IoBackend, path: &Path, expected: &[u8], pieces: &[std::ops::Range<usize>], buffer: usize) {
    let file = output(path, expected.len() as u64);
    block_on(kind, async {
        let io = Io::new(kind, options(buffer, 4)).unwrap();
        assert_eq!(io.kind(), kind);
        let writer = io.writer(&file);
        let mut tasks = Vec::new();
        for piece in pieces {
            let mut buf = io.buffer().await;
            buf[..piece.len()].copy_from_slice(&expected[piece.clone()]);
            tasks.push(tokio::task::spawn_local(writer.write(buf, piece.len(), piece.start as u64)));
        }
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        writer.sync().await.unwrap();
    })
    .unwrap();
    assert!(file.is_synced());
    assert!(std::fs::read(path).unwrap() == expected, "{kind:?} {}", path.display());
}

pub(super) fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; len];
    rng.fill(&mut bytes);
    bytes
}

#[test]
fn random_patterns_give_the_same_bytes() {
    for dir in dirs() {
        for seed in 0..12 {
            let mut rng = fastrand::Rng::with_seed(seed);
            // The sizes lie below and above the size from which files are written with O_DIRECT.
            let expected = pattern(rng.usize(1..3 << 20), seed);
            let buffer = ALIGNMENT << rng.usize(0..8);
            let mut pieces = Vec::new();
            let mut at = 0;
            while at < expected.len() {
                let mut len = if rng.bool() { buffer } else { rng.usize(1..=buffer) };
                if rng.bool() {
                    len = len.next_multiple_of(ALIGNMENT).min(buffer);
                }
                pieces.push(at..(at + len).min(expected.len()));
                at += len;
            }
            rng.shuffle(&mut pieces);
            for kind in kinds() {
                write_pieces(kind, &dir.path().join(kind.as_str()), &expected, &pieces, buffer);
            }
        }
    }
}

#[test]
fn every_page_size_and_tail() {
    let dir = tempfile::tempdir().unwrap();
    for kind in kinds() {
        for page in (9..=16).map(|shift| 1_usize << shift) {
            // The file has an odd number of pages. They are written in runs as long as the buffer, and the last run
            // is shorter.
            let expected = pattern((1 << 20) + 3 * page, page as u64);
            let run = (256 << 10) / page * page;
            let pieces: Vec<_> =
                (0..expected.len()).step_by(run).map(|at| at..(at + run).min(expected.len())).collect();
            write_pieces(kind, &dir.path().join("db"), &expected, &pieces, 256 << 10);
        }
        for tail in [1, 511, 512, 4095, 4096, 4097, 65535, 65537] {
            let expected = pattern((2 << 20) + tail, tail as u64);
            let pieces = [0..1 << 20, 1 << 20..expected.len()];
            write_pieces(kind, &dir.path().join("db"), &expected, &pieces, (1 << 20) + (128 << 10));
        }
    }
}

#[test]
fn large_files_go_past_the_page_cache() {
    let dir = tempfile::tempdir().unwrap();
    let large = output(&dir.path().join("large"), 8 << 20);
    let small = output(&dir.path().join("small"), 8 << 10);
    if large.direct().is_none() {
        println!("skipped: {} has no O_DIRECT", dir.path().display());
    }
    assert!(small.direct().is_none());
    large.refuse_direct(Errno::OPNOTSUPP);
    assert!(large.direct().is_none());
}

#[test]
fn short_writes_are_continued() {
    let dir = tempfile::tempdir().unwrap();
    for kind in kinds() {
        for most in [1000, 4096, 10_000] {
            let path = dir.path().join(format!("{}-{most}", kind.as_str()));
            let fault = inject(&path, Some(Step::Write), 1, Effect::Short(most));
            let expected = pattern((2 << 20) + 17, 3);
            let pieces = [0..1 << 20, 1 << 20..expected.len()];
            write_pieces(kind, &path, &expected, &pieces, (1 << 20) + 4096);
            assert!(fault.struck());
        }
    }
}

#[test]
fn a_failed_write_is_reported_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    for kind in kinds() {
        let path = dir.path().join(kind.as_str());
        let _fault = inject(&path, Some(Step::Write), 2, Effect::Fail(Errno::NOSPC));
        let file = output(&path, 4 << 20);
        let error = block_on(kind, async {
            let io = Io::new(kind, options(1 << 20, 2)).unwrap();
            let writer = io.writer(&file);
            writer.write(io.buffer().await, 1 << 20, 0).await.unwrap();
            let error = writer.write(io.buffer().await, 1 << 20, 1 << 20).await.unwrap_err();
            // After the failed write, both buffers must be back in the pool.
            let both = (io.try_buffer(), io.try_buffer());
            assert!(both.0.is_some() && both.1.is_some());
            error
        })
        .unwrap();
        assert_eq!(error.class(), Class::DiskFull);
        let text = error.to_string();
        assert!(text.contains("at offset 1048576") && text.contains(path.to_str().unwrap()), "{text}");
    }
}

#[test]
fn a_failed_sync_is_final() {
    let dir = tempfile::tempdir().unwrap();
    for kind in kinds() {
        let path = dir.path().join(kind.as_str());
        let _fault = inject(&path, Some(Step::Sync), 1, Effect::Fail(Errno::IO));
        let file = output(&path, 4096);
        block_on(kind, async {
            let io = Io::new(kind, IoOptions::default()).unwrap();
            let writer = io.writer(&file);
            assert!(writer.sync().await.is_err());
            assert!(writer.sync().await.is_err(), "a second sync says that all is well");
        })
        .unwrap();
        assert!(!file.is_synced());
    }
}

/// Runs syncs that take almost no time. The sync threads then fall asleep and wake up as often as possible, which
/// would show a lost notification.
#[test]
fn no_sync_is_forgotten() {
    for dir in dirs() {
        let file = output(&dir.path().join("file"), 1);
        let kind = IoBackend::Pwrite;
        let syncing = async {
            let io = Io::new(kind, options(4096, 1)).unwrap();
            let writer = io.writer(&file);
            for round in 0..1000 {
                let at_once = fastrand::usize(1..50);
                let syncs = tokio::time::timeout(
                    std::time::Duration::from_secs(60),
                    futures_util::future::join_all((0..at_once).map(|_| writer.sync())),
                );
                let synced = syncs.await.unwrap_or_else(|_| panic!("round {round}: a sync never ended"));
                assert!(synced.into_iter().all(|synced| synced.is_ok()));
                // A pause every 50 rounds lets all threads fall asleep.
                if round % 50 == 0 {
                    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                }
            }
        };
        block_on(kind, syncing).unwrap();
        assert!(file.is_synced());
    }
}

/// The sync of a large file may take seconds. Other files must not wait for it.
#[test]
fn no_sync_waits_for_a_large_files() {
    for kind in kinds() {
        let dir = tempfile::tempdir().unwrap();
        let (large, small) = (dir.path().join("large"), dir.path().join("small"));
        let barrier = Arc::new(Barrier::new(2));
        let _held = inject(&large, Some(fault::Step::Sync), 1, Effect::Held(Arc::clone(&barrier)));
        let (large, small) = (output(&large, 1 << 20), output(&small, 1));
        block_on(kind, async {
            let io = Io::new(kind, options(4096, 1)).unwrap();
            let mut syncing = std::pin::pin!(io.writer(&large).sync());
            assert!(futures_util::poll!(syncing.as_mut()).is_pending());
            // A thread has begun the large file's sync.
            barrier.wait();
            // The bound only ends a test that would hang.
            let synced = tokio::time::timeout(Duration::from_secs(60), io.writer(&small).sync()).await;
            let are_synced = (small.is_synced(), large.is_synced());
            barrier.wait();
            synced.expect("the small file's sync waits for the large one's").unwrap();
            assert_eq!(are_synced, (true, false));
            syncing.await.unwrap();
        })
        .unwrap();
        assert!(large.is_synced());
    }
}

#[test]
fn a_runtime_that_ends_with_syncs_in_flight_ends() {
    for kind in kinds() {
        let dir = tempfile::tempdir().unwrap();
        let file = output(&dir.path().join("file"), 1);
        block_on(kind, async {
            let io = Io::new(kind, options(4096, 1)).unwrap();
            for _ in 0..100 {
                tokio::task::spawn_local(io.writer(&file).sync());
            }
            tokio::task::yield_now().await;
        })
        .unwrap();
        // After the drop, neither a thread nor a task may still hold the file.
        assert_eq!(Arc::strong_count(&file), 1);
    }
}

#[test]
fn a_write_after_the_sync_is_not_overlooked() {
    let dir = tempfile::tempdir().unwrap();
    let file = output(&dir.path().join("db"), 4096);
    assert!(!file.is_synced());
    file.fsync().unwrap();
    assert!(file.is_synced());
    file.pwrite_all(b"x", 0).unwrap();
    assert!(!file.is_synced());
}

#[test]
fn buffers_are_bounded_aligned_and_come_back() {
    for kind in kinds() {
        block_on(kind, async {
            let io = Io::new(kind, options(10_000, 3)).unwrap();
            assert_eq!(io.buffer_bytes(), 12_288);
            let mut held = vec![io.buffer().await, io.buffer().await, io.buffer().await];
            for (n, buf) in held.iter_mut().enumerate() {
                assert_eq!((buf.len(), buf.as_ptr().align_offset(ALIGNMENT)), (12_288, 0));
                buf.fill(n as u8);
            }
            assert!(held.iter().enumerate().all(|(n, buf)| buf.iter().all(|byte| *byte == n as u8)));
            assert!(io.try_buffer().is_none());
            let waiting = tokio::task::spawn_local({
                let io = io.clone();
                async move { io.buffer().await.len() }
            });
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished());
            held.pop();
            assert_eq!(waiting.await.unwrap(), 12_288);
        })
        .unwrap();
    }
}

#[test]
fn adjacent_buffers_serve_as_one() {
    let dir = tempfile::tempdir().unwrap();
    for kind in kinds() {
        let file = output(&dir.path().join(kind.as_str()), 8 << 20);
        block_on(kind, async {
            let io = Io::new(kind, options(256 << 10, 9)).unwrap();
            let all_bytes = 9 * io.buffer_bytes();
            assert!(io.try_adjacent_buffers(0).is_none() && io.try_adjacent_buffers(all_bytes + 1).is_none());
            let single = io.buffer().await;
            // The first four are not all free, and the ninth has no neighbours.
            let mut four = io.try_adjacent_buffers(1 << 20).unwrap();
            assert_eq!((four.len(), four.as_ptr().align_offset(ALIGNMENT)), (1 << 20, 0));
            assert!(io.try_adjacent_buffers(1 << 20).is_none());
            let mut others = vec![single];
            others.extend(std::iter::from_fn(|| io.try_buffer()));
            assert_eq!(others.len(), 5);
            four.fill(4);
            others.iter_mut().for_each(|other| other.fill(1));
            assert!(four.iter().all(|byte| *byte == 4));
            let writer = io.writer(&file);
            writer.write(four, 1 << 20, 2 << 20).await.unwrap();
            drop(others);
            let all: Vec<_> = std::iter::from_fn(|| io.try_buffer()).collect();
            assert_eq!(all.len(), 9, "all come back");
            drop(all);
            assert_eq!(io.try_adjacent_buffers(all_bytes).unwrap().len(), all_bytes);
        })
        .unwrap();
        let written = std::fs::read(file.path()).unwrap();
        assert!(written[2 << 20..3 << 20].iter().all(|byte| *byte == 4), "{kind:?}");
        assert!(written[3 << 20..].iter().all(|byte| *byte == 0), "{kind:?}");
    }
}

#[test]
fn each_adjacent_buffer_that_comes_back_wakes_one_that_waits() {
    for kind in kinds() {
        block_on(kind, async {
            let io = Io::new(kind, options(4096, 4)).unwrap();
            let four = io.try_adjacent_buffers(4 * 4096).unwrap();
            let waiting: Vec<_> = (0..4)
                .map(|_| {
                    let io = io.clone();
                    tokio::task::spawn_local(async move { io.buffer().await })
                })
                .collect();
            tokio::task::yield_now().await;
            assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
            drop(four);
            // All four are held until the end, so that none of them can serve two.
            let mut held = Vec::new();
            for waiting in waiting {
                held.push(waiting.await.unwrap());
            }
        })
        .unwrap();
    }
}

#[test]
fn a_dropped_write_keeps_its_buffer_until_the_kernel_is_done() {
    let dir = tempfile::tempdir().unwrap();
    for kind in kinds() {
        for round in 0..20 {
            let file = output(&dir.path().join(format!("{}-{round}", kind.as_str())), 8 << 20);
            block_on(kind, async {
                let io = Io::new(kind, options(1 << 20, 4)).unwrap();
                let writer = io.writer(&file);
                for n in 0..4 {
                    let mut buf = io.buffer().await;
                    buf.fill(7);
                    let mut write = writer.write(buf, 1 << 20, n << 20);
                    assert!(futures_util::poll!(&mut write).is_ready() || kind == IoBackend::Uring);
                    drop(write);
                }
                // A buffer that can be taken now must not be in use by the kernel. If it were, a write would store
                // 9 instead of 7.
                for _ in 0..4 {
                    io.buffer().await.fill(9);
                }
                writer.sync().await.unwrap();
            })
            .unwrap();
            let written = std::fs::read(file.path()).unwrap();
            // A dropped write may have been cancelled, but it must not have written what its buffer held later.
            assert!(written.iter().all(|byte| *byte == 7 || *byte == 0), "{kind:?}");
        }
    }
}

#[test]
fn a_runtime_that_ends_with_writes_in_flight_ends() {
    let dir = tempfile::tempdir().unwrap();
    for kind in kinds() {
        let file = output(&dir.path().join(kind.as_str()), 8 << 20);
        block_on(kind, async {
            let io = Io::new(kind, options(1 << 20, 4)).unwrap();
            for n in 0..4 {
                tokio::task::spawn_local(io.writer(&file).write(io.buffer().await, 1 << 20, n << 20));
            }
            tokio::task::yield_now().await;
        })
        .unwrap();
    }
}

#[test]
fn lengths_beyond_the_buffer_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for kind in kinds() {
        let file = output(&dir.path().join("db"), 8 << 20);
        block_on(kind, async {
            let io = Io::new(kind, options(4096, 1)).unwrap();
            let writer = io.writer(&file);
            let result = writer.write(io.buffer().await, 4097, 0).await;
            assert!(matches!(result, Err(IoError::Internal { .. })), "{result:?}");
            writer.write(io.buffer().await, 0, 0).await.unwrap();
        })
        .unwrap();
    }
}

#[test]
fn reads_say_where_the_file_ends() {
    let dir = tempfile::tempdir().unwrap();
    let file = output(&dir.path().join("db"), 100);
    file.pwrite_all(b"hydrant", 93).unwrap();
    let mut bytes = [0; 7];
    file.pread_exact(&mut bytes, 93).unwrap();
    assert_eq!(&bytes, b"hydrant");
    let error = file.pread_exact(&mut bytes, 95).unwrap_err();
    assert!(matches!(error, IoError::Short { at: 100, .. }), "{error:?}");
}

#[test]
fn choices_are_parsed() {
    assert_eq!("auto".parse(), Ok(BackendChoice::Auto));
    assert_eq!("uring".parse(), Ok(BackendChoice::Uring));
    assert_eq!("pwrite".parse(), Ok(BackendChoice::Pwrite));
    assert!("io_uring".parse::<BackendChoice>().is_err());
    assert_eq!(probe(BackendChoice::Pwrite), Ok(ChosenBackend { kind: IoBackend::Pwrite, note: None }));
}

/// Runs [`child`] in another process, because the limits that it sets cannot be undone.
fn in_child(what: &str) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["io::tests::child", "--exact", "--nocapture"])
        .env(CHILD, what)
        .status()
        .unwrap();
    assert!(status.success(), "{what}: {status} {:?}", status.signal());
}

#[test]
fn refused_rings_lead_to_pwrite() {
    for errno in ["EPERM", "ENOSYS", "ENOMEM"] {
        in_child(errno);
    }
}

#[test]
fn a_write_past_the_file_size_limit_is_an_error() {
    in_child("fsize");
}

#[test]
fn without_threads_for_the_ring_writes_go_through_the_page_cache() {
    if probe(BackendChoice::Uring).is_ok() {
        in_child("no-ring-threads");
    }
}

#[test]
fn buffers_are_registered_once_all_have_been_in_use() {
    if probe(BackendChoice::Uring).is_err() {
        return;
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock);
    let may_lock = limit.current.is_none_or(|bytes| bytes >= 8 << 20);
    let dir = tempfile::tempdir().unwrap();
    let expected = pattern(8 << 20, 1);
    let file = output(&dir.path().join("out"), expected.len() as u64);
    block_on(IoBackend::Uring, async {
        let io = Io::new(IoBackend::Uring, options(1 << 20, 4)).unwrap();
        let writer = io.writer(&file);
        for (n, piece) in expected.chunks(1 << 20).enumerate() {
            // Before the fifth write, all four buffers are in use at the same time, so that they get registered.
            let held: Vec<_> = std::iter::from_fn(|| (n == 4).then(|| io.try_buffer()).flatten()).collect();
            drop(held);
            let mut buf = io.buffer().await;
            buf.copy_from_slice(piece);
            writer.write(buf, piece.len(), (n as u64) << 20).await.unwrap();
            let is_wanted = file.direct().is_some() && n >= 4;
            assert!(is_wanted || io.registered_buffers() == 0, "{n}");
            assert!(!is_wanted || !may_lock || io.registered_buffers() == 4, "{n}");
        }
    })
    .unwrap();
    let mut found = vec![0; expected.len()];
    file.pread_exact(&mut found, 0).unwrap();
    assert!(found == expected);
}

#[test]
fn a_low_limit_on_locked_memory_is_lived_with() {
    in_child("memlock");
}

#[test]
fn child() {
    let Ok(what) = std::env::var(CHILD) else { return };
    match what.as_str() {
        "memlock" => {
            if probe(BackendChoice::Uring).is_err() {
                return;
            }
            let limit = libc::rlimit { rlim_cur: 3 << 20, rlim_max: 3 << 20 };
            // SAFETY: setrlimit reads one structure, setuid a number.
            unsafe {
                assert_eq!(libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit), 0);
                if libc::setuid(54_321) != 0 {
                    println!("not root: the limit holds already");
                }
            }
            let path = PathBuf::from(format!("/tmp/hydrant-memlock-{}", std::process::id()));
            let expected = pattern(9 << 20, 1);
            let file = output(&path, expected.len() as u64);
            let _ = std::fs::remove_file(&path);
            block_on(IoBackend::Uring, async {
                let io = Io::new(IoBackend::Uring, options(1 << 20, 8)).unwrap();
                assert_eq!(io.registered_buffers(), 0);
                let writer = io.writer(&file);
                let mut held = Vec::new();
                for n in 0..8_usize {
                    let mut buf = io.buffer().await;
                    buf.copy_from_slice(&expected[n << 20..(n + 1) << 20]);
                    held.push(writer.write(buf, 1 << 20, (n as u64) << 20));
                }
                for write in held {
                    write.await.unwrap();
                }
                println!("{} of 8 buffers registered", io.registered_buffers());
                assert!(io.registered_buffers() < 8);
            })
            .unwrap();
            let mut found = vec![0; 8 << 20];
            file.pread_exact(&mut found, 0).unwrap();
            assert!(found == expected[..8 << 20]);
        }
        "fsize" => limits_tests::past_the_file_size_limit(),
        "no-ring-threads" => limits_tests::without_ring_threads(),
        errno => {
            let number = match errno {
                "EPERM" => libc::EPERM,
                "ENOSYS" => libc::ENOSYS,
                _ => libc::ENOMEM,
            };
            refuse_io_uring(number);
            let chosen = probe(BackendChoice::Auto).unwrap();
            assert_eq!(chosen.kind, IoBackend::Pwrite);
            let note = chosen.note.unwrap();
            println!("{note}");
            assert!(note.contains("io_uring_setup") && !note.contains('\n'), "{note}");
            assert!(matches!(probe(BackendChoice::Uring), Err(IoError::NoUring { .. })));
            // A worker that cannot make a ring must write with pwrite.
            let dir = tempfile::tempdir().unwrap();
            let file = output(&dir.path().join("db"), 4096);
            block_on(IoBackend::Uring, async {
                let io = Io::new(IoBackend::Uring, IoOptions::default()).unwrap();
                assert_eq!(io.kind(), IoBackend::Pwrite);
                io.writer(&file).write(io.buffer().await, 4096, 0).await.unwrap();
            })
            .unwrap();
        }
    }
}

/// Installs a seccomp filter like that of containers: io_uring_setup fails with `errno`.
fn refuse_io_uring(errno: i32) {
    limits_tests::filter(&[libc::SYS_io_uring_setup], libc::SECCOMP_RET_ERRNO | errno as u32);
}
