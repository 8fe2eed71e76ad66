//! Finds the databases of a bucket that have changed, with as few LISTs as possible.
//!
//! A LIST page has up to 1,000 keys in ascending order, and a database's newest files of level 0 come right behind the
//! file that its standby ends with. So a scan lists from that file on, and goes on at the first database of which the page
//! showed nothing behind it: small databases share a page, and a large one costs one page at most. That file itself shows
//! whether it was replaced. A whole scan begins at the first key of each database instead, and reads on until its last one:
//! it also shows higher levels, and databases that are gone.

use crate::catalogue::{Layout, ltx_key};
use crate::error::escaped;
use crate::follow::means::ListRate;
use crate::ltx::{Level, Txid};
use crate::store::{Etag, Http, ListPage, ListRequest, ObjectMeta, Store, StoreError, StoreErrorKind};
use crate::timestamp::Timestamp;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// A database to look for.
#[derive(Debug, Clone)]
pub(super) struct Sought {
    /// The number of the standby.
    pub id: usize,
    /// What its keys begin with.
    pub root: String,
    /// The TXID that the standby holds.
    pub at: Txid,
    /// The key to list from. Keys up to it are of no interest.
    pub from: String,
    /// A page that ends behind this key has shown something of the database.
    pub upto: String,
}

/// A scan of one store.
pub(super) struct StoreScan {
    pub store: Store,
    /// What all keys of interest begin with.
    pub prefix: String,
    /// Ascending by `upto`.
    sought: Vec<Sought>,
    by_root: HashMap<String, (usize, Txid)>,
    /// Whether each database is read to its last key.
    is_whole: bool,
}

/// What a scan has seen of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SeenDatabase {
    /// The newest TXID.
    pub newest: Txid,
    pub layout: Layout,
    /// The file of level 0 that the standby ended with when the scan began, if it is there.
    pub last: Option<LastFile>,
}

/// The file of level 0 that a standby ends with. Its content never changes, unless another program writes to the replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LastFile {
    pub txid: Txid,
    pub layout: Layout,
    pub size: u64,
    pub etag: Option<Etag>,
    /// Its time, where there is no ETag. With one, a repeated upload of the same content is no other file.
    pub modified: Option<Timestamp>,
}

impl LastFile {
    /// Whether both are one key, and that has another content.
    pub(super) fn is_replaced_by(&self, other: &Self) -> bool {
        (self.txid, self.layout) == (other.txid, other.layout) && self != other
    }
}

/// What a scan has seen.
#[derive(Debug, Default)]
pub(super) struct SeenKeys {
    /// The standbys with any key.
    pub databases: HashMap<usize, SeenDatabase>,
    /// Databases that nobody knows: the hashes of their roots ([`hash_of`]).
    pub unknown: HashSet<u64>,
    /// The standbys of which not all could be listed.
    pub failed: HashSet<usize>,
    /// The number of LISTs.
    pub lists: u64,
    /// The store does not list in ascending order, or has empty pages: the next scan of it must read all.
    pub is_unsorted: bool,
}

/// Where a scan goes on after a page.
#[derive(Debug, PartialEq, Eq)]
enum GoOn<'a> {
    /// Behind this key.
    At(&'a str),
    End,
}

impl StoreScan {
    pub(super) fn new(store: Store, prefix: String, mut sought: Vec<Sought>, is_whole: bool) -> Self {
        sought.sort_unstable_by(|a, b| a.upto.cmp(&b.upto));
        let by_root = sought.iter().map(|sought| (sought.root.clone(), (sought.id, sought.at))).collect();
        Self { store, prefix, sought, by_root, is_whole }
    }

    /// The standbys that it looks for.
    pub(super) fn ids(&self) -> impl Iterator<Item = usize> + '_ {
        self.sought.iter().map(|sought| sought.id)
    }

    /// Lists. With `is_unsorted` or on a disk all that begins with the prefix, otherwise as the module says.
    ///
    /// # Errors
    /// A LIST fails, after all retries. What was seen before is in `seen`.
    pub(super) async fn run(
        &self,
        http: &Http,
        lists: &ListRate,
        is_unsorted: bool,
        seen: &mut SeenKeys,
    ) -> Result<(), StoreError> {
        if self.store.is_on_disk() || is_unsorted {
            let is_request = !self.store.is_on_disk();
            if is_request {
                lists.take().await;
            }
            seen.is_unsorted = is_unsorted;
            let mut each = |page: ListPage| {
                seen.lists += u64::from(is_request);
                page.objects.iter().for_each(|object| self.note(object, seen));
                Ok(())
            };
            return self.store.list_all(http, &self.prefix, &mut each).await;
        }
        let Some(first) = self.sought.first() else { return Ok(()) };
        // A whole scan also shows databases before the first one that is known.
        let mut from = if self.is_whole { String::new() } else { first.from.clone() };
        // Ends: each page begins behind the one before it, and there are as many as databases and their pages.
        loop {
            lists.take().await;
            let start_after = Some(from.clone()).filter(|from| !from.is_empty());
            let request = ListRequest { prefix: self.prefix.clone(), start_after, ..ListRequest::default() };
            let page = self.store.list_page(http, &request).await?;
            seen.lists += 1;
            page.objects.iter().for_each(|object| self.note(object, seen));
            let is_cut = page.continuation.is_some();
            if !page.objects.is_sorted_by(|a, b| a.key < b.key) || page.objects.is_empty() && is_cut {
                seen.is_unsorted = true;
                return Ok(());
            }
            let Some(last) = page.objects.last().filter(|_| is_cut) else { return Ok(()) };
            if last.key <= from {
                return Err(endless(&self.prefix, &last.key));
            }
            match self.go_on(&last.key) {
                GoOn::At(key) => key.clone_into(&mut from),
                GoOn::End => return Ok(()),
            }
        }
    }

    /// Where to go on behind a page that ends with the key `last`.
    fn go_on<'a>(&'a self, last: &'a str) -> GoOn<'a> {
        let next = self.sought.partition_point(|sought| sought.upto.as_str() < last);
        let current = next.checked_sub(1).and_then(|current| self.sought.get(current));
        if self.is_whole && current.is_some_and(|current| last.starts_with(&current.root)) {
            return GoOn::At(last);
        }
        match self.sought.get(next) {
            Some(next) => GoOn::At(if next.from.as_str() < last { last } else { &next.from }),
            None => GoOn::End,
        }
    }

    fn note(&self, object: &ObjectMeta, seen: &mut SeenKeys) {
        let Some(key) = ltx_key(&object.key).filter(|_| object.key.starts_with(&self.prefix)) else { return };
        let Some(&(id, at)) = self.by_root.get(key.root) else {
            seen.unknown.insert(hash_of(key.root));
            return;
        };
        let (newest, layout) = (key.max_txid, key.layout);
        let database = seen.databases.entry(id).or_insert(SeenDatabase { newest, layout, last: None });
        if newest > database.newest {
            (database.newest, database.layout) = (newest, layout);
        }
        if (key.level, key.min_txid, key.max_txid) == (Level::TRANSACTIONS, at, at) {
            let modified = object.etag.is_none().then_some(object.last_modified);
            database.last = Some(LastFile { txid: at, layout, size: object.size, etag: object.etag.clone(), modified });
        }
    }
}

