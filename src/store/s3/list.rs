//! ListObjectsV2: requests and parses one page of a listing.
//!
//! Invariant: a page is either complete or an error. A page that says it is truncated but has no continuation
//! token, or the same token as the request, is an error and never the end of the listing (docs/GUARANTEES.md, 9
//! and 26).

use super::super::{Etag, ListPage, ListRequest, ObjectMeta, StoreError, StoreErrorKind, Unlisted};
use super::endpoint::encoded;
use super::foreign::{self, NOT_S3};
use super::response::{Answer, Chunk};
use super::retry::RetryState;
use super::send::Operation;
use super::xml::{Visitor, walk};
use super::{Http, S3};
use crate::store::s3::classify::RequestError;
use crate::telemetry::{Recorder, Stage};
use crate::timestamp::Timestamp;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use http::{HeaderMap, HeaderValue, Method};
use percent_encoding::percent_decode_str;
use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Maximum size of a page in bytes. 1,000 keys of 1,024 bytes, each byte percent-encoded as three, are 3 MiB.
const MAX_PAGE_BYTES: usize = 16 << 20;
const COMPRESSED: &str = "something between here and the bucket compresses";

impl S3 {
    /// Requests one page of a listing of the bucket.
    ///
    /// # Errors
    /// [`StoreError`] after all retries.
    pub async fn list_page(&self, http: &Http, request: &ListRequest) -> Result<ListPage, StoreError> {
        let client = self.client(http)?;
        let mut headers = HeaderMap::new();
        if self.endpoint.as_ref().is_ok_and(|e| e.is_aws()) {
            // The response should contain RestoreStatus, because archived objects that were restored for a time
            // can be read.
            headers.insert("x-amz-optional-object-attributes", HeaderValue::from_static("RestoreStatus"));
        }
        let mut encoding = self.encodes_keys.load(Relaxed);
        let mut query_text = query(request, encoding);
        let mut tries = RetryState::default();
        // This loop ends: `send` and `prepare_retry` count the attempts and return an error after the last one.
        loop {
            let operation = Operation {
                method: Method::GET,
                key: None,
                query: &query_text,
                headers: headers.clone(),
                listed: Some(request),
                counter: |c| &c.lists,
            };
            let answer = match self.send(&client, &operation, &mut tries).await {
                // Some servers do not support the parameter `encoding-type`. The request is repeated without
                // it.
                Err(error) if encoding && error.kind == StoreErrorKind::NotImplemented => {
                    self.encodes_keys.store(false, Relaxed);
                    encoding = false;
                    query_text = query(request, encoding);
                    continue;
                }
                answer => answer?,
            };
            let sent = answer.sent;
            match self.read_page(answer, request, encoding, &mut tries, http.recorder()).await {
                Ok(page) => return Ok(page),
                Err(error) => self.prepare_retry(error.of(sent), &operation, &mut tries).await?,
            }
        }
    }

    async fn read_page(
        &self,
        answer: Answer,
        request: &ListRequest,
        encoding: bool,
        tries: &mut RetryState,
        recorder: &Recorder,
    ) -> Result<ListPage, RequestError> {
        let (body, waited) = self.read_body(answer, tries).await?;
        let begun = Instant::now();
        let (mut page, declared) = parse(&body, request.continuation.as_deref()).map_err(|e| not_a_page(&body, &e))?;
        if encoding && !declared {
            decode_undeclared(&mut page, &request.prefix);
        }
        recorder.record(Stage::List, waited + begun.elapsed());
        Ok(page)
    }

