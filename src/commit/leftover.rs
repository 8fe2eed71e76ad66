//! Temporary names, and what killed runs leave under them.
//!
//! `.NAME.hydrant-XXXXXXXX` is a new file. `.NAME.hydrant-XXXXXXXX-fINO` is one that is about to
//! be exchanged with the database of inode INO (hexadecimal; 0 for none) under `-force`, whose
//! sidecars go by the same name and `-wal`, `-shm`, `-journal`; `-eINO` the same with an empty
//! file. The inode number tells, after a kill, on which side of the exchange it fell:
//!
//! | killed | the destination is | so the sweep |
//! |---|---|---|
//! | before the exchange | inode INO, the old one | puts its sidecars back, deletes the new file |
//! | after it | another, the new one | deletes the old file and its sidecars |
//! | after it, and the new one is lost | absent | leaves the old file and its sidecars where they are |
//!
//! Whoever works on such a name holds a flock on the file under it; only unlocked ones are swept.

use super::parents::DirectoryId;
use super::unpublished::rename_to_absent;
use super::{Destination, SIDECARS, suffixed};
use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::{LazyLock, Mutex, PoisonError};

const MARK: &[u8] = b".hydrant-";
const RANDOM_LEN: usize = 8;
/// With all that is put around it, a name of this length still fits in 255 bytes.
const LONGEST_STEM: usize = 200;
/// Directories remembered as swept; past that they are swept again.
const MOST_REMEMBERED: usize = 1 << 16;

/// Why a temporary name has an inode number in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replacing {
    /// An empty file, which must still be empty once it was exchanged.
    Empty,
    /// Whatever stands there, by `-force`.
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

/// A temporary name in the destination's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TempName(OsString);

impl TempName {
    /// A new random name for a file that is to become `name`.
    pub(super) fn plain(name: &OsStr) -> Self {
        let mut bytes = vec![b'.'];
        bytes.extend(stem(name));
        bytes.extend(MARK);
        bytes.extend((0..RANDOM_LEN).map(|_| fastrand::alphanumeric().to_ascii_lowercase() as u8));
        Self(OsString::from_vec(bytes))
    }

    /// A new random name for a file that is about to take the place of inode `inode`.
    pub(super) fn replacing(name: &OsStr, kind: Replacing, inode: u64) -> Self {
        let mut plain = Self::plain(name);
        plain.0.push(format!("-{}{inode:x}", kind.letter()));
        plain
    }

    pub(super) fn as_os_str(&self) -> &OsStr {
        &self.0
    }
}

/// What stands for `name` in temporary names: itself, or where that is too long its beginning
/// and a hash.
fn stem(name: &OsStr) -> Vec<u8> {
    let bytes = name.as_bytes();
    if bytes.len() <= LONGEST_STEM {
        return bytes.to_vec();
    }
    let mut stem = bytes.iter().copied().take(LONGEST_STEM - 17).collect::<Vec<u8>>();
    stem.push(b'~');
    for byte in Sha256::digest(bytes).iter().take(8) {
        stem.extend(format!("{byte:02x}").bytes());
    }
    stem
}

/// A temporary name, understood.
#[derive(Debug, PartialEq, Eq)]
struct Parsed {
    /// The name without a sidecar's suffix.
    base: OsString,
    stem: Vec<u8>,
    replacing: Option<(Replacing, u64)>,
}

fn parse(name: &[u8]) -> Option<Parsed> {
    let rest = name.strip_prefix(b".")?;
    let at = rest.windows(MARK.len()).rposition(|window| window == MARK).filter(|at| *at > 0)?;
    let stem = rest.get(..at)?.to_vec();
    let tail = rest.get(at + MARK.len()..)?;
    let sidecar = SIDECARS.iter().find(|suffix| tail.ends_with(suffix.as_bytes())).map_or(0, |suffix| suffix.len());
    let tail = tail.get(..tail.len().checked_sub(sidecar)?)?;
    let (random, replacing) = tail.split_at_checked(RANDOM_LEN)?;
    if !random.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
        return None;
    }
    let replacing = match replacing {
        [] if sidecar == 0 => None,
        [b'-', kind @ (b'e' | b'f'), inode @ ..] => {
            let kind = if *kind == b'e' { Replacing::Empty } else { Replacing::Forced };
            let inode = std::str::from_utf8(inode).ok().filter(|hex| !hex.starts_with('+'))?;
            Some((kind, u64::from_str_radix(inode, 16).ok()?))
        }
        _ => return None,
    };
    let base = OsStr::from_bytes(name.get(..name.len().checked_sub(sidecar)?)?).to_owned();
    Some(Parsed { base, stem, replacing })
}

/// Whether a file of this name would be taken for what a killed run left.
pub(super) fn is_temporary(name: &OsStr) -> bool {
    parse(name.as_bytes()).is_some()
}

