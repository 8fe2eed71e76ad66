//! The LTX file format (FORMAT §2): slices in, values or errors out. No I/O, no unsafe, and no
//! allocation whose size a file asks for.
//!
//! ```text
//! header 100 B | page frame … | end-of-pages 6 B zero | page index | index size u64 | trailer 16 B
//! ```

mod types;

pub use types::{Level, PageSize, Pgno, Txid};
