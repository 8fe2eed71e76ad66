use super::key::{self, KeyKind};
use super::*;
use crate::ltx::{Level, Txid};
use crate::store::ObjectMeta;
use crate::timestamp::Timestamp;

const NAME: &str = "0000000000000001-000000000000000a.ltx";

fn listed(key: &str) -> ObjectMeta {
    ObjectMeta { key: key.into(), size: 1, last_modified: Timestamp::from_millis(1), etag: None, archived: false }
}

fn replicas(keys: &[String]) -> Vec<Replica> {
    let mut catalogue = Catalogue::new(Layout::Hex);
    keys.iter().for_each(|key| catalogue.insert(listed(key)));
    catalogue.finish()
}

fn roots(replicas: &[Replica]) -> Vec<&str> {
    replicas.iter().map(|r| r.root.as_str()).collect()
}

fn keys(replica: &Replica) -> Vec<String> {
    replica.files.iter().map(|f| replica.key(f)).collect()
}

/// The keys of the files in all lineages of `replica`.
fn all_keys(replica: &Replica) -> Vec<String> {
    std::iter::once(replica).chain(&replica.others).flat_map(keys).collect()
}

#[test]
fn keys_of_ltx_files_in_both_layouts() {
    for (root, dir) in [
        ("b/app.db/", "0000/"),
        ("b/app.db/", "ltx/9/"),
        ("", "0009/"),
        ("", "ltx/3/"),
        ("/", "0000/"),
        ("./", "0001/"),
        ("./", "ltx/1/"),
        ("p/a.db//", "0000/"),
        ("//", "ltx/0/"),
        ("ltx/", "0000/"),
        ("ltx/", "ltx/0/"),
        ("a/0000/", "0000/"),
        ("münchen/", "0008/"),
    ] {
        let key = format!("{root}{dir}{NAME}");
        let parsed = key::parse(&key).unwrap_or_else(|| panic!("{key}"));
        assert_eq!(parsed.root, root, "{key}");
        assert!(matches!(parsed.kind, KeyKind::Ltx { min_txid: Txid(1), max_txid: Txid(10), .. }), "{key}");
        let replica = &replicas(std::slice::from_ref(&key))[0];
        assert_eq!(keys(replica), [key]);
    }
}

#[test]
fn what_is_no_backup_file_is_skipped() {
    let name = |text: &str| format!("a.db/0000/{text}");
    for key in [
        name("0000000000000000-000000000000000a.ltx"),
        name("000000000000000b-000000000000000a.ltx"),
        name("0000000000000001-000000000000000A.ltx"),
        name("0000000000000001-00000000000000a.ltx"),
        name("0000000000000001-0000000000000000a.ltx"),
        name("0000000000000001_000000000000000a.ltx"),
        name("0000000000000001-000000000000000a.ltx.tmp"),
        name("0000000000000001-000000000000000a"),
        name("0000000000000001-000000000000000a-b.ltx"),
        name("+000000000000001-000000000000000a.ltx"),
        name(""),
        name("readme.txt"),
        NAME.to_string(),
        format!("/{NAME}"),
        format!("a.db/{NAME}"),
        format!("a.db/000a/{NAME}"),
        format!("a.db/000/{NAME}"),
        format!("a.db/00000/{NAME}"),
        format!("a.db/0010/{NAME}"),
        format!("a.db/0/{NAME}"),
        format!("a.db/myltx/0/{NAME}"),
        format!("a.db/ltx/10/{NAME}"),
        format!("a.db/ltx/a/{NAME}"),
        format!("a.db/ltx//{NAME}"),
        format!("a.db/0000//{NAME}"),
        format!("a.db/x0000/{NAME}"),
        "a.db/generations-old/note".into(),
        "a.db/generations/0123456789abcde/snapshots/00000000.snapshot.lz4".into(),
        "a.db/generations/0123456789abcdef/snapshots/80000000.snapshot.lz4".into(),
        "a.db/generations/0123456789abcdef/wal/00000000_00000000.wal".into(),
        "a.db/generations/0123456789abcdef/wal/00000000_0000000.wal.lz4".into(),
        "a.db/mygenerations/0123456789abcdef/snapshots/00000000.snapshot.lz4".into(),
        "é".into(),
        String::new(),
    ] {
        assert_eq!(key::parse(&key), None, "{key}");
    }
}

