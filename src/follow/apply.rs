//! Applies a chain of files to a standby: reads the newest copy of each page, writes them in one transaction, and commits
//! only after every file has proved intact (docs/FOLLOW.md, "Applying").

use crate::follow::error::FollowError;
use crate::follow::standby::{LogFill, Standby, StandbyError};
use crate::ltx::header::Header;
use crate::ltx::{FormatError, PageSize, Pgno, Txid};
use crate::plan::continuity::{Continuity, ReadFile};
use crate::process::locks::lock;
use crate::process::threads::Threads;
use crate::restore::{ChangeFile, ChangeSink, ChangesError, Worker, read_changes};
use crate::store::{Store, StoreError};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

/// Pages are handed to SQLite's thread in batches of at least 256 KiB.
const BATCH_BYTES: usize = 256 << 10;

/// The standby, and the threads that SQLite runs on.
pub(super) struct StandbyWriter {
    threads: Arc<Threads>,
    standby: Arc<Mutex<Option<Standby>>>,
    page_size: PageSize,
    /// The TXID that was committed last; 0 if none was. It is known here even if nobody waited for the commit.
    committed: Arc<AtomicU64>,
}

impl StandbyWriter {
    /// Runs `standby` on `threads`.
    pub(super) fn new(threads: Arc<Threads>, standby: Standby) -> Self {
        let page_size = standby.page_size();
        Self { threads, standby: Arc::new(Mutex::new(Some(standby))), page_size, committed: Arc::default() }
    }

    /// Does `work` on one of SQLite's threads.
    async fn on<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Standby) -> Result<T, StandbyError> + Send + 'static,
    ) -> Result<T, FollowError> {
        let standby = Arc::clone(&self.standby);
        let done = self.threads.run(move || lock(&standby).as_mut().map(work));
        match done.await {
            Ok(Some(result)) => Ok(result?),
            Ok(None) | Err(_) => Err(FollowError::internal("SQLite's thread has ended without a result")),
        }
    }

    /// Takes back what was not committed.
    pub(super) async fn abandon(&self) -> Result<(), FollowError> {
        self.on(Standby::abandon).await
    }

    /// Commits what was written ([`Standby::commit`]). The database then holds `txid`.
    async fn commit(&self, txid: Txid, pages: u32, page_1: Option<Vec<u8>>) -> Result<(), FollowError> {
        let committed = Arc::clone(&self.committed);
        let commit = move |standby: &mut Standby| {
            standby.commit(pages, page_1)?;
            committed.store(txid.0, SeqCst);
            Ok(())
        };
        self.on(commit).await
    }

    /// Closes the database ([`Standby::close`]), after the work that SQLite has begun. Returns the TXID that was
    /// committed last, if any was.
    pub(super) async fn close(self) -> Option<Txid> {
        let standby = Arc::clone(&self.standby);
        // Fails only if closing panicked, which was printed.
        let _ = self.threads.run(move || lock(&standby).take().map(Standby::close)).await;
        Some(Txid(self.committed.load(SeqCst))).filter(|txid| txid.0 > 0)
    }
}

/// A change that was applied.
#[derive(Debug)]
pub(super) struct Applied {
    /// What is known of the files from now on.
    pub continuity: Continuity,
    /// The header of the newest file.
    pub newest: Header,
    /// The number of pages that were written.
    pub pages: u64,
    /// The state of the log. An error if the log could not be copied, or the standby cannot go on: the change is
    /// committed nevertheless.
    pub settled: Result<LogFill, FollowError>,
}

/// Why a chain was not applied. Nothing was changed.
#[derive(Debug)]
pub(super) enum ApplyFailure {
    /// The content of this file is wrong.
    Damaged { file: usize, error: FormatError },
    /// A request for this file failed.
    Store { file: usize, error: StoreError },
    /// The standby cannot go on, or the disk is full.
    Fatal(FollowError),
}

impl From<FollowError> for ApplyFailure {
    fn from(error: FollowError) -> Self {
        Self::Fatal(error)
    }
}

