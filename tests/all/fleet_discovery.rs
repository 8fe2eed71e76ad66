//! Tests of which databases a pattern finds in the simulator: the corpus' fleet by URL and by configuration, large
//! fleets with their number of LIST requests, and listings that are unsorted, refused or endless.

use hydrant::cancel::CancellationToken;
use hydrant::config::Config;
use hydrant::error::Class;
use hydrant::fleet::{
    DiscoverError, Discovery, DiscoveryProgress, FleetSource, FoundFailure, Options, Output, Pattern, Shard, discover,
};
use hydrant::io::IoBackend;
use hydrant::io::fault::{Effect, Step, inject};
use hydrant::restore::{SEGMENT_BYTES, Workers, WorkersOptions};
use hydrant::sim::server::{Failure, Object, RequestKind, SimOptions, SimServer};
use hydrant::store::Store;
use hydrant::store::s3::{Environment, Retries, S3, S3Options};
use hydrant::telemetry::Counters;
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// The environment variables for tests, in place of the process's own.
fn env(name: &str) -> Option<String> {
    match name {
        "AWS_ACCESS_KEY_ID" => Some("key".to_owned()),
        "AWS_SECRET_ACCESS_KEY" => Some("secret".to_owned()),
        _ => None,
    }
}

fn open(config: &hydrant::config::StoreConfig) -> Store {
    let retries = Retries { base: Duration::from_millis(1), cap: Duration::from_millis(5), ..Retries::default() };
    let options = S3Options { retries, environment: Environment::from_lookup(env), ..S3Options::default() };
    match config {
        hydrant::config::StoreConfig::S3(s3) => Store::S3(Arc::new(S3::new(s3.clone(), &options, Arc::default()))),
        hydrant::config::StoreConfig::File => Store::File(Default::default()),
    }
}

fn run_counting(source: FleetSource, options: Options) -> Result<(Discovery, Arc<DiscoveryProgress>), DiscoverError> {
    let engine_options = WorkersOptions {
        workers: 1,
        kind: IoBackend::Pwrite,
        memory_bytes: 16 << 20,
        tasks: 4,
        segment_bytes: SEGMENT_BYTES,
        checks: false,
        catalogue: Default::default(),
    };
    let engine = Workers::start(&engine_options, Arc::new(Counters::default()), CancellationToken::new()).unwrap();
    let progress = Arc::new(DiscoveryProgress::default());
    let seen = Arc::clone(&progress);
    let discovered =
        engine.run(move |worker| Box::pin(async move { discover(&worker, &source, options, &seen).await }));
    Ok((discovered.unwrap()?, progress))
}

fn run(source: FleetSource, options: Options) -> Discovery {
    run_counting(source, options).unwrap().0
}

fn by_url(url: &str) -> FleetSource {
    FleetSource::url(url, &env, &mut |config| open(config)).unwrap()
}

fn by_config(pattern: &str, config: &str) -> FleetSource {
    let config = Config::parse(Path::new("/etc/litestream.yml"), config, false, &env).unwrap();
    FleetSource::config(pattern, &config, &env, &mut |config| open(config)).unwrap()
}

fn server(options: SimOptions) -> SimServer {
    SimServer::start(options).unwrap()
}

fn put(server: &SimServer, bucket: &str, keys: impl IntoIterator<Item = String>) {
    for key in keys {
        server.objects().put(bucket, &key, Object::new("x"));
    }
}

/// The keys of a database with `files` files.
fn files(root: &str, files: usize) -> Vec<String> {
    let key = |i: usize| format!("{root}/{}/{i:016x}-{i:016x}.ltx", if i == 1 { "0009" } else { "0000" });
    (1..=files).map(key).collect()
}

fn names(discovery: &Discovery) -> Vec<&str> {
    discovery.found.iter().map(|found| found.database.name()).collect()
}

fn lists(server: &SimServer) -> u64 {
    server.stats().of_kind(RequestKind::List)
}

