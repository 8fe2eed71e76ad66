//! Sends one operation: signs the request, sends it, and sends it again while a retry can succeed.

use super::super::{ListRequest, StoreError, StoreErrorKind};
use super::credentials::Current;
use super::endpoint::{Endpoint, is_region};
use super::foreign::{self, SPEAKS_TLS};
use super::limiter::Permit;
use super::request_log::{SentRequest, TARGET, ms};
use super::response::Answer;
use super::retry::{FIRST_CONNECTS, RetryState, pause_after};
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
use std::time::{Duration, SystemTime};
use tokio::time::Instant;
use url::Url;

const MAX_ERROR_BYTES: usize = 64 << 10;
/// If any request succeeded within this time, the bucket counts as healthy, and an operation may use
/// `Retries::attempts_while_others_succeed` attempts.
const HEALTHY_FOR: Duration = Duration::from_secs(30);
/// If any request succeeded within this time, pauses between attempts are at most [`HEALTHY_PAUSE`].
const HEALTHY_NOW: Duration = Duration::from_secs(2);
const HEALTHY_PAUSE: Duration = Duration::from_secs(2);
/// Maximum random extension of the pause that Retry-After demands, so that not all clients return at the same
/// moment.
const MAX_SPREAD: Duration = Duration::from_secs(1);
const MAX_INVALID_RESPONSES: u32 = 3;
const MAX_REFRESHES: u32 = 3;
const MAX_RELOCATIONS: u32 = 2;

/// One operation on the bucket (GET, HEAD or LIST), before it is signed.
pub(super) struct Operation<'a> {
    pub(super) method: Method,
    pub(super) key: Option<&'a str>,
    /// Query string, already percent-encoded.
    pub(super) query: &'a str,
    pub(super) headers: HeaderMap,
    /// The request of a listing. None for other operations.
    pub(super) listed: Option<&'a ListRequest>,
    pub(super) counter: fn(&Counters) -> &Counter,
}

/// A pause before another attempt.
struct Pause {
    before: Duration,
    /// After that, because many requests are repeated: the time until this one may be.
    for_rate: Duration,
}

