//! Parses a key of the bucket into the root of its database and the kind of file. Accepts exactly the structures in
//! docs/FORMAT.md, "Key layouts".

use super::Layout;
use super::v3::{self, Generation, V3Name};
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
    Ltx {
        level: Level,
        layout: Layout,
        min_txid: Txid,
        max_txid: Txid,
    },
    V3(V3Name),
    /// A file of a prerelease of Litestream 0.4.
    V3Prerelease,
}

/// Parses `key`. Returns None if it is not the key of a backup file.
pub(super) fn parse(key: &str) -> Option<ParsedKey<'_>> {
    let (dir, name) = key.rsplit_once('/')?;
    if name.ends_with(".ltx") { ltx(dir, name) } else { v3(dir, name) }
}

/// What the key of an LTX file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LtxKey<'a> {
    /// Everything before the directory of the level ([`crate::catalogue::Replica::root`]).
    pub root: &'a str,
    /// The layout of the key.
    pub layout: Layout,
    /// The level of the file.
    pub level: Level,
    /// The first transaction in the file.
    pub min_txid: Txid,
    /// The last transaction in the file.
    pub max_txid: Txid,
}

/// Parses the key of an LTX file. None for any other object.
pub fn ltx_key(key: &str) -> Option<LtxKey<'_>> {
    match parse(key)? {
        ParsedKey { root, kind: KeyKind::Ltx { layout, level, min_txid, max_txid } } => {
            Some(LtxKey { root, layout, level, min_txid, max_txid })
        }
        _ => None,
    }
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

/// Parses a key of Litestream 0.3 (docs/FORMAT-V3.md, "Where the files lie"): `generations/<generation>/snapshots/` or
/// `generations/<generation>/wal/` and a name. Recognises those of the prereleases of 0.4, too.
fn v3<'a>(dir: &'a str, name: &str) -> Option<ParsedKey<'a>> {
    // A prerelease of 0.4 has one directory more. A database may itself be called `generations`: the last one counts.
    let (before, last) = split_dir(dir);
    if matches!(last, "snapshots" | "wal")
        && let Some((root, generation)) = generation(before)
    {
        let parsed = if last == "snapshots" { v3::snapshot_name(name) } else { v3::wal_name(name) };
        let kind = match parsed {
            Some((index, kind)) => KeyKind::V3(V3Name { generation, index, kind }),
            None if v3::is_prerelease(dir.get(before.len()..)?, name) => KeyKind::V3Prerelease,
            None => return None,
        };
        return Some(ParsedKey { root, kind });
    }
    let (before, _) = split_dir(before.strip_suffix('/')?);
    let (root, _) = generation(before)?;
    v3::is_prerelease(dir.get(before.len()..)?, name).then_some(ParsedKey { root, kind: KeyKind::V3Prerelease })
}

/// Splits `…generations/<generation>/` into what comes before it and the generation.
fn generation(dir: &str) -> Option<(&str, Generation)> {
    let (before, name) = split_dir(dir.strip_suffix('/')?);
    let root = before.strip_suffix("generations/")?;
    let whole = root.is_empty() || root.ends_with('/');
    Some((root, Generation::parse(name)?)).filter(|_| whole)
}

fn is_hex(text: &str, min_len: usize, max_len: usize) -> bool {
    (min_len..=max_len).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Splits a path before its last name: `a/b/c` gives (`a/b/`, `c`), and `c` gives (empty, `c`).
fn split_dir(dir: &str) -> (&str, &str) {
    dir.split_at(dir.rfind('/').map_or(0, |slash| slash + 1))
}
