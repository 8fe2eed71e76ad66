//! ListObjectVersions: requests and parses one page of a bucket's history.
//!
//! Invariant: entries keep the order of the document, across `<Version>` and `<DeleteMarker>`. A page is either complete
//! or an error, as in `list`.

use super::super::{Etag, ListRequest, StoreError, StoreErrorKind};
use super::endpoint::encoded;
use super::list::{decoded, not_utf8, time};
use super::retry::RetryState;
use super::send::Operation;
use super::xml::{Visitor, walk};
use super::{Http, S3};
use crate::store::s3::classify::{RequestError, RetryAction, date};
use crate::store::versions::{VersionData, VersionEntry, VersionMarkers, VersionsPage, VersionsRequest};
use crate::telemetry::Stage;
use crate::timestamp::Timestamp;
use http::{HeaderMap, Method};
use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// The beginning of the error of a service that has no versions.
const NO_VERSIONS: &str = "the service does not list object versions";

impl S3 {
    /// Requests one page of the history of the bucket.
    ///
    /// # Errors
    /// [`StoreError`] after all retries. [`StoreErrorKind::NotImplemented`] if the service does not list versions,
    /// also if it ignores the parameter and lists objects.
    pub async fn list_versions_page(&self, http: &Http, request: &VersionsRequest) -> Result<VersionsPage, StoreError> {
        let client = self.client(http)?;
        let encoding = self.encodes_keys.load(Relaxed);
        let query_text = query(request, encoding);
        // For the log and for errors.
        let listed = ListRequest {
            prefix: request.prefix.clone(),
            delimiter: request.delimiter,
            continuation: request.markers.as_ref().map(|markers| markers.key.clone()),
            ..ListRequest::default()
        };
        let mut tries = RetryState::default();
        // This loop ends: `send` and `prepare_retry` count the attempts and return an error after the last one.
        loop {
            let operation = Operation {
                method: Method::GET,
                key: None,
                query: &query_text,
                headers: HeaderMap::new(),
                listed: Some(&listed),
                counter: |c| &c.lists,
            };
            let answer = self.send(&client, &operation, &mut tries).await.map_err(explained)?;
            let sent = answer.sent;
            let server_time = date(answer.headers(), "date").map(Timestamp::from_system_time);
            let page = match self.read_body(answer, &mut tries).await {
                Ok((body, waited)) => {
                    let begun = Instant::now();
                    let page = parse(&body, request);
                    http.recorder().record(Stage::List, waited + begun.elapsed());
                    page.map_err(|problem| problem.error(&body))
                }
                Err(error) => Err(error),
            };
            match page {
                Ok(page) => return Ok(VersionsPage { server_time, ..page }),
                Err(error) => self.prepare_retry(error.of(sent), &operation, &mut tries).await?,
            }
        }
    }
}

/// The error of a request for versions, which says what the service or its permissions lack. A 400 with a meaning of its
/// own, such as expired credentials or another region, says nothing about versions and is kept.
fn explained(mut error: StoreError) -> StoreError {
    let status = |code: &str| error.detail.strip_prefix("HTTP ").is_some_and(|rest| rest.starts_with(code));
    if error.kind == StoreErrorKind::AccessDenied && status("403: AccessDenied") {
        error.detail = format!("access denied: listing versions needs s3:ListBucketVersions ({})", error.detail);
    } else if status("501") || status("405") || (status("400") && error.kind == StoreErrorKind::Unsupported) {
        let mut words = error.detail.split(": ");
        let told: Vec<&str> = words.by_ref().take(2).collect();
        error.detail = format!("{NO_VERSIONS} ({})", told.join(" "));
        error.kind = StoreErrorKind::NotImplemented;
        error.hint = None;
    }
    error
}

