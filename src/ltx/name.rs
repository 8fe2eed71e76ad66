//! The names of LTX files, `<min>-<max>.ltx`. Both TXIDs are written as 16 lower-case hexadecimal digits
//! (docs/FORMAT.md, "Key layouts").

use super::header::Header;
use super::{FormatError, Txid};

/// Parses the base name of a file into its min and max TXID. Returns None if it is not the name of an LTX file.
pub fn parse(name: &[u8]) -> Option<(Txid, Txid)> {
    let stem = name.strip_suffix(b".ltx")?;
    let (min, rest) = stem.split_at_checked(16)?;
    Some((Txid::parse_name(min)?, Txid::parse_name(rest.strip_prefix(b"-")?)?))
}

/// The base name of the file that holds the transactions `min` to `max`.
pub fn format(min: Txid, max: Txid) -> String {
    format!("{min}-{max}.ltx")
}

/// Checks that the header of a file has the TXIDs of its name, `min` and `max`.
///
/// # Errors
///
/// [`FormatError::NameDisagrees`] if it has others.
pub fn check_name(header: &Header, min: Txid, max: Txid) -> Result<(), FormatError> {
    if (header.min_txid, header.max_txid) == (min, max) {
        Ok(())
    } else {
        Err(FormatError::NameDisagrees { name: (min, max), header: (header.min_txid, header.max_txid) })
    }
}
