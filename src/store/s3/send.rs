//! One operation: sign, send, and retry while a retry can succeed.

use super::super::{StoreError, StoreErrorKind};
use super::credentials::Current;
use super::endpoint::{Endpoint, is_region};
use super::limiter::Permit;
use super::response::Answer;
use super::retry::{RetryState, backoff};
use super::xml::ErrorBody;
use super::{DEFAULT_REGION, S3, sign};
use crate::process::locks;
use crate::store::s3::classify::{ErrorResponse, RequestError, RetryAction};
use crate::telemetry::{Counter, Counters};
use futures_util::future::{Either, select};
use http::header::{ACCEPT_ENCODING, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

const MAX_ERROR_BYTES: usize = 64 << 10;
/// If any request succeeded within this time, the bucket counts as healthy, and
/// `Retries::attempts_while_others_succeed` applies.
const WELL_FOR: Duration = Duration::from_secs(30);
/// If any request succeeded within this time, pauses are at most [`WELL_PAUSE`].
const WELL_NOW: Duration = Duration::from_secs(2);
const WELL_PAUSE: Duration = Duration::from_secs(2);
/// Retry-After is extended by up to this long at random, so that not all clients return at once.
const MOST_SPREAD: Duration = Duration::from_secs(1);
const MAX_BAD_ANSWERS: u32 = 3;
const MAX_REFRESHES: u32 = 3;
const MAX_RELOCATIONS: u32 = 2;
/// Attempts to connect before the bucket has answered once: a wrong endpoint is reported early.
const FIRST_CONNECTS: u32 = 4;

/// A request before it is signed.
pub(super) struct Operation<'a> {
    pub(super) method: Method,
    pub(super) key: Option<&'a str>,
    /// Percent-encoded.
    pub(super) query: &'a str,
    pub(super) headers: HeaderMap,
    pub(super) counter: fn(&Counters) -> &Counter,
}