/// Returns the query string for a page. A signature needs `versions` with an empty value.
fn query(request: &VersionsRequest, encoding: bool) -> String {
    let mut query = String::new();
    let delimiter = request.delimiter.map(String::from);
    let markers = request.markers.as_ref();
    for (name, value) in [
        ("delimiter", delimiter.as_deref()),
        ("encoding-type", encoding.then_some("url")),
        ("key-marker", markers.map(|markers| markers.key.as_str())),
        ("max-keys", Some("1000")),
        ("prefix", Some(request.prefix.as_str())),
        ("version-id-marker", markers.and_then(|markers| markers.version_id.as_deref())),
    ] {
        if let Some(value) = value {
            let _ = write!(query, "{name}={}&", encoded(value));
        }
    }
    query.push_str("versions=");
    query
}

/// Why a page cannot be used.
#[derive(Debug, PartialEq, Eq)]
enum Problem {
    /// The document lists objects: the service does not know the parameter.
    ListsObjects,
    /// The document is malformed.
    Malformed(String),
}

impl Problem {
    fn error(self, body: &[u8]) -> RequestError {
        match self {
            Self::ListsObjects => RequestError::new(
                StoreErrorKind::NotImplemented,
                format!("{NO_VERSIONS} (it ignores the parameter versions and answers with ListBucketResult)"),
                RetryAction::None,
            ),
            Self::Malformed(why) => super::list::not_a_page(body, &why),
        }
    }
}

/// Parses the XML document `body` of one page of versions. `request` is what was asked for. The error says what is wrong
/// with the document.
pub fn parse_versions_page(body: &[u8], request: &VersionsRequest) -> Result<VersionsPage, String> {
    parse(body, request).map_err(|problem| match problem {
        Problem::ListsObjects => NO_VERSIONS.to_owned(),
        Problem::Malformed(why) => why,
    })
}

/// Parses the XML document of one page.
fn parse(body: &[u8], request: &VersionsRequest) -> Result<VersionsPage, Problem> {
    let mut parser = VersionsParser::default();
    let walked = walk(body, &mut parser);
    if parser.lists_objects {
        return Err(Problem::ListsObjects);
    }
    walked.map_err(Problem::Malformed)?;
    parser.finish(request).map_err(Problem::Malformed)
}

#[derive(Default)]
struct VersionsParser {
    page: VersionsPage,
    lists_objects: bool,
    url_encoded: bool,
    truncated: Option<bool>,
    next_key: Option<String>,
    next_version: Option<String>,
    entry: ParsedVersion,
}

#[derive(Default)]
struct ParsedVersion {
    key: Option<String>,
    version_id: Option<Box<str>>,
    is_latest: bool,
    last_modified: Option<Timestamp>,
    etag: Option<Etag>,
    size: Option<u64>,
    storage_class: Option<Box<str>>,
}

