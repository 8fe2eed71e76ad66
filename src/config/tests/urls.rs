use super::*;

/// The expected parts of a location: bucket, path, region, endpoint, path-style.
type Parts<'a> = (&'a str, &'a str, Option<&'a str>, Option<&'a str>, bool);

fn parts(location: &Location) -> Parts<'_> {
    let s3 = s3(location);
    (&s3.bucket, &location.path, s3.region.as_deref(), s3.endpoint.as_deref(), s3.path_style)
}

#[test]
fn s3_urls() {
    const MINIO: Option<&str> = Some("http://localhost:9000");
    const US: Option<&str> = Some("us-east-1");
    for (url, want) in [
        ("s3://b/p/a.db", ("b", "p/a.db", None, None, false)),
        ("S3://b/p/a.db", ("b", "p/a.db", None, None, false)),
        ("s3://b", ("b", ".", None, None, false)),
        ("s3://b?region=r", ("b", ".", Some("r"), None, false)),
        ("s3://b/.", ("b", "", None, None, false)),
        ("s3://b/", ("b", "", None, None, false)),
        ("s3://b//p/./x/../a.db/", ("b", "p/a.db", None, None, false)),
        ("s3://b/a%20b%2Fc", ("b", "a b/c", None, None, false)),
        ("s3://b/p#fragment", ("b", "p", None, None, false)),
        ("s3://b_c.d/p", ("b_c.d", "p", None, None, false)),
        ("s3://b/p?region=eu-west-1", ("b", "p", Some("eu-west-1"), None, false)),
        ("s3://b/p?unknown=1&x", ("b", "p", None, None, false)),
        // The following URLs name the endpoint in their query.
        ("s3://b/p?endpoint=http://localhost:9000", ("b", "p", US, MINIO, true)),
        ("s3://b/p?endpoint=http%3A%2F%2Flocalhost%3A9000%2F", ("b", "p", US, MINIO, true)),
        ("s3://b/p?endpoint=localhost:9000", ("b", "p", US, MINIO, true)),
        ("s3://b/p?endpoint=127.0.0.1:9000", ("b", "p", US, Some("http://127.0.0.1:9000"), true)),
        ("s3://b/p?endpoint=[::1]:9000", ("b", "p", US, Some("http://[::1]:9000"), true)),
        ("s3://b/p?endpoint=10.1.2.3", ("b", "p", US, Some("http://10.1.2.3"), true)),
        ("s3://b/p?endpoint=172.31.0.1", ("b", "p", US, Some("http://172.31.0.1"), true)),
        ("s3://b/p?endpoint=172.32.0.1", ("b", "p", US, Some("https://172.32.0.1"), true)),
        ("s3://b/p?endpoint=192.168.0.1:1", ("b", "p", US, Some("http://192.168.0.1:1"), true)),
        ("s3://b/p?endpoint=nas.local", ("b", "p", US, Some("http://nas.local"), true)),
        ("s3://b/p?endpoint=x.localhost:80", ("b", "p", US, Some("http://x.localhost"), true)),
        ("s3://b/p?endpoint=notlocal", ("b", "p", US, Some("https://notlocal"), true)),
        (
            "s3://b/p?endpoint=fly.storage.tigris.dev&region=auto",
            ("b", "p", Some("auto"), Some("https://fly.storage.tigris.dev"), true),
        ),
        (
            "s3://b/p?endpoint=https://x.supabase.co/storage/v1/s3/",
            ("b", "p", US, Some("https://x.supabase.co/storage/v1/s3"), true),
        ),
        ("s3://b/p?endpoint=localhost:9000&forcePathStyle=false", ("b", "p", US, MINIO, false)),
        ("s3://b/p?endpoint=localhost:9000&force-path-style=No", ("b", "p", US, MINIO, false)),
        ("s3://b/p?forcePathStyle=1", ("b", "p", None, None, true)),
        ("s3://b/p?force-path-style=T", ("b", "p", None, None, true)),
        ("s3://b/p?forcePathStyle=", ("b", "p", None, None, false)),
        // The following URLs have a host that implies the bucket, region or endpoint.
        ("s3://b.s3.amazonaws.com/p", ("b", "p", None, None, false)),
        ("s3://b.s3.eu-west-1.amazonaws.com/p", ("b", "p", Some("eu-west-1"), None, false)),
        ("s3://b.c.s3.eu-west-1.amazonaws.com/p", ("b.c", "p", Some("eu-west-1"), None, false)),
        ("s3://x.s3-old.s3.eu-west-1.amazonaws.com/p", ("x.s3-old", "p", Some("eu-west-1"), None, false)),
        ("s3://b.s3-eu-west-1.amazonaws.com/p", ("b", "p", Some("eu-west-1"), None, false)),
        ("s3://b.s3-accelerate.amazonaws.com/p", ("b", "p", None, None, false)),
        (
            "s3://b.s3.dualstack.eu-west-1.amazonaws.com/p",
            ("b", "p", Some("eu-west-1"), Some("https://s3.dualstack.eu-west-1.amazonaws.com"), false),
        ),
        (
            "s3://b.s3.cn-north-1.amazonaws.com.cn/p",
            ("b", "p", Some("cn-north-1"), Some("https://s3.cn-north-1.amazonaws.com.cn"), false),
        ),
        ("s3://b.s3.eu-west-1.amazonaws.com/p?region=x", ("b", "p", Some("x"), None, false)),
        (
            "s3://b.nyc3.digitaloceanspaces.com/p",
            ("b", "p", Some("nyc3"), Some("https://nyc3.digitaloceanspaces.com"), false),
        ),
        (
            "s3://b.s3.us-west-002.backblazeb2.com/p",
            ("b", "p", Some("us-west-002"), Some("https://s3.us-west-002.backblazeb2.com"), true),
        ),
        (
            "s3://b.c.us-east-1.linodeobjects.com/p",
            ("b.c", "p", Some("us-east-1"), Some("https://us-east-1.linodeobjects.com"), true),
        ),
        ("s3://b.s3.fr-par.scw.cloud/p", ("b", "p", Some("fr-par"), Some("https://s3.fr-par.scw.cloud"), false)),
        ("s3://b.s3.filebase.com/p", ("b", "p", US, Some("https://s3.filebase.com"), true)),
        ("s3://b.s3.filebase.com/p?forcePathStyle=false", ("b", "p", US, Some("https://s3.filebase.com"), false)),
        ("s3://b.localhost:9000/p", ("b", "p", US, MINIO, true)),
        ("s3://b.minio.lan:9000/p", ("b", "p", US, Some("http://minio.lan:9000"), true)),
        ("s3://b.10.0.0.7:9000/p", ("b", "p", US, Some("http://10.0.0.7:9000"), true)),
        ("s3://b.localhost:9000/p?region=r&forcePathStyle=f", ("b", "p", Some("r"), MINIO, false)),
        // The following URLs name an S3 access point by its ARN.
        (
            "s3://arn:aws:s3:eu-west-1:123:accesspoint/name/p/a.db?x=1",
            ("arn:aws:s3:eu-west-1:123:accesspoint/name", "p/a.db", Some("eu-west-1"), None, false),
        ),
        (
            "s3://arn:aws:s3:eu-west-1:123:accesspoint/name",
            ("arn:aws:s3:eu-west-1:123:accesspoint/name", "", Some("eu-west-1"), None, false),
        ),
        (
            "s3://arn:aws:s3::123:accesspoint/name.mrap/p%20",
            ("arn:aws:s3::123:accesspoint/name.mrap", "p%20", None, None, false),
        ),
    ] {
        let location = parse_replica_url(url, &nothing).unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!(parts(&location), want, "{url}");
        assert!(s3(&location).credentials.is_none() && !s3(&location).skip_verify, "{url}");
    }
    for url in ["s3://b/p?skipVerify=true", "s3://b/p?skip-verify=YES"] {
        assert!(s3(&parse_replica_url(url, &nothing).unwrap()).skip_verify, "{url}");
    }
}

