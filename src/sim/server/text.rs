//! Encodings of names and times, as S3 has them.

use crate::timestamp::Timestamp;
use std::borrow::Cow;
use std::fmt::Write;
use time::OffsetDateTime;

/// Percent-encodes all but unreserved characters and `keep`.
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

/// As `encoding-type=url` has it: a space is `+`.
pub(super) fn url_encode_key(out: &mut String, key: &str) {
    for (at, part) in key.split(' ').enumerate() {
        if at > 0 {
            out.push('+');
        }
        percent_encode(out, part.as_bytes(), b"/*");
    }
}

/// Escapes for XML; control characters become references, as S3 writes them, though XML 1.0
/// allows few of them.
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

/// Decodes `%XX`; None where the result is not UTF-8.
pub(super) fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    percent_encoding::percent_decode_str(text).decode_utf8().ok()
}

/// The parameters of a query string, decoded; `+` is a space. What is not UTF-8 is replaced.
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

/// `2026-11-22T01:32:36.216Z`, as listings have it.
pub(super) fn iso_time(out: &mut String, timestamp: Timestamp) {
    let t = date_time(timestamp);
    let _ = write!(
        out,
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        t.year(),
        u8::from(t.month()),
        t.day(),
        t.hour(),
        t.minute(),
        t.second(),
        t.millisecond()
    );
}

/// `Sun, 22 Nov 2026 01:32:36 GMT`, as headers have it.
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
