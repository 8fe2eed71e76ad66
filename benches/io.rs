//! Compares ways of writing large files. Usage: `cargo bench --features sim --bench io [-- --gib N] [--dirs
//! DIR,DIR] [--quick]`.
//!
//! One thread writes a preallocated file and then syncs it. A number of writes is in flight at a time, and each
//! buffer is filled anew. Hydrant's writers are used through their public interface. The CPU time is that of the
//! process. It includes its io_uring threads, but not the kernel's writeback threads. Every run has a fresh
//! directory, because creating files right after deleting many would measure the journal of the file system.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(unsafe_code)]

mod common;

use common::Args;
use common::results::Results;
use futures_util::future::join_all;
use hydrant::io::{Io, IoBackend, IoOptions, OutputFile, block_on};
use io_uring::{IoUring, opcode, types};
use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, PartialEq)]
enum How {
    UringDirect,
    /// The default writer, with the hint that the file is small.
    UringSmall,
    Pwrite,
    /// Buffered writes through an io_uring. No writer of Hydrant does that.
    RingBuffered,
    /// pwrite without asking the kernel for early writeback (sync_file_range).
    PlainPwrite,
}

impl How {
    fn name(self) -> &'static str {
        match self {
            Self::UringDirect => "io_uring, O_DIRECT, registered",
            Self::UringSmall => "io_uring engine, small files",
            Self::Pwrite => "pwrite, sync_file_range",
            Self::RingBuffered => "io_uring, page cache",
            Self::PlainPwrite => "pwrite alone",
        }
    }
    fn kind(self) -> IoBackend {
        match self {
            Self::Pwrite | Self::PlainPwrite => IoBackend::Pwrite,
            _ => IoBackend::Uring,
        }
    }
}

struct Cost {
    wall: Duration,
    cpu: Duration,
    /// The longest time that a single write of the run took.
    slowest: Duration,
    registered: usize,
}

fn main() {
    let args = Args::of_process();
    let mut results = Results::new("io");
    let quick = args.is_quick();
    let gib = args.text("--gib").map_or(if quick { 0.25 } else { 1.0 }, |n| n.parse().expect("a number"));
    let bytes = (gib * f64::from(1 << 30)) as u64 / (1 << 20) * (1 << 20);
    let mut dirs: Vec<PathBuf> = args.text("--dirs").unwrap_or("").split(',').map(PathBuf::from).collect();
    dirs.retain(|dir| !dir.as_os_str().is_empty());
    if dirs.is_empty() {
        dirs = vec![PathBuf::from(env!("CARGO_TARGET_TMPDIR"))];
        dirs.extend(Some(PathBuf::from("/dev/shm")).filter(|dir| dir.is_dir()));
    }
    for dir in &dirs {
        let place = if dir.starts_with("/dev/shm") { "tmpfs" } else { "the disk" };
        large(&mut results, dir, place, bytes, if quick { 1 } else { 3 });
        if !quick {
            computing(&results, dir, place, bytes);
            small(&results, dir, place);
        }
    }
    results.finish(&args);
}

fn large(results: &mut Results, dir: &Path, place: &str, bytes: u64, runs: usize) {
    let columns =
        ["writer", "buffer KiB", "in flight", "seconds", "MiB/s", "CPU-s/GiB", "slowest write ms", "registered"];
    results.table(&format!("One file of {} MiB on {place}, and its sync", bytes >> 20), &columns);
    let gib = bytes as f64 / f64::from(1 << 30);
    for how in [How::UringDirect, How::RingBuffered, How::Pwrite, How::PlainPwrite] {
        for buffer_kib in [256, 512, 1024] {
            for depth in [1, 4, 8, 16] {
                if depth > 1 && how.kind() == IoBackend::Pwrite {
                    // pwrite runs on the worker's thread, so more writes in flight would make no difference.
                    continue;
                }
                let options = IoOptions { buffer_bytes: buffer_kib << 10, buffers: depth };
                let mut costs: Vec<Cost> = (0..runs).map(|_| one_file(dir, how, options, bytes)).collect();
                costs.sort_by_key(|cost| cost.wall);
                let cost = &costs[runs / 2];
                let wall = cost.wall.as_secs_f64();
                results.row(&[
                    how.name().to_owned(),
                    buffer_kib.to_string(),
                    depth.to_string(),
                    format!("{wall:.2}"),
                    format!("{:.0}", (bytes >> 20) as f64 / wall),
                    format!("{:.2}", cost.cpu.as_secs_f64() / gib),
                    format!("{:.1}", cost.slowest.as_secs_f64() * 1e3),
                    cost.registered.to_string(),
                ]);
                if buffer_kib == 512 && (depth == 8 || how.kind() == IoBackend::Pwrite) {
                    results.bar(&format!("1 GiB to {place}, seconds"), how.name(), wall / gib);
                    results.bar(&format!("1 GiB to {place}, CPU-s"), how.name(), cost.cpu.as_secs_f64() / gib);
                }
            }
        }
    }
}

