//! Resolves the settings of one replica, from litestream.yml or from a URL, to a location.
//!
//! If several sources give a setting, the first of these counts (docs/FORMAT.md, "litestream.yml"): the replica's
//! key, the global key, the URL's query, the URL's host, the environment. An empty setting counts as not set.

use crate::config::endpoint::{self, DefaultScheme};
use crate::config::env::Ambient;
use crate::config::s3url::{self, RawUrl, S3Url};
use crate::config::schema::ReplicaYaml;
use crate::config::{ConfigError, Env, Location, StoreConfig, paths};
use crate::store::s3::{DEFAULT_REGION, S3Config, SseCustomerKey, StaticCredentials};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The size limit, in bytes, of a file that holds an encryption key.
const KEY_FILE_LIMIT_BYTES: u64 = 4096;

/// Whether an argument is a replica URL and not a path: it begins with letters, digits or underscores and `://`,
/// and the scheme is not `sqlite` or `sqlite3`.
pub fn is_replica_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty()
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !matches!(scheme, "sqlite" | "sqlite3")
    })
}

/// Resolves a replica URL as typed, with the settings of the environment, to a location.
pub fn parse_replica_url(url: &str, env: &Env<'_>) -> Result<Location, ConfigError> {
    let replica = ReplicaYaml { url: Some(url.to_owned()), ..ReplicaYaml::default() };
    location(&replica, &ReplicaYaml::default(), &Ambient::new(env))
}

/// Resolves the URL of a pattern, for example `s3://bucket/prefix/**/*.db?endpoint=…`, to the store and the
/// pattern. The location is the root of the store: its `path` is empty on S3 and `/` on disk. The pattern is the
/// URL's path without the first slash, with %-escapes decoded. A `#` does not begin a fragment here.
pub fn parse_pattern_url(url: &str, env: &Env<'_>) -> Result<(Location, String), ConfigError> {
    let display = s3url::redacted(url);
    let raw = raw_url(url)?;
    match raw.scheme.as_str() {
        "s3" => {
            let mut s3 = S3Url::parse(&raw)?;
            let warnings = std::mem::take(&mut s3.query.warnings);
            let none = ReplicaYaml::default();
            let store = StoreConfig::S3(s3_config(
                ReplicaSettings { replica: &none, global: &none },
                Some(&s3),
                &Ambient::new(env),
            )?);
            Ok((Location { store, path: String::new(), display, warnings }, s3.path))
        }
        "file" => {
            let pattern = pattern_on_disk(&file_path(&raw))?;
            let pattern = pattern.strip_prefix('/').unwrap_or(&pattern).to_owned();
            let (path, warnings) = ("/".to_owned(), relative_file(&raw, &display));
            Ok((Location { store: StoreConfig::File, path, display, warnings }, pattern))
        }
        _ => Err(ConfigError::UnsupportedType { kind: raw.scheme }),
    }
}

/// Resolves the settings of `replica`, with `global` as defaults.
pub(super) fn location(
    replica: &ReplicaYaml,
    global: &ReplicaYaml,
    ambient: &Ambient<'_>,
) -> Result<Location, ConfigError> {
    if replica.path.as_deref().is_some_and(is_replica_url) {
        return Err(ConfigError::PathIsUrl);
    }
    let age = replica.age.as_ref().or(global.age.as_ref());
    if age.is_some_and(|age| age.is_used()) {
        return Err(ConfigError::AgeEncryption);
    }
    let settings = ReplicaSettings { replica, global };
    let url = non_empty(&replica.url);
    let scheme = url.filter(|url| is_replica_url(url)).and_then(RawUrl::split).map(|url| url.scheme);
    let mut location = match scheme.as_deref().or(non_empty(&replica.kind)).unwrap_or("file") {
        "file" => file_location(settings, url, ambient.env()),
        "s3" => s3_location(settings, url, ambient),
        kind => Err(ConfigError::UnsupportedType { kind: kind.to_owned() }),
    }?;
    if age.is_some_and(|age| age.has_unknown_key()) {
        location.warnings.push(AGE_WITHOUT_KEYS.to_owned());
    }
    Ok(location)
}

/// The warning about a section `age:` whose only keys are misspelt, for example `recipient:`.
const AGE_WITHOUT_KEYS: &str = "age: has neither identities nor recipients, but keys that Litestream does not know \
    and ignores: the backup is not encrypted";

/// The settings of one replica and the global ones. A replica's own setting has precedence.
#[derive(Clone, Copy)]
struct ReplicaSettings<'a> {
    replica: &'a ReplicaYaml,
    global: &'a ReplicaYaml,
}

