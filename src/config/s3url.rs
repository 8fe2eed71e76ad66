//! Replica URLs taken apart. `url::Url` cannot do it: S3 "hosts" hold underscores, ports that
//! belong to an endpoint, and whole ARNs.

use super::endpoint::{self, DefaultScheme, HostParts};
use super::{ConfigError, paths};
use percent_encoding::percent_decode_str;
use url::form_urlencoded;

/// A URL's text, cut but not decoded. The scheme is lower-case.
pub(super) struct RawUrl<'a> {
    pub scheme: String,
    pub authority: &'a str,
    /// With its leading slash, if any.
    pub path: &'a str,
    pub query: &'a str,
}

impl<'a> RawUrl<'a> {
    /// None where `text` has no `scheme://`. A `#` is an ordinary character: whoever cuts
    /// fragments does it first.
    pub(super) fn split(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_at_checked(rest.find('/').unwrap_or(rest.len()))?;
        Some(Self { scheme: scheme.to_ascii_lowercase(), authority, path, query })
    }
}

/// An `s3://` URL: the bucket, the path, what the host implies, what the query says.
pub(super) struct S3Url {
    pub host: HostParts,
    /// Decoded, as typed, without the first slash.
    pub path: String,
    /// Nothing follows the bucket, not even a slash.
    ends_with_bucket: bool,
    pub query: S3Query,
}

/// The parameters that matter here; all others are ignored.
#[derive(Default)]
pub(super) struct S3Query {
    /// Normalized.
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub path_style: Option<bool>,
    pub skip_verify: Option<bool>,
    pub sse_algorithm: Option<String>,
    pub sse_key: Option<String>,
    pub sse_key_md5: Option<String>,
}

impl S3Url {
    /// Of a URL whose scheme is `s3`.
    pub(super) fn parse(url: &RawUrl<'_>) -> Result<Self, ConfigError> {
        let query = S3Query::parse(url.query)?;
        if is_arn(url.authority) {
            // Litestream does not decode these.
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

    /// The path as a key prefix: clean, without a slash at either end. At the bucket's root it is
    /// empty, or `.` where the URL ends with the bucket: Litestream then puts `./` before its keys.
    pub(super) fn clean_path(&self) -> String {
        if self.ends_with_bucket { ".".to_owned() } else { paths::join_slash("", &self.path) }
    }
}

/// Whether a bucket or a URL's authority begins as an ARN does.
pub(super) fn is_arn(text: &str) -> bool {
    text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("arn:"))
}

/// `arn:aws:s3:REGION:ACCOUNT:accesspoint` in the authority, `/NAME/path` in the path: the whole
/// ARN is what stands for the bucket.
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
        // Has no effect on reading: every request is signed. A value that is none is an error
        // all the same.
        boolean("signPayload", "sign-payload")?;
        // In a query string `+` is a space, which base64 never holds.
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
        })
    }
}

/// %-escapes decoded; one that is malformed or not UTF-8 is an error.
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

/// A URL for people: user info gone, and of the query only what is known to be harmless shown.
pub(super) fn redacted(text: &str) -> String {
    let (base, query) = match text.split_once('?') {
        Some((base, query)) => (base, Some(query)),
        None => (text, None),
    };
    let (scheme, rest) = base.split_once("://").map_or(("", base), |(scheme, rest)| (scheme, rest));
    let authority_end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(authority_end).unwrap_or((rest, ""));
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    // A colon that is no port's may begin a password whose `/` or `?` ended the authority.
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
