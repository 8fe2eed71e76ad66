//! Entity tags (HTTP ETag) in a compact form, because the catalogue of a fleet keeps millions of them in
//! memory.

use crate::hex::Hex;
use std::fmt;

/// Maximum length of an entity tag in bytes. S3's own entity tags have at most 43.
const MAX_LEN: usize = 256;

/// An entity tag without its quotes. `Display` prints exactly the text that was parsed, so that the tag in
/// quotes is a valid value of the header If-Match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Etag {
    /// 32 lower-case hexadecimal digits. If `parts` > 0, `-` and that number follow, as for S3's multipart
    /// uploads.
    Md5 {
        /// The 32 hexadecimal digits as 16 bytes. For most objects they are the MD5 hash of the content.
        hash: [u8; 16],
        /// Number of parts of a multipart upload; 0 if the tag has no such number.
        parts: u32,
    },
    /// An entity tag of any other form, of visible ASCII characters.
    Other(Box<str>),
}

impl Etag {
    /// Parses an entity tag from a listing or a header, with or without quotes. Returns None if the tag cannot
    /// be used in If-Match: weak tags (`W/`), empty ones, those longer than 256 bytes, and those with other
    /// characters than visible ASCII.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let bare = match text.strip_prefix('"') {
            Some(rest) => rest.strip_suffix('"')?,
            None => text,
        };
        let visible = |b: u8| b.is_ascii_graphic() && b != b'"';
        if bare.is_empty() || bare.len() > MAX_LEN || text.starts_with("W/") || !bare.bytes().all(visible) {
            return None;
        }
        Some(Self::parse_md5(bare).unwrap_or_else(|| Self::Other(bare.into())))
    }

    /// Whether `found`, from an answer, is this tag. A proxy that compresses marks tags with a suffix such as `-gzip`,
    /// also of answers that it does not compress: the suffix does not count.
    pub fn is_same_object(&self, found: &Self) -> bool {
        self == found || without_coding(&self.to_string()) == without_coding(&found.to_string())
    }

    fn parse_md5(bare: &str) -> Option<Self> {
        let (digits, parts) = match bare.split_once('-') {
            // A number of parts that has a sign or leading zeros is kept as text, because printing the number
            // would not give the same text.
            Some((digits, parts)) if parts.starts_with(|c: char| matches!(c, '1'..='9')) => {
                (digits, parts.parse::<u32>().ok()?)
            }
            Some(_) => return None,
            None => (bare, 0),
        };
        let nibble = |b: u8| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        };
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        if pairs.len() != 16 || !rest.is_empty() {
            return None;
        }
        let mut hash = [0; 16];
        for (byte, &[high, low]) in hash.iter_mut().zip(pairs) {
            *byte = nibble(high)? << 4 | nibble(low)?;
        }
        Some(Self::Md5 { hash, parts })
    }
}

/// `tag` without the suffix that a compressing proxy has added.
fn without_coding(tag: &str) -> &str {
    const CODINGS: [&str; 5] = ["gzip", "br", "zstd", "deflate", "df"];
    match tag.rsplit_once(['-', ';']) {
        // Some proxies write two hyphens.
        Some((bare, coding)) if CODINGS.contains(&coding) => bare.strip_suffix('-').unwrap_or(bare),
        _ => tag,
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Md5 { hash, parts } => {
                write!(f, "{}", Hex(hash))?;
                if *parts > 0 {
                    write!(f, "-{parts}")?;
                }
                Ok(())
            }
            Self::Other(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_parsed_is_given_back() {
        let md5 = "d41d8cd98f00b204e9800998ecf8427e";
        for text in [md5, "d41d8cd98f00b204e9800998ecf8427e-17", "d41d8cd98f00b204e9800998ecf8427e-4294967295"] {
            assert!(matches!(Etag::parse(text), Some(Etag::Md5 { .. })), "{text}");
        }
        for text in [
            "D41D8CD98F00B204E9800998ECF8427E",
            "d41d8cd98f00b204e9800998ecf8427e-0",
            "d41d8cd98f00b204e9800998ecf8427e-017",
            "d41d8cd98f00b204e9800998ecf8427e-+1",
            "d41d8cd98f00b204e9800998ecf8427e-4294967296",
            "d41d8cd98f00b204e9800998ecf8427e-",
            "d41d8cd98f00b204e9800998ecf8427",
            "0x8DA",
            "-",
        ] {
            assert!(matches!(Etag::parse(text), Some(Etag::Other(_))), "{text}");
        }
        for text in [md5, "abc", "d41d8cd98f00b204e9800998ecf8427e-017"] {
            assert_eq!(Etag::parse(text).unwrap().to_string(), text);
            assert_eq!(Etag::parse(&format!("\"{text}\"")).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_if_match_cannot_hold_is_none() {
        for text in ["", "\"\"", "\"", "W/\"abc\"", "a\"b", "\"abc", "a b", "a\r\nb", "é", &"a".repeat(257)] {
            assert_eq!(Etag::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_proxys_suffix_does_not_make_another_object() {
        let md5 = "d41d8cd98f00b204e9800998ecf8427e";
        let tag = |text: &str| Etag::parse(text).unwrap();
        for suffix in ["", "-gzip", ";gzip", "--gzip", "-br", "-zstd", "-df"] {
            let found = tag(&format!("{md5}{suffix}"));
            assert!(tag(md5).is_same_object(&found) && found.is_same_object(&tag(md5)), "{suffix}");
        }
        for other in ["d41d8cd98f00b204e9800998ecf8427f", "d41d8cd98f00b204e9800998ecf8427e-2", "gzip", "-gzip", "-x"] {
            assert!(!tag(md5).is_same_object(&tag(other)), "{other}");
        }
        assert!(!tag("a-2").is_same_object(&tag("a")));
    }

    #[test]
    fn is_compact() {
        assert!(size_of::<Option<Etag>>() <= 24);
    }
}
