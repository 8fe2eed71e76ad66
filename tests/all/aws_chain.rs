//! Tests of the AWS credentials chain. It runs in a child process, because each test needs other environment
//! variables.

use crate::common::binary::only_test;
use crate::common::client::{config, run};
use crate::common::raw::{RawServer, answer, answer_range};
use hydrant::store::s3::{S3, S3Config, S3Options};
use hydrant::store::{Http, Store};
use hydrant::telemetry::Counters;
use std::sync::Arc;

const ENDPOINT: &str = "HYDRANT_TEST_ENDPOINT";

/// The code of the child process. It does nothing unless another test has started it.
#[test]
fn child() {
    let Ok(endpoint) = std::env::var(ENDPOINT) else { return };
    let config = S3Config { credentials: None, ..config(&endpoint) };
    let store = Store::S3(Arc::new(S3::new(config, &S3Options::from_process(), Arc::new(Counters::default()))));
    let bytes = run(async {
        let http = Http::default();
        store.get(&http, "key", 0..7, None).await?.chunk().await
    });
    assert_eq!(bytes.unwrap().unwrap(), "content");
}

fn child_with(server: &RawServer, variables: &[(&str, &str)]) -> String {
    child_at(&server.endpoint(), variables)
}

fn child_at(endpoint: &str, variables: &[(&str, &str)]) -> String {
    let output = only_test(module_path!(), "child")
        .env_clear()
        .env(ENDPOINT, endpoint)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("HOME", "/nonexistent")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{} {told}", if output.status.success() { "ok" } else { "failed" })
}

fn bucket() -> RawServer {
    RawServer::start(|request, to| answer_range(to, request, b"content", "e"))
}

fn used(server: &RawServer) -> (String, String) {
    let requests = server.requests();
    let authorization = requests[0].header("authorization").to_owned();
    let id = authorization.split(['=', '/']).nth(1).unwrap().to_owned();
    (id, requests[0].header("x-amz-security-token").to_owned())
}

#[test]
fn container_credentials_are_fetched_past_the_proxy() {
    let metadata = RawServer::start(|request, to| {
        assert_eq!((request.target.as_str(), request.header("authorization")), ("/creds", "pod"));
        let body = "{\"AccessKeyId\":\"FROMPOD\",\"SecretAccessKey\":\"s\",\"Token\":\"T\",\"Expiration\":\"2099-01-01T00:00:00Z\"}";
        answer(to, "200 OK", "content-type: application/json\r\n", body.as_bytes())
    });
    let server = bucket();
    let told = child_at(
        "http://s3.example:9000",
        &[
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{}/creds", metadata.endpoint())),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "pod"),
            // The test's server also plays the HTTP proxy, to show that requests to a metadata address bypass
            // proxies.
            ("HTTP_PROXY", &server.endpoint()),
        ],
    );
    assert!(told.starts_with("ok"), "{told}");
    assert_eq!(used(&server), ("FROMPOD".into(), "T".into()));
    assert_eq!(server.requests()[0].target, "http://s3.example:9000/bucket/key");
    assert_eq!(metadata.requests().len(), 1);
}

#[test]
fn a_profile_may_name_a_program() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config");
    let json = "{\\\"Version\\\":1,\\\"AccessKeyId\\\":\\\"FROMPROGRAM\\\",\\\"SecretAccessKey\\\":\\\"s\\\"}";
    std::fs::write(&file, format!("[profile p]\ncredential_process = /bin/echo \"{json}\"\n")).unwrap();
    let server = bucket();
    let told = child_with(
        &server,
        &[("AWS_CONFIG_FILE", file.to_str().unwrap()), ("AWS_PROFILE", "p"), ("PATH", "/usr/bin:/bin")],
    );
    assert!(told.starts_with("ok"), "{told}");
    assert_eq!(used(&server).0, "FROMPROGRAM");
}

#[test]
fn keys_of_the_environment_come_first() {
    let server = bucket();
    let nowhere = "http://127.0.0.1:1/";
    let told = child_with(
        &server,
        &[
            ("LITESTREAM_ACCESS_KEY_ID", "FROMENV"),
            ("LITESTREAM_SECRET_ACCESS_KEY", "s"),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", nowhere),
        ],
    );
    assert!(told.starts_with("ok"), "{told}");
    assert_eq!(used(&server), ("FROMENV".into(), String::new()));
}

