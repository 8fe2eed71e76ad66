//! A slow and simple restorer with which the real one is compared. It was written from docs/FORMAT.md alone and
//! shares no code with `ltx` or `plan`. It reads whole files, keeps pages in a map, and checks everything. Its
//! memory use is not bounded, so it must not be used for files from strangers.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};

const CHECKSUM_BIT: u64 = 1 << 63;

/// An LTX file after the naive decoder has decoded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NaiveFile {
    /// The flags of the file's header.
    pub flags: u32,
    /// The page size of the database in bytes.
    pub page_size: u32,
    /// The size of the database in pages after this file.
    pub commit: u32,
    /// The first TXID in the file.
    pub min_txid: u64,
    /// The last TXID in the file.
    pub max_txid: u64,
    /// The time in the header, in milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The checksum of the database before this file. 0 if it is not tracked.
    pub pre_apply_checksum: u64,
    /// The checksum of the database after this file. 0 if it is not tracked.
    pub post_apply_checksum: u64,
    /// The decoded pages of the file, by page number.
    pub pages: BTreeMap<u32, Vec<u8>>,
}

/// Why a file or a chain is not right, in words. All functions here return it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NaiveError(pub String);

fn wrong<T>(why: impl Into<String>) -> Result<T, NaiveError> {
    Err(NaiveError(why.into()))
}

/// The naive decoder's own CRC-64/GO-ISO. It is computed byte by byte with a table.
struct Crc(u64);

static CRC_TABLE: [u64; 256] = crc_table();

const fn crc_table() -> [u64; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xd800_0000_0000_0000 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

impl Crc {
    fn new() -> Self {
        Self(!0)
    }

    fn update(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = CRC_TABLE.get(usize::from(self.0 as u8 ^ byte)).copied().unwrap_or(0) ^ self.0 >> 8;
        }
    }

    fn finish(&self) -> u64 {
        !self.0
    }
}

/// A cursor over the bytes of a file. It knows its offset, which errors name.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], NaiveError> {
        let end = self.at.checked_add(len);
        match end.and_then(|end| self.bytes.get(self.at..end)) {
            Some(taken) => {
                self.at += len;
                Ok(taken)
            }
            None => wrong(format!("truncated: {len} bytes wanted at {} of {}", self.at, self.bytes.len())),
        }
    }

    fn number(&mut self, len: usize) -> Result<u64, NaiveError> {
        Ok(self.take(len)?.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    fn uvarint(&mut self) -> Result<u64, NaiveError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.number(1)?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        wrong("a varint of the index is too long")
    }
}

/// The checksum of a page in a file that tracks checksums (docs/FORMAT.md, "Trailer and checksums").
fn page_checksum(pgno: u32, page: &[u8]) -> u64 {
    let mut crc = Crc::new();
    crc.update(&pgno.to_be_bytes());
    crc.update(page);
    crc.finish() | CHECKSUM_BIT
}

fn lock_page(page_size: u32) -> u32 {
    0x4000_0000 / page_size + 1
}