/// Applies `files`, oldest first, to the standby, which holds TXID `at`. With `on_other_connections`, what arrived the
/// first time was wrong.
///
/// # Errors
/// [`ApplyFailure`]. The caller then calls [`StandbyWriter::abandon`].
pub(super) async fn apply(
    worker: &Worker,
    store: &Store,
    writer: &StandbyWriter,
    (at, continuity): (Txid, &Continuity),
    files: &[ChangeFile],
    on_other_connections: bool,
) -> Result<Applied, ApplyFailure> {
    let mut batch = Batch {
        writer,
        at,
        newest_key: files.last().map(|file| file.key.clone()).unwrap_or_default(),
        has_header: false,
        refusal: None,
        pgnos: Vec::new(),
        contents: Vec::new(),
        page_1: None,
        pages: 0,
    };
    let changes = read_changes(worker, store, files, on_other_connections, &mut batch).await.map_err(|e| match e {
        ChangesError::Damaged { file, error } => ApplyFailure::Damaged { file, error },
        ChangesError::Store { file, error } => ApplyFailure::Store { file, error },
        ChangesError::Failed(error) => ApplyFailure::Fatal(error.into()),
        ChangesError::Sink(error) => ApplyFailure::Fatal(error),
    })?;
    if let Some(refusal) = batch.refusal {
        return Err(refusal.into());
    }
    let read: Vec<ReadFile> =
        files.iter().zip(&changes.headers).map(|(file, header)| read_file(file, header)).collect();
    let continuity = continuity.after(&read).map_err(|error| FollowError::OtherWriter { at, error })?;
    let Some(newest) = changes.headers.last().copied() else {
        return Err(FollowError::internal("a chain without files was applied").into());
    };
    batch.flush().await?;
    let Batch { page_1, pages, .. } = batch;
    let (commit, lock_page) = (newest.commit, newest.page_size.lock_page());
    let old = writer.on(|standby| Ok(standby.pages())).await?;
    if let Some(pgno) = changes.pages.first_unclaimed_after(old, lock_page) {
        return Err(FollowError::PageMissing { at, pgno, commit }.into());
    }
    writer.commit(newest.max_txid, commit, page_1).await?;
    let settled = writer.on(Standby::settle).await;
    Ok(Applied { continuity, newest, pages, settled })
}

fn read_file(file: &ChangeFile, header: &Header) -> ReadFile {
    ReadFile { key: file.key.clone(), level: file.level, etag: file.etag.clone(), size: file.size, header: *header }
}

/// Collects pages for SQLite's thread.
struct Batch<'a> {
    writer: &'a StandbyWriter,
    at: Txid,
    newest_key: String,
    has_header: bool,
    /// Why the chain cannot be applied, by its headers. It counts once all files have proved intact.
    refusal: Option<FollowError>,
    pgnos: Vec<Pgno>,
    contents: Vec<u8>,
    /// Page 1, which is written last.
    page_1: Option<Vec<u8>>,
    pages: u64,
}

impl Batch<'_> {
    async fn flush(&mut self) -> Result<(), FollowError> {
        if self.pgnos.is_empty() {
            return Ok(());
        }
        let (pgnos, contents) = (std::mem::take(&mut self.pgnos), std::mem::take(&mut self.contents));
        self.writer.on(move |standby| standby.write(&pgnos, &contents)).await
    }
}

impl ChangeSink for Batch<'_> {
    type Error = FollowError;

    fn header(&mut self, header: &Header) -> Result<(), FollowError> {
        let (at, old, new) = (self.at, self.writer.page_size, header.page_size);
        let is_newest = !std::mem::replace(&mut self.has_header, true);
        if old != new {
            self.refusal.get_or_insert(FollowError::PageSize { at, old, new });
        } else if is_newest && header.commit == 0 {
            self.refusal.get_or_insert_with(|| FollowError::Empty { at, key: self.newest_key.clone() });
        }
        Ok(())
    }

    async fn page(&mut self, pgno: Pgno, page: &[u8]) -> Result<(), FollowError> {
        if self.refusal.is_some() {
            return Ok(());
        }
        self.pages += 1;
        if pgno == Pgno(1) {
            self.page_1 = Some(page.to_vec());
            return Ok(());
        }
        self.pgnos.push(pgno);
        self.contents.extend_from_slice(page);
        if self.contents.len() >= BATCH_BYTES { self.flush().await } else { Ok(()) }
    }
}
