//! Tells systemd what a long-running command does (sd_notify(3)): datagrams to the socket that `NOTIFY_SOCKET` names. If
//! the variable is not set, nothing is sent. Errors are ignored: the command works the same without systemd.
//!
//! A message never waits. If systemd is too busy to take it, it is dropped, but for `READY=1`: [`Systemd::retry`].

use crate::config::Env;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

/// While a command starts, systemd is asked for this much time more, at three times that rate.
const EXTENSION: Duration = Duration::from_secs(60);

/// The connection to systemd.
pub struct Systemd {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How often systemd wants to hear that the command lives. None: it does not watch.
    watchdog: Option<Duration>,
    /// Whether systemd did not take `READY=1`.
    owes_ready: AtomicBool,
}

impl Systemd {
    /// The connection that the environment names.
    pub fn of(env: &Env<'_>) -> Self {
        let address = env("NOTIFY_SOCKET").and_then(|name| match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name).ok(),
            None => SocketAddr::from_pathname(name).ok(),
        });
        let socket = address.and_then(|address| {
            let socket = UnixDatagram::unbound().ok()?;
            socket.set_nonblocking(true).ok()?;
            Some((socket, address))
        });
        let is_meant = env("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let watchdog = env("WATCHDOG_USEC").filter(|_| is_meant && socket.is_some());
        let watchdog = watchdog.and_then(|usec| usec.parse().ok()).filter(|&usec| usec > 0).map(Duration::from_micros);
        Self { socket, watchdog, owes_ready: AtomicBool::new(false) }
    }

    /// How often [`Self::alive`] is to be called: twice as often as systemd wants. None: never.
    pub fn heartbeat(&self) -> Option<Duration> {
        self.watchdog.map(|most| most / 2)
    }

    /// The command does what it is for from now on. `status` is what `systemctl status` shows.
    pub fn ready(&self, status: &str) {
        let is_sent = self.send(&format!("READY=1\nSTATUS={}", one_line(status)));
        self.owes_ready.store(!is_sent, Relaxed);
    }

    /// Says `READY=1` once more, if systemd did not take it. To be called again and again: otherwise systemd would end
    /// the command in the belief that it still starts.
    pub fn retry(&self) {
        if self.owes_ready.load(Relaxed) && self.send("READY=1") {
            self.owes_ready.store(false, Relaxed);
        }
    }

    /// What `systemctl status` shows.
    pub fn status(&self, status: &str) {
        self.send(&format!("STATUS={}", one_line(status)));
    }

    /// The command lives.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// The command ends.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Asks systemd for more time until the value is dropped: starting takes as long as the restore of a database.
    pub fn starting(&self) -> Option<Starting> {
        let (socket, address) = self.socket.as_ref()?;
        let (socket, address) = (socket.try_clone().ok()?, address.clone());
        let message = format!("EXTEND_TIMEOUT_USEC={}", EXTENSION.as_micros());
        let (dropped, is_dropped) = mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("systemd".to_owned()).stack_size(64 << 10).spawn(move || {
            // Ends when the value is dropped.
            loop {
                let _ = socket.send_to_addr(message.as_bytes(), &address);
                if is_dropped.recv_timeout(EXTENSION / 3) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        });
        thread.ok().map(|_| Starting { _dropped: dropped })
    }

    /// Returns false if systemd did not take the message.
    fn send(&self, message: &str) -> bool {
        let Some((socket, address)) = &self.socket else { return true };
        socket.send_to_addr(message.as_bytes(), address).is_ok()
    }
}

/// A command that starts.
pub struct Starting {
    _dropped: Sender<()>,
}

/// A line feed would begin another assignment.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("hydrant-test-{}", std::process::id());
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let by_path = UnixDatagram::bind(&path).unwrap();
        for (socket, named) in [(by_path, path.to_str().unwrap().to_owned()), (by_name, format!("@{name}"))] {
            let env = |variable: &str| match variable {
                "NOTIFY_SOCKET" => Some(named.clone()),
                "WATCHDOG_USEC" => Some("3000000".to_owned()),
                _ => None,
            };
            let systemd = Systemd::of(&env);
            assert_eq!(systemd.heartbeat(), Some(Duration::from_millis(1500)));
            let starting = systemd.starting().unwrap();
            let received = || {
                let mut buffer = [0; 200];
                let len = socket.recv(&mut buffer).unwrap();
                String::from_utf8(buffer[..len].to_vec()).unwrap()
            };
            assert_eq!(received(), "EXTEND_TIMEOUT_USEC=60000000");
            drop(starting);
            systemd.ready("txid 1\nREADY=0");
            systemd.alive();
            systemd.stopping();
            assert_eq!(received(), "READY=1\nSTATUS=txid 1 READY=0");
            assert_eq!([received(), received()], ["WATCHDOG=1", "STOPPING=1"]);
        }
    }

    #[test]
    fn a_systemd_that_takes_nothing_holds_nobody_up_and_hears_later_that_it_is_ready() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let path = path.to_str().unwrap().to_owned();
        let systemd = Systemd::of(&|variable| (variable == "NOTIFY_SOCKET").then(|| path.clone()));
        let mut buffer = [0; 200];
        // The kernel keeps a few hundred messages at most.
        let kept = (0..100_000).take_while(|_| systemd.send("STATUS=full")).count();
        assert!(kept < 100_000);
        systemd.ready("at txid 1");
        systemd.alive();
        systemd.retry();
        let mut received = || socket.recv(&mut buffer).map(|len| String::from_utf8_lossy(&buffer[..len]).into_owned());
        for _ in 0..kept {
            assert_eq!(received().unwrap(), "STATUS=full");
        }
        assert!(received().is_err());
        systemd.retry();
        systemd.retry();
        assert_eq!(received().unwrap(), "READY=1");
        assert!(received().is_err());
        systemd.ready("at txid 1");
        systemd.retry();
        assert_eq!(received().unwrap(), "READY=1\nSTATUS=at txid 1");
        assert!(received().is_err());
    }

    #[test]
    fn without_systemd_nothing_is_sent() {
        let systemd = Systemd::of(&|_| None);
        systemd.ready("");
        assert!(systemd.starting().is_none() && systemd.heartbeat().is_none());
        let other = |name: &str| (name != "NOTIFY_SOCKET").then(|| "1".to_owned());
        assert_eq!(Systemd::of(&other).heartbeat(), None);
    }
}
