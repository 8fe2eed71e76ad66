//! Serves one request: parses it, applies the faults that it meets, and answers it.

use super::auth;
use super::body::SimBody;
use super::list::{self, ListOptions, ListQuery};
use super::objects::Object;
use super::options::{Failure, Outcome, Quirk, RequestKind, VersionListings};
use super::shared::{Connection, InFlight, Shared};
use super::text::{http_date, percent_decode, query_pairs, xml_escape};
use super::upload;
use super::version_pages::{self, VersionsQuery};
use super::versions::Found;
use crate::hex::Hex;
use crate::sim::random::mix;
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use sha2::{Digest, Sha256};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// The largest body of a PUT request that the simulator accepts, in bytes.
const MAX_PUT_BYTES: usize = 512 * 1024 * 1024;

pub(super) type Answer = Response<SimBody>;

/// The state of one request while it is served.
struct Exchange<'a> {
    shared: &'a Arc<Shared>,
    connection: &'a Arc<Connection>,
    in_flight: Option<InFlight>,
    kind: RequestKind,
    request_id: u64,
    resource: String,
}

/// Serves a request. If it returns an error, the connection ends without an answer.
pub(super) async fn handle(
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    request: http::Request<Incoming>,
) -> io::Result<Answer> {
    let (parts, body) = request.into_parts();
    let in_flight = Some(InFlight::new(&shared));
    let request_id = mix(shared.seed ^ shared.next_request.fetch_add(1, Ordering::Relaxed));
    let path = percent_decode(parts.uri.path()).map(|path| path.into_owned());
    let host_bucket = virtual_host_bucket(&shared, &parts);
    let (bucket, key) = match (&path, &host_bucket) {
        (Some(path), Some(bucket)) => (bucket.as_str(), path.strip_prefix('/').unwrap_or(path)),
        (Some(path), None) => {
            let path = path.strip_prefix('/').unwrap_or(path);
            path.split_once('/').unwrap_or((path, ""))
        }
        (None, _) => ("", ""),
    };
    let query = query_pairs(parts.uri.query().unwrap_or(""));
    let parameter = |name: &str| query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    let kind = kind_of(&parts.method, bucket, key, &query);
    let mut exchange = Exchange {
        shared: &shared,
        connection: &connection,
        in_flight,
        kind,
        request_id,
        resource: format!("/{bucket}/{key}"),
    };
    if path.is_none() {
        return Ok(exchange.error(400, "InvalidURI", "Couldn't parse the specified URI.", Outcome::Refused));
    }

    let (asked, detail) = if matches!(kind, RequestKind::List | RequestKind::ListVersions) {
        let detail = ["continuation-token", "start-after", "key-marker"].into_iter().find_map(&parameter).unwrap_or("");
        (parameter("prefix").unwrap_or(""), detail.as_bytes())
    } else {
        (key, parts.headers.get(header::RANGE).map_or(&[][..], |range| range.as_bytes()))
    };
    shared.faults.admitted(kind).await;
    let verdict = shared.faults.judge(kind, bucket, asked, detail, Instant::now());
    if !verdict.delay.is_zero() {
        tokio::time::sleep(verdict.delay).await;
    }
    if let Some(failed) = exchange.fail(verdict.failure).await {
        return failed;
    }
    let signed_hash = match &shared.credentials {
        Some(credentials) => match auth::check(&parts, path.as_deref().unwrap_or("/"), credentials, &shared.region) {
            Ok(hash) => Some(hash),
            Err(refusal) => {
                return Ok(exchange.error(refusal.status, refusal.code, &refusal.message, Outcome::Refused));
            }
        },
        None => None,
    };

    match kind {
        RequestKind::List => Ok(exchange.list(bucket, &query, verdict)),
        RequestKind::ListVersions => Ok(match shared.version_listings {
            VersionListings::Served => exchange.versions(bucket, &query, verdict),
            VersionListings::Ignored => exchange.list(bucket, &query, verdict),
            VersionListings::Refused => exchange.not_implemented(),
        }),
        RequestKind::Get | RequestKind::Head => exchange.object((bucket, key), parameter("versionId"), &parts, verdict),
        RequestKind::Put => {
            let Ok(collected) = Limited::new(body, MAX_PUT_BYTES).collect().await else {
                return Ok(exchange.error(400, "EntityTooLarge", "Your upload is cut or too large", Outcome::Refused));
            };
            let bytes = collected.to_bytes();
            if signed_hash.is_some_and(|hash| is_hash(&hash) && hash != Hex(&Sha256::digest(&bytes)).to_string()) {
                let message = "The provided 'x-amz-content-sha256' header does not match what was computed.";
                return Ok(exchange.error(400, "XAmzContentSHA256Mismatch", message, Outcome::Refused));
            }
            Ok(match upload::object_of(&parts.headers, bytes) {
                Some(_) if parts.headers.contains_key("x-amz-copy-source") || parameter("uploadId").is_some() => {
                    exchange.not_implemented()
                }
                Some(_) if !shared.objects.has_bucket(bucket) => exchange.no_such_bucket(),
                Some(object) => {
                    let etag = object.etag.clone();
                    shared.objects.put(bucket, key, object);
                    exchange.answer(200, Outcome::Ok, |b| b.header(header::ETAG, format!("\"{etag}\"")))
                }
                None => exchange.error(400, "InvalidRequest", "The chunked body is malformed", Outcome::Refused),
            })
        }
        RequestKind::Delete if key.is_empty() => Ok(if shared.objects.remove_bucket(bucket) {
            exchange.answer(204, Outcome::Ok, |b| b)
        } else {
            exchange.error(409, "BucketNotEmpty", "The bucket you tried to delete is not empty", Outcome::Refused)
        }),
        RequestKind::Delete => {
            shared.objects.remove(bucket, key);
            Ok(exchange.answer(204, Outcome::Ok, |b| b))
        }
        RequestKind::Other => {
            Ok(exchange.bucket_operation(bucket, key, &parts.method, parameter("location").is_some()))
        }
    }
}

