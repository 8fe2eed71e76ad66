//! Secrets must never be shown in errors, reports or messages, at any verbosity. All tests of `restore` search the
//! output of every run for secrets. The tests here put secrets where an error might repeat them.

use super::support::*;
use crate::common::raw::{RawServer, refuse};
use hydrant::sim::server::{Failure, Faults};

const SSE_KEY: &str = "Y2FuYXJ5LXNzZS1rZXktY2FuYXJ5LXNzZS1rZXktMTI=";

#[track_caller]
fn silent(args: &[&str], env: &[(&str, &str)]) {
    for format in ["text", "json"] {
        let mut all = vec![args[0], "-vv", "--log-format", format, "--connect-timeout", "0"];
        all.extend(&args[1..]);
        let mut command = hydrant_s3(&all);
        command.envs(env.iter().copied());
        let ran = run(&mut command);
        for secret in [SECRET_KEY, SESSION_TOKEN, SSE_KEY, "canary-password", "canary%2Dpassword", "Signature="] {
            assert!(!ran.stdout.contains(secret) && !ran.stderr.contains(secret), "{secret} in {ran:?}");
        }
        if let Some(backtrace) = ran.stderr.lines().find(|line| line.contains("panicked")) {
            panic!("{backtrace}");
        }
    }
}

#[test]
fn in_no_output() {
    let served = serve(large(256 << 10, 2), Faults::default());
    let endpoint = served.server.endpoint();
    let host = endpoint.trim_start_matches("http://");
    let bare = format!("endpoint={endpoint}&region=us-east-1");
    let urls = [
        format!("s3://{ACCESS_KEY}:canary-secret-key@bucket/large.db?{bare}"),
        format!("s3://{ACCESS_KEY}:canary-password@bucket/large.db?{bare}"),
        format!("s3://AK:canary-password/x@bucket/large.db?{bare}"),
        format!("s3://bucket/large.db?endpoint=http://user:canary-password@{host}&region=us-east-1"),
        format!("s3://bucket/large.db?{bare}&access-key-id=AK&secret-access-key=canary-secret-key"),
        format!("s3://bucket/large.db?{bare}&sse-customer-algorithm=AES256&sse-customer-key={SSE_KEY}"),
        format!("s3://bucket/large.db?{bare}&sse-customer-algorithm=AES256&sse-customer-key=canary-sse-not-base64"),
        format!("s3://user:canary-password@bucket.{host}/large.db"),
        "s3://user:canary-password@/".to_owned(),
        "s3://user:canary-password@[::1".to_owned(),
        "gs://user:canary-password@bucket/large.db".to_owned(),
        "file://user:canary-password@host/large.db".to_owned(),
    ];
    for url in &urls {
        for faults in [
            Faults::default(),
            Faults { fail: vec![(Failure::AccessDenied, 1.0)], ..Faults::default() },
            Faults { fail: vec![(Failure::FlippedBit, 1.0)], ..Faults::default() },
        ] {
            served.server.set_faults(faults);
            let place = Place::new();
            silent(&["restore", "-json", "-o", &place.out(), url], &[]);
        }
        served.server.set_faults(Faults::default());
        let place = Place::new();
        silent(&["restore", "-dry-run", "-o", &place.out(), url], &[]);
        silent(&["restore", url], &[]);
        silent(&["restore", "-config", "x", url], &[]);
        silent(&["restore", "-o", &place.out(), url, "-nonsense", url], &[]);
        silent(&["ltx", "-level", "all", url], &[]);
        silent(&["ltx", "-config", url, url], &[]);
        silent(&["restore-pattern", "--output-dir", &place.out(), "--error-log", &place.path("errors.log"), url], &[]);
    }
    let proxy =
        [("HTTP_PROXY", "http://user:canary-password@127.0.0.1:1"), ("HTTPS_PROXY", "http://u:canary-password@x y")];
    let place = Place::new();
    silent(&["restore", "-o", &place.out(), "s3://bucket/db?endpoint=http://198.51.100.7&region=us-east-1"], &proxy);
}

