//! Paths that were probably meant as something else: a URL with a slip, the directory of a replica. They are taken
//! for the path of a database in litestream.yml, which then is not found.

use crate::cli::failures::from_config;
use crate::cli::ui::failure::{Advice, Failure};
use crate::cli::ui::redact;
use crate::config::ConfigError;
use std::path::{Path, PathBuf};

/// The schemes of Litestream's replica URLs.
const SCHEMES: [&str; 10] = ["s3", "file", "gs", "gcs", "abs", "sftp", "nats", "oss", "webdav", "https"];

/// What a path looks like, and the URL that was meant if that is certain.
struct Slip {
    looks: String,
    url: Option<String>,
}

/// The failure for `error`, which came up for the source as `typed`. It says what the source looks like.
pub(super) fn explained(error: &ConfigError, typed: &str) -> Failure {
    let failure = from_config(error);
    if !matches!(error, ConfigError::FileNotFound(_) | ConfigError::DatabaseNotFound(_)) {
        return failure;
    }
    let Some(Slip { looks, url }) = slip(typed) else { return failure };
    let failure = Failure::failed(error.class(), format!("{}; {looks}", failure.message()));
    failure.advised(url.map(Advice::Source))
}

fn slip(typed: &str) -> Option<Slip> {
    if let Some(url) = url_with_slip(typed) {
        if url.contains('@') || redact::url(&url) != url {
            let looks = "the source is read as a path: a URL has two slashes after its colon".to_owned();
            return Some(Slip { looks, url: None });
        }
        return Some(Slip { looks: format!("{typed} is read as a path, the URL is {url}"), url: Some(url) });
    }
    let path = Path::new(typed);
    if path.is_dir() {
        let absolute = std::path::absolute(path).ok().filter(|_| is_replica(path));
        return Some(match absolute.as_deref().and_then(Path::to_str) {
            Some(path) => {
                let url = format!("file://{path}");
                Slip { looks: format!("{typed} is the directory of a replica, its URL is {url}"), url: Some(url) }
            }
            None => {
                let looks = "is a directory, not a database; a replica on disk is named by its URL, file:///path";
                Slip { looks: format!("{typed} {looks}"), url: None }
            }
        });
    }
    // `bucket/path` is a relative path. It is one of this machine only if its first directory is here.
    let (first, rest) = typed.split_once('/')?;
    let is_bucket = first.len() >= 3
        && first.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
        && !rest.is_empty()
        && !Path::new(first).exists();
    is_bucket.then(|| Slip { looks: format!("if {first} is a bucket, the URL is s3://{typed}"), url: None })
}

/// The URL that `typed` is with the right number of slashes: `s3:/b/x`, `s3:b/x` and `s3//b/x` as `s3://b/x`.
fn url_with_slip(typed: &str) -> Option<String> {
    let end = typed.find([':', '/'])?;
    let (scheme, rest) = typed.split_at_checked(end)?;
    let lower = scheme.to_ascii_lowercase();
    let is_slip = rest.starts_with(':') || rest.starts_with("//");
    let rest = rest.trim_start_matches(':').trim_start_matches('/');
    if !is_slip || rest.is_empty() || !SCHEMES.contains(&lower.as_str()) {
        return None;
    }
    Some(if lower == "file" { format!("file:///{rest}") } else { format!("{lower}://{rest}") })
}

/// Whether a directory has the folders of a replica: `ltx`, `generations`, or levels as `0000` and `0009`.
fn is_replica(path: &Path) -> bool {
    let names = ["ltx".to_owned(), "generations".to_owned()].into_iter().chain((0..=9).map(|n| format!("000{n}")));
    names.map(|name| -> PathBuf { path.join(name) }).any(|folder| folder.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(typed: &str) -> (String, Option<Advice>) {
        let failure = explained(&ConfigError::FileNotFound("/c.yml".into()), typed);
        (failure.message().to_owned(), failure.advice().cloned())
    }

    #[test]
    fn urls_with_a_slip() {
        for (typed, url) in [
            ("s3:/b/x", "s3://b/x"),
            ("s3:b/x?region=r", "s3://b/x?region=r"),
            ("s3//b/x", "s3://b/x"),
            ("S3:/b/x", "s3://b/x"),
            ("file:/data/x", "file:///data/x"),
            ("file:data/x", "file:///data/x"),
        ] {
            let (message, advice) = shown(typed);
            assert_eq!(message, format!("config file not found: /c.yml; {typed} is read as a path, the URL is {url}"));
            assert_eq!(advice, Some(Advice::Source(url.to_owned())));
        }
        for typed in ["s3:/AK:CANARY@b/x", "s3:/b/x?sse-customer-key=CANARY"] {
            assert!(shown(typed).0.ends_with("a URL has two slashes after its colon") && shown(typed).1.is_none());
        }
        for typed in ["/data/app.db", "app.db", "s3:", "s3x:/b", "./s3/b", "a:b"] {
            assert_eq!(shown(typed), ("config file not found: /c.yml".to_owned(), None), "{typed}");
        }
    }

    #[test]
    fn a_bucket_without_a_scheme_and_directories() {
        assert_eq!(
            shown("my-bucket/backups/app.db"),
            (
                "config file not found: /c.yml; if my-bucket is a bucket, the URL is s3://my-bucket/backups/app.db"
                    .to_owned(),
                None
            )
        );
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        assert!(shown(path).0.contains("is a directory, not a database") && shown(path).1.is_none());
        std::fs::create_dir(dir.path().join("0009")).unwrap();
        let url = format!("file://{path}");
        assert!(shown(path).0.ends_with(&format!("is the directory of a replica, its URL is {url}")));
        assert_eq!(shown(path).1, Some(Advice::Source(url)));
    }
}
