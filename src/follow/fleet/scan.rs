//! Finds the databases of a bucket that have changed, with as few LISTs as possible.
//!
//! A LIST page has up to 1,000 keys in ascending order, and a database's newest files of level 0 come right behind the
//! file that its standby ends with. So a scan lists from there on, and goes on at the first database that the page did
//! not show: small databases share a page, and a large one costs one page at most. A whole scan begins at the first key
//! of each database instead, and reads on until its last one: it also shows higher levels, and databases that are gone.

use crate::catalogue::{Layout, ltx_key};
use crate::error::escaped;
use crate::follow::means::ListRate;
use crate::ltx::Txid;
use crate::store::{Http, ListPage, ListRequest, Store, StoreError, StoreErrorKind};
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// A database to look for.
#[derive(Debug, Clone)]
pub(super) struct Sought {
    /// The number of the standby.
    pub id: usize,
    /// What its keys begin with.
    pub root: String,
    /// The key to list from. Keys up to it are of no interest.
    pub from: String,
}

/// A scan of one store.
pub(super) struct StoreScan {
    pub store: Store,
    /// What all keys of interest begin with.
    pub prefix: String,
    /// Ascending by `from`.
    sought: Vec<Sought>,
    by_root: HashMap<String, usize>,
    /// Whether each database is read to its last key.
    is_whole: bool,
}

/// What a scan has seen.
#[derive(Debug, Default)]
pub(super) struct SeenKeys {
    /// For each standby with any key: the newest TXID, and the layout of its keys.
    pub newest: HashMap<usize, (Txid, Layout)>,
    /// Databases that nobody knows: the hashes of their roots ([`hash_of`]).
    pub unknown: HashSet<u64>,
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
        sought.sort_unstable_by(|a, b| a.from.cmp(&b.from));
        let by_root = sought.iter().map(|sought| (sought.root.clone(), sought.id)).collect();
        Self { store, prefix, sought, by_root, is_whole }
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
            lists.take().await;
            seen.is_unsorted = is_unsorted;
            let mut each = |page: ListPage| {
                seen.lists += 1;
                page.objects.iter().for_each(|object| self.note(&object.key, seen));
                Ok(())
            };
            return self.store.list_all(http, &self.prefix, &mut each).await;
        }
        let Some(mut from) = self.sought.first().map(|first| first.from.clone()) else { return Ok(()) };
        // Ends: each page begins behind the one before it, and there are as many as databases and their pages.
        loop {
            lists.take().await;
            let start_after = Some(from.clone());
            let request = ListRequest { prefix: self.prefix.clone(), start_after, ..ListRequest::default() };
            let page = self.store.list_page(http, &request).await?;
            seen.lists += 1;
            page.objects.iter().for_each(|object| self.note(&object.key, seen));
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
        let next = self.sought.partition_point(|sought| sought.from.as_str() <= last);
        let current = next.checked_sub(1).and_then(|current| self.sought.get(current));
        if self.is_whole && current.is_some_and(|current| last.starts_with(&current.root)) {
            return GoOn::At(last);
        }
        self.sought.get(next).map_or(GoOn::End, |next| GoOn::At(&next.from))
    }

    fn note(&self, key: &str, seen: &mut SeenKeys) {
        let Some(parsed) = ltx_key(key).filter(|_| key.starts_with(&self.prefix)) else { return };
        match self.by_root.get(parsed.root) {
            Some(&id) => {
                let newest = seen.newest.entry(id).or_insert((parsed.max_txid, parsed.layout));
                if parsed.max_txid > newest.0 {
                    *newest = (parsed.max_txid, parsed.layout);
                }
            }
            None => {
                seen.unknown.insert(hash_of(parsed.root));
            }
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
        let sought = roots.iter().enumerate().map(|(id, root)| Sought {
            id,
            root: (*root).to_owned(),
            from: match is_whole {
                true => (*root).to_owned(),
                false => Layout::Hex.key(root, crate::ltx::Level::TRANSACTIONS, Txid(at), Txid(at)),
            },
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
        // The page ends before the standby's last file: that database was not shown.
        assert_eq!(skipping.go_on(&key("b/2/", 0, 4)), from(1));
        assert_eq!(skipping.go_on(&key("b/2/", 0, 5)), from(2));
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
            scan.note(&seen_key, &mut seen);
        }
        let newest: Vec<_> = (0..2).map(|id| seen.newest.get(&id).map(|(txid, _)| txid.0)).collect();
        assert_eq!(newest, [Some(7), Some(5)]);
        assert_eq!(seen.unknown, HashSet::from([hash_of("b/new/")]));
    }
}