fn endpoint(server: &SimServer) -> String {
    format!("endpoint={}&forcePathStyle=true&region=us-east-1", server.endpoint())
}

/// The folder and the manifest of the corpus' fleet. None if there is no corpus on this machine.
fn corpus() -> Option<(PathBuf, serde_json::Value)> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = std::env::var_os("HYDRANT_CORPUS").map(PathBuf::from).unwrap_or(manifest.join("../shared/corpus"));
    let Ok(text) = std::fs::read_to_string(corpus.join("fleet/fleet.json")) else {
        println!("the corpus's fleet is not here: skipped");
        return None;
    };
    Some((corpus.join("fleet/bucket"), serde_json::from_str(&text).unwrap()))
}

fn corpus_server() -> Option<(SimServer, serde_json::Value)> {
    let (folder, manifest) = corpus()?;
    let server = server(SimOptions::default());
    server.objects().load_folder("fleet", "", &folder, None).unwrap();
    Some((server, manifest))
}

fn of_manifest<'a>(manifest: &'a serde_json::Value, field: &str) -> BTreeSet<&'a str> {
    manifest["databases"].as_array().unwrap().iter().filter_map(|database| database[field].as_str()).collect()
}

#[test]
fn the_corpus_by_url() {
    let Some((server, manifest)) = corpus_server() else { return };
    let query = endpoint(&server);
    let all = run(by_url(&format!("s3://fleet/?{query}")), Options::default());
    assert_eq!(names(&all).into_iter().collect::<BTreeSet<_>>(), of_manifest(&manifest, "key"));
    assert_eq!((all.found.len(), all.matched, all.with_backups, all.without_backups), (49, 49, 49, 0));
    assert_eq!((all.lists, lists(&server), all.unordered), (1, 1, false));
    for found in &all.found {
        assert_eq!(found.database.id(), format!("fleet/{}", found.database.name()));
        assert_eq!(found.database.path(), found.database.name());
        assert_eq!(found.output, Output::Relative(found.database.name().to_owned()));
        assert!(!found.replica.as_ref().unwrap().files.is_empty());
    }
    let nested = run(by_url(&format!("s3://fleet/nested/app.db/?{query}")), Options::default());
    assert_eq!(names(&nested), ["nested/app.db", "nested/app.db/old/copy.db"]);
    let outputs: Vec<_> = nested.found.iter().map(|found| found.output.clone()).collect();
    assert_eq!(outputs, [Output::Relative("app.db".into()), Output::Relative("old/copy.db".into())]);
    let one = run(by_url(&format!("s3://fleet/backups/single/app.db?{query}")), Options::default());
    assert_eq!(names(&one), ["backups/single/app.db"]);
    // The patterns have %-escapes, a `?` as a wildcard, and an escaped `?` that is literal.
    let some = run(by_url(&format!("s3://fleet/backups/**/%61 b%2Edb?{query}")), Options::default());
    assert_eq!(names(&some), ["backups/tenants/with space/a b.db"]);
    let some = run(by_url(&format!("s3://fleet/backups/tenants/eu/*/order%3F.db?{query}")), Options::default());
    assert_eq!((some.found.len(), some.folders), (6, 6));
    let none = run(by_url(&format!("s3://fleet/backups/tenants/eu/\\*/orders.db?{query}")), Options::default());
    assert_eq!(none.matched, 0);
}

