//! Measures two parts of a restore on one thread: parsing a page of an S3 listing, and claiming pages in the page
//! map. Usage: `cargo bench --bench parts`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use hydrant::ltx::Pgno;
use hydrant::restore::PageMap;
use hydrant::store::s3::parse_list_page;
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;

const RUNS: usize = 15;
const KEYS: usize = 1000;
/// The number of pages of a database of 4 GB.
const PAGES: u32 = 1 << 20;

/// The median time of several runs of `f`, in seconds.
fn median(mut f: impl FnMut()) -> f64 {
    let mut seconds: Vec<f64> = (0..RUNS)
        .map(|_| {
            let begun = Instant::now();
            f();
            begun.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[RUNS / 2]
}

/// Uses the result, so that the compiler does not remove its computation.
fn touch(answer: bool) {
    let _ = black_box(answer);
}

fn listing() -> String {
    let mut xml = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult \
         xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>backups</Name><Prefix>tenants/</Prefix>\
         <KeyCount>1000</KeyCount><MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType>\
         <IsTruncated>true</IsTruncated><NextContinuationToken>1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J</NextContinuationToken>",
    );
    for i in 0..KEYS {
        let (database, file) = (i / 10, i % 10 + 1);
        let _ = write!(
            xml,
            "<Contents><Key>tenants/tenant-{database:06}/app.db/0000/{file:016x}-{file:016x}.ltx</Key>\
             <LastModified>2026-01-31T12:00:{:02}.000Z</LastModified><ETag>&quot;{i:032x}&quot;</ETag>\
             <Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>",
            i % 60,
            4096 + i
        );
    }
    xml.push_str("</ListBucketResult>");
    xml
}

fn main() {
    let xml = listing();
    assert_eq!(parse_list_page(xml.as_bytes(), None).expect("a page").objects.len(), KEYS);
    let seconds = median(|| drop(black_box(parse_list_page(black_box(xml.as_bytes()), None))));
    println!("| part | time |");
    println!("|---|---|");
    println!(
        "| a page of {KEYS} keys parsed | {:.2} ms, {:.0} ns per key, {:.0} MB/s |",
        seconds * 1e3,
        seconds * 1e9 / KEYS as f64,
        xml.len() as f64 / 1e6 / seconds
    );
    let each = |seconds: f64| seconds * 1e9 / f64::from(PAGES);
    let claimed = median(|| {
        let mut map = PageMap::new(PAGES, None);
        (1..=PAGES).for_each(|page| touch(map.claim(Pgno(page))));
    });
    println!("| {PAGES} pages claimed in order | {:.2} ns per page |", each(claimed));
    let scattered = median(|| {
        let mut map = PageMap::new(PAGES, None);
        // Multiplying by an odd factor visits every page once in a scattered order.
        (0..PAGES).for_each(|i| touch(map.claim(Pgno(1 + i.wrapping_mul(0x9e37_79b1) % PAGES))));
    });
    println!("| the same, scattered | {:.2} ns per page |", each(scattered));
    let map = PageMap::new(PAGES, None);
    let asked = median(|| (1..=PAGES).for_each(|page| touch(map.is_claimed(Pgno(page)))));
    println!("| as many looked up | {:.2} ns per page |", each(asked));
}
