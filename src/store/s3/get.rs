//! GET of a byte range. If the connection breaks, the rest is requested from the exact offset until all bytes
//! have arrived.
//!
//! Invariant: each returned byte is the one at offset `position` of one version of the object, the version with
//! the entity tag of the first response. If a response's headers contradict the request, none of its body is
//! returned.

use super::super::{Etag, StoreError, StoreErrorKind};
use super::foreign::compression;
use super::head::{compared_etag, etag, litestream_timestamp};
use super::request_log::{TARGET, ms};
use super::response::{Answer, Chunk};
use super::retry::{PROGRESS_BYTES, RetryState};
use super::send::Operation;
use super::version::{of_version, version_query};
use super::{Http, S3};
use crate::store::s3::classify::{RequestError, RetryAction};
use crate::telemetry::{Spent, Stage};
use crate::timestamp::Timestamp;
use bytes::{Buf, Bytes};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, IF_MATCH, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// If a server ignores the requested range, at most this many bytes before the range are read and discarded.
const MAX_SKIP_BYTES: u64 = 1 << 20;
/// The crawl window grows up to this many times its first length.
const MAX_PATIENCE: u32 = 8;

/// The end of a range whose object is of unknown size. The first response tells the size.
const UNKNOWN_END: u64 = u64::MAX;

/// Body of a GET: a stream of exactly the requested bytes.
pub struct S3Body {
    s3: Arc<S3>,
    client: reqwest::Client,
    key: String,
    /// The query string that names a version. Empty: the newest.
    version: String,
    /// Where the range begins. `position` is the next byte of it.
    begin: u64,
    position: u64,
    end: u64,
    /// Entity tag that every response must have: the caller's, else that of the first response.
    if_match: Option<Etag>,
    /// Why a request with If-Match was refused. It is sent once more without: the answer's tag tells whether the object
    /// has changed.
    refusal: Option<StoreError>,
    etag: Option<Etag>,
    /// The object's size by the first response.
    size: Option<u64>,
    litestream_timestamp: Option<Timestamp>,
    answer: Option<Answer>,
    /// Number of bytes that are still to be discarded from the current response, because the server ignored the
    /// range and began at offset 0.
    skip: u64,
    /// Offset in the object at which the current response began.
    resumed_at: u64,
    crawl_window: Duration,
    /// Whether the current response is too slow. It is then dropped before more of it is read.
    crawled: bool,
    tries: RetryState,
    spent: Spent,
}

impl S3 {
    /// Starts to read the byte range `range` of the object `key`. Waits for the first response's headers. An
    /// empty range sends no request. With `version_id` that version is read, else the newest.
    ///
    /// # Errors
    /// [`StoreError`] after all retries. With `if_match`, [`StoreErrorKind::PreconditionFailed`] if the
    /// object's entity tag differs.
    pub async fn get(
        self: &Arc<Self>,
        http: &Http,
        key: &str,
        range: Range<u64>,
        if_match: Option<&Etag>,
        version_id: Option<&str>,
    ) -> Result<S3Body, StoreError> {
        let mut body = S3Body {
            s3: Arc::clone(self),
            client: self.client(http)?,
            key: key.to_owned(),
            version: version_id.map(version_query).unwrap_or_default(),
            begin: range.start,
            position: range.start,
            end: range.end.max(range.start),
            if_match: if_match.cloned(),
            refusal: None,
            etag: None,
            size: None,
            litestream_timestamp: None,
            answer: None,
            skip: 0,
            resumed_at: range.start,
            crawl_window: self.timeouts.crawl_window,
            crawled: false,
            tries: RetryState::default(),
            spent: Spent::new(http.recorder(), Stage::Fetch),
        };
        if body.position < body.end {
            body.open().await?;
        }
        Ok(body)
    }

    /// Starts to read the whole object `key`, whose size is not known. The body knows it ([`S3Body::size`]).
    ///
    /// # Errors
    /// [`StoreError`] after all retries. [`StoreErrorKind::NotFound`] if there is no such object,
    /// [`StoreErrorKind::SizeDiffers`] if it is empty.
    pub async fn get_whole(self: &Arc<Self>, http: &Http, key: &str) -> Result<S3Body, StoreError> {
        self.get(http, key, 0..UNKNOWN_END, None, None).await
    }
}