fn kind_of(method: &Method, bucket: &str, key: &str, query: &[(String, String)]) -> RequestKind {
    let asks_for = |name: &str| query.iter().any(|(found, _)| found == name);
    let of_bucket = !bucket.is_empty() && key.is_empty();
    match *method {
        Method::GET if of_bucket && asks_for("versions") => RequestKind::ListVersions,
        Method::GET if of_bucket && asks_for("list-type") => RequestKind::List,
        Method::DELETE if !bucket.is_empty() => RequestKind::Delete,
        _ if bucket.is_empty() || key.is_empty() => RequestKind::Other,
        Method::GET => RequestKind::Get,
        Method::HEAD => RequestKind::Head,
        Method::PUT => RequestKind::Put,
        _ => RequestKind::Other,
    }
}

fn virtual_host_bucket(shared: &Shared, parts: &Parts) -> Option<String> {
    let domain = shared.virtual_host_domain.as_deref()?;
    let host = parts.headers.get(header::HOST)?.to_str().ok()?;
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name.strip_suffix(domain)?.strip_suffix('.').filter(|bucket| !bucket.is_empty()).map(str::to_owned)
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

impl Exchange<'_> {
    /// Builds the answer to a request that has no body.
    fn answer(
        &mut self,
        status: u16,
        outcome: Outcome,
        headers: impl FnOnce(http::response::Builder) -> http::response::Builder,
    ) -> Answer {
        self.finish(status, outcome, headers, "")
    }

    fn finish(
        &mut self,
        status: u16,
        outcome: Outcome,
        headers: impl FnOnce(http::response::Builder) -> http::response::Builder,
        text: impl Into<bytes::Bytes>,
    ) -> Answer {
        self.shared.counters.count(self.kind, outcome);
        let body = SimBody::text(text, self.connection, self.in_flight.take());
        self.build(status, headers, body)
    }

    fn build(
        &self,
        status: u16,
        headers: impl FnOnce(http::response::Builder) -> http::response::Builder,
        body: SimBody,
    ) -> Answer {
        let builder = Response::builder()
            .status(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
            .header("x-amz-request-id", format!("{:016X}", self.request_id));
        // If a header cannot be sent, because the metadata of an object holds invalid characters, the answer is
        // status 500 without a body.
        headers(builder).body(body).unwrap_or_else(|_| {
            let mut response = Response::new(SimBody::text("", self.connection, None));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        })
    }

    fn error(&mut self, status: u16, code: &str, message: &str, outcome: Outcome) -> Answer {
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>");
        for (tag, text) in [("Code", code), ("Message", message), ("Resource", self.resource.as_str())] {
            xml.push_str(&format!("<{tag}>"));
            xml_escape(&mut xml, text);
            xml.push_str(&format!("</{tag}>"));
        }
        if code == "AuthorizationHeaderMalformed" {
            xml.push_str("<Region>");
            xml_escape(&mut xml, &self.shared.region);
            xml.push_str("</Region>");
        }
        xml.push_str(&format!("<RequestId>{:016X}</RequestId></Error>", self.request_id));
        let region = self.shared.region.clone();
        let add = |builder: http::response::Builder| {
            builder.header(header::CONTENT_TYPE, "application/xml").header("x-amz-bucket-region", region)
        };
        self.finish(status, outcome, add, xml)
    }

    fn no_such_bucket(&mut self) -> Answer {
        self.error(404, "NoSuchBucket", "The specified bucket does not exist", Outcome::NotFound)
    }

    fn not_implemented(&mut self) -> Answer {
        self.error(501, "NotImplemented", "The simulator does not do this.", Outcome::Refused)
    }

    /// Returns the answer or the end of the connection that `failure` puts in place of a normal answer. None if
    /// there is no such failure.
    async fn fail(&mut self, failure: Option<Failure>) -> Option<io::Result<Answer>> {
        let (status, code, message) = match failure? {
            Failure::InternalError => (500, "InternalError", "We encountered an internal error. Please try again."),
            Failure::SlowDown => (503, "SlowDown", "Please reduce your request rate."),
            Failure::Unavailable => (503, "ServiceUnavailable", "Service is unable to handle request."),
            Failure::RequestTimeout => (
                400,
                "RequestTimeout",
                "Your socket connection to the server was not read from or written to within the timeout period.",
            ),
            Failure::AccessDenied => (403, "AccessDenied", "Access Denied"),
            Failure::Archived => {
                (403, "InvalidObjectState", "The operation is not valid for the object's storage class")
            }
            Failure::NotModified => return Some(Ok(self.answer(304, Outcome::PreconditionFailed, |b| b))),
            Failure::NoSuchKey => (404, "NoSuchKey", "The specified key does not exist."),
            Failure::ResetBeforeHeaders => {
                self.shared.counters.count(self.kind, Outcome::Reset);
                self.connection.reset.store(true, Ordering::Release);
                return Some(Err(io::ErrorKind::ConnectionReset.into()));
            }
            Failure::BlackHole => {
                self.shared.counters.count(self.kind, Outcome::BlackHole);
                return std::future::pending().await;
            }
            Failure::HalfBody | Failure::ResetAfterHeaders | Failure::StalledBody => return None,
            Failure::FlippedBit | Failure::FlippedBitAt(_) => return None,
        };
        let outcome = match status {
            403 => Outcome::Refused,
            404 => Outcome::NotFound,
            503 => Outcome::SlowDown,
            _ => Outcome::ServerError,
        };
        Some(Ok(self.error(status, code, message, outcome)))
    }

    fn list(&mut self, bucket: &str, parameters: &[(String, String)], verdict: super::faults::Verdict) -> Answer {
        let mut query = ListQuery::default();
        for (name, value) in parameters {
            match name.as_str() {
                "prefix" => query.prefix.clone_from(value),
                "delimiter" => query.delimiter.clone_from(value),
                "start-after" => query.start_after.clone_from(value),
                "continuation-token" => query.continuation_token = Some(value.clone()),
                "encoding-type" => query.url_encoding = value == "url",
                "max-keys" => match value.parse() {
                    Ok(max) => query.max_keys = Some(max),
                    Err(_) => {
                        return self.error(400, "InvalidArgument", "max-keys must be an integer", Outcome::Refused);
                    }
                },
                _ => {}
            }
        }
        let options = ListOptions {
            max_keys: self.shared.max_keys,
            unsorted: self.shared.unsorted_listings,
            etags: self.shared.listed_etags,
        };
        match list::page(&self.shared.objects, bucket, &query, &options) {
            None => self.no_such_bucket(),
            Some(Err(message)) => self.error(400, "InvalidArgument", message, Outcome::Refused),
            Some(Ok(xml)) => {
                self.shared.counters.count(self.kind, ended(verdict.failure));
                let body = SimBody::text(xml, self.connection, self.in_flight.take())
                    .paced(verdict.bandwidth)
                    .failing(verdict.failure, verdict.flip_at);
                self.build(200, |b| b.header(header::CONTENT_TYPE, "application/xml"), body)
            }
        }
    }

    fn versions(&mut self, bucket: &str, parameters: &[(String, String)], verdict: super::faults::Verdict) -> Answer {
        let query = match VersionsQuery::of(parameters) {
            Ok(query) => query,
            Err((status, code, message)) => return self.error(status, code, message, Outcome::Refused),
        };
        match version_pages::page(&self.shared.versions, bucket, &query, self.shared.max_keys) {
            None => self.no_such_bucket(),
            Some(xml) => {
                self.shared.counters.count(self.kind, ended(verdict.failure));
                let body = SimBody::text(xml, self.connection, self.in_flight.take())
                    .paced(verdict.bandwidth)
                    .failing(verdict.failure, verdict.flip_at);
                self.build(200, |b| b.header(header::CONTENT_TYPE, "application/xml"), body)
            }
        }
    }

    /// The answer to a request for a version that cannot be served.
    fn refuse_version(&mut self, found: &Found) -> Answer {
        match found {
            Found::Absent => {
                self.error(404, "NoSuchVersion", "The specified version does not exist.", Outcome::NotFound)
            }
            Found::Marker => {
                let message = "The specified method is not allowed against this resource.";
                let mut answer = self.error(405, "MethodNotAllowed", message, Outcome::Refused);
                answer.headers_mut().insert("x-amz-delete-marker", header::HeaderValue::from_static("true"));
                answer
            }
            Found::Malformed | Found::Object(_) => {
                self.error(400, "InvalidArgument", "Invalid version id specified", Outcome::Refused)
            }
        }
    }

    fn object(
        &mut self,
        (bucket, key): (&str, &str),
        version_id: Option<&str>,
        parts: &Parts,
        verdict: super::faults::Verdict,
    ) -> io::Result<Answer> {
        let found = match version_id {
            Some(id) => match self.shared.versions.version(bucket, key, id) {
                Found::Object(object) => Some(object),
                refused => return Ok(self.refuse_version(&refused)),
            },
            None => self.shared.objects.get(bucket, key),
        };
        let Some(object) = found else {
            return Ok(if self.shared.objects.has_bucket(bucket) {
                self.error(404, "NoSuchKey", "The specified key does not exist.", Outcome::NotFound)
            } else {
                self.no_such_bucket()
            });
        };
        let etag = if verdict.changed_etag {
            format!("{:032x}", mix(crate::sim::random::hash(1, object.etag.as_bytes())))
        } else {
            object.etag.clone()
        };
        let tag = match verdict.quirk {
            Some(Quirk::EtagSuffix) => format!("\"{etag}-gzip\""),
            Some(Quirk::WeakEtag) => format!("W/\"{etag}\""),
            _ => format!("\"{etag}\""),
        };
        if let Some(wanted) = header_text(&parts.headers, header::IF_MATCH) {
            if verdict.quirk == Some(Quirk::IfMatchUnknown) {
                return Ok(self.not_implemented());
            }
            if !etag_matches(wanted, tag.trim_matches('"')) || verdict.quirk == Some(Quirk::IfMatchFails) {
                let message = "At least one of the pre-conditions you specified did not hold";
                return Ok(self.error(412, "PreconditionFailed", message, Outcome::PreconditionFailed));
            }
        }
        if let Some(unwanted) = header_text(&parts.headers, header::IF_NONE_MATCH)
            && etag_matches(unwanted, &etag)
        {
            return Ok(self.answer(304, Outcome::PreconditionFailed, |b| b.header(header::ETAG, format!("\"{etag}\""))));
        }
        let archived = matches!(object.storage_class.as_deref(), Some("GLACIER" | "DEEP_ARCHIVE"));
        if archived && self.kind == RequestKind::Get {
            let message = "The operation is not valid for the object's storage class";
            return Ok(self.error(403, "InvalidObjectState", message, Outcome::Refused));
        }
        let len = object.content.len();
        let asked = header_text(&parts.headers, header::RANGE).filter(|_| verdict.quirk != Some(Quirk::NoRanges));
        let range = match asked.map(|text| parse_range(text, len)) {
            None | Some(Asked::Whole) => None,
            Some(Asked::Range(range)) => Some(range),
            Some(Asked::Unsatisfiable) => {
                let message = "The requested range is not satisfiable";
                let mut answer = self.error(416, "InvalidRange", message, Outcome::BadRange);
                if let Ok(value) = format!("bytes */{len}").parse() {
                    answer.headers_mut().insert(header::CONTENT_RANGE, value);
                }
                return Ok(answer);
            }
        };
        let status = if range.is_some() && verdict.quirk != Some(Quirk::RangeAs200) { 206 } else { 200 };
        let served = range.clone().unwrap_or(0..len);
        let content_length = served.end - served.start;
        let body = if self.kind == RequestKind::Head {
            SimBody::text("", self.connection, self.in_flight.take())
        } else {
            match SimBody::object(&object.content, served.clone(), self.connection, self.in_flight.take()) {
                Ok(body) => body.paced(verdict.bandwidth).failing(verdict.failure, verdict.flip_at),
                Err(error) => {
                    return Ok(self.error(500, "InternalError", &error.to_string(), Outcome::ServerError));
                }
            }
        };
        self.shared.counters.count(self.kind, ended(verdict.failure));
        let versioned = |b: http::response::Builder| match version_id.filter(|id| *id != "null") {
            Some(id) => b.header("x-amz-version-id", id),
            None => b,
        };
        Ok(self.build(status, |b| versioned(object_headers(b, &object, &tag, range, content_length)), body))
    }

    fn bucket_operation(&mut self, bucket: &str, key: &str, method: &Method, location: bool) -> Answer {
        let objects = &self.shared.objects;
        let region = self.shared.region.clone();
        if !key.is_empty() || (bucket.is_empty() && *method != Method::GET) {
            return self.not_implemented();
        }
        if *method == Method::PUT {
            objects.create_bucket(bucket);
            return self.answer(200, Outcome::Ok, |b| b.header(header::LOCATION, format!("/{bucket}")));
        }
        if bucket.is_empty() {
            let mut xml = String::from(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListAllMyBucketsResult><Owner><ID>sim</ID></Owner><Buckets>",
            );
            for name in objects.buckets() {
                xml.push_str("<Bucket><Name>");
                xml_escape(&mut xml, &name);
                xml.push_str("</Name><CreationDate>2026-01-01T00:00:00.000Z</CreationDate></Bucket>");
            }
            xml.push_str("</Buckets></ListAllMyBucketsResult>");
            return self.finish(200, Outcome::Ok, |b| b.header(header::CONTENT_TYPE, "application/xml"), xml);
        }
        if !objects.has_bucket(bucket) {
            return self.no_such_bucket();
        }
        match *method {
            Method::HEAD => self.answer(200, Outcome::Ok, |b| b.header("x-amz-bucket-region", region)),
            Method::GET if location => {
                let text = if region == "us-east-1" { String::new() } else { region };
                let xml = format!(
                    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<LocationConstraint \
                     xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{text}</LocationConstraint>"
                );
                self.finish(200, Outcome::Ok, |b| b.header(header::CONTENT_TYPE, "application/xml"), xml)
            }
            _ => self.not_implemented(),
        }
    }
}

fn ended(failure: Option<Failure>) -> Outcome {
    match failure {
        Some(Failure::HalfBody | Failure::ResetAfterHeaders | Failure::StalledBody) => Outcome::Cut,
        Some(Failure::FlippedBit | Failure::FlippedBitAt(_)) => Outcome::Cut,
        _ => Outcome::Ok,
    }
}

fn object_headers(
    mut builder: http::response::Builder,
    object: &Object,
    tag: &str,
    range: Option<Range<u64>>,
    content_length: u64,
) -> http::response::Builder {
    builder = builder
        .header(header::ETAG, tag)
        .header(header::LAST_MODIFIED, http_date(object.last_modified))
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::CONTENT_TYPE, "binary/octet-stream")
        .header(header::CONTENT_LENGTH, content_length);
    if let Some(range) = range {
        let total = object.content.len();
        builder = builder
            .header(header::CONTENT_RANGE, format!("bytes {}-{}/{total}", range.start, range.end.saturating_sub(1)));
    }
    if let Some(class) = &object.storage_class {
        builder = builder.header("x-amz-storage-class", class);
    }
    for (name, value) in &object.metadata {
        builder = builder.header(format!("x-amz-meta-{name}"), value);
    }
    builder
}

