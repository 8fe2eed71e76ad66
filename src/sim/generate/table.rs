//! Generates a SQLite database with one table, page by page. Any page can be computed without the others: the
//! number of pages gives the shape of the table's b-tree, and a seed gives the rows. The format is described in
//! <https://www.sqlite.org/fileformat2.html>, sections 1 and 2.
//!
//! The database holds, in this order: the page with the schema, the inner pages of the b-tree from the root down,
//! its leaves, and free pages. There are free pages only if no b-tree has exactly the wanted number of pages. LZ4
//! compresses the pages to about half.

use crate::ltx::{PageSize, Pgno};
use crate::sim::random::{Random, mix};
use std::io::Write;

const SCHEMA: &str =
    "CREATE TABLE events(id INTEGER PRIMARY KEY, at TEXT, account INTEGER, token BLOB, kind TEXT, body TEXT)";
const LEAF: u8 = 0x0d;
const INNER: u8 = 0x05;
/// The length of the header of a leaf page in bytes, before its cell pointers.
const LEAF_HEAD: usize = 8;
const INNER_HEAD: usize = 12;
const FILE_HEAD: usize = 100;
/// The most bytes that an entry of an inner page takes: a cell pointer of 2 bytes, a page number of 4 and a key of
/// up to 9.
const INNER_CELL: usize = 2 + 4 + 9;
/// A size in bytes that every row exceeds. A leaf therefore has fewer rows than the keys that are reserved for it.
const LEAST_ROW: usize = 32;
/// A size in bytes that no row exceeds. It is less than the smallest page, so every leaf holds a row.
const MOST_ROW: usize = 400;

/// The kinds of events in the table's rows. A row also names the program that caused the event.
const KINDS: [&str; 12] = [
    "session.begin",
    "session.end",
    "invoice.sent",
    "invoice.paid",
    "order.placed",
    "order.shipped",
    "order.returned",
    "profile.changed",
    "mail.bounced",
    "search",
    "page.view",
    "payment.refused",
];
const AGENTS: [&str; 4] = ["web/5.2.1", "ios/11.0.3", "android/10.8.0", "batch/2.14"];
const WORDS: [&str; 64] = [
    "the", "order", "was", "sent", "to", "a", "customer", "who", "has", "not", "paid", "for", "it", "and", "asked",
    "again", "about", "delivery", "address", "changed", "by", "support", "after", "call", "on", "monday", "item",
    "missing", "from", "parcel", "refund", "of", "half", "amount", "agreed", "with", "manager", "see", "earlier",
    "note", "in", "account", "history", "please", "check", "before", "next", "invoice", "is", "due", "stock", "low",
    "since", "week", "supplier", "late", "new", "price", "list", "applies", "only", "at", "end", "month",
];

/// The shape of a generated database: its b-tree and its free pages.
#[derive(Debug, Clone)]
pub(super) struct Table {
    seed: u64,
    page_size: PageSize,
    pages: u32,
    /// The number of pages on each level of the b-tree, from the root to the leaves. Empty if the database has no
    /// table.
    levels: Vec<u32>,
    /// The number of free pages at the end of the database.
    free: u32,
}

/// The purpose of a page in the generated database.
enum Role {
    Schema,
    /// A page of the b-tree: its level, where 0 is the root, and its position on that level.
    Tree(usize, u32),
    /// A free page: the number of free pages that follow it.
    Free(u32),
}

impl Table {
    /// Computes the shape of a database of `pages` pages. They include SQLite's lock page if the database is larger
    /// than 1 GiB.
    pub(super) fn new(seed: u64, page_size: PageSize, pages: u32) -> Self {
        let usable = pages - u32::from(pages >= page_size.lock_page().0);
        let room = usable.saturating_sub(1);
        // A binary search finds the largest number of leaves whose b-tree fits.
        let (mut least, mut too_many) = (0, room + 1);
        while too_many - least > 1 {
            let leaves = least + (too_many - least) / 2;
            match levels(page_size, leaves).iter().sum::<u32>() <= room {
                true => least = leaves,
                false => too_many = leaves,
            }
        }
        let levels = levels(page_size, least);
        let free = room - levels.iter().sum::<u32>();
        Self { seed, page_size, pages, levels, free }
    }

