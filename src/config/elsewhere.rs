//! The URL of another place in the store that a replica URL names.

use super::s3url::{self, RawUrl};
use std::fmt::Write;

/// The URL `url` with another path: a key in the same bucket, or an absolute path. Parameters are kept. None if `url`
/// has no path that can be replaced: the URL of an access point, or one with user and password.
pub fn url_with_path(url: &str, path: &str) -> Option<String> {
    let raw = RawUrl::split(url)?;
    let authority = match raw.scheme.as_str() {
        "s3" if !s3url::is_arn(raw.authority) && !raw.authority.contains('@') => raw.authority,
        // The host of a file's URL is the first part of its path.
        "file" => "",
        _ => return None,
    };
    let mut other = format!("{}://{authority}/", raw.scheme);
    for c in path.strip_prefix('/').unwrap_or(path).chars() {
        // What would end the path, and what a shell or a terminal may change.
        if c.is_control() || matches!(c, '%' | '?' | '#' | ' ') {
            let _ = c.encode_utf8(&mut [0; 4]).bytes().try_for_each(|byte| write!(other, "%{byte:02X}"));
        } else {
            other.push(c);
        }
    }
    if raw.query.is_empty() { Some(other) } else { Some(format!("{other}?{}", raw.query)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{parse_pattern_url, parse_replica_url};

    #[test]
    fn the_url_of_another_place_means_that_place() {
        for (url, path, expected) in [
            ("s3://b/p/x?region=r&endpoint=http://h:1", "p/a.db", "s3://b/p/a.db?region=r&endpoint=http://h:1"),
            ("s3://b", "p/100% a?#.db", "s3://b/p/100%25%20a%3F%23.db"),
            ("s3://b.host:9000/x", "é/a\u{1b}", "s3://b.host:9000/é/a%1B"),
            ("file:///r/x", "/r/a b.db", "file:///r/a%20b.db"),
            ("file://r/x", "/r/a.db", "file:///r/a.db"),
        ] {
            let other = url_with_path(url, path).unwrap();
            assert_eq!(other, expected);
            assert_eq!(parse_replica_url(&other, &|_| None).unwrap().path, path);
            assert_eq!(parse_pattern_url(&other, &|_| None).unwrap().1, path.trim_start_matches('/'));
        }
        for url in ["s3://arn:aws:s3:r:1:accesspoint/n/p", "s3://AK:SECRET@b/p", "sftp://h/p", "/p"] {
            assert_eq!(url_with_path(url, "p/a.db"), None, "{url}");
        }
    }
}