#[test]
fn parameters_without_effect_are_warnings_and_slips_are_errors() {
    let silent =
        "s3://b/p?storageClass=STANDARD&part-size=1&concurrency=2&requireContentMD5=t&sse-kms-key-id=k&region=r";
    let unknown = "s3://b/p?region=r&color=hunter2";
    for (url, want) in
        [(silent, &[][..]), (unknown, &["replica url: the parameter 'color' is unknown and has no effect"])]
    {
        assert_eq!(parse_replica_url(url, &nothing).unwrap().warnings, want);
        assert_eq!(parse_pattern_url(url, &nothing).unwrap().0.warnings, want);
        let text = format!("dbs: [{{dir: /d, pattern: '*', replica: {{url: '{url}'}}}}]");
        assert_eq!(yaml(&text).find(Path::new("/d/x")).unwrap().warnings, want);
    }
    for url in ["s3://b/p?forcepathstyle=true", "s3://arn:aws:s3:r:1:accesspoint/n/p?forcepathstyle=true"] {
        let error = parse_replica_url(url, &nothing).unwrap_err().to_string();
        assert_eq!(error, "replica url: unknown parameter 'forcepathstyle': did you mean forcePathStyle?");
    }
    let error = parse_pattern_url("s3://b/**?access-key-id=hunter2", &nothing).unwrap_err().to_string();
    assert!(
        error.contains("keys do not belong in a URL: set AWS_ACCESS_KEY_ID") && !error.contains("hunter2"),
        "{error}"
    );
}