/// Decodes and checks a whole LTX file (docs/FORMAT.md).
pub fn decode_file(bytes: &[u8]) -> Result<NaiveFile, NaiveError> {
    let mut file = Reader { bytes, at: 0 };
    let mut crc = Crc::new();
    if file.number(4)? != 0x4c54_5831 {
        return wrong("malformed: magic");
    }
    let flags = file.number(4)? as u32;
    let page_size = file.number(4)? as u32;
    let commit = file.number(4)? as u32;
    let min_txid = file.number(8)?;
    let max_txid = file.number(8)?;
    let timestamp_ms = file.number(8)? as i64;
    let pre_apply_checksum = file.number(8)?;
    // The WAL offset, WAL size, two salts and the node ID do not matter to a restore.
    file.take(8 + 8 + 4 + 4 + 8)?;
    if file.take(100 - 80)?.iter().any(|&byte| byte != 0) {
        return wrong("malformed: padding of the header");
    }
    if flags & !2 != 0 || !(512..=65536).contains(&page_size) || !page_size.is_power_of_two() {
        return wrong("malformed: flags or page size");
    }
    let tracked = flags & 2 == 0;
    let pre_apply_present = pre_apply_checksum & CHECKSUM_BIT != 0;
    if min_txid == 0 || min_txid > max_txid {
        return wrong("malformed: TXIDs");
    }
    if (pre_apply_checksum != 0 || tracked && min_txid != 1) && (!tracked || min_txid == 1 || !pre_apply_present) {
        return wrong("malformed: pre-apply checksum");
    }
    crc.update(bytes.get(..100).unwrap_or(bytes));

    let mut pages = BTreeMap::new();
    let mut frames = Vec::new();
    let mut previous = 0;
    loop {
        let start = file.at;
        let head = file.take(6)?;
        let pgno = head.iter().take(4).fold(0u32, |value, &byte| value << 8 | u32::from(byte));
        let flags = head.iter().skip(4).fold(0u32, |value, &byte| value << 8 | u32::from(byte));
        crc.update(head);
        if pgno == 0 {
            if flags != 0 {
                return wrong("malformed: the end of the pages has flags");
            }
            break;
        }
        if pgno <= previous || pgno == lock_page(page_size) || (min_txid == 1 && pgno > commit) {
            return wrong(format!("malformed: page {pgno} at {start} after page {previous} of {commit}"));
        }
        previous = pgno;
        let page = match flags {
            1 => {
                let size = file.take(4)?;
                crc.update(size);
                let size = size.iter().fold(0usize, |value, &byte| value << 8 | usize::from(byte));
                let block = file.take(size)?;
                // The limit is one byte more than a page, so that a page that is too long is noticed.
                lz4_flex::block::decompress(block, page_size as usize + 1)
                    .map_err(|error| NaiveError(format!("malformed: page {pgno} at {start}: {error}")))?
            }
            0 => {
                let rest = bytes.get(file.at..).unwrap_or(&[]);
                let frame = file.take(frame_len(rest)?)?;
                let mut decoder = lz4_flex::frame::FrameDecoder::new(Cursor::new(frame));
                let mut page = Vec::new();
                loop {
                    // The decoder of `lz4_flex` takes an empty block for the end of the data. This loop instead
                    // reads to the end of the frame.
                    let before = decoder.get_ref().position();
                    let room = (u64::from(page_size) + 1).saturating_sub(page.len() as u64);
                    decoder
                        .by_ref()
                        .take(room)
                        .read_to_end(&mut page)
                        .map_err(|error| NaiveError(format!("malformed: page {pgno} at {start}: {error}")))?;
                    let at = decoder.get_ref().position();
                    if at == before || at == frame.len() as u64 {
                        break;
                    }
                }
                page
            }
            other => return wrong(format!("malformed: flags {other} of page {pgno} at {start}")),
        };
        if page.len() != page_size as usize {
            return wrong(format!("malformed: page {pgno} at {start} has {} bytes", page.len()));
        }
        crc.update(&page);
        frames.push((u64::from(pgno), start as u64, (file.at - start) as u64));
        pages.insert(pgno, page);
    }
    if min_txid == 1 {
        for pgno in 1..=commit {
            if pgno != lock_page(page_size) && !pages.contains_key(&pgno) {
                return wrong(format!("malformed: a snapshot without page {pgno}"));
            }
        }
    }

    let index_start = file.at;
    for (pgno, offset, size) in frames {
        if (file.uvarint()?, file.uvarint()?, file.uvarint()?) != (pgno, offset, size) {
            return wrong(format!("malformed: the index disagrees with the frame of page {pgno}"));
        }
    }
    if file.uvarint()? != 0 {
        return wrong("malformed: the index does not end");
    }
    let index_size = (file.at - index_start) as u64;
    if file.number(8)? != index_size {
        return wrong("malformed: size of the index");
    }
    let post_apply_checksum = file.number(8)?;
    crc.update(bytes.get(index_start..file.at).unwrap_or(&[]));
    let file_checksum = file.number(8)?;
    if file.at != bytes.len() {
        return wrong(format!("malformed: {} bytes after the trailer", bytes.len() - file.at));
    }
    if crc.finish() | CHECKSUM_BIT != file_checksum {
        return wrong("checksum mismatch of the file");
    }
    if (tracked && post_apply_checksum & CHECKSUM_BIT == 0) || (!tracked && post_apply_checksum != 0) {
        return wrong("malformed: post-apply checksum");
    }
    Ok(NaiveFile {
        flags,
        page_size,
        commit,
        min_txid,
        max_txid,
        timestamp_ms,
        pre_apply_checksum,
        post_apply_checksum,
        pages,
    })
}

