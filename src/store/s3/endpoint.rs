//! Addresses of a bucket's objects: host and path, as they are signed and as they are sent.

use super::S3Config;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use std::fmt::Write;
use url::{Host, Url};

/// Characters that SigV4 percent-encodes: all except the unreserved characters of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Returns `text` percent-encoded for a query string.
pub(super) fn encoded(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, ENCODED)
}

/// Address of a bucket. AWS's host names contain the region, which is inserted when a request is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    base: Base,
    /// Path of the bucket: `/bucket`, or empty if the host name contains the bucket.
    root: String,
    /// Region that an access point's ARN names.
    pub(super) region: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Base {
    /// AWS's own service: `https://{before}.{region}.{suffix}`.
    Aws { before: String, suffix: &'static str },
    /// Another service: `scheme://host[:port][/path]`.
    Custom { base: String, host: String },
}

/// URL of a request, as it is signed and as it is sent. The two differ only for keys with `.` or `..` as a path
/// segment. URL libraries would remove such segments, so the slashes beside them are sent as `%2F`. Servers
/// decode `%2F` before they check the signature.
pub(super) struct Address {
    pub(super) signed: String,
    pub(super) sent: Url,
}

impl Endpoint {
    /// Makes the address of a bucket. Errors are for the user. They never contain the URL, which may contain a
    /// password.
    pub(super) fn new(config: &S3Config) -> Result<Self, String> {
        let bucket = Bucket::parse(&config.bucket)?;
        let region = bucket.region.map(str::to_owned);
        let Some(endpoint) = config.endpoint.as_deref() else {
            let suffix = bucket.partition.or_else(|| config.region.as_deref().and_then(partition_of)).unwrap_or(AWS);
            let (before, root) = if bucket.access_point {
                (format!("{}.s3-accesspoint", bucket.label), String::new())
            } else if config.path_style || !bucket.is_dns_label() {
                ("s3".to_owned(), format!("/{}", encoded(&bucket.label)))
            } else {
                (format!("{}.s3", bucket.label), String::new())
            };
            return Ok(Self { base: Base::Aws { before, suffix }, root, region });
        };

        const FORM: &str = "the endpoint is not of the form http[s]://host[:port]";
        let url = Url::parse(endpoint).map_err(|_| FORM.to_owned())?;
        if !matches!(url.scheme(), "http" | "https") || url.query().is_some() || url.fragment().is_some() {
            return Err(FORM.to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the endpoint must not hold a user name or password".to_owned());
        }
        let host = url.host().ok_or(FORM)?;
        let by_path = !bucket.access_point && (config.path_style || !matches!(host, Host::Domain(_)));
        let host = host.to_string();
        let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
        let path = url.path().trim_end_matches('/');
        let (name, root) = if by_path {
            (host.clone(), format!("/{}", encoded(&bucket.label)))
        } else {
            (format!("{}.{host}", bucket.label), String::new())
        };
        let base = format!("{}://{name}{port}{path}", url.scheme());
        Ok(Self { base: Base::Custom { base, host }, root, region })
    }

    /// Whether the endpoint is AWS's own. Its host names contain the region, so the region must be known.
    pub(super) fn is_aws(&self) -> bool {
        matches!(self.base, Base::Aws { .. })
    }

    /// The address of the bucket, for the log.
    pub(super) fn shown(&self) -> String {
        match &self.base {
            Base::Aws { before, suffix } => format!("https://{before}.{{region}}.{suffix}{}", self.root),
            Base::Custom { base, .. } => format!("{base}{}", self.root),
        }
    }

    /// How requests name the bucket, for the log.
    pub(super) fn style(&self) -> &'static str {
        if self.root.is_empty() { "host" } else { "path" }
    }

    /// Whether no request to this endpoint uses TLS.
    pub(super) fn is_plain_http(&self) -> bool {
        matches!(&self.base, Base::Custom { base, .. } if base.starts_with("http://"))
    }

    /// Whether the service is Tigris. Tigris answers from the nearest, possibly outdated copy unless a header
    /// forbids it (docs/ARCHITECTURE.md, "S3 odds and ends").
    pub(super) fn is_tigris(&self) -> bool {
        let Base::Custom { host, .. } = &self.base else { return false };
        ["fly.storage.tigris.dev", "t3.storage.dev", "t3.storageapi.dev"]
            .iter()
            .any(|name| host.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
    }

    /// Returns the address of the object `key`, or of the bucket if `key` is None. `query` is already
    /// percent-encoded. Returns None for the keys `.` and `..`, which no URL can name.
    pub(super) fn address(&self, region: &str, key: Option<&str>, query: &str) -> Option<Address> {
        let mut signed = match &self.base {
            Base::Aws { before, suffix } => {
                let suffix = partition_of(region).unwrap_or(suffix);
                format!("https://{before}.{region}.{suffix}")
            }
            Base::Custom { base, .. } => base.clone(),
        };
        signed.push_str(&self.root);
        let mut sent = None;
        match key {
            Some(key) => {
                signed.push('/');
                if key.split('/').any(is_dots) {
                    let mut text = signed.clone();
                    push_dotted(&mut text, key)?;
                    sent = Some(text);
                }
                for (i, segment) in key.split('/').enumerate() {
                    if i > 0 {
                        signed.push('/');
                    }
                    signed.extend(encoded(segment));
                }
            }
            None if self.root.is_empty() => signed.push('/'),
            None => {}
        }
        if !query.is_empty() {
            for url in std::iter::once(&mut signed).chain(&mut sent) {
                let _ = write!(url, "?{query}");
            }
        }
        let sent = Url::parse(sent.as_deref().unwrap_or(&signed)).ok()?;
        Some(Address { signed, sent })
    }
}

fn is_dots(segment: &str) -> bool {
    matches!(segment, "." | "..")
}

fn push_dotted(url: &mut String, key: &str) -> Option<()> {
    if is_dots(key) {
        return None;
    }
    let mut before: Option<&str> = None;
    for segment in key.split('/') {
        match before {
            Some(before) if is_dots(before) || is_dots(segment) => url.push_str("%2F"),
            Some(_) => url.push('/'),
            None => {}
        }
        url.extend(encoded(segment));
        before = Some(segment);
    }
    Some(())
}

const AWS: &str = "amazonaws.com";
const AWS_CHINA: &str = "amazonaws.com.cn";

fn partition_of(region: &str) -> Option<&'static str> {
    region.starts_with("cn-").then_some(AWS_CHINA)
}

/// Returns whether `text` has the form of a region's name. This check is needed because the name becomes part
/// of a host name.
pub(super) fn is_region(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

struct Bucket<'a> {
    /// Name of the bucket. For an access point it is `NAME-ACCOUNT`.
    label: String,
    access_point: bool,
    region: Option<&'a str>,
    partition: Option<&'static str>,
}

impl<'a> Bucket<'a> {
    fn parse(name: &'a str) -> Result<Self, String> {
        if name.ends_with("--x-s3") {
            return Err("S3 Express directory buckets are not supported".to_owned());
        }
        if let Some(arn) = name.strip_prefix("arn:") {
            return Self::parse_arn(arn);
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if name.is_empty() || name.len() > 255 || is_dots(name) || !name.bytes().all(allowed) {
            return Err("the bucket's name is empty or holds characters that no bucket has".to_owned());
        }
        Ok(Self { label: name.to_owned(), access_point: false, region: None, partition: None })
    }

    /// Parses the rest of an access point's ARN, `partition:s3:region:account:accesspoint/name`.
    fn parse_arn(arn: &'a str) -> Result<Self, String> {
        const FORM: &str = "the ARN is not of the form arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME; \
                            other kinds of access points are not supported";
        let mut parts = arn.splitn(5, ':');
        let mut next = || parts.next().ok_or(FORM);
        let (partition, service, region, account, resource) = (next()?, next()?, next()?, next()?, next()?);
        let name = resource.strip_prefix("accesspoint").and_then(|r| r.strip_prefix(['/', ':'])).ok_or(FORM)?;
        let label = |text: &str| {
            !text.is_empty()
                && text.len() <= 63
                && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        if service != "s3" || !is_region(region) || !label(name) || !label(account) {
            return Err(FORM.to_owned());
        }
        let partition = match partition {
            "aws" | "aws-us-gov" => AWS,
            "aws-cn" => AWS_CHINA,
            _ => return Err(FORM.to_owned()),
        };
        Ok(Self {
            label: format!("{name}-{account}"),
            access_point: true,
            region: Some(region),
            partition: Some(partition),
        })
    }

    /// Returns whether the bucket's name can be the first label of a host name: only then does the TLS
    /// certificate for `*.s3.amazonaws.com` cover it.
    fn is_dns_label(&self) -> bool {
        (3..=63).contains(&self.label.len())
            && self.label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(bucket: &str, endpoint: Option<&str>, path_style: bool) -> Result<Endpoint, String> {
        let config =
            S3Config { bucket: bucket.into(), endpoint: endpoint.map(Into::into), path_style, ..S3Config::default() };
        Endpoint::new(&config)
    }

    #[test]
    fn addresses() {
        for (bucket, at, path_style, region, key, expected) in [
            (
                "b-1",
                None,
                false,
                "eu-west-1",
                Some("a/b c+~.ltx"),
                "https://b-1.s3.eu-west-1.amazonaws.com/a/b%20c%2B~.ltx",
            ),
            ("b-1", None, false, "cn-north-1", None, "https://b-1.s3.cn-north-1.amazonaws.com.cn/"),
            ("a.b.c", None, false, "us-east-1", Some("/0000//x"), "https://s3.us-east-1.amazonaws.com/a.b.c//0000//x"),
            ("Old_One", None, false, "us-east-1", None, "https://s3.us-east-1.amazonaws.com/Old_One"),
            ("bbb", None, true, "us-east-1", Some("k"), "https://s3.us-east-1.amazonaws.com/bbb/k"),
            ("bbb", Some("http://localhost:9000/"), true, "r", Some("ü"), "http://localhost:9000/bbb/%C3%BC"),
            ("bbb", Some("https://h.example"), false, "r", Some("/k"), "https://bbb.h.example//k"),
            ("bbb", Some("http://127.0.0.1:443"), false, "r", Some("k"), "http://127.0.0.1:443/bbb/k"),
            ("bbb", Some("http://[::1]:9"), false, "r", Some("k"), "http://[::1]:9/bbb/k"),
            ("bbb", Some("https://h/base/"), true, "r", Some("k"), "https://h/base/bbb/k"),
            (
                "arn:aws:s3:us-west-2:123456789012:accesspoint/ap",
                None,
                false,
                "us-west-2",
                Some("k"),
                "https://ap-123456789012.s3-accesspoint.us-west-2.amazonaws.com/k",
            ),
        ] {
            let address = endpoint(bucket, at, path_style).unwrap().address(region, key, "").unwrap();
            assert_eq!(address.signed, expected);
            assert_eq!(address.sent.as_str(), expected);
        }
    }

    #[test]
    fn dot_segments_survive_the_url_standard() {
        let endpoint = endpoint("bbb", Some("http://h"), true).unwrap();
        for (key, signed, sent) in [
            ("./0000/x", "http://h/bbb/./0000/x?q", "http://h/bbb/.%2F0000/x?q"),
            ("a/../b", "http://h/bbb/a/../b?q", "http://h/bbb/a%2F..%2Fb?q"),
            ("a/.", "http://h/bbb/a/.?q", "http://h/bbb/a%2F.?q"),
            ("%2e/a", "http://h/bbb/%252e/a?q", "http://h/bbb/%252e/a?q"),
            ("a\\b", "http://h/bbb/a%5Cb?q", "http://h/bbb/a%5Cb?q"),
        ] {
            let address = endpoint.address("r", Some(key), "q").unwrap();
            assert_eq!((address.signed.as_str(), address.sent.as_str()), (signed, sent));
        }
        assert!(endpoint.address("r", Some(".."), "").is_none());
    }

    #[test]
    fn refusals_hold_no_secrets() {
        for (bucket, at) in [
            ("bbb", Some("http://user:canary@h")),
            ("bbb", Some("canary")),
            ("bbb", Some("ftp://canary/")),
            ("bbb", Some("http://h/?canary")),
            ("canary--usw2-az1--x-s3", None),
            ("", None),
            ("..", None),
            ("a/b", None),
            ("a@b", None),
            ("arn:aws:s3-object-lambda:us-west-2:1:accesspoint/canary", None),
            ("arn:aws:s3::1:accesspoint/canary.mrap", None),
            ("arn:aws:s3:us.evil.com:1:accesspoint/canary", None),
        ] {
            let error = endpoint(bucket, at, false).unwrap_err();
            assert!(!error.contains("canary"), "{error}");
        }
        assert!(is_region("us-gov-west-1") && is_region("auto") && is_region("ENAM"));
        assert!(!is_region("evil.com/") && !is_region("") && !is_region("a.b") && !is_region("a b"));
    }

    #[test]
    fn tigris_is_known_by_its_host() {
        for (host, expected) in
            [("fly.storage.tigris.dev", true), ("x.t3.storage.dev", true), ("nott3.storage.dev", false)]
        {
            assert_eq!(endpoint("bbb", Some(&format!("https://{host}")), true).unwrap().is_tigris(), expected);
        }
    }
}
