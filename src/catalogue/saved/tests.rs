//! Tests of saved catalogues: what is written is read, and whatever happens to the file, it is read whole or not at all.

use super::*;
use crate::catalogue::{Catalogue, Layout, Replica};
use crate::store::{Etag, ObjectMeta, StoreError, StoreErrorKind, Unlisted};
use crate::timestamp::Timestamp;
use proptest::prelude::*;

fn store(bucket: &str) -> SavedStore {
    SavedStore { kind: "s3".to_owned(), bucket: bucket.to_owned(), endpoint: "http://minio:9000".to_owned() }
}

fn head() -> CatalogueHead {
    CatalogueHead {
        time: Timestamp::from_millis(1_790_000_000_123),
        program: "0.1.0".to_owned(),
        source: CatalogueSource {
            pattern: "t/**".to_owned(),
            stores: vec![store("one"), store("two")],
            entries: Some([7; 32]),
        },
    }
}

fn error(kind: StoreErrorKind) -> StoreError {
    StoreError {
        kind,
        what: "LIST t/".to_owned(),
        detail: "HTTP 403".to_owned(),
        request_id: Some("1A".to_owned()),
        hint: None,
        attempts: 3,
    }
}

fn unlisted(kind: StoreErrorKind) -> Unlisted {
    Unlisted { key: "t/lost/".to_owned(), kind, detail: "permission denied".to_owned() }
}

/// The catalogue of these databases, and of something of each other kind.
fn saved(replicas: &[Replica]) -> Vec<u8> {
    let mut writer = CatalogueWriter::new(Vec::new(), &head()).unwrap();
    writer.name(1, "t/foreign/").unwrap();
    for (i, replica) in replicas.iter().enumerate() {
        writer.database(i % 2, replica).unwrap();
    }
    writer.unlisted(0, &unlisted(StoreErrorKind::Io)).unwrap();
    writer.failed("/data/a.db", &error(StoreErrorKind::AccessDenied)).unwrap();
    writer.finish().unwrap()
}

fn read(bytes: &[u8]) -> Result<Vec<SavedRecord>, SavedError> {
    let mut reader = CatalogueReader::new(bytes)?;
    assert_eq!(reader.head(), &head());
    let mut records = Vec::new();
    while let Some(record) = reader.next_record()? {
        records.push(record);
    }
    assert!(matches!(reader.next_record(), Ok(None)));
    Ok(records)
}

fn object(key: String, size: u64, nanos: i64, etag: Option<&str>, archived: bool) -> ObjectMeta {
    let etag = etag.and_then(Etag::parse);
    ObjectMeta { key, size, last_modified: Timestamp::from_nanos(nanos), etag, archived }
}

fn etag() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        Just(None),
        "[0-9a-f]{32}".prop_map(Some),
        ("[0-9a-f]{32}", 1..10_000u32).prop_map(|(hash, parts)| Some(format!("{hash}-{parts}"))),
        "[!#-~]{1,40}".prop_map(Some),
    ]
}

/// The key of a backup file below a root, in any layout and format.
fn name() -> impl Strategy<Value = String> {
    let txids = (1..50u64, 0..9u64, any::<bool>()).prop_map(|(min, more, large)| {
        let min = if large { u64::MAX - 60 + min } else { min };
        (min, min.saturating_add(more))
    });
    let ltx = (0..10u8, txids, any::<bool>()).prop_map(|(level, (min, max), hex)| {
        let dir = if hex { format!("{level:04x}") } else { format!("ltx/{level}") };
        format!("{dir}/{min:016x}-{max:016x}.ltx")
    });
    let generation = prop_oneof![Just(0u64), Just(0xfedc_ba98_7654_3210), any::<u64>()];
    let wal = prop_oneof![
        (0..99u32, any::<bool>())
            .prop_map(|(i, lz4)| ("snapshots", format!("{i:08x}.snapshot{}", if lz4 { ".lz4" } else { "" }))),
        (0..99u32, any::<u32>()).prop_map(|(i, offset)| ("wal", format!("{i:08x}_{offset:08x}.wal.lz4"))),
        (0..99u32, any::<u64>()).prop_map(|(i, offset)| ("wal", format!("{i:08x}_{offset:016x}.wal.lz4"))),
        (0..99u32, any::<bool>()).prop_map(|(i, lz4)| ("wal", format!("{i:08x}.wal{}", if lz4 { ".lz4" } else { "" }))),
        Just(("snapshots", format!("{:016x}.snapshot.lz4", 5))),
    ];
    let v3 =
        (generation, wal).prop_map(|(generation, (dir, name))| format!("generations/{generation:016x}/{dir}/{name}"));
    prop_oneof![3 => ltx, 2 => v3]
}

