//! Writers side by side: `cargo bench --bench io -- [--gib N] [DIR…]` prints Markdown tables.
//!
//! One worker writes a preallocated file through the public interface, `depth` writes in
//! flight, each buffer filled anew; then syncs. The second table: many small files, durable.
//! CPU is the process's, kernel threads that write back excluded. Every run has a fresh
//! directory: creating files right after deleting many measures the file system's journal.

use futures_util::future::join_all;
use hydrant::io::{EngineKind, Io, IoOptions, OutputFile, block_on};
use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Clone, Copy)]
enum How {
    UringDirect,
    UringBuffered,
    Pwrite,
}

impl How {
    fn name(self) -> &'static str {
        match self {
            Self::UringDirect => "uring, O_DIRECT",
            Self::UringBuffered => "uring, page cache",
            Self::Pwrite => "pwrite",
        }
    }
    fn kind(self) -> EngineKind {
        match self {
            Self::Pwrite => EngineKind::Pwrite,
            _ => EngineKind::Uring,
        }
    }
}

struct Cost {
    wall: Duration,
    cpu: Duration,
    /// The longest single write.
    slowest: Duration,
    registered: usize,
}

fn main() {
    let mut gib = 1.0_f64;
    let mut dirs = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--gib" => gib = args.next().and_then(|n| n.parse().ok()).unwrap_or(gib),
            "--bench" => {}
            dir => dirs.push(PathBuf::from(dir)),
        }
    }
    if dirs.is_empty() {
        dirs = vec![PathBuf::from(env!("CARGO_TARGET_TMPDIR"))];
        dirs.extend(Some(PathBuf::from("/dev/shm")).filter(|dir| dir.is_dir()));
    }
    let bytes = (gib * f64::from(1 << 30)) as u64 / (1 << 20) * (1 << 20);
    for dir in &dirs {
        println!("\n### One file of {} MiB in {}\n", bytes >> 20, dir.display());
        println!("| writer | buffer KiB | in flight | seconds | MiB/s | CPU-s/GiB | slowest write ms | registered |");
        println!("|---|---|---|---|---|---|---|---|");
        for how in [How::UringDirect, How::UringBuffered, How::Pwrite] {
            for buffer_kib in [256, 512, 1024] {
                for depth in [1, 4, 8, 16] {
                    if depth > 1 && !matches!(how, How::UringDirect) {
                        continue; // These write on the worker's thread: more in flight is no difference.
                    }
                    let options = IoOptions { buffer_bytes: buffer_kib << 10, buffers: depth };
                    let mut runs: Vec<Cost> = (0..3).map(|_| one_file(dir, how, options, bytes)).collect();
                    runs.sort_by_key(|run| run.wall);
                    let run = &runs[1];
                    println!(
                        "| {} | {buffer_kib} | {depth} | {:.2} | {:.0} | {:.2} | {:.1} | {}/{depth} |",
                        how.name(),
                        run.wall.as_secs_f64(),
                        (bytes >> 20) as f64 / run.wall.as_secs_f64(),
                        run.cpu.as_secs_f64() / (bytes as f64 / f64::from(1 << 30)),
                        run.slowest.as_secs_f64() * 1e3,
                        run.registered,
                    );
                }
            }
        }
        println!(
            "\n### The same while the worker computes 0.2 ms at a time, buffers of 512 KiB, in {}\n",
            dir.display()
        );
        println!("| writer | seconds | CPU-s/GiB | slowest write ms |");
        println!("|---|---|---|---|");
        for how in [How::UringDirect, How::Pwrite] {
            let cost = beside_computing(dir, how, bytes);
            println!(
                "| {} | {:.2} | {:.2} | {:.1} |",
                how.name(),
                cost.wall.as_secs_f64(),
                cost.cpu.as_secs_f64() / (bytes as f64 / f64::from(1 << 30)),
                cost.slowest.as_secs_f64() * 1e3
            );
        }
        println!("\n### 2,000 durable files of 64 KiB in {}, 256 at a time\n", dir.display());
        println!("| writer | seconds | ms/file | CPU ms/file |");
        println!("|---|---|---|---|");
        for how in [How::UringBuffered, How::Pwrite] {
            let cost = many_files(dir, how, 2000, 256);
            println!(
                "| {} | {:.2} | {:.2} | {:.2} |",
                how.name(),
                cost.wall.as_secs_f64(),
                cost.wall.as_secs_f64() * 1e3 / 2000.0,
                cost.cpu.as_secs_f64() * 1e3 / 2000.0
            );
        }
        println!("\n### Sizes around which O_DIRECT begins to pay, in {}\n", dir.display());
        println!("| file KiB | writer | ms/file | CPU ms/file |");
        println!("|---|---|---|---|");
        for kib in [256_u64, 1024, 4096, 16384] {
            for how in [How::UringDirect, How::UringBuffered, How::Pwrite] {
                let cost = sized_files(dir, how, kib << 10, 24);
                println!(
                    "| {kib} | {} | {:.2} | {:.2} |",
                    how.name(),
                    cost.wall.as_secs_f64() * 1e3 / 24.0,
                    cost.cpu.as_secs_f64() * 1e3 / 24.0
                );
            }
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
    timed(how, options, async |io| {
        let slowest = write_all(&io, &file, bytes, options.buffers).await;
        io.writer(&file).sync().await.expect("sync");
        slowest
    })
}

/// Writes `bytes` of pattern with `depth` writes in flight; the longest of them.
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

/// As [`one_file`], with a task that is always ready and computes: the thread never parks.
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

fn many_files(dir: &Path, how: How, files: usize, at_once: usize) -> Cost {
    let dir = fresh(dir);
    let options = IoOptions { buffer_bytes: 64 << 10, buffers: 16 };
    timed(how, options, async |io| {
        let next = Rc::new(Cell::new(0));
        let tasks = (0..at_once).map(|_| {
            let (io, next, dir) = (io.clone(), next.clone(), dir.path().to_owned());
            tokio::task::spawn_local(async move {
                while next.get() < files {
                    let n = next.replace(next.get() + 1);
                    let file = output(&dir, &n.to_string(), how, 64 << 10);
                    write_all(&io, &file, 64 << 10, 1).await;
                    io.writer(&file).sync().await.expect("sync");
                }
            })
        });
        for task in join_all(tasks).await {
            task.expect("a writing task");
        }
        Duration::ZERO
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

/// User and system time of this process.
fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
