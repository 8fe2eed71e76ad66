//! The file with the metrics, as node_exporter's textfile collector reads it.

use super::run::RunMetrics;
use crate::commit::OwnFile;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// node_exporter runs as another user and must be able to read the file. The umask may take more away.
const MODE: u32 = 0o644;
/// An earlier file is read up to here. Hydrant writes about 6 KiB.
const MOST_BYTES: u64 = 1 << 20;

/// The file, which gets its name when the run has ended. Until then the file of an earlier run stays, and the collector
/// never sees half a file: it reads only names that end in `.prom`.
#[derive(Debug)]
pub struct MetricsTextfile(OwnFile);

impl MetricsTextfile {
    /// Creates the file under a temporary name, so that a run finds out at its beginning if it cannot be written.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = OwnFile::create(path)?;
        file.limit_mode(MODE)?;
        Ok(Self(file))
    }

    /// Whether the collector reads a file of this name.
    pub fn is_collected(path: &Path) -> bool {
        path.extension().is_some_and(|extension| extension == "prom")
    }

    /// Writes the metrics and gives the file its name. If the run was no success, the time of the last one is taken
    /// from the file that is there.
    ///
    /// # Errors
    /// The error of the kernel. The file of the earlier run then stays.
    pub fn write(self, metrics: &RunMetrics) -> io::Result<()> {
        let before = earlier(self.0.path());
        self.write_text(&metrics.to_text(&before))
    }

    /// Writes `text` and gives the file its name.
    ///
    /// # Errors
    /// The error of the kernel. The earlier file then stays.
    pub fn write_text(self, text: &str) -> io::Result<()> {
        self.0.file().write_all(text.as_bytes())?;
        self.0.publish()
    }
}

/// The text of an earlier run. Empty if there is none that can be read.
fn earlier(path: &Path) -> String {
    let read = || {
        let file = File::open(path)?;
        let mut text = String::new();
        file.take(MOST_BYTES).read_to_string(&mut text)?;
        io::Result::Ok(text)
    };
    // Reading a pipe would wait for a writer.
    if path.is_file() { read().unwrap_or_default() } else { String::new() }
}