fn computing(results: &Results, dir: &Path, place: &str, bytes: u64) {
    let title = format!("The same while the worker computes 0.2 ms at a time, buffers of 512 KiB, on {place}");
    results.table(&title, &["writer", "seconds", "CPU-s/GiB", "slowest write ms"]);
    for how in [How::UringDirect, How::Pwrite] {
        let cost = beside_computing(dir, how, bytes);
        results.row(&[
            how.name().to_owned(),
            format!("{:.2}", cost.wall.as_secs_f64()),
            format!("{:.2}", cost.cpu.as_secs_f64() / (bytes as f64 / f64::from(1 << 30))),
            format!("{:.1}", cost.slowest.as_secs_f64() * 1e3),
        ]);
    }
}

fn small(results: &Results, dir: &Path, place: &str) {
    results.table(
        &format!("Sizes around which O_DIRECT begins to pay, on {place}"),
        &["file KiB", "writer", "ms/file", "CPU ms/file"],
    );
    for kib in [256_u64, 1024, 4096, 16384] {
        for how in [How::UringDirect, How::UringSmall, How::Pwrite] {
            let cost = sized_files(dir, how, kib << 10, 24);
            results.row(&[
                kib.to_string(),
                how.name().to_owned(),
                format!("{:.2}", cost.wall.as_secs_f64() * 1e3 / 24.0),
                format!("{:.2}", cost.cpu.as_secs_f64() * 1e3 / 24.0),
            ]);
        }
    }
}

fn fresh(dir: &Path) -> tempfile::TempDir {
    tempfile::Builder::new().prefix("hydrant-bench-").tempdir_in(dir).expect("a directory for the benchmark")
}

fn output(dir: &Path, name: &str, how: How, bytes: u64) -> Arc<OutputFile> {
    let path = dir.join(name);
    let file: File =
        OpenOptions::new().read(true).write(true).create_new(true).open(&path).expect("a file for the benchmark");
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).expect("room on the disk");
    let output = OutputFile::new(file.into(), path);
    output.expect_size(if matches!(how, How::UringDirect) { u64::MAX } else { 0 });
    Arc::new(output)
}

fn one_file(dir: &Path, how: How, options: IoOptions, bytes: u64) -> Cost {
    let dir = fresh(dir);
    let file = output(dir.path(), "db", how, bytes);
    match how {
        How::RingBuffered => return by_ring(&file, options, bytes),
        How::PlainPwrite => return by_pwrite(&file, options, bytes),
        _ => {}
    }
    timed(how, options, async |io| {
        let slowest = write_all(&io, &file, bytes, options.buffers).await;
        io.writer(&file).sync().await.expect("sync");
        slowest
    })
}

/// Writes `bytes` bytes of a pattern with `depth` writes in flight. Returns the time of the longest write.
async fn write_all(io: &Io, file: &Arc<OutputFile>, bytes: u64, depth: usize) -> Duration {
    let (next, slowest) = (Rc::new(Cell::new(0_u64)), Rc::new(Cell::new(Duration::ZERO)));
    let tasks = (0..depth).map(|_| {
        let (io, writer, next, slowest) = (io.clone(), io.writer(file), next.clone(), slowest.clone());
        tokio::task::spawn_local(async move {
            loop {
                let mut buffer = io.buffer().await;
                let at = next.get();
                if at >= bytes {
                    return;
                }
                let len = (buffer.len() as u64).min(bytes - at);
                next.set(at + len);
                buffer.fill((at >> 18) as u8);
                let begun = Instant::now();
                writer.write(buffer, len as usize, at).await.expect("write");
                slowest.set(slowest.get().max(begun.elapsed()));
            }
        })
    });
    for task in join_all(tasks).await {
        task.expect("a writing task");
    }
    slowest.get()
}

