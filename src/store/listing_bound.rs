//! Detects listings that would never end.
//!
//! A broken or hostile server can lead the client from page to page for ever: with continuation tokens that
//! lead back to earlier pages, or with new tokens for pages that contain no new key. The same holds for the markers of
//! a listing of versions.

use super::{ListPage, StoreError, StoreErrorKind, VersionsPage};
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Maximum number of pages in a row without a new key. Real services return some such pages, for deleted keys
/// or for keys that a filter leaves out.
const MAX_PAGES_WITHOUT_NEW_KEYS: u32 = 1_000;

/// What one listing has returned so far. It takes 8 bytes of memory for each page and for each token.
#[derive(Debug, Default)]
pub struct ListingBound {
    tokens: HashSet<u64>,
    pages: HashSet<u64>,
    /// Number of pages without a new key since the last page that had one.
    without_new_keys: u32,
    /// Whether any key began with the prefix.
    any_below: bool,
    /// The first key that did not begin with the prefix.
    elsewhere: Option<String>,
}

impl ListingBound {
    /// Records the next page of the listing of `prefix`.
    ///
    /// # Errors
    /// [`StoreErrorKind::InvalidResponse`] if the page's continuation token was seen before, or if this is the
    /// 1,000th page in a row without a new key. The listing would not end.
    pub fn check(&mut self, prefix: &str, page: &ListPage) -> Result<(), StoreError> {
        self.note_prefix(prefix, page);
        let Some(token) = &page.continuation else { return Ok(()) };
        if !self.tokens.insert(hash(token)) {
            return Err(endless(prefix, "a continuation token that it gave before".to_owned()));
        }
        let keys: Vec<&str> = page.objects.iter().map(|object| object.key.as_str()).collect();
        let is_empty = keys.is_empty() && page.common_prefixes.is_empty();
        if !is_empty && self.pages.insert(hash(&(keys, &page.common_prefixes))) {
            self.without_new_keys = 0;
            return Ok(());
        }
        self.without_new_keys += 1;
        if self.without_new_keys < MAX_PAGES_WITHOUT_NEW_KEYS {
            return Ok(());
        }
        Err(endless(prefix, format!("{MAX_PAGES_WITHOUT_NEW_KEYS} pages in a row without a new key")))
    }

    fn note_prefix(&mut self, prefix: &str, page: &ListPage) {
        if self.any_below {
            return;
        }
        let keys = page.objects.iter().map(|object| &object.key).chain(page.unlisted.iter().map(|one| &one.key));
        for key in keys {
            if key.starts_with(prefix) {
                self.any_below = true;
                return;
            }
            self.elsewhere.get_or_insert_with(|| key.clone());
        }
    }

    /// The first key that does not begin with the prefix, if there are keys and none begins with it. Such a listing
    /// shows nothing about the prefix.
    pub fn only_elsewhere(&self) -> Option<&str> {
        self.elsewhere.as_deref().filter(|_| !self.any_below)
    }

    /// Whether any key began with the prefix.
    pub fn any_below(&self) -> bool {
        self.any_below
    }

    /// To be called after the last page of the listing of `prefix`.
    ///
    /// # Errors
    /// There are keys, and none begins with the prefix ([`Self::only_elsewhere`]).
    pub fn finish(&self, prefix: &str) -> Result<(), StoreError> {
        self.only_elsewhere().map_or(Ok(()), |key| Err(elsewhere(prefix, key)))
    }
}

/// What one listing of versions has returned so far. It takes 8 bytes of memory for each page and for each pair of
/// markers.
#[derive(Debug, Default)]
pub struct VersionsBound {
    markers: HashSet<u64>,
    pages: HashSet<u64>,
    /// Number of pages without a new entry since the last page that had one.
    without_new_entries: u32,
    /// Whether any key began with the prefix.
    any_below: bool,
    /// The first key that did not begin with the prefix.
    elsewhere: Option<String>,
}

