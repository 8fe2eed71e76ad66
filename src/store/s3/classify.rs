//! Classifies failed requests: what S3's status and error code mean, whether a retry can succeed, and a hint
//! for the user.

use crate::store::s3::endpoint::is_region;
use crate::store::s3::foreign::{NOT_S3, SPEAKS_TLS};
use crate::store::s3::network::{UnknownName, chain};
use crate::store::s3::reach::Unreachable;
use crate::store::s3::request_log::{SentRequest, request_id};
use crate::store::s3::xml::ErrorBody;
use crate::store::{StoreError, StoreErrorKind};
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use http::{HeaderMap, StatusCode};
use std::io::ErrorKind;
use std::time::{Duration, SystemTime};

/// If S3 refuses a request without giving a code, as in a 403 for HEAD, the clock is suspected when it differs
/// from the server's by at least this many seconds. S3 accepts a difference of 15 minutes.
const SUSPICIOUS_SKEW_SECS: i64 = 300;

/// Maximum pause that a server can demand with the header Retry-After.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(20);
/// Unix time of 1 January 9999. A server's clock after it is not adopted, because signatures contain four
/// digits of the year and aws-sigv4 panics on a longer year.
const CLOCK_END_SECS: i64 = 253_370_764_800;

/// Hint for the user if a proxy answers 407.
const PROXY_AUTHORIZATION: &str = "the proxy asks for a user and a password: put them into the variable that names \
                                   it, http://USER:PASSWORD@HOST:PORT";

/// One failed attempt of a request, and what to do next.
#[derive(Debug)]
pub(super) struct RequestError {
    pub(super) error: Box<StoreError>,
    pub(super) action: RetryAction,
    /// Minimum pause before the next attempt, from the header Retry-After: at most [`MAX_RETRY_AFTER`], and
    /// zero if the response has no such header.
    pub(super) retry_after: Duration,
    /// Number, status and latency of the request that failed, for the log.
    pub(super) sent: SentRequest,
}

/// What to do about a failed request before it is sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RetryAction {
    /// The request is not sent again, because no retry can succeed.
    None,
    /// Pause, then send the request again.
    Again,
    /// Pause, then send the request again. The bucket asked for fewer requests, so the limiter reduces its
    /// rate.
    Throttled,
    /// Pause, then connect again, because no connection could be established.
    Connect,
    /// Pause; nothing answered the connection, which may pass while the service starts.
    Unreachable(Unreachable),
    /// The response contradicts the request or itself: at most two retries.
    InvalidResponse,
    /// Renew the credentials, unless newer ones than this generation are in use already.
    Credentials { generation: u64 },
    /// Sign with a clock that is this many seconds ahead of this machine's (negative: behind).
    Clock { offset_secs: i64 },
    /// Sign the request for this region, which the response named, and send it again.
    Region(String),
}

impl RetryAction {
    /// Returns a text for the log that says what is sent after the pause.
    pub(super) fn what_is_sent(&self) -> &'static str {
        match self {
            Self::Connect | Self::Unreachable(_) => "another connection",
            Self::Throttled => "limiter told, sent again",
            _ => "sent again",
        }
    }
}

impl RequestError {
    pub(super) fn new(kind: StoreErrorKind, detail: impl Into<String>, action: RetryAction) -> Self {
        let error =
            StoreError { kind, what: String::new(), detail: detail.into(), request_id: None, hint: None, attempts: 0 };
        Self { error: Box::new(error), action, retry_after: Duration::ZERO, sent: SentRequest::default() }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.error.hint = Some(hint.into());
        self
    }

    /// Returns this error with the number, status and latency of the request that failed, for the log.
    pub(super) fn of(mut self, sent: SentRequest) -> Self {
        self.sent = sent;
        self
    }