#[test]
fn similar_and_nested_roots_stay_apart() {
    let all: Vec<String> = [
        "app.db-2/0000/",
        "app.db/0000/",
        "app.db/0009/",
        "app.db//0000/",
        "app.db/ltx/0/",
        "app.db/old/copy.db/0000/",
        "app.db/old/copy.db/ltx/9/",
        "app.db2/ltx/0/",
        "app.db/ltx/ltx/0/",
    ]
    .iter()
    .map(|dir| format!("{dir}{NAME}"))
    .collect();
    let expected = ["app.db-2/", "app.db/", "app.db//", "app.db/ltx/", "app.db/old/copy.db/", "app.db2/"];
    let found = replicas(&all);
    assert_eq!(roots(&found), expected);
    let mut rebuilt: Vec<String> = found.iter().flat_map(all_keys).collect();
    rebuilt.sort();
    let mut sorted = all.clone();
    sorted.sort();
    assert_eq!(rebuilt, sorted);
    let backwards: Vec<String> = all.into_iter().rev().collect();
    assert_eq!(replicas(&backwards), found);
}

#[test]
fn v3_is_counted_beside_and_alone() {
    let found = replicas(&[
        "a/generations/0123456789abcdef/snapshots/00000000.snapshot.lz4".into(),
        "a/generations/0123456789abcdef/wal/00000000_00000000.wal.lz4".into(),
        "a/generations/0123456789abcdef/wal/00000000_0000000000001040.wal.lz4".into(),
        format!("b/0000/{NAME}"),
        "b/generations/0123456789abcdef/snapshots/0000000a.snapshot.lz4".into(),
    ]);
    assert_eq!(roots(&found), ["a/", "b/"]);
    let counts: Vec<_> = found.iter().map(|r| r.v3.as_ref().map(|v3| v3.files.len())).collect();
    assert_eq!(counts, [Some(3), Some(1)]);
    assert!(found[0].files.is_empty());
}

#[test]
fn one_replica_by_its_path() {
    let keys_of = |path: &str, listed_keys: &[&str]| {
        let objects = listed_keys.iter().map(|dir| listed(&format!("{dir}{NAME}")));
        keys(&Replica::of(path, Layout::Hex, objects))
    };
    let own = ["p/a.db/0000/", "p/a.db/0009/"];
    let others = ["p/a.db/old/b.db/0000/", "p/a.db-2/0000/", "x/p/a.db/0000/"];
    let all = [&own[..], &others[..]].concat();
    assert_eq!(keys_of("p/a.db", &all), own.map(|dir| format!("{dir}{NAME}")));
    assert_eq!(keys_of("p/a.db/", &all), own.map(|dir| format!("{dir}{NAME}")));
    assert_eq!(keys_of("p/a.db/", &["p/a.db//0000/", "p/a.db/0001/"]), [format!("p/a.db//0000/{NAME}")]);
    assert_eq!(keys_of("p/a.db", &["p/a.db//0000/"]), [""; 0]);
    for root in ["", "/", "./"] {
        assert_eq!(keys_of("", &[&format!("{root}0000/"), "b.db/0000/"]), [format!("{root}0000/{NAME}")]);
    }
    let litestreams_first = |path: &str| {
        let objects = ["", "/", "./"].map(|root| listed(&format!("{root}0000/{NAME}")));
        Replica::of(path, Layout::Hex, objects).root
    };
    assert_eq!([litestreams_first(""), litestreams_first("/"), litestreams_first(".")], ["/", "/", "./"]);
    let empty = Replica::of("p/a.db", Layout::Hex, []);
    assert_eq!((empty.root.as_str(), empty.name(), empty.files.len()), ("p/a.db/", "p/a.db", 0));
    assert_eq!(Replica::list_prefixes("p/a.db/"), ["p/a.db/"]);
    for root in Replica::roots("") {
        let key = format!("{root}0000/{NAME}");
        assert!(Replica::list_prefixes("").iter().any(|prefix| key.starts_with(prefix)));
    }
}

#[test]
fn files_are_sorted_and_a_key_listed_twice_counts_once() {
    let mut catalogue = Catalogue::new(Layout::Hex);
    let insert = |catalogue: &mut Catalogue, key: &str, size, ms| {
        catalogue.insert(ObjectMeta { size, last_modified: Timestamp::from_millis(ms), ..listed(key) });
    };
    insert(&mut catalogue, &format!("a/0009/{NAME}"), 4, 1);
    insert(&mut catalogue, &format!("a/0000/{NAME}"), 1, 7);
    insert(&mut catalogue, "a/0000/0000000000000002-0000000000000003.ltx", 5, 1);
    insert(&mut catalogue, &format!("a/0000/{NAME}"), 2, 6);
    let replica = catalogue.finish().remove(0);
    assert_eq!(replica.files.iter().map(|f| f.size).collect::<Vec<_>>(), [5, 1, 4]);
    assert_eq!(replica.level(Level::new(0).unwrap()), 0..2);
    assert_eq!(replica.level(Level::new(5).unwrap()), 2..2);
    assert_eq!(replica.level(Level::SNAPSHOT), 2..3);
    assert_eq!(replica.max_txid(), Some(Txid(10)));
}

