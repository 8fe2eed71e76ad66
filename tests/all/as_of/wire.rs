//! What is sent and what is answered: signatures, opaque markers, odd keys, endless listings, and the errors of
//! requests for a version.

use super::support::{BUCKET, history, named, past, run as program, s3_of, sha256, time};
use crate::common::client::{Client, collect, config, options, run};
use crate::common::raw::{RawServer, answer};
use hydrant::catalogue::{CatalogueMemory, root_of};
use hydrant::restore::{HistoryExtent, list_history};
use hydrant::sim::generate::v3::{FleetV3, v3_fleet};
use hydrant::sim::server::{Object, SimCredentials, SimOptions, SimServer};
use hydrant::store::{Http, ListRequest, ListingBound, Past, Store, StoreError, StoreErrorKind, VersionsRequest};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[test]
fn every_request_is_signed() {
    let one = named("relineage-s-coarse");
    let credentials = SimCredentials {
        access_key: "AKIDHYDRANTTESTS".into(),
        secret_key: "hydrant-tests-secret-key".into(),
        session_token: None,
    };
    let options = SimOptions { credentials: Some(credentials), max_keys: 7, ..SimOptions::default() };
    let server = SimServer::start(options).unwrap();
    server.versions().load_history(BUCKET, &one.file).unwrap();
    let target = one.targets.iter().rfind(|target| target["sha256"].is_string()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let url = format!("s3://{BUCKET}/{}", one.path);
    let args = ["restore", "-o", "out.db", "-as-of", target["as_of"].as_str().unwrap(), &url];
    program(dir.path(), &server, &args).said(0, &[]);
    assert_eq!(sha256(&dir.path().join("out.db")), target["sha256"].as_str().unwrap());
}

#[test]
fn keys_and_folders_of_the_past() {
    let server = SimServer::start(SimOptions { max_keys: 1, ..SimOptions::default() }).unwrap();
    let at = time("2026-01-01T00:00:00Z");
    let put = |key: &str, id: &str| {
        server.versions().put_version(BUCKET, key, id, Object::new(id.to_owned()).last_modified(at));
    };
    put("a b+c/ü&1", "one");
    put("a b+c/ü&1", "two");
    put("gone/x", "three");
    put("null/x", "null");
    server.versions().put_marker(BUCKET, "gone/x", "m", time("2026-02-01T00:00:00Z"));
    let store = past(&server, at, true);
    let list = |delimiter| {
        let (http, mut found) = (Http::default(), Vec::new());
        let mut request = ListRequest { delimiter, ..ListRequest::default() };
        // Ends: there are four entries.
        loop {
            let page = run(store.list_page(&http, &request)).unwrap();
            found.extend(page.common_prefixes);
            found.extend(page.objects.into_iter().map(|object| object.key));
            request.continuation = page.continuation;
            if request.continuation.is_none() {
                return found;
            }
        }
    };
    assert_eq!(list(None), ["a b+c/ü&1", "gone/x", "null/x"]);
    // A folder with nothing but deleted files is found.
    assert_eq!(list(Some('/')), ["a b+c/", "gone/", "null/"]);
    let read = |key: &str| {
        run(async {
            let mut body = store.get(&Http::default(), key, 0..3, None).await?;
            collect(&mut body).await
        })
    };
    assert_eq!(read("a b+c/ü&1").unwrap(), b"two");
    assert_eq!(read("gone/x").unwrap(), b"thr");
    assert_eq!(read("null/x").unwrap(), b"nul");
    let head = run(store.head(&Http::default(), "gone/x")).unwrap();
    assert_eq!((head.size, head.last_modified), (5, Some(at)));
    // What was not listed has no version: it is never read as it is now.
    let unknown = run(store.head(&Http::default(), "other")).unwrap_err();
    assert!(unknown.detail.starts_with("this is a bug in Hydrant"), "{unknown}");
}

#[test]
fn errors_of_requests_for_a_version() {
    let server = SimServer::start(SimOptions::default()).unwrap();
    let at = time("2026-01-01T00:00:00Z");
    server.versions().put_version(BUCKET, "k", "v1", Object::new("x").last_modified(at));
    server.versions().put_marker(BUCKET, "k", "m1", at);
    for (id, kind, text) in [
        ("v2", StoreErrorKind::NotFound, "HTTP 404: NoSuchVersion"),
        ("m1", StoreErrorKind::Unsupported, "this is a bug in Hydrant, please report: a delete marker was taken"),
        ("a/b", StoreErrorKind::Unsupported, "HTTP 400: InvalidArgument"),
    ] {
        let bucket = Past::new(s3_of(&server), at, u64::MAX, false, root_of);
        bucket.set_version_id("k", id).unwrap();
        let store = Store::Past(Arc::new(bucket));
        let error = run(store.get(&Http::default(), "k", 0..1, None)).err().unwrap();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.detail.contains(text), "{error}");
    }
}

