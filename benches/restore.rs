//! One database of about 1 GB, end to end, beside its floors, in one run:
//! `cargo bench --bench restore [-- --runs N] [--mb N] [--litestream]` prints a Markdown table.
//!
//! The floors: `fetch`, the same objects to memory with the same client; `write`, the same
//! number of bytes to a new file with each writer. Everything runs as a process of its own; the
//! server is another one and shares the cores. With `--litestream`, `litestream` on PATH runs
//! too (slow).

mod common;

use common::{Cost, Server, command, fresh_dir, measured, on_path};
use futures_util::StreamExt;
use hydrant::cancel::Cancel;
use hydrant::catalogue::Replica;
use hydrant::io::{EngineKind, Io, IoOptions, OutputFile, block_on};
use hydrant::restore::{Engine, EngineOptions, SEGMENT_BYTES, list_replica};
use hydrant::sim::generate::{LargeDatabase, LargeSpec};
use hydrant::sim::server::FolderWriter;
use hydrant::store::Store;
use hydrant::store::s3::{S3, S3Config, S3Options};
use hydrant::telemetry::Counters;
use std::path::Path;
use std::sync::Arc;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["fetch", endpoint, bucket] => fetch_all(endpoint, bucket),
        ["write", kind, path, bytes] => write_all(kind, Path::new(path), bytes.parse().expect("bytes")),
        _ => compare(&args),
    }
}

fn number(args: &[String], flag: &str, default: u64) -> u64 {
    let value = args.iter().position(|a| a == flag).and_then(|i| args.get(i + 1));
    value.map_or(default, |v| v.parse().expect("a number"))
}

fn compare(args: &[String]) {
    let (runs, megabytes) = (number(args, "--runs", 5), number(args, "--mb", 1060));
    let with_litestream = args.iter().any(|a| a == "--litestream");
    let root = fresh_dir("buckets");
    let scenarios = [("one snapshot", "plain", 0), ("the same and 500 increments", "incremented", 500)];
    let mut sizes = Vec::new();
    for (_, bucket, increments) in scenarios {
        let spec = LargeSpec { bytes: megabytes * 1_000_000, increments, ..LargeSpec::default() };
        sizes.push(generate(&root.join(bucket), &spec));
    }
    let server = Server::start(&root, &[]);
    let _ = std::fs::remove_dir_all(&root);
    let this = std::env::current_exe().expect("this program");

    println!("| database | what | wall s | CPU-s | CPU-s per GB | server CPU-s | peak MB | of the floor |");
    println!("|---|---|---|---|---|---|---|---|");
    for ((name, bucket, _), bytes) in scenarios.into_iter().zip(sizes) {
        let gigabytes = bytes as f64 / 1e9;
        let mut floor = f64::INFINITY;
        let mut row = |what: &str, is_floor: bool, run: &dyn Fn() -> Cost| {
            let mut served = 0.0;
            let costs = (0..runs).map(|_| {
                let before = server.cpu_seconds();
                let cost = run();
                served += (server.cpu_seconds() - before) / runs as f64;
                cost
            });
            let cost = Cost::median(costs.collect());
            if is_floor {
                // The slowest of the floors is the floor.
                floor = if floor.is_finite() { floor.max(cost.wall_seconds) } else { cost.wall_seconds };
            }
            println!(
                "| {name} | {what} | {:.2} | {:.2} | {:.2} | {served:.2} | {} | {:.2} |",
                cost.wall_seconds,
                cost.cpu_seconds,
                cost.cpu_seconds / gigabytes,
                cost.peak_kib / 1000,
                cost.wall_seconds / floor,
            );
        };
        row("fetch only", true, &|| measured(command(&this).args(["fetch", &server.endpoint, bucket])));
        for kind in ["uring", "pwrite"] {
            row(&format!("write only, {kind}"), kind == "uring", &|| {
                let dir = fresh_dir("write");
                let path = dir.join("out");
                let cost = measured(command(&this).args(["write", kind]).arg(&path).arg(bytes.to_string()));
                let _ = std::fs::remove_dir_all(dir);
                cost
            });
        }
        for kind in ["uring", "pwrite"] {
            row(&format!("hydrant restore, {kind}"), false, &|| {
                let dir = fresh_dir("restore");
                let mut command = command(env!("CARGO_BIN_EXE_hydrant"));
                command.args(["restore", "--io-engine", kind, "-o"]).arg(dir.join("db"));
                let cost = measured(command.arg(server.url(bucket, "large.db")));
                let _ = std::fs::remove_dir_all(dir);
                cost
            });
        }
        if let Some(litestream) = on_path("litestream").filter(|_| with_litestream) {
            row("litestream restore", false, &|| {
                let dir = fresh_dir("litestream");
                let mut command = command(&litestream);
                command.args(["restore", "-o"]).arg(dir.join("db"));
                let cost = measured(command.arg(server.url(bucket, "large.db")));
                let _ = std::fs::remove_dir_all(dir);
                cost
            });
        }
    }
}

