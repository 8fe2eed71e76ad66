use super::*;
use crate::error::Class;

fn find(text: &str, path: &str) -> Result<Location, ConfigError> {
    yaml(text).find(Path::new(path))
}

/// Parses a configuration with one database `/a`. `keys` are the settings of its replica, `top` are settings at the
/// top level.
fn replica(top: &str, keys: &str) -> Result<Location, ConfigError> {
    find(&format!("{top}\ndbs: [{{path: /a, replica: {{{keys}}}}}]"), "/a")
}

/// The error of an entry without its place.
fn inner(result: Result<Location, ConfigError>) -> ConfigError {
    match result.unwrap_err() {
        ConfigError::Entry { error, .. } => *error,
        other => panic!("without its place: {other}"),
    }
}

#[test]
fn a_usual_file() {
    let config = yaml(
        "addr: ':9090'\n\
         access-key-id: gid\n\
         secret-access-key: gsecret\n\
         region: eu-west-1\n\
         levels: [{interval: 1m}]\n\
         dbs:\n\
         - path: ~/a.db\n\
         \x20 monitor-interval: 1s\n\
         \x20 replica:\n\
         \x20   url: s3://b/p/a.db\n\
         - path: sqlite:///srv//b.db\n\
         \x20 replicas:\n\
         \x20   - type: s3\n\
         \x20     bucket: b\n\
         \x20     path: /p/b.db/\n\
         \x20     region: r\n\
         \x20     access-key-id: id\n\
         \x20     secret-access-key: secret\n\
         \x20     session-token: token\n\
         - dir: /srv/tenants/\n\
         \x20 pattern: '*.db'\n\
         \x20 recursive: yes\n\
         \x20 watch: on\n\
         \x20 replica:\n\
         \x20   path: ~/backups\n",
    );
    let a = config.find(Path::new("/home/me/a.db")).unwrap();
    assert_eq!((a.path.as_str(), s3(&a).bucket.as_str(), s3(&a).region.as_deref()), ("p/a.db", "b", Some("eu-west-1")));
    let credentials = s3(&a).credentials.as_ref().unwrap();
    assert_eq!((credentials.access_key_id.as_str(), credentials.session_token.as_deref()), ("gid", None));
    assert_eq!(a.display, "s3://b/p/a.db");

    let b = config.find(Path::new("/srv/b.db")).unwrap();
    assert_eq!(
        (b.path.as_str(), b.display.as_str(), s3(&b).region.as_deref()),
        ("/p/b.db/", "s3://b/p/b.db/", Some("r"))
    );
    let credentials = s3(&b).credentials.as_ref().unwrap();
    assert_eq!((credentials.access_key_id.as_str(), credentials.secret_access_key.as_str()), ("id", "secret"));
    assert_eq!(credentials.session_token.as_deref(), Some("token"));

    let c = config.find(Path::new("/srv/tenants/x/y/c.db")).unwrap();
    assert_eq!((c.path.as_str(), c.display.as_str()), ("/home/me/backups/x/y/c.db", "~/backups/x/y/c.db"));
    assert_eq!(c.store, StoreConfig::File);
    for unknown in ["/srv/tenants/c.db-2", "/srv/tenants", "/srv/tenantsx/c.db", "/c.db"] {
        let error = config.find(Path::new(unknown)).unwrap_err();
        assert_eq!(error.to_string(), format!("database not found in config: {unknown}"));
    }
}

#[test]
fn directories_and_exact_paths() {
    let text = "
dbs:
- {dir: /d, pattern: '*.db', replica: {url: 's3://b/direct?endpoint=localhost:1'}}
- {dir: /d, pattern: '*.db', recursive: true, replica: {url: 's3://b'}}
- {path: /d/x.db, replica: {url: 's3://b/own/x.db'}}
- {dir: /e, pattern: '*', replica: {type: s3, bucket: b, path: /q/}}
";
    for (path, want) in [
        ("/d/a.db", Some("direct/a.db")),
        ("/d/e/a.db", Some("e/a.db")),
        ("/d/x.db", Some("own/x.db")),
        ("/d/.hidden.db", Some("direct/.hidden.db")),
        ("/e/a", Some("/q/a")),
        ("/e/a/b", None),
        ("/d/a.txt", None),
    ] {
        assert_eq!(find(text, path).ok().map(|location| location.path).as_deref(), want, "{path}");
    }
    let config = yaml(text);
    assert_eq!(find(text, "/d/a.db").unwrap().display, "s3://b/direct/a.db?endpoint=localhost:1");
    assert!(config.databases[0].kind.accepts("a.db") && !config.databases[0].kind.accepts("e/a.db"));
    assert!(config.databases[1].kind.accepts("e/a.db") && !config.databases[1].kind.accepts("e/"));
    assert!(!config.databases[2].kind.accepts("x.db"));
}

