//! Secrets must never be printed. These tests put known secrets into a configuration and look for them in every
//! text that can be printed.

use super::*;

/// The value used for every secret in these tests. It is base64 of 32 bytes, the length of an SSE-C key.
const CANARY: &str = "Q0FOQVJZQ0FOQVJZQ0FOQVJZQ0FOQVJZQ0FOQVJZLi4=";
const CANARY_MD5: &str = "i5UTUPZZmRDK+QV+6XdnGQ==";

fn assert_silent(shown: &str) {
    for needle in ["Q0FOQVJZ", "hunter2", "cleartext-user"] {
        assert!(!shown.contains(needle), "{shown}");
    }
}

#[test]
fn locations_and_configs_show_no_secret() {
    let url = format!("s3://b/p?sseCustomerKey={CANARY}&x={CANARY}&region=r&{CANARY}&endpoint=https://h");
    let variables = [("AWS_SESSION_TOKEN", CANARY), ("LITESTREAM_ACCESS_KEY_ID", CANARY)];
    let location = parse_replica_url(&url, &env_of(&variables)).unwrap();
    assert!(s3(&location).sse_customer.is_some());
    assert!(location.display.contains("region=r&") && location.display.ends_with("endpoint=https://h"));
    assert_eq!(location.warnings.len(), 2);
    assert_silent(&format!("{location:?} {}", location.display));

    let config = yaml(&format!(
        "access-key-id: {CANARY}\nsecret-access-key: {CANARY}\nsession-token: {CANARY}\n\
         dbs: [{{path: /a, replica: {{type: s3, bucket: b, sse-customer-key: {CANARY}}}}}]\n"
    ));
    let location = config.find(Path::new("/a")).unwrap();
    let credentials = s3(&location).credentials.as_ref().unwrap();
    assert_eq!(credentials.session_token.as_deref(), Some(CANARY));
    assert_silent(&format!("{config:?} {location:?} {}", location.display));
}

#[test]
fn url_errors_show_no_secret() {
    for url in [
        format!("s3://cleartext-user:{CANARY}@b/p"),
        format!("s3://cleartext-user:hunter2/{CANARY}@b/p"),
        format!("s3://cleartext-user:hunter2?{CANARY}@b/p"),
        format!("s3://cleartext-user:{CANARY}#@b/p"),
        format!("sftp://cleartext-user:{CANARY}@h/p"),
        format!("cleartext-user:{CANARY}@b/p"),
        format!("b/p?x={CANARY}"),
        format!("s3://b/p?endpoint=https://cleartext-user:{CANARY}@h"),
        format!("s3://b/p?skipVerify={CANARY}"),
        format!("s3://b/p?secret-access-key={CANARY}"),
        format!("s3://b/p?token={CANARY}"),
        format!("s3://b/p?regoin={CANARY}"),
        format!("s3://b/p?sseCustomerKey=x{CANARY}"),
        format!("s3://b/p?sseCustomerKey={CANARY}&sseCustomerKeyMD5=x{CANARY}"),
        format!("s3://b/p?sseCustomerKey={CANARY}&endpoint=http://example.com"),
    ] {
        for error in [
            parse_replica_url(&url, &nothing).unwrap_err(),
            parse_pattern_url(&url, &nothing).err().unwrap_or(ConfigError::EmptyPath),
        ] {
            assert_silent(&format!("{error} {error:?}"));
        }
    }
}

#[test]
fn yaml_errors_show_no_secret() {
    for text in [
        format!("secret-access-key: [{CANARY}]"),
        format!("secret-access-key: \"{CANARY}"),
        format!("secret-access-key: {CANARY}\n  region: x"),
        format!("dbs: {CANARY}"),
        format!("dbs: [{{path: /a, replica: {CANARY}}}]"),
        format!("dbs: [{{path: /a, replica: {{skip-verify: {CANARY}}}}}]"),
        format!("secret-access-key: *{CANARY}"),
        format!("secret-access-key: !!int {CANARY}"),
        format!("secret-access-key: !!binary {CANARY}-"),
        format!("<<: {CANARY}"),
        format!("restore-pattern: {{parallel-workers: {CANARY}}}"),
        format!("restore-pattern: {{retry-delay: {CANARY}}}"),
        format!("restore-pattern: {{{CANARY}: 1}}"),
        CANARY.to_string(),
    ] {
        let parsed = Config::parse(Path::new("/c.yml"), &text, false, &nothing);
        let error = parsed.and_then(|config| config.restore_pattern.transpose()).err();
        let error = error.unwrap_or_else(|| panic!("parsed: {text}"));
        assert_silent(&format!("{error} {error:?}"));
    }
}

#[test]
fn sse_customer_keys() {
    let key_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key_file.path(), format!(" {CANARY}\n")).unwrap();
    let key_path = key_file.path().to_str().unwrap();
    let from_yaml = |keys: &str| {
        yaml(&format!("dbs: [{{path: /a, replica: {{type: s3, bucket: b, {keys}}}}}]")).find(Path::new("/a"))
    };
    let escaped = CANARY_MD5.replace('+', "%2B");
    for location in [
        parse_replica_url(&format!("s3://b/p?sseCustomerKey={CANARY}&sseCustomerAlgorithm=AES256"), &nothing),
        parse_replica_url(&format!("s3://b/p?sse-customer-key={CANARY}&sse-customer-key-md5={escaped}"), &nothing),
        // A `+` in the query that was not escaped as %2B.
        parse_replica_url(&format!("s3://b/p?sseCustomerKey={CANARY}&sseCustomerKeyMD5={CANARY_MD5}"), &nothing),
        from_yaml(&format!("sse-customer-key: {CANARY}")),
        from_yaml(&format!("sse-customer-key-path: {key_path}")),
        from_yaml(&format!("sse-customer-key: other, sse-customer-key-path: {key_path}")),
        from_yaml(&format!("sse-customer-key: {CANARY}, endpoint: 'http://10.0.0.1:9000'")),
        from_yaml(&format!("sse-customer-key: {CANARY}, sse-customer-key-md5: {CANARY_MD5}")),
    ] {
        let location = location.unwrap();
        let key = s3(&location).sse_customer.as_ref().unwrap();
        assert_eq!((key.algorithm.as_str(), key.key_base64.as_str()), ("AES256", CANARY));
        assert_eq!(key.key_md5_base64, CANARY_MD5);
    }
    for (keys, part) in [
        ("sse-customer-key: '%%%'", "valid base64"),
        ("sse-customer-key: c2hvcnQ=", "32 bytes"),
        (&format!("sse-customer-key: {CANARY}, sse-customer-algorithm: AES128"), "AES256, not 'AES128'"),
        (&format!("sse-customer-key: {CANARY}, sse-customer-key-md5: x"), "not the MD5"),
        (&format!("sse-customer-key: {CANARY}, endpoint: 'http://example.com'"), "requires an https"),
        ("sse-customer-key-path: /does/not/exist", "cannot read sse-customer-key-path /does/not/exist"),
    ] {
        let error = from_yaml(keys).unwrap_err().to_string();
        assert!(error.contains(part), "{keys}: {error}");
    }
    assert_eq!(s3(&from_yaml("sse-customer-algorithm: AES128").unwrap()).sse_customer, None);
}
