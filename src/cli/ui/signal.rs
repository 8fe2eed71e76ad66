//! SIGHUP, SIGINT and SIGTERM → [`Cancel`]; where winding down takes too long, the end of the
//! process.

use crate::cancel::{CancellationToken, Reason};
use crate::cli::ui::failure::Failure;
use crate::error::Class;
use crate::io::signals::is_hangup_ignored;
use crate::process::threads::NoThread;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long after the signal the process may still live (PROMISES 16: it ends within 2 s).
/// An unpublished file that is still there then has no name, or is swept by the next run.
const GRACE: Duration = Duration::from_millis(1_800);
/// Twice as many descriptors as the watch takes.
const SPARE_SOCKET_PAIRS: usize = 6;

/// Watches from a thread of its own until the process ends, so that a busy or blocked runtime
/// hears of it too. A second signal ends the process at once. Handlers are also what makes
/// signals work as PID 1. SIGHUP stays ignored where it was when the program began (`nohup`).
///
/// # Errors
/// The handlers cannot be installed, or the thread not started.
pub fn watch(cancel: &CancellationToken) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::failed(Class::Io, format!("cannot watch for signals: {e}"));
    let cancel = cancel.clone();
    // tokio panics where it cannot have these: out of descriptors is to be an error.
    let spare = (0..SPARE_SOCKET_PAIRS).map(|_| UnixStream::pair()).collect::<Result<Vec<_>, _>>();
    drop(spare.map_err(failed)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    // Installed before this returns: a signal from now on is not lost.
    let mut signals = {
        let _in_runtime = runtime.enter();
        Signals::install().map_err(failed)?
    };
    let watcher = std::thread::Builder::new().name("signals".to_owned()).stack_size(128 << 10);
    let watching = watcher.spawn(move || {
        runtime.block_on(async {
            let first = signals.next().await;
            cancel.cancel(first);
            let last = tokio::time::timeout(GRACE, signals.next()).await.unwrap_or(first);
            std::process::exit(i32::from(last.exit_code()));
        });
    });
    watching.map_err(|e| Failure::failed(Class::Io, NoThread::from(e).to_string()))?;
    Ok(())
}

/// The signals that end a run.
struct Signals {
    /// None: ignored.
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
            // Signals never end, so neither do their streams.
            else => std::future::pending().await,
        }
    }
}