/// Writes the database's bucket; its size in bytes.
fn generate(bucket: &Path, spec: &LargeSpec) -> u64 {
    let large = LargeDatabase::without_snapshot(spec).expect("a database");
    let mut folder = FolderWriter::create(bucket).expect("a folder");
    folder
        .streamed(&large.snapshot_object(), |out| {
            large.write_snapshot(out).map(drop).map_err(|e| std::io::Error::other(e.to_string()))
        })
        .expect("the snapshot");
    for object in &large.objects {
        folder.object(object).expect("an object");
    }
    folder.finish().expect("the folder");
    large.size_bytes()
}

/// The floor of fetching: every object of the bucket, in ranges as the engine fetches them,
/// eight at once per core, to memory and away.
fn fetch_all(endpoint: &str, bucket: &str) {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let kind = EngineKind::Pwrite;
    let options = EngineOptions { workers, kind, memory_bytes: 256 << 20, tasks: 64, segment_bytes: SEGMENT_BYTES };
    let engine = Engine::start(&options, Arc::new(Counters::default()), Cancel::new()).expect("workers");
    let config = S3Config {
        bucket: bucket.into(),
        region: Some("us-east-1".into()),
        endpoint: Some(endpoint.into()),
        path_style: true,
        ..S3Config::default()
    };
    let store = Store::S3(Arc::new(S3::new(config, &S3Options::from_process(), Arc::new(Counters::default()))));
    let listed = store.clone();
    let replica: Replica = engine
        .run(move |worker| Box::pin(async move { list_replica(&worker.http, &listed, "large.db").await }))
        .expect("an answer")
        .expect("a listing");
    let mut ranges = Vec::new();
    for file in &replica.files {
        for at in (0..file.size).step_by(SEGMENT_BYTES as usize) {
            ranges.push((replica.key(file), at..file.size.min(at + SEGMENT_BYTES)));
        }
    }
    let ranges = Arc::new(std::sync::Mutex::new(ranges));
    let fetchers: Vec<_> = (0..workers)
        .map(|_| {
            let (store, ranges) = (store.clone(), Arc::clone(&ranges));
            engine.submit(move |worker| {
                Box::pin(async move {
                    let next = || ranges.lock().expect("the ranges").pop();
                    let (worker, store) = (&worker, &store);
                    futures_util::stream::iter(std::iter::from_fn(next))
                        .for_each_concurrent(8, |(key, range)| async move {
                            let mut body = store.get(&worker.http, &key, range, None).await.expect("a body");
                            while let Some(chunk) = body.chunk().await.expect("a chunk") {
                                std::hint::black_box(&chunk);
                            }
                        })
                        .await;
                })
            })
        })
        .collect();
    fetchers.into_iter().for_each(|f| f.blocking_recv().expect("a fetcher's end"));
}

/// The floor of writing: `bytes` to a new, preallocated file, and durable.
fn write_all(kind: &str, path: &Path, bytes: u64) {
    let kind = if kind == "uring" { EngineKind::Uring } else { EngineKind::Pwrite };
    block_on(kind, async {
        let io = Io::new(kind, IoOptions { buffer_bytes: 512 << 10, buffers: 16 }).expect("buffers");
        let file = std::fs::File::options().read(true).write(true).create_new(true).open(path).expect("a file");
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).expect("space");
        let output = Arc::new(OutputFile::new(file.into(), path.to_owned()));
        let writer = io.writer(&output);
        let len = io.buffer_bytes();
        let writes = futures_util::stream::iter((0..bytes).step_by(len)).map(|at| {
            let (io, writer) = (&io, &writer);
            async move {
                let mut buffer = io.buffer().await;
                buffer.fill(at as u8);
                writer.write(buffer, len.min((bytes - at) as usize), at).await.expect("a write");
            }
        });
        writes.buffer_unordered(16).for_each(|()| async {}).await;
        writer.sync().await.expect("a sync");
    })
    .expect("a runtime");
}