#[test]
fn precedence_of_keys() {
    let s3_of = |top: &str, keys: &str| match replica(top, keys).unwrap().store {
        StoreConfig::S3(config) => config,
        StoreConfig::File => panic!("{top} {keys}"),
    };
    for (top, keys, region, endpoint, path_style, skip_verify) in [
        ("region: g", "url: 's3://b/p?region=q', region: r", Some("r"), None, false, false),
        ("region: g", "url: 's3://b/p?region=q'", Some("g"), None, false, false),
        ("", "url: 's3://b/p?region=q'", Some("q"), None, false, false),
        ("", "url: 's3://b.s3.h.amazonaws.com/p'", Some("h"), None, false, false),
        ("", "url: 's3://b/p', region: ''", None, None, false, false),
        ("", "type: s3, bucket: b, region: ~", None, None, false, false),
        // An endpoint without a scheme means https in litestream.yml; in a URL's query it depends on the host.
        (
            "",
            "url: 's3://b/p', endpoint: 'localhost:9000'",
            Some("us-east-1"),
            Some("https://localhost:9000"),
            true,
            false,
        ),
        (
            "endpoint: 'http://g:1'",
            "url: 's3://b/p?endpoint=localhost:9000'",
            Some("us-east-1"),
            Some("http://g:1"),
            true,
            false,
        ),
        (
            "endpoint: 'http://g:1'",
            "url: 's3://b/p', endpoint: 'http://r:1'",
            Some("us-east-1"),
            Some("http://r:1"),
            true,
            false,
        ),
        (
            "",
            "url: 's3://b.nyc3.digitaloceanspaces.com/p', endpoint: 'http://r:1'",
            Some("nyc3"),
            Some("http://r:1"),
            true,
            false,
        ),
        ("", "url: 's3://b/p?forcePathStyle=true', force-path-style: false", None, None, false, false),
        (
            "force-path-style: no",
            "type: s3, bucket: b, endpoint: 'http://r:1'",
            Some("us-east-1"),
            Some("http://r:1"),
            false,
            false,
        ),
        ("force-path-style: no", "type: s3, bucket: b, force-path-style: Yes", None, None, true, false),
        ("skip-verify: true", "url: 's3://b/p'", None, None, false, true),
        ("skip-verify: true", "url: 's3://b/p', skip-verify: off", None, None, false, false),
        ("", "url: 's3://b/p?skipVerify=true'", None, None, false, true),
        ("bucket: g", "type: s3, path: p", None, None, false, false),
        ("", "type: s3, bucket: 'arn:aws:s3:ap-south-1:1:accesspoint/n'", Some("ap-south-1"), None, false, false),
        // The scheme of a URL has precedence over `type`.
        ("", "type: gs, url: 's3://b/p'", None, None, false, false),
    ] {
        let s3 = s3_of(top, keys);
        let got = (s3.region.as_deref(), s3.endpoint.as_deref(), s3.path_style, s3.skip_verify);
        assert_eq!(got, (region, endpoint, path_style, skip_verify), "{top} | {keys}");
    }
}

#[test]
fn a_pair_of_keys_is_used_alone_and_half_of_one_not_at_all() {
    let env = env_of(&[("AWS_SESSION_TOKEN", "token"), ("AWS_ACCESS_KEY_ID", "x"), ("AWS_SECRET_ACCESS_KEY", "y")]);
    let credentials = |top: &str, keys: &str| {
        let text = format!("{top}\ndbs: [{{path: /a, replica: {{type: s3, bucket: b, {keys}}}}}]");
        let config = Config::parse(Path::new("/c.yml"), &text, true, &env).unwrap();
        s3(&config.find(Path::new("/a")).unwrap()).credentials.clone()
    };
    let pair = credentials("", "access-key-id: 00123, secret-access-key: 1e3").unwrap();
    assert_eq!((pair.access_key_id.as_str(), pair.secret_access_key.as_str()), ("00123", "1e3"));
    assert_eq!(pair.session_token, None);
    let mixed = credentials("secret-access-key: g", "access-key-id: r").unwrap();
    assert_eq!((mixed.access_key_id.as_str(), mixed.secret_access_key.as_str()), ("r", "g"));
    for (top, keys) in [("", "access-key-id: r"), ("secret-access-key: g", ""), ("", "session-token: t"), ("", "")] {
        assert_eq!(credentials(top, keys), None, "{top} | {keys}");
    }
}