#[test]
fn no_credentials_at_all_is_told() {
    let server = bucket();
    let told = child_with(&server, &[]);
    assert!(told.starts_with("failed") && told.contains("Credentials") && told.contains("AWS_ACCESS_KEY_ID"), "{told}");
    assert_eq!(server.requests().len(), 0);
}

/// Each source that was asked for and is not there is named, in one line, with what to do.
#[test]
fn what_is_missing_is_named() {
    let server = bucket();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config");
    let sso = "sso_start_url = https://x.awsapps.com/start\nsso_region = eu-west-1\nsso_account_id = 123456789012\n\
               sso_role_name = r\n";
    std::fs::write(&file, format!("[profile sso]\n{sso}")).unwrap();
    let config = ("AWS_CONFIG_FILE", file.to_str().unwrap());
    let token_file = ("AWS_WEB_IDENTITY_TOKEN_FILE", "/nonexistent/token");
    for (variables, parts) in [
        (&[("AWS_PROFILE", "prod")][..], &["profile prod: neither "][..]),
        (&[("AWS_ACCESS_KEY_ID", "x")], &["AWS_ACCESS_KEY_ID is set, AWS_SECRET_ACCESS_KEY is not"]),
        (
            &[token_file, ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/r")],
            &["AWS_WEB_IDENTITY_TOKEN_FILE /nonexistent/token: No such file"],
        ),
        (&[("AWS_PROFILE", "sso"), config], &["aws sso login --profile sso"]),
    ] {
        let told = child_with(&server, variables);
        assert!(told.starts_with("failed"), "{told}");
        let error = told.lines().find(|line| line.contains("Credentials")).unwrap_or_else(|| panic!("{told}"));
        assert!(parts.iter().all(|part| error.contains(part)), "{parts:?}: {error}");
        assert!(!error.contains("\\n"), "{error}");
    }
    assert_eq!(server.requests().len(), 0);
}

/// `aws sso login` names the token's file by the SHA-1 of the session's real name.
#[test]
fn a_session_s_name_may_hold_spaces() {
    const OF_MY_ORG: &str = "7024645662363bbaa78a94a686105261e2a58669";
    /// Of `My%20Org`.
    const OF_MY_20ORG: &str = "0831eb0ee766e6732997ff50983faabfffdb675d";
    let server = bucket();
    let home = tempfile::tempdir().unwrap();
    let cache = home.path().join(".aws/sso/cache");
    std::fs::create_dir_all(&cache).unwrap();
    let profiles = "[profile direct]\nsso_session = My Org\nsso_account_id = 123456789012\nsso_role_name = r\n\
                    [profile role]\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = direct\n\
                    [sso-session My Org]\nsso_region = eu-west-1\nsso_start_url = https://x.awsapps.com/start\n";
    std::fs::write(home.path().join(".aws/config"), profiles).unwrap();
    let error = |profile: &str| {
        let told = child_with(&server, &[("HOME", home.path().to_str().unwrap()), ("AWS_PROFILE", profile)]);
        assert!(told.starts_with("failed"), "{told}");
        told.lines().find(|line| line.contains("Credentials")).unwrap_or_else(|| panic!("{told}")).to_owned()
    };
    let expired = "{\"accessToken\": \"t\", \"expiresAt\": \"2020-01-01T00:00:00Z\"}";
    let token = |name: &str| cache.join(format!("{name}.json"));
    std::fs::write(token(OF_MY_20ORG), expired).unwrap();
    for profile in ["direct", "role"] {
        let missing = error(profile);
        assert!(missing.contains("failed to load the cached SSO token"), "{missing}");
    }
    assert!(error("direct").contains("aws sso login --profile direct"));
    std::fs::rename(token(OF_MY_20ORG), token(OF_MY_ORG)).unwrap();
    for profile in ["direct", "role"] {
        let expired = error(profile);
        assert!(expired.contains("expired"), "{expired}");
    }
    // Keys of the environment come first nevertheless.
    let variables = [("HOME", home.path().to_str().unwrap()), ("AWS_PROFILE", "direct")];
    let keys = [("AWS_ACCESS_KEY_ID", "FROMENV"), ("AWS_SECRET_ACCESS_KEY", "s")];
    let told = child_with(&server, &[variables, keys].concat());
    assert!(told.starts_with("ok") && used(&server).0 == "FROMENV", "{told}");
}
