//! SIGINT and SIGTERM → [`Cancel`]; where winding down takes too long, the end of the process.

use crate::cancel::{Cancel, Reason};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How long after the signal the process may still live (PROMISES 16: it ends within 2 s).
/// An unpublished file that is still there then has no name, or is swept by the next run.
const GRACE: Duration = Duration::from_millis(1_800);
/// Twice as many descriptors as the watch takes.
const SPARE_SOCKET_PAIRS: usize = 6;

/// Watches from a thread of its own until the process ends, so that a busy or blocked runtime
/// hears of it too. A second signal ends the process at once. Handlers are also what makes
/// signals work as PID 1.
///
/// # Errors
/// The handlers cannot be installed, or the thread not started.
pub fn watch(cancel: &Cancel) -> std::io::Result<()> {
    let cancel = cancel.clone();
    // tokio panics where it cannot have these: out of descriptors is to be an error.
    let spare = (0..SPARE_SOCKET_PAIRS).map(|_| UnixStream::pair()).collect::<Result<Vec<_>, _>>()?;
    drop(spare);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _in_runtime = runtime.enter();
    // Installed before this returns: a signal from now on is not lost.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    drop(_in_runtime);
    let watcher = std::thread::Builder::new().name("signals".to_owned()).stack_size(128 << 10);
    watcher.spawn(move || {
        runtime.block_on(async {
            let mut next = async || {
                tokio::select! {
                    Some(()) = interrupt.recv() => Reason::Interrupt,
                    Some(()) = terminate.recv() => Reason::Terminate,
                }
            };
            let first = next().await;
            cancel.cancel(first);
            let last = tokio::time::timeout(GRACE, next()).await.unwrap_or(first);
            std::process::exit(i32::from(last.exit_code()));
        });
    })?;
    Ok(())
}