#[test]
fn replicas_that_are_refused() {
    for (entry, want) in [
        ("path: /a", "must specify replica for database"),
        ("path: /a, replica: ", "must specify replica for database"),
        ("path: /a, replicas: []", "must specify replica for database"),
        (
            "path: /a, replicas: [{url: 's3://b'}, {url: 's3://c'}]",
            "multiple replicas on a single database are no longer supported",
        ),
        (
            "path: /a, replica: {url: 's3://b'}, replicas: [{url: 's3://c'}]",
            "cannot specify 'replica' and 'replicas' on a database",
        ),
        ("path: /a, replica: {url: 's3://b', age: {identities: [x]}}", "age encryption is not currently supported"),
        ("path: /a, replica: {url: 's3://b', age: {recipients: [x]}}", "age encryption is not currently supported"),
        ("path: /a, replica: {url: 's3://b', bucket: c}", "cannot specify url & bucket for s3 replica"),
        ("path: /a, replica: {url: 's3://b', path: c}", "cannot specify url & path for s3 replica"),
        ("path: /a, replica: {url: 'file:///b', path: c}", "cannot specify url & path for file replica"),
        ("path: /a, replica: {path: 's3://b/p'}", "replica path cannot be a url, please use the 'url' field instead"),
        ("path: /a, replica: {url: 'b/p'}", "replica url scheme required: b/p"),
        ("path: /a, replica: {type: s3}", "bucket required for s3 replica"),
        ("path: /a, replica: {type: s3, bucket: 's3://b'}", "the S3 bucket's name is malformed"),
        ("path: /a, replica: {}", "file replica path required"),
        ("path: /a, replica: {bucket: b}", "file replica path required (without 'type: s3'"),
        ("path: /a, replica: {type: gs, bucket: b}", "replica type 'gs' is not supported"),
        ("path: /a, replicas: [{type: gcs, bucket: b}]", "replica type 'gcs' is not supported"),
        ("path: /a, replicas: [{type: sftp, host: h, path: p}]", "replica type 'sftp' is not supported"),
        ("path: /a, replica: {type: S4}", "replica type 'S4' is not supported"),
        ("path: /a, replica: {url: 'abs://a@b/c'}", "replica type 'abs' is not supported"),
        ("path: /a, dir: /b, replica: {path: /b}", "database config #1: cannot specify both 'path' and 'dir'"),
    ] {
        let error = find(&format!("dbs: [{{{entry}}}, {{path: /good, replica: {{path: /x}}}}]"), "/a").unwrap_err();
        assert!(error.to_string().starts_with(want), "{entry}: {error}");
        let is_age = want.starts_with("age ");
        assert_eq!(error.class(), if is_age { Class::Encrypted } else { Class::Config }, "{entry}");
    }
    for (entry, want) in [
        ("dir: /d, replica: {path: /x}", "database config #1: 'pattern' is required when using 'dir'"),
        ("dir: /d, pattern: '[', replica: {path: /x}", "syntax error in pattern '['"),
        ("dir: /d, pattern: '*'", "must specify replica for database"),
    ] {
        let error = find(&format!("dbs: [{{{entry}}}]"), "/d/a").unwrap_err();
        let place = "; database /d in config file /etc/litestream.yml, line 1";
        assert_eq!(error.to_string(), format!("{want}{place}"), "{entry}");
    }
    assert_eq!(inner(replica("age: {identities: [x]}", "url: 's3://b'")), ConfigError::AgeEncryption);
    assert_eq!(inner(replica("bucket: g", "url: 's3://b'")), ConfigError::UrlAndBucket);
    assert!(replica("age: {identities: []}", "url: 's3://b'").is_ok());
}