    pub(super) fn invalid_response(detail: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::InvalidResponse, detail, RetryAction::InvalidResponse)
    }

    pub(super) fn timeout(stage: &str, after: Duration) -> Self {
        Self::new(StoreErrorKind::Timeout, format!("{stage} for {:.1} s", after.as_secs_f64()), RetryAction::Again)
    }

    /// Makes an error for a request that got no response, or whose response body broke off.
    pub(super) fn transport(error: reqwest::Error) -> Self {
        let (connect, timeout) = (error.is_connect(), error.is_timeout());
        let error = error.without_url();
        let detail = chain(&error);
        if let Some(tls) = find::<rustls::Error>(&error)
            && matches!(tls, rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
        {
            return Self::new(StoreErrorKind::Network, without_dump(&detail), RetryAction::None).hint(
                "the server's certificate is not trusted: name its CA's PEM file in AWS_CA_BUNDLE, \
                 or set skip-verify if you must",
            );
        }
        if detail.contains("proxy authorization required") {
            return Self::new(StoreErrorKind::Network, detail, RetryAction::None).hint(PROXY_AUTHORIZATION);
        }
        let io = find::<std::io::Error>(&error);
        let no_descriptor = io.and_then(std::io::Error::raw_os_error).is_some_and(|errno| {
            errno == rustix::io::Errno::MFILE.raw_os_error() || errno == rustix::io::Errno::NFILE.raw_os_error()
        });
        let io = io.map(std::io::Error::kind);
        let hint = match io {
            _ if no_descriptor => Some("no further file can be opened: raise the limit of open files (ulimit -n)"),
            Some(ErrorKind::ConnectionRefused) => Some("nothing listens there: check endpoint and port"),
            _ if detail.contains("dns error") => {
                Some("the name cannot be resolved: check endpoint (s3://bucket/path?endpoint=HOST), region and network")
            }
            _ if detail.contains("InvalidContentType") => {
                Some("the endpoint does not speak TLS there: check its scheme")
            }
            _ if connect && timeout => Some("no answer to the connection: check network, firewall and proxy settings"),
            _ => None,
        };
        let kind = if timeout { StoreErrorKind::Timeout } else { StoreErrorKind::Network };
        let is_unknown_name = find::<UnknownName>(&error).is_some();
        let reason = match io {
            _ if !connect => None,
            _ if is_unknown_name => Some("no such name"),
            _ if detail.contains("dns error") => Some("the name cannot be resolved yet"),
            Some(ErrorKind::ConnectionRefused) => Some("connection refused"),
            Some(ErrorKind::HostUnreachable) => Some("no route to the host"),
            Some(ErrorKind::NetworkUnreachable) => Some("the network is unreachable"),
            Some(ErrorKind::NetworkDown) => Some("the network is down"),
            _ => timeout.then_some("no answer to the connection"),
        };
        let action = match reason {
            // The caller knows the address.
            Some(reason) => RetryAction::Unreachable(Unreachable { address: String::new(), reason, is_unknown_name }),
            None if connect => RetryAction::Connect,
            None => RetryAction::Again,
        };
        let mut error = Self::new(kind, detail, action);
        error.error.hint = hint.map(str::to_owned);
        error
    }
}

/// `text` without the values of rustls's debug output: lists of hundreds of numbers that name algorithms.
fn without_dump(text: &str) -> &str {
    text.find(" {").and_then(|at| text.get(..at)).unwrap_or(text)
}

fn find<'a, E: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    // This loop ends: each error owns its source, so the chain of sources is finite.
    while let Some(e) = next {
        if let Some(found) = e.downcast_ref::<E>() {
            return Some(found);
        }
        // `source()` of an io::Error skips the error that it wraps, so `get_ref` is tried first.
        next = match e.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => e.source(),
        };
    }
    None
}

/// An error response, and the client's state when the request was signed.
pub(super) struct ErrorResponse<'a> {
    pub(super) status: StatusCode,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: ErrorBody,
    pub(super) region: &'a str,
    pub(super) generation: u64,
    /// Time that the request's signature contains, by which the server's clock is compared.
    pub(super) signed_at: SystemTime,
    /// Time of this machine's clock when the response arrived.
    pub(super) now: SystemTime,
    /// Whether the request was for an object and not for the bucket, which decides what 404 means.
    pub(super) object: bool,
}

const THROTTLED: [&str; 11] = [
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "RequestLimitExceeded",
    "BandwidthLimitExceeded",
    "TooManyRequests",
    "TooManyRequestsException",
    "KMS.ThrottlingException",
];