/// By this, databases are remembered that are not followed.
pub(super) fn hash_of(root: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    root.hash(&mut hasher);
    hasher.finish()
}

/// The error for a store that does not list behind the key that it was asked for.
fn endless(prefix: &str, last: &str) -> StoreError {
    StoreError {
        kind: StoreErrorKind::InvalidResponse,
        what: format!("list {}", escaped(prefix)),
        detail: format!("the page ends with {}, which is not behind the key that was asked for", escaped(last)),
        request_id: None,
        hint: None,
        attempts: 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::file::FileStore;

    fn scan(roots: &[&str], at: u64, is_whole: bool) -> StoreScan {
        let key = |root: &str, at| match is_whole {
            true => root.to_owned(),
            false => Layout::Hex.key(root, Level::TRANSACTIONS, Txid(at), Txid(at)),
        };
        let sought = roots.iter().enumerate().map(|(id, root)| Sought {
            id,
            root: (*root).to_owned(),
            at: Txid(at),
            from: key(root, at - 1),
            upto: key(root, at),
        });
        StoreScan::new(Store::File(FileStore::default()), "b/".to_owned(), sought.collect(), is_whole)
    }

    fn key(root: &str, level: u32, txid: u64) -> String {
        format!("{root}{level:04x}/{txid:016x}-{txid:016x}.ltx")
    }

    #[test]
    fn a_scan_goes_on_at_the_first_database_that_the_page_did_not_show() {
        let skipping = scan(&["b/1/", "b/2/", "b/3/"], 5, false);
        let from = |id: usize| GoOn::At(&skipping.sought[id].from);
        // A busy database, whose files of level 0 fill the page, costs no further page.
        assert_eq!(skipping.go_on(&key("b/1/", 0, 900)), from(1));
        assert_eq!(skipping.go_on(&key("b/1/", 3, 900)), from(1));
        // The page ends before the standby's last file, or with it: nothing behind it was shown.
        assert_eq!(skipping.go_on(&key("b/2/", 0, 3)), from(1));
        let last = key("b/2/", 0, 5);
        assert_eq!(skipping.go_on(&last), GoOn::At(&last));
        assert_eq!(skipping.go_on(&key("b/2/", 0, 6)), from(2));
        assert_eq!(skipping.go_on("b/2x/whatever"), from(2));
        assert_eq!(skipping.go_on(&key("b/3/", 0, 6)), GoOn::End);
    }

    #[test]
    fn a_whole_scan_reads_each_database_and_skips_what_lies_between() {
        let whole = scan(&["b/1/", "b/2/", "b/3/"], 5, true);
        let last = key("b/1/", 0, 900);
        assert_eq!(whole.go_on(&last), GoOn::At(&last));
        assert_eq!(whole.go_on("b/11/0000/x"), GoOn::At("b/2/"));
        let last = key("b/3/", 9, 1);
        assert_eq!(whole.go_on(&last), GoOn::At(&last));
        assert_eq!(whole.go_on("b/4/0000/x"), GoOn::End);
    }

    #[test]
    fn keys_are_told_apart_by_their_database() {
        let scan = scan(&["b/1/", "b/1/nested/"], 5, false);
        let mut seen = SeenKeys::default();
        for seen_key in [
            key("b/1/", 0, 7),
            key("b/1/", 9, 6),
            key("b/1/nested/", 0, 5),
            key("b/new/", 0, 1),
            key("c/other/", 0, 1),
            "b/1/0000/readme.txt".to_owned(),
        ] {
            let last_modified = Timestamp::from_millis(7);
            let object = ObjectMeta { key: seen_key, size: 9, last_modified, etag: None, archived: false };
            scan.note(&object, &mut seen);
        }
        let found = |id: usize| seen.databases.get(&id).map(|seen| (seen.newest.0, seen.last.clone()));
        let modified = Some(Timestamp::from_millis(7));
        let last = LastFile { txid: Txid(5), layout: Layout::Hex, size: 9, etag: None, modified };
        assert_eq!([found(0), found(1)], [Some((7, None)), Some((5, Some(last)))]);
        assert_eq!(seen.unknown, HashSet::from([hash_of("b/new/")]));
    }
}
