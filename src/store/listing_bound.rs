//! Detects listings that would never end.
//!
//! A broken or hostile server can lead the client from page to page for ever: with continuation tokens that
//! lead back to earlier pages, or with new tokens for pages that contain no new key.

use super::{ListPage, StoreError, StoreErrorKind};
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
    use crate::store::ObjectMeta;
    use crate::timestamp::Timestamp;

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