impl S3Body {
    /// Returns the next bytes as they arrive. Returns None at the end of the range.
    ///
    /// # Errors
    /// [`StoreError`] if the rest cannot be fetched, after all retries.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        // This loop ends: each turn returns bytes or is a failure, which `prepare_retry` counts. Progress
        // resets that count, but the range is finite.
        while self.position < self.end {
            if std::mem::take(&mut self.crawled) {
                // A new connection may be equally slow, so the time that is allowed for slow bodies doubles.
                let patience = self.s3.timeouts.crawl_window.saturating_mul(MAX_PATIENCE);
                let error = RequestError::timeout("the body came at a crawl", self.crawl_window);
                self.crawl_window = self.crawl_window.saturating_mul(2).min(patience);
                self.interrupted(error).await?;
            }
            let Some(answer) = &mut self.answer else {
                self.open().await?;
                continue;
            };
            let piece = answer.chunk(&self.s3, self.crawl_window, &mut self.tries).await;
            let (bytes, slow) = match piece {
                Ok(Chunk::Bytes(bytes)) => (bytes, false),
                Ok(Chunk::Slow(bytes)) => (bytes, true),
                Ok(Chunk::End) => {
                    let detail = format!("the body ended at {} instead of {}", self.position, self.end);
                    self.interrupted(RequestError::new(StoreErrorKind::Network, detail, RetryAction::Again)).await?;
                    continue;
                }
                Err(error) => {
                    self.interrupted(error).await?;
                    continue;
                }
            };
            let bytes = self.take(bytes);
            self.crawled = slow;
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// The offset at which the range ends. For a whole object, its size.
    pub fn size(&self) -> u64 {
        self.end
    }

    /// Entity tag of the first response. None if it has none that can be used in If-Match.
    pub fn etag(&self) -> Option<&Etag> {
        self.etag.as_ref()
    }

    /// Creation time of the LTX file, from the header `x-amz-meta-litestream-timestamp` of the first response.
    pub fn litestream_timestamp(&self) -> Option<Timestamp> {
        self.litestream_timestamp
    }

    /// Returns the part of `bytes` that lies in the range. After the last byte the response is dropped, which
    /// releases its connection and the limiter's permit.
    fn take(&mut self, mut bytes: Bytes) -> Bytes {
        let len = bytes.len() as u64;
        let skipped = self.skip.min(len);
        self.skip -= skipped;
        bytes.advance(usize::try_from(skipped).unwrap_or(bytes.len()));
        let left = self.end - self.position;
        bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        self.position += bytes.len() as u64;
        self.tries.took(bytes.len() as u64, self.position == self.end);
        if self.position == self.end
            && let Some(answer) = self.answer.take()
        {
            tracing::trace!(
                target: TARGET,
                request = answer.sent.number,
                key = self.key,
                bytes = self.end - self.resumed_at,
                waited_ms = ms(answer.waited),
                "body"
            );
            self.spent.add(answer.waited);
            self.spent.done();
        }
        bytes
    }

    async fn interrupted(&mut self, mut error: RequestError) -> Result<(), StoreError> {
        if let Some(answer) = self.answer.take() {
            self.spent.add(answer.waited);
            error.sent = answer.sent;
        }
        if self.position - self.resumed_at >= PROGRESS_BYTES {
            self.tries.progressed();
        }
        let operation = operation(&self.key, &self.version, self.headers());
        self.s3.prepare_retry(error, &operation, &mut self.tries).await
    }

    /// Requests the missing bytes, again and again, until a response fits the request or the retries are used
    /// up.
    async fn open(&mut self) -> Result<(), StoreError> {
        // This loop ends: `send` and `prepare_retry` count the attempts and return an error after the last one.
        loop {
            let operation = operation(&self.key, &self.version, self.headers());
            let answer = match self.s3.send(&self.client, &operation, &mut self.tries).await {
                Err(error) if operation.headers.contains_key(IF_MATCH) && is_refusal(&error) => {
                    self.refusal = Some(error);
                    continue;
                }
                Err(error) if !self.version.is_empty() => return Err(of_version(error)),
                answer => answer?,
            };
            self.resumed_at = self.position;
            let end = self.end_by(&answer);
            self.end = *end.as_ref().unwrap_or(&self.end);
            match end.and_then(|_| self.check(&answer)) {
                Ok(skip) => {
                    self.skip = skip;
                    if let Some(refusal) = self.refusal.take() {
                        self.s3.go_without_if_match(&self.key, &refusal);
                    }
                    self.size = self.size.or(object_size(answer.headers()));
                    if self.etag.is_none() {
                        self.etag = etag(answer.headers());
                        self.litestream_timestamp = litestream_timestamp(answer.headers());
                    }
                    if self.if_match.is_none() {
                        self.if_match.clone_from(&self.etag);
                    }
                    self.spent.recorder().record(Stage::FirstByte, answer.sent.latency);
                    self.answer = Some(answer);
                    return Ok(());
                }
                Err(error) => {
                    let error = error.of(answer.sent);
                    drop(answer);
                    let has_changed = error.error.kind == StoreErrorKind::PreconditionFailed;
                    if let Some(refusal) =
                        self.refusal.take_if(|refusal| has_changed && refusal.kind == error.error.kind)
                    {
                        return Err(refusal);
                    }
                    let ignores_range = error.error.kind == StoreErrorKind::RangesIgnored;
                    let prepared = self.s3.prepare_retry(error, &operation, &mut self.tries).await;
                    if ignores_range && prepared.is_err() {
                        self.s3.go_without_ranges(&self.key);
                    }
                    prepared?;
                }
            }
        }
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = self.s3.object_headers();
        let mut insert = |name: HeaderName, value: String| {
            match HeaderValue::try_from(value) {
                Ok(value) => drop(headers.insert(name, value)),
                // Without If-Match, the entity tag of each response is still compared.
                Err(_) => debug_assert!(false, "{name} is a number or a parsed tag, a valid header value"),
            }
        };
        let last = if self.end == UNKNOWN_END { String::new() } else { (self.end - 1).to_string() };
        insert(RANGE, format!("bytes={}-{last}", self.position));
        if let Some(etag) = self.if_match.as_ref().filter(|_| self.is_conditional()) {
            insert(IF_MATCH, format!("\"{etag}\""));
        }
        headers
    }

    /// Whether requests carry If-Match. If not, the tags of the answers are compared, also weak ones.
    fn is_conditional(&self) -> bool {
        self.refusal.is_none() && !self.s3.refuses_if_match.load(Relaxed)
    }

    /// Where the range ends. For an object of unknown size, the first response tells it.
    fn end_by(&self, answer: &Answer) -> Result<u64, RequestError> {
        if self.end != UNKNOWN_END {
            return Ok(self.end);
        }
        let length = || answer.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
        let whole = || (answer.response.status() == StatusCode::OK).then(length).flatten();
        let size = object_size(answer.headers()).or_else(whole);
        size.ok_or_else(|| RequestError::invalid_response("an answer that does not tell the object's size"))
    }

    /// Checks that `answer` fits the request. Returns how many bytes of its body precede the
    /// position.
    fn check(&self, answer: &Answer) -> Result<u64, RequestError> {
        let headers = answer.headers();
        let text = |name: HeaderName| headers.get(name).map(|v| v.to_str().unwrap_or("?"));
        if let Some(coding) = compression(headers) {
            return Err(RequestError::invalid_response(format!("an answer encoded as {coding}"))
                .hint("something between here and the bucket compresses, or the objects were stored so"));
        }
        let found = if self.is_conditional() { etag(headers) } else { compared_etag(headers) };
        if let (Some(expected), Some(found)) = (&self.if_match, found)
            && !expected.is_same_object(&found)
        {
            let detail = format!("the entity tag is {found}, expected {expected}");
            return Err(RequestError::new(StoreErrorKind::PreconditionFailed, detail, RetryAction::None));
        }
        if let Some(found) = text(HeaderName::from_static("x-amz-version-id"))
            && !self.version.is_empty()
            && self.version != version_query(found)
        {
            let detail = format!("the answer is version {found:?}, asked for {}", self.version);
            return Err(RequestError::invalid_response(detail));
        }
        if let (Some(expected), Some(found)) = (self.size, object_size(headers))
            && expected != found
        {
            let detail = format!("the object has {found} bytes, before it had {expected}");
            return Err(RequestError::new(StoreErrorKind::PreconditionFailed, detail, RetryAction::None));
        }
        let length = match text(CONTENT_LENGTH) {
            Some(length) => match length.parse::<u64>() {
                Ok(length) => Some(length),
                Err(_) => return Err(RequestError::invalid_response("a Content-Length that is no number")),
            },
            None => None,
        };
        match answer.response.status() {
            StatusCode::PARTIAL_CONTENT => self.check_range(text(CONTENT_RANGE), length).map(|()| 0),
            // Some services (`rclone serve s3`) send a range with status 200.
            StatusCode::OK if text(CONTENT_RANGE).is_some_and(|range| !is_whole(range)) => {
                self.check_range(text(CONTENT_RANGE), length).map(|()| 0)
            }
            StatusCode::OK => match length {
                Some(size) if size < self.end => Err(self.too_short(size)),
                // A body that began near the object's beginning can only be resumed by reading all of it again.
                _ if self.begin <= MAX_SKIP_BYTES => Ok(self.position),
                _ => {
                    let detail = "HTTP 200: the range was ignored";
                    Err(RequestError::new(StoreErrorKind::RangesIgnored, detail, RetryAction::InvalidResponse)
                        .hint("the service or a proxy before it does not support ranges"))
                }
            },
            status => Err(RequestError::invalid_response(format!("HTTP {} to a GET", status.as_u16()))),
        }
    }

    fn check_range(&self, content_range: Option<&str>, length: Option<u64>) -> Result<(), RequestError> {
        let (position, end) = (self.position, self.end);
        let contradiction = || {
            let shown = content_range.unwrap_or("none").escape_default().take(80).collect::<String>();
            RequestError::invalid_response(format!("asked for bytes {position}-{}, Content-Range is {shown}", end - 1))
        };
        let (first, last, size) = content_range.and_then(parse_content_range).ok_or_else(contradiction)?;
        if let Some(size) = size
            && size < end
        {
            return Err(self.too_short(size));
        }
        if (first, last) != (position, end - 1) {
            return Err(contradiction());
        }
        match length {
            Some(length) if length != end - position => Err(RequestError::invalid_response(format!(
                "Content-Length {length} for a range of {} bytes",
                end - position
            ))),
            _ => Ok(()),
        }
    }

    fn too_short(&self, size: u64) -> RequestError {
        let detail = format!("the object has {size} bytes, expected at least {}", self.end);
        RequestError::new(StoreErrorKind::SizeDiffers, detail, RetryAction::None)
    }
}

impl S3 {
    /// If-Match is not sent from now on: `refusal` was the answer to a request for `key`, which has not changed.
    fn go_without_if_match(&self, key: &str, refusal: &StoreError) {
        if !self.refuses_if_match.swap(true, Relaxed) {
            tracing::debug!(
                target: TARGET,
                bucket = self.config.bucket,
                key,
                error = refusal.detail,
                cure = "not sent any more, the entity tags of answers are compared",
                "If-Match was refused for an unchanged object"
            );
        }
    }

