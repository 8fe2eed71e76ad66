//! Entity tags: text to [`Etag`] and back, without loss.

use super::Etag;
use std::fmt;

impl Etag {
    /// From a listing or a header, with or without quotes. None for an empty tag and for a
    /// weak one (`W/"…"`), which says nothing about bytes and matches no If-Match.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix('"').unwrap_or(text);
        let text = text.strip_suffix('"').unwrap_or(text);
        if text.is_empty() || text.starts_with("W/") {
            return None;
        }
        Some(Self::parse_md5(text).unwrap_or_else(|| Self::Other(text.into())))
    }

    fn parse_md5(text: &str) -> Option<Self> {
        let (digits, parts) = match text.split_once('-') {
            Some((digits, parts)) => {
                let canonical = !parts.starts_with('0') && parts.bytes().all(|b| b.is_ascii_digit());
                (digits, parts.parse().ok().filter(|_| canonical)?)
            }
            None => (text, 0),
        };
        if digits.len() != 32 || !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        let hash = u128::from_str_radix(digits, 16).ok()?.to_be_bytes();
        Some(Self::Md5 { hash, parts })
    }
}

/// The tag without quotes.
impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Md5 { hash, parts: 0 } => write!(f, "{:032x}", u128::from_be_bytes(*hash)),
            Self::Md5 { hash, parts } => write!(f, "{:032x}-{parts}", u128::from_be_bytes(*hash)),
            Self::Other(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tag_comes_back_as_it_was() {
        for (text, md5) in [
            ("d41d8cd98f00b204e9800998ecf8427e", true),
            ("00000000000000000000000000000001-12", true),
            ("d41d8cd98f00b204e9800998ecf8427e-0", false),
            ("d41d8cd98f00b204e9800998ecf8427e-01", false),
            ("d41d8cd98f00b204e9800998ecf8427e-4294967296", false),
            ("D41D8CD98F00B204E9800998ECF8427E", false),
            ("+41d8cd98f00b204e9800998ecf8427e", false),
            ("CJDg", false),
            ("-", false),
        ] {
            let tag = Etag::parse(&format!("\"{text}\"")).unwrap();
            assert_eq!(tag.to_string(), text);
            assert_eq!(matches!(tag, Etag::Md5 { .. }), md5, "{text}");
            assert_eq!(Etag::parse(text), Some(tag));
        }
        assert_eq!(Etag::parse("\"\""), None);
        assert_eq!(Etag::parse("W/\"x\""), None);
    }
}