/// The length in bytes of the LZ4 frame at the beginning of `bytes`: header, blocks with their sizes, end mark and
/// content checksum.
fn frame_len(bytes: &[u8]) -> Result<usize, NaiveError> {
    let at = |at: usize| bytes.get(at).copied().map(usize::from).ok_or(NaiveError("truncated: LZ4 frame".into()));
    let flags = at(4)?;
    let mut len = 4 + 2 + 1;
    if flags & 0x08 != 0 {
        len += 8;
    }
    if flags & 0x01 != 0 {
        len += 4;
    }
    loop {
        let size = at(len)? | at(len + 1)? << 8 | at(len + 2)? << 16 | at(len + 3)? << 24;
        len += 4;
        if size == 0 {
            break;
        }
        len += size & 0x7fff_ffff;
        if flags & 0x10 != 0 {
            len += 4;
        }
    }
    if flags & 0x04 != 0 {
        len += 4;
    }
    Ok(len)
}

/// Merges the files of a plan, oldest first, into the database (docs/FORMAT.md, "The restored database").
pub fn restore<'a>(files: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<u8>, NaiveError> {
    let mut pages: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let mut last: Option<NaiveFile> = None;
    for bytes in files {
        let mut file = decode_file(bytes)?;
        match &last {
            None if file.min_txid != 1 => return wrong("the chain does not begin at 1"),
            Some(last) if file.min_txid > last.max_txid + 1 => {
                return wrong(format!("hole between {} and {}", last.max_txid, file.min_txid));
            }
            Some(last) if file.page_size != last.page_size => return wrong("malformed: the page size changes"),
            _ => {}
        }
        pages.append(&mut file.pages);
        last = Some(file);
    }
    let Some(last) = last else { return wrong("no files") };
    let page_bytes = last.page_size as usize;
    let mut database = Vec::with_capacity(last.commit as usize * page_bytes);
    let mut checksum = 0;
    for pgno in 1..=last.commit {
        if pgno == lock_page(last.page_size) {
            database.resize(database.len() + page_bytes, 0);
            continue;
        }
        let Some(page) = pages.get(&pgno) else { return wrong(format!("no file holds page {pgno}")) };
        database.extend_from_slice(page);
        if last.flags & 2 == 0 {
            checksum ^= page_checksum(pgno, page);
        }
    }
    if last.flags & 2 == 0 && checksum | CHECKSUM_BIT != last.post_apply_checksum {
        return wrong("checksum mismatch of the database");
    }
    Ok(database)
}

/// The facts about a file that decide whether it is planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NaiveEntry {
    /// The compaction level of the file.
    pub level: u8,
    /// The first TXID in the file, from its name.
    pub min_txid: u64,
    /// The last TXID in the file, from its name.
    pub max_txid: u64,
    /// The creation time in nanoseconds since the Unix epoch.
    pub time_ns: i64,
}

/// The state that the naive planner is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NaiveTarget {
    /// The newest state of the replica.
    Latest,
    /// The state after exactly this TXID.
    Txid(u64),
    /// The newest state of files that were created strictly before this time, in nanoseconds since the Unix epoch.
    Before(i64),
}

/// Chooses the files to restore from, as indexes into `entries`, oldest first (docs/FORMAT.md, "Choosing the
/// files"). The rules about holes are left out: the chain ends where no file continues it.
pub fn plan(entries: &[NaiveEntry], target: NaiveTarget) -> Result<Vec<usize>, NaiveError> {
    let within = |entry: &NaiveEntry| match target {
        NaiveTarget::Latest => true,
        NaiveTarget::Txid(txid) => entry.max_txid <= txid,
        NaiveTarget::Before(time) => entry.time_ns < time,
    };
    let eligible = || entries.iter().enumerate().filter(|(_, entry)| within(entry));
    let mut chain = Vec::new();
    let mut reached = 0;
    if let Some((at, entry)) = eligible().filter(|(_, entry)| entry.level == 9).max_by_key(|(_, entry)| entry.max_txid)
    {
        chain.push(at);
        reached = entry.max_txid;
    }
    while let Some((at, entry)) = eligible()
        .filter(|(_, entry)| entry.level < 9 && entry.min_txid <= reached + 1 && entry.max_txid > reached)
        .max_by_key(|(_, entry)| {
            use std::cmp::Reverse;
            (entry.max_txid, Reverse(entry.min_txid), entry.level, Reverse(entry.time_ns))
        })
    {
        chain.push(at);
        reached = entry.max_txid;
    }
    match target {
        _ if chain.is_empty() => wrong("nothing to begin with"),
        NaiveTarget::Txid(txid) if reached != txid => wrong(format!("txid not reachable: {reached} instead of {txid}")),
        _ => Ok(chain),
    }
}

#[cfg(test)]
#[path = "naive_tests.rs"]
mod tests;
