//! Folders as buckets: read as they are served, and written by the generator.

use super::objects::Objects;
use crate::sim::generate::GeneratedDatabase;
use std::io;
use std::path::Path;

/// At the root of a folder that is a bucket: what S3 knows of the objects beside their bytes.
/// `{"objects": [{"key", "size", "metadata": {"litestream-timestamp": …}, "last_modified": …}]}`.
pub const SIDECAR: &str = ".hydrant-meta.json";

pub(super) fn load(
    _objects: &Objects,
    _bucket: &str,
    _prefix: &str,
    _folder: &Path,
    _manifest: Option<&Path>,
) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Writes databases as a bucket's folder with its [`SIDECAR`].
pub fn write_folder(_folder: &Path, _databases: &[GeneratedDatabase]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