    /// Reads the document of a page, and how long it was waited for.
    pub(super) async fn read_body(
        &self,
        mut answer: Answer,
        tries: &mut RetryState,
    ) -> Result<(Vec<u8>, Duration), RequestError> {
        if let Some(coding) = foreign::compression(answer.headers()) {
            let detail = format!("listing: compressed ({coding}), though not asked for");
            return Err(RequestError::invalid_response(detail).hint(COMPRESSED));
        }
        let mut body = Vec::new();
        // This loop ends: the size of a page and the time to wait for each chunk are limited.
        loop {
            match answer.chunk(self, self.timeouts.crawl_window, tries).await? {
                Chunk::Bytes(bytes) if body.len() + bytes.len() <= MAX_PAGE_BYTES => body.extend_from_slice(&bytes),
                Chunk::Bytes(_) => {
                    return Err(RequestError::invalid_response(format!("a page of more than {MAX_PAGE_BYTES} bytes")));
                }
                Chunk::Slow(_) => {
                    return Err(RequestError::timeout("the page came at a crawl", self.timeouts.crawl_window));
                }
                Chunk::End => break,
            }
        }
        Ok((body, answer.waited))
    }
}

/// The error for a document that is no page of a listing. `why` says what the parser has found.
pub(super) fn not_a_page(body: &[u8], why: &str) -> RequestError {
    if foreign::is_web_page(body) {
        let words = foreign::own_words(body).map(|words| format!(": {words}")).unwrap_or_default();
        return RequestError::invalid_response(format!("answers with a web page, not S3{words}")).hint(NOT_S3);
    }
    if foreign::is_gzip(body) {
        let detail = "listing: compressed, though not asked for";
        return RequestError::invalid_response(detail).hint(COMPRESSED);
    }
    RequestError::invalid_response(format!("listing: {why}"))
}

/// Returns the query string for a page. `encoding` asks for percent-encoded keys, because keys can contain
/// characters that XML cannot.
fn query(request: &ListRequest, encoding: bool) -> String {
    let mut query = String::from("list-type=2");
    if encoding {
        query.push_str("&encoding-type=url");
    }
    let delimiter = request.delimiter.map(String::from);
    for (name, value) in [
        ("prefix", Some(&request.prefix)),
        ("delimiter", delimiter.as_ref()),
        ("start-after", request.start_after.as_ref()),
        ("continuation-token", request.continuation.as_ref()),
    ] {
        if let Some(value) = value {
            let _ = write!(query, "&{name}={}", encoded(value));
        }
    }
    query
}

/// Parses the XML document `body` of one page. `asked` is the continuation token of the request. The error says
/// what is wrong with the document.
pub fn parse_list_page(body: &[u8], asked: Option<&str>) -> Result<ListPage, String> {
    parse(body, asked).map(|(page, _)| page)
}

/// Parses a page. Also returns whether the document says that its keys are percent-encoded.
fn parse(body: &[u8], asked: Option<&str>) -> Result<(ListPage, bool), String> {
    let mut parser = Parser::default();
    // Some servers write keys as they are, which need not be UTF-8. Only these keys cannot be used.
    let odd = Odd::of(body);
    match &odd {
        None => walk(body, &mut parser)?,
        Some(odd) => walk(odd.text.as_bytes(), &mut parser).map_err(|_| "not UTF-8")?,
    }
    let Parser { mut page, url_encoded, truncated, next, .. } = parser;
    if let Some(odd) = odd {
        odd.set_keys_aside(&mut page);
        if next.as_deref().is_some_and(|token| token.contains(odd.mark)) {
            return Err("its token for the rest is not UTF-8".to_owned());
        }
    }
    // The continuation token is opaque and, unlike keys, never encoded.
    page.continuation = match (truncated, next) {
        (Some(true), None) => {
            return Err("it is truncated but has no token for the rest: the service has no ListObjectsV2".to_owned());
        }
        (Some(true), Some(next)) if asked == Some(next.as_str()) => {
            return Err("its token for the rest leads back to itself".to_owned());
        }
        (Some(true), next) => next,
        (Some(false), _) => None,
        (None, _) => return Err("it does not say whether it is truncated".to_owned()),
    };
    // Some servers say `url` but encode nothing. Encoded text has only visible ASCII characters. If any key on
    // the page has another character, no key on it is encoded.
    let keys = page.objects.iter().map(|object| &object.key).chain(&page.common_prefixes);
    if url_encoded && keys.into_iter().all(|key| key.bytes().all(|b| b.is_ascii_graphic())) {
        decode(&mut page);
    }
    Ok((page, url_encoded))
}

