//! Parses a key of the bucket into the root of its database and the kind of file. Accepts exactly the structures in
//! docs/FORMAT.md, "Key layouts".

use super::Layout;
use crate::ltx::{Level, Txid};

/// The result of parsing the key of a backup file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ParsedKey<'a> {
    /// Everything in the key before the directory of the level, or before `generations/`.
    pub root: &'a str,
    pub kind: KeyKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyKind {
    Ltx { level: Level, layout: Layout, min_txid: Txid, max_txid: Txid },
    V3Snapshot,
    V3Wal,
}

/// Parses `key`. Returns None if it is not the key of a backup file.
pub(super) fn parse(key: &str) -> Option<ParsedKey<'_>> {
    let (dir, name) = key.rsplit_once('/')?;
    if name.ends_with(".ltx") { ltx(dir, name) } else { v3(dir, name) }
}

/// The root of the replica that `path` lies in, as its name shows: a directory of a replica (with or without a slash at
/// its end), or a backup file.
pub fn root_of(path: &str) -> Option<&str> {
    let (dir, name) = split_dir(path.strip_suffix('/').unwrap_or(path));
    let whole = |root: &str| root.is_empty() || root.ends_with('/');
    let is_digit = |name: &str| matches!(name.as_bytes(), [b'0'..=b'9']);
    if name.strip_prefix("000").is_some_and(is_digit) || matches!(name, "ltx" | "generations") {
        return Some(dir);
    }
    if is_digit(name) {
        return dir.strip_suffix("ltx/").filter(|root| whole(root));
    }
    let (dir, name) = match name {
        "snapshots" | "wal" => split_dir(dir.strip_suffix('/')?),
        _ => (dir, name),
    };
    let of_generation = dir.strip_suffix("generations/").filter(|root| whole(root) && is_hex(name, 16, 16));
    of_generation.or_else(|| parse(path).map(|parsed| parsed.root))
}

fn ltx<'a>(dir: &'a str, name: &str) -> Option<ParsedKey<'a>> {
    let (min, max) = name.strip_suffix(".ltx")?.split_once('-')?;
    let min_txid = Txid::parse_name(min.as_bytes())?;
    let max_txid = Txid::parse_name(max.as_bytes())?;
    if min_txid == Txid(0) || min_txid > max_txid {
        return None;
    }
    let (before, level) = split_dir(dir);
    let (root, digit, layout) = match *level.as_bytes() {
        [b'0', b'0', b'0', digit] => (before, digit, Layout::Hex),
        [digit] => (before.strip_suffix("ltx/")?, digit, Layout::Decimal),
        _ => return None,
    };
    // The directory must be named exactly `ltx`. A key such as `…/myltx/0/` is not in the decimal layout.
    if layout == Layout::Decimal && !(root.is_empty() || root.ends_with('/')) {
        return None;
    }
    let level = digit.checked_sub(b'0').and_then(Level::new)?;
    Some(ParsedKey { root, kind: KeyKind::Ltx { level, layout, min_txid, max_txid } })
}

/// Parses the two kinds of keys of Litestream 0.3: `generations/<16 hex>/snapshots/<8 hex>.snapshot.lz4` and
/// `generations/<16 hex>/wal/<8 hex>_<8 to 16 hex>.wal.lz4`.
fn v3<'a>(dir: &'a str, name: &str) -> Option<ParsedKey<'a>> {
    let (before, kind) = split_dir(dir);
    let kind = match kind {
        "snapshots" if is_hex(name.strip_suffix(".snapshot.lz4")?, 8, 8) => KeyKind::V3Snapshot,
        "wal" => {
            let (index, offset) = name.strip_suffix(".wal.lz4")?.split_once('_')?;
            if !is_hex(index, 8, 8) || !is_hex(offset, 8, 16) {
                return None;
            }
            KeyKind::V3Wal
        }
        _ => return None,
    };
    let (before, generation) = split_dir(before.strip_suffix('/')?);
    let root = before.strip_suffix("generations/")?;
    let whole = root.is_empty() || root.ends_with('/');
    (whole && is_hex(generation, 16, 16)).then_some(ParsedKey { root, kind })
}

fn is_hex(text: &str, min_len: usize, max_len: usize) -> bool {
    (min_len..=max_len).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Splits a path before its last name: `a/b/c` gives (`a/b/`, `c`), and `c` gives (empty, `c`).
fn split_dir(dir: &str) -> (&str, &str) {
    dir.split_at(dir.rfind('/').map_or(0, |slash| slash + 1))
}
