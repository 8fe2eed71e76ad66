//! Temporary file names of a restore. They contain all that a later run needs to clean up if the run that
//! created them was killed.
//!
//! - `.NAME.hydrant-XXXXXXXX` is a new file that will get the name NAME. XXXXXXXX is random.
//! - `.NAME.hydrant-XXXXXXXX-fOLD-NEW-TIME` is a new file that, under `-force`, will be exchanged with the file
//!   at NAME. The sidecars of NAME are renamed to this name plus `-wal`, `-shm` or `-journal`.
//! - `.NAME.hydrant-XXXXXXXX-eOLD-NEW-TIME` is the same for a file at NAME that is empty.
//!
//! OLD is the inode number of the replaced file (0 if there is none), NEW the inode number of the new file, and
//! TIME the modification time of OLD in nanoseconds, all in hexadecimal. A later run compares them with the
//! files it finds to see whether the exchange was made and whether a program wrote to OLD since. Names of
//! earlier Hydrant versions, which contain only OLD, are understood too.

use super::sidecars::SIDECARS;
use crate::hex::Hex;
use rustix::fs::{FileType, Stat};
use sha2::{Digest, Sha256};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

const MARK: &[u8] = b".hydrant-";
const RANDOM_LEN: usize = 8;
/// Maximum length of NAME in bytes for which a temporary name contains it whole. With everything around it, the
/// temporary name then fits into the 255 bytes that Linux allows.
pub(super) const LONGEST_STEM: usize = 176;

/// Kind of the file at the output path that a new file will replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replacing {
    /// A file of 0 bytes. It must still be empty after the exchange.
    Empty,
    /// A file with any content, because `-force` was given.
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

/// The exchange of an old file with a new file, as a temporary name records it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exchange {
    pub(super) kind: Replacing,
    /// Inode number of the replaced file; 0 if there is none.
    pub(super) old: u64,
    /// Inode number of the new file and modification time of the old one. None in temporary names of earlier
    /// Hydrant versions.
    pub(super) more: Option<More>,
}

/// What a temporary name records besides the old file's inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct More {
    /// Inode number of the restored file that replaces the old one.
    pub(super) new: u64,
    /// Modification time of the old file, as [`modified`] computes it.
    pub(super) modified: u64,
}

impl Exchange {
    /// Describes the exchange of the file `old` with the file `new`. `old` is None if only sidecars are
    /// replaced.
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

/// Returns the modification time of a file in nanoseconds since 1970. The value wraps around, so compare it
/// only for equality.
pub(super) fn modified(stat: &Stat) -> u64 {
    let seconds = stat.st_mtime as u64;
    seconds.wrapping_mul(1_000_000_000).wrapping_add(stat.st_mtime_nsec)
}

/// Name of a temporary file in the output's directory, without that directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TempName(OsString);

impl TempName {
    /// Returns a new random name for a file that will get the name `name`.
    pub(super) fn plain(name: &OsStr) -> Self {
        let mut bytes = vec![b'.'];
        bytes.extend(stem(name));
        bytes.extend(MARK);
        bytes.extend(random_letters().bytes());
        Self(OsString::from_vec(bytes))
    }

    /// Returns a new random name for a file that will replace the file `name`.
    pub(super) fn replacing(name: &OsStr, exchange: Exchange) -> Self {
        let mut plain = Self::plain(name);
        plain.0.push(format!("-{}{:x}", exchange.kind.letter(), exchange.old));
        if let Some(More { new, modified }) = exchange.more {
            plain.0.push(format!("-{new:x}-{modified:x}"));
        }
        debug_assert!(parse(plain.0.as_bytes()).is_some_and(|parsed| parsed.exchange == Some(exchange)));
        plain
    }

    /// The temporary file name, without directory.
    pub(super) fn as_os_str(&self) -> &OsStr {
        &self.0
    }
}

/// Returns 8 random lower-case letters and digits, which make a temporary name unique.
pub(crate) fn random_letters() -> String {
    (0..RANDOM_LEN).map(|_| fastrand::alphanumeric().to_ascii_lowercase()).collect()
}

/// Returns the NAME part of a temporary name: `name` itself, or if it is too long, its beginning and a hash of
/// it.
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

/// The parts of a temporary file name that a sweep found in a directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ParsedName {
    /// The temporary name without the suffix of a sidecar (-wal, -shm, -journal): the name of the database's
    /// own file.
    pub(super) base: OsString,
    stem: Vec<u8>,
    pub(super) exchange: Option<Exchange>,
}

impl ParsedName {
    /// Returns the name that the file was to get. Returns None if the temporary name contains only a hash, and
    /// it is not the hash of `own`, the one candidate that the caller knows.
    pub(super) fn original(&self, own: &OsStr) -> Option<OsString> {
        if stem(own) == self.stem {
            return Some(own.to_owned());
        }
        (self.stem.len() < LONGEST_STEM).then(|| OsStr::from_bytes(&self.stem).to_owned())
    }
}

/// Splits a temporary name into its parts. Returns None if Hydrant does not create names of this form.
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
    // `from_str_radix` alone would accept a sign, as in `+1f`.
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u64::from_str_radix(digits, 16).ok())?
}

/// Returns whether a sweep would treat a file of this name as the leftover of a killed run.
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