/// A server that repeats what was sent to it, once, and whose answer is shown with `-v`.
#[test]
fn in_no_answer_that_repeats_them() {
    let server = RawServer::start(|request, to| {
        let repeated = format!("AccessDenied {SECRET_KEY} {SESSION_TOKEN} {SSE_KEY} {}", request.header("range"));
        match request.n {
            0 => refuse(to, "500 Internal Server Error", "", &repeated),
            1 => refuse(to, "503 Slow Down", "", &repeated),
            _ => refuse(to, "403 Forbidden", "", &repeated),
        }
    });
    let sse = format!("sse-customer-algorithm=AES256&sse-customer-key={SSE_KEY}");
    let url = format!("s3://bucket/large.db?endpoint={}&region=us-east-1&{sse}", server.endpoint());
    silent(&["ltx", &url], &[]);
    assert!(server.requests().len() > 3);
    let ran = run(&mut hydrant_s3(&["ltx", "-v", &url]));
    assert!(ran.stderr.contains("request failed") && ran.stderr.contains("AccessDenied … …"), "{ran:?}");
}

#[test]
fn in_nothing_that_the_credentials_chain_says() {
    let served = serve(large(64 << 10, 0), Faults::default());
    let place = Place::new();
    let json = format!(
        "{{\\\"Version\\\":1,\\\"AccessKeyId\\\":\\\"{ACCESS_KEY}\\\",\\\"SecretAccessKey\\\":\\\"{SECRET_KEY}\\\",\
         \\\"SessionToken\\\":\\\"{SESSION_TOKEN}\\\"}}"
    );
    let keys = format!(
        "aws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\naws_session_token = {SESSION_TOKEN}\n"
    );
    let profiles = format!("[profile program]\ncredential_process = /bin/echo \"{json}\"\n[profile keys]\n{keys}");
    let file = place.write("profiles", &profiles);
    for (i, profile) in ["program", "keys"].into_iter().enumerate() {
        for (verbosity, shown) in [("-vv", true), ("-v", false)] {
            let out = place.path(&format!("{i}{verbosity}.db"));
            let mut command = hydrant(&["restore", verbosity, "-o", &out, &served.url]);
            command.envs([("AWS_CONFIG_FILE", &*file), ("AWS_PROFILE", profile), ("PATH", "/usr/bin:/bin")]);
            let ran = run(&mut command).succeeded();
            let chain: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("aws_config::")).collect();
            assert_eq!(chain.iter().any(|line| line.contains("loaded credentials")), shown, "{ran:?}");
            assert!(ran.stderr.contains("hydrant::s3: credentials loaded"), "{ran:?}");
            assert!(!ran.stderr.contains(SECRET_KEY) && !ran.stderr.contains(ACCESS_KEY), "{ran:?}");
        }
    }
}

#[test]
fn in_no_complaint_about_the_config() {
    let served = serve(large(64 << 10, 0), Faults::default());
    let endpoint = served.server.endpoint();
    let place = Place::new();
    let keys = "access-key-id: AK\nsecret-access-key: canary-secret-key\nsession-token: canary-session-token\n";
    for yaml in [
        format!("{keys}dbs: [{{path: /a.db, replica: {{url: \"s3://bucket/large.db?endpoint={endpoint}\"}}}}]\n"),
        format!("{keys}dbs: [{{path: /a.db, replica: {{url: \"s3://u:canary-password@bucket/p\", bucket: b}}}}]\n"),
        format!("{keys}dbs: [{{path: /a.db, replica: {{url: \"ftp://u:canary-password@bucket/p\"}}}}]\n"),
        format!("{keys}dbs: {{canary-secret-key: [\n"),
        format!("{keys}dbs: [{{path: /a.db, replica: {{type: canary-x, secret-access-key: [canary-secret-key]}}}}]\n"),
        "dbs: [{path: /a.db, replica: {type: s3, bucket: b, secret-access-key: {canary-secret-key: 1}}}]\n".to_owned(),
        "secret-access-key: canary-secret-key\n  bad: indent\n".to_owned(),
        "secret-access-key: \"canary-secret-key\n".to_owned(),
        "secret-access-key: *canary-secret-key\n".to_owned(),
    ] {
        let config = place.write("l.yml", &yaml);
        silent(&["restore", "-o", &place.out(), "-config", &config, "/a.db"], &[]);
        silent(&["ltx", "-config", &config, "/a.db"], &[]);
    }
}
