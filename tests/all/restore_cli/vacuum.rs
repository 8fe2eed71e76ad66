//! Tests of a page size that changes: VACUUM writes the whole database anew, with pages of another size.

use super::support::*;
use crate::common::ltx_header;
use hydrant::ltx::encode::Encoder;
use hydrant::ltx::frame::Encoding;
use hydrant::ltx::{PageSize, Pgno};
use hydrant::sim::server::{Faults, Object, SimServer};

/// Puts a file with transaction `txid`: these pages of a database of `commit` pages, filled with the TXID.
fn put(server: &SimServer, level: u8, txid: u64, page_size: u32, commit: u32, pages: impl Iterator<Item = u32>) {
    let page_size = PageSize::new(page_size).unwrap();
    let header = ltx_header(page_size, commit, txid, 1_790_000_000_000 + txid as i64);
    let mut encoder = Encoder::new(&header, Encoding::Block);
    for pgno in pages {
        encoder.page(Pgno(pgno), &content(txid, pgno, page_size.bytes())).unwrap();
    }
    let key = format!("db/000{level}/{txid:016x}-{txid:016x}.ltx");
    server.objects().put("bucket", &key, Object::new(encoder.finish(0).unwrap()));
}

/// The content of a page. The large databases here do not compress.
fn content(txid: u64, pgno: u32, bytes: usize) -> Vec<u8> {
    let mut random = u64::from(pgno) << 8 | txid;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 56) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

fn restored(server: &SimServer) -> Ran {
    let place = Place::new();
    let mut ran = run(&mut hydrant_s3(&["restore", "-o", &place.out(), &url(&server.endpoint(), "db")]));
    if ran.code == Some(0) {
        ran.stdout = sha256(std::path::Path::new(&place.out()));
    } else {
        place.is_empty();
    }
    ran
}

fn hash(pages: impl Iterator<Item = Vec<u8>>) -> String {
    use sha2::{Digest, Sha256};
    hex(&pages.fold(Sha256::new(), |hash, page| hash.chain_update(page)).finalize())
}

#[test]
fn files_that_hold_every_page_suffice_whatever_page_size_older_ones_have() {
    // The second database is so large that its files are fetched in segments.
    for (old_pages, new_pages) in [(40, 15), (4000, 1200)] {
        let server = simulator(Faults::default());
        put(&server, 9, 1, 4096, old_pages, 1..=old_pages);
        put(&server, 0, 2, 4096, old_pages, 2..=3);
        put(&server, 0, 3, 8192, new_pages, 1..=new_pages);
        let vacuumed = restored(&server);
        assert_eq!(vacuumed.code, Some(0), "{vacuumed:?}");
        assert_eq!(vacuumed.stdout, hash((1..=new_pages).map(|pgno| content(3, pgno, 8192))));
        // What was written since is applied, also if the database has grown or shrunk.
        put(&server, 0, 4, 8192, new_pages + 1, [1, 5, new_pages + 1].into_iter());
        put(&server, 0, 5, 8192, new_pages - 2, [1, 7].into_iter());
        let txid = |pgno| match pgno {
            1 | 7 => 5,
            5 => 4,
            _ => 3,
        };
        let expected = hash((1..=new_pages - 2).map(|pgno| content(txid(pgno), pgno, 8192)));
        let after = restored(&server);
        assert_eq!((after.code, after.stdout), (Some(0), expected), "{}", after.stderr);
    }
}

/// A page is missing, and only files with another page size are left. That is an error.
#[test]
fn a_page_that_only_older_files_with_another_page_size_could_hold_is_missing() {
    let server = simulator(Faults::default());
    put(&server, 9, 1, 4096, 40, 1..=40);
    put(&server, 0, 2, 8192, 15, 1..=14);
    let ran = restored(&server);
    ran.failed("page size 4096 at offset 8, the newest file of the plan has 8192");
}