    /// Fills `page` with page number `pgno` (from 1, not the lock page) as the transaction number `version` left
    /// it. The page with the schema and the leaves differ in each version; the other pages are always the same.
    pub(super) fn fill(&self, pgno: u32, version: u32, page: &mut [u8]) {
        page.fill(0);
        match self.role(pgno) {
            Role::Schema => self.fill_schema(version, page),
            Role::Tree(level, at) if level + 1 == self.levels.len() => self.fill_leaf(pgno, at, version, page),
            Role::Tree(level, at) => self.fill_inner(level, at, page),
            Role::Free(more) => {
                let next = if more > 0 { self.pgno(self.index(pgno) + 1) } else { 0 };
                page[..4].copy_from_slice(&next.to_be_bytes());
            }
        }
    }

    fn role(&self, pgno: u32) -> Role {
        let mut at = self.index(pgno);
        if at == 0 {
            return Role::Schema;
        }
        at -= 1;
        for (level, &count) in self.levels.iter().enumerate() {
            if at < count {
                return Role::Tree(level, at);
            }
            at -= count;
        }
        Role::Free(self.free.saturating_sub(at + 1))
    }

    /// The number of pages before page `pgno`, without the lock page.
    fn index(&self, pgno: u32) -> u32 {
        pgno - 1 - u32::from(pgno > self.page_size.lock_page().0)
    }

    fn pgno(&self, index: u32) -> u32 {
        let pgno = Pgno(index + 1);
        if pgno >= self.page_size.lock_page() { pgno.0 + 1 } else { pgno.0 }
    }

    /// The page number of the page at position `at` on a level of the b-tree.
    fn tree_page(&self, level: usize, at: u32) -> u32 {
        self.pgno(1 + self.levels[..level].iter().sum::<u32>() + at)
    }

    /// The position of the first child of inner page `at`, on the level below.
    fn first_child(&self, level: usize, at: u32) -> u32 {
        (u64::from(at) * u64::from(self.levels[level + 1]) / u64::from(self.levels[level])) as u32
    }

    /// The largest key that may be stored in this page and the pages below it. All keys of the next page are
    /// greater.
    fn last_key(&self, level: usize, at: u32) -> u64 {
        let end = (level..self.levels.len() - 1).fold(at + 1, |end, level| self.first_child(level, end));
        u64::from(end) * self.keys_per_leaf()
    }

    fn keys_per_leaf(&self) -> u64 {
        (self.page_size.bytes() / LEAST_ROW) as u64
    }

    fn fill_schema(&self, version: u32, page: &mut [u8]) {
        let size = self.page_size.get();
        let changes = (version + 1).to_be_bytes();
        let first_free = if self.free > 0 { self.pgno(1 + self.levels.iter().sum::<u32>()) } else { 0 };
        page[..16].copy_from_slice(b"SQLite format 3\0");
        // SQLite stores a page size of 65536 as 1, because the field has 16 bits.
        page[16..18].copy_from_slice(&u16::try_from(size).unwrap_or(1).to_be_bytes());
        // The bytes mean: WAL mode for reading and writing, no reserved bytes, and three payload fractions that
        // SQLite requires to be 64, 32, 32.
        page[18..24].copy_from_slice(&[2, 2, 0, 64, 32, 32]);
        page[24..28].copy_from_slice(&changes);
        page[28..32].copy_from_slice(&self.pages.to_be_bytes());
        page[32..36].copy_from_slice(&first_free.to_be_bytes());
        page[36..40].copy_from_slice(&self.free.to_be_bytes());
        // The fields are the schema cookie, the schema format, the text encoding (1 is UTF-8), and below the SQLite
        // version that wrote the file.
        page[43] = 1;
        page[47] = 4;
        page[59] = 1;
        page[92..96].copy_from_slice(&changes);
        page[96..100].copy_from_slice(&3_045_000u32.to_be_bytes());
        let mut cells = Cells::new(page, LEAF, FILE_HEAD);
        if !self.levels.is_empty() {
            let mut record = Record::default();
            record.text("table");
            record.text("events");
            record.text("events");
            record.integer(self.tree_page(0, 0));
            record.text(SCHEMA);
            cells.push_row(1, &record);
        }
    }

