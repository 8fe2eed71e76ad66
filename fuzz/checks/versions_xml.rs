//! The check for pages of listings of versions. Parsing must never panic. A page must never continue at markers that lead
//! back to the same page, and an entry must have what the rule for past times needs.

use hydrant::store::s3::parse_versions_page;
use hydrant::store::{VersionMarkers, VersionsRequest};

pub(super) fn check(data: &[u8]) {
    let asked = VersionMarkers { key: "k".to_owned(), version_id: Some("v".to_owned()) };
    let request = VersionsRequest { markers: Some(asked.clone()), ..VersionsRequest::default() };
    let with_markers = parse_versions_page(data, &request);
    let first = parse_versions_page(data, &VersionsRequest::default());
    match (&with_markers, &first) {
        (Ok(page), Ok(first)) => {
            assert_ne!(page.next.as_ref(), Some(&asked));
            assert_eq!(page, first);
            assert!(page.entries.iter().all(|entry| !entry.version_id.is_empty()));
            assert!(page.next.iter().all(|next| !next.key.is_empty()));
            // Each entry and each prefix takes dozens of bytes of XML, so a short document cannot have many.
            assert!(page.entries.len() + page.common_prefixes.len() <= data.len() / 16);
        }
        (Err(_), Ok(first)) => assert_eq!(first.next.as_ref(), Some(&asked)),
        (Ok(_), Err(error)) => panic!("an error only without markers: {error}"),
        (Err(_), Err(_)) => {}
    }
}