#[test]
fn the_corpus_by_config() {
    let Some((server, manifest)) = corpus_server() else { return };
    let config = manifest["config"].as_str().unwrap().replace("http://ENDPOINT", &server.endpoint());
    let all = run(by_config("/srv-host/**", &config), Options::default());
    let expected: BTreeMap<&str, &str> = manifest["databases"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|database| Some((database["config_path"].as_str()?, database["key"].as_str()?)))
        .collect();
    let found: BTreeMap<&str, &str> = all.found.iter().map(|f| (f.database.name(), f.database.path())).collect();
    assert_eq!(found, expected);
    assert!(all.failed.is_empty() && all.without_backups == 0, "{:?}", all.failed);
    assert_eq!(all.matched as usize, expected.len());
    assert_eq!(lists(&server), 2);
    for found in &all.found {
        let key = expected[found.database.name()];
        assert_eq!(found.database.id(), format!("fleet/{key}"));
        assert_eq!(found.replica.as_ref().unwrap().name(), key);
        match &found.output {
            Output::Configured(path) => assert_eq!(path, Path::new(found.database.name())),
            Output::InDir { dir, relative } => {
                assert_eq!(dir.join(relative), Path::new(found.database.name()));
                assert!(dir == Path::new("/srv-host/srv/tenants"));
            }
            Output::Relative(_) => panic!("{found:?}"),
        }
    }
    // With --output-dir, an output is the path below the longest directory of the pattern that has no wildcards.
    let options = Options { relative_outputs: true, ..Options::default() };
    let some = run(by_config("/srv-host/srv/tenants/a*/*.db", &config), options);
    let outputs: Vec<_> = some.found.iter().map(|found| found.output.clone()).collect();
    assert_eq!(outputs, ["acme/app.db", "acme/app.db-2.db", "acme/sessions.db"].map(|o| Output::Relative(o.into())));
    // A database that was never backed up is unknown if its pattern in the configuration does not cover it.
    let none = run(by_config("/srv-host/**/*.sqlite3", &config), Options::default());
    assert_eq!(none.matched, 0);
}

#[test]
fn the_corpus_on_disk() {
    let Some((folder, manifest)) = corpus() else { return };
    let folder = folder.canonicalize().unwrap();
    let root = folder.to_str().unwrap();
    let all = run(by_url(&format!("file://{root}/")), Options::default());
    let keys: BTreeSet<&str> =
        all.found.iter().map(|f| f.database.name().strip_prefix(root).unwrap().trim_matches('/')).collect();
    assert_eq!(keys, of_manifest(&manifest, "key"));
    assert!(
        all.found
            .iter()
            .all(|found| found.database.id() == found.database.name() && found.database.path() == found.database.name())
    );
    let some = run(by_url(&format!("file://{root}/backups/ten*/**/*.db")), Options::default());
    let outputs: BTreeSet<_> = some.found.iter().map(|found| format!("{:?}", found.output)).collect();
    assert!(outputs.contains("Relative(\"tenants/acme/app.db\")"), "{outputs:?}");
    let config = format!(
        "dbs:\n  - dir: /srv/t\n    pattern: '*.db'\n    recursive: true\n    replica: {{ path: {root}/backups/tenants }}\n  \
         - path: /srv/app.db\n    replica: {{ path: {root}/backups/single/app.db }}\n"
    );
    let configured = run(by_config("/srv/**", &config), Options::default());
    let tenants = of_manifest(&manifest, "key").iter().filter(|key| key.starts_with("backups/tenants/")).count();
    assert_eq!(configured.with_backups as usize, tenants + 1);
}

#[test]
fn two_thousand_databases_take_few_lists() {
    let server = server(SimOptions::default());
    put(&server, "fleet", (0..2000).flat_map(|i| files(&format!("backups/tenants/t{i:04}/app.db"), 5)));
    put(&server, "fleet", ["backups/README".to_owned(), "backups/tenants/t0500-".to_owned()]);
    let begun = std::time::Instant::now();
    let (discovery, progress) =
        run_counting(by_url(&format!("s3://fleet/backups/?{}", endpoint(&server))), Options::default()).unwrap();
    println!("{} LISTs, {:?}", discovery.lists, begun.elapsed());
    assert_eq!((discovery.found.len(), discovery.matched, discovery.folders), (2000, 2000, 2000));
    assert!(discovery.found.iter().all(|found| found.replica.as_ref().unwrap().files.len() == 5));
    assert!(lists(&server) <= 20, "{} LISTs", lists(&server));
    assert_eq!(discovery.lists, lists(&server));
    assert_eq!((progress.keys.load(Relaxed), progress.databases.load(Relaxed)), (10_002, 2000));

    // Every database is in exactly one shard.
    let mut shares = BTreeSet::new();
    for index in 0..3 {
        let source = by_url(&format!("s3://fleet/**/*.db?{}", endpoint(&server)));
        let share = run(source, Options { shard: Some(Shard { index, of: 3 }), ..Options::default() });
        assert_eq!(share.matched, 2000);
        assert!((500..800).contains(&share.found.len()));
        for found in share.found {
            assert!(shares.insert(found.database.name().to_owned()));
        }
    }
    assert_eq!(shares.len(), 2000);
}

