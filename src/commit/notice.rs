//! Messages to the operator about an interrupted replacement: a database is whole again, or some of its files are
//! still under temporary names, and why.

use crate::io::{shown, text_of};
use rustix::io::Errno;
use std::fmt;
use std::path::PathBuf;

/// What a sweep did about an interrupted replacement, apart from deleting debris, and what a run left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Sidecars of the database had been moved aside. They are back in place.
    PutBack { database: PathBuf, files: Vec<PathBuf> },
    /// The file at the destination had been moved aside. It is back in place.
    FilePutBack { path: PathBuf },
    /// Files that belong or belonged to the database stay under their temporary names.
    Kept { database: PathBuf, files: Vec<PathBuf>, why: Why },
    /// A temporary file of this run could not be removed.
    LeftBehind { path: PathBuf, errno: Errno },
}

/// Why files were not put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Another program uses the database.
    InUse { pid: Option<u32> },
    /// A program wrote to the database without them, so they no longer fit.
    Changed,
    /// Other sidecars are in their place.
    Occupied,
    /// The file at the destination is another database, or there is none.
    Another,
    /// They are the replaced database and its sidecars, and the new database is gone.
    NewIsLost,
    /// The kernel refused.
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
