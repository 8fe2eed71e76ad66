//! What events about requests need, below all that writes them.

use http::{HeaderMap, StatusCode};
use std::time::Duration;

/// The target of these events.
pub(super) const TARGET: &str = "hydrant::s3";

/// What the log shows of one request besides its operation.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SentRequest {
    /// Its number in this process. 0: requests are not logged, or none was sent.
    pub(super) number: u64,
    pub(super) status: Option<StatusCode>,
    /// The time until the headers of the response, or until the request failed.
    pub(super) latency: Duration,
}

impl SentRequest {
    /// None: requests are not logged, or none was sent.
    pub(super) fn number(&self) -> Option<u64> {
        (self.number > 0).then_some(self.number)
    }

    pub(super) fn status_code(&self) -> Option<u16> {
        self.status.map(|status| status.as_u16())
    }
}

/// Milliseconds, with one decimal.
pub(super) fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e4).round() / 10.0
}

/// S3's id of a request, for its support.
pub(super) fn request_id(headers: &HeaderMap) -> Option<&str> {
    headers.get("x-amz-request-id").and_then(|value| value.to_str().ok())
}

/// Logs that the allowed requests per second changed, of the bucket or of one prefix in it. None: no
/// limit.
pub(super) fn log_rate_change(prefix: Option<&str>, before: Option<f64>, now: Option<f64>) {
    if before != now {
        let (before, now) = (before.map(f64::round), now.map(f64::round));
        tracing::debug!(target: TARGET, prefix, before, now, "requests per second: the limit changed");
    }
}
