//! Early hand-over compared with a listing of everything: for all names, pages and orders of answers, each
//! database comes once, with all its files, and gets the same output path.

use crate::catalogue::{Layout, Replica};
use crate::fleet::discovery::found::path_of;
use crate::fleet::discovery::handover::*;
use crate::fleet::discovery::key_ranges::tests::{Server, by_directory, bytewise};
use crate::fleet::discovery::key_ranges::{Ask, Split};
use crate::fleet::discovery::pattern::relative_output;
use crate::fleet::outputs::Admitted;
use crate::store::{ListPage, ListRequest};
use proptest::prelude::*;
use std::path::{Path, PathBuf};

const NAME: &str = "0000000000000001-0000000000000001.ltx";
const SNAPSHOT: &str = "generations/0123456789abcdef/snapshots/00000000.snapshot.lz4";

fn ours(_: &str) -> Owner {
    Owner::Us
}

/// The result of a listing.
struct Came {
    /// The databases that were handed over, in that order.
    early: Vec<Vec<Replica>>,
    rest: Vec<Replica>,
    questions: usize,
    /// No key can be missing.
    sound: bool,
}

fn run(server: &Server, literal_dir: &str, own_name: &str, worth_asking: usize, seed: u64) -> Came {
    run_cut(server, literal_dir, own_name, worth_asking, seed, Vec::new())
}

/// The same with ranges that begin at `cuts`.
fn run_cut(
    server: &Server,
    literal_dir: &str,
    own_name: &str,
    worth_asking: usize,
    seed: u64,
    cuts: Vec<String>,
) -> Came {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut handed = Vec::new();
    let mut give = |replicas: Vec<Replica>| handed.push(replicas);
    let mut early = Early::new(literal_dir, own_name, &ours, &mut give);
    early.worth_asking = worth_asking;
    let mut catalogue = Catalogue::new(Layout::Hex);
    let mut split = {
        let may_look = cuts.is_empty();
        Split::new(literal_dir, cuts, may_look)
    };
    let mut in_flight: Vec<(Option<Ask>, ListRequest)> = Vec::new();
    let mut questions = 0;
    loop {
        while let Some(job) = split.next_job() {
            in_flight.push((Some(job.ask), job.request));
        }
        while let Some(prefix) = early.next_question() {
            questions += 1;
            in_flight.push((None, ListRequest { prefix, ..ListRequest::default() }));
        }
        if in_flight.is_empty() || split.is_done() || (split.is_split() && split.is_unordered()) {
            break;
        }
        let (ask, request) = in_flight.swap_remove(random.usize(..in_flight.len()));
        let mut page = server.list(&request);
        if ask.is_none() && worth_asking == 1 && random.bool() {
            // Stores may answer with an empty page after a scan of many deleted keys.
            page = ListPage { continuation: Some(String::new()), ..ListPage::default() };
        }
        match ask {
            Some(ask) => split.take(ask, page, |object| catalogue.insert(object)),
            None => drop(early.answered(request.prefix, &page)),
        }
        if !split.is_done() {
            early.advance(&split, &mut catalogue);
        }
    }
    early.give_back(&mut catalogue);
    let sound = split.is_done() && split.is_sound();
    Came { early: handed, rest: catalogue.finish(), questions, sound: sound && !split.is_unordered() }
}

fn whole(server: &Server, literal_dir: &str) -> Vec<Replica> {
    let mut catalogue = Catalogue::new(Layout::Hex);
    let keys = server.keys.iter().filter(|key| key.starts_with(literal_dir));
    keys.for_each(|key| catalogue.insert(crate::fleet::discovery::key_ranges::tests::object(key)));
    catalogue.finish()
}

