//! Tests of split listings against a simulated server, with difficult keys, stores that list in other orders,
//! and answers in any order. Either every key is returned exactly once, or the listing says that keys may be
//! missing. Other tests limit the number of LISTs for fleets of several sizes.

use crate::fleet::discovery::key_ranges::*;
use crate::timestamp::Timestamp;
use proptest::prelude::*;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// A simulated server that has these keys and lists them in the order `order`.
struct Server {
    keys: Vec<String>,
    order: fn(&str, &str) -> Ordering,
    max_keys: usize,
    shuffles: bool,
    knows_start_after: bool,
}

fn bytewise(a: &str, b: &str) -> Ordering {
    a.cmp(b)
}

/// Order of a walk through directories: `a/b` comes before `a-b`, unlike in the order of bytes.
fn by_directory(a: &str, b: &str) -> Ordering {
    a.split('/').cmp(b.split('/'))
}

fn ignoring_case(a: &str, b: &str) -> Ordering {
    a.to_lowercase().cmp(&b.to_lowercase()).then(a.cmp(b))
}

fn backwards(a: &str, b: &str) -> Ordering {
    b.cmp(a)
}

impl Server {
    fn new(keys: impl IntoIterator<Item = String>, max_keys: usize) -> Self {
        let mut keys: Vec<String> = keys.into_iter().collect();
        keys.sort();
        keys.dedup();
        Self { keys, order: bytewise, max_keys, shuffles: false, knows_start_after: true }
    }

    fn ordered(mut self, order: fn(&str, &str) -> Ordering) -> Self {
        self.keys.sort_by(|a, b| order(a, b));
        self.order = order;
        self
    }

    fn list(&self, request: &ListRequest) -> ListPage {
        let from = request.continuation.as_ref().or(request.start_after.as_ref().filter(|_| self.knows_start_after));
        let rolled = |key: &str| -> Option<String> {
            let below = key.strip_prefix(request.prefix.as_str())?;
            let at = below.find(request.delimiter?)?;
            key.get(..request.prefix.len() + at + 1).map(str::to_owned)
        };
        let mut page = ListPage::default();
        let mut last = String::new();
        for key in &self.keys {
            let is_after = from.is_none_or(|from| (self.order)(key, from) == Ordering::Greater);
            let is_rolled_away = request.continuation.as_ref().is_some_and(|token| rolled(key).as_ref() == Some(token));
            let prefix = rolled(key);
            let is_shown = prefix.as_ref().is_some_and(|prefix| page.common_prefixes.contains(prefix));
            if !key.starts_with(&request.prefix) || !is_after || is_rolled_away || is_shown {
                continue;
            }
            if page.objects.len() + page.common_prefixes.len() == self.max_keys {
                page.continuation = Some(last);
                break;
            }
            match prefix {
                Some(prefix) => {
                    last.clone_from(&prefix);
                    page.common_prefixes.push(prefix);
                }
                None => {
                    last.clone_from(key);
                    page.objects.push(object(key));
                }
            }
        }
        if self.shuffles {
            fastrand::Rng::with_seed(page.objects.len() as u64).shuffle(&mut page.objects);
        }
        page
    }
}

fn object(key: &str) -> ObjectMeta {
    ObjectMeta { key: key.to_owned(), size: 1, last_modified: Timestamp::MIN, etag: None, archived: false }
}

/// What a simulated listing returned, and how many requests it took.
#[derive(Debug, Default)]
struct Came {
    keys: BTreeMap<String, u32>,
    pages: usize,
    looks: usize,
    /// Number of round trips, if all requests in flight are answered at the same time.
    rounds: usize,
    most_in_flight: usize,
}

/// Answers the requests in flight in a random order. Without `random`, answers all of them at once.
fn run(split: &mut Split, server: &Server, mut random: Option<fastrand::Rng>) -> Came {
    let mut came = Came::default();
    let mut in_flight: Vec<RangeRequest> = Vec::new();
    loop {
        while let Some(job) = split.next_job() {
            in_flight.push(job);
        }
        came.most_in_flight = came.most_in_flight.max(in_flight.len());
        if in_flight.is_empty() || split.is_done() || (split.is_split() && split.is_unordered()) {
            return came;
        }
        let answered = match &mut random {
            Some(random) => {
                let one = in_flight.swap_remove(random.usize(..in_flight.len()));
                vec![one]
            }
            None => std::mem::take(&mut in_flight),
        };
        came.rounds += 1;
        for job in answered {
            match job.ask {
                Ask::Keys(_) => came.pages += 1,
                Ask::Look(_) => came.looks += 1,
            }
            split.take(job.ask, server.list(&job.request), |object| {
                *came.keys.entry(object.key).or_default() += 1;
            });
            assert!(came.pages + came.looks < 20_000, "does not end");
        }
    }
}

