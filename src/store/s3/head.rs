//! HEAD requests, which return the size, times and entity tag of an object.

use super::super::{Etag, Head, StoreError, StoreErrorKind};
use super::request_log::TARGET;
use super::retry::RetryState;
use super::send::Operation;
use super::version::{of_version, version_query};
use super::{Http, S3};
use crate::store::s3::classify::{RequestError, date};
use crate::timestamp::Timestamp;
use http::header::{CONTENT_LENGTH, ETAG, LAST_MODIFIED, RANGE};
use http::{HeaderMap, HeaderValue, Method};

impl S3 {
    /// Requests the metadata of the object `key`, with `version_id` of that version. If the HEAD is denied, a GET of one byte finds the reason.
    ///
    /// # Errors
    /// [`StoreError`] after all retries.
    pub async fn head(&self, http: &Http, key: &str, version_id: Option<&str>) -> Result<Head, StoreError> {
        let query = version_id.map(version_query).unwrap_or_default();
        let found = self.head_of(http, key, &query).await;
        if version_id.is_some() { found.map_err(of_version) } else { found }
    }

    async fn head_of(&self, http: &Http, key: &str, query: &str) -> Result<Head, StoreError> {
        let client = self.client(http)?;
        let head = Operation {
            method: Method::HEAD,
            key: Some(key),
            query,
            headers: self.object_headers(),
            listed: None,
            counter: |c| &c.heads,
        };
        let mut tries = RetryState::default();
        let answer = match self.send(&client, &head, &mut tries).await {
            Ok(answer) => answer,
            // The response to a denied HEAD has no body with the reason, such as an expired token. The response
            // to a GET of one byte has, and `send` acts on it.
            Err(error) if matches!(error.kind, StoreErrorKind::AccessDenied | StoreErrorKind::Unsupported) => {
                tracing::debug!(target: TARGET, key, "HEAD was denied: a GET of one byte shows why");
                let mut headers = self.object_headers();
                headers.insert(RANGE, HeaderValue::from_static("bytes=0-0"));
                let get = Operation { method: Method::GET, headers, counter: |c| &c.gets, ..head };
                // `map(drop)` releases the limiter's permit of the GET before the HEAD acquires one.
                let allowed = self.send(&client, &get, &mut tries).await.map(drop);
                if let Err(error) = allowed
                    && error.kind != StoreErrorKind::SizeDiffers
                {
                    return Err(error);
                }
                let head =
                    Operation { method: Method::HEAD, headers: self.object_headers(), counter: |c| &c.heads, ..get };
                self.send(&client, &head, &mut tries).await?
            }
            Err(error) => return Err(error),
        };
        let found = parse(answer.headers());
        drop(answer);
        let head = Operation {
            method: Method::HEAD,
            key: Some(key),
            query,
            headers: HeaderMap::new(),
            listed: None,
            counter: |c| &c.heads,
        };
        found.ok_or_else(|| self.store_error(*RequestError::invalid_response("no Content-Length").error, &head, &tries))
    }
}

fn parse(headers: &HeaderMap) -> Option<Head> {
    let text = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    Some(Head {
        size: text(CONTENT_LENGTH)?.parse().ok()?,
        etag: etag(headers),
        last_modified: date(headers, LAST_MODIFIED.as_str()).map(Timestamp::from_system_time),
        litestream_timestamp: litestream_timestamp(headers),
    })
}

pub(super) fn etag(headers: &HeaderMap) -> Option<Etag> {
    Etag::parse(headers.get(ETAG)?.to_str().ok()?)
}

/// The tag of an answer for comparison. A weak one counts too: a proxy that may compress an answer makes its tag weak.
pub(super) fn compared_etag(headers: &HeaderMap) -> Option<Etag> {
    let text = headers.get(ETAG)?.to_str().ok()?.trim();
    Etag::parse(text.strip_prefix("W/").unwrap_or(text))
}

/// The file's creation time in the user metadata: RFC 3339 with nanoseconds (docs/FORMAT.md,
/// "Times").
pub(super) fn litestream_timestamp(headers: &HeaderMap) -> Option<Timestamp> {
    Timestamp::parse_rfc3339(headers.get("x-amz-meta-litestream-timestamp")?.to_str().ok()?)
}
