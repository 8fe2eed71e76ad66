//! Decodes stored objects. Each is one LZ4 frame (docs/FORMAT-V3.md, "LZ4"). Only the blocks are left to `lz4_flex`.

use super::error::{NaiveV3Error, fail};
use twox_hash::XxHash32;

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// The first bytes of an object that `age` has encrypted.
const AGE: &[u8] = b"age-encryption.org/v1";
/// A block may refer to this many bytes before it, if the blocks of the frame are linked.
const WINDOW: usize = 64 * 1024;

const FLAG_INDEPENDENT: u8 = 0x20;
const FLAG_BLOCK_CHECKSUM: u8 = 0x10;
const FLAG_CONTENT_SIZE: u8 = 0x08;
const FLAG_CONTENT_CHECKSUM: u8 = 0x04;
const FLAG_RESERVED: u8 = 0x02;
const FLAG_DICTIONARY: u8 = 0x01;

/// The rest of an object that has not been read yet.
struct Rest<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Rest<'a> {
    fn take(&mut self, len: usize, what: &str) -> Result<&'a [u8], NaiveV3Error> {
        let end = self.at.checked_add(len);
        match end.and_then(|end| self.bytes.get(self.at..end)) {
            Some(taken) => {
                self.at += len;
                Ok(taken)
            }
            None => fail("truncated", format!("the {what} at {} of {} bytes is cut off", self.at, self.bytes.len())),
        }
    }

    /// A little-endian number of `len` bytes.
    fn number(&mut self, len: usize, what: &str) -> Result<u64, NaiveV3Error> {
        Ok(self.take(len, what)?.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }
}

/// Decodes a stored object: exactly one LZ4 frame, with nothing before or after it. All checksums are verified.
pub fn decode_object(bytes: &[u8]) -> Result<Vec<u8>, NaiveV3Error> {
    let mut content = Vec::new();
    decode_until_damage(bytes, &mut content).map(|()| content)
}

/// As [`decode_object`]. After an error `content` has the blocks before the damage.
pub(super) fn decode_until_damage(bytes: &[u8], content: &mut Vec<u8>) -> Result<(), NaiveV3Error> {
    if bytes.is_empty() {
        return fail("truncated", "the object is empty");
    }
    if bytes.starts_with(AGE) {
        return fail("encrypted", "the object is an age file");
    }
    let known = bytes.len().min(MAGIC.len());
    if bytes[..known] != MAGIC[..known] {
        return fail("malformed", "the object does not begin with the magic number of LZ4");
    }
    let mut rest = Rest { bytes, at: 0 };
    rest.take(4, "magic number")?;
    let flags = rest.number(1, "frame header")? as u8;
    let sizes = rest.number(1, "frame header")? as u8;
    if flags >> 6 != 1 || flags & FLAG_RESERVED != 0 || sizes & 0x8f != 0 {
        return fail("malformed", format!("version or reserved bits of the frame header: {flags:02x} {sizes:02x}"));
    }
    let content_size = match flags & FLAG_CONTENT_SIZE != 0 {
        true => Some(rest.number(8, "content size")?),
        false => None,
    };
    if flags & FLAG_DICTIONARY != 0 {
        rest.take(4, "dictionary ID")?;
    }
    let computed = (XxHash32::oneshot(0, &bytes[4..rest.at]) >> 8) & 0xff;
    if rest.number(1, "header checksum")? != u64::from(computed) {
        return fail("checksum mismatch", "frame header");
    }
    if flags & FLAG_DICTIONARY != 0 {
        return fail("malformed", "the frame needs a dictionary");
    }
    let block_max = match sizes >> 4 {
        code @ 4..=7 => 1usize << (8 + 2 * code),
        code => return fail("malformed", format!("block size {code}")),
    };

    loop {
        let at = rest.at;
        let word = rest.number(4, "block size")? as u32;
        if word == 0 {
            break;
        }
        let len = (word & 0x7fff_ffff) as usize;
        if len > block_max {
            return fail("malformed", format!("the block at {at} has {len} bytes, at most {block_max} are allowed"));
        }
        let block = rest.take(len, "block")?;
        if flags & FLAG_BLOCK_CHECKSUM != 0 {
            let stored = rest.number(4, "block checksum")?;
            if stored != u64::from(XxHash32::oneshot(0, block)) {
                return fail("checksum mismatch", format!("block at {at}"));
            }
        }
        if word >> 31 == 1 {
            content.extend_from_slice(block);
            continue;
        }
        let window = match flags & FLAG_INDEPENDENT != 0 {
            true => &[],
            false => &content[content.len().saturating_sub(WINDOW)..],
        };
        let decoded = lz4_flex::block::decompress_with_dict(block, block_max, window);
        match decoded {
            Ok(decoded) => content.extend_from_slice(&decoded),
            Err(error) => return fail("malformed", format!("block at {at}: {error}")),
        }
    }
    if flags & FLAG_CONTENT_CHECKSUM != 0 {
        let stored = rest.number(4, "content checksum")?;
        if stored != u64::from(XxHash32::oneshot(0, content)) {
            return fail("checksum mismatch", "content of the frame");
        }
    }
    if content_size.is_some_and(|size| size != content.len() as u64) {
        return fail("malformed", format!("{} bytes instead of {content_size:?}", content.len()));
    }
    if rest.at != bytes.len() {
        return fail("malformed", format!("{} bytes follow the frame", bytes.len() - rest.at));
    }
    Ok(())
}
