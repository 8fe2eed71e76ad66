//! A replica on a local disk. This file lists directories; `file_body` reads files.
//!
//! A key is an absolute path as text: the prefix of the listing followed by the names below it. Paths are not
//! normalised, so `//` and `.` stay as they are. Names that are not UTF-8 are skipped, because Litestream does
//! not write such names.

use super::buffers::ReadBuffers;
use super::byte_rate::ByteRate;
use super::file_body::{FileBody, error, is_out_of_resources, not_regular};
use super::{Head, ListPage, ListRequest, ObjectMeta, StoreError, StoreErrorKind, Unlisted};
use crate::io::{Step, fault_at};
use crate::timestamp::Timestamp;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Maximum depth of subdirectories below the listed directory.
const MAX_DEPTH: usize = 64;
/// Maximum number of directories in one listing. It exists because symbolic links can make a small tree
/// endlessly wide.
const MAX_DIRECTORIES: usize = 10_000_000;
/// A page of the listing has at most this many objects, as on S3.
const PAGE_OBJECTS: usize = 1_000;

/// Store that reads files on this machine. Keys are absolute paths.
#[derive(Debug, Clone, Default)]
pub struct FileStore {
    /// Limits the bytes per second that are read.
    rate: ByteRate,
}

impl FileStore {
    /// A store from which at most `rate` is read, together with all others that share the limit.
    pub fn limited(rate: ByteRate) -> Self {
        Self { rate }
    }

    /// The limit on the bytes per second that are read.
    pub(super) fn rate(&self) -> &ByteRate {
        &self.rate
    }

    /// Lists everything below the prefix in one unsorted page. A directory that does not exist counts as empty.
    /// A directory that cannot be read is an error. A file whose size cannot be read is listed with size 0.
    ///
    /// # Errors
    /// [`StoreErrorKind::Io`] if the prefix is not an absolute path or a directory cannot be read.
    pub fn list_page(&self, request: &ListRequest) -> Result<ListPage, StoreError> {
        let mut all = ListPage::default();
        self.walk(request, &mut |page| {
            all.objects.extend(page.objects);
            all.common_prefixes.extend(page.common_prefixes);
            all.unlisted.extend(page.unlisted);
            Ok(())
        })?;
        Ok(all)
    }

    /// Passes everything below the prefix to `each`, in pages, unsorted. A prefix whose directory does not exist has
    /// nothing below it. A directory below it that cannot be read is [`Unlisted`]. A file whose size cannot be read is
    /// listed with size 0.
    ///
    /// # Errors
    /// The prefix's own directory cannot be read or is no directory; descriptors or memory are lacking; the first error
    /// of `each`.
    pub fn walk(
        &self,
        request: &ListRequest,
        each: &mut dyn FnMut(ListPage) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let prefix = request.prefix.as_str();
        let Some(start) = prefix.rfind('/').and_then(|at| prefix.get(..=at)).filter(|s| s.starts_with('/')) else {
            return Err(error(StoreErrorKind::Io, "list", prefix, "not an absolute path".to_owned()));
        };
        let mut walk = Walk { request, each, page: ListPage::default(), ancestors: Vec::new(), directories: 0 };
        match walk.directory(&Place::of(start)) {
            Ok(()) => {}
            // The directory does not exist. A file in its place, or in the place of a directory above it, is an error.
            Err(Stop::Unreadable(e)) if e.kind() == io::ErrorKind::NotFound => {}
            Err(Stop::Unreadable(e)) => {
                return Err(error(StoreErrorKind::Io, "list", start.trim_end_matches('/'), e.to_string()));
            }
            Err(Stop::Whole(e)) => return Err(e),
        }
        let last = std::mem::take(&mut walk.page);
        (walk.each)(last)
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
    each: &'a mut dyn FnMut(ListPage) -> Result<(), StoreError>,
    page: ListPage,
    /// Device and inode of the directories above the current one. A symbolic link back to one of them is not
    /// followed.
    ancestors: Vec<(u64, u64)>,
    directories: usize,
}

/// A file or directory.
struct Place {
    /// As the listing names it. U+FFFD stands for bytes that are not UTF-8.
    key: String,
    /// Its path, if that is not the key: a name in it is not UTF-8.
    path: Option<PathBuf>,
}

/// Why a directory was not listed.
enum Stop {
    /// It cannot be read. Others may be readable.
    Unreadable(io::Error),
    /// The whole listing fails.
    Whole(StoreError),
}

impl Place {
    fn of(key: &str) -> Self {
        Self { key: key.to_owned(), path: None }
    }

    fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new(&self.key))
    }

    /// `name` in this directory.
    fn join(&self, name: &OsStr) -> Self {
        let key = format!("{}{}", self.key, name.to_string_lossy());
        let is_text = self.path.is_none() && name.to_str().is_some();
        Self { key, path: (!is_text).then(|| self.path().join(name)) }
    }
}

impl Walk<'_> {
    /// Lists the directory `at`, whose key ends in a slash.
    fn directory(&mut self, at: &Place) -> Result<(), Stop> {
        fault_at(at.path(), Step::Stat).map_err(|e| stop(&at.key, e.into()))?;
        let entries = std::fs::read_dir(at.path()).map_err(|e| stop(&at.key, e))?;
        let metadata = std::fs::metadata(at.path()).map_err(|e| stop(&at.key, e))?;
        let id = (metadata.dev(), metadata.ino());
        if self.ancestors.contains(&id) {
            return Ok(());
        }
        self.directories += 1;
        if self.directories > MAX_DIRECTORIES {
            let detail = format!("more than {MAX_DIRECTORIES} directories");
            return Err(Stop::Whole(error(StoreErrorKind::Io, "list", &at.key, detail)));
        }
        if self.ancestors.len() >= MAX_DEPTH {
            return Err(Stop::Unreadable(io::Error::other(format!("more than {MAX_DEPTH} directories deep"))));
        }
        self.ancestors.push(id);
        let listed = self.entries(at, entries);
        self.ancestors.pop();
        listed
    }

    fn entries(&mut self, dir: &Place, entries: std::fs::ReadDir) -> Result<(), Stop> {
        let mut has_unnamed = false;
        for entry in entries {
            let entry = entry.map_err(|e| stop(&dir.key, e))?;
            let place = dir.join(&entry.file_name());
            match metadata_of(place.path()) {
                Ok(metadata) if metadata.is_dir() => self.subdirectory(place)?,
                // One of such files in each directory is enough to know that they exist.
                Ok(metadata) if metadata.is_file() && place.path.is_some() => {
                    if !std::mem::replace(&mut has_unnamed, true) {
                        self.unlisted(place.key, "a name that is not UTF-8".to_owned());
                    }
                }
                Ok(metadata) if metadata.is_file() => self.file(place.key, metadata.len(), modified(&metadata))?,
                Ok(_) => {}
                // The entry is a dangling symbolic link, or the file was removed meanwhile.
                Err(e) if is_absent(&e) => {}
                // The entry is a symbolic link to itself.
                Err(e) if e.raw_os_error() == Some(libc::ELOOP) => {}
                Err(e) if is_out_of_resources(&e) => return Err(stop(&place.key, e)),
                // The file is listed although its size is unknown: without it the chain would have
                // a hole or end earlier. Reading it will report the error.
                Err(_) if entry.file_type().is_ok_and(|t| t.is_file()) && place.path.is_none() => {
                    self.file(place.key, 0, Timestamp::from_nanos(0))?;
                }
                Err(e) => {
                    let slash = if entry.file_type().is_ok_and(|t| t.is_dir()) { "/" } else { "" };
                    self.unlisted(place.key + slash, e.to_string());
                }
            }
        }
        Ok(())
    }

    fn unlisted(&mut self, key: String, detail: String) {
        let prefix = self.request.prefix.as_str();
        if key.starts_with(prefix) || prefix.starts_with(&key) {
            tracing::debug!(target: "hydrant::store", key, why = detail, "not listed");
            self.page.unlisted.push(Unlisted { key, kind: StoreErrorKind::Io, detail });
        }
    }

    fn subdirectory(&mut self, mut place: Place) -> Result<(), Stop> {
        place.key.push('/');
        let prefix = self.request.prefix.as_str();
        match place.key.strip_prefix(prefix) {
            Some(rest) => {
                if let Some(rolled) = self.rolled_up(prefix, rest) {
                    self.roll_up(rolled);
                    return Ok(());
                }
            }
            None if prefix.starts_with(&place.key) => {}
            None => return Ok(()),
        }
        match self.directory(&place) {
            // It was removed meanwhile.
            Err(Stop::Unreadable(e)) if is_absent(&e) => Ok(()),
            Err(Stop::Unreadable(e)) => {
                self.unlisted(place.key, e.to_string());
                Ok(())
            }
            listed => listed,
        }
    }

    fn file(&mut self, key: String, size: u64, last_modified: Timestamp) -> Result<(), Stop> {
        let request = self.request;
        let Some(rest) = key.strip_prefix(request.prefix.as_str()) else { return Ok(()) };
        if request.start_after.as_ref().is_some_and(|after| key <= *after) {
            return Ok(());
        }
        match self.rolled_up(&request.prefix, rest) {
            Some(rolled) => self.roll_up(rolled),
            None => self.page.objects.push(ObjectMeta { key, size, last_modified, etag: None, archived: false }),
        }
        if self.page.objects.len() < PAGE_OBJECTS {
            return Ok(());
        }
        let objects = std::mem::replace(&mut self.page.objects, Vec::with_capacity(PAGE_OBJECTS));
        (self.each)(ListPage { objects, ..ListPage::default() }).map_err(Stop::Whole)
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

/// Retries once after ESTALE (NFS: the server has replaced the file).
fn metadata_of(path: &Path) -> io::Result<Metadata> {
    let once = || {
        fault_at(path, Step::Stat)?;
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

fn stop(key: &str, e: io::Error) -> Stop {
    if is_out_of_resources(&e) { Stop::Whole(failed("list", key, &e)) } else { Stop::Unreadable(e) }
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
        let page = FileStore::default().list_page(request).unwrap();
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
        assert!(FileStore::default().list_page(&at("/top/")).unwrap_err().to_string().contains("/top: "));
        assert!(FileStore::default().list_page(&at("/top/below/")).unwrap_err().to_string().contains("ot a directory"));

        let rolled = ListRequest { delimiter: Some('/'), ..at("/") };
        assert_eq!(keys(root, &rolled), (set(&["/top"]), set(&["/a.db/", "/a.db2/", "/b/"])));
        let after = ListRequest { start_after: Some(format!("{}/b/ltx", root.display())), ..at("/") };
        assert_eq!(keys(root, &after).0, set(&["/b/ltx/0/4.ltx", "/top"]));
        assert_eq!(FileStore::default().list_page(&ListRequest::default()).unwrap_err().kind, StoreErrorKind::Io);
    }

    fn unlisted(root: &Path) -> Vec<(String, String)> {
        let request = ListRequest { prefix: format!("{}/", root.display()), ..ListRequest::default() };
        let page = FileStore::default().list_page(&request).unwrap();
        let short = |key: &str| key.strip_prefix(root.to_str().unwrap()).unwrap().to_owned();
        page.unlisted.iter().map(|unlisted| (short(&unlisted.key), unlisted.detail.clone())).collect()
    }

    #[test]
    fn what_is_too_deep_is_not_listed_and_the_rest_is() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join(vec!["d"; 80].join("/"))).unwrap();
        put(dir.path(), "f", b"");
        let (key, why) = unlisted(dir.path()).pop().unwrap();
        assert_eq!((key, why), (format!("/{}", "d/".repeat(64)), "more than 64 directories deep".to_owned()));
    }

    #[test]
    fn one_directory_that_cannot_be_read_fails_alone() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        ["a/0000/1.ltx", "b/0000/2.ltx", "b/0009/3.ltx", "c/0000/4.ltx"].iter().for_each(|name| put(root, name, b"x"));
        // The first look is at the entry, the second one at the directory itself.
        for look in [1, 2] {
            let fault = inject(&root.join("b/0009"), Some(Step::Stat), look, Effect::Fail(Errno::ACCESS));
            let unlisted = unlisted(root);
            assert!(fault.struck());
            assert_eq!(unlisted.len(), 1, "{unlisted:?}");
            assert_eq!(unlisted[0].0, "/b/0009/");
            assert!(unlisted[0].1.contains("ermission denied"), "{unlisted:?}");
        }
        let request = ListRequest { prefix: format!("{}/", root.display()), ..ListRequest::default() };
        let fault = inject(&root.join("b/0009"), Some(Step::Stat), 2, Effect::Fail(Errno::ACCESS));
        assert_eq!(keys(root, &request).0, set(&["/a/0000/1.ltx", "/b/0000/2.ltx", "/c/0000/4.ltx"]));
        assert!(fault.struck());
        // Without descriptors nothing is known of any directory.
        let fault = inject(&root.join("b/0009"), Some(Step::Stat), 1, Effect::Fail(Errno::MFILE));
        assert_eq!(FileStore::default().list_page(&request).unwrap_err().kind, StoreErrorKind::Io);
        assert!(fault.struck());
    }

    #[test]
    fn names_that_are_not_utf8_are_said() {
        let dir = tempfile::tempdir().unwrap();
        let odd = dir.path().join(OsStr::from_bytes(b"caf\xe9.db/0000"));
        std::fs::create_dir_all(&odd).unwrap();
        ["1.ltx", "2.ltx"].iter().for_each(|name| std::fs::write(odd.join(name), b"x").unwrap());
        put(dir.path(), "a/0000/1.ltx", b"x");
        let (key, why) = unlisted(dir.path()).pop().unwrap();
        assert!(key.starts_with("/caf\u{fffd}.db/0000/") && why == "a name that is not UTF-8", "{key} {why}");
    }

    #[test]
    fn a_large_directory_comes_in_pages() {
        let dir = tempfile::tempdir().unwrap();
        (0..2_500).for_each(|n| put(dir.path(), &format!("{n}.ltx"), b""));
        let request = ListRequest { prefix: format!("{}/", dir.path().display()), ..ListRequest::default() };
        let mut pages = Vec::new();
        let walked = FileStore::default().walk(&request, &mut |page| {
            pages.push(page.objects.len());
            Ok(())
        });
        assert_eq!((walked.is_ok(), pages), (true, vec![1_000, 1_000, 500]));
    }

    #[test]
    fn a_file_whose_size_cannot_be_read_is_listed_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "f", b"12345");
        let request = ListRequest { prefix: format!("{}/", dir.path().display()), ..ListRequest::default() };
        let size_after = |errno| {
            let fault = inject(&dir.path().join("f"), Some(Step::Stat), 1, Effect::Fail(errno));
            let page = FileStore::default().list_page(&request);
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
        assert_eq!(FileStore::default().list_page(&request).unwrap_err().kind, StoreErrorKind::Io);
    }

    #[test]
    fn heads() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "f", &[0; 300]);
        let key = format!("{}/f", dir.path().display());
        let head = FileStore::default().head(&key).unwrap();
        assert_eq!((head.size, head.litestream_timestamp), (300, None));
        let age = Timestamp::now().as_nanos() - head.last_modified.unwrap().as_nanos();
        assert!((0..60_000_000_000).contains(&age), "{age}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_limited_rate_holds_for_files() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("f").to_str().unwrap().to_owned();
        std::fs::write(&key, vec![7; 400_000]).unwrap();
        for (rate, least, most) in [(Some(100_000), 3, u64::MAX), (None, 0, 0)] {
            let rate = ByteRate::new(rate);
            let begun = tokio::time::Instant::now();
            // Two files share the limit.
            let read = |range: Range<u64>| {
                let (store, key) = (crate::store::Store::File(FileStore::limited(rate.clone())), key.clone());
                async move {
                    let mut body = store.get(&crate::store::Http::default(), &key, range, None).await.unwrap();
                    while body.chunk().await.unwrap().is_some() {}
                }
            };
            tokio::join!(read(0..200_000), read(200_000..400_000));
            let took = begun.elapsed().as_secs();
            assert!((least..=most).contains(&took), "{took} s");
        }
    }
}