#[test]
fn urls_that_are_refused() {
    let boolean = |key| ConfigError::BadBoolean { key };
    let kind = |kind: &str| ConfigError::UnsupportedType { kind: kind.to_owned() };
    for (url, want) in [
        ("s3://", ConfigError::BucketMissing),
        ("s3:///p", ConfigError::BucketMissing),
        ("s3://nyc3.digitaloceanspaces.com/p", ConfigError::BucketMissing),
        ("s3://us-east-1.linodeobjects.com/p", ConfigError::BucketMissing),
        ("s3://s3.fr-par.scw.cloud/p", ConfigError::BucketMissing),
        ("s3://s3.filebase.com/p", ConfigError::BucketMissing),
        ("s3://localhost:9000/b/p", ConfigError::BadBucket),
        ("s3://10.0.0.7:9000/b/p", ConfigError::BadBucket),
        ("s3://b.minio.example.com:9000/p", ConfigError::BadBucket),
        ("s3://s3.eu-west-1.amazonaws.com/b/p", ConfigError::BadBucket),
        ("s3://a b/p", ConfigError::BadBucket),
        ("s3://user:password@b/p", ConfigError::UserInfo),
        ("s3://user@b/p", ConfigError::UserInfo),
        ("s3://b/p%", ConfigError::BadEscape),
        ("s3://b/p%4", ConfigError::BadEscape),
        ("s3://b/p%zz", ConfigError::BadEscape),
        ("s3://b/p%ff", ConfigError::BadEscape),
        ("s3://b/p?forcePathStyle=maybe", boolean("forcePathStyle")),
        ("s3://b/p?force-path-style=2", boolean("forcePathStyle")),
        ("s3://b/p?skipVerify=maybe", boolean("skipVerify")),
        ("s3://b/p?signPayload=maybe", boolean("signPayload")),
        ("s3://arn:aws:s3:eu-west-1:123:accesspoint", ConfigError::BadArn),
        ("s3://arn:aws:s3:eu-west-1:123:accesspoint/", ConfigError::BadArn),
        ("s3://arn:aws:s3:::bucket/p", ConfigError::BadArn),
        ("gs://b/p", kind("gs")),
        ("abs://b/p", kind("abs")),
        ("sftp://u:p@h/p", kind("sftp")),
        ("nats://h/b", kind("nats")),
        ("webdav://h/p", kind("webdav")),
        ("webdavs://h/p", kind("webdavs")),
        ("OSS://b/p", kind("oss")),
        ("https://h/p", kind("https")),
        ("file://", ConfigError::FilePathMissing { bucket_set: false }),
        ("file:///", ConfigError::FilePathMissing { bucket_set: false }),
        ("b/p", ConfigError::UrlSchemeMissing { url: "b/p".to_owned() }),
    ] {
        assert_eq!(parse_replica_url(url, &nothing), Err(want), "{url}");
    }
    for endpoint in ["ftp://h", "https://", "https://u:p@h", "u@h", "h?x", "h:99999", "%20"] {
        let url = format!("s3://b/p?endpoint={}", endpoint.replace('%', "%25"));
        let error = parse_replica_url(&url, &nothing).unwrap_err();
        assert!(matches!(error, ConfigError::BadEndpoint { setting: "endpoint", .. }), "{endpoint}: {error}");
    }
    let text = kind("gs").to_string();
    assert!(text.contains("'gs'") && text.contains("s3://") && text.contains("file://"), "{text}");
    assert_eq!(kind("gs").class(), crate::error::Class::Config);
}

