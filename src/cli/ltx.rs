//! The command `hydrant ltx`: lists the LTX files of one database's replica.

use super::restore::{locate, without_configured};
use crate::cancel::CancellationToken;
use crate::catalogue::{CatalogueMemory, LtxFile, Replica, V3Replica};
use crate::cli::advice;
use crate::cli::args::resolved::LtxArgs;
use crate::cli::failures::from_store;
use crate::cli::past::{self, FilesWanted, reach_text};
use crate::cli::session::{Stores, s3_options};
use crate::cli::ui::failure::Failure;
use crate::cli::ui::human;
use crate::cli::ui::log::{Log, Severity};
use crate::cli::ui::screen::{self, FileLine, TimeSource};
use crate::cli::versions;
use crate::config::{Env, Location};
use crate::error::Class;
use crate::ltx::header::Header;
use crate::plan::{DatedGeneration, Reach};
use crate::restore::{HEADERS_IN_FLIGHT, ListedReplica, list_replica, read_header};
use crate::store::{Http, Store};
use crate::timestamp::Timestamp;
use futures_util::StreamExt;
use std::sync::Arc;

/// Runs the command. Returns the text for stdout.
pub fn run(args: &LtxArgs, env: &Env<'_>, log: &Log, cancel: &CancellationToken) -> Result<String, Failure> {
    let (location, section) = locate(&args.source, &args.source_shown, env, log)?;
    past::refuse_on_disk(&args.common.store.past, &location.store)?;
    let mut args = args.clone();
    args.common.use_defaults(&section);
    let args = &args;
    let stores = Stores::new(s3_options(&args.common), args.common.store.clone(), Arc::default(), log.clone());
    let store = stores.open(&location.store);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::failed(Class::Io, format!("cannot start a runtime: {e}")))?;
    runtime.block_on(async {
        tokio::select! {
            shown = show(args, &location, &store, env, log) => shown,
            reason = cancel.cancelled() => Err(Failure::Cancelled(reason)),
        }
    })
}

/// The text for stdout.
async fn show(args: &LtxArgs, location: &Location, store: &Store, env: &Env<'_>, log: &Log) -> Result<String, Failure> {
    if args.versions {
        let (http, memory) = (Http::default(), CatalogueMemory::new(args.common.catalogue));
        let lines = versions::list(args, &http, store, &location.path, &memory, log).await?;
        return Ok(if args.json { versions::json(&lines) } else { versions::text(&lines) });
    }
    let files = list(args, location, store, env, log).await?;
    Ok(if args.json { screen::ltx_json(&files) } else { screen::ltx_text(&files) })
}

/// Lists the files at the levels that `-level` admits, in the order of level and TXIDs. With `-times`, also
/// reads the creation time of each file.
async fn list(
    args: &LtxArgs,
    location: &Location,
    store: &Store,
    env: &Env<'_>,
    log: &Log,
) -> Result<Vec<FileLine>, Failure> {
    let http = Http::default();
    let memory = CatalogueMemory::new(args.common.catalogue);
    let past = &args.common.store.past;
    let of_the_past;
    let (store, listed) = match past.as_of {
        None => (store, list_replica(&http, store, &location.path, &memory).await.map_err(|e| from_store(&e))?),
        Some(_) => {
            let survey = past::survey(&http, store, &location.path, past, FilesWanted::All, &memory).await?;
            survey.warn(log);
            survey.report(&reach_text(Reach::of(&survey.replica)), None, log);
            of_the_past = survey.store;
            (&of_the_past, ListedReplica { replica: survey.replica, nothing: None })
        }
    };
    if let Some(nothing) = listed.nothing {
        let nothing = without_configured(nothing, &args.source, location, env);
        if !nothing.is_no_backup() {
            let advice = advice::of_nothing(&nothing, &args.source, None, env);
            return Err(Failure::failed(Class::BackupNotFound, nothing.to_string()).advised(advice));
        }
        // An empty table alone does not tell an empty replica from a mistyped path.
        log.essential(Severity::Info, &nothing.to_string(), &[]);
    }
    let replica = listed.replica;
    report_unlisted(args, &replica, log);
    let mut shown: Vec<&LtxFile> = replica.files.iter().filter(|file| args.level.admits(file.level)).collect();
    shown.sort_by_key(|file| (file.level, file.min_txid, file.max_txid));
    if !args.times {
        return Ok(shown.into_iter().map(|file| line(file, (file.last_modified, TimeSource::LastModified))).collect());
    }
    let lines = shown.into_iter().map(|file| {
        let (http, replica) = (&http, &replica);
        async move { Ok(line(file, own_time(http, store, replica, file, log).await?)) }
    });
    let mut pending = futures_util::stream::iter(lines).buffered(HEADERS_IN_FLIGHT);
    let mut lines = Vec::new();
    while let Some(line) = pending.next().await {
        lines.push(line?);
    }
    Ok(lines)
}

