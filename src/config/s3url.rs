//! Splits replica URLs into their parts. `url::Url` cannot parse them: the host of an `s3://` URL may hold
//! underscores, the port of an endpoint, or a whole ARN.

use super::endpoint::{self, DefaultScheme, HostParts};
use super::{ConfigError, parameters, paths};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::form_urlencoded;

/// A URL split into its parts, which are not decoded. The scheme is in lower case.
pub(super) struct RawUrl<'a> {
    pub scheme: String,
    pub authority: &'a str,
    /// The path with its leading slash. Empty if the URL has no path.
    pub path: &'a str,
    pub query: &'a str,
}

impl<'a> RawUrl<'a> {
    /// Splits `text`. Returns None if it does not contain `://`. A `#` is an ordinary character; a caller that
    /// wants no fragment cuts it off first.
    pub(super) fn split(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_at_checked(rest.find('/').unwrap_or(rest.len()))?;
        Some(Self { scheme: scheme.to_ascii_lowercase(), authority, path, query })
    }
}

/// An `s3://` URL: the bucket, the path, the settings that the host implies, and the settings in the query.
pub(super) struct S3Url {
    pub host: HostParts,
    /// The URL's path, decoded and without its first slash.
    pub path: String,
    /// Whether the URL ends with the bucket's name, without a slash behind it.
    ends_with_bucket: bool,
    pub query: S3Query,
}

/// The query parameters that have an effect.
#[derive(Default)]
pub(super) struct S3Query {
    /// The S3 endpoint that the query names, normalised to `scheme://host[:port]`.
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub path_style: Option<bool>,
    pub skip_verify: Option<bool>,
    pub sse_algorithm: Option<String>,
    pub sse_key: Option<String>,
    pub sse_key_md5: Option<String>,
    /// Warnings about parameters without effect.
    pub warnings: Vec<String>,
}

impl S3Url {
    /// Parses a replica URL whose scheme is `s3`.
    pub(super) fn parse(url: &RawUrl<'_>) -> Result<Self, ConfigError> {
        let query = S3Query::parse(url.query)?;
        if is_arn(url.authority) {
            // The path of an access point is not decoded, because Litestream does not decode it either.
            let (host, path) = access_point(url.authority, url.path)?;
            return Ok(Self { host, path: path.to_owned(), ends_with_bucket: false, query });
        }
        if url.authority.contains('@') {
            return Err(ConfigError::UserInfo);
        }
        if url.authority.is_empty() {
            return Err(ConfigError::BucketMissing);
        }
        let host = endpoint::host_parts(url.authority)?;
        let path = decoded(url.path.strip_prefix('/').unwrap_or(url.path))?;
        Ok(Self { host, path, ends_with_bucket: url.path.is_empty(), query })
    }

    /// The path as a key prefix, clean and without a slash at either end. At the bucket's root it is empty, or `.`
    /// if the URL ends with the bucket: Litestream then begins its keys with `./`.
    pub(super) fn clean_path(&self) -> String {
        if self.ends_with_bucket { ".".to_owned() } else { paths::join_slash("", &self.path) }
    }
}

/// Whether `text`, a bucket or a URL's authority, begins with `arn:`.
pub(super) fn is_arn(text: &str) -> bool {
    text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("arn:"))
}

/// Parses the URL of an S3 access point. The authority is `arn:aws:s3:REGION:ACCOUNT:accesspoint` and the path is
/// `/NAME/path`. The whole ARN with NAME takes the place of the bucket.
fn access_point<'a>(authority: &str, path: &'a str) -> Result<(HostParts, &'a str), ConfigError> {
    let path = path.strip_prefix('/').ok_or(ConfigError::BadArn)?;
    let (name, path) = path.split_once('/').unwrap_or((path, ""));
    let fields: Vec<&str> = authority.split(':').collect();
    match fields.as_slice() {
        [_, _, _, region, _, kind] if kind.eq_ignore_ascii_case("accesspoint") && !name.is_empty() => {
            let region = Some((*region).to_owned()).filter(|region| !region.is_empty());
            Ok((HostParts { bucket: format!("{authority}/{name}"), region, ..HostParts::default() }, path))
        }
        _ => Err(ConfigError::BadArn),
    }
}