#[test]
fn two_listings_are_joined() {
    let mut first = Catalogue::new(Layout::Hex);
    first.insert(listed(&format!("a.db/0000/{NAME}")));
    first.insert(listed(&format!("b.db/0000/{NAME}")));
    let mut second = Catalogue::new(Layout::Hex);
    second.insert(listed(&format!("b.db/0009/{NAME}")));
    second.insert(listed(&format!("d.db/0009/{NAME}")));
    first.merge(second);
    let rest = first.finish();
    assert_eq!(roots(&rest), ["a.db/", "b.db/", "d.db/"]);
    assert_eq!(rest[1].files.len(), 2);
}

#[test]
fn files_are_compact() {
    assert!(size_of::<LtxFile>() <= 64, "{}", size_of::<LtxFile>());
    assert!(size_of::<Replica>() <= 80, "{}", size_of::<Replica>());
}

/// The listing of the corpus' fleet gives exactly the databases in fleet.json, and every file's key is rebuilt as
/// it was listed.
#[test]
fn the_corpus_fleet() {
    let Some(fleet) = crate::plan::corpus::json("fleet/fleet.json") else { return };
    let objects: Vec<&str> = fleet["objects"].as_array().unwrap().iter().map(|o| o["key"].as_str().unwrap()).collect();
    let mut catalogue = Catalogue::new(Layout::Hex);
    objects.iter().for_each(|key| catalogue.insert(listed(key)));
    let found = catalogue.finish();
    let mut expected: Vec<&str> =
        fleet["databases"].as_array().unwrap().iter().map(|d| d["key"].as_str().unwrap()).collect();
    let mut names: Vec<&str> = found.iter().map(Replica::name).collect();
    expected.sort_unstable();
    names.sort_unstable();
    assert_eq!(names, expected);
    let rebuilt: std::collections::BTreeSet<String> = found.iter().flat_map(all_keys).collect();
    let left: Vec<&&str> = objects.iter().filter(|key| !rebuilt.contains(**key)).collect();
    assert!(rebuilt.iter().all(|key| objects.contains(&key.as_str())));
    assert!(left.iter().all(|key| !key.ends_with(".ltx")), "{left:?}");
}

/// Builds the replica of `a.db`. Each element of `files` is a directory below `a.db/`, and the min and max TXID of
/// the one file in it.
fn replica_of(native: Layout, files: &[(&str, u64, u64)]) -> Replica {
    let key = |(dir, min, max): &(&str, u64, u64)| format!("a.db/{dir}/{min:016x}-{max:016x}.ltx");
    Replica::of("a.db", native, files.iter().map(|file| listed(&key(file))))
}

#[test]
fn a_layout_is_a_lineage_of_its_own() {
    let [hex, decimal] = [("0009", 1, 3), ("ltx/9", 1, 5)];
    let both = [hex, ("0000", 4, 4), decimal, ("ltx/0", 6, 6)];
    for (native, newest, other_newest) in [(Layout::Hex, 4, 6), (Layout::Decimal, 6, 4)] {
        let replica = replica_of(native, &both);
        assert_eq!((replica.layout(), replica.max_txid()), (Some(native), Some(Txid(newest))));
        let others: Vec<_> = replica.others.iter().map(Replica::max_txid).collect();
        assert_eq!(others, [Some(Txid(other_newest))]);
        assert_eq!(replica.differing().count(), 1);
    }
    // A native lineage without a snapshot is not chosen, unless no other lineage has a snapshot.
    assert_eq!(replica_of(Layout::Hex, &[("0000", 4, 4), decimal]).layout(), Some(Layout::Decimal));
    assert_eq!(replica_of(Layout::Hex, &[("0000", 4, 4), ("ltx/0", 4, 4)]).layout(), Some(Layout::Hex));
    assert_eq!(replica_of(Layout::Hex, &[decimal]).layout(), Some(Layout::Decimal));
    // A lineage that is a complete copy of the chosen one does not count as differing, so no message names it.
    let copied = replica_of(Layout::Hex, &[hex, ("0000", 4, 4), ("ltx/9", 1, 3), ("ltx/0", 4, 4)]);
    assert_eq!((copied.others.len(), copied.differing().count()), (1, 0));
}

