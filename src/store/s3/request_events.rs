//! Log events about S3 requests, for `-v` and `-vv` (docs/LOGGING.md, "hydrant::s3").
//!
//! No event shows what is signed: no URL, no request header, no query string. Texts from a server are shown
//! without the secrets in use, because a server may repeat what was sent to it.

use super::classify::RequestError;
use super::request_log::{SentRequest, TARGET, ms, request_id};
use super::retry::RetryState;
use super::send::Operation;
use super::{DEFAULT_REGION, S3};
use http::HeaderMap;
use http::header::RANGE;
use std::time::Duration;
use tracing::Level;

impl Operation<'_> {
    /// Name of the operation: GET, HEAD or LIST.
    pub(super) fn name(&self) -> &str {
        if self.key.is_some() { self.method.as_str() } else { "LIST" }
    }

    /// The bytes asked for, `first-last`.
    pub(super) fn range(&self) -> Option<&str> {
        self.headers.get(RANGE)?.to_str().ok()?.strip_prefix("bytes=")
    }

    pub(super) fn prefix(&self) -> Option<&str> {
        self.listed.map(|listed| listed.prefix.as_str())
    }

    /// Whether a listing continues after an earlier page. None if the operation is no listing.
    fn is_continued(&self) -> Option<bool> {
        self.listed.map(|listed| listed.continuation.is_some())
    }
}

impl S3 {
    /// Returns the number of the next request in the log. Returns 0 if requests are not logged.
    pub(super) fn next_number(&self) -> u64 {
        if tracing::enabled!(target: TARGET, Level::DEBUG) { self.counters.request_numbers.next() } else { 0 }
    }

    pub(super) fn log_sent(&self, operation: &Operation<'_>, number: u64, attempt: u32, hedge_of: Option<u64>) {
        tracing::trace!(
            target: TARGET,
            request = number,
            op = operation.name(),
            bucket = self.config.bucket,
            key = operation.key,
            prefix = operation.prefix(),
            continued = operation.is_continued(),
            range = operation.range(),
            attempt,
            hedge_of,
            "request"
        );
    }

    pub(super) fn log_answer(&self, operation: &Operation<'_>, sent: &SentRequest, attempt: u32, headers: &HeaderMap) {
        tracing::trace!(
            target: TARGET,
            request = sent.number,
            op = operation.name(),
            bucket = self.config.bucket,
            key = operation.key,
            prefix = operation.prefix(),
            range = operation.range(),
            attempt,
            status = sent.status_code(),
            request_id = request_id(headers).map(|id| self.redacted(id.to_owned())),
            latency_ms = ms(sent.latency),
            "answer"
        );
    }

    /// Logs that a request is late and that `hedge` was sent in addition, for the same bytes.
    pub(super) fn log_hedge(&self, operation: &Operation<'_>, late: u64, hedge: u64, after: Duration) {
        tracing::debug!(
            target: TARGET,
            request = late,
            op = operation.name(),
            bucket = self.config.bucket,
            key = operation.key,
            prefix = operation.prefix(),
            range = operation.range(),
            latency_ms = ms(after),
            hedge,
            cure = "sent once more on another connection",
            "request is late"
        );
    }

    /// Logs which of a late request and its hedge gave the answer that was used.
    pub(super) fn log_hedge_ended(&self, operation: &Operation<'_>, request: u64, is_hedge: bool) {
        tracing::debug!(
            target: TARGET,
            request,
            op = operation.name(),
            bucket = self.config.bucket,
            key = operation.key,
            is_hedge,
            "first good answer to a late request"
        );
    }

    /// Logs that an attempt failed. `cure` describes what is done next. None: nothing can help, and the
    /// operation fails.
    pub(super) fn log_failed(
        &self,
        trouble: &RequestError,
        operation: &Operation<'_>,
        tries: &RetryState,
        cure: Option<&str>,
    ) {
        if !tracing::enabled!(target: TARGET, Level::DEBUG) {
            return;
        }
        let shown = |text: &String| self.redacted(text.clone());
        tracing::debug!(
            target: TARGET,
            request = trouble.sent.number(),
            op = operation.name(),
            bucket = self.config.bucket,
            host = self.host(),
            key = operation.key,
            prefix = operation.prefix(),
            range = operation.range(),
            attempt = tries.sent,
            status = trouble.sent.status_code(),
            request_id = trouble.error.request_id.as_ref().map(shown),
            latency_ms = trouble.sent.number().map(|_| ms(trouble.sent.latency)),
            error = shown(&trouble.error.detail),
            cure = cure.unwrap_or("none, the operation fails"),
            "request failed"
        );
    }

    /// Returns a server's text without the secrets in use, because a server may repeat what was sent to it.
    fn redacted(&self, mut text: String) -> String {
        self.redact(&mut text);
        text
    }

    /// Returns the host and port that requests are sent to.
    fn host(&self) -> Option<String> {
        let region = self.known_region();
        let address = self.endpoint.as_ref().ok()?.address(region.as_deref().unwrap_or(DEFAULT_REGION), None, "")?;
        Some(format!("{}:{}", address.sent.host_str()?, address.sent.port_or_known_default()?))
    }
}
