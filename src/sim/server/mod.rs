//! An S3 server that runs in this process, for tests. It supports ListObjectsV2, ListObjectVersions, GET with
//! ranges, conditions and version ids, and HEAD. It also supports the parts of PUT, DELETE and bucket requests that other clients need to fill it. It
//! can check signatures, and it misbehaves as [`Faults`] demands. Objects exist only as long as the server.
//!
//! The server shares the machine with the client that is tested, so a GET must cost little CPU time. Bodies are
//! slices of memory, and random numbers are drawn only if a fault needs them.

mod auth;
mod body;
mod faults;
mod folder;
mod handle;
mod list;
mod objects;
mod options;
mod shared;
mod stats;
mod stream;
#[cfg(test)]
mod tests;
mod text;
mod upload;
mod version_pages;
mod versions;

pub use folder::{FolderWriter, SIDECAR, write_folder, write_v3_folder};
pub use objects::{CHUNK_BYTES, Content, Generator, Object, Objects};
pub use options::{
    Failure, Faults, Latency, Outcome, Quirk, RateLimit, RequestKind, SimCredentials, SimOptions, Tail, VersionListings,
};
pub use stats::Stats;
pub use versions::{VersionEntry, Versions};

use shared::Shared;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// The limit on connections that wait until their thread accepts them.
const WAITING_CONNECTIONS: usize = 1024;

/// A running server. Dropping it stops the server and ends its connections.
#[derive(Debug)]
pub struct SimServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl SimServer {
    /// Opens the listening socket and starts the threads that serve.
    pub fn start(options: SimOptions) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen)?;
        // The congestion control algorithm is set to CUBIC, the default of Linux. Another default such as BBR uses
        // timers for pacing, which would take CPU time from the clients on the same machine. Accepted connections
        // inherit the setting.
        let _ = rustix::net::sockopt::set_tcp_congestion(&listener, "cubic");
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let objects = Objects::default();
        let shared = Arc::new(Shared {
            seed: options.seed,
            credentials: options.credentials,
            region: options.region,
            virtual_host_domain: options.virtual_host_domain,
            max_keys: options.max_keys,
            unsorted_listings: options.unsorted_listings,
            listed_etags: options.listed_etags,
            version_listings: options.version_listings,
            versions: Versions::of(objects.clone()),
            objects,
            faults: faults::FaultState::new(options.seed, options.faults),
            counters: stats::Counters::default(),
            next_request: AtomicU64::new(0),
        });
        let (stop, stopped) = watch::channel(false);
        let mut server = Self { address, shared, stop, threads: Vec::new() };
        let mut others = Vec::new();
        for number in 1..options.threads.max(1) {
            let (sender, receiver) = mpsc::channel(WAITING_CONNECTIONS);
            others.push(sender);
            let shared = Arc::clone(&server.shared);
            server.spawn(number, stopped.clone(), move || serve_received(shared, receiver))?;
        }
        let shared = Arc::clone(&server.shared);
        server.spawn(0, stopped, move || accept(shared, listener, others))?;
        Ok(server)
    }

    fn spawn<F, T>(&mut self, number: usize, mut stopped: watch::Receiver<bool>, serve: F) -> io::Result<()>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Future<Output = ()>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name(format!("s3sim-{number}")).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped.wait_for(|stopped| *stopped) => {}
                    () = serve() => {}
                }
            });
        })?;
        self.threads.push(thread);
        Ok(())
    }

    /// The URL of the server, `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The address that the server listens on, with the port that was chosen.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The buckets and objects. They may be changed while the server runs.
    pub fn objects(&self) -> &Objects {
        &self.shared.objects
    }

    /// The versions of the objects. They may be changed while the server runs.
    pub fn versions(&self) -> &Versions {
        &self.shared.versions
    }

    /// The present values of the simulator's counters.
    pub fn stats(&self) -> Stats {
        self.shared.counters.snapshot()
    }

    /// Replaces the faults, beginning with the next request.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.faults.set(faults);
    }

    /// The faults that the simulator applies at present.
    pub fn faults(&self) -> Faults {
        (*self.shared.faults.current()).clone()
    }

    /// Makes the next requests of kind `kind` for exactly this key (for a LIST: this prefix) fail in this order. A
    /// `None` lets one request succeed. Scripted failures have precedence over random ones.
    pub fn script(&self, kind: RequestKind, key: &str, failures: impl IntoIterator<Item = Option<Failure>>) {
        self.shared.faults.script(kind, key, failures);
    }

    /// The next `count` requests of this kind are answered. Those after them wait for the next call.
    /// None: all are answered.
    pub fn answer_only(&self, kind: RequestKind, count: Option<u64>) {
        self.shared.faults.answer_only(kind, count);
    }
}

impl Drop for SimServer {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Accepts connections and gives them to the threads in turn. This thread is one of them.
async fn accept(shared: Arc<Shared>, listener: TcpListener, others: Vec<mpsc::Sender<TcpStream>>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let mut turn = 0;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                // The most likely error is that the process has no free file descriptor. Waiting gives connections
                // the time to end.
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        match others.get(turn) {
            Some(other) => {
                turn += 1;
                if let Ok(stream) = stream.into_std() {
                    let _ = other.send(stream).await;
                }
            }
            None => {
                turn = 0;
                tokio::spawn(stream::serve(Arc::clone(&shared), stream));
            }
        }
    }
}

async fn serve_received(shared: Arc<Shared>, mut receiver: mpsc::Receiver<TcpStream>) {
    while let Some(stream) = receiver.recv().await {
        if let Ok(stream) = tokio::net::TcpStream::from_std(stream) {
            tokio::spawn(stream::serve(Arc::clone(&shared), stream));
        }
    }
}