/// The replicas of a listing of random objects.
fn replicas() -> impl Strategy<Value = Vec<Replica>> {
    let root = prop_oneof![Just("t/a.db/".to_owned()), Just("t/a.db//".to_owned()), "t/[a-cé]{1,3}/([x-zß]{1,2}/)?"];
    let object = (root, name(), any::<u64>(), any::<i64>(), etag(), any::<bool>()).prop_map(
        |(root, name, size, nanos, etag, archived)| object(root + &name, size, nanos, etag.as_deref(), archived),
    );
    (prop::collection::vec(object, 0..60), any::<bool>()).prop_map(|(objects, hex)| {
        let mut catalogue = Catalogue::new(if hex { Layout::Hex } else { Layout::Decimal });
        objects.into_iter().for_each(|object| catalogue.insert(object));
        catalogue.finish()
    })
}

/// The databases of records, and a check of the other records.
fn databases(records: Vec<SavedRecord>) -> Vec<(usize, Replica)> {
    let (mut databases, mut others) = (Vec::new(), Vec::new());
    for record in records {
        match record {
            SavedRecord::Database { store, replica } => databases.push((store, replica)),
            other => others.push(format!("{other:?}")),
        }
    }
    let name = SavedRecord::Name { store: 1, root: "t/foreign/".to_owned() };
    let unlisted = SavedRecord::Unlisted { store: 0, unlisted: unlisted(StoreErrorKind::Io) };
    let failed = SavedRecord::Failed { name: "/data/a.db".to_owned(), error: error(StoreErrorKind::AccessDenied) };
    assert_eq!(others, [name, unlisted, failed].map(|record| format!("{record:?}")));
    databases
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(replicas in replicas()) {
        let expected: Vec<_> = replicas.iter().enumerate().map(|(i, replica)| (i % 2, replica.clone())).collect();
        prop_assert_eq!(databases(read(&saved(&replicas)).unwrap()), expected);
    }

    /// Bytes that are no catalogue, behind the beginning of one or not.
    #[test]
    fn any_bytes_are_an_error_and_no_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), kept in 0..40usize) {
        let sound = saved(&[]);
        bytes.splice(0..0, sound[..kept].iter().copied());
        prop_assume!(!bytes.starts_with(&sound));
        prop_assert!(read(&bytes).is_err());
    }
}

fn small() -> Vec<Replica> {
    let mut catalogue = Catalogue::new(Layout::Hex);
    for (i, name) in [
        "0009/0000000000000001-0000000000000004.ltx",
        "0000/0000000000000005-0000000000000005.ltx",
        "ltx/9/0000000000000001-0000000000000002.ltx",
        "generations/0123456789abcdef/snapshots/00000000.snapshot.lz4",
        "generations/0123456789abcdef/wal/00000000_00000000.wal.lz4",
    ]
    .into_iter()
    .enumerate()
    {
        let etag = ["d41d8cd98f00b204e9800998ecf8427e", "d41d8cd98f00b204e9800998ecf8427e-3", "odd"][i % 3];
        catalogue.insert(object(format!("t/a.db/{name}"), 100, 1_790_000_000_000_000_000, Some(etag), i == 1));
    }
    catalogue.finish()
}

#[test]
fn damage_at_any_byte_is_an_error() {
    let sound = saved(&small());
    assert_eq!(databases(read(&sound).unwrap()).len(), 1);
    for at in 0..sound.len() {
        for flip in [1, 0x80, 0xff] {
            let mut bytes = sound.clone();
            bytes[at] ^= flip;
            let error = read(&bytes).unwrap_err();
            assert!(!matches!(error, SavedError::Io(_)), "byte {at}: {error}");
        }
    }
}

#[test]
fn a_part_of_a_catalogue_is_an_error() {
    let sound = saved(&small());
    for end in 0..sound.len() {
        let error = read(&sound[..end]).unwrap_err();
        let expected = if end < 8 { SavedError::NoCatalogue } else { SavedError::Truncated };
        assert_eq!(error, expected, "the first {end} bytes");
    }
    for at in 0..sound.len() {
        let mut without = sound.clone();
        without.remove(at);
        assert!(read(&without).is_err(), "without byte {at}");
    }
    let twice = [&sound[..], &sound].concat();
    assert!(matches!(read(&twice), Err(SavedError::Damaged { what: "something after the last block", .. })));
}

#[test]
fn blocks_cannot_be_exchanged_or_left_out() {
    let replicas: Vec<Replica> = (0..20_000).map(|i| one_of_many(i, 3)).collect();
    let sound = saved(&replicas);
    assert_eq!(databases(read(&sound).unwrap()).len(), replicas.len());
    // The places where blocks begin.
    let mut begins = vec![12];
    while let Some(&at) = begins.last()
        && let Some(packed) = sound.get(at..at + 4)
    {
        begins.push(at + 16 + u32::from_le_bytes(packed.try_into().unwrap()) as usize);
    }
    let [first, second, third] = begins[..3] else { panic!("{begins:?}") };
    let block = |from: usize, to: usize| &sound[from..to];
    for parts in [
        [block(0, first), block(second, third), block(first, second), block(third, sound.len())],
        [block(0, first), block(second, third), block(third, sound.len()), &[]],
        [block(0, second), block(third, sound.len()), &[], &[]],
        [block(0, second), block(first, second), block(second, sound.len()), &[]],
    ] {
        let error = read(&parts.concat()).unwrap_err();
        assert!(matches!(error, SavedError::Damaged { what: "a wrong checksum", .. }), "{error}");
    }
}

