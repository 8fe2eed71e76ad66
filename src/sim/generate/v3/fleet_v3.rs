//! Thousands of small replicas of Litestream 0.3 that share a few contents.

use super::blank::{write_first_page, write_second_page};
use super::lz4::pack;
use super::replica::{GeneratedV3, GeneratedV3Object, V3Content, V3Truth, segment_key, snapshot_key};
use super::wal_writer::WalWriter;
use crate::ltx::{PageSize, Pgno};
use crate::sim::generate::chain::EPOCH_MS;
use crate::sim::generate::fill_page;
use crate::sim::random::{Random, mix};
use crate::timestamp::Timestamp;

/// The properties of a fleet of small databases.
#[derive(Debug, Clone)]
pub struct FleetV3 {
    /// The number of databases in the fleet.
    pub count: usize,
    /// The prefix of all keys. A key begins with `<prefix>/<number with 6 digits>.db/generations/`.
    pub prefix: String,
    /// The number of different contents. The databases use them in turn.
    pub templates: usize,
    /// The seed of all random choices. The same seed gives the same bytes.
    pub seed: u64,
}

impl Default for FleetV3 {
    fn default() -> Self {
        Self { count: 1000, prefix: "fleet".into(), templates: 16, seed: 1 }
    }
}

const PAGE_SIZE: PageSize = const { PageSize::new(4096).unwrap() };

/// Generates a fleet of databases of 32 to 36 KB. Each has six objects: a snapshot, three segments of its index and
/// two of the next one. Databases with the same content share its bytes in memory.
pub fn v3_fleet(spec: &FleetV3) -> Vec<GeneratedV3> {
    let templates: Vec<Template> = (0..spec.templates.clamp(1, spec.count.max(1)))
        .map(|number| template(mix(spec.seed ^ number as u64)))
        .collect();
    (0..spec.count)
        .zip(templates.iter().cycle())
        .map(|(number, template)| {
            let root = format!("{}/{number:06}.db", spec.prefix);
            let generation = mix(spec.seed ^ mix(number as u64));
            let objects = template
                .files
                .iter()
                .map(|(file, object)| {
                    let key = match *file {
                        File::Snapshot(index) => snapshot_key(&root, generation, index),
                        File::Segment(index, offset) => segment_key(&root, generation, index, offset),
                    };
                    GeneratedV3Object { key, ..object.clone() }
                })
                .collect();
            let truths = vec![V3Truth { at: None, contents: vec![template.newest], error: None }];
            GeneratedV3 { root, objects, page_size: PAGE_SIZE, truths }
        })
        .collect()
}

/// A small replica without a name.
struct Template {
    files: Vec<(File, GeneratedV3Object)>,
    newest: V3Content,
}

/// An index, and the offset in its WAL.
enum File {
    Snapshot(u32),
    Segment(u32, u64),
}

fn template(seed: u64) -> Template {
    let mut random = Random::new(seed);
    let mut image = Vec::new();
    let grows = random.chance(0.5);
    let first = random.below(100) as u32;
    let object = |content: &[u8], number: i64| GeneratedV3Object {
        key: String::new(),
        bytes: pack(content).into(),
        last_modified: Timestamp::from_millis(EPOCH_MS + 1000 * number),
    };
    for pgno in 1..=8 {
        write(&mut image, seed, 0, 8, pgno);
    }
    let mut files = vec![(File::Snapshot(first), object(&image, 0))];
    let mut version = 0;
    for (index, segments) in [(first, 3), (first + 1, 2)] {
        let mut wal = WalWriter::new(PAGE_SIZE, false, random.next_u64());
        let mut from = 0;
        for _ in 0..segments {
            version += 1;
            let size = if grows && version >= 4 { 9 } else { 8 };
            let mut written = vec![3 + random.below(6) as u32, 3 + random.below(6) as u32, 2, 1];
            if size == 9 {
                written.insert(0, 9);
            }
            for (at, &pgno) in written.iter().enumerate() {
                let page = write(&mut image, seed, version, size, pgno);
                wal.frame(pgno, if at + 1 == written.len() { size } else { 0 }, page);
            }
            let content = &wal.bytes()[from as usize..];
            files.push((File::Segment(index, from), object(content, i64::from(version))));
            from = wal.bytes().len() as u64;
        }
    }
    Template { files, newest: V3Content::of(&image) }
}

/// Writes a page of the image as `version` leaves it, and returns it.
fn write(image: &mut Vec<u8>, seed: u64, version: u32, size: u32, pgno: u32) -> &[u8] {
    let start = PAGE_SIZE.offset_of(Pgno(pgno)) as usize;
    image.resize(image.len().max(start + PAGE_SIZE.bytes()), 0);
    let page = &mut image[start..start + PAGE_SIZE.bytes()];
    fill_page(seed, pgno, version, page);
    match pgno {
        1 => write_first_page(PAGE_SIZE, size, version, page),
        2 => write_second_page(size, page),
        _ => {}
    }
    page
}
