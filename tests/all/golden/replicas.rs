//! Replicas of every kind, healthy and damaged, in a simulator. Content, times and sizes are the same in every run.

use super::support::{ACCESS_KEY, SECRET_KEY};
use hydrant::sim::generate::{LargeSpec, TinyFleet, large_database, tiny_fleet};
use hydrant::sim::server::{Failure, Object, RequestKind, SimCredentials, SimOptions, SimServer};
use hydrant::timestamp::Timestamp;
use std::path::Path;

/// The files of a healthy replica, below its root. The plan for the newest state uses `SNAPSHOT`, `L1` and
/// `NEWEST`. `FIFTH` and `SIXTH` hold the same transactions as `L1`.
pub(super) const SNAPSHOT: &str = "0009/0000000000000001-0000000000000004.ltx";
pub(super) const L1: &str = "0001/0000000000000005-0000000000000006.ltx";
pub(super) const FIFTH: &str = "0000/0000000000000005-0000000000000005.ltx";
pub(super) const SIXTH: &str = "0000/0000000000000006-0000000000000006.ltx";
pub(super) const NEWEST: &str = "0000/0000000000000007-0000000000000007.ltx";

/// The snapshot of the newer generation of [`Files::become_v3`].
const V3_NEWEST_SNAPSHOT: &str = "generations/82fdcf411c47acbc/snapshots/00000000.snapshot.lz4";

/// A number of failures that is larger than the number of requests in any run.
const FOR_EVER: usize = 1000;

pub(super) struct File {
    /// The path of the file below the root of its replica.
    pub path: String,
    pub bytes: Vec<u8>,
    pub is_archived: bool,
    created: Timestamp,
    uploaded: Timestamp,
}

impl File {
    /// Makes a file whose path is not that of an LTX file, so that restores must ignore it.
    fn other(path: &str) -> Self {
        let time = Timestamp::from_millis(1_790_000_000_000);
        Self { path: path.to_owned(), bytes: vec![0; 64], is_archived: false, created: time, uploaded: time }
    }
}

/// The files of a replica, which a test may change before they are stored.
pub(super) struct Files(Vec<File>);

impl Files {
    fn sound() -> Self {
        let database = tiny_fleet(&TinyFleet { count: 1, ..TinyFleet::default() }).unwrap().remove(0);
        let file = |object: &hydrant::sim::generate::GeneratedObject| File {
            path: object.key.strip_prefix(&format!("{}/", database.root)).unwrap().to_owned(),
            bytes: object.bytes.to_vec(),
            is_archived: false,
            created: object.litestream_timestamp,
            uploaded: object.last_modified,
        };
        Self(database.objects.iter().map(file).collect())
    }

    pub(super) fn file(&mut self, path: &str) -> &mut File {
        self.0.iter_mut().find(|file| file.path == path).unwrap_or_else(|| panic!("no {path}"))
    }

    pub(super) fn remove(&mut self, path: &str) {
        self.file(path);
        self.0.retain(|file| file.path != path);
    }

    pub(super) fn keep_only(&mut self, path: &str) {
        self.file(path);
        self.0.retain(|file| file.path == path);
    }

    /// Adds a backup in the format of Litestream 0.3 beside the LTX files.
    pub(super) fn add_v3(&mut self) {
        for name in
            ["snapshots/00000000.snapshot.lz4", "wal/00000000_00000000.wal.lz4", "wal/00000000_00001000.wal.lz4"]
        {
            self.0.push(File::other(&format!("generations/0123456789abcdef/{name}")));
        }
    }

    /// Replaces all files by those of a replica that Litestream 0.3 wrote: two generations.
    pub(super) fn become_v3(&mut self) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/corpus/single");
        let manifest = std::fs::read(root.join("v3-s3.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let file = |object: &serde_json::Value| {
            let key = object["key"].as_str().unwrap();
            let time = Timestamp::parse_rfc3339(object["last_modified"].as_str().unwrap()).unwrap();
            let bytes = std::fs::read(root.join("v3-s3").join(key)).unwrap();
            File { path: key.to_owned(), bytes, is_archived: false, created: time, uploaded: time }
        };
        self.0 = manifest["objects"].as_array().unwrap().iter().map(file).collect();
    }

    fn flip(&mut self, path: &str, from_the_end: usize) {
        let bytes = &mut self.file(path).bytes;
        let at = bytes.len() - from_the_end;
        bytes[at] ^= 1;
    }
}