/// A page with one version and markers for the next page.
fn page(key: &str, version: &str, marker: u64) -> String {
    format!(
        "<ListVersionsResult><IsTruncated>true</IsTruncated><NextKeyMarker>{marker}</NextKeyMarker>\
         <NextVersionIdMarker>v</NextVersionIdMarker><Version><Key>{key}</Key><VersionId>{version}</VersionId>\
         <IsLatest>true</IsLatest><LastModified>2026-01-01T00:00:00Z</LastModified><Size>1</Size></Version>\
         <CommonPrefixes><Prefix>p/0001/</Prefix></CommonPrefixes></ListVersionsResult>"
    )
}

#[test]
fn a_listing_of_versions_without_an_end_is_an_error() {
    let key = "p/0001/0000000000000001-0000000000000001.ltx";
    // The same version under other markers, and other versions under markers that come again.
    for repeats_version in [true, false] {
        let count = AtomicU64::new(0);
        let server = RawServer::start(move |request, to| {
            let n = count.fetch_add(1, Relaxed);
            if request.target.contains("delimiter") {
                let folders = "<ListVersionsResult><IsTruncated>false</IsTruncated><CommonPrefixes><Prefix>p/0001/</Prefix>\
                               </CommonPrefixes></ListVersionsResult>";
                return answer(to, "200 OK", "", folders.as_bytes());
            }
            let body = if repeats_version { page(key, "v", n) } else { page(key, &format!("v{n}"), n % 2) };
            answer(to, "200 OK", "", body.as_bytes())
        });
        let client = Client::new(config(&server.endpoint()), &options());
        let memory = CatalogueMemory::default();
        let s3 = client.store.bucket().unwrap();
        let listed = run(list_history(&Http::default(), s3, "p", HistoryExtent::Whole, &memory));
        let error = listed.err().unwrap();
        assert_eq!(error.kind, StoreErrorKind::InvalidResponse, "{error}");
        assert!(error.detail.contains("does not end"), "{error}");
        assert!(server.requests().len() < 8);
    }
}

/// Pages without an end under markers that are always new: without entries, and with an entry that came before.
#[test]
fn pages_of_versions_without_anything_new_end() {
    let key = "p/0001/0000000000000001-0000000000000001.ltx";
    for has_entry in [true, false] {
        let count = AtomicU64::new(0);
        let server = RawServer::start(move |_, to| {
            let n = count.fetch_add(1, Relaxed);
            let empty = format!(
                "<ListVersionsResult><IsTruncated>true</IsTruncated><NextKeyMarker>{n}</NextKeyMarker></ListVersionsResult>"
            );
            answer(to, "200 OK", "", if has_entry { page(key, "v", n) } else { empty }.as_bytes())
        });
        let client = Client::new(config(&server.endpoint()), &options());
        let s3 = client.store.bucket().unwrap();
        // Before the entry, so that no page has an object of that time.
        let bucket = Past::new(Arc::clone(s3), time("2025-01-01T00:00:00Z"), u64::MAX, false, root_of);
        let request = ListRequest { prefix: "p/".to_owned(), ..ListRequest::default() };
        let whole = run(list_history(&Http::default(), s3, "p", HistoryExtent::Whole, &CatalogueMemory::default()));
        let at_time: Result<(), StoreError> = run(async {
            let (mut bound, mut request) = (ListingBound::default(), request);
            // This loop ends: `bound` refuses a listing without an end.
            loop {
                let page = bucket.list_page(&Http::default(), &request).await?;
                bound.check("p/", &page)?;
                request.continuation = page.continuation;
            }
        });
        for error in [whole.err().unwrap(), at_time.err().unwrap()] {
            assert_eq!(error.kind, StoreErrorKind::InvalidResponse, "{error}");
            assert!(error.detail.contains("1000 pages in a row"), "{error}");
        }
    }
}

