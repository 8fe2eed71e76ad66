//! Temporary names. They tell a later run what to do with the file if the run that made it was killed.
//!
//! - `.NAME.hydrant-XXXXXXXX` is a new file that is to become NAME.
//! - `.NAME.hydrant-XXXXXXXX-fOLD-NEW-TIME` is a new file that is about to be exchanged, under `-force`, with the
//!   file at NAME. The sidecars of NAME are moved to this name followed by `-wal`, `-shm` or `-journal`.
//! - `.NAME.hydrant-XXXXXXXX-eOLD-NEW-TIME` is the same where the file at NAME is empty.
//! - `.NAME.hydrant-XXXXXXXX-f0-NEW-0` is a new file that is about to become NAME where nothing stood. An empty file
//!   at NAME is then a placeholder (`rename`).
//!
//! OLD is the inode of the replaced file (0 if there is none), NEW the inode of the new file, and TIME the last
//! change of OLD's content in nanoseconds, all in hexadecimal. They tell whether the kill came before or after the
//! exchange, and whether OLD was written to since. Names of earlier versions, which hold OLD alone, are understood.

use super::sidecars::SIDECARS;
use crate::hex::Hex;
use rustix::fs::{FileType, Stat};
use sha2::{Digest, Sha256};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

const MARK: &[u8] = b".hydrant-";
const RANDOM_LEN: usize = 8;
/// The longest NAME that is used unshortened. Everything that is put around it still fits in 255 bytes.
pub(super) const LONGEST_STEM: usize = 176;

/// What the new file is going to replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replacing {
    /// An empty file, which must still be empty after the exchange.
    Empty,
    /// Any file, by `-force`.
    Forced,
}

impl Replacing {
    const fn letter(self) -> char {
        match self {
            Self::Empty => 'e',
            Self::Forced => 'f',
        }
    }
}

/// An exchange that is going to be made or was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exchange {
    pub(super) kind: Replacing,
    /// The inode of the replaced file; 0: none.
    pub(super) old: u64,
    /// None in names of earlier versions.
    pub(super) more: Option<More>,
}

/// What a temporary name holds besides the old inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct More {
    /// The inode of the new file.
    pub(super) new: u64,
    /// [`modified`] of the old file.
    pub(super) modified: u64,
}

impl Exchange {
    /// The exchange in which `new` replaces `old`; None: there is no old file.
    pub(super) fn of(kind: Replacing, old: Option<&Stat>, new: &Stat) -> Self {
        let more = More { new: new.st_ino, modified: old.map_or(0, modified) };
        Self { kind, old: old.map_or(0, |old| old.st_ino), more: Some(more) }
    }

    /// Whether `standing`, a file at the destination, is the placeholder of a publication (`rename`): an empty file
    /// where there was none before.
    pub(super) fn is_placeholder(&self, standing: &Stat) -> bool {
        let is_regular = FileType::from_raw_mode(standing.st_mode) == FileType::RegularFile;
        self.old == 0 && is_regular && standing.st_size == 0 && !self.is_new(standing.st_ino)
    }

    /// Whether `inode` is the new file. If the name does not hold that inode, every inode but the old one is taken
    /// for it.
    pub(super) fn is_new(&self, inode: u64) -> bool {
        self.more.map_or(inode != self.old, |more| inode == more.new)
    }
}

/// When the content of a file was last changed, in nanoseconds. It wraps, so it is good for equality only.
pub(super) fn modified(stat: &Stat) -> u64 {
    let seconds = stat.st_mtime as u64;
    seconds.wrapping_mul(1_000_000_000).wrapping_add(stat.st_mtime_nsec)
}

/// A temporary name in the destination's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TempName(OsString);

impl TempName {
    /// A new random name for a file that is to become `name`.
    pub(super) fn plain(name: &OsStr) -> Self {
        let mut bytes = vec![b'.'];
        bytes.extend(stem(name));
        bytes.extend(MARK);
        bytes.extend(random_letters().bytes());
        Self(OsString::from_vec(bytes))
    }

    /// A new random name for a file that is about to replace another.
    pub(super) fn replacing(name: &OsStr, exchange: Exchange) -> Self {
        let mut plain = Self::plain(name);
        plain.0.push(format!("-{}{:x}", exchange.kind.letter(), exchange.old));
        if let Some(More { new, modified }) = exchange.more {
            plain.0.push(format!("-{new:x}-{modified:x}"));
        }
        debug_assert!(parse(plain.0.as_bytes()).is_some_and(|parsed| parsed.exchange == Some(exchange)));
        plain
    }

    /// The name, without a directory.
    pub(super) fn as_os_str(&self) -> &OsStr {
        &self.0
    }
}

/// The part of a temporary name that makes it unlike all others: lower-case letters and digits.
pub(crate) fn random_letters() -> String {
    (0..RANDOM_LEN).map(|_| fastrand::alphanumeric().to_ascii_lowercase()).collect()
}

/// The NAME part of a temporary name: `name` itself, or if that is too long its beginning and a hash.
fn stem(name: &OsStr) -> Vec<u8> {
    let bytes = name.as_bytes();
    if bytes.len() <= LONGEST_STEM {
        return bytes.to_vec();
    }
    let mut stem = bytes.iter().copied().take(LONGEST_STEM - 17).collect::<Vec<u8>>();
    stem.push(b'~');
    stem.extend(Hex(&Sha256::digest(bytes)).to_string().bytes().take(16));
    stem
}

