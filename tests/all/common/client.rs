//! The S3 client with short timeouts, on an async runtime of its own, for tests.

use super::raw::RawServer;
use hydrant::store::s3::{Retries, S3, S3Config, S3Options, StaticCredentials, Timeouts};
use hydrant::store::{Body, Etag, Http, ListPage, ListRequest, Store, StoreError};
use hydrant::telemetry::Counters;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Timeouts and retries for tests. They are short, so that tests are quick, but long enough for a valid answer on a
/// busy machine.
pub(crate) fn options() -> S3Options {
    S3Options {
        timeouts: Timeouts {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(3),
            chunk: Duration::from_secs(3),
            crawl_window: Duration::from_secs(1),
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
