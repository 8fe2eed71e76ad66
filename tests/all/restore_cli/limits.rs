//! Tests of restores with few requests, little memory, few descriptors and forbidden system calls.

#![allow(unsafe_code)]

use super::support::*;
use hydrant::ltx::encode::Encoder;
use hydrant::ltx::frame::Encoding;
use hydrant::ltx::header::{FLAG_NO_CHECKSUM, Header};
use hydrant::ltx::{PageSize, Pgno, Txid};
use hydrant::sim::server::{Failure, Faults, Latency, Object};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

#[test]
fn one_request_at_a_time() {
    for (bytes, increments) in [(256 << 10, 0), (1 << 20, 40), (24 << 20, 40)] {
        // The latency is long enough that other requests could begin in between.
        let latency = Latency::Fixed(Duration::from_millis(2));
        let served = serve(large(bytes, increments), Faults { latency, ..Faults::default() });
        for cap in ["--max-requests", "-parallelism"] {
            let place = Place::new();
            let sent = served.server.stats();
            run(&mut hydrant_s3(&["restore", cap, "1", "-o", &place.out(), &served.url])).succeeded();
            place.holds_only(&served.sha256);
            let made = served.server.stats().since(&sent).total();
            println!("{bytes} bytes, {increments} increments, {cap} 1: {made} requests");
        }
        assert_eq!(served.server.stats().in_flight_max, 1, "{bytes} {increments}");
    }
}

/// The increments are too large for one GET, and their page indexes are longer than the first request for the end
/// of a file returns.
#[test]
fn one_request_at_a_time_and_a_long_index() {
    let page_size = PageSize::new(512).unwrap();
    let header = |txid, pages| Header {
        flags: FLAG_NO_CHECKSUM,
        page_size,
        commit: pages,
        min_txid: Txid(txid),
        max_txid: Txid(txid),
        timestamp_ms: 1_790_000_000_000 + txid as i64,
        pre_apply_checksum: 0,
        wal_offset: 0,
        wal_size: 0,
        wal_salt1: 0,
        wal_salt2: 0,
        node_id: 0,
    };
    // Pages take about 30 bytes each, so a file of 9 MB has a page index of 2.5 MB.
    let pages = 300_000u32;
    let page = |txid: u64, pgno: u32| {
        let mut page = vec![txid as u8; 512];
        page[..4].copy_from_slice(&pgno.to_be_bytes());
        page
    };
    let server = simulator(Faults::default());
    for (level, txid) in [("0009", 1), ("0000", 2), ("0000", 3), ("0000", 4), ("0000", 5)] {
        let mut encoder = Encoder::new(&header(txid, pages), Encoding::Block);
        // The newest file is large. The small files before it are fetched at the same time.
        let large = [1, 2, 5].contains(&txid);
        let step = if large { 1 } else { 997 };
        for pgno in (1..=pages).step_by(step) {
            encoder.page(Pgno(pgno), &page(txid, pgno)).unwrap();
        }
        let bytes = encoder.finish(0).unwrap();
        assert_eq!(bytes.len() > 8 << 20, large, "{}", bytes.len());
        let key = format!("db/{level}/{}-{}.ltx", Txid(txid), Txid(txid));
        server.objects().put("bucket", &key, Object::new(bytes));
    }
    let expected: Vec<u8> = (1..=pages).flat_map(|pgno| page(5, pgno)).collect();
    for cap in [&["--max-requests", "1"][..], &["--max-requests", "2"], &["-parallelism", "1"], &[]] {
        let place = Place::new();
        println!("{cap:?}");
        let (out, url) = (place.out(), url(&server.endpoint(), "db"));
        let args = [&["restore", "-o", &out, &url], cap].concat();
        run(&mut hydrant_s3(&args)).succeeded();
        assert!(std::fs::read(place.out()).unwrap() == expected, "{cap:?}");
    }
}

#[test]
fn little_memory() {
    // The overlay, the write buffers and the memory budget are all too small for this database.
    let served = serve(large(96 << 20, 600), Faults::default());
    for engine in ["auto", "pwrite"] {
        let place = Place::new();
        let args = ["restore", "--memory", "16MiB", "--io-engine", engine, "-o", &place.out(), &served.url];
        let ran = run(&mut hydrant_s3(&args)).succeeded();
        place.holds_only(&served.sha256);
        println!("--memory 16MiB, {engine}: {} MiB in {:?}", ran.peak_rss_bytes >> 20, ran.took);
        assert!(ran.peak_rss_bytes < 96 << 20, "{} bytes", ran.peak_rss_bytes);
    }
}

/// Some segments wait for a buffer, while others hold a buffer and wait until they may send a request again. The
/// restore must not deadlock.
#[test]
fn little_memory_and_few_requests_and_broken_connections() {
    let faults = Faults { fail: vec![(Failure::HalfBody, 0.5)], ..Faults::default() };
    let served = serve(large(160 << 20, 0), faults);
    for requests in ["1", "2", "3", "4"] {
        let place = Place::new();
        let args = ["restore", "--memory", "1MiB", "--max-requests", requests, "-o", &place.out(), &served.url];
        let ran = run(&mut hydrant_s3(&args)).succeeded();
        place.holds_only(&served.sha256);
        println!("{requests} requests: {:?}", ran.took);
    }
}