impl<'a> ReplicaSettings<'a> {
    fn text(self, field: impl Fn(&ReplicaYaml) -> &Option<String>) -> Option<&'a str> {
        non_empty(field(self.replica)).or_else(|| non_empty(field(self.global)))
    }

    fn boolean(self, field: impl Fn(&ReplicaYaml) -> Option<bool>) -> Option<bool> {
        field(self.replica).or_else(|| field(self.global))
    }
}

fn non_empty(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

fn raw_url(url: &str) -> Result<RawUrl<'_>, ConfigError> {
    let raw = is_replica_url(url)
        .then(|| RawUrl::split(url))
        .flatten()
        .ok_or_else(|| ConfigError::UrlSchemeMissing { url: s3url::redacted(url) })?;
    // `file://user:password@host/path` would become a path, which messages show.
    let has_password = raw.authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'));
    if raw.scheme == "file" && has_password { Err(ConfigError::UserInfo) } else { Ok(raw) }
}

/// The path of a `file:` URL, with its %-escapes. As in Litestream, the URL's host is the path's first component:
/// `file://a/b` means `/a/b`.
fn file_path(url: &RawUrl<'_>) -> String {
    if url.authority.is_empty() { url.path.to_owned() } else { format!("/{}{}", url.authority, url.path) }
}

/// A warning about a `file:` URL that looks relative: `file://a/b`.
fn relative_file(url: &RawUrl<'_>, display: &str) -> Vec<String> {
    if url.authority.is_empty() || matches!(url.authority, "~" | "localhost") || url.authority.contains('@') {
        return Vec::new();
    }
    vec![format!(
        "{display} is read as the absolute path {}, as Litestream reads it; a relative path cannot be given",
        file_path(url)
    )]
}

fn file_location(settings: ReplicaSettings<'_>, url: Option<&str>, env: &Env<'_>) -> Result<Location, ConfigError> {
    let path = non_empty(&settings.replica.path);
    let mut warnings = Vec::new();
    let (path, display) = match (url, path) {
        (Some(_), Some(_)) => return Err(ConfigError::UrlAndPath { kind: "file" }),
        (Some(url), None) => {
            let (raw, display) = (raw_url(url)?, s3url::redacted(url));
            let path = file_path(&raw);
            // The root of the file system is no replica.
            if path.chars().all(|c| c == '/') {
                return Err(ConfigError::FilePathMissing { bucket_set: false });
            }
            warnings = relative_file(&raw, &display);
            (path_on_disk(&path, env)?, display)
        }
        (None, Some(path)) => (paths::clean_path(Path::new(path), env)?, path.to_owned()),
        (None, None) => {
            let bucket_set = settings.text(|s| &s.bucket).is_some();
            return Err(ConfigError::FilePathMissing { bucket_set });
        }
    };
    // The conversion loses nothing: both paths were made from UTF-8 text.
    let path = path.to_string_lossy().into_owned();
    Ok(Location { store: StoreConfig::File, path, display, warnings })
}

/// Resolves the path of a `file:` URL: the first of these that exists, else the last.
///
/// 1. The path as it was typed.
/// 2. The path as Litestream writes it to the disk, with %-escapes: spaces and letters beyond ASCII escaped, escapes
///    not decoded.
/// 3. The path with its %-escapes decoded.
fn path_on_disk(path: &str, env: &Env<'_>) -> Result<PathBuf, ConfigError> {
    let typed = paths::expand_home(Path::new(path), env)?;
    let escaped = s3url::escaped_path(path);
    if (escaped == path && !path.contains('%')) || typed.exists() {
        return Ok(typed);
    }
    let escaped = paths::expand_home(Path::new(&escaped), env)?;
    if escaped.exists() {
        return Ok(escaped);
    }
    match s3url::decoded(path) {
        Ok(decoded) => paths::expand_home(Path::new(&decoded), env),
        Err(_) => Ok(typed),
    }
}

/// The pattern of a `file:` URL. Its fixed directory keeps its %-escapes if a directory of that name exists, as in
/// [`path_on_disk`]. All else is decoded.
fn pattern_on_disk(path: &str) -> Result<String, ConfigError> {
    let fixed = path.find(['*', '?', '[', '{', '\\']).unwrap_or(path.len());
    let end = path.get(..fixed).and_then(|fixed| fixed.rfind('/')).unwrap_or(0);
    match path.split_at_checked(end) {
        Some((dir, rest)) if dir.contains('%') && Path::new(dir).is_dir() => {
            Ok(format!("{dir}{}", s3url::decoded(rest)?))
        }
        _ => s3url::decoded(path),
    }
}