/// The roots of the databases that are refused when these batches are admitted one after the other.
fn losers(batches: &[Vec<Replica>], literal_dir: &str, own_name: &str) -> Vec<String> {
    let mut taken = Admitted::new(&["/o/errors.log".into()], |_: &Path| false);
    let mut losers = Vec::new();
    for batch in batches {
        let mut batch: Vec<&Replica> = batch.iter().collect();
        let name = |replica: &Replica| match key_of(&replica.root) {
            "" => own_name.to_owned(),
            key => key.to_owned(),
        };
        batch.sort_by_key(|replica| (name(replica), path_of(&replica.root)));
        let places: Vec<PathBuf> =
            batch.iter().map(|r| Path::new("/o").join(relative_output(literal_dir, &name(r)))).collect();
        losers.extend(taken.claim(&places).into_keys().map(|i| batch[i].root.clone()));
    }
    losers.sort();
    losers
}

fn roots() -> impl Strategy<Value = Vec<String>> {
    let names = [
        "a",
        "a-",
        "a-wal",
        "a-shm",
        "a.db",
        "a.db-2",
        "a.db-journal",
        "",
        ".",
        "0",
        "000",
        "0000",
        "00001",
        "9",
        "A",
        "m",
        "ltx",
        "ltw",
        "generations",
        "h",
        "-",
        "!",
        "z",
        "é",
        "errors.log",
        "own",
        "own-wal",
    ];
    let name = prop::sample::select(names.to_vec());
    let root = prop::collection::vec(name, 1..4).prop_map(|names| names.join("/"));
    prop::collection::vec(root, 0..60)
}

fn keys_of(roots: Vec<String>, mut random: fastrand::Rng) -> Vec<String> {
    let mut keys = Vec::new();
    for root in roots {
        // Some levels of both layouts, and v0.3.x backups.
        for dir in ["0000/", "0001/", "0009/", "ltx/0/", "ltx/9/"] {
            if random.u8(..3) == 0 {
                keys.push(format!("{root}/{dir}{NAME}"));
            }
        }
        if random.u8(..6) == 0 {
            keys.push(format!("{root}/{SNAPSHOT}"));
        }
        keys.push(format!("{root}/note.txt"));
    }
    keys
}

/// A cut at or a little before a key, mostly between the names of one directory.
fn cut_near(key: &str, random: &mut fastrand::Rng) -> String {
    let slashes: Vec<usize> = key.match_indices('/').map(|(at, _)| at + 1).collect();
    let end = slashes.get(random.usize(..slashes.len().max(1))).copied().unwrap_or(key.len());
    let own = ["", "0", "1", "/0"][random.usize(..4)];
    format!("{}{own}", key.get(..end).unwrap_or(key))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn the_same_as_the_whole_list(roots in roots(), literal_dir in prop::sample::select(vec!["", "a/", "a/a/", "own/"]),
                                  max_keys in 1usize..12, seed in any::<u64>()) {
        let keys = keys_of(roots, fastrand::Rng::with_seed(seed));
        let server = Server::new(keys, max_keys);
        let own_name = literal_dir.trim_end_matches('/').rsplit('/').next().filter(|n| !n.is_empty()).unwrap_or("own");
        let mut random = fastrand::Rng::with_seed(seed);
        let cuts = match server.keys.is_empty() || random.bool() {
            true => Vec::new(),
            false => (0..3).map(|_| cut_near(&server.keys[random.usize(..server.keys.len())], &mut random)).collect(),
        };
        let cuts = cuts.into_iter().filter(|cut: &String| cut.starts_with(literal_dir)).collect();
        let came = run_cut(&server, literal_dir, own_name, 1, seed, cuts);
        prop_assert!(came.sound);
        let expected = whole(&server, literal_dir);
        let mut batches = came.early;
        batches.push(came.rest);
        let mut found: Vec<Replica> = batches.iter().flatten().cloned().collect();
        found.sort_by(|a, b| a.root.cmp(&b.root));
        prop_assert_eq!(&found, &expected);
        prop_assert_eq!(losers(&batches, literal_dir, own_name), losers(&[expected], literal_dir, own_name));
    }

    /// If a store lists in another order, databases that were handed over are complete, or the listing
    /// says that keys may be missing.
    #[test]
    fn another_order_is_admitted(roots in roots(), max_keys in 1usize..12, seed in any::<u64>(), shuffles: bool) {
        let keys = keys_of(roots, fastrand::Rng::with_seed(seed));
        let mut server = Server::new(keys, max_keys).ordered(if shuffles { bytewise } else { by_directory });
        server.shuffles = shuffles;
        let came = run(&server, "", "own", 1, seed);
        let expected = whole(&server, "");
        let is_whole = |replica: &Replica| expected.contains(replica);
        prop_assert!(!came.sound || came.early.iter().flatten().chain(&came.rest).all(is_whole));
    }
}