/// Whether a status describes the server's state and not the requested object.
fn is_trouble(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

impl S3 {
    /// Sends until a response is successful or the retries are used up. `tries` outlives the call:
    /// attempts for a body that breaks off later are added to it.
    pub(super) async fn send(
        &self,
        client: &reqwest::Client,
        operation: &Operation<'_>,
        tries: &mut RetryState,
    ) -> Result<Answer, StoreError> {
        // Ends: `cure` counts the attempts and returns an error after the last one.
        loop {
            match self.attempt(client, operation, tries).await {
                Ok(answer) => {
                    self.quota.on_success();
                    let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
                    self.last_success_ms.fetch_max(now.max(1), Relaxed);
                    return Ok(answer);
                }
                Err(trouble) => self.cure(trouble, operation, tries).await?,
            }
        }
    }

    async fn attempt(
        &self,
        client: &reqwest::Client,
        operation: &Operation<'_>,
        tries: &mut RetryState,
    ) -> Result<Answer, RequestError> {
        let endpoint = self.endpoint()?;
        let region = self.region(client, endpoint).await?;
        let current = self.signing_credentials().await?;
        let permit = self.limiter.acquire(operation.key).await;
        let address = endpoint.address(&region, operation.key, operation.query).ok_or_else(|| {
            RequestError::new(StoreErrorKind::Unsupported, "no URL can name this key", RetryAction::None)
        })?;
        let signed_at = self.now();
        let request = || {
            let mut headers = operation.headers.clone();
            let (method, signed) = (operation.method.as_str(), &address.signed);
            if let Some(current) = &current {
                sign::authenticate(method, signed, &mut headers, &current.identity, &region, signed_at).map_err(
                    |e| RequestError::new(StoreErrorKind::Credentials, format!("cannot sign: {e}"), RetryAction::None),
                )?;
            }
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            if endpoint.is_tigris() {
                headers.insert("x-tigris-consistent", HeaderValue::from_static("true"));
            }
            let mut request = reqwest::Request::new(operation.method.clone(), address.sent.clone());
            *request.headers_mut() = headers;
            Ok(request)
        };
        if tries.sent > 0 {
            self.counters.retries.add(1);
        }
        tries.sent = tries.sent.saturating_add(1);
        let begun = Instant::now();
        let exchange = self.exchange(client, operation, &request, permit);
        let (response, permit) = tokio::time::timeout(self.timeouts.first_byte, exchange)
            .await
            .map_err(|_| RequestError::timeout("no answer", self.timeouts.first_byte))??;
        if response.status().is_success() {
            permit.answered();
            // The time to first byte is measured from the first attempt, also if a hedge answered: the
            // caller waited for both.
            return Ok(Answer::new(response, permit, begun.elapsed()));
        }
        let (status, headers) = (response.status(), response.headers().clone());
        let body = self.error_body(response).await;
        let refusal = ErrorResponse {
            status,
            headers: &headers,
            body,
            region: &region,
            generation: current.map_or(0, |current| current.generation),
            signed_at,
            now: SystemTime::now(),
            object: operation.key.is_some(),
        };
        let trouble = refusal.into_trouble();
        if trouble.cure == RetryAction::Throttled {
            self.counters.throttled.add(1);
            permit.throttled();
        }
        Err(trouble)
    }

    /// The credentials to sign with; None if requests are not signed.
    async fn signing_credentials(&self) -> Result<Option<Arc<Current>>, RequestError> {
        if self.config.anonymous {
            return Ok(None);
        }
        self.credentials.get(self.now()).await.map(Some).map_err(|reason| {
            RequestError::new(StoreErrorKind::Credentials, reason, RetryAction::None).hint(
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or keys in the configuration file; \
                 for a public bucket --no-sign-request",
            )
        })
    }

    /// Sends a request and waits for the headers of its response. If they are late, the request is
    /// hedged: sent once more on another connection. The first response that is not a server error
    /// counts (docs/ARCHITECTURE.md, "Adaptive concurrency").
    async fn exchange(
        &self,
        client: &reqwest::Client,
        operation: &Operation<'_>,
        request: &dyn Fn() -> Result<reqwest::Request, RequestError>,
        permit: Permit,
    ) -> Result<(reqwest::Response, Permit), RequestError> {
        let count = || (operation.counter)(&self.counters).add(1);
        count();
        let first = client.execute(request()?);
        let hedge_after = self.limiter.hedge_after(operation.key).filter(|_| operation.method == Method::GET);
        let Some(hedge_after) = hedge_after else {
            return first.await.map(|answer| (answer, permit)).map_err(RequestError::transport);
        };
        let mut first = std::pin::pin!(first);
        if let Ok(answer) = tokio::time::timeout(hedge_after, &mut first).await {
            return answer.map(|answer| (answer, permit)).map_err(RequestError::transport);
        }
        let Some(second_permit) = self.limiter.try_hedge(operation.key) else {
            return first.await.map(|answer| (answer, permit)).map_err(RequestError::transport);
        };
        count();
        self.counters.hedges.add(1);
        let second = std::pin::pin!(client.execute(request()?));
        let is_good = |answer: &Result<reqwest::Response, _>| answer.as_ref().is_ok_and(|a| !is_trouble(a.status()));
        let (answer, permit) = match select(first, second).await {
            Either::Left((answer, _)) if is_good(&answer) => (answer, permit),
            Either::Left((_, second)) => (second.await, second_permit.in_place_of(permit)),
            Either::Right((answer, _)) if is_good(&answer) => (answer, second_permit.in_place_of(permit)),
            Either::Right((_, first)) => (first.await, permit),
        };
        answer.map(|answer| (answer, permit)).map_err(RequestError::transport)
    }

    /// Reads an error's body within bounds of size and time. If it fails, the status is enough.
    async fn error_body(&self, mut response: reqwest::Response) -> ErrorBody {
        let mut body = Vec::new();
        let _ = tokio::time::timeout(self.timeouts.chunk, async {
            // Ends: by the time-out, or at MAX_ERROR_BYTES.
            while let Ok(Some(chunk)) = response.chunk().await {
                let room = MAX_ERROR_BYTES - body.len();
                body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
                if body.len() >= MAX_ERROR_BYTES {
                    break;
                }
            }
        })
        .await;
        self.counters.bytes_in.add(body.len() as u64);
        ErrorBody::parse(&body)
    }

    /// Prepares the retry that `trouble` calls for: renews credentials, adopts clock or region,
    /// waits. An error if no retry can succeed, or all have been used.
    pub(super) async fn cure(
        &self,
        mut trouble: RequestError,
        operation: &Operation<'_>,
        tries: &mut RetryState,
    ) -> Result<(), StoreError> {
        let helped = match &trouble.cure {
            RetryAction::None => false,
            RetryAction::Credentials { generation } => {
                tries.refreshed += 1;
                if tries.refreshed > 1 {
                    tokio::time::sleep(backoff(&self.retries, tries.refreshed)).await;
                }
                match self.credentials.refresh(*generation).await {
                    Ok(_) => tries.refreshed <= MAX_REFRESHES,
                    Err(reason) => {
                        trouble.error.detail.push_str("; renewal failed: ");
                        trouble.error.detail.push_str(&reason);
                        false
                    }
                }
            }
            RetryAction::Clock { offset_secs } => {
                self.clock_offset_secs.store(*offset_secs, Relaxed);
                !std::mem::replace(&mut tries.clock_set, true)
            }
            RetryAction::Region(region) => {
                tries.relocated += 1;
                self.set_region(region);
                tries.relocated <= MAX_RELOCATIONS
            }
            RetryAction::Again | RetryAction::Throttled | RetryAction::Connect | RetryAction::BadAnswer => {
                self.wait(&trouble.cure, trouble.retry_after, tries).await
            }
        };
        if helped { Ok(()) } else { Err(self.store_error(*trouble.error, operation, tries)) }
    }

    /// Waits before the next attempt, at least as long as Retry-After. False if all attempts are
    /// used.
    async fn wait(&self, cure: &RetryAction, retry_after: Duration, tries: &mut RetryState) -> bool {
        tries.failed += 1;
        if *cure == RetryAction::BadAnswer {
            tries.bad_answers += 1;
            if tries.bad_answers >= MAX_BAD_ANSWERS {
                return false;
            }
        }
        let last_success = Duration::from_millis(self.last_success_ms.load(Relaxed));
        let most = if last_success.is_zero() {
            if *cure == RetryAction::Connect {
                self.retries.attempts.min(FIRST_CONNECTS)
            } else {
                self.retries.attempts
            }
        } else if self.born.elapsed().saturating_sub(last_success) < WELL_FOR {
            self.retries.attempts_while_others_succeed.max(self.retries.attempts)
        } else {
            self.retries.attempts
        };
        if tries.failed >= most {
            return false;
        }
        let is_well = !last_success.is_zero() && self.born.elapsed().saturating_sub(last_success) < WELL_NOW;
        let longest = if is_well { WELL_PAUSE } else { Duration::MAX };
        let pause = backoff(&self.retries, tries.failed).min(longest);
        // Spread: all clients received the same Retry-After.
        let asked_for = if retry_after.is_zero() { Duration::ZERO } else { retry_after + pause.min(MOST_SPREAD) };
        tokio::time::sleep(pause.max(asked_for).max(self.quota.take())).await;
        true
    }

    /// Completes an error for the caller, and removes secrets from it.
    pub(super) fn store_error(
        &self,
        mut error: StoreError,
        operation: &Operation<'_>,
        tries: &RetryState,
    ) -> StoreError {
        let verb = if operation.key.is_some() { operation.method.as_str() } else { "LIST" };
        error.what = format!("{verb} s3://{}/{}", self.config.bucket, operation.key.unwrap_or_default());
        error.attempts = tries.sent;
        if let Some(current) = self.credentials.cached() {
            current.redact(&mut error.detail);
        }
        if let Some(sse) = &self.config.sse_customer
            && error.detail.contains(&sse.key_base64)
        {
            error.detail = error.detail.replace(&sse.key_base64, "…");
        }
        error
    }

    fn endpoint(&self) -> Result<&Endpoint, RequestError> {
        self.endpoint
            .as_ref()
            .map_err(|reason| RequestError::new(StoreErrorKind::Unsupported, reason, RetryAction::None))
    }

    /// The current time by the server's clock; by this machine's until the offset is known.
    fn now(&self) -> SystemTime {
        let offset = self.clock_offset_secs.load(Relaxed);
        let by = Duration::from_secs(offset.unsigned_abs());
        let now = SystemTime::now();
        if offset < 0 { now.checked_sub(by) } else { now.checked_add(by) }.unwrap_or(now)
    }

    fn set_region(&self, region: &str) {
        *locks::write(&self.region) = Some(Arc::from(region));
    }

    fn known_region(&self) -> Option<Arc<str>> {
        locks::read(&self.region).clone()
    }

    /// The bucket's region. If it is not configured, the bucket is asked once, by a HEAD without a
    /// signature: S3 names the region even if it denies the request.
    async fn region(&self, client: &reqwest::Client, endpoint: &Endpoint) -> Result<Arc<str>, RequestError> {
        if let Some(region) = self.known_region() {
            return Ok(region);
        }
        let _one_asks = self.region_flight.lock().await;
        if let Some(region) = self.known_region() {
            return Ok(region);
        }
        let unsupported =
            || RequestError::new(StoreErrorKind::Unsupported, "no URL can name this bucket", RetryAction::None);
        let address = endpoint.address(DEFAULT_REGION, None, "").ok_or_else(unsupported)?;
        self.counters.heads.add(1);
        let response = tokio::time::timeout(self.timeouts.first_byte, client.head(address.sent).send())
            .await
            .map_err(|_| {
                RequestError::timeout("no answer to the question for the bucket's region", self.timeouts.first_byte)
            })?
            .map_err(RequestError::transport)?;
        let told = response.headers().get("x-amz-bucket-region").and_then(|v| v.to_str().ok());
        let status = response.status();
        match told.filter(|r| is_region(r)) {
            Some(region) => {
                self.set_region(region);
                Ok(Arc::from(region))
            }
            None if status.as_u16() == 404 => {
                let detail = "HTTP 404: no such bucket";
                Err(RequestError::new(StoreErrorKind::NoSuchBucket, detail, RetryAction::None)
                    .hint("check the bucket's name"))
            }
            None if status.is_server_error() || status.as_u16() == 429 => {
                let detail = format!("HTTP {} to the question for the bucket's region", status.as_u16());
                Err(RequestError::new(StoreErrorKind::Throttled, detail, RetryAction::Throttled))
            }
            None => {
                let detail =
                    format!("HTTP {} without a region to the question for the bucket's region", status.as_u16());
                Err(RequestError::bad_answer(detail).hint("set AWS_REGION or the region in URL or configuration"))
            }
        }
    }
}
