//! Databases without tables, which SQLite finds right although their pages hold arbitrary bytes: the first page has
//! the header and an empty schema, the second lists all others as free.

use crate::ltx::PageSize;

/// The largest number of pages of such a database at any page size: the second page of 512 bytes lists 120 others.
pub(super) const MOST_PAGES: u32 = 122;
/// The end of the part of the first page that SQLite reads: the file header and the header of the schema's page.
const FIRST_PAGE_HEAD: usize = 108;

/// Writes what the first page of a database of `size` pages must hold over the beginning of `page`. Another `version`
/// gives another page.
pub(super) fn write_first_page(page_size: PageSize, size: u32, version: u32, page: &mut [u8]) {
    let mut head = [0; FIRST_PAGE_HEAD];
    head[..16].copy_from_slice(b"SQLite format 3\0");
    // SQLite stores a page size of 65536 as 1.
    head[16..18].copy_from_slice(&u16::try_from(page_size.get()).unwrap_or(1).to_be_bytes());
    // WAL mode for reading and writing, no reserved bytes, and three payload fractions that SQLite requires.
    head[18..24].copy_from_slice(&[2, 2, 0, 64, 32, 32]);
    head[24..28].copy_from_slice(&(version + 1).to_be_bytes());
    head[28..32].copy_from_slice(&size.to_be_bytes());
    if size > 1 {
        // The free pages: the first page that lists them, and their number.
        head[32..36].copy_from_slice(&2u32.to_be_bytes());
        head[36..40].copy_from_slice(&(size - 1).to_be_bytes());
    }
    // The schema cookie, the schema format, and the text encoding (1 is UTF-8).
    (head[43], head[47], head[59]) = (1, 4, 1);
    head[92..96].copy_from_slice(&(version + 1).to_be_bytes());
    head[96..100].copy_from_slice(&3_045_000u32.to_be_bytes());
    // A leaf without cells, whose content area begins at the end of the page.
    head[100] = 0x0d;
    head[105..107].copy_from_slice(&u16::try_from(page_size.get()).unwrap_or(0).to_be_bytes());
    page[..FIRST_PAGE_HEAD].copy_from_slice(&head);
}

/// Writes what the second page must hold over the beginning of `page`: the list of all pages after it.
pub(super) fn write_second_page(size: u32, page: &mut [u8]) {
    let words = [0, size.saturating_sub(2)].into_iter().chain(3..=size);
    for (place, word) in page.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_be_bytes());
    }
}