fn s3_location(
    settings: ReplicaSettings<'_>,
    url: Option<&str>,
    ambient: &Ambient<'_>,
) -> Result<Location, ConfigError> {
    let path = non_empty(&settings.replica.path);
    if url.is_some() && path.is_some() {
        return Err(ConfigError::UrlAndPath { kind: "s3" });
    }
    if url.is_some() && settings.text(|s| &s.bucket).is_some() {
        return Err(ConfigError::UrlAndBucket);
    }
    let mut parsed = match url {
        Some(url) => {
            let raw = raw_url(url)?;
            // Litestream drops everything from `#` on before it writes, so the keys do not contain it either. ARNs
            // are kept whole.
            let cut = if s3url::is_arn(raw.authority) { url } else { url.split('#').next().unwrap_or(url) };
            Some(S3Url::parse(&raw_url(cut)?)?)
        }
        None => None,
    };
    let config = s3_config(settings, parsed.as_ref(), ambient)?;
    let path = match &parsed {
        Some(url) => url.clean_path(),
        None => path.unwrap_or("").to_owned(),
    };
    let warnings = parsed.as_mut().map(|url| std::mem::take(&mut url.query.warnings)).unwrap_or_default();
    let display = match url {
        Some(url) => s3url::redacted(url),
        None => format!("s3://{}/{}", config.bucket, path.strip_prefix('/').unwrap_or(&path)),
    };
    Ok(Location { store: StoreConfig::S3(config), path, display, warnings })
}

fn s3_config(
    settings: ReplicaSettings<'_>,
    url: Option<&S3Url>,
    ambient: &Ambient<'_>,
) -> Result<S3Config, ConfigError> {
    let bucket = match url {
        Some(url) => url.host.bucket.as_str(),
        None => settings.text(|s| &s.bucket).unwrap_or(""),
    };
    if bucket.is_empty() {
        return Err(ConfigError::BucketMissing);
    }
    let arn = s3url::is_arn(bucket);
    let stray = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':' | '@' | '?' | '#' | '%' | '\\');
    if !arn && bucket.contains(stray) {
        return Err(ConfigError::BadBucket);
    }
    let given = settings
        .text(|s| &s.endpoint)
        .map(|text| endpoint::normalized(text, DefaultScheme::Https, "endpoint"))
        .transpose()?
        .or_else(|| url.and_then(|url| url.query.endpoint.clone()));
    let implied = url.and_then(|url| url.host.endpoint.clone());
    let surrounding = if given.is_some() || implied.is_some() || arn { None } else { endpoint_around(ambient)? };
    let region = settings
        .text(|s| &s.region)
        .or_else(|| url.and_then(|url| url.query.region.as_deref()))
        .or_else(|| url.and_then(|url| url.host.region.as_deref()))
        .or_else(|| arn.then(|| bucket.split(':').nth(3)).flatten())
        .filter(|region| !region.is_empty())
        .map(str::to_owned);
    // If the configuration or URL names another service, AWS_REGION does not apply to it.
    let region = match (region, given.is_some() || implied.is_some(), surrounding.is_some()) {
        (Some(region), _, _) => Some(region),
        (None, true, _) => Some(DEFAULT_REGION.to_owned()),
        (None, false, true) => region_around(ambient).or_else(|| Some(DEFAULT_REGION.to_owned())),
        (None, false, false) => region_of_environment(ambient),
    };
    let path_style = settings
        .boolean(|s| s.force_path_style)
        .or_else(|| url.and_then(|url| url.query.path_style))
        .or((given.is_some() || surrounding.is_some()).then_some(true))
        .or_else(|| url.map(|url| url.host.path_style))
        .unwrap_or(false);
    let skip_verify =
        settings.boolean(|s| s.skip_verify).or_else(|| url.and_then(|url| url.query.skip_verify)).unwrap_or(false);
    let endpoint = given.or(implied).or(surrounding);
    let sse_customer = sse_customer_key(settings, url, ambient.env())?;
    if sse_customer.is_some() && endpoint.as_deref().is_some_and(|endpoint| !endpoint::may_carry_sse_key(endpoint)) {
        return Err(ConfigError::SseNeedsHttps);
    }
    Ok(S3Config {
        bucket: bucket.to_owned(),
        region,
        endpoint,
        path_style,
        skip_verify,
        credentials: credentials(settings, ambient),
        sse_customer,
        anonymous: false,
    })
}

/// The endpoint of the environment, else that of the AWS profile.
fn endpoint_around(ambient: &Ambient<'_>) -> Result<Option<String>, ConfigError> {
    let named = |name: &'static str| ambient.variable(name).map(|text| (name, text));
    let found = named("LITESTREAM_S3_ENDPOINT").or_else(|| {
        let ignored = match ambient.variable("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") {
            Some(value) => value.eq_ignore_ascii_case("true"),
            None => ambient.profile().ignore,
        };
        if ignored {
            return None;
        }
        named("AWS_ENDPOINT_URL_S3")
            .or_else(|| named("AWS_ENDPOINT_URL"))
            .or_else(|| Some(("endpoint_url of the AWS profile", ambient.profile().endpoint_url.clone()?)))
    });
    found.map(|(name, text)| endpoint::normalized(&text, DefaultScheme::ByHost, name)).transpose()
}

