//! Types and functions that the log events about requests share. This file depends on none of the files that
//! write events.

use http::{HeaderMap, StatusCode};
use std::time::Duration;

/// The `tracing` target of events about requests.
pub(super) const TARGET: &str = "hydrant::s3";

/// What the log shows about one request in addition to its operation.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SentRequest {
    /// Number of the request in this process. 0: requests are not logged, or none was sent.
    pub(super) number: u64,
    pub(super) status: Option<StatusCode>,
    /// Time until the headers of the response arrived, or until the request failed.
    pub(super) latency: Duration,
}

impl SentRequest {
    /// Number of the request. None: requests are not logged, or none was sent.
    pub(super) fn number(&self) -> Option<u64> {
        (self.number > 0).then_some(self.number)
    }

    pub(super) fn status_code(&self) -> Option<u16> {
        self.status.map(|status| status.as_u16())
    }
}

/// Returns a duration in milliseconds, rounded to one decimal.
pub(super) fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e4).round() / 10.0
}

/// Returns the id that S3 gave the request (`x-amz-request-id`), which AWS's support asks for.
pub(super) fn request_id(headers: &HeaderMap) -> Option<&str> {
    headers.get("x-amz-request-id").and_then(|value| value.to_str().ok())
}

/// Logs that the limit of requests per second changed for the bucket, or for the prefix `prefix` in it. None as
/// the limit means no limit.
pub(super) fn log_rate_change(prefix: Option<&str>, before: Option<f64>, now: Option<f64>) {
    if before != now {
        let (before, now) = (before.map(f64::round), now.map(f64::round));
        tracing::debug!(target: TARGET, prefix, before, now, "requests per second: the limit changed");
    }
}
