use crate::config::{Config, ConfigError};
use crate::fleet::discovery::configured::*;
use crate::fleet::discovery::pattern::Pattern;
use crate::store::Store;
use std::cell::RefCell;

#[test]
fn common_directories() {
    let cases = [
        ("b/single/app.db-2/", "b/single/app.db/", "b/single/"),
        ("b/t1/app.db/", "b/t2/app.db/", "b/"),
        ("b/app.db/", "b/app.db/", "b/app.db/"),
        ("a/", "b/", ""),
        ("größe/a/", "größf/a/", ""),
        ("x/größe/", "x/gröte/", "x/"),
        ("/a/x/", "/a/y/", "/a/"),
        ("", "a/", ""),
    ];
    for (a, b, expected) in cases {
        assert_eq!(common_dir(a, b), expected, "{a} {b}");
    }
}

#[test]
fn keys_below_prefixes() {
    let prefixes = ["a/", "b/app.db-2/", "b/app.db/", "c/"].map(str::to_owned);
    for key in ["a/x", "b/app.db/0000/1", "b/app.db-2/x", "c/"] {
        assert!(is_below(&prefixes, key), "{key}");
    }
    for key in ["", "a", "b/", "b/app.db", "b/app.db-3/x", "d/", "A/x"] {
        assert!(!is_below(&prefixes, key), "{key}");
    }
    assert!(!is_below(&[], "a"));
}

const CONFIG: &str = r#"
dbs:
  - path: /srv/one/app.db
    replica: { url: "s3://b/single/app.db?endpoint=http://127.0.0.1:1" }
  - path: /srv/one/app.db
    replica: { url: "s3://b/second/app.db?endpoint=http://127.0.0.1:1" }
  - path: /srv/one/other.db
    replica: { url: "s3://b/single/other.db?endpoint=http://127.0.0.1:1" }
  - path: /srv/one/root.db
    replica: { url: "s3://b/?endpoint=http://127.0.0.1:1" }
  - path: /srv/one/disk.db
    replica: { path: /backup/disk.db }
  - path: /srv/one/disk2.db
    replica: { path: /backup/disk2.db }
  - path: /srv/one/bad.db
    replica: { url: "s3://b/x?endpoint=http://127.0.0.1:1", bucket: c }
  - path: /elsewhere/app.db
    replica: { url: "s3://b/elsewhere/app.db?endpoint=http://127.0.0.1:1" }
  - dir: /srv/t
    pattern: "*.db"
    recursive: true
    replica: { url: "s3://b/t?endpoint=http://127.0.0.1:1" }
  - dir: /srv/t/eu
    pattern: "*.sqlite"
    replica: { url: "s3://b/t/eu?endpoint=http://127.0.0.1:1" }
  - dir: /other
    pattern: "*"
    replica: { url: "s3://b/other?endpoint=http://127.0.0.1:1" }
"#;

fn source(pattern: &str) -> (ConfigSource, usize) {
    let env = |_: &str| None;
    let config = Config::parse(Path::new("/litestream.yml"), CONFIG, false, &env).unwrap();
    let opened = RefCell::new(0);
    let source = ConfigSource::new(Pattern::for_paths(pattern, &env).unwrap(), &config, &mut |_| {
        *opened.borrow_mut() += 1;
        Store::File(Default::default())
    });
    (source, opened.into_inner())
}

#[test]
fn entries_that_match_and_their_listings() {
    let (source, opened) = source("/srv/**");
    assert_eq!(opened, 2, "one bucket, one disk");
    let names: Vec<_> = source.paths.iter().map(|entry| (entry.name.as_str(), entry.key.as_str())).collect();
    assert_eq!(
        names,
        [
            ("/srv/one/app.db", "single/app.db"),
            ("/srv/one/other.db", "single/other.db"),
            ("/srv/one/root.db", ""),
            ("/srv/one/disk.db", "/backup/disk.db"),
            ("/srv/one/disk2.db", "/backup/disk2.db"),
        ]
    );
    let [(name, ConfigError::Entry { error, line, .. })] = source.unusable.as_slice() else {
        panic!("{:?}", source.unusable)
    };
    assert_eq!((name.as_str(), &**error, *line), ("/srv/one/bad.db", &ConfigError::UrlAndBucket, 15));
    let dirs = shared_by_dirs(&source.dirs);
    let listed: Vec<_> = dirs.iter().map(|shared| (shared.prefix.as_str(), dirs_of(shared))).collect();
    assert_eq!(listed, [("t/", vec!["/srv/t", "/srv/t/eu"])]);
    let (shared, singles) = shared_by_paths(source.paths.iter().collect());
    let listed: Vec<_> = shared.iter().map(|shared| (shared.prefix.as_str(), names_of(&shared.members))).collect();
    assert_eq!(listed, [("single/", vec!["/srv/one/app.db", "/srv/one/other.db"])]);
    assert_eq!(shared[0].limits.max_pages, 14);
    assert_eq!(names_of(&singles), ["/srv/one/disk.db", "/srv/one/disk2.db", "/srv/one/root.db"]);
}

fn dirs_of<'a>(shared: &SharedListing<'a, DirEntry>) -> Vec<&'a str> {
    shared.members.iter().map(|entry| entry.dir.to_str().unwrap()).collect()
}

/// Returns the names of the entries in sorted order, because grouping does not keep their order.
fn names_of<'a>(entries: &[&'a PathEntry]) -> Vec<&'a str> {
    let mut names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_pattern_inside_a_directory_lists_that_part() {
    let prefixes = |pattern: &str| -> Vec<String> {
        source(pattern).0.dirs.iter().map(|entry| entry.list_prefix.clone()).collect()
    };
    assert_eq!(prefixes("/srv/t/eu/a*/*.db"), ["t/eu/", "t/eu/"]);
    assert_eq!(prefixes("/srv/t/us/x/*.db"), ["t/us/x/"]);
    assert_eq!(prefixes("/srv/*/x"), ["t/", "t/eu/"]);
    assert_eq!(prefixes("**/x"), ["t/", "t/eu/", "other/"]);
    assert!(prefixes("/nowhere/**").is_empty());
}
