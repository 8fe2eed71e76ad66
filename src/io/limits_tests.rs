//! Code that runs in child processes of the tests in `tests`: these processes run under resource limits or under a
//! seccomp filter like that of a container.

use super::tests::{options, output, pattern};
use super::*;
use crate::error::Class;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, setrlimit};
use std::path::PathBuf;

/// Writes past RLIMIT_FSIZE with both writers. The bytes below the limit must be written, the rest must be refused.
/// The files get their final size before the limit is set, so that no write changes a size.
pub(super) fn past_the_file_size_limit() {
    const LIMIT: u64 = 5 << 20;
    signals::ignore_file_size_signal();
    let dir = tempfile::tempdir().unwrap();
    let outputs: Vec<_> = ["pwrite", "uring"].map(|name| output(&dir.path().join(name), 8 << 20)).into();
    let limit = Rlimit { current: Some(LIMIT), maximum: Some(LIMIT) };
    setrlimit(Resource::Fsize, limit).unwrap();
    for (file, kind) in outputs.iter().zip([IoBackend::Pwrite, IoBackend::Uring]) {
        let error = block_on(kind, async {
            let io = Io::new(kind, options(1 << 20, 2)).unwrap();
            let writer = io.writer(file);
            let mut at = 0;
            loop {
                if let Err(error) = writer.write(io.buffer().await, 1 << 20, at).await {
                    break error;
                }
                at += 1 << 20;
            }
        })
        .unwrap();
        assert_eq!(error.class(), Class::Io);
        let text = error.to_string();
        let name = file.path().display();
        let expected = format!("write {name}: file size limit (ulimit -f) of {LIMIT} bytes reached at offset {LIMIT} ");
        assert!(text.starts_with(&expected), "{text}");
    }
    for refused in [
        rustix::fs::fallocate(&outputs[0], rustix::fs::FallocateFlags::empty(), 0, 9 << 20),
        rustix::fs::ftruncate(&outputs[0], 9 << 20),
    ] {
        assert_eq!(refused, Err(Errno::FBIG));
    }
}

/// Writes by io_uring where the kernel can start no threads. On ext4 the kernel cannot begin O_DIRECT writes to
/// fresh space at once. It hands them to threads that it starts for the ring.
pub(super) fn without_ring_threads() {
    let _ = setrlimit(Resource::Nproc, Rlimit { current: Some(0), maximum: Some(0) });
    // RLIMIT_NPROC does not apply to root, so the process changes its user.
    // SAFETY: setuid takes a number and touches no memory.
    let _ = unsafe { libc::setuid(54_321) };
    assert!(std::thread::Builder::new().spawn(|| ()).is_err());
    let path = PathBuf::from(format!("/tmp/hydrant-ring-{}", std::process::id()));
    let expected = pattern(8 << 20, 1);
    let file = output(&path, expected.len() as u64);
    let _ = std::fs::remove_file(&path);
    block_on(IoBackend::Uring, async {
        let io = Io::new(IoBackend::Uring, options(1 << 20, 2)).unwrap();
        let was_direct = file.direct().is_some();
        for (n, piece) in expected.chunks(1 << 20).enumerate() {
            let mut buf = io.buffer().await;
            buf.copy_from_slice(piece);
            io.writer(&file).write(buf, piece.len(), (n as u64) << 20).await.unwrap();
        }
        println!("direct before: {was_direct}, and after: {}", file.direct().is_some());
    })
    .unwrap();
    let mut found = vec![0; expected.len()];
    file.pread_exact(&mut found, 0).unwrap();
    assert!(found == expected);
}

/// Installs a seccomp filter for every thread of this process. From now on each of `calls` ends in `action`, for
/// example an error.
pub(crate) fn filter(calls: &[libc::c_long], action: u32) {
    let rules: Vec<_> = calls.iter().map(|call| (*call, None, action)).collect();
    filter_rules(&rules);
}

/// A call, what it must hold, and the action. A call must hold all bits of a mask in the argument of that number
/// (from 0).
type FilterRule = (libc::c_long, Option<(u32, u32)>, u32);

/// As [`filter`], with rules.
pub(crate) fn filter_rules(rules: &[FilterRule]) {
    let statement = |code: u32, jump: (u8, u8), k: u32| libc::sock_filter {
        code: u16::try_from(code).unwrap(),
        jt: jump.0,
        jf: jump.1,
        k,
    };
    let load = |offset: u32| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, (0, 0), offset);
    let mut filter = Vec::new();
    for (call, argument, action) in rules {
        let number = u32::try_from(*call).unwrap();
        let skipped = if argument.is_some() { 4 } else { 1 };
        filter.push(load(0));
        filter.push(statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, (0, skipped), number));
        if let Some((argument, mask)) = argument {
            // The arguments begin at offset 16. The lower half comes first on little-endian machines.
            filter.push(load(16 + 8 * argument));
            filter.push(statement(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, (0, 0), *mask));
            filter.push(statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, (0, 1), *mask));
        }
        filter.push(statement(libc::BPF_RET | libc::BPF_K, (0, 0), *action));
    }
    filter.push(statement(libc::BPF_RET | libc::BPF_K, (0, 0), libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog { len: u16::try_from(filter.len()).unwrap(), filter: filter.as_mut_ptr() };
    // SAFETY: prctl and seccomp read the program, which lives until the calls have returned.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_TSYNC, &program),
            0
        );
    }
}