/// The codes by which services say that the signature's region is wrong.
const SIGNED_FOR_ANOTHER_REGION: [&str; 3] =
    ["AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "InvalidRegionName"];

impl ErrorResponse<'_> {
    pub(super) fn into_request_error(self) -> RequestError {
        let code = self.body.code.as_deref().unwrap_or("");
        let (kind, action, hint) = self.classify(code);
        let mut detail = format!("HTTP {}", self.status.as_u16());
        for text in [self.body.code.as_deref(), self.body.message.as_deref()].into_iter().flatten() {
            detail.push_str(": ");
            detail.push_str(text);
        }
        if self.body.code.is_none() {
            if let Some(reason) = self.status.canonical_reason() {
                detail.push(' ');
                detail.push_str(reason);
            }
            self.push_own_words(&mut detail);
        }
        let mut error = RequestError::new(kind, detail, action);
        if matches!(self.status.as_u16(), 429 | 503) {
            error.retry_after = retry_after(self.headers);
        }
        let id = request_id(self.headers).map(str::to_owned);
        error.error.request_id = id.or(self.body.request_id);
        error.error.hint = hint;
        error
    }

    /// Adds what a server that is not S3 says, without the status that most begin with.
    fn push_own_words(&self, detail: &mut String) {
        let Some(words) = self.body.own_words.as_deref() else { return };
        let words = words.strip_prefix(self.status.as_str()).unwrap_or(words).trim_start();
        if !words.is_empty() && !detail.ends_with(words) {
            detail.push_str(": ");
            detail.push_str(words);
        }
    }

    fn classify(&self, code: &str) -> (StoreErrorKind, RetryAction, Option<String>) {
        use StoreErrorKind as K;
        let status = self.status.as_u16();
        let hint = |hint: &str| Some(hint.to_owned());
        if THROTTLED.contains(&code) || (status == 429 || status == 503) {
            return (
                K::Throttled,
                RetryAction::Throttled,
                hint("the bucket throttles: fewer requests (--max-requests) may help"),
            );
        }
        match code {
            "RequestTimeout" | "RequestCanceled" => return (K::Timeout, RetryAction::Again, None),
            "InternalError" | "ServiceUnavailable" | "OperationAborted" | "PriorRequestNotComplete" => {
                return (K::Server, RetryAction::Again, None);
            }
            "ExpiredToken" | "ExpiredTokenException" | "InvalidToken" | "TokenRefreshRequired" => {
                let action = RetryAction::Credentials { generation: self.generation };
                return (K::Credentials, action, hint("the credentials have expired: renew them"));
            }
            "RequestTimeTooSkewed" | "RequestExpired" => {
                let hint = hint("this machine's clock differs from the server's: set it");
                return (K::AccessDenied, self.clock(0), hint);
            }
            "InvalidObjectState" => {
                return (
                    K::Archived,
                    RetryAction::None,
                    hint("the object is archived: restore it from its storage class first"),
                );
            }
            "NoSuchBucket" => {
                return (K::NoSuchBucket, RetryAction::None, hint("check the bucket's name, region and endpoint"));
            }
            _ => {}
        }
        match status {
            // No request asks for a change since some time: a cache on the way answers for another client.
            304 => (
                K::InvalidResponse,
                RetryAction::InvalidResponse,
                hint("no condition was sent that this answers: look for a cache between here and the bucket"),
            ),
            // A proxy or another server answers with a page or with words of its own.
            400 if self.body.own_words.as_deref().is_some_and(|words| words.contains("HTTPS")) => {
                (K::Unsupported, RetryAction::None, hint(SPEAKS_TLS))
            }
            401 | 403 if self.body.is_web_page => (K::AccessDenied, RetryAction::None, hint(NOT_S3)),
            404 if self.body.is_web_page && !self.object => (K::NoSuchBucket, RetryAction::None, hint(NOT_S3)),
            300..=399 => self.moved(),
            400 if SIGNED_FOR_ANOTHER_REGION.contains(&code) => self.signed_for_another_region(),
            // A response to HEAD has no body with a code. A region in its headers shows that the bucket is in
            // another region.
            400 if code.is_empty() && self.named_region().is_some() => self.moved(),
            401 | 403 => {
                let suspicious = code.is_empty() || code == "AccessDenied" || code == "SignatureDoesNotMatch";
                let mut action = if suspicious { self.clock(SUSPICIOUS_SKEW_SECS) } else { RetryAction::None };
                if let (RetryAction::None, Some(region)) = (&action, self.other_region()) {
                    action = RetryAction::Region(region.to_owned());
                }
                (K::AccessDenied, action, Some(self.denied(code)))
            }
            404 if self.object => (K::NotFound, RetryAction::None, None),
            404 => (K::NoSuchBucket, RetryAction::None, hint("check the bucket's name, region and endpoint")),
            407 => (K::Unsupported, RetryAction::None, hint(PROXY_AUTHORIZATION)),
            408 => (K::Timeout, RetryAction::Again, None),
            412 => (K::PreconditionFailed, RetryAction::None, None),
            416 => (K::SizeDiffers, RetryAction::None, None),
            501 => (K::NotImplemented, RetryAction::None, None),
            505 => (K::Unsupported, RetryAction::None, None),
            500.. => (K::Server, RetryAction::Again, None),
            400 if self.object && matches!(code, "InvalidRequest" | "" | "InvalidArgument") => (
                K::Unsupported,
                RetryAction::None,
                hint("if the objects are encrypted with a key of yours (SSE-C), set sse-customer-key"),
            ),
            _ => (K::Unsupported, RetryAction::None, None),
        }
    }

    fn denied(&self, code: &str) -> String {
        let hint = match code {
            "SignatureDoesNotMatch" => {
                return format!(
                    "the secret key does not belong to the access key, or a proxy rewrites requests, or the region is \
                     not {}: name it by --region or &region= in the URL",
                    self.region
                );
            }
            "InvalidAccessKeyId" | "NotSignedUp" => "the service does not know the access key: check key and endpoint",
            "AccountProblem" | "AllAccessDisabled" => "the account or bucket is disabled",
            _ if self.object => {
                "the credentials need s3:GetObject on this key (and kms:Decrypt where it is encrypted so)"
            }
            _ => "the credentials need s3:ListBucket on this bucket and prefix",
        };
        hint.to_owned()
    }

    fn named_region(&self) -> Option<&str> {
        let header = self.headers.get("x-amz-bucket-region").and_then(|v| v.to_str().ok());
        let said = || self.body.message.as_deref().and_then(region_in);
        header.or(self.body.region.as_deref()).or_else(said).filter(|r| is_region(r))
    }

    /// The region that the response names, if the request was signed for another one.
    fn other_region(&self) -> Option<&str> {
        self.named_region().filter(|region| *region != self.region)
    }

    /// Classifies a redirect. Hydrant never follows redirects. If the response names another region, the
    /// request is signed for that region and sent again.
    fn moved(&self) -> (StoreErrorKind, RetryAction, Option<String>) {
        match self.other_region() {
            Some(region) => {
                let hint = format!("the bucket is in region {region}, not {}: set it so", self.region);
                (StoreErrorKind::InvalidResponse, RetryAction::Region(region.to_owned()), Some(hint))
            }
            _ => {
                let hint = "redirects to other hosts are not followed: check endpoint and region";
                (StoreErrorKind::InvalidResponse, RetryAction::None, Some(hint.to_owned()))
            }
        }
    }

    /// The service expects another region in the signature. Some services do not say which.
    fn signed_for_another_region(&self) -> (StoreErrorKind, RetryAction, Option<String>) {
        if self.named_region().is_some() {
            return self.moved();
        }
        let hint = format!(
            "the service expects another region than {}: name it by --region or &region= in the URL",
            self.region
        );
        (StoreErrorKind::InvalidResponse, RetryAction::None, Some(hint))
    }

    fn clock(&self, at_least_secs: i64) -> RetryAction {
        match date(self.headers, "date").filter(|date| seconds(*date) < CLOCK_END_SECS) {
            Some(date) => {
                let skew = seconds(date) - seconds(self.signed_at);
                let offset_secs = seconds(date) - seconds(self.now);
                if skew.abs() >= at_least_secs.max(1) { RetryAction::Clock { offset_secs } } else { RetryAction::None }
            }
            None => RetryAction::None,
        }
    }
}

