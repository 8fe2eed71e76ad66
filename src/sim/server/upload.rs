//! Converts PUT requests to objects of the simulator.

use super::objects::Object;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;

/// The object in a PUT request. None if its chunked encoding is malformed.
pub(super) fn object_of(headers: &HeaderMap, body: Bytes) -> Option<Object> {
    let streaming = headers.get("x-amz-content-sha256").is_some_and(|hash| hash.as_bytes().starts_with(b"STREAMING-"));
    let mut object = Object::new(if streaming { unchunk(&body)? } else { body });
    for (name, value) in headers {
        if let Some(name) = name.as_str().strip_prefix("x-amz-meta-") {
            object.metadata.push((name.to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        }
    }
    object.storage_class = headers
        .get("x-amz-storage-class")
        .and_then(|class| class.to_str().ok())
        .filter(|class| *class != "STANDARD")
        .map(str::to_owned);
    Some(object)
}

/// Decodes the encoding `aws-chunked`. Each chunk is a line `<hex size>[;extension]`, that number of bytes, and an
/// empty line. A chunk of size 0 ends the body. The signatures of chunks and trailing checksums are not checked.
fn unchunk(body: &[u8]) -> Option<Bytes> {
    let mut content = BytesMut::new();
    let mut rest = body;
    loop {
        let line_end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let line = std::str::from_utf8(rest.get(..line_end)?).ok()?;
        let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
        rest = rest.get(line_end.checked_add(2)?..)?;
        if size == 0 {
            return Some(content.freeze());
        }
        content.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size.checked_add(2)?..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunked_bodies() {
        let body = b"5;chunk-signature=00\r\nhello\r\n1\r\n!\r\n0\r\nx-amz-checksum-crc32:AA==\r\n\r\n";
        assert_eq!(unchunk(body).as_deref(), Some(&b"hello!"[..]));
        assert_eq!(unchunk(b"5\r\nhell"), None);
        assert_eq!(unchunk(b"ffffffffffffffff\r\nhello\r\n"), None);
    }
}
