//! Answers that do not come from an S3 service: a web page, the words of another server, a compressed body, TLS.

use super::network::{Network, look_up};
use super::tls::Trust;
use crate::process::threads::Threads;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use rustls::ClientConnection;
use rustls_pki_types::ServerName;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;

/// At most this many characters of a server's own words are shown.
const MAX_WORDS: usize = 200;

/// Said of a port that is addressed by `http://`.
pub(super) const SPEAKS_TLS: &str = "the port speaks TLS, write https://";
pub(super) const NOT_S3: &str = "the answer is not from an S3 service: check endpoint, port and proxies";

/// Whether a body is a page for a browser.
pub(super) fn is_web_page(body: &[u8]) -> bool {
    let start = String::from_utf8_lossy(body.get(..1024).unwrap_or(body)).to_ascii_lowercase();
    let start = start.trim_start_matches('\u{feff}').trim_start();
    start.starts_with("<!doctype html") || start.contains("<html")
}

/// The words in which a server that is not S3 explains its answer: the title of a web page, or a line of text.
pub(super) fn own_words(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let words = if is_web_page(body) {
        let lower = text.to_ascii_lowercase();
        let inside = |tag: &str| {
            let begin = lower.find(&format!("<{tag}>"))? + tag.len() + 2;
            let len = lower.get(begin..)?.find("</")?;
            text.get(begin..begin + len)
        };
        inside("title").or_else(|| inside("h1")).or_else(|| inside("body"))?
    } else if text.trim_start().starts_with('<') {
        return None;
    } else {
        text.trim_start().lines().next()?
    };
    let words: Vec<&str> = words.split_whitespace().collect();
    let words: String = words.join(" ").chars().take(MAX_WORDS).collect();
    (!words.is_empty() && !words.contains(['\u{fffd}', '<']) && !words.chars().any(char::is_control)).then_some(words)
}

/// The coding of a body that was compressed although that was not asked for.
pub(super) fn compression(headers: &HeaderMap) -> Option<&str> {
    let coding = headers.get(CONTENT_ENCODING)?.to_str().unwrap_or("?");
    let is_plain = coding.split(',').all(|c| matches!(c.trim(), "" | "identity" | "aws-chunked"));
    (!is_plain).then_some(coding)
}

/// Whether a body begins as gzip does.
pub(super) fn is_gzip(body: &[u8]) -> bool {
    body.starts_with(&[0x1f, 0x8b])
}

/// Whether the port of `url` answers a TLS hello within `most`.
pub(super) async fn speaks_tls(network: &Network, url: &Url, most: Duration) -> bool {
    tokio::time::timeout(most, hello(network, url)).await.ok().flatten().unwrap_or(false)
}

async fn hello(network: &Network, url: &Url) -> Option<bool> {
    let (host, port) = (url.host_str()?, url.port_or_known_default()?);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let config = network.tls(Trust::Anyone).ok()?;
    let name = ServerName::try_from(host.clone()).ok()?;
    let mut connection = ClientConnection::new(Arc::new(config), name).ok()?;
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).ok()?;
    let address = match host.parse::<IpAddr>() {
        Ok(ip) => ip,
        Err(_) => *Threads::new("names", 1).run(move || look_up(&host)).await.ok()?.ok()?.first()?,
    };
    let mut stream = TcpStream::connect(SocketAddr::new(address, port)).await.ok()?;
    stream.write_all(&hello).await.ok()?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await.ok()?;
    Some(is_tls_record(answer))
}

/// Whether bytes are the beginning of a TLS record: an alert (0x15) or a handshake (0x16), of version 3.x.
fn is_tls_record(bytes: [u8; 2]) -> bool {
    matches!(bytes, [0x15 | 0x16, 3])
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn the_words_of_other_servers() {
        for (body, is_page, words) in [
            (
                "<html>\r\n<head><title>400 The plain HTTP request was sent to HTTPS port</title></head>",
                true,
                Some("400 The plain HTTP request was sent to HTTPS port"),
            ),
            ("<!DOCTYPE html><html><body>Captive portal:\n log in</body></html>", true, Some("Captive portal: log in")),
            (
                "Client sent an HTTP request to an HTTPS server.\n",
                false,
                Some("Client sent an HTTP request to an HTTPS server."),
            ),
            ("<Error><Code>X</Code></Error>", false, None),
            ("<!doctype html><html><title></title></html>", true, None),
            ("\u{feff} <HTML><TITLE>ab</TITLE>", true, Some("ab")),
            ("<html><title>İ</title>", true, Some("İ")),
            ("a\u{1b}[2Jb", false, None),
            ("", false, None),
        ] {
            assert_eq!(
                (is_web_page(body.as_bytes()), own_words(body.as_bytes()).as_deref()),
                (is_page, words),
                "{body}"
            );
        }
        assert_eq!(own_words(b"\x15\x03\x01\xff\xff"), None);
        assert_eq!(own_words("a".repeat(500).as_bytes()).unwrap().len(), MAX_WORDS);
    }

    #[test]
    fn compressed_bodies_and_tls() {
        let coded = |coding| {
            let headers = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(coding))]);
            compression(&headers).is_some()
        };
        assert!(coded("gzip") && coded("identity, br") && !coded("identity") && !coded("aws-chunked, identity"));
        assert!(compression(&HeaderMap::new()).is_none());
        assert!(is_tls_record([0x15, 3]) && is_tls_record([0x16, 3]) && !is_tls_record(*b"HT"));
        assert!(is_gzip(b"\x1f\x8b\x08") && !is_gzip(b"<?xml"));
    }
}
