//! The encodings of names and times that S3 uses.

use crate::timestamp::Timestamp;
use std::borrow::Cow;
use std::fmt::Write;
use time::OffsetDateTime;

/// Percent-encodes `bytes`, except for unreserved characters and those in `keep`.
pub(super) fn percent_encode(out: &mut String, bytes: &[u8], keep: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || keep.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for digit in [byte >> 4, byte & 15] {
                out.push(HEX.get(usize::from(digit)).map_or('0', |&digit| char::from(digit)));
            }
        }
    }
}

/// Encodes a key as S3 does for `encoding-type=url`, where a space becomes `+`.
pub(super) fn url_encode_key(out: &mut String, key: &str) {
    for (at, part) in key.split(' ').enumerate() {
        if at > 0 {
            out.push('+');
        }
        percent_encode(out, part.as_bytes(), b"/*");
    }
}

/// Escapes text for XML. Control characters become character references, as S3 writes them, although XML 1.0 allows
/// few of them.
pub(super) fn xml_escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            c if c.is_control() => {
                let _ = write!(out, "&#x{:x};", u32::from(c));
            }
            c => out.push(c),
        }
    }
}

/// Decodes %-escapes. None if the result is not UTF-8.
pub(super) fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    percent_encoding::percent_decode_str(text).decode_utf8().ok()
}

/// The decoded parameters of a query string. A `+` means a space. Bytes that are not UTF-8 are replaced.
pub(super) fn query_pairs(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
    };
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

fn date_time(timestamp: Timestamp) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(timestamp.as_nanos())).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// Appends a time of the form `2026-11-22T01:32:36.216Z`, which listings use. A time that is not a whole number of
/// milliseconds gets nine digits, so that a listing can give back the mtimes of files on a disk.
pub(super) fn iso_time(out: &mut String, timestamp: Timestamp) {
    let t = date_time(timestamp);
    let _ = write!(
        out,
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}",
        t.year(),
        u8::from(t.month()),
        t.day(),
        t.hour(),
        t.minute(),
        t.second(),
        t.millisecond()
    );
    if !t.nanosecond().is_multiple_of(1_000_000) {
        let _ = write!(out, "{:06}", t.nanosecond() % 1_000_000);
    }
    out.push('Z');
}

/// A time of the form `Sun, 22 Nov 2026 01:32:36 GMT`, which headers use.
pub(super) fn http_date(timestamp: Timestamp) -> String {
    let t = date_time(timestamp);
    let weekday = t.weekday().to_string();
    let month = t.month().to_string();
    format!(
        "{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
        weekday.get(..3).unwrap_or(""),
        t.day(),
        month.get(..3).unwrap_or(""),
        t.year(),
        t.hour(),
        t.minute(),
        t.second()
    )
}