impl Visitor for VersionsParser {
    fn open(&mut self, path: &[String]) -> Result<(), String> {
        match path {
            [root] if root != "ListVersionsResult" => {
                self.lists_objects = root == "ListBucketResult";
                Err(format!("<{}> is not a listing of versions", root.escape_default()))
            }
            [_, entry] if entry == "Version" || entry == "DeleteMarker" => {
                self.entry = ParsedVersion::default();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn close(&mut self, path: &[String], text: &str) -> Result<(), String> {
        let bad = |name: &str| format!("a bad {name}: {:?}", text.chars().take(64).collect::<String>());
        let names: Vec<&str> = path.iter().skip(1).map(String::as_str).collect();
        match names.as_slice() {
            ["Version" | "DeleteMarker", field] => {
                let entry = &mut self.entry;
                match *field {
                    "Key" => entry.key = Some(text.to_owned()),
                    "VersionId" => entry.version_id = Some(text.trim().into()),
                    "IsLatest" => entry.is_latest = text.trim() == "true",
                    "LastModified" => {
                        entry.last_modified = Some(time(text.trim()).ok_or_else(|| bad("LastModified"))?);
                    }
                    "ETag" => entry.etag = Etag::parse(text),
                    "Size" => entry.size = Some(text.trim().parse().map_err(|_| bad("Size"))?),
                    "StorageClass" => {
                        entry.storage_class = Some(text.trim()).filter(|class| *class != "STANDARD").map(Into::into);
                    }
                    _ => {}
                }
            }
            [kind @ ("Version" | "DeleteMarker")] => {
                let entry = std::mem::take(&mut self.entry);
                self.page.entries.push(entry.finish(*kind == "DeleteMarker")?);
            }
            ["CommonPrefixes", "Prefix"] => self.page.common_prefixes.push(text.to_owned()),
            ["EncodingType"] => self.url_encoded = text.trim() == "url",
            ["IsTruncated"] => {
                self.truncated = Some(match text.trim() {
                    "true" => true,
                    "false" => false,
                    _ => return Err(bad("IsTruncated")),
                });
            }
            ["NextKeyMarker"] => self.next_key = Some(text.to_owned()).filter(|marker| !marker.is_empty()),
            ["NextVersionIdMarker"] => self.next_version = Some(text.to_owned()).filter(|marker| !marker.is_empty()),
            _ => {}
        }
        Ok(())
    }
}

impl ParsedVersion {
    fn finish(self, is_marker: bool) -> Result<VersionEntry, String> {
        let data = if is_marker {
            None
        } else {
            let archived = matches!(self.storage_class.as_deref(), Some("GLACIER" | "DEEP_ARCHIVE"));
            let size = self.size.ok_or("a version without Size")?;
            Some(VersionData { size, etag: self.etag, storage_class: self.storage_class, archived })
        };
        Ok(VersionEntry {
            key: self.key.ok_or("a version without Key")?,
            version_id: self.version_id.filter(|id| !id.is_empty()).ok_or("a version without VersionId")?,
            last_modified: self.last_modified.ok_or("a version without LastModified")?,
            is_latest: self.is_latest,
            data,
        })
    }
}

impl VersionsParser {
    fn finish(self, request: &VersionsRequest) -> Result<VersionsPage, String> {
        let Self { mut page, url_encoded, truncated, mut next_key, next_version, .. } = self;
        // As for listings of objects: some servers say `url` and encode nothing.
        let keys = page.entries.iter().map(|entry| &entry.key).chain(&page.common_prefixes).chain(&next_key);
        if url_encoded && keys.into_iter().all(|key| key.bytes().all(|b| b.is_ascii_graphic())) {
            let unlisted = &mut page.unlisted;
            page.entries.retain_mut(|entry| match decoded(&entry.key) {
                Ok(key) => {
                    entry.key = key;
                    true
                }
                Err(key) => {
                    unlisted.push(not_utf8(key));
                    false
                }
            });
            page.common_prefixes.retain_mut(|prefix| decoded(prefix).map(|plain| *prefix = plain).is_ok());
            next_key = match next_key.as_deref().map(decoded) {
                Some(Err(_)) => return Err("its marker for the rest is not UTF-8".to_owned()),
                Some(Ok(key)) => Some(key),
                None => None,
            };
        }
        page.next = match (truncated, next_key) {
            (Some(true), Some(key)) => Some(VersionMarkers { key, version_id: next_version }),
            (Some(true), None) => return Err("it is truncated but has no marker for the rest".to_owned()),
            (Some(false), _) => None,
            (None, _) => return Err("it does not say whether it is truncated".to_owned()),
        };
        if page.next.is_some() && page.next == request.markers {
            return Err("its markers for the rest lead back to itself".to_owned());
        }
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(entries: &str) -> String {
        format!("<ListVersionsResult>{entries}</ListVersionsResult>")
    }

    fn parsed(entries: &str) -> Result<VersionsPage, Problem> {
        parse(document(entries).as_bytes(), &VersionsRequest::default())
    }

    const MARKER: &str = "<DeleteMarker><Key>a%2B+b</Key><VersionId>m</VersionId><IsLatest>true</IsLatest>\
                          <LastModified>2026-01-01T00:00:00.000Z</LastModified></DeleteMarker>";
    const VERSION: &str = "<Version><Key>a%2B+b</Key><VersionId>null</VersionId><IsLatest>false</IsLatest>\
                           <LastModified>2026-01-01T00:00:00Z</LastModified><ETag>&quot;abc&quot;</ETag><Size>7</Size>\
                           <StorageClass>GLACIER</StorageClass></Version>";

    #[test]
    fn entries_keep_the_order_of_the_document() {
        let end = "<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>\
                   <NextKeyMarker>a%2B[x:y</NextKeyMarker><NextVersionIdMarker>v+1</NextVersionIdMarker>";
        for (first, second, markers) in [(MARKER, VERSION, [true, false]), (VERSION, MARKER, [false, true])] {
            let page = parsed(&format!("{first}{second}{end}")).unwrap();
            assert_eq!(page.entries.iter().map(|entry| entry.data.is_none()).collect::<Vec<_>>(), markers);
            assert!(page.entries.iter().all(|entry| entry.key == "a+ b"));
            let next = page.next.unwrap();
            assert_eq!((next.key.as_str(), next.version_id.as_deref()), ("a+[x:y", Some("v+1")));
        }
        let page = parsed(&format!("{VERSION}<IsTruncated>false</IsTruncated>")).unwrap();
        let data = page.entries[0].data.clone().unwrap();
        assert_eq!((page.entries[0].key.as_str(), data.size, data.archived), ("a%2B+b", 7, true));
        assert_eq!((&*page.entries[0].version_id, data.etag), ("null", Etag::parse("abc")));
    }

    #[test]
    fn what_is_no_page() {
        for bad in [
            "",
            "<IsTruncated>true</IsTruncated>",
            "<IsTruncated>maybe</IsTruncated>",
            "<Version><Key>a</Key></Version><IsTruncated>false</IsTruncated>",
        ] {
            assert!(matches!(parsed(bad), Err(Problem::Malformed(_))), "{bad}");
        }
        let asked = VersionMarkers { key: "k".to_owned(), version_id: None };
        let request = VersionsRequest { markers: Some(asked), ..VersionsRequest::default() };
        let same = document("<IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker>");
        assert!(parse(same.as_bytes(), &request).is_err());
        let objects = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
        assert_eq!(parse(objects, &VersionsRequest::default()), Err(Problem::ListsObjects));
    }

    #[test]
    fn errors_with_a_meaning_of_their_own_are_kept() {
        let error = |kind, detail: &str| StoreError {
            kind,
            what: "LIST s3://b/".to_owned(),
            detail: detail.to_owned(),
            request_id: None,
            hint: Some("what to do".to_owned()),
            attempts: 1,
        };
        for (kind, detail) in [
            (StoreErrorKind::Credentials, "HTTP 400: ExpiredToken: m"),
            (StoreErrorKind::InvalidResponse, "HTTP 400: AuthorizationHeaderMalformed: m"),
            (StoreErrorKind::Timeout, "HTTP 400: RequestTimeout: m"),
            (StoreErrorKind::AccessDenied, "HTTP 403: SignatureDoesNotMatch: m"),
            (StoreErrorKind::NoSuchBucket, "HTTP 404: NoSuchBucket: m"),
        ] {
            let kept = explained(error(kind, detail));
            assert_eq!((kept.kind, kept.detail.as_str(), kept.hint.is_some()), (kind, detail, true));
        }
        for (kind, detail) in [
            (StoreErrorKind::NotImplemented, "HTTP 501: NotImplemented: m"),
            (StoreErrorKind::Unsupported, "HTTP 405: MethodNotAllowed: m"),
            (StoreErrorKind::Unsupported, "HTTP 400: InvalidArgument: m"),
        ] {
            let other = explained(error(kind, detail));
            assert_eq!(other.kind, StoreErrorKind::NotImplemented, "{detail}");
            assert!(other.detail.starts_with(NO_VERSIONS), "{}", other.detail);
        }
    }

    #[test]
    fn the_query_is_what_services_sign() {
        let markers = VersionMarkers { key: "p/a[x]".to_owned(), version_id: Some("v 1".to_owned()) };
        let request = VersionsRequest { prefix: "p/".to_owned(), delimiter: Some('/'), markers: Some(markers) };
        assert_eq!(
            query(&request, true),
            "delimiter=%2F&encoding-type=url&key-marker=p%2Fa%5Bx%5D&max-keys=1000&prefix=p%2F&version-id-marker=v%201&\
             versions="
        );
    }
}