    fn fill_inner(&self, level: usize, at: u32, page: &mut [u8]) {
        let children = self.first_child(level, at)..self.first_child(level, at + 1);
        let last = children.end - 1;
        let mut cells = Cells::new(page, INNER, 0);
        for child in children.start..last {
            let mut cell = self.tree_page(level + 1, child).to_be_bytes().to_vec();
            put_varint(&mut cell, self.last_key(level + 1, child));
            cells.push(&cell);
        }
        page[8..12].copy_from_slice(&self.tree_page(level + 1, last).to_be_bytes());
    }

    fn fill_leaf(&self, pgno: u32, at: u32, version: u32, page: &mut [u8]) {
        let mut random = Random::new(mix(self.seed) ^ (u64::from(pgno) << 32 | u64::from(version)));
        let mut cells = Cells::new(page, LEAF, 0);
        let mut key = u64::from(at) * self.keys_per_leaf();
        let mut record = Record::default();
        loop {
            key += 1;
            fill_row(key, &mut random, &mut record);
            if !cells.push_row(key, &record) {
                return;
            }
        }
    }
}

/// The number of pages on each level of a b-tree with this number of leaves, from the root to the leaves.
fn levels(page_size: PageSize, leaves: u32) -> Vec<u32> {
    let fan_out = ((page_size.bytes() - INNER_HEAD) / INNER_CELL) as u32;
    let mut levels: Vec<u32> = std::iter::successors(Some(leaves).filter(|&leaves| leaves > 0), |&count| {
        (count > 1).then(|| count.div_ceil(fan_out))
    })
    .collect();
    levels.reverse();
    levels
}

fn fill_row(key: u64, random: &mut Random, record: &mut Record) {
    record.clear();
    // The primary key is stored as NULL in the record, because SQLite reads it from the cell's key.
    record.null();
    let second = key * 7 + random.below(7);
    let (day, of_day) = (second / 86_400, second % 86_400);
    record.text_of(|text| {
        let (month, day) = (1 + day / 28 % 12, 1 + day % 28);
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        write!(text, "2026-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", random.below(1000))
    });
    let account = random.below(1 << 22) as u32;
    record.integer(account);
    record.blob(&u128::to_be_bytes(u128::from(random.next_u64()) << 64 | u128::from(random.next_u64())));
    let kind = KINDS[random.below(KINDS.len() as u64) as usize];
    record.text(kind);
    record.text_of(|text| {
        let agent = AGENTS[random.below(AGENTS.len() as u64) as usize];
        let took = random.below(900);
        write!(text, "{{\"kind\":\"{kind}\",\"account\":{account},\"agent\":\"{agent}\",\"ms\":{took},\"note\":\"")?;
        for _ in 0..random.below(12) {
            write!(text, "{} ", WORDS[random.below(WORDS.len() as u64) as usize])?;
        }
        write!(text, "\"}}")
    });
}

/// The cells of a b-tree page. They are written from the end of the page towards its beginning.
struct Cells<'a> {
    page: &'a mut [u8],
    /// The offset in the page at which the b-tree header begins: 100 on page 1, which begins with the file header,
    /// else 0.
    start: usize,
    head: usize,
    count: u16,
    content: usize,
}

impl<'a> Cells<'a> {
    fn new(page: &'a mut [u8], kind: u8, start: usize) -> Self {
        let content = page.len();
        page[start] = kind;
        let head = if kind == INNER { INNER_HEAD } else { LEAF_HEAD };
        let mut new = Self { page, start, head, count: 0, content };
        new.note();
        new
    }

    /// Adds a row. Returns false if the page has no room for it.
    fn push_row(&mut self, key: u64, record: &Record) -> bool {
        let mut cell = Vec::with_capacity(MOST_ROW);
        debug_assert!(record.head.len() < 127, "its length takes one byte");
        let len = 1 + record.head.len() + record.body.len();
        put_varint(&mut cell, len as u64);
        put_varint(&mut cell, key);
        cell.push(1 + record.head.len() as u8);
        cell.extend_from_slice(&record.head);
        cell.extend_from_slice(&record.body);
        self.push(&cell)
    }