impl S3Query {
    fn parse(query: &str) -> Result<Self, ConfigError> {
        let value = |names: &[&str]| {
            names.iter().find_map(|name| {
                let found = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name);
                found.map(|(_, value)| value.into_owned()).filter(|value| !value.is_empty())
            })
        };
        let boolean = |key: &'static str, kebab: &str| match value(&[key, kebab]) {
            None => Ok(None),
            Some(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "1" | "t" | "yes" => Ok(Some(true)),
                "false" | "0" | "f" | "no" => Ok(Some(false)),
                _ => Err(ConfigError::BadBoolean { key }),
            },
        };
        let warnings = parameters::check(query)?;
        // `sign-payload` has no effect on reads, but an invalid value is still an error.
        boolean("signPayload", "sign-payload")?;
        // A `+` that was not escaped arrives as a space, because a query string encodes spaces so. Base64 contains
        // no spaces, so each one was a `+`.
        let base64 = |names: &[&str]| value(names).map(|text| text.replace(' ', "+"));
        Ok(Self {
            endpoint: value(&["endpoint"])
                .map(|text| endpoint::normalized(&text, DefaultScheme::ByHost, "endpoint"))
                .transpose()?,
            region: value(&["region"]),
            path_style: boolean("forcePathStyle", "force-path-style")?,
            skip_verify: boolean("skipVerify", "skip-verify")?,
            sse_algorithm: value(&["sseCustomerAlgorithm", "sse-customer-algorithm"]),
            sse_key: base64(&["sseCustomerKey", "sse-customer-key"]),
            sse_key_md5: base64(&["sseCustomerKeyMD5", "sseCustomerKeyMd5", "sse-customer-key-md5"]),
            warnings,
        })
    }
}

/// Decodes %-escapes. A malformed escape, or a result that is not UTF-8, is an error.
pub(super) fn decoded(text: &str) -> Result<String, ConfigError> {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let is_hex = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_hexdigit());
        if byte == b'%' && !(is_hex(bytes.next()) && is_hex(bytes.next())) {
            return Err(ConfigError::BadEscape);
        }
    }
    percent_decode_str(text).decode_utf8().map(|text| text.into_owned()).map_err(|_| ConfigError::BadEscape)
}

/// Characters that Go escapes in a path: all but letters, digits and these. `#` begins the fragment, which Go adds again.
const ESCAPED_BY_GO: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b'/')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@')
    .remove(b'#');

/// The path of a URL as Go's `URL.String` writes it, which Litestream uses as the path on disk. A path with characters
/// that do not belong in a URL (spaces, letters beyond ASCII) is escaped as a whole. Any other path, with or without
/// %-escapes, stays as it is.
pub(super) fn escaped_path(path: &str) -> String {
    let is_valid = |b: u8| b.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@#!'()*[]%".contains(&b);
    match decoded(path) {
        Ok(decoded) if !path.bytes().all(is_valid) => utf8_percent_encode(&decoded, &ESCAPED_BY_GO).to_string(),
        _ => path.to_owned(),
    }
}

/// The URL for messages, without secrets. The user info is removed, and only harmless query parameters are shown.
pub(super) fn redacted(text: &str) -> String {
    let (base, query) = match text.split_once('?') {
        Some((base, query)) => (base, Some(query)),
        None => (text, None),
    };
    let (scheme, rest) = base.split_once("://").map_or(("", base), |(scheme, rest)| (scheme, rest));
    let authority_end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(authority_end).unwrap_or((rest, ""));
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    // A colon that does not precede a port may belong to a password. The authority then ended too early, at a `/`
    // or `?` inside that password, so only the scheme is shown.
    let is_port = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !is_arn(authority) && authority.rsplit_once(':').is_some_and(|(_, port)| !is_port(port)) {
        return format!("{scheme}://…");
    }
    let separator = if scheme.is_empty() { "" } else { "://" };
    let mut out = format!("{scheme}{separator}{authority}{path}");
    for (index, pair) in query.iter().flat_map(|query| query.split('&')).enumerate() {
        out.push(if index == 0 { '?' } else { '&' });
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let harmless = SHOWN_PARAMETERS.contains(&key) && !value.contains('@') && !value.contains("%40");
        out.push_str(if harmless { pair } else { "…" });
    }
    out
}

const SHOWN_PARAMETERS: [&str; 8] = [
    "endpoint",
    "region",
    "forcePathStyle",
    "force-path-style",
    "skipVerify",
    "skip-verify",
    "signPayload",
    "sign-payload",
];