/// A parsed temporary name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ParsedName {
    /// The name without a sidecar's suffix.
    pub(super) base: OsString,
    stem: Vec<u8>,
    pub(super) exchange: Option<Exchange>,
}

impl ParsedName {
    /// The name that the file was to get. `own` is a candidate. None if the name was shortened and is not `own`.
    pub(super) fn original(&self, own: &OsStr) -> Option<OsString> {
        if stem(own) == self.stem {
            return Some(own.to_owned());
        }
        (self.stem.len() < LONGEST_STEM).then(|| OsStr::from_bytes(&self.stem).to_owned())
    }
}

/// Parses a temporary name; None: Hydrant makes no such names.
pub(super) fn parse(name: &[u8]) -> Option<ParsedName> {
    let rest = name.strip_prefix(b".")?;
    let at = rest.windows(MARK.len()).rposition(|window| window == MARK).filter(|at| *at > 0)?;
    let stem = rest.get(..at)?.to_vec();
    let tail = rest.get(at + MARK.len()..)?;
    let sidecar = SIDECARS.iter().find(|suffix| tail.ends_with(suffix.as_bytes())).map_or(0, |suffix| suffix.len());
    let tail = tail.get(..tail.len().checked_sub(sidecar)?)?;
    let (random, exchange) = tail.split_at_checked(RANDOM_LEN)?;
    if !random.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
        return None;
    }
    let exchange = match exchange {
        [] if sidecar == 0 => None,
        [b'-', kind @ (b'e' | b'f'), numbers @ ..] => {
            let kind = if *kind == b'e' { Replacing::Empty } else { Replacing::Forced };
            let numbers = std::str::from_utf8(numbers).ok()?.split('-').map(hex).collect::<Option<Vec<_>>>()?;
            let (old, more) = match *numbers {
                [old] => (old, None),
                [old, new, modified] => (old, Some(More { new, modified })),
                _ => return None,
            };
            Some(Exchange { kind, old, more })
        }
        _ => return None,
    };
    let base = OsStr::from_bytes(name.get(..name.len().checked_sub(sidecar)?)?).to_owned();
    Some(ParsedName { base, stem, exchange })
}

fn hex(digits: &str) -> Option<u64> {
    // from_str_radix alone would accept a sign.
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u64::from_str_radix(digits, 16).ok())?
}

/// Whether a sweep would take a file of this name for a leftover.
pub(super) fn is_temporary(name: &OsStr) -> bool {
    parse(name.as_bytes()).is_some()
}

#[cfg(test)]
mod tests {
    use super::super::sidecars::suffixed;
    use super::*;

    const FORCED: Exchange =
        Exchange { kind: Replacing::Forced, old: 0xabc, more: Some(More { new: 0xdef, modified: 0x1234_5678 }) };

    #[test]
    fn temporary_names_are_understood() {
        let name = OsStr::new("app.hydrant-x.db");
        let plain = TempName::plain(name);
        let parsed = parse(plain.as_os_str().as_bytes()).expect("a plain name");
        assert_eq!((parsed.stem.as_slice(), parsed.exchange), (name.as_bytes(), None));

        for exchange in [FORCED, Exchange { kind: Replacing::Empty, more: None, ..FORCED }] {
            let temp = TempName::replacing(name, exchange);
            let wal = suffixed(temp.as_os_str(), "-wal");
            let parsed = parse(wal.as_bytes()).expect("a sidecar's name");
            assert_eq!(parsed.base, temp.as_os_str());
            assert_eq!(parsed.exchange, Some(exchange));
            assert_eq!(parsed.original(OsStr::new("other")), Some(name.to_owned()));
        }
    }

    #[test]
    fn other_names_are_not() {
        for name in [
            "app.db",
            ".app.db",
            ".hydrant-abcdefgh",
            ".app.hydrant-abcdefg",
            ".app.hydrant-abcdefghi",
            ".app.hydrant-ABCDEFGH",
            ".app.hydrant-abcdefgh-wal",
            ".app.hydrant-abcdefgh-x12",
            ".app.hydrant-abcdefgh-f",
            ".app.hydrant-abcdefgh-f+1",
            ".app.hydrant-abcdefgh-fxyz",
            ".app.hydrant-abcdefgh-f1-2",
            ".app.hydrant-abcdefgh-f1-2-",
            ".app.hydrant-abcdefgh-f1-2-3-4",
            "app.hydrant-abcdefgh",
        ] {
            assert_eq!(parse(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn the_longest_name_leaves_room() {
        let longest = OsString::from_vec(vec![b'n'; 255]);
        let more = Some(More { new: u64::MAX, modified: u64::MAX });
        let name = TempName::replacing(&longest, Exchange { kind: Replacing::Forced, old: u64::MAX, more });
        let sidecar = suffixed(name.as_os_str(), "-journal");
        assert!(sidecar.len() <= 255, "{}", sidecar.len());
        let parsed = parse(sidecar.as_bytes()).expect("a name of ours");
        assert_eq!(parsed.original(&longest), Some(longest.clone()));
        assert_eq!(parsed.original(OsStr::new("another")), None);
    }
}