/// Logs what the listing does not show: files at other levels, files of another lineage (another database
/// that was backed up to the same path), and files of Litestream 0.3.
fn report_unlisted(args: &LtxArgs, replica: &Replica, log: &Log) {
    let hidden = replica.files.iter().filter(|file| !args.level.admits(file.level)).count() as u64;
    if args.level_is_default && hidden > 0 && log.is_terminal() {
        log.info(&format!("{} at other levels: -level all shows them", human::count(hidden, "more file")));
    }
    for other in replica.differing().filter_map(Replica::lineage) {
        log.warn(&format!("files of another lineage lie under this path too, and are not listed: {other}"));
    }
    if let Some(v3) = &replica.v3 {
        log.warn(&of_v3(v3, replica.files.is_empty()));
    }
}

/// At most this many generations are named.
const MOST_GENERATIONS: usize = 10;

/// What is said about files of Litestream 0.3, which are not listed: their generations, newest first. `are_alone` says
/// that there are no LTX files.
fn of_v3(v3: &V3Replica, are_alone: bool) -> String {
    let mut generations: Vec<_> = v3.generations().filter_map(DatedGeneration::of).collect();
    generations.sort_by_key(|generation| std::cmp::Reverse((generation.last, generation.name)));
    let mut names: Vec<_> = generations.iter().take(MOST_GENERATIONS).map(ToString::to_string).collect();
    if names.len() < generations.len() {
        names.push("…".to_owned());
    }
    let count = human::count(generations.len() as u64, "generation");
    match (generations.is_empty(), are_alone) {
        (true, _) => "files of a prerelease of Litestream 0.4 lie there, which are not listed".to_owned(),
        (false, true) => {
            format!("this is a replica in the v0.3 format, which has no LTX files: {count}: {}", names.join(", "))
        }
        (false, false) => {
            format!("files in the v0.3 format lie there too and are not listed: {count}: {}", names.join(", "))
        }
    }
}

fn line(file: &LtxFile, (time, time_source): (Timestamp, TimeSource)) -> FileLine {
    let LtxFile { level, min_txid, max_txid, size, .. } = *file;
    FileLine { level, min_txid, max_txid, size, time, time_source, version_id: None }
}