    fn push(&mut self, cell: &[u8]) -> bool {
        let pointer = self.start + self.head + 2 * usize::from(self.count);
        let Some(content) = self.content.checked_sub(cell.len()).filter(|&at| at >= pointer + 2) else { return false };
        self.page[content..self.content].copy_from_slice(cell);
        self.page[pointer..pointer + 2].copy_from_slice(&(content as u16).to_be_bytes());
        (self.content, self.count) = (content, self.count + 1);
        self.note();
        true
    }

    fn note(&mut self) {
        let at = self.start;
        self.page[at + 3..at + 5].copy_from_slice(&self.count.to_be_bytes());
        // SQLite stores an offset of 65536 as 0, because the field has 16 bits.
        self.page[at + 5..at + 7].copy_from_slice(&(self.content as u16).to_be_bytes());
    }
}

/// One row in SQLite's record format: the types of its columns, and their bytes.
#[derive(Default)]
struct Record {
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Record {
    fn clear(&mut self) {
        self.head.clear();
        self.body.clear();
    }

    fn null(&mut self) {
        self.head.push(0);
    }

    fn integer(&mut self, value: u32) {
        self.head.push(5);
        self.body.extend_from_slice(&u64::from(value).to_be_bytes()[2..]);
    }

    fn blob(&mut self, bytes: &[u8]) {
        put_varint(&mut self.head, 12 + 2 * bytes.len() as u64);
        self.body.extend_from_slice(bytes);
    }

    fn text(&mut self, text: &str) {
        put_varint(&mut self.head, 13 + 2 * text.len() as u64);
        self.body.extend_from_slice(text.as_bytes());
    }

    fn text_of(&mut self, write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) {
        let begin = self.body.len();
        #[allow(clippy::expect_used)] // Writing to memory cannot fail.
        write(&mut self.body).expect("memory takes everything");
        put_varint(&mut self.head, 13 + 2 * (self.body.len() - begin) as u64);
    }
}

/// Appends a varint of SQLite: seven bits per byte, the highest bits first. Values here are below 2^56, so the
/// special ninth byte never occurs.
fn put_varint(out: &mut Vec<u8>, value: u64) {
    let more = (1..8).rev().filter(|&at| value >> (7 * at) > 0);
    out.extend(more.map(|at| (value >> (7 * at)) as u8 | 0x80));
    out.push((value & 0x7f) as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(page_size: u32, pages: u32, version: u32) -> Vec<u8> {
        let page_size = PageSize::new(page_size).unwrap();
        let table = Table::new(5, page_size, pages);
        let mut bytes = vec![0; page_size.bytes() * pages as usize];
        for (pgno, page) in (1..).zip(bytes.chunks_mut(page_size.bytes())) {
            table.fill(pgno, version, page);
        }
        bytes
    }

    /// Checks the database with SQLite and returns the number of rows that SQLite finds.
    fn check(bytes: &[u8], what: &str) -> i64 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.db");
        std::fs::write(&path, bytes).unwrap();
        let connection = rusqlite::Connection::open(&path).unwrap();
        let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(verdict, "ok", "{what}");
        let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        if number("SELECT count(*) FROM sqlite_schema") == 0 {
            return 0;
        }
        let rows = number("SELECT count(*) FROM events WHERE length(token) = 16 AND body ->> 'kind' = kind");
        assert_eq!(number("SELECT count(*) FROM events"), rows, "{what}");
        rows
    }

    #[test]
    fn sqlite_finds_every_size_well() {
        for page_size in [512, 1024, 4096, 65536] {
            for pages in (1..=12).chain([36, 37, 38, 39, 40, 300, 2500]) {
                if pages * page_size < 20 << 20 {
                    let rows = check(&database(page_size, pages, 0), &format!("{pages} of {page_size}"));
                    assert_eq!(rows > 0, pages > 1, "{pages} of {page_size}");
                }
            }
        }
    }
}