#[test]
fn the_same_through_a_catalogue() {
    let key = |dir: &str, txid: u64| format!("a.db/{dir}/{:016x}-{txid:016x}.ltx", 1);
    let mut catalogue = Catalogue::new(Layout::Hex);
    for (dir, txid) in [("0000", 1), ("ltx/9", 7), ("0009", 3)] {
        catalogue.insert(listed(&key(dir, txid)));
    }
    let found = catalogue.finish();
    let newest = |replica: &Replica| replica.max_txid().unwrap().0;
    assert_eq!((found.len(), newest(&found[0]), newest(&found[0].others[0])), (1, 3, 7));
}

#[test]
fn a_fresh_listing_keeps_to_the_lineage_chosen_first() {
    let chosen = replica_of(Layout::Hex, &[("0000", 4, 4), ("ltx/9", 1, 5)]);
    assert_eq!(chosen.layout(), Some(Layout::Decimal));
    let now = || replica_of(Layout::Hex, &[("0009", 1, 4), ("ltx/9", 1, 5)]);
    assert_eq!(now().layout(), Some(Layout::Hex));
    let kept = now().keeping_to(&chosen);
    assert_eq!((kept.layout(), kept.others.len()), (Some(Layout::Decimal), 1));
    // If the chosen lineage is gone, the other lineage does not take its place.
    let gone = replica_of(Layout::Hex, &[("0009", 1, 4)]).keeping_to(&chosen);
    assert_eq!((gone.files.len(), gone.others.len()), (0, 1));
}

#[test]
fn what_lies_in_a_replica_by_its_name() {
    let generation = "generations/0123456789abcdef";
    for inside in ["0000", "0009", "ltx", "ltx/3", "generations", generation, "ltx/0/", "0001/"] {
        assert_eq!(root_of(&format!("p/a.db/{inside}")), Some("p/a.db/"), "{inside}");
    }
    for inside in [format!("{generation}/wal/"), format!("{generation}/snapshots"), format!("0000/{NAME}")] {
        assert_eq!(root_of(&format!("p/a.db/{inside}")), Some("p/a.db/"), "{inside}");
    }
    assert_eq!((root_of("0003"), root_of("ltx/1"), root_of("/x/ltx/1/")), (Some(""), Some(""), Some("/x/")));
    for outside in ["p/a.db", "p/lost+found/", "p/000a", "p/3", "p/myltx/3", "p/wal", "p/0123456789abcdef", "", "/"] {
        assert_eq!(root_of(outside), None, "{outside}");
    }
}

#[test]
fn what_is_listed_beside_one_replica_is_counted() {
    let beside = |path: &str, keys: &[String]| {
        let mut collector = ReplicaCollector::new(path, Layout::Hex);
        keys.iter().for_each(|key| collector.insert(&listed(key)));
        collector.finish()
    };
    let keys = ["p/a.db/0000/", "p/a.db/0009/", "p/b.db/ltx/0/", "p/"].map(|dir| format!("{dir}{NAME}"));
    let (replica, around) = beside("p", &keys);
    assert!(replica.files.is_empty());
    assert_eq!((around.below_count, around.below), (2, vec!["p/a.db/".to_owned(), "p/b.db/".to_owned()]));
    assert_eq!((around.objects.count, around.objects.first.as_deref()), (1, Some(&*format!("p/{NAME}"))));
    assert_eq!(around.around, None);
    for inside in ["p/a.db/0000", "p/a.db/0000/"] {
        let (replica, around) = beside(inside, &keys[..1]);
        assert!(replica.files.is_empty());
        assert_eq!((around.around.as_deref(), around.below_count), (Some("p/a.db/"), 0), "{inside}");
    }
    let (replica, around) = beside("p/a.db", &keys[..2]);
    assert_eq!((replica.files.len(), around), (2, Surroundings::default()));
}

#[test]
fn what_is_not_kept_takes_no_memory() {
    let mut catalogue = Catalogue::new(Layout::Hex);
    let interest = |root: &str| match root {
        "a/" => Interest::Keep,
        "b/" => Interest::Count,
        _ => Interest::Pass,
    };
    for n in 1..1_000 {
        for root in ["b/", "c/", "d/"] {
            let key = format!("{root}0000/{n:016x}-{n:016x}.ltx");
            catalogue.insert_if(listed(&key), &interest);
        }
        catalogue.insert_if(listed(&format!("x/{n}.txt")), &interest);
    }
    assert!(catalogue.bytes() < 100, "{}", catalogue.bytes());
    catalogue.insert_if(listed(&format!("a/0000/{NAME}")), &interest);
    assert_eq!((catalogue.databases(), catalogue.counted().len(), catalogue.passed().len()), (1, 1, 2));
    assert_eq!((catalogue.passed().first(), catalogue.objects().count), (Some("c/"), 999));
    assert_eq!(roots(&catalogue.finish()), ["a/"]);
}