/// Starts a simulator that checks signatures and has an empty bucket.
pub(super) fn simulator(max_keys: usize) -> SimServer {
    let credentials =
        SimCredentials { access_key: ACCESS_KEY.into(), secret_key: SECRET_KEY.into(), session_token: None };
    let server =
        SimServer::start(SimOptions { credentials: Some(credentials), max_keys, ..SimOptions::default() }).unwrap();
    server.objects().create_bucket("bucket");
    server
}

/// Stores a database of 32 KiB with newest TXID 7. `change` may change its files before.
pub(super) fn put(server: &SimServer, root: &str, change: impl FnOnce(&mut Files)) {
    let mut files = Files::sound();
    change(&mut files);
    for file in files.0 {
        let mut object = Object::new(file.bytes).litestream_timestamp(file.created).last_modified(file.uploaded);
        object.storage_class = file.is_archived.then(|| "GLACIER".to_owned());
        server.objects().put("bucket", &format!("{root}/{}", file.path), object);
    }
}

pub(super) fn put_sound(server: &SimServer, root: &str) {
    put(server, root, |_| {});
}

/// Makes all GETs of the planned files of `root` fail.
pub(super) fn refuse(server: &SimServer, root: &str, failure: Failure) {
    for file in [SNAPSHOT, L1, FIFTH, SIXTH, NEWEST] {
        server.script(RequestKind::Get, &format!("{root}/{file}"), vec![Some(failure); FOR_EVER]);
    }
}

/// The databases that [`fleet`] stores below `fleet/`. Those of the first list can be restored; those of the second
/// cannot, because of their files in the bucket.
pub(super) const RESTORED: [&str; 5] = ["ok/plain.db", "ok/around.db", "ok/archived.db", "ok/v3-beside.db", "ok/v3.db"];
pub(super) const DAMAGED: [&str; 14] = [
    "bad/hole.db",
    "bad/no-beginning.db",
    "bad/truncated.db",
    "bad/empty.db",
    "bad/malformed.db",
    "bad/checksum.db",
    "bad/disagrees.db",
    "bad/gap.db",
    "bad/archived.db",
    "bad/v3-malformed.db",
    "bad/v3-encrypted.db",
    "bad/v3-no-snapshot.db",
    "bad/denied.db",
    "bad/full.db",
];

/// A limit on the size of a file, in bytes. `bad/full.db` is larger, all other databases are smaller.
pub(super) const FILE_SIZE_LIMIT: u64 = 100 << 10;

/// Stores the databases of the two lists above.
pub(super) fn fleet(server: &SimServer) {
    let put = |name: &str, change: fn(&mut Files)| put(server, &format!("fleet/{name}"), change);
    put("ok/plain.db", |_| {});
    put("ok/around.db", |files| files.flip(L1, 1));
    put("ok/archived.db", |files| files.file(L1).is_archived = true);
    put("ok/v3-beside.db", Files::add_v3);
    put("bad/hole.db", |files| {
        files.remove(L1);
        files.remove(SIXTH);
    });
    put("bad/no-beginning.db", |files| files.remove(SNAPSHOT));
    put("bad/truncated.db", |files| {
        let bytes = &mut files.file(SNAPSHOT).bytes;
        bytes.truncate(bytes.len() / 2);
    });
    put("bad/empty.db", |files| files.file(SNAPSHOT).bytes.clear());
    put("bad/malformed.db", |files| files.file(SNAPSHOT).bytes[0] = b'X');
    put("bad/checksum.db", |files| files.flip(SNAPSHOT, 1));
    put("bad/disagrees.db", |files| {
        let sixth = files.file(SIXTH).bytes.clone();
        files.file(NEWEST).bytes = sixth;
    });
    // The files that would close the gap are damaged as well.
    put("bad/gap.db", |files| {
        files.flip(L1, 1);
        files.flip(FIFTH, 1);
    });
    put("bad/archived.db", |files| files.file(SNAPSHOT).is_archived = true);
    put("ok/v3.db", Files::become_v3);
    put("bad/v3-malformed.db", |files| {
        files.0.clear();
        files.add_v3();
    });
    put("bad/v3-encrypted.db", |files| {
        files.become_v3();
        let newest = files.0.last_mut().unwrap();
        newest.bytes.splice(..0, *b"age-encryption.org/v1\n");
    });
    // The generation with the newest files has lost its snapshot.
    put("bad/v3-no-snapshot.db", |files| {
        files.become_v3();
        files.remove(V3_NEWEST_SNAPSHOT);
    });
    put("bad/denied.db", |_| {});
    refuse(server, "fleet/bad/denied.db", Failure::AccessDenied);
    let large = LargeSpec { root: "fleet/bad/full.db".into(), bytes: 256 << 10, ..LargeSpec::default() };
    server.objects().put_database("bucket", &large_database(&large).unwrap().to_database());
}