fn expected(server: &Server, prefix: &str) -> BTreeMap<String, u32> {
    server.keys.iter().filter(|key| key.starts_with(prefix)).map(|key| (key.clone(), 1)).collect()
}

/// Generates names that sort before and after another name's slash, names that look like levels, and empty
/// names.
fn names() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "a",
        "a-",
        "a.db",
        "a.db-2",
        "A",
        "b",
        "",
        ".",
        "..",
        "0000",
        "0009",
        "ltx",
        "0",
        "generations",
        " ",
        "~",
        "é",
        "\u{1}",
        "\u{10ffff}",
        "+",
        "z",
    ])
    .prop_map(str::to_owned)
}

fn keys() -> impl Strategy<Value = Vec<String>> {
    let key = prop::collection::vec(names(), 1..6).prop_map(|names| names.join("/"));
    prop::collection::vec(key, 0..250)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn every_key_once(keys in keys(), prefix in prop::sample::select(vec!["", "a", "a/", "a/a", "b/0000/"]),
                      max_keys in 1usize..12, seed in any::<u64>()) {
        let server = Server::new(keys, max_keys);
        let mut split = Split::new(prefix, Vec::new(), true);
        let came = run(&mut split, &server, Some(fastrand::Rng::with_seed(seed)));
        prop_assert!(split.is_done() && split.is_sound() && !split.is_unordered());
        prop_assert_eq!(came.keys, expected(&server, prefix));
        prop_assert!(came.most_in_flight <= MAX_RANGES + MAX_LOOKS);
        prop_assert!(came.looks <= FREE_LOOKS + came.pages / 2);
    }

    #[test]
    fn every_key_once_whatever_the_cuts(keys in keys(), cuts in keys(), max_keys in 1usize..8, seed in any::<u64>()) {
        let server = Server::new(keys, max_keys);
        let mut split = Split::new("", cuts, false);
        let came = run(&mut split, &server, Some(fastrand::Rng::with_seed(seed)));
        prop_assert!(split.is_done() && split.is_sound());
        prop_assert_eq!(came.keys, expected(&server, ""));
        prop_assert_eq!(came.looks, 0);
    }

    /// If a store lists in another order, or ignores start-after, the listing is either complete or says that
    /// keys may be missing.
    #[test]
    fn lost_keys_are_admitted(keys in keys(), order in 0usize..5, max_keys in 1usize..12, seed in any::<u64>()) {
        let mut server = Server::new(keys, max_keys);
        match order {
            0 => server = server.ordered(by_directory),
            1 => server = server.ordered(ignoring_case),
            2 => server = server.ordered(backwards),
            3 => server.shuffles = true,
            _ => server.knows_start_after = false,
        }
        let mut split = Split::new("", Vec::new(), true);
        let came = run(&mut split, &server, Some(fastrand::Rng::with_seed(seed)));
        if split.is_done() && split.is_sound() {
            prop_assert_eq!(came.keys, expected(&server, ""));
        }
        let mut serial = Split::serial("");
        let came = run(&mut serial, &server, None);
        prop_assert!(serial.is_done() && serial.is_sound());
        prop_assert_eq!(came.keys, expected(&server, ""));
    }
}

/// Proves that the test above tests something: a listing of a store that lists in the order of directories is
/// really split, and the wrong order is noticed.
#[test]
fn another_order_is_found_out() {
    let dbs = (0..400).flat_map(|i| [format!("t/{i:04}/x"), format!("t/{i:04}-/x"), format!("t/{i:04}/y")]);
    let server = Server::new(dbs, 20).ordered(by_directory);
    let mut split = Split::new("t/", Vec::new(), true);
    run(&mut split, &server, None);
    assert!(split.is_unordered() || !split.is_sound());
}

