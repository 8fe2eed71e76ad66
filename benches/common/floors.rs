//! Floors: programs that do only the necessary part of a task, such as fetching or writing the same bytes. No
//! restore can be faster. Each floor runs in a process of its own, which is this bench called with a command that
//! [`dispatch`] knows.

use super::cores::{on_cores, on_each_core};
use super::cost::command;
use super::files::{self, Method};
use super::server::Server;
use super::{Args, fresh_dir};
use futures_util::StreamExt;
use hydrant::io::{Io, IoBackend, IoOptions, OutputFile, block_on};
use hydrant::restore::SEGMENT_BYTES;
use hydrant::sim::generate::GeneratedObject;
use hydrant::store::Store;
use hydrant::store::s3::{S3, S3Config, S3Options};
use hydrant::telemetry::Counters;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Runs the floor that the arguments name. Returns false if they name none.
pub(crate) fn dispatch(args: &Args) -> bool {
    let number = |text: &str| text.parse::<u64>().expect("a number");
    match args.as_slice()[..] {
        ["floor-fetch", endpoint, bucket, at_once, list] => {
            fetch(endpoint, bucket, number(at_once) as usize, Path::new(list));
        }
        ["floor-first-byte", endpoint, bucket, key] => print_first_byte(endpoint, bucket, key),
        ["floor-write", kind, path, bytes] => write(kind, Path::new(path), number(bytes)),
        ["floor-files", method, dir, count, bytes] => {
            let method = Method::of_name(method).expect("a method");
            files::write(method, Path::new(dir), number(count), number(bytes) as usize);
        }
        _ => return false,
    }
    true
}

fn again() -> Command {
    command(std::env::current_exe().expect("this program"))
}

/// A command that fetches objects and throws them away. It uses the same byte ranges as a restore and has `at_once`
/// requests in flight per core.
pub(crate) fn fetch_command<'a>(
    server: &Server,
    bucket: &str,
    objects: impl IntoIterator<Item = (&'a GeneratedObject, u64)>,
    at_once: usize,
) -> impl Fn() -> Command {
    let mut lines = String::new();
    for (object, size) in objects {
        let _ = writeln!(lines, "{size} {}", object.key);
    }
    let list = fresh_dir("objects").join("list");
    std::fs::write(&list, lines).expect("the list");
    let (endpoint, bucket) = (server.endpoint.clone(), bucket.to_owned());
    move || {
        let mut command = again();
        command.arg("floor-fetch").arg(&endpoint).arg(&bucket).arg(at_once.to_string()).arg(&list);
        command
    }
}

/// A command that writes `bytes` bytes to a new, preallocated, durable file.
pub(crate) fn write_command(kind: &str, path: &Path, bytes: u64) -> Command {
    let mut command = again();
    command.arg("floor-write").arg(kind).arg(path).arg(bytes.to_string());
    command
}

/// A command that writes `count` durable files of `bytes` bytes each.
pub(crate) fn files_command(method: Method, dir: &Path, count: u64, bytes: u64) -> Command {
    let mut command = again();
    command.arg("floor-files").arg(method.name()).arg(dir).arg(count.to_string()).arg(bytes.to_string());
    command
}

/// The time in seconds until the first byte of an object arrives, on an open connection and an idle machine.
pub(crate) fn first_byte(server: &Server, bucket: &str, key: &str) -> f64 {
    let output =
        again().arg("floor-first-byte").arg(&server.endpoint).arg(bucket).arg(key).stdout(Stdio::piped()).output();
    let output = output.expect("a process");
    let seconds = String::from_utf8_lossy(&output.stdout).trim().parse();
    seconds.expect("a number")
}

/// Prints the median time to the first byte of 21 requests, in seconds.
fn print_first_byte(endpoint: &str, bucket: &str, key: &str) {
    let (store, key) = (store(endpoint, bucket), key.to_owned());
    on_cores(1, move |worker| {
        let (store, key) = (store.clone(), key.clone());
        Box::pin(async move {
            let mut times = Vec::new();
            for _ in 0..22 {
                let begun = Instant::now();
                let mut body = store.get(&worker.http, &key, 0..1, None).await.expect("a body");
                body.chunk().await.expect("a chunk");
                times.push(begun.elapsed().as_secs_f64());
            }
            // The first request opened the connection, so it is not counted.
            times.remove(0);
            times.sort_by(f64::total_cmp);
            println!("{}", times[times.len() / 2]);
        })
    });
}

fn store(endpoint: &str, bucket: &str) -> Store {
    let config = S3Config {
        bucket: bucket.into(),
        region: Some("us-east-1".into()),
        endpoint: Some(endpoint.into()),
        path_style: true,
        ..S3Config::default()
    };
    Store::S3(Arc::new(S3::new(config, &S3Options::from_process(), Arc::new(Counters::default()))))
}

fn fetch(endpoint: &str, bucket: &str, at_once: usize, list: &Path) {
    let store = store(endpoint, bucket);
    let list = std::fs::read_to_string(list).expect("the list");
    let mut ranges = Vec::new();
    for line in list.lines().rev() {
        let (size, key) = line.split_once(' ').expect("a size and a key");
        let size: u64 = size.parse().expect("a size");
        for at in (0..size).step_by(SEGMENT_BYTES as usize) {
            ranges.push((key.to_owned(), at..size.min(at + SEGMENT_BYTES)));
        }
    }
    let ranges = Arc::new(Mutex::new(ranges));
    on_each_core(move |worker| {
        let (store, ranges) = (store.clone(), Arc::clone(&ranges));
        Box::pin(async move {
            let next = || ranges.lock().expect("the ranges").pop();
            let (worker, store) = (&worker, &store);
            futures_util::stream::iter(std::iter::from_fn(next))
                .for_each_concurrent(at_once, |(key, range)| async move {
                    let mut body = store.get(&worker.http, &key, range, None).await.expect("a body");
                    while let Some(chunk) = body.chunk().await.expect("a chunk") {
                        std::hint::black_box(&chunk);
                    }
                })
                .await;
        })
    });
}

fn write(kind: &str, path: &Path, bytes: u64) {
    let kind = if kind == "uring" { IoBackend::Uring } else { IoBackend::Pwrite };
    block_on(kind, async {
        let io = Io::new(kind, IoOptions { buffer_bytes: 512 << 10, buffers: 16 }).expect("buffers");
        let file = std::fs::File::options().read(true).write(true).create_new(true).open(path).expect("a file");
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).expect("space");
        let output = Arc::new(OutputFile::new(file.into(), path.to_owned()));
        output.expect_size(bytes);
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