pub(super) fn limited(command: &mut Command, resource: libc::__rlimit_resource_t, limit: u64) -> &mut Command {
    // SAFETY: setrlimit is async-signal-safe and touches no memory of the parent.
    unsafe {
        command.pre_exec(move || {
            let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
            match libc::setrlimit(resource, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        })
    }
}

#[test]
fn few_descriptors() {
    let served = serve(large(24 << 20, 300), Faults::default());
    for limit in [64, 32] {
        let place = Place::new();
        let mut command = hydrant_s3(&["restore", "-o", &place.out(), &served.url]);
        let ran = run(limited(&mut command, libc::RLIMIT_NOFILE, limit));
        println!("ulimit -n {limit}: {:?} {}", ran.code, ran.stderr.trim_end());
        if limit == 64 || ran.code == Some(0) {
            ran.succeeded();
            place.holds_only(&served.sha256);
        } else {
            ran.failed("");
            place.is_empty();
        }
    }
    let place = Place::new();
    let mut command = hydrant_s3(&["restore", "-o", &place.out(), &served.url]);
    let ran = run(limited(&mut command, libc::RLIMIT_NOFILE, 7));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    place.is_empty();
}

#[test]
fn a_file_size_limit_is_an_error_before_anything_is_fetched() {
    let served = serve(large(24 << 20, 5), Faults::default());
    let limit = 16 << 20;
    for engine in ["auto", "pwrite"] {
        for check in ["none", "quick"] {
            for force in ["-force=false", "-force"] {
                let place = Place::new();
                if force == "-force" {
                    place.write("out.db", "old");
                }
                let before = place.contents();
                let sent = served.server.stats().body_bytes;
                let out = place.out();
                let args = ["restore", "-io-engine", engine, "-integrity-check", check, force, "-o", &out, &served.url];
                let ran = run(limited(&mut hydrant_s3(&args), libc::RLIMIT_FSIZE, limit));
                let expected = format!(" bytes for {out}: file size limit (ulimit -f) of {limit} bytes reached");
                let ran = ran.failed(&expected);
                assert!(!ran.stderr.contains("bytes free"), "{}", ran.stderr);
                assert_eq!(place.contents(), before, "{args:?}");
                let fetched = served.server.stats().body_bytes - sent;
                assert!(fetched < 1 << 20, "{fetched} bytes");
            }
        }
    }
    // The limit is exactly the size of the database.
    let small = serve(large(1 << 20, 5), Faults::default());
    let place = Place::new();
    let mut command = hydrant_s3(&["restore", "-o", &place.out(), &small.url]);
    run(limited(&mut command, libc::RLIMIT_FSIZE, small.database.expected.bytes)).succeeded();
    place.holds_only(&small.sha256);
}

#[test]
fn little_address_space() {
    let served = serve(large(24 << 20, 50), Faults::default());
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    // The stacks and the allocator's arenas of each thread also take address space.
    let limit = (512 << 20) + workers * (160 << 20);
    let place = Place::new();
    let mut command = hydrant_s3(&["restore", "-o", &place.out(), &served.url]);
    run(limited(&mut command, libc::RLIMIT_AS, limit)).succeeded();
    place.holds_only(&served.sha256);
}

#[test]
fn no_room_for_locked_memory() {
    let served = serve(large(24 << 20, 5), Faults::default());
    let place = Place::new();
    let mut command = hydrant_s3(&["restore", "-o", &place.out(), &served.url]);
    run(limited(&mut command, libc::RLIMIT_MEMLOCK, 0)).succeeded();
    place.holds_only(&served.sha256);
}

/// Forbids io_uring, as the default profiles of container runtimes do.
fn without_uring(command: &mut Command) -> &mut Command {
    forbidden(command, libc::SYS_io_uring_setup)
}

/// Makes a system call fail with EPERM.
pub(super) fn forbidden(command: &mut Command, call: libc::c_long) -> &mut Command {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let load_number = statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0);
    let is_it =
        libc::sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, jt: 0, jf: 1, k: call as u32 };
    let filter = [
        load_number,
        is_it,
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    // SAFETY: prctl is async-signal-safe. The filter was copied into the closure, and the kernel copies it once
    // more.
    unsafe {
        command.pre_exec(move || {
            let mut filter = filter;
            let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
            if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
                || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) != 0
            {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        })
    }
}

#[test]
fn where_io_uring_is_refused() {
    let served = serve(large(24 << 20, 5), Faults::default());
    let place = Place::new();
    let mut command = hydrant_s3(&["restore", "-o", &place.out(), &served.url]);
    let ran = run(without_uring(&mut command)).succeeded();
    place.holds_only(&served.sha256);
    let notes: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("io_uring")).collect();
    assert_eq!(notes.len(), 1, "{}", ran.stderr);
    assert!(notes[0].contains("writing with pwrite") && notes[0].contains("seccomp"), "{}", notes[0]);

    let place = Place::new();
    let mut command = hydrant_s3(&["restore", "--io-engine", "uring", "-o", &place.out(), &served.url]);
    run(without_uring(&mut command)).failed("io_uring");
    place.is_empty();
    let mut command = hydrant_s3(&["restore", "--io-engine", "pwrite", "-o", &place.out(), &served.url]);
    let ran = run(without_uring(&mut command)).succeeded();
    assert!(!ran.stderr.contains("io_uring"), "{}", ran.stderr);
    place.holds_only(&served.sha256);
}