/// Removes what killed runs left in the destination's directory, once per process and directory.
/// What cannot be removed is left: it harms nobody.
pub(super) fn sweep(destination: &Destination) {
    static SWEPT: LazyLock<Mutex<HashSet<DirectoryId>>> = LazyLock::new(Mutex::default);
    let Some(id) = destination.directory_id() else { return };
    {
        let mut swept = SWEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if swept.len() >= MOST_REMEMBERED {
            swept.clear();
        }
        if !swept.insert(id) {
            return;
        }
    }
    sweep_directory(destination.dir(), destination.name());
}

/// As [`sweep`], at once. `own` is the name whose leftovers are known for sure even where it is
/// too long to be told from its temporary names.
pub(super) fn sweep_directory(dir: BorrowedFd<'_>, own: &OsStr) {
    let Ok(entries) = Dir::read_from(dir) else { return };
    let mut seen = BTreeSet::new();
    for entry in entries.flatten() {
        if let Some(parsed) = parse(entry.file_name().to_bytes())
            && seen.insert(parsed.base.clone())
        {
            remove(dir, &parsed, own);
        }
    }
}

fn remove(dir: BorrowedFd<'_>, leftover: &Parsed, own: &OsStr) {
    let base = leftover.base.as_os_str();
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(dir, base, flags, Mode::empty()) {
        Ok(fd) => Some(fd),
        Err(Errno::NOENT) => None,
        Err(_) => return,
    };
    let standing = match &file {
        None => None,
        Some(fd) => match locked(fd) {
            Some(inode_and_size) => Some(inode_and_size),
            None => return,
        },
    };
    let unlink = |name: &OsStr| {
        let _ = rustix::fs::unlinkat(dir, name, AtFlags::empty());
    };
    let Some((kind, recorded)) = leftover.replacing else {
        unlink(base);
        return;
    };
    let Some(name) = original(&leftover.stem, own) else { return };
    let current = match rustix::fs::statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat.st_ino,
        Err(Errno::NOENT) => 0,
        Err(_) => return,
    };
    let sidecars = SIDECARS.map(|suffix| (suffixed(base, suffix), suffixed(&name, suffix)));
    match kind {
        Replacing::Forced if current == recorded => {
            for (aside, place) in &sidecars {
                let _ = rename_to_absent(dir, aside, place);
            }
        }
        // The new file was lost after the exchange: nothing else holds what the old one does.
        Replacing::Forced if current == 0 && standing.is_some_and(|(inode, _)| inode == recorded) => return,
        Replacing::Forced => sidecars.iter().for_each(|(aside, _)| unlink(aside)),
        Replacing::Empty => {
            // It was empty when it was chosen, and is not now: someone's data, to be put back.
            if standing.is_some_and(|(inode, size)| inode == recorded && size > 0) && current != recorded {
                let back = match current {
                    0 => rename_to_absent(dir, base, &name),
                    _ => rustix::fs::renameat_with(dir, base, dir, &name, RenameFlags::EXCHANGE),
                };
                if back.is_err() {
                    return;
                }
            }
        }
    }
    if standing.is_some() {
        unlink(base);
    }
}

/// Inode and size of a leftover that nobody works on any more, which is locked from now on.
fn locked(fd: &OwnedFd) -> Option<(u64, u64)> {
    rustix::fs::flock(fd, FlockOperation::NonBlockingLockExclusive).ok()?;
    let stat = rustix::fs::fstat(fd).ok()?;
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    (regular && stat.st_nlink > 0).then_some((stat.st_ino, stat.st_size.try_into().ok()?))
}

/// The name that `leftover_stem` stands for; None where it cannot be told.
fn original(leftover_stem: &[u8], own: &OsStr) -> Option<OsString> {
    if stem(own) == leftover_stem {
        return Some(own.to_owned());
    }
    (leftover_stem.len() < LONGEST_STEM).then(|| OsStr::from_bytes(leftover_stem).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_names_are_understood() {
        let name = OsStr::new("app.hydrant-x.db");
        let plain = TempName::plain(name);
        let parsed = parse(plain.as_os_str().as_bytes()).expect("a plain name");
        assert_eq!((parsed.stem.as_slice(), parsed.replacing), (name.as_bytes(), None));

        let forced = TempName::replacing(name, Replacing::Forced, 0xabc);
        let wal = suffixed(forced.as_os_str(), "-wal");
        let parsed = parse(wal.as_bytes()).expect("a sidecar's name");
        assert_eq!(parsed.base, forced.as_os_str());
        assert_eq!(parsed.replacing, Some((Replacing::Forced, 0xabc)));
        assert_eq!(original(&parsed.stem, OsStr::new("other")), Some(name.to_owned()));
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
            "app.hydrant-abcdefgh",
        ] {
            assert_eq!(parse(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn the_longest_name_leaves_room() {
        let longest = OsString::from_vec(vec![b'n'; 255]);
        let name = TempName::replacing(&longest, Replacing::Forced, u64::MAX);
        let sidecar = suffixed(name.as_os_str(), "-journal");
        assert!(sidecar.len() <= 255, "{}", sidecar.len());
        let parsed = parse(sidecar.as_bytes()).expect("a name of ours");
        assert_eq!(original(&parsed.stem, &longest), Some(longest.clone()));
        assert_eq!(original(&parsed.stem, OsStr::new("another")), None);
    }
}