fn header_text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn etag_matches(wanted: &str, etag: &str) -> bool {
    wanted.split(',').map(str::trim).any(|wanted| wanted == "*" || wanted.trim_matches('"') == etag)
}

/// The part of an object that a Range header asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Whole,
    Range(Range<u64>),
    Unsatisfiable,
}

/// Parses a Range header for an object of `len` bytes. A header that cannot be parsed, or that asks for several
/// ranges, gets the whole object.
fn parse_range(text: &str, len: u64) -> Asked {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Asked::Whole;
    };
    match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Err(_), Ok(suffix)) if first.trim().is_empty() => {
            if suffix == 0 || len == 0 {
                Asked::Unsatisfiable
            } else {
                Asked::Range(len.saturating_sub(suffix)..len)
            }
        }
        (Ok(first), Err(_)) if last.trim().is_empty() => {
            if first >= len {
                Asked::Unsatisfiable
            } else {
                Asked::Range(first..len)
            }
        }
        (Ok(first), Ok(last)) if first <= last => {
            if first >= len {
                Asked::Unsatisfiable
            } else {
                Asked::Range(first..last.saturating_add(1).min(len))
            }
        }
        _ => Asked::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(parse_range("bytes=0-9", 100), Asked::Range(0..10));
        assert_eq!(parse_range("bytes=90-200", 100), Asked::Range(90..100));
        assert_eq!(parse_range("bytes=90-", 100), Asked::Range(90..100));
        assert_eq!(parse_range("bytes=-10", 100), Asked::Range(90..100));
        assert_eq!(parse_range("bytes=-200", 100), Asked::Range(0..100));
        assert_eq!(parse_range("bytes=100-", 100), Asked::Unsatisfiable);
        assert_eq!(parse_range("bytes=-0", 100), Asked::Unsatisfiable);
        assert_eq!(parse_range("bytes=0-0", 0), Asked::Unsatisfiable);
        assert_eq!(parse_range("bytes=9-3", 100), Asked::Whole);
        assert_eq!(parse_range("bytes=0-1,4-5", 100), Asked::Whole);
        assert_eq!(parse_range("pages=1-2", 100), Asked::Whole);
        assert_eq!(parse_range("bytes=0-18446744073709551615", 100), Asked::Range(0..100));
    }
}
