//! Checks AWS Signature Version 4 in the Authorization header. The canonical request is built here from the
//! received request alone, without code of the client that is being tested.

use super::options::SimCredentials;
use super::text::{percent_encode, query_pairs};
use crate::hex::Hex;
use crate::timestamp::Timestamp;
use http::request::Parts;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::time::{Duration, SystemTime};

/// The reason why a request is refused: HTTP status, S3 error code and message.
pub(super) struct Refusal {
    pub status: u16,
    pub code: &'static str,
    pub message: String,
}

/// The largest difference allowed between the client's and the server's clock.
const MAX_SKEW: Duration = Duration::from_secs(15 * 60);

fn refusal(status: u16, code: &'static str, message: impl Into<String>) -> Refusal {
    Refusal { status, code, message: message.into() }
}

/// Checks the signature of a request. `path` is the decoded path. Returns the hash of the payload that the
/// signature covers.
pub(super) fn check(parts: &Parts, path: &str, wanted: &SimCredentials, region: &str) -> Result<String, Refusal> {
    let Some(authorization) = parts.headers.get(http::header::AUTHORIZATION) else {
        return Err(refusal(403, "AccessDenied", "Access Denied (no Authorization header)"));
    };
    let malformed = |what: &str| refusal(400, "AuthorizationHeaderMalformed", what);
    let authorization =
        authorization.to_str().map_err(|_| malformed("The authorization header is malformed; it is not ASCII"))?;
    let fields = authorization
        .strip_prefix("AWS4-HMAC-SHA256")
        .ok_or_else(|| malformed("The authorization mechanism you have provided is not supported"))?;
    let (mut credential, mut signed_headers, mut signature) = ("", "", "");
    for field in fields.split(',') {
        match field.trim().split_once('=') {
            Some(("Credential", value)) => credential = value,
            Some(("SignedHeaders", value)) => signed_headers = value,
            Some(("Signature", value)) => signature = value,
            _ => return Err(malformed("The authorization header is malformed; a field is unknown")),
        }
    }
    let scope: Vec<&str> = credential.rsplitn(5, '/').collect();
    let [terminator, service, signed_region, date, access_key] = scope.as_slice() else {
        return Err(malformed("The authorization header is malformed; the Credential is mal-formed"));
    };
    if *access_key != wanted.access_key {
        return Err(refusal(
            403,
            "InvalidAccessKeyId",
            "The AWS Access Key Id you provided does not exist in our records.",
        ));
    }
    if *terminator != "aws4_request" || *service != "s3" {
        return Err(malformed("The authorization header is malformed; incorrect service"));
    }
    if *signed_region != region {
        return Err(malformed(&format!(
            "The authorization header is malformed; the region '{signed_region}' is wrong; expecting '{region}'"
        )));
    }
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    let token = header("x-amz-security-token");
    if token != wanted.session_token.as_deref().unwrap_or("") {
        return Err(refusal(400, "InvalidToken", "The provided token is malformed or otherwise invalid."));
    }
    let signed: Vec<&str> = signed_headers.split(';').collect();
    if !signed.contains(&"host") {
        return Err(refusal(403, "AccessDenied", "The host header was not signed"));
    }
    if let Some(name) =
        parts.headers.keys().find(|name| name.as_str().starts_with("x-amz-") && !signed.contains(&name.as_str()))
    {
        return Err(refusal(
            403,
            "AccessDenied",
            format!("There were headers present in the request which were not signed: {name}"),
        ));
    }
    let amz_date = header("x-amz-date");
    let time = parse_amz_date(amz_date)
        .filter(|_| amz_date.starts_with(date))
        .ok_or_else(|| refusal(403, "AccessDenied", "AWS authentication requires a valid x-amz-date header"))?;
    let now = SystemTime::now();
    let skew = now.duration_since(time).or_else(|_| time.duration_since(now)).unwrap_or(Duration::MAX);
    if skew > MAX_SKEW {
        return Err(refusal(
            403,
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
        ));
    }
    let payload_hash = header("x-amz-content-sha256");
    if payload_hash.is_empty() {
        return Err(refusal(400, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256"));
    }
    let canonical = canonical_request(parts, path, &signed, signed_headers, payload_hash);
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{amz_date}\n{date}/{region}/s3/aws4_request\n{}",
        Hex(&Sha256::digest(canonical.as_bytes()))
    );
    let key = aws_sigv4::sign::v4::generate_signing_key(&wanted.secret_key, time, region, "s3");
    let expected = aws_sigv4::sign::v4::calculate_signature(key, to_sign.as_bytes());
    if expected != signature {
        return Err(refusal(
            403,
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. \
             Check your key and signing method.",
        ));
    }
    Ok(payload_hash.to_owned())
}

fn canonical_request(parts: &Parts, path: &str, signed: &[&str], signed_headers: &str, payload_hash: &str) -> String {
    let mut canonical = format!("{}\n", parts.method);
    percent_encode(&mut canonical, path.as_bytes(), b"/");
    canonical.push('\n');
    let mut query: Vec<(String, String)> = query_pairs(parts.uri.query().unwrap_or(""))
        .into_iter()
        .map(|(name, value)| {
            let (mut encoded_name, mut encoded_value) = (String::new(), String::new());
            percent_encode(&mut encoded_name, name.as_bytes(), b"");
            percent_encode(&mut encoded_value, value.as_bytes(), b"");
            (encoded_name, encoded_value)
        })
        .collect();
    query.sort();
    for (at, (name, value)) in query.iter().enumerate() {
        let separator = if at == 0 { "" } else { "&" };
        let _ = write!(canonical, "{separator}{name}={value}");
    }
    canonical.push('\n');
    for name in signed {
        let _ = write!(canonical, "{name}:");
        for (at, value) in parts.headers.get_all(*name).iter().enumerate() {
            if at > 0 {
                canonical.push(',');
            }
            let value = String::from_utf8_lossy(value.as_bytes());
            for (at, word) in value.split_ascii_whitespace().enumerate() {
                if at > 0 {
                    canonical.push(' ');
                }
                canonical.push_str(word);
            }
        }
        canonical.push('\n');
    }
    let _ = write!(canonical, "\n{signed_headers}\n{payload_hash}");
    canonical
}

/// Parses a time of the form `20261122T013236Z`.
fn parse_amz_date(text: &str) -> Option<SystemTime> {
    if text.len() != 16 || !text.is_ascii() {
        return None;
    }
    let rfc3339 = format!(
        "{}-{}-{}T{}:{}:{}Z",
        text.get(..4)?,
        text.get(4..6)?,
        text.get(6..8)?,
        text.get(9..11)?,
        text.get(11..13)?,
        text.get(13..15)?
    );
    let nanos = Timestamp::parse_rfc3339(&rfc3339)?.as_nanos();
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(u64::try_from(nanos).ok()?))
}