/// A configuration of Litestream 0.3: keys that Hydrant does not need are ignored.
#[test]
fn a_file_of_litestream_0_3() {
    let config = yaml(
        "addr: ':9090'
access-key-id: gid
secret-access-key: gsecret
exec: app
logging: {level: debug, type: text, stderr: false}
dbs:
- path: /srv/a.db
  meta-path: /var/lib/litestream/a
  monitor-interval: 1s
  checkpoint-interval: 1m
  min-checkpoint-page-count: 1000
  max-checkpoint-page-count: 10000
  replicas:
    - name: main
      type: s3
      bucket: b
      path: backups/a.db
      endpoint: minio.example.com:9000
      force-path-style: true
      skip-verify: true
      retention: 24h
      retention-check-interval: 1h
      snapshot-interval: 12h
      validation-interval: 24h
      sync-interval: 1s
- path: /srv/b.db
  replicas:
    - {name: beside, url: 's3://b/backups/b.db', endpoint: 'http://minio:9000', region: eu-west-1}
- path: /srv/c.db
  replicas:
    - path: /mnt/backups/c.db
- path: /srv/d.db
  replicas:
    - url: file:///mnt/backups/d%20.db
- path: /srv/e.db
  replicas:
    - {name: linode, url: 's3://b.us-east-1.linodeobjects.com/e.db', access-key-id: own, secret-access-key: osecret}
- path: /srv/f.db
  replicas: [{name: one, path: /mnt/f}, {name: two, url: 's3://b/f.db'}]
- path: /srv/g.db
  replicas: [{name: one, url: 's3://b/g.db', type: abs}]
",
    );
    let of = |name: &str| config.find(&Path::new("/srv").join(name)).unwrap();
    let at = |location: &Location| {
        let s3 = s3(location);
        (
            s3.bucket.clone(),
            location.path.clone(),
            s3.region.clone(),
            s3.endpoint.clone(),
            s3.path_style,
            s3.skip_verify,
        )
    };
    let some = |text: &str| Some(text.to_owned());
    let owned = str::to_owned;
    assert_eq!(
        at(&of("a.db")),
        (owned("b"), owned("backups/a.db"), some("us-east-1"), some("https://minio.example.com:9000"), true, true)
    );
    assert_eq!(
        at(&of("b.db")),
        (owned("b"), owned("backups/b.db"), some("eu-west-1"), some("http://minio:9000"), true, false)
    );
    assert_eq!(of("c.db").path, "/mnt/backups/c.db");
    assert_eq!(of("d.db").path, "/mnt/backups/d .db");
    assert_eq!(
        at(&of("e.db")),
        (owned("b"), owned("e.db"), some("us-east-1"), some("https://us-east-1.linodeobjects.com"), true, false)
    );
    assert_eq!(inner(config.find(Path::new("/srv/f.db"))), ConfigError::MultipleReplicas);
    assert_eq!(at(&of("g.db")).1, "g.db");
    let id = |location: &Location| s3(location).credentials.as_ref().unwrap().access_key_id.clone();
    assert_eq!((id(&of("a.db")), id(&of("e.db"))), (owned("gid"), owned("own")));
}

/// Litestream 0.3 encrypts for `recipients`. It ignores any other key of the section.
#[test]
fn age_with_a_misspelt_key_is_a_warning() {
    let warning = "age: has neither identities nor recipients, but keys that Litestream does not know and ignores: the \
                   backup is not encrypted";
    for (top, keys, want) in [
        ("", "age: {recipient: [x]}", &[warning][..]),
        ("", "age: {recipient: x, recipients: []}", &[warning]),
        ("age: {identity: {secret: x}}", "skip-verify: no", &[warning]),
        ("", "age: {}", &[]),
        ("", "age: ", &[]),
        ("age: {recipients: [x]}", "age: {identities: []}", &[]),
    ] {
        for place in ["url: 's3://b/p'", "path: /p"] {
            assert_eq!(replica(top, &format!("{place}, {keys}")).unwrap().warnings, want, "{top} | {keys}");
        }
    }
    for keys in ["age: {recipients: [x], identity: [y]}", "age: {identities: [x], recipient: [y]}"] {
        assert_eq!(inner(replica("", &format!("path: /p, {keys}"))), ConfigError::AgeEncryption);
    }
}

