//! A file system for tests that takes the bytes of a file in order only, as mounts of object stores do. It speaks the
//! kernel's FUSE protocol (Linux, include/uapi/linux/fuse.h, version 7.31) and keeps its files in a directory, which
//! tests read instead of the mount: what is there was stored.
//!
//! A new file's bytes are kept in memory. They are stored whenever a process closes the file, also when it is killed,
//! under the name that the file had when it was made. A file without bytes is stored later, as rclone does it in the
//! background: here after the next rename or removal. There are no links, no renames with flags, no files for both
//! reading and writing to be opened twice, no changes of a length. A file that is open for writing is not renamed.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::wait::Gate;

/// What a file system of this kind refuses besides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quirks {
    /// Whether files are renamed. Otherwise EPERM.
    pub renames: bool,
    /// Whether files are removed. Otherwise EPERM.
    pub removes: bool,
    /// The number of bytes that one file may have (ENOSPC).
    pub room: u64,
    /// A write from this offset on is not answered until the test lets it go on.
    pub holds_at: u64,
    /// The number of bytes of each file that are stored.
    pub keeps: usize,
}

impl Default for Quirks {
    fn default() -> Self {
        Self { renames: true, removes: true, room: u64::MAX, holds_at: u64::MAX, keeps: usize::MAX }
    }
}

/// A mounted file system. Dropping it unmounts it.
pub(crate) struct AppendOnly {
    dir: tempfile::TempDir,
    /// Open once a write is held.
    pub held: Arc<Gate>,
    /// To be opened for the held write to go on.
    pub go_on: Arc<Gate>,
    /// The bytes that were written to it.
    pub written: Arc<AtomicU64>,
}

impl AppendOnly {
    /// None if it cannot be mounted here: that takes root and /dev/fuse.
    pub(crate) fn mount(quirks: Quirks) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let (mount, store) = (dir.path().join("mount"), dir.path().join("store"));
        std::fs::create_dir(&mount).unwrap();
        std::fs::create_dir(&store).unwrap();
        let Ok(device) = File::options().read(true).write(true).open("/dev/fuse") else {
            println!("skipped: no /dev/fuse can be opened here");
            return None;
        };
        // The kernel takes the device from mount's standard input.
        let options = "fd=0,rootmode=40000,user_id=0,group_id=0,subtype=append";
        let mut command = Command::new("mount");
        command.args(["-i", "-t", "fuse", "-o", options, "none"]).arg(&mount).stdin(device.try_clone().unwrap());
        if !command.status().is_ok_and(|status| status.success()) {
            println!("skipped: no file system of ours can be mounted here");
            return None;
        }
        let (held, go_on, written) = (Arc::<Gate>::default(), Arc::<Gate>::default(), Arc::<AtomicU64>::default());
        let server = Server {
            device,
            quirks,
            held: Arc::clone(&held),
            go_on: Arc::clone(&go_on),
            written: Arc::clone(&written),
            paths: HashMap::from([(1, store)]),
            handles: HashMap::new(),
            late: Vec::new(),
            next: 1,
        };
        // It ends when the file system is unmounted and its last file is closed.
        std::thread::spawn(move || server.serve());
        Some(Self { dir, held, go_on, written })
    }

    /// The path of a file of the mount.
    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join("mount").join(name).to_str().unwrap().to_owned()
    }

    /// Makes it store what it was to store later.
    pub(crate) fn settle(&self) {
        std::fs::write(self.path("settled"), "1").unwrap();
        std::fs::remove_file(self.path("settled")).unwrap();
    }

    /// The directory with what was stored.
    pub(crate) fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }
}

impl Drop for AppendOnly {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.dir.path().join("mount")).status();
    }
}

enum Handle {
    Reads(File),
    Writes { path: PathBuf, bytes: Vec<u8>, is_stored: bool },
    Directory(Vec<(u64, bool, Vec<u8>)>),
}

