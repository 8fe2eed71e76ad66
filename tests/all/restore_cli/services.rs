//! How a service is found and asked: profiles, flags, variables, public buckets.

use super::support::*;
use crate::common::raw::{RawServer, answer, answer_range, refuse};
use hydrant::sim::server::{Faults, SimOptions, SimServer};

/// The program with a home of its own, in which `.aws/config` says `config`.
fn at_home(place: &Place, config: &str, args: &[&str]) -> std::process::Command {
    place.write("home/.aws/config", config);
    let mut command = hydrant(args);
    command.env("HOME", place.path("home"));
    command
}

fn keys() -> String {
    format!(
        "aws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\naws_session_token = {SESSION_TOKEN}\n"
    )
}

#[test]
fn a_profile_names_the_service_and_its_keys() {
    let served = serve(large(64 << 10, 0), Faults::default());
    let endpoint = served.server.endpoint();
    let services = format!("[services my own]\ns3 =\n  endpoint_url = {endpoint}\n");
    for config in [
        format!("[default]\nregion = us-east-1\nendpoint_url = {endpoint}\n{}", keys()),
        format!("[default]\nregion = us-east-1\nservices = my own\n{}{services}", keys()),
        // As the AWS CLI reads it, not as aws-config does.
        format!(
            "[profile x] y\n  a = b\n[default]\n    endpoint_url = {endpoint}\n    {}",
            keys().replace('\n', "\n    ")
        ),
    ] {
        let place = Place::new();
        run(&mut at_home(&place, &config, &["restore", "-o", &place.out(), "s3://bucket/large.db"])).succeeded();
        assert_eq!(sha256(&place.dir().join("out.db")), served.sha256, "{config}");
    }
}

#[test]
fn flags_are_stronger_than_the_url_and_the_environment() {
    let served = serve(large(64 << 10, 0), Faults::default());
    let config = format!("[profile Foo Bar]\n{}", keys());
    let endpoint = served.server.endpoint();
    let elsewhere = "s3://bucket/large.db?endpoint=http://127.0.0.1:9";
    for names in ["AWS", "LITESTREAM"] {
        let place = Place::new();
        let out = place.out();
        let args =
            ["restore", "-endpoint", &endpoint, "-profile", "Foo Bar", "-region", "us-east-1", "-o", &out, elsewhere];
        let mut command = at_home(&place, &config, &args);
        command.env(format!("{names}_ACCESS_KEY_ID"), "OTHER").env(format!("{names}_SECRET_ACCESS_KEY"), "other");
        run(&mut command).succeeded();
        assert_eq!(sha256(&place.dir().join("out.db")), served.sha256, "{names}");
    }
}

#[test]
fn a_public_bucket_needs_no_keys() {
    let server = SimServer::start(SimOptions::default()).unwrap();
    let database = large(64 << 10, 0);
    server.objects().put_database("bucket", &database);
    let place = Place::new();
    let url = url(&server.endpoint(), "large.db");
    run(&mut hydrant(&["restore", "-no-sign-request", "-o", &place.out(), &url])).succeeded();
    place.holds_only(&hex(&database.expected.sha256));
    let place = Place::new();
    let refused = run(&mut hydrant(&["restore", "-o", &place.out(), &url])).failed("--no-sign-request");
    for named in ["AWS_ACCESS_KEY_ID is not set", "profile default", "AWS_WEB_IDENTITY_TOKEN_FILE", "EC2 metadata"] {
        assert!(refused.stderr.contains(named), "{named}: {}", refused.stderr);
    }
}

#[test]
fn no_request_of_a_public_bucket_is_signed() {
    let server = RawServer::start(|request, to| {
        assert_eq!(request.header("authorization"), "");
        let listing = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
        answer(to, "200 OK", "", listing.as_bytes())
    });
    let place = Place::new();
    let url = url(&server.endpoint(), "large.db");
    run(&mut hydrant_s3(&["restore", "-no-sign-request", "-o", &place.out(), &url])).failed("no matching backup");
    assert!(!server.requests().is_empty());
}

#[test]
fn keys_and_regions_as_other_tools_take_them() {
    let served = serve(large(64 << 10, 0), Faults::default());
    for names in
        [["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], ["LITESTREAM_ACCESS_KEY_ID", "LITESTREAM_SECRET_ACCESS_KEY"]]
    {
        let place = Place::new();
        let mut command = hydrant(&["restore", "-o", &place.out(), &served.url]);
        // Secrets that are mounted as files often end with a line feed.
        command.env(names[0], format!("{ACCESS_KEY}\n")).env(names[1], format!("{SECRET_KEY}\n"));
        run(command.env("AWS_SESSION_TOKEN", format!("{SESSION_TOKEN}\n"))).succeeded();
        place.holds_only(&served.sha256);
    }
}

/// A service that lists one database of the fixtures. `refuses` says whether it answers 501 to a
/// request; the regions that requests are signed for are `region`.
fn service(region: &'static str, refuses: fn(&str) -> bool) -> (RawServer, String) {
    let (folder, manifest) = fixture("one-page");
    let mut objects = std::collections::BTreeMap::new();
    for (path, what) in contents(&folder) {
        if what.starts_with("file") {
            objects.insert(format!("a.db/{path}"), std::fs::read(folder.join(&path)).unwrap());
        }
    }
    let server = RawServer::start(move |request, to| {
        if request.region() != region || refuses(&request.target) {
            return refuse(to, "501 Not Implemented", "", "NotImplemented");
        }
        if request.target.contains("list-type=2") {
            let content = |(key, bytes): (&String, &Vec<u8>)| {
                format!(
                    "<Contents><Key>{key}</Key><LastModified>Sun, 22 Nov 2026 01:32:36 GMT</LastModified>\
                     <Size>{}</Size></Contents>",
                    bytes.len()
                )
            };
            let contents: String = objects.iter().map(content).collect();
            let page = format!("<ListBucketResult>{contents}<IsTruncated>false</IsTruncated></ListBucketResult>");
            return answer(to, "200 OK", "", page.as_bytes());
        }
        let key = request.target.trim_start_matches("/bucket/");
        match objects.get(key) {
            Some(bytes) => answer_range(to, request, bytes, "e"),
            None => refuse(to, "404 Not Found", "", "NoSuchKey"),
        }
    });
    (server, latest(&manifest))
}

#[test]
fn a_service_may_name_its_region_in_capitals() {
    let (server, expected) = service("ENAM", |_| false);
    let place = Place::new();
    let url = format!("s3://bucket/a.db?endpoint={}&region=ENAM", server.endpoint());
    run(&mut hydrant_s3(&["restore", "-o", &place.out(), &url])).succeeded();
    place.holds_only(&expected);
}

#[test]
fn a_service_may_not_know_encoding_type() {
    let (server, expected) = service("us-east-1", |target| target.contains("encoding-type"));
    let place = Place::new();
    run(&mut hydrant_s3(&["restore", "-o", &place.out(), &url(&server.endpoint(), "a.db")])).succeeded();
    place.holds_only(&expected);
    let listed: Vec<String> = server.requests().into_iter().map(|request| request.target).collect();
    assert!(listed[0].contains("encoding-type") && !listed[1].contains("encoding-type"), "{listed:?}");
}