#[test]
fn the_environment_adds_endpoint_and_region() {
    let local = Some("http://localhost:9000");
    for (url, variables, region, endpoint, path_style) in [
        ("s3://b/p", vec![("AWS_REGION", "r1"), ("AWS_DEFAULT_REGION", "r2")], Some("r1"), None, false),
        ("s3://b/p", vec![("AWS_REGION", ""), ("AWS_DEFAULT_REGION", "r2")], Some("r2"), None, false),
        ("s3://b/p?region=r0", vec![("AWS_REGION", "r1")], Some("r0"), None, false),
        ("s3://b/p?endpoint=localhost:9000", vec![("AWS_REGION", "r1")], Some("us-east-1"), local, true),
        ("s3://b/p", vec![("AWS_ENDPOINT_URL", "http://localhost:9000")], Some("us-east-1"), local, true),
        (
            "s3://b/p",
            vec![("AWS_ENDPOINT_URL", "http://localhost:9000"), ("AWS_REGION", "auto")],
            Some("auto"),
            local,
            true,
        ),
        (
            "s3://b/p?forcePathStyle=false",
            vec![("AWS_ENDPOINT_URL_S3", "http://localhost:9000"), ("AWS_ENDPOINT_URL", "https://other")],
            Some("us-east-1"),
            local,
            false,
        ),
        (
            "s3://b/p",
            vec![("LITESTREAM_S3_ENDPOINT", "localhost:9000"), ("AWS_ENDPOINT_URL_S3", "https://other")],
            Some("us-east-1"),
            local,
            true,
        ),
        (
            "s3://b/p",
            vec![("AWS_ENDPOINT_URL", "https://other"), ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")],
            None,
            None,
            false,
        ),
        ("s3://b.localhost:9000/p", vec![("AWS_ENDPOINT_URL", "https://other")], Some("us-east-1"), local, true),
        (
            "s3://arn:aws:s3:eu-west-1:123:accesspoint/name/p",
            vec![("AWS_ENDPOINT_URL", "https://other")],
            Some("eu-west-1"),
            None,
            false,
        ),
    ] {
        let location = parse_replica_url(url, &env_of(&variables)).unwrap();
        let s3 = s3(&location);
        let got = (s3.region.as_deref(), s3.endpoint.as_deref(), s3.path_style);
        assert_eq!(got, (region, endpoint, path_style), "{url} {variables:?}");
    }
    let error = parse_replica_url("s3://b/p", &env_of(&[("AWS_ENDPOINT_URL", "ftp://h")])).unwrap_err();
    assert!(error.to_string().starts_with("AWS_ENDPOINT_URL: "), "{error}");
}

#[test]
fn litestream_variables_stand_in_for_aws_names() {
    const LITESTREAM: [(&str, &str); 2] =
        [("LITESTREAM_ACCESS_KEY_ID", "lid"), ("LITESTREAM_SECRET_ACCESS_KEY", "lsecret")];
    for (more, want) in [
        (vec![], Some(("lid", "lsecret", None))),
        (vec![("AWS_SESSION_TOKEN", "token")], Some(("lid", "lsecret", Some("token")))),
        (vec![("AWS_ACCESS_KEY_ID", "aid")], Some(("aid", "lsecret", None))),
        (vec![("AWS_ACCESS_KEY_ID", "")], Some(("lid", "lsecret", None))),
        (vec![("AWS_ACCESS_KEY_ID", "aid"), ("AWS_SECRET_ACCESS_KEY", "asecret")], None),
    ] {
        let variables: Vec<_> = LITESTREAM.into_iter().chain(more).collect();
        let location = parse_replica_url("s3://b/p", &env_of(&variables)).unwrap();
        let got = s3(&location).credentials.as_ref();
        let got = got.map(|c| (c.access_key_id.as_str(), c.secret_access_key.as_str(), c.session_token.as_deref()));
        assert_eq!(got, want, "{variables:?}");
    }
    let only = env_of(&[("LITESTREAM_ACCESS_KEY_ID", "lid")]);
    assert_eq!(s3(&parse_replica_url("s3://b/p", &only).unwrap()).credentials, None);
}

#[test]
fn file_urls() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().to_str().unwrap();
    // Litestream makes directories with the URL's %-escapes, and with escapes for what does not belong in a URL.
    for name in ["literal%20x", "a%20b", "gr%C3%B6%C3%9Fe%21", "both", "both%20x", "both x"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    for (url, want) in [
        ("file:///a/b.db".to_owned(), "/a/b.db".to_owned()),
        ("FILE:///a//b/../c.db/?x=1".to_owned(), "/a/c.db".to_owned()),
        ("file://a/b".to_owned(), "/a/b".to_owned()),
        (format!("file://{base}/literal%20x"), format!("{base}/literal%20x")),
        (format!("file://{base}/decoded%20x"), format!("{base}/decoded x")),
        (format!("file://{base}/a b"), format!("{base}/a%20b")),
        (format!("file://{base}/gr%C3%B6ße!"), format!("{base}/gr%C3%B6%C3%9Fe%21")),
        (format!("file://{base}/new ö"), format!("{base}/new ö")),
        (format!("file://{base}/both%20x"), format!("{base}/both%20x")),
        (format!("file://{base}/both x"), format!("{base}/both x")),
        (format!("file://{base}/100%"), format!("{base}/100%")),
        (format!("file://{base}/100% x"), format!("{base}/100% x")),
        (format!("file://{base}/a#b"), format!("{base}/a#b")),
    ] {
        let location = parse_replica_url(&url, &nothing).unwrap();
        assert_eq!((location.path.as_str(), location.store.kind()), (want.as_str(), "file"), "{url}");
    }
}

#[test]
fn a_file_url_that_looks_relative_is_a_warning() {
    let want = "file://a/b is read as the absolute path /a/b, as Litestream reads it; a relative path cannot be given";
    assert_eq!(parse_replica_url("file://a/b", &nothing).unwrap().warnings, [want]);
    assert_eq!(parse_pattern_url("file://a/b", &nothing).unwrap().0.warnings, [want]);
    for url in ["file:///a/b", "file://~/a"] {
        assert!(parse_replica_url(url, &home).unwrap().warnings.is_empty(), "{url}");
    }
}

#[test]
fn pattern_urls() {
    for (url, want) in [
        ("s3://b/p/**/*.db", ("", "p/**/*.db")),
        ("s3://b/p/", ("", "p/")),
        ("s3://b", ("", "")),
        ("s3://b/p/a%3F.db?endpoint=localhost:1", ("", "p/a?.db")),
        ("s3://b/p//x#y/%25", ("", "p//x#y/%")),
        ("file:///d/**/*.db", ("/", "d/**/*.db")),
        ("file:///d%20e/", ("/", "d e/")),
    ] {
        let (location, pattern) = parse_pattern_url(url, &nothing).unwrap();
        assert_eq!((location.path.as_str(), pattern.as_str()), want, "{url}");
        assert_eq!(location.display, url);
    }
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().to_str().unwrap();
    std::fs::create_dir_all(dir.path().join("d%20e/f%20g")).unwrap();
    for (pattern, want) in [
        ("d%20e/*.db", "d%20e/*.db"),
        ("d%20e/f%20g/%2A%20x*", "d%20e/f%20g/* x*"),
        ("d%20e/g%20/*.db", "d e/g /*.db"),
        ("x%20/**", "x /**"),
    ] {
        let (_, found) = parse_pattern_url(&format!("file://{base}/{pattern}"), &nothing).unwrap();
        assert_eq!(found, format!("{}/{want}", base.trim_start_matches('/')));
    }
    assert!(matches!(parse_pattern_url("gs://b/*", &nothing), Err(ConfigError::UnsupportedType { .. })));
    assert!(matches!(parse_pattern_url("b/*", &nothing), Err(ConfigError::UrlSchemeMissing { .. })));
    assert_eq!(parse_pattern_url("s3://u:p@b/*", &nothing).unwrap_err(), ConfigError::UserInfo);
}

#[test]
fn joined_paths() {
    let at = |path: &str| Location { path: path.to_owned(), ..parse_replica_url("s3://b", &nothing).unwrap() };
    for (path, joined, dir_prefix) in [
        ("", "t/a.db", ""),
        ("p", "p/t/a.db", "p/"),
        ("p/", "p/t/a.db", "p/"),
        ("/p/x", "/p/x/t/a.db", "/p/x/"),
        ("/", "/t/a.db", "/"),
        (".", "t/a.db", ""),
    ] {
        assert_eq!(at(path).join("t/a.db").path, joined, "{path:?}");
        assert_eq!(at(path).dir_prefix(), dir_prefix, "{path:?}");
    }
    assert_eq!(parse_replica_url("file:///d", &nothing).unwrap().join("t/a.db").path, "/d/t/a.db");
    let joined = parse_replica_url("s3://b/p/?region=r", &nothing).unwrap().join("t/a.db");
    assert_eq!(joined.display, "s3://b/p/t/a.db?region=r");
}
