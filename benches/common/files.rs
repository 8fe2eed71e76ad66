//! Writes many small, durable files by several methods. This shows the least time that the commits of a fleet of
//! databases can take.

#![allow(unsafe_code)]

use super::cores;
use futures_util::StreamExt;
use hydrant::commit::{CommitContext, Destination, OutputRoot, PublishedFile, Replace, sync_dirs};
use hydrant::restore::Worker;
use io_uring::{IoUring, opcode, types};
use rustix::fs::{CWD, RenameFlags};
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// Hydrant's own way: a file without a name is reserved, written, synced and then named. Directories are synced
    /// once per batch of files.
    Hydrant,
    /// Files with names. Up to 512 fsyncs are in flight on one io_uring.
    Uring,
    /// Files with names. Up to 16 fsyncs are in flight, each on a thread.
    Threads,
    /// Like `Threads`, but each file has a temporary name until it is synced and is then renamed, if the final name
    /// is free. This is the least that a publication takes that cannot lose data.
    Published,
    /// Files with names, then one syncfs for all. syncfs does not say which file's write failed.
    Syncfs,
    /// Files with names, synced one after the other.
    Serial,
}

impl Method {
    pub(crate) const ALL: [Self; 6] =
        [Self::Hydrant, Self::Published, Self::Uring, Self::Threads, Self::Syncfs, Self::Serial];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hydrant => "hydrant",
            Self::Uring => "uring",
            Self::Threads => "threads",
            Self::Published => "published",
            Self::Syncfs => "syncfs",
            Self::Serial => "serial",
        }
    }

    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Hydrant => "hydrant's commit path",
            Self::Uring => "512 io_uring fsyncs in flight",
            Self::Threads => "fsync on 16 threads",
            Self::Published => "fsync on 16 threads, then renamed",
            Self::Syncfs => "one syncfs",
            Self::Serial => "one fsync after the other",
        }
    }
}

/// The number of files that Hydrant's own way has in flight, as a fleet with default settings.
const IN_FLIGHT: usize = 128;
/// The number of files after which directories are synced.
const BATCH: usize = 64;
const RING: u32 = 512;

/// Writes `count` files of `bytes` bytes into the new directory `dir`. All are durable when the function returns.
pub(crate) fn write(method: Method, dir: &Path, count: u64, bytes: usize) {
    let content = vec![0x5a_u8; bytes];
    match method {
        Method::Hydrant => hydrant(dir, count, bytes),
        Method::Uring => uring(dir, count, &content),
        Method::Threads => threads(16, count, |n| named(dir, &real_name(n), &content).sync_all().expect("a sync")),
        Method::Published => threads(16, count, |n| {
            let (temp, name) = (format!(".{n:06}.tmp"), real_name(n));
            named(dir, &temp, &content).sync_all().expect("a sync");
            let (temp, name) = (dir.join(temp), dir.join(name));
            rustix::fs::renameat_with(CWD, temp, CWD, name, RenameFlags::NOREPLACE).expect("a free name");
        }),
        Method::Syncfs => {
            threads(cores() as u64, count, |n| drop(named(dir, &real_name(n), &content)));
            rustix::fs::syncfs(File::open(dir).expect("the directory")).expect("a sync");
        }
        Method::Serial => (0..count).for_each(|n| named(dir, &real_name(n), &content).sync_all().expect("a sync")),
    }
    File::open(dir).and_then(|dir| dir.sync_all()).expect("a sync");
}

fn real_name(n: u64) -> String {
    format!("{n:06}.db")
}

fn named(dir: &Path, name: &str, content: &[u8]) -> File {
    let mut file = File::create_new(dir.join(name)).expect("a file");
    file.write_all(content).expect("a write");
    file
}

fn threads(count: u64, files: u64, work: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Relaxed);
                    if n >= files {
                        return;
                    }
                    work(n);
                }
            });
        }
    });
}

fn uring(dir: &Path, count: u64, content: &[u8]) {
    let mut ring = IoUring::new(RING).expect("a ring");
    let mut open = HashMap::new();
    for n in 0..count {
        let file = named(dir, &real_name(n), content);
        let fsync = opcode::Fsync::new(types::Fd(file.as_raw_fd())).build().user_data(n);
        open.insert(n, file);
        // SAFETY: the descriptor stays open, in `open`, until the completion of the fsync was seen. An fsync uses
        // no memory.
        unsafe { ring.submission().push(&fsync) }.expect("room: no more in flight than entries");
        ring.submit().expect("a submission");
        reap(&mut ring, &mut open);
        while open.len() >= RING as usize {
            ring.submit_and_wait(1).expect("a completion");
            reap(&mut ring, &mut open);
        }
    }
    while !open.is_empty() {
        ring.submit_and_wait(1).expect("a completion");
        reap(&mut ring, &mut open);
    }
}

fn reap(ring: &mut IoUring, open: &mut HashMap<u64, File>) {
    for done in ring.completion() {
        assert!(done.result() >= 0, "fsync: {}", std::io::Error::from_raw_os_error(-done.result()));
        open.remove(&done.user_data());
    }
}

fn hydrant(dir: &Path, count: u64, bytes: usize) {
    let root = Arc::new(OutputRoot::open(&CommitContext::default(), dir).expect("the directory"));
    let next = Arc::new(AtomicU64::new(0));
    cores::on_each_core(move |worker| {
        let (root, next) = (Arc::clone(&root), Arc::clone(&next));
        Box::pin(async move {
            futures_util::stream::iter(std::iter::from_fn(|| Some(next.fetch_add(1, Relaxed)).filter(|&n| n < count)))
                .map(|n| publish(&worker, &root, n, bytes))
                .buffer_unordered(IN_FLIGHT.div_ceil(cores()))
                .chunks(BATCH)
                .for_each_concurrent(2, |published| async {
                    let syncing = tokio::task::spawn_blocking(move || sync_dirs(published));
                    syncing.await.expect("an end").into_iter().for_each(|synced| synced.expect("a sync"));
                })
                .await;
        })
    });
}

async fn publish(worker: &Worker, root: &Arc<OutputRoot>, n: u64, bytes: usize) -> PublishedFile {
    let destination = Destination::prepare_beneath(root, &real_name(n), Replace::Never).expect("a destination");
    let new = Arc::new(destination).create(false).expect("a file");
    new.reserve(bytes as u64).expect("space");
    let writer = worker.io.writer(new.output());
    let mut buffer = worker.io.buffer().await;
    buffer[..bytes].fill(0x5a);
    writer.write(buffer, bytes, 0).await.expect("a write");
    writer.sync().await.expect("a sync");
    new.publish().expect("a publication")
}
