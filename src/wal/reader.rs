//! Reads the WAL of one index, whose segments arrive in order, and checks every frame
//! (docs/FORMAT-V3.md, "WAL").
//!
//! SQLite ends a WAL at the first frame with a wrong salt or checksum. Here such a frame is an error: Litestream copies
//! no frame that it has not checked, so the frame was damaged later.

use super::error::{WalChecksum, WalError, WalFault};
use crate::ltx::{PageSize, Pgno};

/// The length of the WAL's header in bytes.
const HEADER: usize = 32;
/// The length in bytes of the header of a frame, which the page follows.
const FRAME_HEADER: usize = 24;
/// The number of bytes of the header that its checksum covers, and the offset of that checksum.
const HEADER_HASHED: usize = 24;
/// The number of bytes at the beginning of a frame's header that its checksum covers: page number and commit.
const NUMBERS: usize = 8;
const VERSION: u32 = 3_007_000;
/// The magic number of a WAL whose checksums read words in little-endian order. In all other places the WAL is
/// big-endian.
const MAGIC_LITTLE_ENDIAN: u32 = 0x377f_0682;
/// The magic number of a WAL whose checksums read words in big-endian order.
const MAGIC_BIG_ENDIAN: u32 = 0x377f_0683;

/// One frame of the WAL, which has passed every check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalFrame<'a> {
    /// The number of the frame in the index, from 1.
    pub number: u64,
    /// The number of the page, from 1. It may lie beyond the size that the transaction gives the database.
    pub pgno: Pgno,
    /// 0, or the size of the database in pages after the transaction that this frame ends.
    pub commit: u32,
    /// The content of the page.
    pub page: &'a [u8],
    /// The offset of the frame in the WAL, in bytes.
    pub offset: u64,
}

/// What the header of the WAL says.
#[derive(Debug, Clone, Copy)]
struct WalHeader {
    is_big_endian: bool,
    page_size: PageSize,
    /// Both salts, the first in the upper half.
    salts: u64,
}

/// The two words of a running checksum.
type Sum = [u32; 2];

/// The reader of the WAL of one index. Memory is bounded by one frame.
#[derive(Debug, Clone)]
pub struct WalReader {
    header: Option<WalHeader>,
    /// The length of the header and of all whole frames so far, in bytes.
    taken: u64,
    /// The beginning of the header or frame at `taken`, if the rest has not arrived.
    partial: Vec<u8>,
    /// The checksum of all that was taken.
    sum: Sum,
    frames: u64,
    last_commit: Option<(u64, u32)>,
}

impl Default for WalReader {
    fn default() -> Self {
        Self::new()
    }
}

impl WalReader {
    /// Creates a reader for an index, which begins at offset 0.
    pub const fn new() -> Self {
        Self { header: None, taken: 0, partial: Vec::new(), sum: [0; 2], frames: 0, last_commit: None }
    }

    /// The number of bytes of the WAL so far.
    pub const fn position(&self) -> u64 {
        self.taken.saturating_add(self.partial.len() as u64)
    }

    /// The page size. None until the whole header has arrived.
    pub fn page_size(&self) -> Option<PageSize> {
        self.header.map(|header| header.page_size)
    }

    /// The number of whole frames so far.
    pub const fn frames(&self) -> u64 {
        self.frames
    }

    /// The last commit so far: the number of frames up to it, the committing one included, and the size of the database
    /// in pages after it. None before the first commit.
    pub const fn last_commit(&self) -> Option<(u64, u32)> {
        self.last_commit
    }

    /// Whether frames follow the last commit, so that a transaction has begun and not ended.
    pub fn is_inside_transaction(&self) -> bool {
        self.frames > self.last_commit.map_or(0, |(frames, _)| frames)
    }

