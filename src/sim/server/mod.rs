//! An S3 server in this process: ListObjectsV2, GET with ranges and conditions, HEAD, and as
//! much of PUT, DELETE and buckets as other clients need to fill it. It can check signatures,
//! and misbehave as [`Faults`] says. It is no store: objects live as long as the server.
//!
//! It shares the machine with the client under test, so a GET costs little: bodies are slices of
//! what lies in memory, and nothing random is drawn where no fault asks for it.

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

pub use folder::{FolderWriter, SIDECAR, write_folder};
pub use objects::{CHUNK_BYTES, Content, Generator, Object, Objects};
pub use options::{Failure, Faults, Latency, Outcome, RateLimit, RequestKind, SimCredentials, SimOptions, Tail};
pub use stats::Stats;

use shared::Shared;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Connections that wait to be taken by their thread.
const WAITING_CONNECTIONS: usize = 1024;

/// A running server. Stops when dropped, its connections with it.
#[derive(Debug)]
pub struct SimServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl SimServer {
    /// Binds and serves.
    pub fn start(options: SimOptions) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen)?;
        // Linux's default, whatever this machine's is: one that paces (BBR) does so by timers,
        // which on loopback take their time from the clients. Its connections inherit it.
        let _ = rustix::net::sockopt::set_tcp_congestion(&listener, "cubic");
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            seed: options.seed,
            credentials: options.credentials,
            region: options.region,
            virtual_host_domain: options.virtual_host_domain,
            max_keys: options.max_keys,
            unsorted_listings: options.unsorted_listings,
            listed_etags: options.listed_etags,
            objects: Objects::default(),
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

    /// `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The buckets: add, change and remove while it runs.
    pub fn objects(&self) -> &Objects {
        &self.shared.objects
    }

    pub fn stats(&self) -> Stats {
        self.shared.counters.snapshot()
    }

    /// From the next request on.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.faults.set(faults);
    }

    pub fn faults(&self) -> Faults {
        (*self.shared.faults.current()).clone()
    }

    /// The next requests for exactly this key (a listing's prefix) fail so, one after another;
    /// None lets one through. Comes before all random faults.
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

/// Accepts connections and deals them out in turn, itself included.
async fn accept(shared: Arc<Shared>, listener: TcpListener, others: Vec<mpsc::Sender<TcpStream>>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let mut turn = 0;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                // Out of descriptors, most likely: some will come back.
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