#[test]
fn a_listing_out_of_order_is_read_to_its_end() {
    let server = server(SimOptions { unsorted_listings: true, max_keys: 50, ..SimOptions::default() });
    put(&server, "fleet", (0..300).flat_map(|i| files(&format!("t{i:04}/app.db"), 3)));
    let discovery = run(by_url(&format!("s3://fleet/?{}", endpoint(&server))), Options::default());
    assert!(discovery.unordered);
    assert_eq!(discovery.found.len(), 300);
    assert!(discovery.found.iter().all(|found| found.replica.as_ref().unwrap().files.len() == 3));
    assert!(lists(&server) <= 20, "{} LISTs", lists(&server));
}

/// Pages are small, and some names sort before or after the slashes of others. Listing in parallel ranges must find
/// the same as one listing.
#[test]
fn ranges_and_one_row_find_the_same() {
    let roots =
        ["a/app.db", "a/app.db-2", "a/app.db/old/copy.db", "a/app.db//x", "a/é/ü.db", "a/\u{10ffff}", "a/+ &.db"];
    let mut found = Vec::new();
    for max_keys in [1000, 7] {
        let server = server(SimOptions { max_keys, ..SimOptions::default() });
        for i in 0..20 {
            put(&server, "b", roots.iter().flat_map(|root| files(&format!("p/{i:02}/{root}"), 3)));
            put(&server, "b", files(&format!("p/{i:02}-"), 2));
            put(&server, "b", [format!("p/{i:02}/note.txt")]);
        }
        let discovery = run(by_url(&format!("s3://b/p/?{}", endpoint(&server))), Options::default());
        assert!(!discovery.unordered);
        let replicas: Vec<_> = discovery
            .found
            .into_iter()
            .map(|f| (f.database.name().to_owned(), f.replica.map(|r| r.files.len())))
            .collect();
        found.push(replicas);
    }
    assert_eq!(found[0].len(), 20 * (roots.len() + 1));
    assert_eq!(found[0], found[1]);
}

#[test]
fn a_database_at_the_root_of_a_bucket() {
    for (root, prefix) in [("0000", ""), ("./0000", ""), ("/0000", "")] {
        let server = server(SimOptions::default());
        put(&server, "b", [format!("{root}/0000000000000001-0000000000000001.ltx")]);
        let discovery = run(by_url(&format!("s3://b/{prefix}?{}", endpoint(&server))), Options::default());
        assert_eq!(names(&discovery), ["b"], "{root}");
        assert_eq!(discovery.found[0].database.path(), "");
        assert_eq!(discovery.found[0].output, Output::Relative("b".into()));
    }
}

#[test]
fn the_v3_format_is_found_as_such() {
    let server = server(SimOptions::default());
    let snapshot = "generations/0123456789abcdef/snapshots/00000000.snapshot.lz4";
    put(&server, "b", [format!("p/old.db/{snapshot}"), format!("p/both.db/{snapshot}")]);
    put(&server, "b", files("p/both.db", 1));
    let discovery = run(by_url(&format!("s3://b/p/*?{}", endpoint(&server))), Options::default());
    assert_eq!(names(&discovery), ["p/both.db", "p/old.db"]);
    assert_eq!((discovery.with_backups, discovery.v3_only), (2, 1));
}