/// A database as most are: `files` files, whose TXIDs and times follow each other.
fn one_of_many(number: usize, files: u64) -> Replica {
    let mut catalogue = Catalogue::new(Layout::Hex);
    for i in 0..files {
        let (level, txid) = (if i == 0 { 9 } else { 0 }, i + 1);
        let key = format!("tenants/{number:06}/app.db/{level:04x}/{txid:016x}-{txid:016x}.ltx");
        let key = if i == 0 { key.replace(&format!("{txid:016x}-"), "0000000000000001-") } else { key };
        // A hash that does not shrink.
        let hash = (number as u128 * 31 + u128::from(i) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let nanos = 1_790_000_000_000_000_000 + i as i64 * 1_234_567_890;
        catalogue.insert(object(key, 40_000 + i * 17, nanos, Some(&format!("{hash:032x}")), false));
    }
    catalogue.finish().remove(0)
}

#[test]
fn a_file_takes_at_most_100_bytes_before_compression() {
    for files in [1, 10, 1_000] {
        let mut writer = CatalogueWriter::new(Vec::new(), &head()).unwrap();
        let begins = writer.raw_bytes();
        for number in 0..(20_000 / files as usize).max(20) {
            writer.database(0, &one_of_many(number, files)).unwrap();
        }
        let (raw, count) = (writer.raw_bytes() - begins, writer.files());
        let packed = writer.finish().unwrap().len() as u64;
        assert!(raw <= count * 100, "{files} files a database: {} bytes a file", raw / count);
        assert!(packed < raw, "{packed} {raw}");
        println!("{files} files a database: {} bytes a file, compressed {}", raw / count, packed / count);
    }
}

#[test]
fn every_kind_of_error_is_kept() {
    for number in 0..=u8::MAX {
        let mut writer = CatalogueWriter::new(Vec::new(), &head()).unwrap();
        let Some(kind) = kind_of(number) else { continue };
        writer.unlisted(1, &unlisted(kind)).unwrap();
        let records = read(&writer.finish().unwrap()).unwrap();
        assert!(matches!(&records[..], [SavedRecord::Unlisted { store: 1, unlisted }] if unlisted.kind == kind));
    }
}

/// All kinds, so that this does not compile if one is missing.
fn kind_of(number: u8) -> Option<StoreErrorKind> {
    use StoreErrorKind::*;
    let kinds = [
        NotFound,
        NoSuchBucket,
        PreconditionFailed,
        SizeDiffers,
        AccessDenied,
        Credentials,
        Timeout,
        Throttled,
        Network,
        Server,
        NotImplemented,
        TooLarge,
        InvalidResponse,
        RangesIgnored,
        Archived,
        Unsupported,
        Unreadable,
        Io,
        Stalled,
        IncompleteHistory,
    ];
    let _all_named = |kind| match kind {
        NotFound | NoSuchBucket | PreconditionFailed | SizeDiffers | AccessDenied | Credentials => {}
        Timeout | Throttled | Network | Server | NotImplemented | TooLarge | InvalidResponse => {}
        RangesIgnored | Archived | Unsupported | Unreadable | Io | Stalled | IncompleteHistory => {}
    };
    kinds.get(usize::from(number)).copied()
}

#[test]
fn another_version_and_another_fleet_are_refused_by_name() {
    let mut bytes = saved(&[]);
    bytes[8] = 2;
    assert_eq!(
        read(&bytes).unwrap_err().to_string(),
        "this is a catalogue of version 2, and this program reads version 1: save it again"
    );
    assert_eq!(read(b"{\"databases\":[]}").unwrap_err(), SavedError::NoCatalogue);

    let saved = head().source;
    let other = |change: &dyn Fn(&mut CatalogueSource)| {
        let mut wanted = saved.clone();
        change(&mut wanted);
        saved.check(&wanted).err().map(|error| error.to_string())
    };
    assert_eq!(other(&|_| {}), None);
    for (change, text) in [
        (
            &(|wanted: &mut CatalogueSource| wanted.stores[1].bucket = "three\u{1b}".to_owned())
                as &dyn Fn(&mut CatalogueSource),
            "it is of another bucket: two, and not three\\u{1b}; save one for this call",
        ),
        (
            &|wanted| wanted.stores[0].endpoint.clear(),
            "it is of another endpoint: http://minio:9000, and not AWS; save one for this call",
        ),
        (&|wanted| wanted.pattern.push('x'), "it is of another pattern: t/**, and not t/**x; save one for this call"),
        (
            &|wanted| wanted.entries = None,
            "it is of another kind of source: a configuration file, and not a URL; save one for this call",
        ),
        (
            &|wanted| wanted.entries = Some([8; 32]),
            "the configuration file names other databases or other places than when it was saved: save it again",
        ),
        (
            &|wanted| drop(wanted.stores.pop()),
            "the configuration file names other databases or other places than when it was saved: save it again",
        ),
    ] {
        assert_eq!(other(change).as_deref(), Some(text));
    }
}
