//! Endpoints of S3 services: their scheme (http or https), and the settings that the host of an `s3://` URL
//! implies.

use super::ConfigError;
use url::{Host, Url};

/// The scheme that an endpoint gets if it is given without one (docs/FORMAT.md, "Replica URLs").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DefaultScheme {
    /// https is the default. This is the rule for `endpoint:` in litestream.yml.
    Https,
    /// http for this machine and private networks, else https. Used for endpoints in a URL's query and in the
    /// environment.
    ByHost,
}

/// An endpoint given by a flag: `scheme://host[:port][/path]`. Without a scheme it is http for this
/// host and private networks, else https.
pub fn parse_endpoint(text: &str) -> Result<String, ConfigError> {
    normalized(text, DefaultScheme::ByHost, "endpoint")
}

/// Normalises an endpoint to `scheme://host[:port][/path]` without a slash at the end. `setting`
/// names its origin in messages.
pub(super) fn normalized(
    text: &str,
    default_scheme: DefaultScheme,
    setting: &'static str,
) -> Result<String, ConfigError> {
    let bad = |reason| ConfigError::BadEndpoint { setting, reason };
    let text = text.trim();
    let parse = |text: &str| {
        Url::parse(text).map_err(|_| bad("not an endpoint, expected https://host, http://host:port or host:port"))
    };
    let url = match text.split_once("://") {
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") => {
            parse(text)?
        }
        Some(_) => return Err(bad("an endpoint's scheme is http or https")),
        None => {
            let https = parse(&format!("https://{text}"))?;
            match default_scheme {
                DefaultScheme::ByHost if https.host().as_ref().is_some_and(is_local) => {
                    parse(&format!("http://{text}"))?
                }
                _ => https,
            }
        }
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("an endpoint must not hold a user name or password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad("an endpoint has no query string (in a replica url, & is written %26)"));
    }
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| bad("an endpoint needs a host"))?;
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    Ok(format!("{}://{host}{port}{}", url.scheme(), url.path().trim_end_matches('/')))
}

/// Whether a customer's encryption key (SSE-C) may be sent to `endpoint`. It may be sent by https, or by http to
/// this machine or a private network.
pub(super) fn may_carry_sse_key(endpoint: &str) -> bool {
    Url::parse(endpoint).is_ok_and(|url| url.scheme() == "https" || url.host().as_ref().is_some_and(is_private))
}

fn is_local(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            name == "localhost" || name.ends_with(".local") || name.ends_with(".localhost")
        }
        Host::Ipv4(_) | Host::Ipv6(_) => is_private(host),
    }
}