#[test]
fn a_bad_entry_stops_no_other() {
    let config = yaml("dbs:\n- path: /bad\n- \n- {replica: {path: /x}}\n- {path: /good, replica: {path: /x}}\n");
    assert_eq!(inner(config.find(Path::new("/bad"))), ConfigError::ReplicaMissing);
    assert_eq!(config.find(Path::new("/good")).unwrap().path, "/x");
    assert_eq!(inner(config.databases[1].replica.clone()), ConfigError::PathOrDirMissing { number: 2 });
    assert_eq!(inner(config.databases[2].replica.clone()), ConfigError::PathOrDirMissing { number: 3 });
}

#[test]
fn files_without_databases() {
    for text in ["", "# nothing\n", "---\n", "dbs:\n", "dbs: []\n", "addr: x\n", "\u{feff}dbs: []\n"] {
        assert!(yaml(text).databases.is_empty(), "{text:?}");
    }
}

#[test]
fn anchors_merges_and_yaml_1_1() {
    let location = find(
        "x-base: &base\n  type: s3\n  bucket: b\n  region: r\n  skip-verify: on\n\
         x-more: &more {endpoint: 'http://h:1'}\n\
         dbs:\n- path: &p /a\n  replica:\n    <<: [*base, *more]\n    path: *p\n    region: own\n",
        "/a",
    );
    let location = location.unwrap();
    let s3 = s3(&location);
    assert_eq!((s3.bucket.as_str(), location.path.as_str(), s3.region.as_deref()), ("b", "/a", Some("own")));
    assert_eq!((s3.endpoint.as_deref(), s3.skip_verify), (Some("http://h:1"), true));
    for (word, want) in [("yes", true), ("on", true), ("y", true), ("True", true), ("no", false), ("OFF", false)] {
        let location = replica("", &format!("type: s3, bucket: b, skip-verify: {word}")).unwrap();
        assert_eq!(super::s3(&location).skip_verify, want, "{word}");
    }
    // If a key occurs twice, the last one counts, as in Litestream's YAML parser.
    assert_eq!(replica("", "path: /x, path: /y").unwrap().path, "/y");
}

#[test]
fn variables() {
    let env = env_of(&[("A", "/a"), ("_B1", "/b"), ("EMPTY", ""), ("HOME", "/home/me")]);
    let path_of = |written: &str, expand: bool| {
        let text = format!("dbs: [{{path: /db, replica: {{path: '/r{written}'}}}}]");
        Config::parse(Path::new("/c.yml"), &text, expand, &env).unwrap().find(Path::new("/db")).unwrap().path
    };
    let pid = std::process::id().to_string();
    for (written, want) in [
        ("$A", "/r/a"),
        ("${A}/x", "/r/a/x"),
        ("$A/x$_B1", "/r/a/x/b"),
        ("${A}x", "/r/ax"),
        ("$Ax", "/r"),
        ("$EMPTY", "/r"),
        ("${A:-default}", "/r"),
        ("$PID", &format!("/r{pid}")),
        ("${PID}", &format!("/r{pid}")),
        ("$$x", "/rx"),
        ("$1x", "/rx"),
        ("${*}x", "/rx"),
        ("${}x", "/rx"),
        ("$/x", "/r$/x"),
        ("$", "/r$"),
        ("$é", "/r$é"),
    ] {
        assert_eq!(path_of(written, true), want, "{written}");
        assert_eq!(path_of(written, false), format!("/r{written}"), "{written}");
    }
    // An opening `${` without a closing brace is removed, as Go's os.Expand does.
    let text = "dbs: [] # ${A";
    assert!(Config::parse(Path::new("/c.yml"), text, true, &env).unwrap().databases.is_empty());
    // The value of a variable is inserted before the text is parsed, so it may hold YAML syntax.
    let env = env_of(&[("REPLICA", "{url: 's3://b/p'}")]);
    let config = Config::parse(Path::new("/c.yml"), "dbs: [{path: /a, replica: $REPLICA}]", true, &env).unwrap();
    assert_eq!(config.find(Path::new("/a")).unwrap().path, "p");
}

#[test]
fn variables_cannot_blow_up() {
    let value = "x".repeat(1 << 20);
    let variables = [("A", value.as_str())];
    let env = env_of(&variables);
    let error = Config::parse(Path::new("/c.yml"), &"$A ".repeat(100), true, &env).unwrap_err();
    assert!(matches!(error, ConfigError::FileTooLarge { .. }), "{error}");
}