/// A service without delimiters lists the entries of the folders; one that ignores the prefix shows nothing of it.
#[test]
fn services_that_ignore_parts_of_the_request() {
    let key = "p/0001/0000000000000001-0000000000000001.ltx";
    let server = RawServer::start(move |_, to| {
        let body = page(key, "v", 1)
            .replace("<IsTruncated>true", "<IsTruncated>false")
            .replace("<CommonPrefixes><Prefix>p/0001/</Prefix></CommonPrefixes>", "");
        answer(to, "200 OK", "", body.as_bytes())
    });
    let client = Client::new(config(&server.endpoint()), &options());
    let (s3, memory) = (client.store.bucket().unwrap(), CatalogueMemory::default());
    let listed = |path| run(list_history(&Http::default(), s3, path, HistoryExtent::Whole, &memory));
    assert_eq!(listed("p").unwrap().history.len(), 1);
    let error = listed("other").err().unwrap();
    assert_eq!(error.kind, StoreErrorKind::InvalidResponse, "{error}");
    assert!(error.detail.starts_with("no key in the answer begins with this prefix"), "{error}");
}

#[test]
fn markers_are_sent_back_unchanged() {
    let one = named("relineage-s-coarse");
    let server = one.serve(2);
    let s3 = s3_of(&server);
    let first = VersionsRequest { prefix: format!("{}/", one.path), ..VersionsRequest::default() };
    let page = run(s3.list_versions_page(&Http::default(), &first)).unwrap();
    let markers = page.next.unwrap();
    // The simulator's markers end in the middle of a key, and say nothing to a client.
    assert!(markers.key.contains("[sim:") && !page.entries.iter().any(|entry| entry.key == markers.key));
    // One page after the other gives what one page gives.
    let small = run(history(&server, &one.path, HistoryExtent::Whole)).unwrap();
    let large = run(history(&one.serve(1000), &one.path, HistoryExtent::Whole)).unwrap();
    let ids = |history: &hydrant::catalogue::History| {
        history.spans().map(|span| (span.key.to_owned(), span.version_id.to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(ids(&small), ids(&large));
    assert_eq!(small.len(), large.len());
}

#[test]
fn the_list_of_a_history_keeps_to_the_memory_budget() {
    let one = named("relineage-s-coarse");
    let server = one.serve(1000);
    let limit = hydrant::catalogue::CatalogueLimit { budget_bytes: 10_000, limit_bytes: 10_000 };
    let memory = CatalogueMemory::new(limit);
    let s3 = s3_of(&server);
    let error = run(list_history(&Http::default(), &s3, &one.path, HistoryExtent::Whole, &memory)).err().unwrap();
    assert_eq!(error.kind, StoreErrorKind::TooLarge, "{error}");
    let bucket = Past::new(s3, time("2026-01-01T00:00:00Z"), 100, false, root_of);
    assert_eq!(
        bucket.set_version_id("key", &"v".repeat(40)).err().map(|error| error.kind),
        Some(StoreErrorKind::TooLarge)
    );
}

#[test]
fn a_replica_of_litestream_0_3_that_was_deleted() {
    let replica = v3_fleet(&FleetV3 { count: 1, ..FleetV3::default() }).remove(0);
    let server = SimServer::start(SimOptions { max_keys: 2, ..SimOptions::default() }).unwrap();
    let mut newest = replica.objects[0].last_modified;
    for (n, object) in replica.objects.iter().enumerate() {
        let stored = Object::new(object.bytes.clone()).last_modified(object.last_modified);
        server.versions().put_version(BUCKET, &object.key, &format!("v{n}"), stored);
        newest = newest.max(object.last_modified);
    }
    let deleted = newest.saturating_add_nanos(60_000_000_000);
    for object in &replica.objects {
        server.versions().put_marker(BUCKET, &object.key, "m", deleted);
    }
    let dir = tempfile::tempdir().unwrap();
    let (url, expected) = (format!("s3://{BUCKET}/{}", replica.root), replica.newest().unwrap());
    for as_of in ["last", &newest.to_string()] {
        let out = format!("{}.db", as_of.len());
        let ran = program(dir.path(), &server, &["restore", "-o", &out, "-json", "-as-of", as_of, &url]).said(0, &[]);
        assert_eq!(sha256(&dir.path().join(&out)), hydrant::hex::Hex(&expected.sha256).to_string());
        let json = ran.json();
        assert_eq!((&json["format"], json["version_ids"].as_array().unwrap().len()), (&"v0.3".into(), 6), "{json}");
    }
    let gone = ["restore", "-o", "x.db", "-as-of", &deleted.to_string(), &url];
    program(dir.path(), &server, &gone)
        .said(1, &["everything had been deleted by ", "Try: hydrant restore -o x.db -as-of "]);
}