/// The region that an error's message names: `the region 'x' is wrong; expecting 'y'` (AWS, Wasabi, Backblaze), or
/// `The region name 'x' is not valid. Must be one of: wnam, …, auto` (Cloudflare R2, where `auto` is always right).
fn region_in(message: &str) -> Option<&str> {
    if let Some((_, list)) = message.split_once("Must be one of:") {
        return list.split(',').map(|name| name.trim().trim_end_matches('.')).find(|name| *name == "auto");
    }
    let (_, rest) = message.split_once("expecting '")?;
    rest.split_once('\'').map(|(region, _)| region)
}

/// Returns the pause in Retry-After if it is a number of seconds (RFC 9110, 10.2.3), at most
/// [`MAX_RETRY_AFTER`].
fn retry_after(headers: &HeaderMap) -> Duration {
    let text = headers.get(http::header::RETRY_AFTER).and_then(|v| v.to_str().ok()).unwrap_or("").trim();
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let seconds = if is_number { text.parse().unwrap_or(u64::MAX) } else { 0 };
    Duration::from_secs(seconds).min(MAX_RETRY_AFTER)
}

fn seconds(time: SystemTime) -> i64 {
    DateTime::from(time).secs()
}

/// Returns the value of a header that contains an HTTP date.
pub(super) fn date(headers: &HeaderMap, name: &str) -> Option<SystemTime> {
    let text = headers.get(name)?.to_str().ok()?;
    DateTime::from_str(text, Format::HttpDate).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use crate::store::s3::classify::*;
    use http::HeaderValue;

    fn classified(status: u16, code: &str, headers: &[(&'static str, &'static str)], object: bool) -> RequestError {
        let headers =
            headers.iter().map(|(n, v)| (http::HeaderName::from_static(n), HeaderValue::from_static(v))).collect();
        ErrorResponse {
            status: StatusCode::from_u16(status).unwrap(),
            headers: &headers,
            body: ErrorBody {
                code: (!code.is_empty()).then(|| code.to_owned()),
                message: None,
                request_id: Some("BODY".into()),
                ..ErrorBody::default()
            },
            region: "us-east-1",
            generation: 7,
            signed_at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000),
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000),
            object,
        }
        .into_request_error()
    }

    #[test]
    fn a_certificate_s_error_has_no_list_of_algorithms() {
        let long = "invalid peer certificate: UnsupportedSignatureAlgorithmContext { signature_algorithm_id: [6, 9] }";
        assert_eq!(without_dump(long), "invalid peer certificate: UnsupportedSignatureAlgorithmContext");
        assert_eq!(without_dump("invalid peer certificate: UnknownIssuer"), "invalid peer certificate: UnknownIssuer");
    }

    #[test]
    fn statuses_and_codes_decide_kind_and_action() {
        use StoreErrorKind as K;
        for (status, code, object, kind, action) in [
            (503, "SlowDown", true, K::Throttled, RetryAction::Throttled),
            (400, "KMS.ThrottlingException", true, K::Throttled, RetryAction::Throttled),
            (429, "", true, K::Throttled, RetryAction::Throttled),
            (400, "RequestTimeout", true, K::Timeout, RetryAction::Again),
            (408, "RequestCanceled", true, K::Timeout, RetryAction::Again),
            (500, "", false, K::Server, RetryAction::Again),
            (501, "", false, K::NotImplemented, RetryAction::None),
            (400, "ExpiredToken", true, K::Credentials, RetryAction::Credentials { generation: 7 }),
            (404, "", true, K::NotFound, RetryAction::None),
            (404, "", false, K::NoSuchBucket, RetryAction::None),
            (404, "NoSuchBucket", true, K::NoSuchBucket, RetryAction::None),
            (412, "PreconditionFailed", true, K::PreconditionFailed, RetryAction::None),
            (416, "InvalidRange", true, K::SizeDiffers, RetryAction::None),
            (403, "InvalidObjectState", true, K::Archived, RetryAction::None),
            (403, "AccessDenied", true, K::AccessDenied, RetryAction::None),
            (301, "PermanentRedirect", false, K::InvalidResponse, RetryAction::None),
            (304, "", true, K::InvalidResponse, RetryAction::InvalidResponse),
        ] {
            let t = classified(status, code, &[], object);
            assert_eq!((t.error.kind, t.action), (kind, action), "{status} {code}");
        }
    }

    #[test]
    fn a_server_is_waited_for_as_long_as_it_says_within_bounds() {
        for (status, said, seconds) in [
            (503, "3", 3),
            (429, " 7 ", 7),
            (503, "0", 0),
            (503, "3600", 20),
            (503, "99999999999999999999999", 20),
            (503, "-5", 0),
            (503, "+5", 0),
            (503, "1.5", 0),
            (503, "", 0),
            (503, "Sun, 09 Sep 2001 02:46:40 GMT", 0),
            (500, "3", 0),
            (404, "3", 0),
        ] {
            let t = classified(status, "SlowDown", &[("retry-after", said)], true);
            assert_eq!(t.retry_after, Duration::from_secs(seconds), "{status} {said:?}");
        }
        assert_eq!(classified(503, "SlowDown", &[], true).retry_after, Duration::ZERO);
    }

    #[test]
    fn regions_in_messages() {
        for (message, region) in [
            (
                "The authorization header is malformed; the region 'a' is wrong; expecting 'eu-west-1'",
                Some("eu-west-1"),
            ),
            ("The region name 'a' is not valid. Must be one of: wnam, enam, weur, eeur, apac, auto", Some("auto")),
            ("The region name 'a' is not valid. Must be one of: b, c", None),
            ("expecting 'x", None),
            ("Authorization header malformed, unexpected scope: 20260101/us-east-1/s3/aws4_request", None),
        ] {
            assert_eq!(region_in(message), region, "{message}");
        }
    }

    #[test]
    fn regions_and_clocks_are_learned_from_headers() {
        let t = classified(301, "PermanentRedirect", &[("x-amz-bucket-region", "eu-north-1")], false);
        assert_eq!(t.action, RetryAction::Region("eu-north-1".into()));
        assert!(t.error.hint.unwrap().contains("eu-north-1"));
        assert_eq!(
            classified(400, "", &[("x-amz-bucket-region", "eu-north-1")], true).action,
            RetryAction::Region("eu-north-1".into())
        );
        assert_eq!(classified(301, "", &[("x-amz-bucket-region", "evil.com/")], false).action, RetryAction::None);
        assert_eq!(classified(301, "", &[("x-amz-bucket-region", "us-east-1")], false).action, RetryAction::None);
        let date = [("date", "Sun, 09 Sep 2001 02:46:40 GMT"), ("x-amz-request-id", "HEADER")];
        let t = classified(403, "RequestTimeTooSkewed", &date, true);
        assert_eq!(t.action, RetryAction::Clock { offset_secs: 3600 });
        assert_eq!(t.error.request_id.as_deref(), Some("HEADER"));
        assert_eq!(classified(403, "", &date, true).action, RetryAction::Clock { offset_secs: 3600 });
        assert_eq!(classified(403, "InvalidAccessKeyId", &date, true).action, RetryAction::None);
        // A refusal that names another region is one of the region.
        let t = classified(403, "SignatureDoesNotMatch", &[("x-amz-bucket-region", "eu-north-1")], false);
        assert_eq!(t.action, RetryAction::Region("eu-north-1".into()));
        assert_eq!(
            classified(403, "AccessDenied", &[("x-amz-bucket-region", "us-east-1")], false).action,
            RetryAction::None
        );
        let far = [("date", "Fri, 31 Dec 9999 23:59:59 GMT")];
        assert_eq!(classified(403, "RequestTimeTooSkewed", &far, true).action, RetryAction::None);
        let last = [("date", "Thu, 31 Dec 9998 23:59:59 GMT")];
        assert!(matches!(classified(403, "RequestTimeTooSkewed", &last, true).action, RetryAction::Clock { .. }));
    }
}
