//! Signal handling: SIGHUP, SIGINT and SIGTERM cancel the run. If the run has not ended 1.8 s after the signal,
//! or if a second signal arrives, the process exits.

use crate::cancel::{CancellationToken, Reason};
use crate::cli::ui::failure::Failure;
use crate::error::Class;
use crate::io::signals::is_hangup_ignored;
use crate::process::threads::NoThread;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The process exits 1.8 s after the first signal, even if work is still in flight, because it has to end within 2 s
/// (docs/GUARANTEES.md, 16). An unfinished output does no harm: it either has no name and vanishes with the process,
/// or the next run removes it.
const GRACE: Duration = Duration::from_millis(1_800);
/// Before the handlers are installed, 6 socket pairs (12 file descriptors) are opened and closed, to find out whether
/// the process may open enough descriptors. That is twice what signal handling needs.
const SPARE_SOCKET_PAIRS: usize = 6;

/// Installs handlers for SIGHUP, SIGINT and SIGTERM, and starts a thread that waits for signals until the
/// process ends.
///
/// The first signal cancels `cancel`. A second signal ends the process at once. The thread is separate from the
/// workers, so that a busy or blocked worker does not delay the reaction. If SIGHUP was ignored when the
/// program began (as under `nohup`), it stays ignored. A process that is PID 1 of a container needs handlers in
/// any case: without them, Linux would not deliver these signals to it.
///
/// # Errors
/// The handlers cannot be installed, or the thread cannot be started.
pub fn watch(cancel: &CancellationToken) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::failed(Class::Io, format!("cannot watch for signals: {e}"));
    let cancel = cancel.clone();
    // tokio panics if it cannot open the descriptors that it needs for signals. Opening more than it needs
    // beforehand turns that panic into an error message.
    let spare = (0..SPARE_SOCKET_PAIRS).map(|_| UnixStream::pair()).collect::<Result<Vec<_>, _>>();
    drop(spare.map_err(failed)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    // The handlers are installed before this function returns, so that no later signal is lost.
    let mut signals = {
        let _in_runtime = runtime.enter();
        Signals::install().map_err(failed)?
    };
    let watcher = std::thread::Builder::new().name("signals".to_owned()).stack_size(128 << 10);
    let watching = watcher.spawn(move || {
        runtime.block_on(async {
            let last = last_signal(async || signals.next().await, &cancel, grace()).await;
            std::process::exit(i32::from(last.exit_code()));
        });
    });
    watching.map_err(|e| Failure::failed(Class::Io, NoThread::from(e).to_string()))?;
    Ok(())
}

/// Cancels the run at the first signal. Returns when the process must exit: at the second signal, or
/// `grace` after the first.
async fn last_signal(mut next: impl AsyncFnMut() -> Reason, cancel: &CancellationToken, grace: Duration) -> Reason {
    let first = next().await;
    cancel.cancel(first);
    tokio::time::timeout(grace, next()).await.unwrap_or(first)
}

/// [`GRACE`]. Tests of what a stopped run leaves give it more time: a busy machine may need it.
fn grace() -> Duration {
    #[cfg(feature = "sim")]
    if let Some(seconds) = std::env::var("HYDRANT_TEST_GRACE_SECONDS").ok().and_then(|text| text.parse().ok()) {
        return Duration::from_secs(seconds);
    }
    GRACE
}

/// The signals that end a run.
struct Signals {
    /// The stream of SIGHUP. None if SIGHUP was ignored when the program began (`nohup`), and stays ignored.
    hangup: Option<Signal>,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn install() -> std::io::Result<Self> {
        Ok(Self {
            hangup: if is_hangup_ignored() { None } else { Some(signal(SignalKind::hangup())?) },
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next of the three signals and tells which it was.
    async fn next(&mut self) -> Reason {
        let Self { hangup, interrupt, terminate } = self;
        let hung_up = async {
            match hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(()) = hung_up => Reason::Hangup,
            Some(()) = interrupt.recv() => Reason::Interrupt,
            Some(()) = terminate.recv() => Reason::Terminate,
            // tokio's signal streams never end, so this branch is never taken. The macro needs it.
            else => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use tokio::time::{Instant, sleep};

    /// Signals, each with the time since the one before it. Afterwards none comes.
    async fn exit(signals: &[(u64, Reason)]) -> (Option<Reason>, Reason, Duration) {
        let (cancel, begun) = (CancellationToken::new(), Instant::now());
        let mut signals: VecDeque<_> = signals.iter().copied().collect();
        let next = async || match signals.pop_front() {
            Some((after_ms, reason)) => {
                sleep(Duration::from_millis(after_ms)).await;
                reason
            }
            None => std::future::pending().await,
        };
        let last = last_signal(next, &cancel, GRACE).await;
        (cancel.reason(), last, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_does_not_end_is_ended_after_its_grace() {
        let (cancelled, last, took) = exit(&[(5000, Reason::Terminate)]).await;
        assert_eq!((cancelled, last, took), (Some(Reason::Terminate), Reason::Terminate, Duration::from_millis(6800)));
        assert!(GRACE < Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_ends_the_run_at_once() {
        let (cancelled, last, took) = exit(&[(5000, Reason::Terminate), (700, Reason::Interrupt)]).await;
        assert_eq!((cancelled, last, took), (Some(Reason::Terminate), Reason::Interrupt, Duration::from_millis(5700)));
    }
}
