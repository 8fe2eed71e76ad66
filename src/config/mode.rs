//! Modes of files in octal.

/// Parses permissions in octal: `640` or `0640`. None: it is no such number. Bits beyond the permissions (set-user-ID
/// and others) are refused.
pub fn parse_mode(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let is_octal = (3..=4).contains(&digits.len()) && digits.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    u32::from_str_radix(digits, 8).ok().filter(|mode| is_octal && *mode <= 0o777)
}

#[cfg(test)]
mod tests {
    use super::parse_mode;

    #[test]
    fn modes() {
        for (text, mode) in [("640", 0o640), ("0640", 0o640), ("0o750", 0o750), ("000", 0), ("777", 0o777)] {
            assert_eq!(parse_mode(text), Some(mode), "{text}");
        }
        for bad in ["", "0", "64", "1777", "0888", "u=rw", "+640", "00640", " 640"] {
            assert_eq!(parse_mode(bad), None, "{bad}");
        }
    }
}