/// Writes with an io_uring: whenever a write has ended, its buffer is filled again and written.
fn by_ring(file: &OutputFile, options: IoOptions, bytes: u64) -> Cost {
    let (begun, cpu) = (Instant::now(), cpu_time());
    let mut ring = IoUring::new(64).expect("a ring");
    let mut buffers = vec![vec![0_u8; options.buffer_bytes]; options.buffers];
    let mut sent = vec![begun; options.buffers];
    let mut free: Vec<usize> = (0..options.buffers).collect();
    let (mut at, mut slowest) = (0, Duration::ZERO);
    while at < bytes || free.len() < options.buffers {
        while let Some(slot) = free.pop_if(|_| at < bytes) {
            let len = (bytes - at).min(options.buffer_bytes as u64) as u32;
            buffers[slot].fill((at >> 18) as u8);
            let fd = types::Fd(file.as_fd().as_raw_fd());
            let write = opcode::Write::new(fd, buffers[slot].as_ptr(), len).offset(at).build().user_data(slot as u64);
            sent[slot] = Instant::now();
            // SAFETY: until the completion of the write was seen, the buffer is not touched, and the vector that
            // holds it is not moved. The descriptor outlives the loop.
            unsafe { ring.submission().push(&write) }.expect("room: no more in flight than entries");
            ring.submit().expect("a submission");
            at += u64::from(len);
        }
        ring.submit_and_wait(1).expect("a completion");
        for done in ring.completion() {
            assert!(done.result() as usize == options.buffer_bytes, "a short write: {}", done.result());
            let slot = done.user_data() as usize;
            slowest = slowest.max(sent[slot].elapsed());
            free.push(slot);
        }
    }
    file.fsync().expect("sync");
    Cost { wall: begun.elapsed(), cpu: cpu_time() - cpu, slowest, registered: 0 }
}

fn by_pwrite(file: &OutputFile, options: IoOptions, bytes: u64) -> Cost {
    let (begun, cpu) = (Instant::now(), cpu_time());
    let mut buffer = vec![0_u8; options.buffer_bytes];
    let mut slowest = Duration::ZERO;
    for at in (0..bytes).step_by(options.buffer_bytes) {
        buffer.fill((at >> 18) as u8);
        let begun = Instant::now();
        file.pwrite_all(&buffer, at).expect("write");
        slowest = slowest.max(begun.elapsed());
    }
    file.fsync().expect("sync");
    Cost { wall: begun.elapsed(), cpu: cpu_time() - cpu, slowest, registered: 0 }
}

/// The same as [`one_file`], but a second task computes all the time, so that the thread never parks.
fn beside_computing(dir: &Path, how: How, bytes: u64) -> Cost {
    let dir = fresh(dir);
    let file = output(dir.path(), "db", how, bytes);
    timed(how, IoOptions { buffer_bytes: 512 << 10, buffers: 8 }, async |io| {
        let computing = tokio::task::spawn_local(async {
            loop {
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_micros(200) {
                    std::hint::spin_loop();
                }
                tokio::task::yield_now().await;
            }
        });
        let slowest = write_all(&io, &file, bytes, 8).await;
        io.writer(&file).sync().await.expect("sync");
        computing.abort();
        slowest
    })
}

fn sized_files(dir: &Path, how: How, bytes: u64, files: usize) -> Cost {
    let dir = fresh(dir);
    timed(how, IoOptions { buffer_bytes: 256 << 10, buffers: 8 }, async |io| {
        for n in 0..files {
            let file = output(dir.path(), &n.to_string(), how, bytes);
            write_all(&io, &file, bytes, 8).await;
            io.writer(&file).sync().await.expect("sync");
        }
        Duration::ZERO
    })
}

fn timed(how: How, options: IoOptions, work: impl AsyncFnOnce(Io) -> Duration) -> Cost {
    let (begun, cpu) = (Instant::now(), cpu_time());
    let (slowest, registered) = block_on(how.kind(), async {
        let io = Io::new(how.kind(), options).expect("buffers");
        (work(io.clone()).await, io.registered_buffers())
    })
    .expect("a runtime");
    Cost { wall: begun.elapsed(), cpu: cpu_time() - cpu, slowest, registered }
}

/// The CPU time, user and system, that this process has used so far.
fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