    /// The service does not send ranges, as requests for `key` have shown.
    fn go_without_ranges(&self, key: &str) {
        if !self.ignores_ranges.swap(true, Relaxed) {
            tracing::debug!(
                target: TARGET,
                bucket = self.config.bucket,
                key,
                cure = "large files are read from their beginning to their end",
                "the service does not send ranges"
            );
        }
    }
}

/// Whether `error` may mean that the service does not know If-Match.
fn is_refusal(error: &StoreError) -> bool {
    matches!(error.kind, StoreErrorKind::PreconditionFailed | StoreErrorKind::NotImplemented)
}

/// The size of the object by Content-Range.
fn object_size(headers: &HeaderMap) -> Option<u64> {
    parse_content_range(headers.get(CONTENT_RANGE)?.to_str().ok()?)?.2
}

/// Whether Content-Range says that the whole object was sent.
fn is_whole(content_range: &str) -> bool {
    matches!(parse_content_range(content_range), Some((0, last, Some(size))) if last.checked_add(1) == Some(size))
}

fn operation<'a>(key: &'a str, query: &'a str, headers: HeaderMap) -> Operation<'a> {
    Operation { method: Method::GET, key: Some(key), query, headers, listed: None, counter: |c| &c.gets }
}

/// Parses a Content-Range header, `bytes first-last/size`. The size is None if it is `*`.
fn parse_content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, size) = text.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let size = match size.trim() {
        "*" => None,
        size => Some(size.parse().ok()?),
    };
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        assert_eq!(parse_content_range("bytes 0-9/100"), Some((0, 9, Some(100))));
        assert_eq!(parse_content_range("bytes 5-9/*"), Some((5, 9, None)));
        for bad in [
            "",
            "bytes",
            "bytes */100",
            "bytes 0-/1",
            "bytes -1-2/3",
            "0-9/10",
            "bytes 0-9",
            "bytes 0-9/99999999999999999999",
        ] {
            assert_eq!(parse_content_range(bad), None, "{bad}");
        }
    }
}