struct Server {
    device: File,
    quirks: Quirks,
    held: Arc<Gate>,
    go_on: Arc<Gate>,
    written: Arc<AtomicU64>,
    /// The paths of the kernel's nodes, in the directory with what was stored. Also of those that are gone.
    paths: HashMap<u64, PathBuf>,
    handles: HashMap<u64, Handle>,
    /// The files without bytes that are still to be stored.
    late: Vec<PathBuf>,
    /// The last number of a node or a handle.
    next: u64,
}

/// An answer, or the number of an error.
type Answer = Result<Vec<u8>, i32>;

/// The arguments of a request.
struct Arguments<'a>(&'a [u8]);

impl<'a> Arguments<'a> {
    fn u32(&mut self) -> u32 {
        let (number, rest) = self.0.split_first_chunk().unwrap();
        self.0 = rest;
        u32::from_le_bytes(*number)
    }

    fn u64(&mut self) -> u64 {
        let (number, rest) = self.0.split_first_chunk().unwrap();
        self.0 = rest;
        u64::from_le_bytes(*number)
    }

    fn name(&mut self) -> &'a OsStr {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap();
        let name = OsStr::from_bytes(&self.0[..end]);
        self.0 = &self.0[end + 1..];
        name
    }
}

/// Puts numbers of 4 bytes (`w`) and of 8 bytes (`q`) into an answer.
macro_rules! words {
    ($($kind:ident $value:expr),* $(,)?) => {{
        let mut bytes = Vec::new();
        $(bytes.extend(words!(@ $kind $value));)*
        bytes
    }};
    (@ w $value:expr) => { u32::to_le_bytes($value) };
    (@ q $value:expr) => { u64::to_le_bytes($value) };
}

