//! Messages for the operator. Most are about a `-force` that an earlier run began and did not finish: the database is
//! complete again, or some of its files still have temporary names, and why.

use crate::io::{shown, text_of};
use rustix::io::Errno;
use std::fmt;
use std::path::PathBuf;

/// What the clean-up after a killed run (`sweep`) did or left, apart from deleting temporary files without
/// value, and how this run writes its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// An earlier run had renamed sidecars (-wal, -journal) of `database`. They have their original names
    /// again. `files` are these names.
    PutBack {
        /// Path of the database.
        database: PathBuf,
        /// Paths of the sidecars.
        files: Vec<PathBuf>,
    },
    /// An earlier run had exchanged the file at `path` by mistake. The file is back at `path`.
    FilePutBack {
        /// Path of the file, which is the output path of that run.
        path: PathBuf,
    },
    /// `files` belong or belonged to `database` and still have temporary names, for the reason `why`.
    Kept {
        /// Path of the database.
        database: PathBuf,
        /// Paths of the files, with their temporary names.
        files: Vec<PathBuf>,
        /// Why the files were not put back.
        why: Why,
    },
    /// A temporary file of this run could not be removed.
    LeftBehind {
        /// Path of the file.
        path: PathBuf,
        /// Why the kernel refused to remove it.
        errno: Errno,
    },
    /// The databases of this run are staged, as their file system takes bytes in order only.
    Staged {
        /// The directory in which they are staged.
        dir: PathBuf,
        /// The directory to which the first one is copied then.
        to: PathBuf,
    },
}

impl Notice {
    /// Whether the operator has to know it. Otherwise it is only an explanation.
    pub const fn is_warning(&self) -> bool {
        !matches!(self, Self::Staged { .. })
    }
}

/// Why files of a database were left under their temporary names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Another process uses the database.
    InUse {
        /// Process id. None: not known.
        pid: Option<u32>,
    },
    /// A program wrote to the database while its sidecars were aside. They no longer match the database.
    Changed,
    /// Other files exist now under the original names of the sidecars (-wal, -shm, -journal).
    Occupied,
    /// The file at the destination is a different database, or no file is there.
    Another,
    /// The files are the replaced database and its sidecars. The new database, which had replaced them, no
    /// longer exists, so they may be the only copy of the data.
    NewIsLost,
    /// The kernel refused, with this error, a system call that would have put the files back.
    Refused(Errno),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |files: &[PathBuf]| files.iter().map(|file| shown(file)).collect::<Vec<_>>().join(", ");
        match self {
            Self::PutBack { database, files } => write!(
                f,
                "a -force on {} was interrupted before the database was replaced: what had been moved aside is back \
                 in its place ({})",
                shown(database),
                list(files)
            ),
            Self::FilePutBack { path } => write!(
                f,
                "a restore to {} was interrupted while it undid an exchange: the file that stood there is back",
                shown(path)
            ),
            Self::LeftBehind { path, errno } => write!(
                f,
                "{} could not be removed: {}. The next restore into that directory removes it",
                shown(path),
                text_of(*errno)
            ),
            Self::Staged { dir, to } => write!(
                f,
                "databases are staged in {} and copied, because the file system of {} takes bytes in order only",
                shown(dir),
                shown(to)
            ),
            Self::Kept { database, files, why } => {
                let (database, files) = (shown(database), list(files));
                write!(f, "a -force on {database} was interrupted and left {files}, which ")?;
                match why {
                    Why::InUse { pid } => {
                        let by = pid.map_or("another process".to_owned(), |pid| format!("process {pid}"));
                        write!(
                            f,
                            "belongs to the database and may hold its last transactions; it cannot be put back while \
                             {by} uses the database: stop that and run this again"
                        )
                    }
                    Why::Changed => write!(
                        f,
                        "no longer fits the database: that was written to since. It may hold the last transactions \
                         from before; nothing removes it, delete it when it is of no use"
                    ),
                    Why::Occupied => write!(
                        f,
                        "was not put back, as another stands in its place. It may hold the last transactions from \
                         before; nothing removes it, delete it when it is of no use"
                    ),
                    Why::Another => write!(
                        f,
                        "belongs to a database that no longer stands there; nothing removes it, delete it when it is \
                         of no use"
                    ),
                    Why::NewIsLost => write!(
                        f,
                        "is the old database: the new one is gone. Move it back if you need it, it is deleted once \
                         another database stands there"
                    ),
                    Why::Refused(errno) => {
                        write!(f, "belongs to the database and could not be put back: {}", text_of(*errno))
                    }
                }
            }
        }
    }
}