#[test]
fn aliases_cannot_blow_up() {
    let mut text = "x0: &x0 [a, a, a, a, a, a, a, a, a, a]\n".to_owned();
    for level in 1..12 {
        let alias = format!("*x{}, ", level - 1).repeat(10);
        text.push_str(&format!("x{level}: &x{level} [{alias}]\n"));
    }
    text.push_str("dbs: *x11\n");
    let error = Config::parse(Path::new("/c.yml"), &text, false, &nothing).unwrap_err();
    assert!(matches!(error, ConfigError::Yaml { .. }), "{error}");
    let deep = format!("dbs: {}", "[".repeat(10_000));
    assert!(matches!(Config::parse(Path::new("/c"), &deep, false, &nothing), Err(ConfigError::Yaml { .. })));
}

#[test]
fn many_databases_with_a_merge_each() {
    let mut text = "x: &x {type: s3, bucket: b, region: r}\ndbs:\n".to_owned();
    for number in 0..20_000 {
        text.push_str(&format!("- path: /d/{number}\n  replica: {{<<: *x, path: 'p/{number}'}}\n"));
    }
    let config = Config::parse(Path::new("/c.yml"), &text, true, &nothing).unwrap();
    assert_eq!(config.databases.len(), 20_000);
    assert_eq!(config.find(Path::new("/d/19999")).unwrap().path, "p/19999");
}

#[test]
fn malformed_files_say_where() {
    for (text, want) in [
        ("dbs:\n- path: /a\n  recursive: banana\n", "config file /c.yml, line 3, column 14: "),
        ("dbs:\n- path: [\n", "config file /c.yml, line "),
        ("dbs: 1\n", "config file /c.yml, line 1, column 6: "),
    ] {
        let error = Config::parse(Path::new("/c.yml"), text, true, &nothing).unwrap_err().to_string();
        assert!(error.starts_with(want), "{text:?}: {error}");
    }
}

/// Litestream reads the first document alone.
#[test]
fn a_second_document_is_ignored() {
    const FIRST: &str = "dbs:\n- {path: /a, replica: {path: /x}}\n";
    for text in [
        format!("{FIRST}---\n# notes\nx: y\n"),
        format!("{FIRST}---\ndbs: [this is : no: YAML\n"),
        format!("{FIRST}--- \"another\"\n"),
        format!("{FIRST}...\nx: y\n"),
        format!("---\n{FIRST}---\ndbs: []\n"),
        format!("\u{feff}# first\n\n--- # the document\r\n{FIRST}---\r\ndbs: []\r\n"),
        format!("%YAML 1.1\n---\n{FIRST}---"),
        format!("{FIRST}---"),
    ] {
        assert_eq!(find(&text, "/a").map(|location| location.path).as_deref(), Ok("/x"), "{text:?}");
    }
    // These lines begin like a marker and are none.
    for text in ["---x: 1\n", "x: |\n ---\n", "x: ---\n", "....: 1\n"] {
        assert_eq!(find(&format!("{text}{FIRST}"), "/a").unwrap().path, "/x", "{text:?}");
    }
    assert!(yaml("---\n---\ndbs: [{path: /a, replica: {path: /x}}]\n").databases.is_empty());
}

#[test]
fn the_error_of_an_entry_names_its_place_and_variables_without_a_value() {
    let text = "\
region: $REGION
dbs:
- path: /other
  replica: {url: 's3://$OTHER/x'}
# $COMMENT
- path: /a
  replica:
    type: s3
    bucket: ${BUCKET}
    secret-access-key: pa$WORD
- path: /b
  replica: {url: 's3://b', path: c}
";
    let error = |path| Config::parse(Path::new("/c.yml"), text, true, &nothing).unwrap().find(Path::new(path));
    assert_eq!(
        error("/a").unwrap_err().to_string(),
        "bucket required for s3 replica (not set: $REGION, $BUCKET); database /a in config file /c.yml, line 6"
    );
    assert_eq!(
        error("/b").unwrap_err().to_string(),
        "cannot specify url & path for s3 replica; database /b in config file /c.yml, line 11"
    );
    let set = env_of(&[("REGION", "r"), ("OTHER", "o"), ("BUCKET", "b\n\n"), ("WORD", "w")]);
    let config = Config::parse(Path::new("/c.yml"), text, true, &set).unwrap();
    assert!(config.find(Path::new("/a")).is_ok());
    // Lines are those of the expanded text, in which a value may have several.
    assert!(config.find(Path::new("/b")).unwrap_err().to_string().ends_with("line 13"));
}

