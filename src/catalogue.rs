//! Listed objects → databases → levels → files; pure and compact (≤ 1 KB per database of ten files).

use crate::ltx::{Level, Txid};
use crate::store::Etag;
use crate::timestamp::Timestamp;

/// Which of FORMAT §1's layouts a file's key has. The key is rebuilt from it, not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `<path>/<level as %04x>/<min>-<max>.ltx`
    Hex,
    /// `<path>/ltx/<level>/<min>-<max>.ltx`
    Decimal,
}

/// One LTX file of a database, as the listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LtxFile {
    pub min_txid: Txid,
    pub max_txid: Txid,
    pub size: u64,
    pub last_modified: Timestamp,
    pub etag: Option<Etag>,
    pub level: Level,
    pub layout: Layout,
    pub archived: bool,
}
