//! The S3 client with short timeouts, on an async runtime of its own, for tests.

use super::raw::RawServer;
use super::wait::AT_MOST;
use hydrant::store::s3::{Retries, S3, S3Config, S3Options, StaticCredentials, Timeouts};
use hydrant::store::{Body, Etag, Http, ListPage, ListRequest, Store, StoreError};
use hydrant::telemetry::Counters;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Runs `future` on a runtime whose clock stands still. Only [`pass_until`] and
/// `tokio::time::advance` move it, so no time-out strikes by itself, however busy the machine is.
pub(crate) fn run_frozen<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        // A runtime without work moves a paused clock to its next timer, unless a blocking task runs.
        let (ended, until_ended) = std::sync::mpsc::channel::<()>();
        let blocking = tokio::task::spawn_blocking(move || until_ended.recv().is_ok());
        let result = future.await;
        drop(ended);
        assert!(!blocking.await.unwrap());
        result
    })
}

/// Moves the clock of [`run_frozen`] by `step` after `step` until `condition` holds. A step of zero
/// only waits for the condition.
pub(crate) async fn pass_until(step: Duration, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < AT_MOST, "the condition never held");
        tokio::time::advance(step).await;
        // Leaves the processor to the server's threads.
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Longer than any test, also by the clock of [`run_frozen`]: a year.
pub(crate) const NEVER: Duration = Duration::from_secs(31_536_000);

/// No time-out strikes, however busy the machine is. Pauses are short, so that tests are quick.
pub(crate) fn options() -> S3Options {
    S3Options {
        timeouts: Timeouts {
            connect: NEVER,
            first_byte: NEVER,
            chunk: NEVER,
            crawl_window: NEVER,
            start: Duration::ZERO,
            stall: NEVER,
        },
        retries: Retries { base: Duration::from_millis(4), cap: Duration::from_millis(40), ..Retries::default() },
        ..S3Options::default()
    }
}

pub(crate) fn config(endpoint: &str) -> S3Config {
    S3Config {
        bucket: "bucket".into(),
        region: Some("us-east-1".into()),
        endpoint: Some(endpoint.into()),
        path_style: true,
        credentials: Some(StaticCredentials {
            access_key_id: "AKID".into(),
            secret_access_key: "canary-secret-key".into(),
            session_token: Some("canary-session-token".into()),
        }),
        ..S3Config::default()
    }
}

pub(crate) struct Client {
    pub store: Store,
    pub counters: Arc<Counters>,
}

impl Client {
    pub(crate) fn new(config: S3Config, options: &S3Options) -> Self {
        let counters = Arc::new(Counters::default());
        Self { store: Store::S3(Arc::new(S3::new(config, options, Arc::clone(&counters)))), counters }
    }

    pub(crate) fn of(server: &RawServer) -> Self {
        Self::new(config(&server.endpoint()), &options())
    }

    pub(crate) async fn read(
        &self,
        key: &str,
        range: Range<u64>,
        if_match: Option<&Etag>,
    ) -> Result<Vec<u8>, StoreError> {
        let http = Http::default();
        let mut body = self.store.get(&http, key, range, if_match).await?;
        collect(&mut body).await
    }

    /// Requests, except hedges: a busy machine hedges answers that are late only because of it.
    pub(crate) fn gets_without_hedges(&self) -> u64 {
        self.counters.gets.get() - self.counters.hedges.get()
    }

    pub(crate) fn read_now(&self, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        run(self.read("key", range, None))
    }

    pub(crate) fn list_now(&self, request: &ListRequest) -> Result<ListPage, StoreError> {
        run(self.store.list_page(&Http::default(), request))
    }
}

pub(crate) async fn collect(body: &mut Body) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.chunk().await? {
        assert!(!chunk.is_empty());
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

pub(crate) fn object(len: usize) -> Arc<Vec<u8>> {
    Arc::new((0..len).map(|i| (i * 7 % 251) as u8).collect())
}