fn config_of(server: &SimServer, entries: &[(&str, &str)]) -> String {
    let query = endpoint(server);
    let entry = |(path, replica): &(&str, &str)| {
        format!("  - path: {path}\n    replica: {{ url: \"s3://{replica}?{query}\" }}\n")
    };
    format!("dbs:\n{}", entries.iter().map(entry).collect::<String>())
}

#[test]
fn configured_databases_with_and_without_backups() {
    let server = server(SimOptions::default());
    put(&server, "b", files("single/app.db", 2));
    put(&server, "b", files("single/app.db-2", 3));
    put(&server, "b", files("single/app.db/old/x.db", 3));
    let config = config_of(
        &server,
        &[
            ("/srv/app.db", "b/single/app.db"),
            ("/srv/two.db", "b/single/app.db-2"),
            ("/srv/new.db", "b/single/new.db"),
            ("/srv/same.db", "b/single/app.db"),
            ("/srv/lost.db", "nowhere/x/lost.db"),
            ("/srv/lost2.db", "nowhere/x/lost2.db"),
            ("/other/app.db", "b/elsewhere/app.db"),
        ],
    ) + "  - path: /srv/bad.db\n    replica: { type: gcs, bucket: b }\n";
    let discovery = run(by_config("/srv/*", &config), Options::default());
    let files: Vec<_> =
        discovery.found.iter().map(|f| (f.database.name(), f.replica.as_ref().map(|r| r.files.len()))).collect();
    assert_eq!(
        files,
        [("/srv/app.db", Some(2)), ("/srv/new.db", None), ("/srv/same.db", Some(2)), ("/srv/two.db", Some(3))]
    );
    assert_eq!((discovery.matched, discovery.with_backups, discovery.without_backups), (7, 3, 1));
    let mut failed: Vec<_> = discovery.failed.iter().map(|f| (f.name.as_str(), f.class())).collect();
    failed.sort();
    assert_eq!(
        failed,
        [("/srv/bad.db", Class::Config), ("/srv/lost.db", Class::S3Error), ("/srv/lost2.db", Class::S3Error)]
    );
}

#[test]
fn a_refused_shared_listing_becomes_one_for_each() {
    let server = server(SimOptions::default());
    for name in ["a.db", "b.db", "c.db"] {
        put(&server, "b", files(&format!("p/{name}"), 2));
    }
    server.script(RequestKind::List, "p/", vec![Some(Failure::AccessDenied); 8]);
    server.script(RequestKind::List, "p/c.db/", vec![Some(Failure::AccessDenied); 8]);
    let config = config_of(
        &server,
        &[("/a.db", "b/p/a.db"), ("/b.db", "b/p/b.db"), ("/c.db", "b/p/c.db"), ("/d.db", "b/p/d.db")],
    );
    let discovery = run(by_config("/*.db", &config), Options::default());
    assert_eq!(names(&discovery), ["/a.db", "/b.db", "/d.db"]);
    assert_eq!((discovery.with_backups, discovery.without_backups), (2, 1));
    assert_eq!(discovery.failed.len(), 1);
    assert_eq!((discovery.failed[0].name.as_str(), discovery.failed[0].class()), ("/c.db", Class::AccessDenied));
    // By URL there is only one listing, so its error is the result.
    server.script(RequestKind::List, "p/", vec![Some(Failure::AccessDenied); 8]);
    match run_counting(by_url(&format!("s3://b/p/?{}", endpoint(&server))), Options::default()) {
        Err(e @ DiscoverError::Store(_)) => assert_eq!(e.class(), Class::AccessDenied),
        other => panic!("{:?}", other.map(|(d, _)| d)),
    }
}

#[test]
fn a_crowd_of_foreign_objects_is_not_listed_to_its_end() {
    let server = server(SimOptions { max_keys: 10, ..SimOptions::default() });
    put(&server, "b", files("p/a.db", 2));
    put(&server, "b", files("p/z.db", 2));
    put(&server, "b", (0..2000).map(|i| format!("p/logs/{i:05}")));
    let config = config_of(&server, &[("/a.db", "b/p/a.db"), ("/z.db", "b/p/z.db")]);
    let discovery = run(by_config("/*.db", &config), Options::default());
    assert_eq!((discovery.found.len(), discovery.with_backups), (2, 2));
    assert!(lists(&server) <= 10 + 4 + 16 + 2, "{} LISTs", lists(&server));
}

