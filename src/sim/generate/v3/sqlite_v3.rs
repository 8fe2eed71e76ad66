//! Replicas of databases that SQLite itself wrote in WAL mode, packed as Litestream 0.3 packs them. What a restore must
//! give is what SQLite's own truncating checkpoint makes of copies of the database file and its WAL.

use super::live::{PackSpec, Source};
use super::replica::GeneratedV3;
use super::shadow::Shadow;
use crate::sim::generate::GenerateError;
use crate::sim::random::Random;
use rusqlite::Connection;

/// Generates a database and its replica from a seed. [`GeneratedV3::truths`] has what restores must give at the time
/// of each object, and of the newest state. The database is made in a temporary folder.
pub fn pack_sqlite(seed: u64, spec: &PackSpec) -> Result<GeneratedV3, GenerateError> {
    let mut random = Random::new(seed);
    let mut source = Source::create(spec)?;
    let mut shadow = Shadow::new(spec, random.next_u64());
    let generations = spec.generations.max(1);
    for generation in 1..=generations {
        for _ in 0..1 + random.below(2) {
            source.transact(&mut random)?;
        }
        // A reader from before keeps the WAL from restarting, and all snapshots of the time are of one index.
        let mut reader = if spec.ahead && random.chance(0.5) { Some(source.reader()?) } else { None };
        if reader.is_some() {
            source.transact(&mut random)?;
        }
        shadow.begin_generation(&source.wal, &mut random);
        let held = source.checkpoint("PASSIVE")?;
        shadow.snapshot(source.database()?, held, &mut random);
        shadow.upload_all(&mut random);
        for _ in 0..spec.steps {
            if random.chance(0.1) {
                reader = None;
            }
            step(&mut source, &mut shadow, spec, &mut random)?;
        }
        if generation == generations && spec.dies {
            shadow.upload_all(&mut random);
            take_ahead(&mut source, &mut shadow, &mut random)?;
        } else {
            shadow.upload_all(&mut random);
        }
        drop(reader);
    }
    let truths = shadow.truths(&source);
    Ok(GeneratedV3 { root: spec.root.clone(), objects: shadow.into_objects(), page_size: spec.page_size, truths })
}

fn step(source: &mut Source, shadow: &mut Shadow, spec: &PackSpec, random: &mut Random) -> Result<(), GenerateError> {
    match random.below(20) {
        0..=9 => {
            if random.chance(0.08) {
                source.vacuum()?;
            } else {
                source.transact(random)?;
            }
            shadow.follow(&source.wal);
        }
        10..=12 => shadow.upload_all(random),
        13 | 14 => shadow.upload_some(random),
        15 | 16 => {
            // Litestream begins a new index by a checkpoint and a write of its own.
            source.checkpoint(if random.chance(0.5) { "RESTART" } else { "PASSIVE" })?;
            source.write_sequence()?;
            shadow.follow(&source.wal);
        }
        17 | 18 => {
            let held = source.checkpoint("PASSIVE")?;
            shadow.snapshot(source.database()?, held, random);
        }
        _ if spec.ahead => {
            shadow.upload_all(random);
            let reader = take_ahead(source, shadow, random)?;
            shadow.upload_all(random);
            drop(reader);
        }
        _ => {}
    }
    Ok(())
}

/// Takes a snapshot while a reader keeps the WAL from restarting. A part of the WAL that has not been uploaded is in
/// the snapshot already. Returns the reader.
fn take_ahead(source: &mut Source, shadow: &mut Shadow, random: &mut Random) -> Result<Connection, GenerateError> {
    for _ in 0..1 + random.below(2) {
        source.transact(random)?;
        shadow.follow(&source.wal);
    }
    let reader = source.reader()?;
    for _ in 0..random.below(3) {
        source.transact(random)?;
        shadow.follow(&source.wal);
    }
    let held = source.checkpoint("PASSIVE")?;
    shadow.snapshot(source.database()?, held, random);
    Ok(reader)
}
