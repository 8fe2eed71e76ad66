//! Tests what is said about answers that do not come from an S3 service, and about services that lack something.

use crate::common::client::{Client, config, options};
use crate::common::raw::{RawServer, answer, refuse};
use hydrant::store::s3::S3Config;
use hydrant::store::{ListRequest, StoreError, StoreErrorKind};
use std::io::{Read, Write};
use std::net::TcpListener;

const PREFIX: &str = "apps/db/";

/// The error of a LIST to a server that always gives this answer.
fn listed(status: &'static str, headers: &'static str, body: &[u8]) -> StoreError {
    let body = body.to_vec();
    let server = RawServer::start(move |_, to| answer(to, status, headers, &body));
    let request = ListRequest { prefix: PREFIX.into(), ..ListRequest::default() };
    let error = Client::of(&server).list_now(&request).unwrap_err();
    assert!(error.to_string().starts_with("LIST s3://bucket/apps/db/: "), "{error}");
    error
}

#[test]
fn web_pages_and_compressed_listings_are_told() {
    let error = listed("200 OK", "", b"<!DOCTYPE html><html><body>Captive portal: log in</body></html>");
    assert!(error.to_string().contains("answers with a web page, not S3: Captive portal: log in"), "{error}");
    let error = listed("200 OK", "content-encoding: gzip\r\n", b"\x1f\x8b\x08");
    assert!(error.to_string().contains("compressed (gzip), though not asked for"), "{error}");
    let error = listed("200 OK", "", b"\x1f\x8b\x08\0\0");
    assert!(error.to_string().contains("compressed, though not asked for"), "{error}");
    let error = listed("200 OK", "", b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>");
    assert!(error.to_string().contains("the service has no ListObjectsV2"), "{error}");

    let error = listed("403 Forbidden", "", b"<!DOCTYPE html><html><title>Blocked by policy</title></html>");
    assert_eq!((error.kind, error.attempts), (StoreErrorKind::AccessDenied, 1));
    assert!(error.to_string().contains("HTTP 403 Forbidden: Blocked by policy; the answer is not from an S3 service"));
    let error = listed("404 Not Found", "", b"<html><head><title>404 Not Found</title></head></html>");
    assert_eq!(error.kind, StoreErrorKind::NoSuchBucket);
    assert!(error.to_string().contains("HTTP 404 Not Found; the answer is not from an S3 service"), "{error}");
    let error = listed("403 Forbidden", "", b"");
    assert!(
        error.to_string().ends_with("HTTP 403 Forbidden; the credentials need s3:ListBucket on this bucket and prefix")
    );
}

#[test]
fn a_server_that_wants_https_is_quoted() {
    let nginx = b"<html>\r\n<head><title>400 The plain HTTP request was sent to HTTPS port</title></head>\r\n</html>";
    let go = b"Client sent an HTTP request to an HTTPS server.\n";
    for (body, words) in [
        (&nginx[..], "HTTP 400 Bad Request: The plain HTTP request was sent to HTTPS port"),
        (&go[..], "HTTP 400 Bad Request: Client sent an HTTP request to an HTTPS server."),
    ] {
        let error = listed("400 Bad Request", "", body);
        assert_eq!((error.kind, error.attempts), (StoreErrorKind::Unsupported, 1), "{error}");
        assert!(error.to_string().contains(&format!("{words}; the port speaks TLS, write https://")), "{error}");
    }
}

/// A server that closes connections instead of giving a first answer, and does not speak TLS.
#[test]
fn a_server_that_closes_connections_is_not_taken_for_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let mut starts = Vec::new();
        for n in 0..4 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut start = [0];
            stream.read_exact(&mut start).unwrap();
            starts.push(start[0]);
            if n == 3 {
                let head = "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 0-6/7\r\ncontent-length: 7\r\n\r\n";
                write!(stream, "{head}content").unwrap();
                // Until the client leaves: a close before it has read all would be a reset.
                let _ = stream.read_to_end(&mut Vec::new());
            }
        }
        starts
    });
    let client = Client::new(config(&endpoint), &options());
    assert_eq!(client.read_now(0..7).unwrap(), b"content");
    assert_eq!(client.counters.retries.get(), 2);
    // The second connection is the TLS hello. There is one only.
    assert_eq!(server.join().unwrap(), [b'G', 0x16, b'G', b'G']);
}

/// Services that name the right region in words alone.
#[test]
fn a_region_in_words_is_taken() {
    for (code, message, region) in [
        ("AuthorizationHeaderMalformed", "the region 'here' is wrong; expecting 'eu-west-1'", "eu-west-1"),
        ("InvalidRegionName", "The region name 'here' is not valid. Must be one of: wnam, apac, auto", "auto"),
    ] {
        let server = RawServer::start(move |request, to| {
            if request.region() != region {
                let body = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
                return answer(to, "400 Bad Request", "", body.as_bytes());
            }
            answer(to, "200 OK", "", b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
        });
        let elsewhere = S3Config { region: Some("here".into()), ..config(&server.endpoint()) };
        let client = Client::new(elsewhere, &options());
        assert!(client.list_now(&ListRequest::default()).unwrap().objects.is_empty());
        client.list_now(&ListRequest::default()).unwrap();
        let regions: Vec<String> = server.requests().iter().map(|request| request.region().to_owned()).collect();
        assert_eq!(regions, ["here", region, region]);
    }
}

#[test]
fn a_region_that_is_missing_in_the_answer_is_asked_for() {
    let error = |code: &'static str, status: &'static str| {
        let server = RawServer::start(move |_, to| refuse(to, status, "", code));
        let garage = S3Config { region: Some("here".into()), ..config(&server.endpoint()) };
        let error = Client::new(garage, &options()).list_now(&ListRequest::default()).unwrap_err();
        assert_eq!(error.attempts, 1);
        error.to_string()
    };
    let malformed = error("AuthorizationHeaderMalformed", "400 Bad Request");
    assert!(malformed.contains("another region than here") && malformed.contains("&region="), "{malformed}");
    let mismatch = error("SignatureDoesNotMatch", "403 Forbidden");
    assert!(mismatch.contains("the region is not here") && mismatch.contains("&region="), "{mismatch}");
    assert!(mismatch.contains("the secret key does not belong to the access key"), "{mismatch}");
    let redirect = error("PermanentRedirect", "301 Moved Permanently");
    assert!(redirect.contains("redirects to other hosts are not followed"), "{redirect}");
}