#[test]
fn directories_hold_what_their_patterns_say() {
    let server = server(SimOptions::default());
    for root in ["t/a.db", "t/b.sqlite", "t/sub/c.db", "t/named.db", "t/../../etc/passwd.db", "t//abs.db", "tt/x.db"] {
        put(&server, "b", files(root, 2));
    }
    put(&server, "b", files("elsewhere/named.db", 5));
    let query = endpoint(&server);
    let config = |recursive: bool| {
        format!(
            "dbs:\n  - dir: /srv/t\n    pattern: \"*.db\"\n    recursive: {recursive}\n    replica: {{ url: \"s3://b/t?{query}\" }}\n  \
             - path: /srv/t/named.db\n    replica: {{ url: \"s3://b/elsewhere/named.db?{query}\" }}\n  \
             - dir: /srv/u\n    pattern: \"*\"\n    replica: {{ type: gcs }}\n"
        )
    };
    let flat = run(by_config("/srv/t/**", &config(false)), Options::default());
    assert_eq!(names(&flat), ["/srv/t//abs.db", "/srv/t/a.db", "/srv/t/named.db"]);
    let deep = run(by_config("/srv/**", &config(true)), Options::default());
    assert_eq!(
        names(&deep),
        ["/srv/t/../../etc/passwd.db", "/srv/t//abs.db", "/srv/t/a.db", "/srv/t/named.db", "/srv/t/sub/c.db"]
    );
    // Paths from the bucket are passed on unchanged. A later check refuses those that lead outside of the output
    // directory.
    let dir = PathBuf::from("/srv/t");
    assert_eq!(deep.found[0].output, Output::InDir { dir: dir.clone(), relative: "../../etc/passwd.db".into() });
    assert_eq!(deep.found[1].output, Output::InDir { dir, relative: "/abs.db".into() });
    assert_eq!(deep.found[3].replica.as_ref().unwrap().files.len(), 5);
    assert_eq!(deep.failed.len(), 1);
    assert_eq!(deep.failed[0].name, "/srv/u");
    assert!(matches!(deep.failed[0].failure, FoundFailure::Config(_)));
    assert_eq!(deep.matched, 6);
}

#[test]
fn one_part_of_a_disk_that_cannot_be_listed_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for name in ["a.db", "b.db", "c.db"] {
        for file in files(name, 2) {
            std::fs::create_dir_all(root.join(&file).parent().unwrap()).unwrap();
            std::fs::write(root.join(file), "x").unwrap();
        }
    }
    std::fs::create_dir(root.join("lost+found")).unwrap();
    std::fs::create_dir(root.join("others")).unwrap();
    // The second stat is of the directory itself, before it is listed.
    let found = |unreadable: &str, pattern: &str| {
        let fault = inject(&root.join(unreadable), Some(Step::Stat), 2, Effect::Fail(Errno::ACCESS));
        let found = run(by_url(&format!("file://{}/{pattern}", root.display())), Options::default());
        assert!(fault.struck(), "{unreadable}");
        let short = |name: &str| Path::new(name).strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let names: Vec<String> = names(&found).into_iter().map(short).collect();
        let failed: Vec<(String, Class)> = found.failed.iter().map(|f| (short(&f.name), f.class())).collect();
        assert_eq!(found.matched as usize, names.len() + failed.len());
        (names, failed)
    };
    let all = ["a.db", "b.db", "c.db"].map(str::to_owned).to_vec();
    let without_b = vec!["a.db".to_owned(), "c.db".to_owned()];
    let fails = |name: &str| vec![(name.to_owned(), Class::Io)];
    for pattern in ["**", "*.db"] {
        assert_eq!(found("lost+found", pattern), (all.clone(), vec![]), "{pattern}");
        assert_eq!(found("b.db/0009", pattern), (without_b.clone(), fails("b.db")), "{pattern}");
        assert_eq!(found("b.db", pattern), (without_b.clone(), fails("b.db")), "{pattern}");
    }
    // It is not known which databases lie in `others`. None of them can match the second pattern.
    assert_eq!(found("others", "**"), (all.clone(), fails("others")));
    assert_eq!(found("others", "*.db"), (all.clone(), vec![]));
    let config = format!("dbs:\n  - dir: /srv\n    pattern: \"*.db\"\n    replica: {{ path: {} }}\n", root.display());
    for unreadable in ["b.db", "b.db/0009"] {
        let fault = inject(&root.join(unreadable), Some(Step::Stat), 2, Effect::Fail(Errno::ACCESS));
        let found = run(by_config("/srv/*", &config), Options::default());
        assert!(fault.struck());
        assert_eq!(names(&found), ["/srv/a.db", "/srv/c.db"]);
        assert_eq!(found.failed.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["/srv/b.db"]);
        assert_eq!(found.matched, 3);
    }
}

