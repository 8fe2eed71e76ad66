//! Makes pages that look like the leaf pages of a table: a short head, then records of keys, random bytes and
//! words. LZ4 compresses them to about half, as it does most real databases.

use crate::sim::random::{Random, mix};

const WORDS: [&[u8; 8]; 32] = [
    b"account ",
    b"address ",
    b"archive ",
    b"balance ",
    b"booking ",
    b"channel ",
    b"clients ",
    b"company ",
    b"country ",
    b"credit, ",
    b"deleted ",
    b"detail, ",
    b"discount",
    b"domain: ",
    b"enabled ",
    b"feature ",
    b"foreign ",
    b"history ",
    b"invoice ",
    b"keyword ",
    b"machine ",
    b"message ",
    b"network ",
    b"number: ",
    b"package ",
    b"payment ",
    b"present ",
    b"profile ",
    b"publish ",
    b"receipt ",
    b"service ",
    b"shipped ",
];

/// The number of random bytes in one record of a generated page.
const RANDOM_BYTES: usize = 16;
/// The number of words in one record of a generated page.
const RECORD_WORDS: usize = 8;

/// Fills `page` with page number `pgno` as the transaction number `version` left it. Another seed, page number or
/// version gives other bytes.
pub fn fill_page(seed: u64, pgno: u32, version: u32, page: &mut [u8]) {
    let mut random = Random::new(mix(seed) ^ (u64::from(pgno) << 32 | u64::from(version)));
    let mut head = [0u8; 16];
    head[0] = 0x0d;
    head[8..12].copy_from_slice(&pgno.to_be_bytes());
    head[12..].copy_from_slice(&version.to_be_bytes());
    let head_len = head.len().min(page.len());
    let (front, rest) = page.split_at_mut(head_len);
    front.copy_from_slice(&head[..head_len]);
    for record in rest.chunks_mut(RANDOM_BYTES + RECORD_WORDS * 8) {
        let (noise, text) = record.split_at_mut(RANDOM_BYTES.min(record.len()));
        for bytes in noise.chunks_mut(8) {
            let value = random.next_u64().to_le_bytes();
            bytes.copy_from_slice(&value[..bytes.len()]);
        }
        let mut choice = random.next_u64();
        for bytes in text.chunks_mut(8) {
            let word = WORDS[(choice & 31) as usize];
            choice >>= 5;
            bytes.copy_from_slice(&word[..bytes.len()]);
        }
    }
}
