//! A successful response whose body has not been read yet.

use super::S3;
use super::classify::RequestError;
use super::limiter::Permit;
use super::options::Timeouts;
use super::request_log::SentRequest;
use super::retry::RetryState;
use bytes::Bytes;
use http::HeaderMap;
use std::time::Duration;
use tokio::time::Instant;

/// A successful response whose body has not been read yet. It holds a permit of the request limiter until it is
/// dropped.
pub(super) struct Answer {
    pub(super) response: reqwest::Response,
    _permit: Permit,
    pub(super) sent: SentRequest,
    /// Time spent waiting for headers and body. Time between two calls of [`Answer::chunk`] is not included.
    pub(super) waited: Duration,
    crawl: StalledStreamProtection,
}

/// Measures how fast a body arrives while the reader waits for it. Time in which the reader does something else
/// is not included.
#[derive(Default)]
struct StalledStreamProtection {
    waited: Duration,
    bytes: u64,
}

impl StalledStreamProtection {
    fn is_too_slow(&mut self, waited: Duration, bytes: u64, window: Duration) -> bool {
        self.waited += waited;
        self.bytes += bytes;
        if self.waited < window {
            return false;
        }
        let slow = (self.bytes as f64) < Timeouts::MIN_BYTES_PER_SECOND as f64 * self.waited.as_secs_f64();
        *self = Self::default();
        slow
    }
}

/// Next part of a response's body, or its end.
pub(super) enum Chunk {
    /// The next bytes of the body, which arrived fast enough.
    Bytes(Bytes),
    /// The next bytes of the body. The connection is so slow that the response should be dropped.
    Slow(Bytes),
    End,
}

impl Answer {
    pub(super) fn new(response: reqwest::Response, permit: Permit, sent: SentRequest) -> Self {
        Self { response, _permit: permit, sent, waited: sent.latency, crawl: StalledStreamProtection::default() }
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The next bytes of the body, or an error after [`Timeouts::chunk`], or when the operation's time without
    /// progress is over. `window`: see [`Timeouts::crawl_window`].
    pub(super) async fn chunk(
        &mut self,
        s3: &S3,
        window: Duration,
        tries: &mut RetryState,
    ) -> Result<Chunk, RequestError> {
        let begun = Instant::now();
        let most = s3.timeouts.chunk.min(s3.patience(tries));
        let chunk = tokio::time::timeout(most, self.response.chunk()).await;
        let waited = begun.elapsed();
        self.waited += waited;
        tries.stalled += waited;
        let chunk = chunk
            .map_err(|_| RequestError::timeout("the body came to a halt", most))?
            .map_err(RequestError::transport)?;
        let Some(bytes) = chunk else { return Ok(Chunk::End) };
        let len = bytes.len() as u64;
        s3.note_progress();
        s3.counters.bytes_in.add(len);
        s3.limiter.received(len);
        s3.byte_rate.take(len).await;
        let slow = self.crawl.is_too_slow(waited, len, window);
        Ok(if slow { Chunk::Slow(bytes) } else { Chunk::Bytes(bytes) })
    }
}
