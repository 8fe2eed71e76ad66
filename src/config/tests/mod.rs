//! Tests of the configuration as tables: what is typed or configured, and the location or error that follows.

mod config_file;
mod real;
mod secrets;
mod urls;

use super::*;
use crate::store::s3::S3Config;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An environment that has these variables and no others.
fn env_of<'a>(variables: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
    |name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
}

fn nothing(_: &str) -> Option<String> {
    None
}

fn home(name: &str) -> Option<String> {
    (name == "HOME").then(|| "/home/me".to_owned())
}

fn s3(location: &Location) -> &S3Config {
    match &location.store {
        StoreConfig::S3(config) => config,
        StoreConfig::File => panic!("not S3: {location:?}"),
    }
}

fn yaml(text: &str) -> Config {
    Config::parse(Path::new("/etc/litestream.yml"), text, true, &home).unwrap()
}

#[test]
fn go_durations() {
    let ms = Duration::from_millis;
    for (text, want) in [
        ("0", Ok(ms(0))),
        ("5s", Ok(ms(5_000))),
        ("1m30s", Ok(ms(90_000))),
        ("500ms", Ok(ms(500))),
        ("1.5h", Ok(ms(5_400_000))),
        (".5s", Ok(ms(500))),
        ("2.s", Ok(ms(2_000))),
        ("+1s", Ok(ms(1_000))),
        ("-0s", Ok(ms(0))),
        ("3us", Ok(Duration::from_micros(3))),
        ("3µs", Ok(Duration::from_micros(3))),
        ("3μs", Ok(Duration::from_micros(3))),
        ("7ns", Ok(Duration::from_nanos(7))),
        ("0.1234567890123456789s", Ok(Duration::from_nanos(123_456_789))),
        ("", Err(DurationError::Malformed)),
        ("-", Err(DurationError::Malformed)),
        (".s", Err(DurationError::Malformed)),
        ("s", Err(DurationError::Malformed)),
        ("1s2", Err(DurationError::MissingUnit)),
        ("5", Err(DurationError::MissingUnit)),
        ("5 s", Err(DurationError::UnknownUnit)),
        ("5d", Err(DurationError::UnknownUnit)),
        ("-5s", Err(DurationError::Negative)),
        ("99999999999999999999s", Err(DurationError::TooLong)),
        ("9999999h", Err(DurationError::TooLong)),
        ("2562047h47m16.854775807s", Ok(Duration::from_nanos(i64::MAX as u64))),
        ("2562047h47m16.854775808s", Err(DurationError::TooLong)),
    ] {
        assert_eq!(parse_go_duration(text), want, "{text:?}");
    }
}

#[test]
fn dir_patterns_match_as_go_does() {
    for (pattern, name, want) in [
        ("*.db", "app.db", true),
        ("*.db", "app.db-2", false),
        ("*.db", ".db", true),
        ("*", "", true),
        ("**.db", "a.db", true),
        ("a*b*c", "aXbXbc", true),
        ("a*b*c", "aXbXbd", false),
        ("?.db", "é.db", true),
        ("?.db", "ab.db", false),
        ("[a-c]x", "bx", true),
        ("[a-c]x", "dx", false),
        ("[^a-c]x", "dx", true),
        ("[!a]", "!", true),
        ("[!a]", "a", true),
        ("[!a]", "b", false),
        ("{a,b}", "{a,b}", true),
        ("{a,b}", "a", false),
        (r"\*", "*", true),
        (r"\*", "x", false),
        (r"[\]]", "]", true),
        ("app.db", "app.db", true),
        ("app.db", "app.dbx", false),
        ("*", "a/b", false),
    ] {
        assert_eq!(DirPattern::parse(pattern).unwrap().matches(name), want, "{pattern:?} {name:?}");
    }
    for pattern in ["[", "[]", "[]a]", "[a", "[a-]", "[-a]", r"a\", r"[\"] {
        let want = ConfigError::BadDirPattern { pattern: pattern.to_owned() };
        assert_eq!(DirPattern::parse(pattern), Err(want), "{pattern:?}");
    }
}

#[test]
fn a_pattern_of_stars_takes_no_exponential_time() {
    let pattern = DirPattern::parse(&"*a".repeat(50)).unwrap();
    assert!(!pattern.matches(&format!("{}b", "a".repeat(20_000))));
}

#[test]
fn paths_are_absolute_and_clean() {
    let current = std::env::current_dir().unwrap();
    let clean = |text: &str| clean_path(Path::new(text), &home).map(|path| path.to_str().unwrap().to_owned());
    for (text, want) in [
        ("/a/b.db", "/a/b.db"),
        ("/a//./x/../b.db/", "/a/b.db"),
        ("/../../b.db", "/b.db"),
        ("/", "/"),
        ("sqlite:///a/b.db", "/a/b.db"),
        ("sqlite3:///a/b.db", "/a/b.db"),
        ("~/b.db", "/home/me/b.db"),
        ("~", "/home/me"),
        ("sqlite://~/b.db", "/home/me/b.db"),
        ("/~/b.db", "/~/b.db"),
    ] {
        assert_eq!(clean(text).as_deref(), Ok(want), "{text:?}");
    }
    for (text, want) in [("b.db", "b.db"), ("./x/../b.db", "b.db"), ("~b.db", "~b.db"), ("sqlite://b.db", "b.db")] {
        assert_eq!(clean_path(Path::new(text), &nothing).as_deref(), Ok(current.join(want).as_path()), "{text:?}");
    }
    assert_eq!(clean("sqlite://"), Err(ConfigError::EmptyPath));
    assert_eq!(clean(""), Err(ConfigError::EmptyPath));
    let homeless = clean_path(Path::new("~/b.db"), &nothing);
    assert_eq!(homeless, Err(ConfigError::HomeUnknown(PathBuf::from("~/b.db"))));
}

#[test]
fn what_is_a_url() {
    for (text, want) in [
        ("s3://b/p", true),
        ("S3://b/p", true),
        ("file:///p", true),
        ("gs://b", true),
        ("sqlite:///p", false),
        ("sqlite3:///p", false),
        ("/p", false),
        ("p", false),
        ("://p", false),
        ("/a://b", false),
        ("C:\\x", false),
        ("file:/p", false),
    ] {
        assert_eq!(is_replica_url(text), want, "{text:?}");
    }
}

#[test]
fn where_the_config_is() {
    assert_eq!(default_config_path(&nothing), Path::new("/etc/litestream.yml"));
    assert_eq!(default_config_path(&env_of(&[("LITESTREAM_CONFIG", "/x.yml")])), Path::new("/x.yml"));
    assert_eq!(default_config_path(&env_of(&[("LITESTREAM_CONFIG", "")])), Path::new("/etc/litestream.yml"));
}
