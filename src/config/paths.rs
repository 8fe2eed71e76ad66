//! Paths as Litestream makes them: absolute, clean, `~/` and `sqlite://` understood.

use super::{ConfigError, Env};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// A database's path as typed or configured, made absolute and clean: `sqlite://` and
/// `sqlite3://` are stripped, `~/` is `$HOME`, `.`, `..` and doubled slashes are resolved by
/// their text alone (docs/CLI.md, "hydrant restore").
pub fn clean_path(path: &Path, env: &Env<'_>) -> Result<PathBuf, ConfigError> {
    let bytes = path.as_os_str().as_bytes();
    let stripped = bytes.strip_prefix(b"sqlite3://").or_else(|| bytes.strip_prefix(b"sqlite://")).unwrap_or(bytes);
    if stripped.is_empty() {
        return Err(ConfigError::EmptyPath);
    }
    expand_home(Path::new(OsStr::from_bytes(stripped)), env)
}

/// `path` absolute and clean, with `~` and `~/` replaced by `$HOME`.
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

/// Cleans an absolute path by its text; `..` at the root stays at the root.
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

/// `base` and `relative` joined by a slash and cleaned; a leading slash of `base` stays (it is
/// part of the key), a `..` never climbs above the beginning.
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

/// The same for people: `relative` goes before a URL's query string.
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
