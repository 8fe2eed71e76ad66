//! The file `NAME-txid` beside a standby: 16 hexadecimal digits and a newline (docs/FOLLOW.md, "The sidecar"). It says
//! that the database durably holds at least this TXID. It may be behind, never ahead.

use crate::ltx::Txid;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The most bytes that are read of a sidecar. A longer one is not one.
const MOST_BYTES: u64 = 64;

/// The path of the sidecar of the database at `path`.
pub fn path_of(path: &Path) -> PathBuf {
    suffixed(path, "-txid")
}

/// `path` with `suffix` behind its name.
fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The TXID in the sidecar of the database at `path`. White space around it is ignored. None if there is no sidecar.
///
/// # Errors
/// The sidecar cannot be read, or does not hold a TXID above 0 ([`io::ErrorKind::InvalidData`]).
pub fn read(path: &Path) -> io::Result<Option<Txid>> {
    let mut text = Vec::new();
    match File::open(path_of(path)) {
        Ok(file) => file.take(MOST_BYTES).read_to_end(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match Txid::parse_name(text.trim_ascii()) {
        Some(txid) if txid.0 > 0 => Ok(Some(txid)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "it must hold 16 hexadecimal digits, not all 0")),
    }
}

/// Writes the sidecar of the database at `path`, and makes it durable: a new file, synced, renamed, and its directory
/// synced. What held the database to `txid` must be durable before.
///
/// # Errors
/// The file cannot be written, for example because the disk is full. The old sidecar then stays.
pub fn write(path: &Path, txid: Txid) -> io::Result<()> {
    let temporary = suffixed(path, "-txid.tmp");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&temporary)?;
    let written = file.write_all(format!("{txid}\n").as_bytes()).and_then(|()| file.sync_all());
    if let Err(error) = written.and_then(|()| std::fs::rename(&temporary, path_of(path))) {
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    sync_directory(path)
}

/// Removes the sidecar of the database at `path`, durably. It is no error if there is none.
///
/// # Errors
/// The file system refuses.
pub fn remove(path: &Path) -> io::Result<()> {
    for name in [suffixed(path, "-txid.tmp"), path_of(path)] {
        match std::fs::remove_file(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    sync_directory(path)
}

/// Removes the sidecar of the database at `path`, if it holds a TXID. It is called before another database gets that
/// name: a follower would take the new one up at the old one's TXID.
///
/// # Errors
/// The sidecar cannot be removed.
pub fn remove_stale(path: &Path) -> io::Result<()> {
    match read(path) {
        Ok(Some(_)) => remove(path),
        // What holds no TXID is no sidecar, and no follower takes it for one.
        Ok(None) | Err(_) => Ok(()),
    }
}

/// Syncs the directory of `path`. File systems that do not know that (EINVAL) need not.
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().as_bytes().is_empty());
    match File::open(directory.unwrap_or(Path::new(".")))?.sync_all() {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::ENOTSUP)) => Ok(()),
        synced => synced,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_as_litestream_does_and_read_leniently() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        assert_eq!(read(&path).unwrap(), None);
        write(&path, Txid(0x1f)).unwrap();
        write(&path, Txid(0x2f)).unwrap();
        assert_eq!(std::fs::read(path_of(&path)).unwrap(), b"000000000000002f\n");
        assert_eq!(read(&path).unwrap(), Some(Txid(0x2f)));
        std::fs::write(path_of(&path), " 000000000000002a \r\n").unwrap();
        assert_eq!(read(&path).unwrap(), Some(Txid(0x2a)));
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["app.db-txid"]);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(read(&path).unwrap(), None);
    }

    #[test]
    fn what_is_no_txid_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        for wrong in
            ["", "\n", "0000000000000000\n", "2f\n", "000000000000002F\n", "000000000000002f0\n", &"0".repeat(99)]
        {
            std::fs::write(path_of(&path), wrong).unwrap();
            assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::InvalidData, "{wrong:?}");
            remove_stale(&path).unwrap();
            assert!(path_of(&path).exists(), "it is not ours");
        }
    }
}
