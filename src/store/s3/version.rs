//! Requests for one version of an object: the query string, and what errors mean.

use super::endpoint::encoded;
use crate::error::BUG;
use crate::store::{StoreError, StoreErrorKind};

/// The query string of a request for a version.
pub(super) fn version_query(version_id: &str) -> String {
    format!("versionId={}", encoded(version_id))
}

/// The error of a request for a version.
pub(super) fn of_version(mut error: StoreError) -> StoreError {
    match error.kind {
        StoreErrorKind::AccessDenied
            if error.detail.contains("AccessDenied") || error.detail.starts_with("HTTP 403") =>
        {
            error.detail = format!("access denied: reading a version needs s3:GetObjectVersion ({})", error.detail);
        }
        StoreErrorKind::Unsupported if error.detail.starts_with("HTTP 405") => {
            error.detail = format!("{BUG}: a delete marker was taken for a version ({})", error.detail);
            error.hint = None;
        }
        _ => {}
    }
    error
}
