//! A replica on a local disk. This file lists directories; `file_body` reads files.
//!
//! A key is an absolute path as text: the prefix of the listing followed by the names below it. Paths are not
//! normalised, so `//` and `.` stay as they are. Names that are not UTF-8 are skipped, because Litestream does
//! not write such names.

use super::buffers::ReadBuffers;
use super::file_body::{FileBody, error, is_out_of_resources, not_regular};
use super::{Head, ListPage, ListRequest, ObjectMeta, StoreError, StoreErrorKind};
use crate::io::{Step, fault_at};
use crate::timestamp::Timestamp;
use std::fs::Metadata;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Maximum depth of subdirectories below the listed directory.
const MAX_DEPTH: usize = 64;
/// Maximum number of directories in one listing. It exists because symbolic links can make a small tree
/// endlessly wide.
const MAX_DIRECTORIES: usize = 10_000_000;

/// Store that reads files on this machine. Keys are absolute paths.
#[derive(Debug, Clone, Default)]
pub struct FileStore;

impl FileStore {
    /// Lists everything below the prefix in one unsorted page. A directory that does not exist counts as empty.
    /// A directory that cannot be read is an error. A file whose size cannot be read is listed with size 0.
    ///
    /// # Errors
    /// [`StoreErrorKind::Io`] if the prefix is not an absolute path or a directory cannot be read.
    pub fn list_page(&self, request: &ListRequest) -> Result<ListPage, StoreError> {
        let prefix = request.prefix.as_str();
        let Some(start) = prefix.rfind('/').and_then(|at| prefix.get(..=at)).filter(|s| s.starts_with('/')) else {
            return Err(error(StoreErrorKind::Io, "list", prefix, "not an absolute path".to_owned()));
        };
        let mut walk = Walk { request, page: ListPage::default(), ancestors: Vec::new(), directories: 0 };
        walk.directory(start).map_err(|(path, e)| failed("list", &path, &e))?;
        Ok(walk.page)
    }

    /// Opens the file `key` for reading the byte range `range` in chunks. The chunks are read into `buffers`.
    ///
    /// # Errors
    /// [`StoreErrorKind::SizeDiffers`] if the file ends before `range` does. Otherwise the error of opening the
    /// file.
    pub fn get(&self, key: &str, range: Range<u64>, buffers: &ReadBuffers) -> Result<FileBody, StoreError> {
        FileBody::open(key, range, buffers)
    }

    /// Returns size and modification time of the file `key`.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotFound`] if there is no regular file; [`StoreErrorKind::Io`] if its metadata cannot
    /// be read.
    pub fn head(&self, key: &str) -> Result<Head, StoreError> {
        let metadata = std::fs::metadata(key).map_err(|e| failed("read", key, &e))?;
        if !metadata.is_file() {
            return Err(not_regular(key));
        }
        Ok(Head {
            size: metadata.len(),
            etag: None,
            last_modified: Some(modified(&metadata)),
            litestream_timestamp: None,
        })
    }
}

struct Walk<'a> {
    request: &'a ListRequest,
    page: ListPage,
    /// Device and inode of the directories above the current one. A symbolic link back to one of them is not
    /// followed.
    ancestors: Vec<(u64, u64)>,
    directories: usize,
}

type WalkFailure = (String, io::Error);

