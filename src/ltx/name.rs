//! Names of LTX files: `<min>-<max>.ltx`, TXIDs as 16 lower-case hex digits (docs/FORMAT.md, "Key
//! layouts").

use super::header::Header;
use super::{FormatError, Txid};

/// (min, max) of a file's base name; None where it is no name of an LTX file.
pub fn parse(name: &[u8]) -> Option<(Txid, Txid)> {
    let stem = name.strip_suffix(b".ltx")?;
    let (min, rest) = stem.split_at_checked(16)?;
    Some((Txid::parse_name(min)?, Txid::parse_name(rest.strip_prefix(b"-")?)?))
}

/// The base name of the file that holds `min` to `max`.
pub fn format(min: Txid, max: Txid) -> String {
    format!("{min}-{max}.ltx")
}

/// Checks that a file is what its name says; otherwise [`FormatError::NameDisagrees`].
pub fn check_name(header: &Header, min: Txid, max: Txid) -> Result<(), FormatError> {
    if (header.min_txid, header.max_txid) == (min, max) {
        Ok(())
    } else {
        Err(FormatError::NameDisagrees { name: (min, max), header: (header.min_txid, header.max_txid) })
    }
}