impl VersionsBound {
    /// Records the next page of the listing of `prefix`.
    ///
    /// # Errors
    /// [`StoreErrorKind::InvalidResponse`] if the page's markers were seen before, or if this is the 1,000th page in a
    /// row without a new entry. The listing would not end.
    pub fn check(&mut self, prefix: &str, page: &VersionsPage) -> Result<(), StoreError> {
        self.note_prefix(prefix, page);
        let Some(markers) = &page.next else { return Ok(()) };
        if !self.markers.insert(hash(markers)) {
            return Err(endless_versions(prefix, "markers that it gave before".to_owned()));
        }
        let entries: Vec<_> = page.entries.iter().map(|entry| (&entry.key, &entry.version_id)).collect();
        let is_empty = entries.is_empty() && page.common_prefixes.is_empty();
        if !is_empty && self.pages.insert(hash(&(entries, &page.common_prefixes))) {
            self.without_new_entries = 0;
            return Ok(());
        }
        self.without_new_entries += 1;
        if self.without_new_entries < MAX_PAGES_WITHOUT_NEW_KEYS {
            return Ok(());
        }
        let why = format!("{MAX_PAGES_WITHOUT_NEW_KEYS} pages in a row without a new version");
        Err(endless_versions(prefix, why))
    }

    fn note_prefix(&mut self, prefix: &str, page: &VersionsPage) {
        if self.any_below {
            return;
        }
        for key in page.entries.iter().map(|entry| &entry.key).chain(&page.common_prefixes) {
            if key.starts_with(prefix) {
                self.any_below = true;
                return;
            }
            self.elsewhere.get_or_insert_with(|| key.clone());
        }
    }

    /// To be called after the last page of the listing of `prefix`.
    ///
    /// # Errors
    /// There are keys, and none begins with the prefix: the listing shows nothing about it.
    pub fn finish(&self, prefix: &str) -> Result<(), StoreError> {
        let key = self.elsewhere.as_deref().filter(|_| !self.any_below);
        key.map_or(Ok(()), |key| Err(elsewhere(prefix, key)))
    }
}

/// The error for a listing of versions below `prefix` that does not end. `why` says what the server gave.
pub fn endless_versions(prefix: &str, why: String) -> StoreError {
    StoreError {
        detail: format!("the listing of versions does not end: the server gave {why}"),
        hint: Some("check that the endpoint implements ListObjectVersions".to_owned()),
        ..endless(prefix, String::new())
    }
}