/// The time in a file's metadata or header, and its source. The time of the listing is kept, with a
/// warning, for a file that is archived, unreadable or not an LTX file; without a warning for a file
/// that was deleted or replaced since the listing.
async fn own_time(
    http: &Http,
    store: &Store,
    replica: &Replica,
    file: &LtxFile,
    log: &Log,
) -> Result<(Timestamp, TimeSource), Failure> {
    let listed = (file.last_modified, TimeSource::LastModified);
    let key = replica.key(file);
    if file.archived {
        log.say(Severity::Warn, "archived, its time cannot be looked at", &[("file", &key)]);
        return Ok(listed);
    }
    match read_header(http, store, &key, file.size, file.etag.as_ref()).await {
        Ok((_, Some(time))) => Ok((time, TimeSource::Metadata)),
        Ok((head, None)) => match Header::parse(&head) {
            Ok(header) => Ok((header.timestamp(), TimeSource::Header)),
            Err(e) => {
                log.say(
                    Severity::Warn,
                    "not an LTX file, its time is the listing's",
                    &[("file", &key), ("why", &e.to_string())],
                );
                Ok(listed)
            }
        },
        Err(e) if e.is_stale_listing() => Ok(listed),
        Err(e) if e.is_unreadable() => {
            log.say(Severity::Warn, "its time is the listing's", &[("file", &key), ("why", &e.to_string())]);
            Ok(listed)
        }
        Err(e) => Err(from_store(&e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Layout;
    use crate::cli::args::resolved::LogFormat;
    use crate::io::Step;
    use crate::io::fault::{Effect, inject};
    use crate::store::ObjectMeta;
    use rustix::io::Errno;
    use std::io::Write;
    use std::path::Path;
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Said(Arc<Mutex<Vec<u8>>>);

    impl Write for Said {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn generations_are_named_the_newest_first() {
        let object = |generation: &str, name: &str, seconds: i64| ObjectMeta {
            key: format!("a/generations/{generation}/{name}"),
            size: 1,
            last_modified: Timestamp::from_millis(1_795_821_459_000 + seconds * 1_000),
            etag: None,
            archived: false,
        };
        let said = |objects: Vec<ObjectMeta>| {
            let v3 = Replica::of("a", Layout::Hex, objects).v3.unwrap();
            (of_v3(&v3, true), of_v3(&v3, false))
        };
        let (older, newer) = ("ffffffffffffffff", "0123456789abcdef");
        let snapshot = "snapshots/00000000.snapshot.lz4";
        let (alone, beside) = said(vec![
            object(newer, snapshot, 60),
            object(newer, "wal/00000000_00000000.wal.lz4", 61),
            object(older, snapshot, 0),
        ]);
        let named = "2 generations: 0123456789abcdef (2026-11-27T23:18:39Z to 2026-11-27T23:18:40Z), ffffffffffffffff \
                     (2026-11-27T23:17:39Z to 2026-11-27T23:17:39Z)";
        assert_eq!(alone, format!("this is a replica in the v0.3 format, which has no LTX files: {named}"));
        assert_eq!(beside, format!("files in the v0.3 format lie there too and are not listed: {named}"));
        let many = (0..12).map(|n| object(&format!("{n:016x}"), snapshot, n)).collect();
        let (many, _) = said(many);
        assert!(many.contains(": 12 generations: 000000000000000b (") && many.ends_with("), …"), "{many}");
        assert_eq!(many.matches(" to ").count(), MOST_GENERATIONS);
        let (prerelease, _) = said(vec![object(newer, "snapshots/0000000000000000.snapshot.lz4", 0)]);
        assert_eq!(prerelease, "files of a prerelease of Litestream 0.4 lie there, which are not listed");
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_keeps_the_listings_time() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("0000/0000000000000001-0000000000000001.ltx");
        std::fs::create_dir(dir.path().join("0000")).unwrap();
        std::fs::write(&file, [0; 200]).unwrap();
        let (http, store) = (Http::default(), Store::File(Default::default()));
        let replica = list_replica(&http, &store, dir.path().to_str().unwrap(), &CatalogueMemory::default()).await;
        let replica = replica.unwrap().replica;
        let said = Said::default();
        let log = Log::new(Box::new(said.clone()), 0, LogFormat::Text, false, false);
        let fault = inject(Path::new(&file), Some(Step::Read), 1, Effect::Fail(Errno::IO));
        let looked = own_time(&http, &store, &replica, &replica.files[0], &log).await;
        assert!(fault.struck());
        assert_eq!(looked, Ok((replica.files[0].last_modified, TimeSource::LastModified)));
        let said = String::from_utf8(said.0.lock().unwrap().clone()).unwrap();
        assert!(
            said.contains("its time is the listing's") && said.contains("input/output error at offset 0"),
            "{said}"
        );
    }
}