fn is_private(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(address) => address.is_loopback() || address.is_private(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

/// The settings that the host of an `s3://` URL implies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct HostParts {
    pub bucket: String,
    pub region: Option<String>,
    /// The endpoint with its scheme. None if the host implies none: then the configured endpoint is used, else that
    /// of AWS.
    pub endpoint: Option<String>,
    pub path_style: bool,
}

/// Parses the host of an `s3://` URL: `bucket.host:port`, or a host name of AWS, DigitalOcean, Backblaze, Filebase,
/// Scaleway or Linode. Any other host is the name of a bucket.
pub(super) fn host_parts(host: &str) -> Result<HostParts, ConfigError> {
    let parts = if host.contains(':') && !host.contains(".com") {
        minio(host)
    } else if let Some(front) = host.strip_suffix(".amazonaws.com") {
        aws(front, "amazonaws.com")
    } else if let Some(front) = host.strip_suffix(".amazonaws.com.cn") {
        aws(front, "amazonaws.com.cn")
    } else if let Some(front) = host.strip_suffix(".digitaloceanspaces.com") {
        Some(below_region(front, "digitaloceanspaces.com", false)?)
    } else if let Some(front) = host.strip_suffix(".linodeobjects.com") {
        Some(below_region(front, "linodeobjects.com", true)?)
    } else if let Some(front) = host.strip_suffix(".backblazeb2.com") {
        regional(front, "backblazeb2.com", true)?
    } else if let Some(front) = host.strip_suffix(".scw.cloud") {
        regional(front, "scw.cloud", false)?
    } else if host == "s3.filebase.com" {
        return Err(ConfigError::BucketMissing);
    } else if let Some(bucket) = host.strip_suffix(".s3.filebase.com") {
        Some(HostParts {
            bucket: bucket.to_owned(),
            region: None,
            endpoint: Some("https://s3.filebase.com".to_owned()),
            path_style: true,
        })
    } else {
        Some(HostParts { bucket: host.to_owned(), ..HostParts::default() })
    };
    parts.ok_or(ConfigError::BadBucket)
}

/// Parses `bucket.host:port`, the form for MinIO and other servers, which are reached by http (docs/FORMAT.md,
/// "Replica URLs").
fn minio(host: &str) -> Option<HostParts> {
    let (bucket, endpoint) = host.split_once('.')?;
    let is_address = host.rsplit_once(':').is_some_and(|(name, _)| name.parse::<std::net::Ipv4Addr>().is_ok());
    if is_address {
        return None;
    }
    Some(HostParts {
        bucket: bucket.to_owned(),
        region: Some(crate::store::s3::DEFAULT_REGION.to_owned()),
        endpoint: Some(normalized(&format!("http://{endpoint}"), DefaultScheme::ByHost, "replica url").ok()?),
        path_style: true,
    })
}

/// Parses `bucket.REGION.DOMAIN`, the host form of services whose endpoint is `REGION.DOMAIN`. `front` is the part
/// before the domain. `path_style` says how the service addresses buckets.
fn below_region(front: &str, domain: &str, path_style: bool) -> Result<HostParts, ConfigError> {
    let (bucket, region) = front.rsplit_once('.').ok_or(ConfigError::BucketMissing)?;
    Ok(HostParts {
        bucket: bucket.to_owned(),
        region: Some(region.to_owned()),
        endpoint: Some(format!("https://{region}.{domain}")),
        path_style,
    })
}

/// Parses `bucket.s3.REGION.DOMAIN`, the host form of services other than AWS. `path_style` says how the service
/// addresses buckets.
fn regional(front: &str, domain: &str, path_style: bool) -> Result<Option<HostParts>, ConfigError> {
    let Some((front, region)) = front.rsplit_once('.') else { return Ok(None) };
    if front == "s3" {
        return Err(ConfigError::BucketMissing);
    }
    Ok(front.strip_suffix(".s3").map(|bucket| HostParts {
        bucket: bucket.to_owned(),
        region: Some(region.to_owned()),
        endpoint: Some(format!("https://s3.{region}.{domain}")),
        path_style,
    }))
}

/// Parses the part of an AWS host before its domain: `bucket.s3`, `bucket.s3.REGION`, `bucket.s3-REGION`,
/// `bucket.s3.dualstack.REGION`, `bucket.s3-fips[.dualstack].REGION` or `bucket.s3-accelerate[.dualstack]`. A
/// bucket with acceleration is read without it. A bucket name may contain dots, so the last label that looks like
/// `s3` or `s3-…` is taken for the service.
fn aws(front: &str, domain: &str) -> Option<HostParts> {
    let labels: Vec<&str> = front.split('.').collect();
    let at = labels.iter().rposition(|label| *label == "s3" || label.starts_with("s3-")).filter(|&at| at > 0)?;
    let (bucket, service) = labels.split_at_checked(at)?;
    let bucket = bucket.join(".");
    let (region, own_endpoint) = match service {
        ["s3"] | ["s3-accelerate"] | ["s3-accelerate", "dualstack"] => (None, false),
        ["s3", region] => (Some(*region), domain != "amazonaws.com"),
        ["s3", "dualstack", region] | ["s3-fips", region] | ["s3-fips", "dualstack", region] => (Some(*region), true),
        [legacy] => (legacy.strip_prefix("s3-"), false),
        _ => return None,
    };
    let endpoint = own_endpoint.then(|| format!("https://{}.{domain}", service.join(".")));
    Some(HostParts { bucket, region: region.map(str::to_owned), endpoint, path_style: false })
}
