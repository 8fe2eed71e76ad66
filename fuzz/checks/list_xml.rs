//! The check for pages of S3 listings. Parsing must never panic. A page must never continue at a token that leads
//! nowhere or back to the same page.

use hydrant::store::s3::parse_list_page;

const ASKED: &str = "t";

pub(super) fn check(data: &[u8]) {
    let with_token = parse_list_page(data, Some(ASKED));
    let first = parse_list_page(data, None);
    match (&with_token, &first) {
        (Ok(page), Ok(first)) => {
            assert_ne!(page.continuation.as_deref(), Some(ASKED));
            assert_eq!(page.objects.len(), first.objects.len());
            // Each object and each prefix takes dozens of bytes of XML, so a short document cannot have many.
            assert!(page.objects.len() + page.common_prefixes.len() <= data.len() / 16);
        }
        (Err(_), Ok(first)) => assert_eq!(first.continuation.as_deref(), Some(ASKED)),
        (Ok(_), Err(error)) => panic!("an error only without a token: {error}"),
        (Err(_), Err(_)) => {}
    }
}