/// Where two ranges meet, keys of the same directory may have been written or deleted meanwhile. A key of
/// another directory is an error.
#[test]
fn seams() {
    let range = |beyond: Option<&str>| Range { beyond: beyond.map(str::to_owned), ..Range::new(None, None) };
    let next = |first: Option<&str>| Range { first: first.map(str::to_owned), ..Range::new(Some("t/b/".into()), None) };
    assert!(range(Some("t/b/1")).meets(&next(Some("t/b/1"))));
    assert!(range(Some("t/b/1")).meets(&next(Some("t/b/2"))));
    assert!(range(Some("t/c/1")).meets(&next(Some("t/c/1"))));
    assert!(range(None).meets(&next(None)));
    assert!(!range(Some("t/c/1")).meets(&next(Some("t/b/1"))));
    assert!(!range(Some("t/b/1")).meets(&next(None)));
    assert!(!range(None).meets(&next(Some("t/b/1"))));
}

/// Returns the keys of a fleet. `files` returns the number of files of a database.
fn fleet(databases: usize, name: impl Fn(usize) -> String, files: impl Fn(usize) -> usize) -> Vec<String> {
    let keys = |i: usize| {
        let (name, files) = (name(i), files(i));
        (0..files).map(move |j| format!("{name}/{:04x}/{:016x}-{:016x}.ltx", if j == 0 { 9 } else { 0 }, j + 1, j + 1))
    };
    (0..databases).flat_map(keys).collect()
}

#[test]
fn what_fleets_cost() {
    let mut random = fastrand::Rng::with_seed(7);
    let sizes: Vec<usize> = (0..20_000).map(|_| random.usize(1..10)).collect();
    let flat = |i: usize| format!("p/db{i:05}.db");
    let nested = |i: usize| format!("p/tenants/t{i:05}/app.db");
    let regional = |i: usize| format!("p/{}/t{i:05}/app.db", ["eu", "us", "asia"][i % 3]);
    let deep = |i: usize| format!("p/a/b/c/{:02}/t{i:05}/app.db", i % 40);
    // Each case: name, keys, maximum number of LISTs, maximum number of round trips.
    let cases: Vec<(&str, Vec<String>, usize, usize)> = vec![
        ("100 flat", fleet(100, flat, |_| 5), 1, 1),
        ("2,000 flat", fleet(2000, flat, |_| 5), 20, 8),
        ("5,000 flat", fleet(5000, flat, |_| 5), 50, 12),
        ("20,000 flat", fleet(20_000, flat, |_| 5), 200, 40),
        ("2,000 of 1 to 9", fleet(2000, flat, |i| sizes[i]), 20, 8),
        ("5,000 of 1 to 9", fleet(5000, flat, |i| sizes[i]), 50, 12),
        ("2,000 nested", fleet(2000, nested, |_| 5), 20, 9),
        ("5,000 in regions", fleet(5000, regional, |_| 5), 50, 14),
        ("5,000 deep", fleet(5000, deep, |_| 5), 50, 18),
        ("a giant first", fleet(2000, flat, |i| if i == 0 { 20_000 } else { 5 }), 60, 30),
        ("a giant last", fleet(2000, flat, |i| if i == 1999 { 20_000 } else { 5 }), 60, 30),
        ("one giant", fleet(1, flat, |_| 30_000), 34, 31),
        ("one file each", fleet(5000, flat, |_| 1), 18, 8),
        ("ten large", fleet(10, flat, |_| 3000), 45, 10),
    ];
    for (name, keys, most_lists, most_rounds) in cases {
        let server = Server::new(keys, 1000);
        let mut split = Split::new("p/", Vec::new(), true);
        let came = run(&mut split, &server, None);
        let least = server.keys.len().div_ceil(1000);
        println!("{name}: {} + {} LISTs (pages: {least}), {} rounds", came.pages, came.looks, came.rounds);
        assert!(split.is_sound(), "{name}");
        assert_eq!(came.keys.len(), server.keys.len(), "{name}");
        assert!(came.pages + came.looks <= most_lists, "{name}: {} + {}", came.pages, came.looks);
        assert!(came.rounds <= most_rounds, "{name}: {} rounds", came.rounds);
    }
}

/// Looks (LISTs for the names in a directory) do not enter the directories inside a database.
#[test]
fn names_inside_databases() {
    for name in ["0000/", "0009/", "ltx/", "generations/"] {
        assert!(is_inside_database(name), "{name}");
    }
    for name in ["000a/", "00000/", "1000/", "ltxx/", "a/", "/"] {
        assert!(!is_inside_database(name), "{name}");
    }
}