/// The error for a listing of `prefix` that has keys, but none that begins with it. `key` is one of them.
pub fn elsewhere(prefix: &str, key: &str) -> StoreError {
    StoreError {
        kind: StoreErrorKind::InvalidResponse,
        what: format!("LIST {prefix}"),
        detail: format!("no key in the answer begins with this prefix, for example {key:?}"),
        request_id: None,
        hint: Some(
            "the service changes keys or ignores the prefix, so it is not known what lies there: check the endpoint, \
             and gateways before it"
                .to_owned(),
        ),
        attempts: 1,
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn endless(prefix: &str, why: String) -> StoreError {
    StoreError {
        kind: StoreErrorKind::InvalidResponse,
        what: format!("LIST {prefix}"),
        detail: format!("the listing does not end: the server gave {why}"),
        request_id: None,
        hint: Some("check that the endpoint implements ListObjectsV2".to_owned()),
        attempts: 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{ObjectMeta, VersionEntry, VersionMarkers};
    use crate::timestamp::Timestamp;

    fn versions_page(version_id: Option<&str>, marker: &str) -> VersionsPage {
        let entry = |id: &str| VersionEntry {
            key: "p/a".to_owned(),
            version_id: id.into(),
            last_modified: Timestamp::from_millis(1),
            is_latest: false,
            data: None,
        };
        VersionsPage {
            entries: version_id.map(entry).into_iter().collect(),
            next: Some(VersionMarkers { key: "p/a".to_owned(), version_id: Some(marker.to_owned()) }),
            ..VersionsPage::default()
        }
    }

    #[test]
    fn versions_that_never_end() {
        for version_id in [None, Some("v")] {
            let mut bound = VersionsBound::default();
            let mut pages = (0..2_000).map(|i| bound.check("p/", &versions_page(version_id, &i.to_string())));
            let (at, error) = pages.by_ref().enumerate().find_map(|(i, checked)| Some((i, checked.err()?))).unwrap();
            // The first page with "v" has a new entry.
            assert_eq!(at, 999 + usize::from(version_id.is_some()));
            assert!(error.to_string().contains("does not end: the server gave 1000 pages"), "{error}");
        }
        let mut bound = VersionsBound::default();
        bound.check("p/", &versions_page(Some("v"), "x")).unwrap();
        let error = bound.check("p/", &versions_page(Some("w"), "x")).unwrap_err();
        assert!(error.to_string().contains("markers that it gave before"), "{error}");
        // Many pages of the versions of one key are no such listing.
        let mut bound = VersionsBound::default();
        (0..3_000).for_each(|i| bound.check("p/", &versions_page(Some(&i.to_string()), &i.to_string())).unwrap());
    }

    #[test]
    fn keys_that_are_all_elsewhere_show_nothing() {
        let finished = |prefix: &str, pages: &[&[&str]]| {
            let mut bound = ListingBound::default();
            for (n, keys) in pages.iter().enumerate() {
                bound.check(prefix, &page(keys, &n.to_string())).unwrap();
            }
            bound.finish(prefix)
        };
        finished("p/", &[]).unwrap();
        finished("p/", &[&[], &["p/a"]]).unwrap();
        // The service ignores the prefix, and the prefix has a key.
        finished("p/", &[&["o/a"], &["p/a"]]).unwrap();
        let error = finished("p/", &[&["/p/a", "/p/b"], &["/p/c"]]).unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::InvalidResponse);
        assert!(error.to_string().starts_with("LIST p/: no key in the answer begins with this prefix, for example"));
        assert!(error.to_string().contains("/p/a"), "{error}");
    }

    fn page(keys: &[&str], token: &str) -> ListPage {
        let object = |key: &&str| ObjectMeta {
            key: (*key).to_owned(),
            size: 1,
            last_modified: Timestamp::from_millis(1),
            etag: None,
            archived: false,
        };
        ListPage {
            objects: keys.iter().map(object).collect(),
            continuation: Some(token.to_owned()),
            ..ListPage::default()
        }
    }

    #[test]
    fn a_token_that_was_seen_ends_the_listing() {
        let mut bound = ListingBound::default();
        for (key, token) in [("a", "A"), ("b", "B"), ("c", "C")] {
            bound.check("p/", &page(&[key], token)).unwrap();
        }
        let error = bound.check("p/", &page(&["d"], "A")).unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::InvalidResponse);
        assert!(error.to_string().starts_with("LIST p/: the listing does not end"), "{error}");
    }

    #[test]
    fn so_do_a_thousand_pages_without_a_new_key() {
        for pages in [&[&[] as &[&str]] as &[&[&str]], &[&["a"], &["b"]]] {
            let mut bound = ListingBound::default();
            let mut turns = (0..3_000).map(|n| (n, bound.check("p/", &page(pages[n % pages.len()], &n.to_string()))));
            let (ended_at, _) = turns.find(|(_, checked)| checked.is_err()).expect("an end");
            let new = pages.iter().filter(|keys| !keys.is_empty()).count();
            assert_eq!(ended_at, new + 999);
        }
    }

    #[test]
    fn listings_with_new_keys_go_on() {
        let mut bound = ListingBound::default();
        for n in 0..5_000 {
            let (key, token) = (format!("{:05}", n / 900), n.to_string());
            // 899 empty pages lie between two pages that have a key.
            let keys: &[&str] = if n % 900 == 0 { &[&key] } else { &[] };
            bound.check("p/", &page(keys, &token)).unwrap();
        }
        bound.check("p/", &ListPage::default()).unwrap();
    }
}