/// Lists databases of 5 files with 1,000 keys on a page. Returns how many were handed over, how many were
/// left to the end, and how many questions were asked.
fn early_of(roots: impl Iterator<Item = String>, literal_dir: &str) -> (usize, usize, usize) {
    let dirs = ["0000/", "0001/", "0002/", "0003/", "0009/"];
    let keys = roots.flat_map(|root| dirs.map(|dir| format!("{root}/{dir}{NAME}")));
    let server = Server::new(keys, 1000);
    let came = run(&server, literal_dir, "own", WORTH_ASKING, 7);
    let early = came.early.iter().map(Vec::len).sum::<usize>();
    (early, came.rest.len(), came.questions)
}

#[test]
fn most_of_a_long_listing_is_handed_over_early() {
    for (name, roots, literal_dir, questions) in [
        ("below their own tenants", (0..3000).map(|i| format!("p/t{i:04}/app.db")).collect::<Vec<_>>(), "p/", 0),
        ("beside each other", (0..3000).map(|i| format!("p/{i:06}.db")).collect(), "p/", 0),
        // The names sort before `ltx/`, so it is asked whether `p` is a database.
        ("below what may be one", (0..3000).map(|i| format!("p/{i:06}.db")).collect(), "", 12),
        ("the same by letters", (0..3000).map(|i| format!("p/c{i:06}.db")).collect(), "", 2),
        (
            "with one above all",
            (0..3000).map(|i| format!("p/x/u{i:06}.db")).chain(["p/x".to_owned()]).collect(),
            "p/",
            0,
        ),
    ] {
        let (early, rest, asked) = early_of(roots.into_iter(), literal_dir);
        println!("{name}: {early} early, {rest} at the end, {asked} questions");
        match name {
            "with one above all" => assert_eq!(early, 0, "{name}"),
            _ => assert!(early > 1500, "{name}: {early}"),
        }
        assert!(
            early + rest >= 3000 && asked <= questions && (asked > 0) == (questions > 0),
            "{name}: {asked} questions"
        );
    }
}

/// The keys below a second slash come after names that begin with `-` or `.` and before the folders that
/// are asked for.
#[test]
fn a_database_under_more_slashes_is_waited_for() {
    let others = (0..20).flat_map(|i| [format!("A/{i:02}"), format!("b/{i:02}")]);
    let roots = ["a/-", "a/.", "a/"].map(str::to_owned).into_iter().chain(others);
    let server = Server::new(roots.map(|root| format!("{root}/0000/{NAME}")), 1);
    let expected = losers(&[whole(&server, "")], "", "own");
    assert_eq!(expected.len(), 2, "{expected:?}");
    let cuts = (0..20).flat_map(|i| [format!("A/{i:02}"), format!("b/{i:02}")]).chain(["a/0".to_owned()]);
    let cuts: Vec<String> = cuts.collect();
    for seed in 0..200 {
        let came = run_cut(&server, "", "own", 1, seed, cuts.clone());
        let mut batches = came.early;
        batches.push(came.rest);
        assert_eq!(losers(&batches, "", "own"), expected, "{seed}");
    }
}

/// An empty page that is not the last one does not show that a directory is vacant.
#[test]
fn an_empty_page_that_others_follow_says_nothing() {
    let (mut give, mut catalogue) = (|_: Vec<Replica>| {}, Catalogue::new(Layout::Hex));
    let mut early = Early::new("", "own", &ours, &mut give);
    let more = ListPage { continuation: Some("more".into()), ..ListPage::default() };
    assert!(!early.answered("a/ltx/".into(), &more));
    assert!(early.vacant.is_empty());
    assert!(early.answered("a/ltx/".into(), &ListPage::default()));
    assert_eq!(early.vacant.len(), 1);
    early.give_back(&mut catalogue);
}
