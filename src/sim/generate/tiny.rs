//! Thousands of small databases that share a few contents.

use super::chain::{Chain, EPOCH_MS, FileStyle};
use super::{EncodingMix, GenerateError, GeneratedDatabase, GeneratedObject, fill_page, key};
use crate::catalogue::Layout;
use crate::ltx::PageSize;
use crate::sim::random::{Random, mix};
use bytes::Bytes;
use std::collections::BTreeMap;

/// The properties of a fleet of small databases.
#[derive(Debug, Clone)]
pub struct TinyFleet {
    /// The number of databases in the fleet.
    pub count: usize,
    /// The prefix of all keys. A key begins with `<prefix>/<number with 6 digits>.db/`.
    pub prefix: String,
    /// The key layout of the LTX files.
    pub layout: Layout,
    /// The LZ4 form in which pages are stored.
    pub encoding: EncodingMix,
    /// The number of different contents. The databases use them in turn.
    pub templates: usize,
    /// The seed of all random choices. The same seed gives the same bytes.
    pub seed: u64,
}

impl Default for TinyFleet {
    fn default() -> Self {
        Self {
            count: 1000,
            prefix: "fleet".into(),
            layout: Layout::Hex,
            encoding: EncodingMix::Block,
            templates: 16,
            seed: 1,
        }
    }
}

/// Generates a fleet of databases of 32 to 36 KB. Each has five files: TXIDs 1 to 4 at level 9, 5 to 6 at level 1,
/// and 5, 6 and 7 at level 0. A plan for the newest state uses three of them. Databases with the same content share
/// its bytes in memory.
pub fn tiny_fleet(spec: &TinyFleet) -> Result<Vec<GeneratedDatabase>, GenerateError> {
    let templates: Vec<GeneratedDatabase> = (0..spec.templates.clamp(1, spec.count.max(1)))
        .map(|number| template(spec, mix(spec.seed ^ number as u64)))
        .collect::<Result<_, _>>()?;
    let fleet = (0..spec.count).zip(templates.iter().cycle()).map(|(number, template)| {
        let root = format!("{}/{number:06}.db", spec.prefix);
        let objects = template
            .objects
            .iter()
            .map(|object| GeneratedObject {
                key: key(&root, spec.layout, object.level, object.min_txid, object.max_txid),
                ..object.clone()
            })
            .collect();
        GeneratedDatabase { root, objects, ..template.clone() }
    });
    Ok(fleet.collect())
}

fn template(spec: &TinyFleet, seed: u64) -> Result<GeneratedDatabase, GenerateError> {
    const PAGE_SIZE: PageSize = const { PageSize::new(4096).unwrap() };
    let mut random = Random::new(seed);
    let mut chain = Chain::new(PAGE_SIZE, false);
    let grows = random.chance(0.5);
    for version in 0..7u32 {
        let commit = if grows && version >= 5 { 9 } else { 8 };
        let mut written: Vec<u32> = if version == 0 { (1..=8).collect() } else { vec![1] };
        written.extend((0..2).map(|_| 2 + random.below(7) as u32));
        written.extend(chain.commit() + 1..=commit);
        let pages: BTreeMap<u32, Bytes> = written
            .into_iter()
            .map(|pgno| {
                let mut page = vec![0; PAGE_SIZE.bytes()];
                fill_page(seed, pgno, version, &mut page);
                (pgno, page.into())
            })
            .collect();
        chain.push(pages, commit, EPOCH_MS + 1000 * i64::from(version));
    }
    let style = FileStyle { layout: spec.layout, encoding: spec.encoding, tracked: false };
    for (level, run) in [(9, (1, 4)), (1, (5, 6)), (0, (5, 5)), (0, (6, 6)), (0, (7, 7))] {
        chain.write("", level, run, style, 500, &mut random)?;
    }
    let mut database = chain.finish("")?;
    database.states.clear();
    Ok(database)
}