fn errno(error: std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

impl Server {
    fn serve(mut self) {
        let mut buffer = vec![0; 1 << 20];
        loop {
            let len = match self.device.read(&mut buffer) {
                Ok(len) => len,
                // A request that was given up before it was read.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => continue,
                Err(_) => return,
            };
            let mut arguments = Arguments(&buffer[..len]);
            let (_len, opcode, unique, node) = (arguments.u32(), arguments.u32(), arguments.u64(), arguments.u64());
            arguments.0 = &arguments.0[16..];
            match opcode {
                // FORGET, INTERRUPT and BATCH_FORGET have no answer.
                2 | 36 | 42 => {}
                _ => {
                    let answer = self.handle(opcode, node, arguments);
                    self.answer(unique, answer);
                }
            }
        }
    }

    fn answer(&mut self, unique: u64, answer: Answer) {
        let (error, bytes) = match answer {
            Ok(bytes) => (0, bytes),
            Err(errno) => (errno.wrapping_neg() as u32, Vec::new()),
        };
        let mut message = words![w 16 + bytes.len() as u32, w error, q unique];
        message.extend(bytes);
        // It fails if the request was given up.
        let _ = self.device.write_all(&message);
    }

    fn handle(&mut self, opcode: u32, node: u64, mut arguments: Arguments<'_>) -> Answer {
        let path = self.paths.get(&node).cloned().unwrap_or_default();
        match opcode {
            // INIT: version 7.31, BIG_WRITES, writes of 128 KiB
            26 => {
                let mut answer = words![w 7, w 31, w 65536, w 1 << 5, w 0, w 128 << 10, w 1, w 0];
                answer.resize(64, 0);
                Ok(answer)
            }
            // LOOKUP
            1 => self.entry(path.join(arguments.name())),
            // GETATTR; SETATTR, which changes no length and ignores the rest
            3 => Ok([words![q 0, w 0, w 0], self.attributes(node)?].concat()),
            4 if arguments.u32() & 1 << 3 != 0 => Err(libc::EINVAL),
            4 => Ok([words![q 0, w 0, w 0], self.attributes(node)?].concat()),
            // MKDIR
            9 => {
                let _mode = arguments.u64();
                let path = path.join(arguments.name());
                std::fs::create_dir(&path).map_err(errno)?;
                self.entry(path)
            }
            // UNLINK, RMDIR
            10 if !self.quirks.removes => Err(libc::EPERM),
            10 | 11 => {
                let path = path.join(arguments.name());
                let removed = if opcode == 10 { std::fs::remove_file(&path) } else { std::fs::remove_dir(&path) };
                removed.map_err(errno)?;
                self.forget(&path);
                self.store_late();
                Ok(Vec::new())
            }
            // RENAME
            12 => {
                let to = self.paths.get(&arguments.u64()).cloned().unwrap_or_default();
                self.rename(path.join(arguments.name()), to.join(arguments.name()))
            }
            // OPEN
            14 if arguments.u32() & libc::O_ACCMODE as u32 != 0 => Err(libc::EPERM),
            14 => {
                let handle = Handle::Reads(File::open(path).map_err(errno)?);
                Ok(words![q self.add(handle), w 0, w 0])
            }
            // READ
            15 => {
                let (handle, offset, len) = (arguments.u64(), arguments.u64(), arguments.u32());
                let Some(Handle::Reads(file)) = self.handles.get(&handle) else { return Err(libc::EBADF) };
                let mut bytes = vec![0; len as usize];
                let len = file.read_at(&mut bytes, offset).map_err(errno)?;
                bytes.truncate(len);
                Ok(bytes)
            }
            16 => self.write(arguments),
            // STATFS
            17 => {
                Ok([words![q 1 << 40, q 1 << 40, q 1 << 40, q 0, q 0, w 4096, w 255, w 4096, w 0], vec![0; 24]]
                    .concat())
            }
            // RELEASE, RELEASEDIR, FLUSH
            18 | 29 => {
                if let Some(Handle::Writes { path, bytes, .. }) = self.handles.remove(&arguments.u64())
                    && bytes.is_empty()
                {
                    self.late.push(path);
                }
                Ok(Vec::new())
            }
            25 => self.store(arguments.u64()),
            // OPENDIR
            27 => {
                let mut entries = Vec::new();
                for entry in std::fs::read_dir(&path).map_err(errno)?.flatten() {
                    let is_dir = entry.path().is_dir();
                    entries.push((self.node(entry.path()), is_dir, entry.file_name().as_bytes().to_vec()));
                }
                Ok(words![q self.add(Handle::Directory(entries)), w 0, w 0])
            }
            // READDIR
            28 => {
                let (handle, offset, len) = (arguments.u64(), arguments.u64(), arguments.u32());
                let Some(Handle::Directory(entries)) = self.handles.get(&handle) else { return Err(libc::EBADF) };
                let mut answer = Vec::new();
                for (i, (node, is_dir, name)) in entries.iter().enumerate().skip(offset as usize) {
                    let kind = if *is_dir { libc::DT_DIR } else { libc::DT_REG };
                    let mut entry = words![q *node, q i as u64 + 1, w name.len() as u32, w u32::from(kind)];
                    entry.extend(name);
                    entry.resize(entry.len().next_multiple_of(8), 0);
                    if answer.len() + entry.len() > len as usize {
                        break;
                    }
                    answer.extend(entry);
                }
                Ok(answer)
            }
            // CREATE
            35 => {
                let _flags_mode_umask_open = (arguments.u64(), arguments.u64());
                let path = path.join(arguments.name());
                File::create_new(&path).map_err(errno)?;
                let handle = self.add(Handle::Writes { path: path.clone(), bytes: Vec::new(), is_stored: false });
                Ok([self.entry(path)?, words![q handle, w 0, w 0]].concat())
            }
            // FSYNC
            20 => Err(libc::EINVAL),
            // LINK: as rclone answers
            13 => Err(libc::EIO),
            // No links, no renames with flags, no syncs of directories. The kernel itself keeps locks.
            _ => Err(libc::ENOSYS),
        }
    }

    /// WRITE
    fn write(&mut self, mut arguments: Arguments<'_>) -> Answer {
        let (handle, offset, len) = (arguments.u64(), arguments.u64(), arguments.u32());
        let data = &arguments.0[20..];
        assert_eq!(data.len(), len as usize);
        let Some(Handle::Writes { bytes, is_stored, .. }) = self.handles.get_mut(&handle) else {
            return Err(libc::EBADF);
        };
        if offset != bytes.len() as u64 {
            return Err(libc::EINVAL);
        }
        if offset + u64::from(len) > self.quirks.room {
            return Err(libc::ENOSPC);
        }
        if offset >= self.quirks.holds_at {
            self.held.open();
            assert!(self.go_on.wait());
        }
        bytes.extend(data);
        *is_stored = false;
        self.written.fetch_add(u64::from(len), Relaxed);
        Ok(words![w len, w 0])
    }

    /// Stores a file that is being closed.
    fn store(&mut self, handle: u64) -> Answer {
        if let Some(Handle::Writes { path, bytes, is_stored }) = self.handles.get_mut(&handle)
            && !*is_stored
            && !bytes.is_empty()
        {
            std::fs::write(path, &bytes[..bytes.len().min(self.quirks.keeps)]).map_err(errno)?;
            *is_stored = true;
        }
        Ok(Vec::new())
    }

    fn store_late(&mut self) {
        self.late.drain(..).for_each(|path| std::fs::write(path, "").unwrap());
    }

    fn rename(&mut self, from: PathBuf, to: PathBuf) -> Answer {
        let is_written = |handle: &Handle| matches!(handle, Handle::Writes { path, .. } if *path == from);
        if !self.quirks.renames {
            return Err(libc::EPERM);
        }
        if self.handles.values().any(is_written) {
            return Err(libc::EBUSY);
        }
        std::fs::rename(&from, &to).map_err(errno)?;
        self.forget(&to);
        self.paths.values_mut().filter(|path| **path == from).for_each(|path| path.clone_from(&to));
        self.store_late();
        Ok(Vec::new())
    }

    /// Forgets the node of a file that is gone. A new file there is another one.
    fn forget(&mut self, gone: &Path) {
        self.paths.values_mut().filter(|path| *path == gone).for_each(|path| *path = PathBuf::new());
    }

    fn add(&mut self, handle: Handle) -> u64 {
        self.next += 1;
        self.handles.insert(self.next, handle);
        self.next
    }

    /// The number of the node at `path`.
    fn node(&mut self, path: PathBuf) -> u64 {
        if let Some((node, _)) = self.paths.iter().find(|(_, known)| **known == path) {
            return *node;
        }
        self.next += 1;
        self.paths.insert(self.next, path);
        self.next
    }

    fn entry(&mut self, path: PathBuf) -> Answer {
        path.symlink_metadata().map_err(errno)?;
        let node = self.node(path);
        Ok([words![q node, q 0, q 0, q 0, w 0, w 0], self.attributes(node)?].concat())
    }

    fn attributes(&self, node: u64) -> Answer {
        let path = self.paths.get(&node).ok_or(libc::ENOENT)?;
        let found: Metadata = path.symlink_metadata().map_err(errno)?;
        let size = self.handles.values().find_map(|handle| match handle {
            Handle::Writes { path: written, bytes, is_stored: false } if written == path => Some(bytes.len() as u64),
            _ => None,
        });
        let (seconds, nanoseconds) = (found.mtime() as u64, found.mtime_nsec() as u32);
        Ok(words![
            q node, q size.unwrap_or(found.len()), q found.blocks(),
            q seconds, q seconds, q seconds, w nanoseconds, w nanoseconds, w nanoseconds,
            w found.mode(), w 1, w found.uid(), w found.gid(), w 0, w 4096, w 0,
        ])
    }
}