fn region_of_environment(ambient: &Ambient<'_>) -> Option<String> {
    ambient.variable("AWS_REGION").or_else(|| ambient.variable("AWS_DEFAULT_REGION"))
}

/// The region that belongs to [`endpoint_around`].
fn region_around(ambient: &Ambient<'_>) -> Option<String> {
    region_of_environment(ambient).or_else(|| ambient.profile().region.clone())
}

/// The key pair from the configuration. Else, unless both AWS_* variables are set, the pair from
/// the environment with LITESTREAM_* in place of missing AWS_* variables. None: the AWS chain.
fn credentials(settings: ReplicaSettings<'_>, ambient: &Ambient<'_>) -> Option<StaticCredentials> {
    if let (Some(id), Some(secret)) = (settings.text(|s| &s.access_key_id), settings.text(|s| &s.secret_access_key)) {
        return Some(StaticCredentials {
            access_key_id: id.trim().to_owned(),
            secret_access_key: secret.trim().to_owned(),
            session_token: settings.text(|s| &s.session_token).map(|token| token.trim().to_owned()),
        });
    }
    let aws_id = ambient.variable("AWS_ACCESS_KEY_ID");
    let aws_secret = ambient.variable("AWS_SECRET_ACCESS_KEY");
    if aws_id.is_some() && aws_secret.is_some() {
        return None;
    }
    Some(StaticCredentials {
        access_key_id: aws_id.or_else(|| ambient.variable("LITESTREAM_ACCESS_KEY_ID"))?,
        secret_access_key: aws_secret.or_else(|| ambient.variable("LITESTREAM_SECRET_ACCESS_KEY"))?,
        session_token: ambient.variable("AWS_SESSION_TOKEN"),
    })
}

fn sse_customer_key(
    settings: ReplicaSettings<'_>,
    url: Option<&S3Url>,
    env: &Env<'_>,
) -> Result<Option<SseCustomerKey>, ConfigError> {
    let configured = match configured_sse_key(settings.replica, env)? {
        Some(key) => Some(key),
        None => configured_sse_key(settings.global, env)?,
    };
    let query = url.map(|url| &url.query);
    let Some(key_base64) = configured.or_else(|| query.and_then(|query| query.sse_key.clone())) else {
        return Ok(None);
    };
    let algorithm = settings
        .text(|s| &s.sse_customer_algorithm)
        .or_else(|| query.and_then(|query| query.sse_algorithm.as_deref()))
        .unwrap_or("AES256");
    if algorithm != "AES256" {
        return Err(ConfigError::SseAlgorithm { found: algorithm.to_owned() });
    }
    let key = aws_smithy_types::base64::decode(&key_base64)
        .map_err(|_| ConfigError::SseKey { reason: "sse-customer-key must be valid base64" })?;
    if key.len() != 32 {
        return Err(ConfigError::SseKey { reason: "sse-customer-key must be 256-bit (32 bytes) when decoded" });
    }
    let key_md5_base64 = aws_smithy_types::base64::encode(<md5::Md5 as md5::Digest>::digest(&key));
    let given_md5 =
        settings.text(|s| &s.sse_customer_key_md5).or_else(|| query.and_then(|query| query.sse_key_md5.as_deref()));
    if given_md5.is_some_and(|given| given != key_md5_base64) {
        return Err(ConfigError::SseKey { reason: "sse-customer-key-md5 is not the MD5 of sse-customer-key" });
    }
    Ok(Some(SseCustomerKey { algorithm: algorithm.to_owned(), key_base64, key_md5_base64 }))
}

/// The SSE-C key of one level of the configuration (the replica or the top level). A key file has precedence over a
/// key in litestream.yml.
fn configured_sse_key(yaml: &ReplicaYaml, env: &Env<'_>) -> Result<Option<String>, ConfigError> {
    let Some(path) = non_empty(&yaml.sse_customer_key_path) else {
        return Ok(non_empty(&yaml.sse_customer_key).map(str::to_owned));
    };
    let path = paths::expand_home(Path::new(path), env)?;
    let mut text = String::new();
    std::fs::File::open(&path)
        .and_then(|file| file.take(KEY_FILE_LIMIT_BYTES).read_to_string(&mut text))
        .map_err(|error| ConfigError::SseKeyFile { path, detail: error.to_string() })?;
    Ok(Some(text.trim().to_owned()))
}