/// Decodes all keys of a page. A key that is not UTF-8 cannot be asked for again: it is [`Unlisted`].
fn decode(page: &mut ListPage) {
    let ListPage { objects, common_prefixes, unlisted, .. } = page;
    objects.retain_mut(|object| match decoded(&object.key) {
        Ok(key) => {
            object.key = key;
            true
        }
        Err(key) => {
            unlisted.push(not_utf8(key));
            false
        }
    });
    common_prefixes.retain_mut(|prefix| decoded(prefix).map(|plain| *prefix = plain).is_ok());
}

/// The object `key`, in which U+FFFD stands for bytes that are not UTF-8.
pub(super) fn not_utf8(key: String) -> Unlisted {
    tracing::debug!(target: "hydrant::s3", key, "a key that is not UTF-8");
    Unlisted { key, kind: StoreErrorKind::Unsupported, detail: "the key is not UTF-8".to_owned() }
}

/// A document that is not UTF-8, with a mark in place of the bytes that are not.
struct Odd {
    text: String,
    mark: char,
}

impl Odd {
    /// None if `body` is UTF-8.
    fn of(body: &[u8]) -> Option<Self> {
        std::str::from_utf8(body).err()?;
        // A character that the document does not hold: 6,400 are tried.
        let mut marks = '\u{e000}'..='\u{f8ff}';
        let is_free = |mark: &char| !body.utf8_chunks().any(|chunk| chunk.valid().contains(*mark));
        let mark = marks.find(is_free)?;
        let mut text = String::with_capacity(body.len());
        for chunk in body.utf8_chunks() {
            text.push_str(chunk.valid());
            if !chunk.invalid().is_empty() {
                text.push(mark);
            }
        }
        Some(Self { text, mark })
    }

    /// Moves the marked keys of a page to those that could not be listed.
    fn set_keys_aside(&self, page: &mut ListPage) {
        let ListPage { objects, common_prefixes, unlisted, .. } = page;
        objects.retain(|object| {
            let is_odd = object.key.contains(self.mark);
            if is_odd {
                unlisted.push(not_utf8(object.key.replace(self.mark, "\u{fffd}")));
            }
            !is_odd
        });
        common_prefixes.retain(|prefix| !prefix.contains(self.mark));
    }
}

/// Decodes the keys of a server that encodes them as asked and does not say so. It shows where no
/// key begins with the prefix that was asked for, and each one does once it is decoded.
fn decode_undeclared(page: &mut ListPage, prefix: &str) {
    let keys = || page.objects.iter().map(|object| &object.key).chain(&page.common_prefixes);
    if prefix.is_empty() || keys().any(|key| key.starts_with(prefix)) {
        return;
    }
    let begins = |key: &String| decoded(key).unwrap_or_else(|lossy| lossy).starts_with(prefix);
    if keys().all(begins) {
        decode(page);
    }
}

/// Decodes a key that was encoded for `encoding-type=url`: `+` is a space and `%2B` is a plus.
pub(super) fn decoded(text: &str) -> Result<String, String> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced);
    match decoded.clone().decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(decoded.decode_utf8_lossy().into_owned()),
    }
}

/// Parses a time in the form of RFC 3339, or in that of HTTP dates, which some servers return.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    Timestamp::parse_rfc3339(text).or_else(|| {
        let date = DateTime::from_str(text, Format::HttpDate).ok()?;
        Timestamp::parse_rfc3339(&date.fmt(Format::DateTime).ok()?)
    })
}

