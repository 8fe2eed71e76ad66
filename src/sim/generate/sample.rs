//! Replicas of databases that SQLite itself wrote. After each transaction the database file is read, and the pages
//! that changed become an LTX file.

use super::chain::{Chain, EPOCH_MS, FileStyle};
use super::{EncodingMix, GenerateError, GeneratedDatabase};
use crate::catalogue::Layout;
use crate::ltx::PageSize;
use crate::sim::random::{Random, mix};
use crate::sim::sqlite::TemporaryFolder;
use rusqlite::Connection;
use std::path::Path;

/// The page sizes of the sample databases in turn. 4096 is the usual size.
const PAGE_SIZES: [u32; 8] = [4096, 4096, 1024, 4096, 8192, 4096, 512, 65536];

/// Generates `count` databases of different sizes and page sizes under `sample/`. Each has level 0 files, a
/// compaction and a snapshot. Each passes SQLite's integrity check and has a table `notes`. Both LZ4 forms and both
/// key layouts occur. The databases are made in a temporary directory.
pub fn sample_fleet(count: usize, seed: u64) -> Result<Vec<GeneratedDatabase>, GenerateError> {
    let folder = TemporaryFolder::create()?;
    (0..count).map(|number| sample_database(number, mix(seed ^ mix(number as u64)), folder.path())).collect()
}

fn sample_database(number: usize, seed: u64, folder: &Path) -> Result<GeneratedDatabase, GenerateError> {
    let mut random = Random::new(seed);
    let page_size = PAGE_SIZES.get(number % PAGE_SIZES.len()).copied().and_then(PageSize::new);
    let page_size = page_size.ok_or_else(|| GenerateError("page size".into()))?;
    let root = format!("sample/tenant-{number:04}/app.db");
    let path = folder.join(format!("{number}.db"));
    let connection = Connection::open(&path)?;
    connection.execute_batch(&format!(
        "PRAGMA page_size = {page_size}; PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;
         PRAGMA wal_autocheckpoint = 0;",
        page_size = page_size.get()
    ))?;
    let mut chain = Chain::new(page_size, true);
    let transactions = 5 + random.below(8);
    let mut time_ms = EPOCH_MS + random.below(60_000) as i64;
    for turn in 0..transactions {
        time_ms += 100 + random.below(20_000) as i64;
        transact(&connection, turn, &mut random)?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        chain.push_image(&std::fs::read(&path)?, time_ms);
    }
    drop(connection);
    std::fs::remove_file(&path)?;

    let newest = chain.len();
    let layout = if number % 4 == 3 { Layout::Decimal } else { Layout::Hex };
    let encoding = match number % 3 {
        0 => EncodingMix::Block,
        1 => EncodingMix::Mixed,
        _ => EncodingMix::Frame,
    };
    let style = FileStyle { layout, encoding, tracked: false };
    for txid in 1..=newest {
        chain.write(&root, 0, (txid, txid), style, 200, &mut random)?;
    }
    let middle = 1 + random.below(newest);
    if newest > middle {
        chain.write(&root, 1, (middle + 1, newest - (newest - middle) / 2), style, 30_000, &mut random)?;
    }
    chain.write(&root, 9, (1, middle), style, 60_000, &mut random)?;
    chain.finish(&root)
}

fn transact(connection: &Connection, turn: u64, random: &mut Random) -> Result<(), GenerateError> {
    if turn == 0 {
        connection.execute_batch(
            "CREATE TABLE notes (id INTEGER PRIMARY KEY, title TEXT NOT NULL, body TEXT, mark BLOB);
             CREATE INDEX notes_by_title ON notes (title);",
        )?;
    }
    if turn > 3 && random.chance(0.15) {
        connection.execute_batch("DELETE FROM notes WHERE id % 3 = 0; VACUUM;")?;
        return Ok(());
    }
    connection.execute_batch("BEGIN")?;
    let mut insert = connection.prepare_cached("INSERT INTO notes (title, body, mark) VALUES (?1, ?2, ?3)")?;
    for _ in 0..1 + random.below(40) {
        let title = format!("note {:06}", random.below(1_000_000));
        let body = "what was said at the meeting; ".repeat(1 + random.below(12) as usize);
        let mark: Vec<u8> = (0..random.below(24)).flat_map(|_| random.next_u64().to_le_bytes()).collect();
        insert.execute((title, body, mark))?;
    }
    connection.execute("UPDATE notes SET body = body || ' (seen)' WHERE id % 7 = ?1", [random.below(7) as i64])?;
    connection.execute_batch("COMMIT")?;
    Ok(())
}