/// Whether a status describes the server's state and not the requested object.
fn is_server_failure(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

impl S3 {
    /// Sends the operation until a response is successful or the retries are used up. `tries` is kept by the
    /// caller, because attempts for a body that breaks off later are added to it.
    pub(super) async fn send(
        &self,
        client: &reqwest::Client,
        operation: &Operation<'_>,
        tries: &mut RetryState,
    ) -> Result<Answer, StoreError> {
        // This loop ends: `prepare_retry` counts the attempts and returns an error after the last one.
        loop {
            match self.attempt(client, operation, tries).await {
                Ok(answer) => {
                    self.retry_tokens.on_success();
                    if operation.method == Method::HEAD {
                        self.note_progress();
                    }
                    return Ok(answer);
                }
                Err(error) => self.prepare_retry(error, operation, tries).await?,
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
        // After a wrong answer the request goes over another connection.
        let other;
        let client = if tries.invalid_responses > 0 {
            let refused = |reason| RequestError::new(StoreErrorKind::Unsupported, reason, RetryAction::None);
            other = self.network.another_client().map_err(refused)?;
            &other
        } else {
            client
        };
        let region = match self.known_region() {
            Some(region) => region,
            None => {
                let (begun, most) = (Instant::now(), self.patience(tries));
                let region = tokio::time::timeout(most, self.region(client, endpoint)).await;
                tries.stalled += begun.elapsed();
                region
                    .map_err(|_| RequestError::timeout("no answer to the question for the bucket's region", most))??
            }
        };
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
        let mut sent = SentRequest { number: self.next_number(), ..SentRequest::default() };
        self.log_sent(operation, sent.number, tries.sent, None);
        let begun = Instant::now();
        let exchange = self.exchange(client, operation, &request, permit, &mut sent.number, tries.sent);
        let most = self.timeouts.first_byte.min(self.patience(tries));
        let ended = tokio::time::timeout(most, exchange).await;
        // The time to first byte is measured from the first attempt, also if a hedge answered: the
        // caller waited for both.
        sent.latency = begun.elapsed();
        tries.stalled += sent.latency;
        let (response, permit) = match ended {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(self.or_speaks_tls(error, endpoint, &address.sent).await.of(sent)),
            Err(_) => return Err(RequestError::timeout("no answer", most).of(sent)),
        };
        sent.status = Some(response.status());
        if !is_server_failure(response.status()) {
            self.reach.answered();
        }
        self.log_answer(operation, &sent, tries.sent, response.headers());
        if response.status().is_success() {
            permit.answered();
            return Ok(Answer::new(response, permit, sent));
        }
        let (status, headers) = (response.status(), response.headers().clone());
        let begun = Instant::now();
        let body = self.error_body(response, self.timeouts.chunk.min(self.patience(tries))).await;
        tries.stalled += begun.elapsed();
        let response = ErrorResponse {
            status,
            headers: &headers,
            body,
            region: &region,
            generation: current.map_or(0, |current| current.generation),
            signed_at,
            now: SystemTime::now(),
            object: operation.key.is_some(),
        };
        let error = response.into_request_error().of(sent);
        if error.action == RetryAction::Throttled {
            self.counters.throttled.add(1);
            permit.throttled();
        }
        Err(error)
    }

    /// Returns the credentials to sign with. Returns None if requests are not signed.
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

    /// Sends a request and waits for the headers of its response. If they are late, the request is hedged: it
    /// is sent once more on another connection, and the first response that is not a server error is used
    /// (docs/ARCHITECTURE.md, "Adaptive concurrency"). `number` is set to the number of the request whose
    /// response is used.
    async fn exchange(
        &self,
        client: &reqwest::Client,
        operation: &Operation<'_>,
        request: &dyn Fn() -> Result<reqwest::Request, RequestError>,
        permit: Permit,
        number: &mut u64,
        attempt: u32,
    ) -> Result<(reqwest::Response, Permit), RequestError> {
        let count = || (operation.counter)(&self.counters).add(1);
        count();
        let failed = |error| self.transport_error(error);
        let first = client.execute(request()?);
        let hedge_after = self.limiter.hedge_after(operation.key).filter(|_| operation.method == Method::GET);
        let Some(hedge_after) = hedge_after else {
            return first.await.map(|answer| (answer, permit)).map_err(failed);
        };
        let mut first = std::pin::pin!(first);
        if let Ok(answer) = tokio::time::timeout(hedge_after, &mut first).await {
            return answer.map(|answer| (answer, permit)).map_err(failed);
        }
        let Some(second_permit) = self.limiter.try_hedge(operation.key) else {
            return first.await.map(|answer| (answer, permit)).map_err(failed);
        };
        count();
        self.counters.hedges.add(1);
        let hedge = self.next_number();
        self.log_hedge(operation, *number, hedge, hedge_after);
        self.log_sent(operation, hedge, attempt, Some(*number));
        let second = std::pin::pin!(client.execute(request()?));
        let is_good =
            |answer: &Result<reqwest::Response, _>| answer.as_ref().is_ok_and(|a| !is_server_failure(a.status()));
        let (answer, is_hedge) = match select(first, second).await {
            Either::Left((answer, _)) if is_good(&answer) => (answer, false),
            Either::Left((_, second)) => (second.await, true),
            Either::Right((answer, _)) if is_good(&answer) => (answer, true),
            Either::Right((_, first)) => (first.await, false),
        };
        let permit = if is_hedge { second_permit.in_place_of(permit) } else { permit };
        if is_hedge {
            *number = hedge;
        }
        self.log_hedge_ended(operation, *number, is_hedge);
        answer.map(|answer| (answer, permit)).map_err(failed)
    }

    /// Makes the error for a request without a response. If no connection was established, the error names the
    /// host, and the proxy if there is one.
    fn transport_error(&self, error: reqwest::Error) -> RequestError {
        let unreached = error.url().filter(|_| error.is_connect()).cloned();
        let mut failed = RequestError::transport(error);
        if let Some(url) = &unreached {
            let reason = std::mem::take(&mut failed.error.detail);
            let reason = reason.strip_prefix("error sending request: client error (Connect): ").unwrap_or(&reason);
            let port = url.port_or_known_default().unwrap_or_default();
            let to = format!("{}:{port}", url.host_str().unwrap_or_default());
            let to = match self.network.proxy_of(url) {
                Some(proxy) => format!("{to} through the proxy {proxy}"),
                None => to,
            };
            failed.error.detail = format!("cannot connect to {to}: {reason}");
            if let RetryAction::Unreachable(unreachable) = &mut failed.action {
                unreachable.address = to;
            }
        }
        failed
    }

    /// The error of a request without an answer. If a plain HTTP endpoint has never answered, its port is asked once
    /// whether it speaks TLS.
    async fn or_speaks_tls(&self, error: RequestError, endpoint: &Endpoint, url: &Url) -> RequestError {
        let may_be_tls = endpoint.is_plain_http()
            && error.action == RetryAction::Again
            && error.error.kind == StoreErrorKind::Network
            && !self.reach.has_answered()
            && self.network.proxy_of(url).is_none();
        let ask = || foreign::speaks_tls(&self.network, url, self.timeouts.connect);
        if !may_be_tls || !*self.reach.speaks_tls.get_or_init(ask).await {
            return error;
        }
        let port = url.port_or_known_default().unwrap_or_default();
        let detail = format!("{}:{port} gives no HTTP answer: {SPEAKS_TLS}", url.host_str().unwrap_or_default());
        RequestError::new(StoreErrorKind::Unsupported, detail, RetryAction::None)
    }

    /// Reads an error's body within bounds of size and time. If it fails, the status is enough.
    async fn error_body(&self, mut response: reqwest::Response, most: Duration) -> ErrorBody {
        let mut body = Vec::new();
        let _ = tokio::time::timeout(most, async {
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

    /// Prepares the retry that `error` needs: renews credentials, adopts the server's clock or region, or
    /// pauses. Returns the error if no retry can succeed, or if all retries are used up.
    pub(super) async fn prepare_retry(
        &self,
        mut error: RequestError,
        operation: &Operation<'_>,
        tries: &mut RetryState,
    ) -> Result<(), StoreError> {
        // An error before the request was sent, for example without credentials, has no latency.
        if error.action != RetryAction::Throttled && !error.sent.latency.is_zero() {
            self.counters.failed.add(1);
        }
        let waits_for_start = matches!(error.action, RetryAction::Unreachable(_)) && !self.reach.has_answered();
        if error.action != RetryAction::None
            && !waits_for_start
            && let Some(stalled) = self.stalled(&error, operation, tries)
        {
            error = stalled;
        }
        let mut pause = None;
        // What was done to prepare the retry, as text for the log. None: no retry can succeed.
        let done: Option<String> = match &error.action {
            RetryAction::None => None,
            RetryAction::Credentials { generation } => {
                tries.refreshed += 1;
                if tries.refreshed > 1 {
                    tokio::time::sleep(pause_after(&self.retries, tries.refreshed)).await;
                }
                match self.credentials.refresh(*generation).await {
                    Ok(_) => (tries.refreshed <= MAX_REFRESHES).then(|| "signed with renewed credentials".to_owned()),
                    Err(reason) => {
                        error.error.detail.push_str("; renewal failed: ");
                        error.error.detail.push_str(&reason);
                        None
                    }
                }
            }
            RetryAction::Clock { offset_secs } => {
                self.clock_offset_secs.store(*offset_secs, Relaxed);
                let is_first = !std::mem::replace(&mut tries.clock_set, true);
                is_first.then(|| format!("signed by the server's clock, {offset_secs:+} s"))
            }
            RetryAction::Region(region) => {
                tries.relocated += 1;
                self.set_region(region);
                (tries.relocated <= MAX_RELOCATIONS).then(|| format!("signed for region {region}"))
            }
            RetryAction::Unreachable(why) if waits_for_start => {
                let latency = error.sent.latency;
                let wait = self.pause_for_start(why, &mut error.error.detail, latency, tries);
                pause = wait.map(|before| Pause { before, for_rate: Duration::ZERO });
                wait.map(|pause| format!("another connection in {} ms", pause.as_millis()))
            }
            RetryAction::Again
            | RetryAction::Throttled
            | RetryAction::Connect
            | RetryAction::Unreachable(_)
            | RetryAction::InvalidResponse => {
                pause = self.pause(&error.action, error.retry_after, tries);
                let pause = pause.as_ref().map(|pause| (pause.before + pause.for_rate).as_millis());
                pause.map(|ms| format!("{} in {ms} ms", error.action.what_is_sent()))
            }
        };
        self.log_failed(&error, operation, tries, done.as_deref());
        if done.is_none() {
            return Err(self.store_error(*error.error, operation, tries));
        }
        let Some(pause) = pause else { return Ok(()) };
        if waits_for_start {
            tokio::time::sleep(pause.before).await;
            return Ok(());
        }
        let begun = Instant::now();
        tokio::time::sleep(pause.before.min(self.patience(tries))).await;
        tries.stalled += begun.elapsed();
        if let Some(stalled) = self.stalled(&error, operation, tries) {
            self.log_failed(&stalled, operation, tries, None);
            return Err(self.store_error(*stalled.error, operation, tries));
        }
        tokio::time::sleep(pause.for_rate).await;
        Ok(())
    }

    /// The pause before the next attempt, at least as long as Retry-After. None if all attempts are
    /// used.
    fn pause(&self, action: &RetryAction, retry_after: Duration, tries: &mut RetryState) -> Option<Pause> {
        tries.failed += 1;
        if *action == RetryAction::InvalidResponse {
            tries.invalid_responses += 1;
            if tries.invalid_responses >= MAX_INVALID_RESPONSES {
                return None;
            }
        }
        let last_success = Duration::from_millis(self.last_success_ms.load(Relaxed));
        let most = if last_success.is_zero() {
            if matches!(action, RetryAction::Connect | RetryAction::Unreachable(_)) {
                self.retries.attempts.min(FIRST_CONNECTS)
            } else {
                self.retries.attempts
            }
        } else if self.created.elapsed().saturating_sub(last_success) < HEALTHY_FOR {
            self.retries.attempts_while_others_succeed.max(self.retries.attempts)
        } else {
            self.retries.attempts
        };
        if tries.failed >= most {
            return None;
        }
        let is_healthy = !last_success.is_zero() && self.created.elapsed().saturating_sub(last_success) < HEALTHY_NOW;
        let longest = if is_healthy { HEALTHY_PAUSE } else { Duration::MAX };
        let pause = pause_after(&self.retries, tries.failed).min(longest);
        // The pause is extended at random, because all clients received the same Retry-After.
        let requested = if retry_after.is_zero() { Duration::ZERO } else { retry_after + pause.min(MAX_SPREAD) };
        let before = pause.max(requested);
        Some(Pause { before, for_rate: self.retry_tokens.take(std::time::Instant::now()).saturating_sub(before) })
    }

    /// Adds operation and number of attempts to an error for the caller, and removes secrets from it.
    pub(super) fn store_error(
        &self,
        mut error: StoreError,
        operation: &Operation<'_>,
        tries: &RetryState,
    ) -> StoreError {
        let of = operation.key.or(operation.prefix()).unwrap_or_default();
        error.what = format!("{} s3://{}/{of}", operation.name(), self.config.bucket);
        error.attempts = tries.sent;
        self.redact(&mut error.detail);
        if let Some(id) = &mut error.request_id {
            self.redact(id);
        }
        error
    }

    /// Replaces the secrets in use in `text` with `…`.
    pub(super) fn redact(&self, text: &mut String) {
        if let Some(current) = self.credentials.cached() {
            current.redact(text);
        }
        if let Some(sse) = &self.config.sse_customer
            && text.contains(&sse.key_base64)
        {
            *text = text.replace(&sse.key_base64, "…");
        }
    }

    fn endpoint(&self) -> Result<&Endpoint, RequestError> {
        self.endpoint
            .as_ref()
            .map_err(|reason| RequestError::new(StoreErrorKind::Unsupported, reason, RetryAction::None))
    }

    /// Returns the current time by the server's clock. Until the offset is known, returns this machine's time.
    fn now(&self) -> SystemTime {
        let offset = self.clock_offset_secs.load(Relaxed);
        let by = Duration::from_secs(offset.unsigned_abs());
        let now = SystemTime::now();
        if offset < 0 { now.checked_sub(by) } else { now.checked_add(by) }.unwrap_or(now)
    }

    fn set_region(&self, region: &str) {
        *locks::write(&self.region) = Some(Arc::from(region));
    }

    pub(super) fn known_region(&self) -> Option<Arc<str>> {
        locks::read(&self.region).clone()
    }

    /// Returns the bucket's region. If it is not configured, the bucket is asked once, with an unsigned HEAD:
    /// S3 names the region even if it denies the request.
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
        let begun = Instant::now();
        let response = tokio::time::timeout(self.timeouts.first_byte, client.head(address.sent).send())
            .await
            .map_err(|_| {
                RequestError::timeout("no answer to the question for the bucket's region", self.timeouts.first_byte)
            })?
            .map_err(|error| self.transport_error(error))?;
        let header = response.headers().get("x-amz-bucket-region").and_then(|v| v.to_str().ok());
        let status = response.status();
        tracing::debug!(
            target: TARGET,
            request = self.next_number(),
            op = "HEAD",
            bucket = self.config.bucket,
            status = status.as_u16(),
            region = header,
            latency_ms = ms(begun.elapsed()),
            "asked the bucket for its region"
        );
        match header.filter(|r| is_region(r)) {
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
                Err(RequestError::invalid_response(detail).hint("set AWS_REGION or the region in URL or configuration"))
            }
        }
    }
}