impl Walk<'_> {
    /// Lists the directory `path`, which ends with a slash, and everything below it.
    fn directory(&mut self, path: &str) -> Result<(), WalkFailure> {
        let failure = |e| (path.to_owned(), e);
        let entries = match std::fs::read_dir(path) {
            Ok(entries) => entries,
            Err(e) if is_absent(&e) => return Ok(()),
            Err(e) => return Err(failure(e)),
        };
        let metadata = std::fs::metadata(path).map_err(failure)?;
        let id = (metadata.dev(), metadata.ino());
        if self.ancestors.contains(&id) {
            return Ok(());
        }
        self.directories += 1;
        if self.ancestors.len() >= MAX_DEPTH || self.directories > MAX_DIRECTORIES {
            return Err(failure(io::Error::other("directories nested too deeply, or too many of them")));
        }
        self.ancestors.push(id);
        for entry in entries {
            let entry = entry.map_err(failure)?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let key = format!("{path}{name}");
            match metadata_of(&key) {
                Ok(metadata) if metadata.is_dir() => self.subdirectory(key + "/")?,
                Ok(metadata) if metadata.is_file() => self.file(key, metadata.len(), modified(&metadata)),
                Ok(_) => {}
                // The entry is a dangling symbolic link, or the file was removed meanwhile.
                Err(e) if is_absent(&e) => {}
                // The entry is a symbolic link to itself.
                Err(e) if e.raw_os_error() == Some(libc::ELOOP) => {}
                // The file is listed although its size is unknown. Without it the chain of LTX files would have
                // a gap or end too early. Reading the file will report the error.
                Err(e) if !is_out_of_resources(&e) && entry.file_type().is_ok_and(|t| t.is_file()) => {
                    self.file(key, 0, Timestamp::from_nanos(0));
                }
                Err(e) => return Err((key, e)),
            }
        }
        self.ancestors.pop();
        Ok(())
    }

    fn subdirectory(&mut self, path: String) -> Result<(), WalkFailure> {
        let prefix = self.request.prefix.as_str();
        match path.strip_prefix(prefix) {
            Some(rest) => {
                if let Some(rolled) = self.rolled_up(prefix, rest) {
                    self.roll_up(rolled);
                    return Ok(());
                }
            }
            None if prefix.starts_with(&path) => {}
            None => return Ok(()),
        }
        self.directory(&path)
    }

    fn file(&mut self, key: String, size: u64, last_modified: Timestamp) {
        let request = self.request;
        let Some(rest) = key.strip_prefix(request.prefix.as_str()) else { return };
        if request.start_after.as_ref().is_some_and(|after| key <= *after) {
            return;
        }
        match self.rolled_up(&request.prefix, rest) {
            Some(rolled) => self.roll_up(rolled),
            None => self.page.objects.push(ObjectMeta { key, size, last_modified, etag: None, archived: false }),
        }
    }

    fn rolled_up(&self, prefix: &str, rest: &str) -> Option<String> {
        let delimiter = self.request.delimiter?;
        let (first, _) = rest.split_once(delimiter)?;
        Some(format!("{prefix}{first}{delimiter}"))
    }

    fn roll_up(&mut self, prefix: String) {
        let before = self.request.start_after.as_ref().is_some_and(|after| prefix <= *after);
        if !before && !self.page.common_prefixes.contains(&prefix) {
            self.page.common_prefixes.push(prefix);
        }
    }
}

/// Reads a file's metadata. Retries once after ESTALE, which NFS returns when the server has replaced the file.
fn metadata_of(path: &str) -> io::Result<Metadata> {
    let once = || {
        fault_at(Path::new(path), Step::Stat)?;
        std::fs::metadata(path)
    };
    match once() {
        Err(e) if e.raw_os_error() == Some(libc::ESTALE) => once(),
        metadata => metadata,
    }
}

fn modified(metadata: &Metadata) -> Timestamp {
    Timestamp::from_nanos(metadata.mtime().saturating_mul(1_000_000_000)).saturating_add_nanos(metadata.mtime_nsec())
}