#[test]
fn a_path_that_is_configured_twice_is_a_warning() {
    let config = yaml("dbs:\n- {path: /a, replica: {path: /x}}\n- {path: /b, replica: {path: /y}}\n- {path: //a}\n");
    let want = "config file /etc/litestream.yml: /a is configured twice, in lines 2 and 4: the first counts";
    assert_eq!(config.warnings, [want]);
    assert_eq!(config.find(Path::new("/a")).unwrap().path, "/x");
    let many: String = (0..100).map(|n| format!("- path: /{}\n", n / 2)).collect();
    assert_eq!(yaml(&format!("dbs:\n{many}")).warnings.len(), 20);
}

#[test]
fn the_restore_pattern_section() {
    let section = |text: &str| yaml(text).restore_pattern.transpose().unwrap();
    let text = "restore-pattern:\n  parallel-workers: 20\n  max-retries: 3\n  retry-delay: 1m30s\n  \
                connect-timeout: 2m\n  stall-timeout: 0\n";
    let want = RestorePattern {
        parallel_workers: Some(20),
        max_retries: Some(3),
        retry_delay: Some(Duration::from_secs(90)),
        connect_timeout: Some(Duration::from_secs(120)),
        stall_timeout: Some(Duration::ZERO),
        ..RestorePattern::default()
    };
    assert_eq!(section(text), Some(want));
    assert_eq!(section("restore-pattern: {max-retries: 0}").unwrap().max_retries, Some(0));
    assert_eq!(section("x: &x {max-retries: 7}\nrestore-pattern:\n  <<: *x\n").unwrap().max_retries, Some(7));
    assert_eq!(section("restore-pattern:\n"), None);
    assert_eq!(section(""), None);
    for (text, want) in [
        ("{parallel-workers: 0}", "restore-pattern: parallel-workers: must be at least 1"),
        ("{retry-delay: 5}", "restore-pattern: retry-delay: missing unit in duration (ns, us, ms, s, m, h)"),
        ("{connect-timeout: -1s}", "restore-pattern: connect-timeout: duration must not be negative"),
        ("{stall-timeout: soon}", "restore-pattern: stall-timeout: not a duration such as"),
        ("{max-retries: -1}", "expected"),
        ("{parallel-workers: 99999999999}", "expected"),
        ("{max-retires: 1}", "restore-pattern: unknown key 'max-retires', expected parallel-workers, max-retries"),
        ("{c2VjcmV0: 1}", "restore-pattern: unknown key, expected parallel-workers, max-retries"),
        ("5", "expected"),
    ] {
        // It concerns restore-pattern alone: the databases are known all the same.
        let text = format!("dbs: [{{path: /a, replica: {{path: /x}}}}]\nrestore-pattern: {text}\n");
        let config = Config::parse(Path::new("/c.yml"), &text, true, &nothing).unwrap();
        assert_eq!(config.find(Path::new("/a")).unwrap().path, "/x");
        let error = config.restore_pattern.unwrap().unwrap_err().to_string();
        assert!(error.starts_with("config file /c.yml, line 2, column ") && error.contains(want), "{text}: {error}");
    }
}

#[test]
fn reading_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().to_str().unwrap().to_owned();
    let home = |name: &str| (name == "HOME").then(|| base.clone());
    std::fs::write(dir.path().join("l.yml"), "dbs: [{path: $HOME/a, replica: {path: /x}}]").unwrap();
    let config = Config::load(Path::new("~/l.yml"), true, &home).unwrap();
    assert_eq!(config.find(&dir.path().join("a")).unwrap().path, "/x");

    let missing = dir.path().join("x").join("..").join("none.yml");
    let error = Config::load(&missing, true, &nothing).unwrap_err();
    assert_eq!(error.to_string(), format!("config file not found: {base}/none.yml"));
    let below_a_file = Config::load(&dir.path().join("l.yml/x"), true, &nothing).unwrap_err();
    assert!(below_a_file.to_string().starts_with("config file not found: "), "{below_a_file}");
    let error = Config::load(dir.path(), true, &nothing).unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot read config file {base}: ")), "{error}");
    std::fs::write(dir.path().join("binary.yml"), [0xff, 0xfe, 0x00]).unwrap();
    let error = Config::load(&dir.path().join("binary.yml"), true, &nothing).unwrap_err();
    assert!(matches!(error, ConfigError::FileUnreadable { .. }), "{error}");
}