#[derive(Default)]
struct Parser {
    page: ListPage,
    url_encoded: bool,
    truncated: Option<bool>,
    next: Option<String>,
    object: Object,
}

#[derive(Default)]
struct Object {
    key: Option<String>,
    size: Option<u64>,
    last_modified: Option<Timestamp>,
    etag: Option<Etag>,
    archived: bool,
    readable_copy: bool,
}

impl Visitor for Parser {
    fn open(&mut self, path: &[String]) -> Result<(), String> {
        match path {
            [root] if root != "ListBucketResult" => Err(format!("<{}> is not a listing", root.escape_default())),
            [_, contents] if contents == "Contents" => {
                self.object = Object::default();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn close(&mut self, path: &[String], text: &str) -> Result<(), String> {
        let mut names = path.iter().skip(1).map(String::as_str);
        let (first, second, third) = (names.next(), names.next(), names.next());
        let field = |name: &str| format!("a bad {name}: {:?}", text.chars().take(64).collect::<String>());
        match (first, second, third) {
            (Some("Contents"), Some("Key"), None) => self.object.key = Some(text.to_owned()),
            (Some("Contents"), Some("Size"), None) => {
                self.object.size = Some(text.trim().parse().map_err(|_| field("Size"))?);
            }
            (Some("Contents"), Some("LastModified"), None) => {
                self.object.last_modified = Some(time(text.trim()).ok_or_else(|| field("LastModified"))?);
            }
            (Some("Contents"), Some("ETag"), None) => self.object.etag = Etag::parse(text),
            (Some("Contents"), Some("StorageClass"), None) => {
                self.object.archived = matches!(text.trim(), "GLACIER" | "DEEP_ARCHIVE");
            }
            (Some("Contents"), Some("RestoreStatus"), Some("RestoreExpiryDate")) => self.object.readable_copy = true,
            (Some("Contents"), None, None) => {
                let object = std::mem::take(&mut self.object);
                self.page.objects.push(ObjectMeta {
                    key: object.key.ok_or("an object without Key")?,
                    size: object.size.ok_or("an object without Size")?,
                    last_modified: object.last_modified.ok_or("an object without LastModified")?,
                    etag: object.etag,
                    archived: object.archived && !object.readable_copy,
                });
            }
            (Some("CommonPrefixes"), Some("Prefix"), None) => self.page.common_prefixes.push(text.to_owned()),
            (Some("IsTruncated"), None, None) => {
                self.truncated = Some(match text.trim() {
                    "true" => true,
                    "false" => false,
                    _ => return Err(field("IsTruncated")),
                });
            }
            (Some("NextContinuationToken"), None, None) if !text.is_empty() => self.next = Some(text.to_owned()),
            (Some("EncodingType"), None, None) => self.url_encoded = text.trim() == "url",
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(inside: &str) -> String {
        format!("<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3/\">{inside}</ListBucketResult>")
    }

    const OBJECT: &str = "<Contents><Key>a+b%2Bc%2F%C3%BC&amp;</Key><LastModified>2026-11-22T01:32:36.000Z</LastModified>\
        <ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag><Size>7</Size><StorageClass>DEEP_ARCHIVE</StorageClass></Contents>";

    #[test]
    fn a_page() {
        let body = listing(&format!(
            "<Name>b</Name><Prefix/><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>{OBJECT}\
             <NextContinuationToken>t+1%2B</NextContinuationToken><CommonPrefixes><Prefix>p%20/</Prefix></CommonPrefixes>"
        ));
        let page = parse_list_page(body.as_bytes(), Some("t0")).unwrap();
        assert_eq!(page.continuation.as_deref(), Some("t+1%2B"));
        assert_eq!(page.common_prefixes, ["p /"]);
        let object = &page.objects[0];
        assert_eq!((object.key.as_str(), object.size, object.archived), ("a b+c/ü&", 7, true));
        assert_eq!(object.etag.as_ref().unwrap().to_string(), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(object.last_modified.to_string(), "2026-11-22T01:32:36Z");

        let plain = listing(&format!("<IsTruncated>false</IsTruncated>{OBJECT}"));
        assert_eq!(parse_list_page(plain.as_bytes(), None).unwrap().objects[0].key, "a+b%2Bc%2F%C3%BC&");
    }

    #[test]
    fn a_restored_copy_is_readable() {
        let with = |status: &str| {
            let object = OBJECT.replace("</Contents>", &format!("<RestoreStatus>{status}</RestoreStatus></Contents>"));
            let body = listing(&format!("<IsTruncated>false</IsTruncated>{object}"));
            parse_list_page(body.as_bytes(), None).unwrap().objects[0].archived
        };
        assert!(!with(
            "<IsRestoreInProgress>false</IsRestoreInProgress><RestoreExpiryDate>2027-01-01T00:00:00Z</RestoreExpiryDate>"
        ));
        assert!(with("<IsRestoreInProgress>true</IsRestoreInProgress>"));
    }

    #[test]
    fn what_is_no_page() {
        let whole = listing(&format!("<IsTruncated>false</IsTruncated>{OBJECT}"));
        assert!(parse_list_page(whole.as_bytes(), None).is_ok());
        for cut in 0..whole.len() {
            assert!(parse_list_page(&whole.as_bytes()[..cut], None).is_err(), "cut at {cut}");
        }
        let token = "<NextContinuationToken>t</NextContinuationToken>";
        for bad in [
            listing("<IsTruncated>true</IsTruncated>"),
            listing("<IsTruncated>true</IsTruncated><NextContinuationToken/>"),
            listing(&format!("<IsTruncated>true</IsTruncated>{token}")),
            listing("<IsTruncated>yes</IsTruncated>"),
            listing(OBJECT),
            listing(&whole[whole.find("<Contents>").unwrap()..].replace("<Size>7</Size>", "<Size>-7</Size>")),
            whole.replace("<Size>7</Size>", ""),
            whole.replace("<Size>7</Size>", "<Size>18446744073709551616</Size>"),
            whole.replace("2026-11-22T", "2026-13-22T"),
            whole.replace("ListBucketResult", "html"),
            listing("<EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>&bomb;"),
        ] {
            assert!(parse_list_page(bad.as_bytes(), Some("t")).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_that_is_not_utf8_fails_alone() {
        let odd = OBJECT.replace("a+b%2Bc%2F%C3%BC&amp;", "caf%E9.db%2F0000");
        let body = listing(&format!(
            "<EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>{odd}{OBJECT}\
             <CommonPrefixes><Prefix>p%E9/</Prefix></CommonPrefixes><CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes>"
        ));
        let page = parse_list_page(body.as_bytes(), None).unwrap();
        assert_eq!(page.objects.iter().map(|object| object.key.as_str()).collect::<Vec<_>>(), ["a b+c/ü&"]);
        assert_eq!(page.common_prefixes, ["p/"]);
        let unlisted: Vec<_> = page.unlisted.iter().map(|unlisted| unlisted.error().to_string()).collect();
        assert_eq!(unlisted, ["list caf\u{fffd}.db/0000: the key is not UTF-8"]);
    }

    #[test]
    fn raw_bytes_that_are_not_utf8_make_one_key_bad() {
        let odd = OBJECT.replace("a+b%2Bc%2F%C3%BC&amp;", "caf#\u{e000}.db/0000");
        let whole = OBJECT.replace("a+b%2Bc%2F%C3%BC&amp;", "caf\u{fffd}\u{e000}.db/0000");
        let prefixes =
            "<CommonPrefixes><Prefix>p#/</Prefix></CommonPrefixes><CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes>";
        let raw = |text: &str| text.bytes().map(|byte| if byte == b'#' { 0xe9 } else { byte }).collect::<Vec<u8>>();
        for encoding in ["", "<EncodingType>url</EncodingType>"] {
            let inside = format!("{encoding}<IsTruncated>false</IsTruncated>{odd}{whole}{OBJECT}{prefixes}");
            let page = parse_list_page(&raw(&listing(&inside)), None).unwrap();
            let keys: Vec<_> = page.objects.iter().map(|object| object.key.as_str()).collect();
            // One key that is not encoded shows that no key of the page is.
            assert_eq!(keys, ["caf\u{fffd}\u{e000}.db/0000", "a+b%2Bc%2F%C3%BC&"]);
            assert_eq!(page.common_prefixes, ["p/"]);
            let unlisted: Vec<_> = page.unlisted.iter().map(|unlisted| unlisted.key.as_str()).collect();
            assert_eq!(unlisted, ["caf\u{fffd}\u{e000}.db/0000"]);
        }
        let token = listing("<IsTruncated>true</IsTruncated><NextContinuationToken>t#</NextContinuationToken>");
        assert!(parse_list_page(&raw(&token), None).is_err());
        assert_eq!(parse_list_page(b"\xff\xfe<\0", None).unwrap_err(), "not UTF-8");
    }

    #[test]
    fn keys_that_a_server_only_claims_to_encode_are_taken_literally() {
        let object = |key: &str| OBJECT.replace("a+b%2Bc%2F%C3%BC&amp;", key);
        let page = |key: &str| {
            let body =
                listing(&format!("<EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>{}", object(key)));
            parse_list_page(body.as_bytes(), None).unwrap().objects[0].key.clone()
        };
        assert_eq!(page("plus+and/a &amp; more"), "plus+and/a & more");
        assert_eq!(page("plus%2Band/a+more"), "plus+and/a more");
    }

    #[test]
    fn a_server_may_encode_keys_and_not_say_so() {
        let object = |key: &str| OBJECT.replace("a+b%2Bc%2F%C3%BC&amp;", key);
        let page = |keys: &[&str], prefix: &str| {
            let objects: String = keys.iter().map(|key| object(key)).collect();
            let body = listing(&format!("<IsTruncated>false</IsTruncated>{objects}"));
            let (mut page, declared) = parse(body.as_bytes(), None).unwrap();
            assert!(!declared);
            decode_undeclared(&mut page, prefix);
            page.objects.into_iter().map(|object| object.key).collect::<Vec<_>>()
        };
        assert_eq!(page(&["a+b%2F1", "a%20b%2F2"], "a b/"), ["a b/1", "a b/2"]);
        assert_eq!(page(&["p%2F1"], "p/"), ["p/1"]);
        // One key that is not encoded shows that no key of the page is.
        assert_eq!(page(&["p/%41", "p/2"], "p/"), ["p/%41", "p/2"]);
        assert_eq!(page(&["p%2F1", "q%2F2"], "p/"), ["p%2F1", "q%2F2"]);
        assert_eq!(page(&["p%2F1"], ""), ["p%2F1"]);
    }

    #[test]
    fn times_may_be_http_dates() {
        let object = OBJECT.replace("2026-11-22T01:32:36.000Z", "Sun, 22 Nov 2026 01:32:36 GMT");
        let body = listing(&format!("<IsTruncated>false</IsTruncated>{object}"));
        let page = parse_list_page(body.as_bytes(), None).unwrap();
        assert_eq!(page.objects[0].last_modified.to_string(), "2026-11-22T01:32:36Z");
    }

    #[test]
    fn queries_are_encoded() {
        let request = ListRequest {
            prefix: "a b/ü+".into(),
            start_after: Some("x&y".into()),
            delimiter: Some('/'),
            continuation: Some("t=/+".into()),
        };
        assert_eq!(
            query(&request, true),
            "list-type=2&encoding-type=url&prefix=a%20b%2F%C3%BC%2B&delimiter=%2F&start-after=x%26y&continuation-token=t%3D%2F%2B"
        );
    }
}