    /// Reads content of the current segment that follows, in chunks of any size. Calls `on_frame` for each frame, in
    /// order, once the frame has passed its checks. A frame that lies in `bytes` is not copied.
    ///
    /// # Errors
    ///
    /// Malformed or checksum mismatch, as a [`WalError`], and those of `on_frame`. After an error the reader must not
    /// be used any more.
    pub fn push<E: From<WalError>>(
        &mut self,
        bytes: &[u8],
        on_frame: &mut dyn FnMut(WalFrame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = bytes;
        let header = match self.header {
            Some(header) => header,
            None => match self.take_header(&mut rest)? {
                Some(header) => header,
                None => return Ok(()),
            },
        };
        let len = FRAME_HEADER + header.page_size.bytes();
        if !self.partial.is_empty() {
            if !self.complete(len, &mut rest) {
                return Ok(());
            }
            let mut frame = std::mem::take(&mut self.partial);
            self.take_frame(&header, &frame, on_frame)?;
            frame.clear();
            self.partial = frame;
        }
        // This loop ends: each turn takes a frame from `rest`.
        while let Some((frame, after)) = rest.split_at_checked(len) {
            self.take_frame(&header, frame, on_frame)?;
            rest = after;
        }
        self.partial.extend_from_slice(rest);
        Ok(())
    }

    /// Ends a segment. The next bytes belong to the segment that follows in the same index.
    ///
    /// # Errors
    ///
    /// Malformed if the segment ends inside a frame, or inside the header. A WAL without a header is malformed as well.
    pub fn end_segment(&mut self) -> Result<(), WalError> {
        let (found, offset) = (self.partial.len(), self.taken);
        let fault = match self.header {
            None => WalFault::HalfHeader { found, needed: HEADER },
            Some(header) if found > 0 => WalFault::HalfFrame { found, needed: FRAME_HEADER + header.page_size.bytes() },
            Some(_) => return Ok(()),
        };
        Err(WalError::Malformed { offset, fault })
    }

    /// Ends a WAL file that was still growing when it was read (the unpacked files of Litestream 0.3.0 to 0.3.4): drops
    /// the beginning of a frame, or of the header, at its end.
    pub fn end_growing(&mut self) {
        self.partial.clear();
    }

    /// Moves bytes from `rest` to `partial` until that has `len` bytes. Returns whether it has.
    fn complete(&mut self, len: usize, rest: &mut &[u8]) -> bool {
        let missing = len.saturating_sub(self.partial.len());
        let (front, after) = rest.split_at_checked(missing).unwrap_or((rest, &[]));
        self.partial.extend_from_slice(front);
        *rest = after;
        self.partial.len() == len
    }

    /// Takes the header from `rest`. Returns None if it has not arrived completely.
    fn take_header(&mut self, rest: &mut &[u8]) -> Result<Option<WalHeader>, WalError> {
        if !self.complete(HEADER, rest) {
            return Ok(None);
        }
        let (header, sum) = parse(self.partial.first_chunk().unwrap_or(&[0; HEADER]))?;
        self.sum = sum;
        self.taken = HEADER as u64;
        self.partial.clear();
        self.header = Some(header);
        Ok(Some(header))
    }

    /// Checks one whole frame and hands it to `on_frame`.
    #[inline]
    fn take_frame<E: From<WalError>>(
        &mut self,
        header: &WalHeader,
        frame: &[u8],
        on_frame: &mut dyn FnMut(WalFrame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (offset, number) = (self.taken, self.frames.saturating_add(1));
        let (frame, sum) = check_frame(header, self.sum, frame, number, offset)?;
        self.sum = sum;
        self.taken = offset.saturating_add((FRAME_HEADER + frame.page.len()) as u64);
        self.frames = number;
        if frame.commit != 0 {
            self.last_commit = Some((number, frame.commit));
        }
        on_frame(frame)
    }
}

/// Checks one whole frame. `sum` is the checksum of what precedes it. Returns the frame and the checksum up to its end.
#[inline]
fn check_frame<'a>(
    header: &WalHeader,
    sum: Sum,
    frame: &'a [u8],
    number: u64,
    offset: u64,
) -> Result<(WalFrame<'a>, Sum), WalError> {
    let half = || {
        let fault = WalFault::HalfFrame { found: frame.len(), needed: FRAME_HEADER };
        WalError::Malformed { offset, fault }
    };
    let (head, page) = frame.split_first_chunk::<FRAME_HEADER>().ok_or_else(half)?;
    let (words, _) = head.as_chunks();
    let &[pgno, commit, salt1, salt2, sum1, sum2] = words else { return Err(half()) };
    let mismatch = |what, stored, computed| Err(WalError::ChecksumMismatch { what, offset, stored, computed });
    let salts = joined([salt1, salt2].map(u32::from_be_bytes));
    if salts != header.salts {
        return mismatch(WalChecksum::Salts, salts, header.salts);
    }
    let (numbers, _) = head.split_at(NUMBERS);
    let computed = if header.is_big_endian {
        add::<true>(add::<true>(sum, numbers), page)
    } else {
        add::<false>(add::<false>(sum, numbers), page)
    };
    let stored = [sum1, sum2].map(u32::from_be_bytes);
    if computed != stored {
        return mismatch(WalChecksum::Frame, joined(stored), joined(computed));
    }
    let [pgno, commit] = [pgno, commit].map(u32::from_be_bytes);
    if pgno == 0 {
        return Err(WalError::Malformed { offset, fault: WalFault::PageZero });
    }
    Ok((WalFrame { number, pgno: Pgno(pgno), commit, page, offset }, computed))
}

/// Parses the header of the WAL. Returns its checksum as well, with which that of the first frame begins.
fn parse(bytes: &[u8; HEADER]) -> Result<(WalHeader, Sum), WalError> {
    let malformed = |fault| Err(WalError::Malformed { offset: 0, fault });
    let (words, _) = bytes.as_chunks();
    let &[magic, version, page_size, _, salt1, salt2, sum1, sum2] = words else {
        return malformed(WalFault::HalfHeader { found: 0, needed: HEADER });
    };
    let (hashed, _) = bytes.split_at(HEADER_HASHED);
    let (is_big_endian, computed) = match u32::from_be_bytes(magic) {
        MAGIC_LITTLE_ENDIAN => (false, add::<false>([0; 2], hashed)),
        MAGIC_BIG_ENDIAN => (true, add::<true>([0; 2], hashed)),
        found => return malformed(WalFault::WalMagic { found }),
    };
    // Before the fields: where it differs, one of them may have changed.
    let stored = [sum1, sum2].map(u32::from_be_bytes);
    if computed != stored {
        let (stored, computed) = (joined(stored), joined(computed));
        let offset = HEADER_HASHED as u64;
        return Err(WalError::ChecksumMismatch { what: WalChecksum::Header, offset, stored, computed });
    }
    let [version, found] = [version, page_size].map(u32::from_be_bytes);
    if version != VERSION {
        return malformed(WalFault::WalVersion { found: version });
    }
    let Some(page_size) = PageSize::new(found) else { return malformed(WalFault::PageSize { found }) };
    let salts = joined([salt1, salt2].map(u32::from_be_bytes));
    Ok((WalHeader { is_big_endian, page_size, salts }, computed))
}

/// Two words as one number, the first in the upper half.
const fn joined([first, second]: Sum) -> u64 {
    (first as u64) << 32 | second as u64
}

/// Adds `bytes`, a multiple of eight, to the checksum `sum`. The words are big-endian or little-endian.
#[inline]
fn add<const BIG_ENDIAN: bool>([mut s0, mut s1]: Sum, bytes: &[u8]) -> Sum {
    let (pairs, rest) = bytes.as_chunks::<8>();
    debug_assert!(rest.is_empty(), "the header and pages are multiples of eight bytes");
    for pair in pairs {
        let (x, y) = if BIG_ENDIAN {
            let pair = u64::from_be_bytes(*pair);
            ((pair >> 32) as u32, pair as u32)
        } else {
            let pair = u64::from_le_bytes(*pair);
            (pair as u32, (pair >> 32) as u32)
        };
        s0 = s0.wrapping_add(x).wrapping_add(s1);
        s1 = s1.wrapping_add(y).wrapping_add(s0);
    }
    [s0, s1]
}