fn is_absent(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn failed(verb: &str, path: &str, e: &io::Error) -> StoreError {
    let kind = if is_absent(e) { StoreErrorKind::NotFound } else { StoreErrorKind::Io };
    error(kind, verb, path, e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::fault::{Effect, inject};
    use rustix::io::Errno;
    use std::collections::BTreeSet;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn put(root: &Path, name: &str, content: &[u8]) {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn keys(root: &Path, request: &ListRequest) -> (BTreeSet<String>, BTreeSet<String>) {
        let page = FileStore.list_page(request).unwrap();
        assert_eq!(page.continuation, None);
        let short = |key: &String| key.strip_prefix(root.to_str().unwrap()).unwrap().to_owned();
        (page.objects.iter().map(|o| short(&o.key)).collect(), page.common_prefixes.iter().map(short).collect())
    }

    fn set(of: &[&str]) -> BTreeSet<String> {
        of.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn listings() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for name in ["a.db/0000/1.ltx", "a.db/0009/2.ltx", "a.db2/0000/3.ltx", "b/ltx/0/4.ltx", "top"] {
            put(root, name, b"x");
        }
        std::fs::write(root.join(OsStr::from_bytes(b"b/\xff")), b"").unwrap();
        symlink("..", root.join("b/up")).unwrap();
        symlink("self", root.join("b/self")).unwrap();
        symlink("nowhere", root.join("b/dangling")).unwrap();
        symlink("../a.db", root.join("b/link")).unwrap();
        let at = |suffix: &str| ListRequest { prefix: format!("{}{suffix}", root.display()), ..ListRequest::default() };
        let everything = set(&[
            "/a.db/0000/1.ltx",
            "/a.db/0009/2.ltx",
            "/a.db2/0000/3.ltx",
            "/b/ltx/0/4.ltx",
            "/b/link/0000/1.ltx",
            "/b/link/0009/2.ltx",
            "/top",
        ]);
        assert_eq!(keys(root, &at("/")).0, everything);
        assert_eq!(keys(root, &at("/a.db/")).0, set(&["/a.db/0000/1.ltx", "/a.db/0009/2.ltx"]));
        assert_eq!(keys(root, &at("/a.db/0009/2")).0, set(&["/a.db/0009/2.ltx"]));
        assert_eq!(keys(root, &at("/a.d")).0.len(), 3);
        assert_eq!(keys(root, &at("//a.db//0000/")).0, set(&["//a.db//0000/1.ltx"]));
        assert_eq!(keys(root, &at("/nothing/at/all/")).0, set(&[]));
        assert_eq!(keys(root, &at("/top/")).0, set(&[]));

        let rolled = ListRequest { delimiter: Some('/'), ..at("/") };
        assert_eq!(keys(root, &rolled), (set(&["/top"]), set(&["/a.db/", "/a.db2/", "/b/"])));
        let after = ListRequest { start_after: Some(format!("{}/b/ltx", root.display())), ..at("/") };
        assert_eq!(keys(root, &after).0, set(&["/b/ltx/0/4.ltx", "/top"]));
        assert_eq!(FileStore.list_page(&ListRequest::default()).unwrap_err().kind, StoreErrorKind::Io);
    }

    #[test]
    fn too_deep_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join(vec!["d"; 80].join("/"))).unwrap();
        let request = ListRequest { prefix: format!("{}/", dir.path().display()), ..ListRequest::default() };
        assert_eq!(FileStore.list_page(&request).unwrap_err().kind, StoreErrorKind::Io);
    }

    #[test]
    fn a_file_whose_size_cannot_be_read_is_listed_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "f", b"12345");
        let request = ListRequest { prefix: format!("{}/", dir.path().display()), ..ListRequest::default() };
        let size_after = |errno| {
            let fault = inject(&dir.path().join("f"), Some(Step::Stat), 1, Effect::Fail(errno));
            let page = FileStore.list_page(&request);
            assert!(fault.struck());
            page.map(|page| page.objects.iter().map(|o| o.size).collect::<Vec<_>>())
        };
        assert_eq!(size_after(Errno::IO).unwrap(), [0]);
        assert_eq!(size_after(Errno::STALE).unwrap(), [5]);
        assert_eq!(size_after(Errno::NOENT).unwrap(), [0; 0]);
        assert_eq!(size_after(Errno::NOMEM).unwrap_err().kind, StoreErrorKind::Io);
    }

    #[test]
    fn an_unreadable_directory_is_no_empty_one() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let closed = dir.path().join("closed");
        std::fs::create_dir(&closed).unwrap();
        std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o000)).unwrap();
        if std::fs::read_dir(&closed).is_ok() {
            println!("skipped: permissions do not bind this user");
            return;
        }
        let request = ListRequest { prefix: format!("{}/", dir.path().display()), ..ListRequest::default() };
        assert_eq!(FileStore.list_page(&request).unwrap_err().kind, StoreErrorKind::Io);
    }

    #[test]
    fn heads() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "f", &[0; 300]);
        let key = format!("{}/f", dir.path().display());
        let head = FileStore.head(&key).unwrap();
        assert_eq!((head.size, head.litestream_timestamp), (300, None));
        let age = Timestamp::now().as_nanos() - head.last_modified.unwrap().as_nanos();
        assert!((0..60_000_000_000).contains(&age), "{age}");
    }
}
