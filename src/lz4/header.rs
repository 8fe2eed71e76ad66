//! The fields of an LZ4 frame: its header, and the field that stands before each block.

use twox_hash::XxHash32;

/// The magic number, with which each frame begins. It is stored in little-endian order.
pub(crate) const MAGIC: u32 = 0x184d_2204;
/// The length in bytes of the shortest frame header.
const SHORT_HEADER: usize = 7;
/// The length in bytes of a frame header with a content size, which is the longest that is accepted.
const LONG_HEADER: usize = 15;
/// The offset in bytes of the content size in a frame that stores it.
pub(crate) const CONTENT_SIZE_OFFSET: u64 = 6;
const FLG_VERSION_MASK: u8 = 0xc0;
const FLG_VERSION: u8 = 0x40;
const FLG_INDEPENDENT: u8 = 0x20;
const FLG_BLOCK_CHECKSUM: u8 = 0x10;
const FLG_CONTENT_SIZE: u8 = 0x08;
const FLG_CONTENT_CHECKSUM: u8 = 0x04;
const FLG_RESERVED: u8 = 0x02;
const FLG_DICTIONARY: u8 = 0x01;
/// The flags in the headers that [`encode_header`] writes: independent blocks and a content checksum.
const FLG_WRITTEN: u8 = FLG_VERSION | FLG_INDEPENDENT | FLG_CONTENT_CHECKSUM;
/// The block descriptor byte in the headers that [`encode_header`] writes: blocks of at most 64 KiB.
const BD_WRITTEN: u8 = 0x40;
/// The bit of a block's size that marks a block which is stored as it is.
const UNCOMPRESSED: u32 = 0x8000_0000;

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Whether no block refers to the content before it.
    pub(crate) is_independent: bool,
    pub(crate) has_block_checksums: bool,
    pub(crate) has_content_checksum: bool,
    pub(crate) content_size: Option<u64>,
    /// The most bytes that one block may have, stored or decoded: 64 KiB to 4 MiB.
    pub(crate) block_max: usize,
    /// The length of the header in bytes.
    pub(crate) len: usize,
}

/// A frame header that breaks a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderError {
    Rule(&'static str),
    Checksum { stored: u8, computed: u8 },
}

/// Parses the header of a frame. `Ok(Err(n))` means that at least `n` bytes are needed.
pub(crate) fn parse_header(buf: &[u8]) -> Result<Result<FrameHeader, usize>, HeaderError> {
    let Some((&magic, rest)) = buf.split_first_chunk::<4>() else { return Ok(Err(SHORT_HEADER)) };
    if u32::from_le_bytes(magic) != MAGIC {
        return Err(HeaderError::Rule("wrong magic number"));
    }
    let [flg, bd, rest @ ..] = rest else { return Ok(Err(SHORT_HEADER)) };
    if flg & FLG_VERSION_MASK != FLG_VERSION {
        return Err(HeaderError::Rule("unknown version"));
    }
    if flg & FLG_RESERVED != 0 || bd & 0x8f != 0 {
        return Err(HeaderError::Rule("reserved bits are set"));
    }
    if bd >> 4 < 4 {
        return Err(HeaderError::Rule("unknown block size"));
    }
    if flg & FLG_DICTIONARY != 0 {
        return Err(HeaderError::Rule("asks for a dictionary"));
    }
    let (content_size, rest) = if flg & FLG_CONTENT_SIZE == 0 {
        (None, rest)
    } else {
        let Some((&size, rest)) = rest.split_first_chunk::<8>() else { return Ok(Err(LONG_HEADER)) };
        (Some(u64::from_le_bytes(size)), rest)
    };
    let [stored, rest @ ..] = rest else {
        return Ok(Err(if content_size.is_some() { LONG_HEADER } else { SHORT_HEADER }));
    };
    let len = buf.len() - rest.len();
    let descriptor = buf.get(4..len - 1).unwrap_or_default();
    let computed = (XxHash32::oneshot(0, descriptor) >> 8) as u8;
    if *stored != computed {
        return Err(HeaderError::Checksum { stored: *stored, computed });
    }
    Ok(Ok(FrameHeader {
        is_independent: flg & FLG_INDEPENDENT != 0,
        has_block_checksums: flg & FLG_BLOCK_CHECKSUM != 0,
        has_content_checksum: flg & FLG_CONTENT_CHECKSUM != 0,
        content_size,
        // The three bits are 4 to 7 here, and stand for 64 KiB, 256 KiB, 1 MiB and 4 MiB.
        block_max: 1 << (8 + 2 * (bd >> 4)),
        len,
    }))
}

/// The field before a block in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockField {
    /// A block of `len` bytes follows. If it is raw, they are the content as it is.
    Block { len: usize, is_raw: bool },
    /// No block follows.
    EndMark,
}

impl BlockField {
    #[inline]
    pub(crate) const fn parse(field: [u8; 4]) -> Self {
        match u32::from_le_bytes(field) {
            0 => Self::EndMark,
            field => Self::Block { len: (field & !UNCOMPRESSED) as usize, is_raw: field & UNCOMPRESSED != 0 },
        }
    }

    /// The field of a block of `len` bytes, which must be less than 2³¹.
    pub(crate) const fn encode(len: u32, is_raw: bool) -> [u8; 4] {
        (if is_raw { len | UNCOMPRESSED } else { len }).to_le_bytes()
    }
}

/// Appends to `out` the header of a frame with independent blocks of at most 64 KiB and a content checksum.
pub(crate) fn encode_header(out: &mut Vec<u8>) {
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&[FLG_WRITTEN, BD_WRITTEN]);
    out.push((XxHash32::oneshot(0, &[FLG_WRITTEN, BD_WRITTEN]) >> 8) as u8);
}
