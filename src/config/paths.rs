//! Normalises paths as Litestream does: they become absolute and clean, and `~/` and `sqlite://` are resolved.

use super::{ConfigError, Env};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Makes the path of a database, as typed or configured, absolute and clean. A leading `sqlite://` or `sqlite3://`
/// is stripped, and `~/` becomes `$HOME`. The components `.` and `..` and doubled slashes are removed without
/// looking at the disk (docs/CLI.md, "hydrant restore").
pub fn clean_path(path: &Path, env: &Env<'_>) -> Result<PathBuf, ConfigError> {
    let bytes = path.as_os_str().as_bytes();
    let stripped = bytes.strip_prefix(b"sqlite3://").or_else(|| bytes.strip_prefix(b"sqlite://")).unwrap_or(bytes);
    if stripped.is_empty() {
        return Err(ConfigError::EmptyPath);
    }
    expand_home(Path::new(OsStr::from_bytes(stripped)), env)
}

/// Makes `path` absolute and clean, and replaces a leading `~` by `$HOME`.
pub(super) fn expand_home(path: &Path, env: &Env<'_>) -> Result<PathBuf, ConfigError> {
    let Ok(below_home) = path.strip_prefix("~") else { return absolute(path) };
    let home = env("HOME").filter(|home| !home.is_empty());
    let home = home.ok_or_else(|| ConfigError::HomeUnknown(path.to_owned()))?;
    absolute(&Path::new(&home).join(below_home))
}

fn absolute(path: &Path) -> Result<PathBuf, ConfigError> {
    if path.is_absolute() {
        return Ok(clean(path));
    }
    let current =
        std::env::current_dir().map_err(|error| ConfigError::NoCurrentDirectory { detail: error.to_string() })?;
    Ok(clean(&current.join(path)))
}

/// Cleans an absolute path without looking at the disk. A `..` at the root stays at the root.
fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    out
}

/// Joins `base` and `relative` by a slash and cleans the result. A leading slash of `base` stays, because it is
/// part of the key. A `..` never leads above the beginning.
pub(super) fn join_slash(base: &str, relative: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in base.split('/').chain(relative.split('/')) {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    let joined = names.join("/");
    if base.starts_with('/') { format!("/{joined}") } else { joined }
}

/// Joins two paths for messages. If `display` is a URL, `relative` is inserted before its query string.
pub(super) fn join_display(display: &str, relative: &str) -> String {
    let is_url = display.contains("://");
    let (base, query) = match display.split_once('?') {
        Some((base, query)) if is_url => (base, Some(query)),
        _ => (display, None),
    };
    let joined = format!("{}/{relative}", base.trim_end_matches('/'));
    match query {
        Some(query) => format!("{joined}?{query}"),
        None => joined,
    }
}