#[test]
fn databases_below_a_configured_path_count_unless_the_file_configures_them() {
    let server = server(SimOptions::default());
    put(&server, "b", files("p/a.db", 2));
    put(&server, "b", files("q/b.db", 2));
    let foreign = config_of(&server, &[("/p", "b/p"), ("/q", "b/q/b.db/0009"), ("/r", "b/r")]);
    let found = run(by_config("/*", &foreign), Options::default());
    assert_eq!((names(&found), found.without_backups), (vec!["/r"], 1));
    let failed: Vec<_> = found.failed.iter().map(|f| (f.name.as_str(), f.to_string())).collect();
    assert_eq!((failed.len(), failed[0].0, failed[1].0), (2, "/p", "/q"));
    assert!(failed[0].1.contains("1 database lies below it, for example p/a.db"), "{failed:?}");
    assert!(failed[1].1.contains("lies inside the replica s3://b/q/b.db"), "{failed:?}");
    // The pattern need not match the database that the file configures.
    let known = config_of(&server, &[("/p", "b/p"), ("/x/a.db", "b/p/a.db")]);
    let found = run(by_config("/p", &known), Options::default());
    assert_eq!((names(&found), found.failed.len()), (vec!["/p"], 0));
    let options = Options { shard: Some(Shard { index: 0, of: 2 }), ..Options::default() };
    let shares = [options, Options { shard: Some(Shard { index: 1, of: 2 }), ..options }];
    let failed: usize = shares.map(|options| run(by_config("/p", &foreign), options).failed.len()).iter().sum();
    assert_eq!(failed, 1);
}

#[test]
fn requests_that_fail_are_sent_again() {
    let server = server(SimOptions { max_keys: 100, ..SimOptions::default() });
    put(&server, "b", (0..400).flat_map(|i| files(&format!("p/t{i:04}.db"), 5)));
    let fail = vec![(Failure::InternalError, 0.1), (Failure::ResetBeforeHeaders, 0.1), (Failure::HalfBody, 0.1)];
    server.set_faults(hydrant::sim::server::Faults { fail, ..Default::default() });
    let discovery = run(by_url(&format!("s3://b/p/?{}", endpoint(&server))), Options::default());
    assert_eq!(discovery.found.len(), 400);
    assert!(discovery.found.iter().all(|found| found.replica.as_ref().unwrap().files.len() == 5));
    assert!(!discovery.unordered);
}

#[test]
fn a_pattern_that_is_none() {
    let error = FleetSource::url("s3://b/[a", &env, &mut |config| open(config)).unwrap_err();
    assert!(matches!(error, DiscoverError::Pattern(_)), "{error}");
    let error = FleetSource::url("gs://b/a", &env, &mut |config| open(config)).unwrap_err();
    assert_eq!(error.class(), Class::Config);
    assert!(Pattern::for_keys("{a").is_err());
}
