//! Replicas that Litestream 0.3 wrote, with the times that were recorded, on disk and in the simulator. Runs of the
//! engine and of the program.

use hydrant::cancel::CancellationToken;
use hydrant::catalogue::Generation;
use hydrant::commit::{CommitContext, Destination, Replace};
use hydrant::io::{BackendChoice, IoBackend, probe};
use hydrant::plan::Target;
use hydrant::restore::{Request, RestoreError, RestoreOutcome, Workers, WorkersOptions, restore};
use hydrant::sim::server::{Object, SimCredentials, SimOptions, SimServer};
use hydrant::store::Store;
use hydrant::store::s3::{S3, S3Config, S3Options, StaticCredentials};
use hydrant::telemetry::Counters;
use hydrant::timestamp::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// The key pair that `common::binary::hydrant` has in its environment.
const ACCESS_KEY: &str = "AKIDHYDRANTTESTS";
const SECRET_KEY: &str = "hydrant-tests-secret-key";

/// The directories `single` with replicas: the whole corpora if they lie beside the project, at $HYDRANT_CORPUS or at
/// $HYDRANT_CORPUS_V3; else the copies in tests/fixtures/corpus.
fn singles() -> Vec<PathBuf> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let beside = |variable: &str, name: &str| {
        let corpus = std::env::var_os(variable).map_or_else(|| project.join("../shared").join(name), PathBuf::from);
        corpus.join("single")
    };
    let whole = [beside("HYDRANT_CORPUS", "corpus"), beside("HYDRANT_CORPUS_V3", "corpus-v3")];
    let mut found: Vec<PathBuf> = whole.into_iter().filter(|single| single.is_dir()).collect();
    if found.len() < 2 {
        println!("the whole corpora are not here: running the copies in tests/fixtures/corpus");
        found = vec![project.join("tests/fixtures/corpus/single")];
    }
    found
}

/// The directory with `fleet.json` and `bucket`, and whether it is the whole fleet.
pub(super) fn fleet_folder() -> (PathBuf, bool) {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let beside =
        std::env::var_os("HYDRANT_CORPUS_V3").map_or_else(|| project.join("../shared/corpus-v3"), PathBuf::from);
    let whole = beside.join("fleet");
    if whole.join("fleet.json").is_file() {
        return (whole, true);
    }
    println!("the whole fleet is not here: running the copy in tests/fixtures/corpus-v3");
    (project.join("tests/fixtures/corpus-v3/fleet"), false)
}

/// One file of a recorded replica.
#[derive(Clone)]
pub(super) struct RecordedFile {
    /// The key below the root of the replica or bucket.
    pub key: String,
    pub bytes: Vec<u8>,
    /// The mtime or LastModified that was recorded.
    pub time: Timestamp,
    /// The value of the metadata `litestream-timestamp`.
    pub metadata: Option<Timestamp>,
}

/// A replica or bucket as it was recorded: its files and the manifest.
#[derive(Clone)]
pub(super) struct Recorded {
    pub name: String,
    pub manifest: Value,
    pub files: Vec<RecordedFile>,
}

impl Recorded {
    pub(super) fn load(name: &str, folder: &Path, manifest: &Path) -> Self {
        let manifest: Value = serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
        let parse = |text: &str| Timestamp::parse_rfc3339(text).unwrap();
        let files = manifest["objects"].as_array().unwrap().iter().map(|object| {
            let key = object["key"].as_str().unwrap().to_owned();
            let time = match object["mtime_ns"].as_i64() {
                Some(nanos) => Timestamp::from_nanos(nanos),
                None => parse(object["last_modified"].as_str().unwrap()),
            };
            let metadata = object["metadata"]["litestream-timestamp"].as_str().map(parse);
            let bytes = std::fs::read(folder.join(&key)).unwrap();
            assert_eq!(bytes.len() as u64, object["size"].as_u64().unwrap(), "{name}: {key}");
            RecordedFile { key, bytes, time, metadata }
        });
        Self { name: name.to_owned(), files: files.collect(), manifest }
    }

    /// Writes the files below `dir`, with the recorded times as mtimes.
    pub(super) fn write(&self, dir: &Path) {
        self.files.iter().for_each(|file| write_file(&dir.join(&file.key), &file.bytes, file.time));
    }

    /// Puts the files into `bucket`, with keys that begin with `prefix`.
    pub(super) fn put(&self, server: &SimServer, bucket: &str, prefix: &str) {
        server.objects().create_bucket(bucket);
        for file in &self.files {
            server.objects().put(bucket, &format!("{prefix}{}", file.key), file.object());
        }
    }

    pub(super) fn targets(&self) -> &[Value] {
        self.manifest["targets"].as_array().unwrap()
    }

    /// The SHA-256 of the newest state.
    pub(super) fn latest(&self) -> &str {
        self.targets().iter().find(|t| t["target"] == "latest").unwrap()["sha256"].as_str().unwrap()
    }

    /// The generations in order of their first file's time: name, first and last time.
    pub(super) fn generations(&self) -> Vec<(String, Timestamp, Timestamp)> {
        let mut found: Vec<(String, Timestamp, Timestamp)> = Vec::new();
        for file in self.files.iter().filter(|file| kind_of(&file.key).is_some()) {
            let name = generation_of(&file.key).unwrap();
            match found.iter_mut().find(|(known, ..)| known == name) {
                Some((_, first, last)) => {
                    (*first, *last) = ((*first).min(file.time), (*last).max(file.time));
                }
                None => found.push((name.to_owned(), file.time, file.time)),
            }
        }
        found.sort_by_key(|&(_, first, _)| first);
        found
    }

    /// The generations in order, each with the SHA-256 of its last state. The manifest must have a target after the
    /// last file of each and before the next generation's snapshot.
    pub(super) fn last_states(&self) -> Vec<(String, String)> {
        let generations = self.generations();
        let state = |(i, (name, _, last)): (usize, &(String, Timestamp, Timestamp))| {
            let next = generations.get(i + 1).map_or(Timestamp::MAX, |(_, first, _)| *first);
            let is_it = |t: &&Value| match target_of(t) {
                Target::Timestamp(at) => t["error"].is_null() && *last <= at && at < next,
                Target::Latest => i + 1 == generations.len(),
                Target::Txid(_) | Target::Pinned(_) => false,
            };
            let target = self.targets().iter().find(is_it).unwrap_or_else(|| panic!("{}: {name}", self.name));
            (name.clone(), target["sha256"].as_str().unwrap().to_owned())
        };
        generations.iter().enumerate().map(state).collect()
    }

    /// The files of this generation, in order of their keys.
    pub(super) fn of_generation<'a>(&'a mut self, generation: &'a str) -> impl Iterator<Item = &'a mut RecordedFile> {
        self.files.iter_mut().filter(move |file| generation_of(&file.key) == Some(generation))
    }

    /// Removes the file whose key ends in `end`.
    #[track_caller]
    pub(super) fn without(mut self, end: &str) -> Self {
        let before = self.files.len();
        self.files.retain(|file| !file.key.ends_with(end));
        assert_eq!(self.files.len() + 1, before, "{end}");
        self
    }

    /// The recorded file whose key ends in `end`.
    #[track_caller]
    pub(super) fn file(&self, end: &str) -> &RecordedFile {
        self.files.iter().find(|file| file.key.ends_with(end)).unwrap_or_else(|| panic!("no {end} in {}", self.name))
    }
}

impl RecordedFile {
    pub(super) fn object(&self) -> Object {
        let object = Object::new(self.bytes.clone()).last_modified(self.time);
        match self.metadata {
            Some(time) => object.litestream_timestamp(time),
            None => object,
        }
    }
}

/// Writes a file with this mtime.
pub(super) fn write_file(path: &Path, bytes: &[u8], time: Timestamp) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
    let modified = UNIX_EPOCH + Duration::from_nanos(time.as_nanos().try_into().unwrap());
    std::fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
}

/// The name of the generation in a key of a 0.3 file.
pub(super) fn generation_of(key: &str) -> Option<&str> {
    key.rsplit_once("generations/")?.1.split('/').next()
}

/// Whether a key that Litestream 0.3 writes is one of a snapshot. None for all other keys.
pub(super) fn kind_of(key: &str) -> Option<bool> {
    let name = key.rsplit_once('/')?.1;
    let hex = |text: &str, digits: std::ops::RangeInclusive<usize>| {
        digits.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    if let Some(index) = name.strip_suffix(".snapshot.lz4") {
        return hex(index, 8..=8).then_some(true);
    }
    let name = name.strip_suffix(".wal.lz4")?;
    let is_segment = name.split_once('_').is_some_and(|(index, offset)| hex(index, 8..=8) && hex(offset, 8..=16));
    is_segment.then_some(false)
}

/// All recorded replicas with files of Litestream 0.3, in order of their names.
pub(super) fn all() -> Vec<Recorded> {
    let mut found = Vec::new();
    for single in singles() {
        for entry in std::fs::read_dir(&single).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            if name.starts_with("v3-") && path.extension().is_some_and(|e| e == "json") {
                found.push(Recorded::load(&name, &single.join(&name), &path));
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(found.len() > 2, "{} replicas", found.len());
    found
}

/// The recorded replica with this name. None, and a note, if only the copies in the fixtures are here and do not
/// have it.
pub(super) fn named(name: &str) -> Option<Recorded> {
    let found = all().into_iter().find(|recorded| recorded.name == name);
    if found.is_none() {
        println!("skipped: {name} is not here");
    }
    found
}

/// A replica of which tests/fixtures/corpus has a copy.
pub(super) fn fixture(name: &str) -> Recorded {
    let single = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/corpus/single");
    Recorded::load(name, &single.join(name), &single.join(format!("{name}.json")))
}

/// The fleet's bucket.
pub(super) fn fleet() -> Recorded {
    let (folder, _) = fleet_folder();
    Recorded::load("fleet", &folder.join("bucket"), &folder.join("fleet.json"))
}

/// One database of the fleet, as a replica of its own.
pub(super) fn of_fleet(key: &str) -> Option<Recorded> {
    let fleet = fleet();
    let prefix = format!("{key}/");
    let own = |file: RecordedFile| {
        let key = file.key.strip_prefix(&prefix)?.to_owned();
        Some(RecordedFile { key, ..file })
    };
    let manifest = fleet.manifest["databases"].as_array().unwrap().iter().find(|d| d["key"] == key).cloned();
    if manifest.is_none() {
        println!("skipped: {key} is not here");
    }
    Some(Recorded {
        name: key.to_owned(),
        manifest: manifest?,
        files: fleet.files.into_iter().filter_map(own).collect(),
    })
}

pub(super) fn sha256(path: &Path) -> String {
    hydrant::hex::Hex(&Sha256::digest(std::fs::read(path).unwrap_or_default())).to_string()
}

// --- the simulator ---

/// Starts a simulator that checks signatures.
pub(super) fn simulator() -> SimServer {
    let (access_key, secret_key) = (ACCESS_KEY.into(), SECRET_KEY.into());
    let credentials = Some(SimCredentials { access_key, secret_key, session_token: None });
    let server = SimServer::start(SimOptions { credentials, ..SimOptions::default() }).unwrap();
    server.objects().create_bucket("bucket");
    server
}

/// The replica URL of `path` in the simulator's bucket.
pub(super) fn url(server: &SimServer, path: &str) -> String {
    format!("s3://bucket/{path}?endpoint={}&forcePathStyle=true&region=us-east-1", server.endpoint())
}

/// A client of the simulator's bucket.
pub(super) fn store(server: &SimServer, options: &S3Options, counters: &Arc<Counters>) -> Store {
    let config = S3Config {
        bucket: "bucket".into(),
        region: Some("us-east-1".into()),
        endpoint: Some(server.endpoint()),
        path_style: true,
        credentials: Some(StaticCredentials {
            access_key_id: ACCESS_KEY.into(),
            secret_access_key: SECRET_KEY.into(),
            session_token: None,
        }),
        ..S3Config::default()
    };
    Store::S3(Arc::new(S3::new(config, options, Arc::clone(counters))))
}

/// A recorded replica in a simulator of its own, below `db/`.
pub(super) struct Served {
    pub server: SimServer,
    pub recorded: Recorded,
}

pub(super) fn serve(recorded: Recorded) -> Served {
    let server = simulator();
    recorded.put(&server, "bucket", "db/");
    Served { server, recorded }
}

impl Served {
    pub(super) fn url(&self) -> String {
        url(&self.server, "db")
    }
}

// --- the engine ---

/// The writers that this kernel has.
pub(super) fn kinds() -> Vec<IoBackend> {
    match probe(BackendChoice::Auto).unwrap().kind {
        IoBackend::Uring => vec![IoBackend::Pwrite, IoBackend::Uring],
        other => vec![other],
    }
}

pub(super) fn engine(kind: IoBackend, segment_bytes: u64, memory_bytes: u64, counters: &Arc<Counters>) -> Workers {
    let options = WorkersOptions {
        workers: 2,
        kind,
        memory_bytes,
        tasks: 8,
        segment_bytes,
        checks: false,
        catalogue: Default::default(),
    };
    Workers::start(&options, Arc::clone(counters), CancellationToken::new()).unwrap()
}

/// What one restore is to give.
pub(super) struct Wanted<'a> {
    pub store: &'a Store,
    pub path: &'a str,
    pub target: Target,
    pub generation: Option<Generation>,
}

impl<'a> Wanted<'a> {
    pub(super) fn newest(store: &'a Store, path: &'a str) -> Self {
        Self { store, path, target: Target::Latest, generation: None }
    }

    pub(super) fn at(store: &'a Store, path: &'a str, target: Target) -> Self {
        Self { store, path, target, generation: None }
    }

    /// Restores to `output` and waits for the result.
    pub(super) fn restore(&self, engine: &Workers, output: &Path) -> Result<RestoreOutcome, RestoreError> {
        let request = Request {
            store: self.store.clone(),
            path: self.path.to_owned(),
            replica: None,
            target: self.target,
            generation: self.generation,
            newest_intact: false,
            destination: Arc::new(Destination::prepare(&CommitContext::default(), output, Replace::Never)?),
            check: None,
            parallelism: None,
        };
        let restored = engine.run(move |worker| Box::pin(async move { restore(&worker, request).await })).unwrap()?;
        restored.published.sync_dir()?;
        Ok(restored.outcome)
    }
}

/// The target in a manifest.
pub(super) fn target_of(t: &Value) -> Target {
    match t["target"].as_str().unwrap() {
        "latest" => Target::Latest,
        "txid" => Target::Txid(hydrant::ltx::Txid::parse_name(t["txid"].as_str().unwrap().as_bytes()).unwrap()),
        "timestamp" => Target::Timestamp(Timestamp::parse_rfc3339(t["timestamp"].as_str().unwrap()).unwrap()),
        other => panic!("unknown target {other}"),
    }
}

/// The names of the files in `dir`.
pub(super) fn names_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

// --- the program ---

/// One run of the program with an output `out.db` in an empty directory of its own.
#[derive(Debug)]
pub(super) struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    dir: tempfile::TempDir,
}

/// Runs `hydrant restore -o out.db` with these arguments behind it.
pub(super) fn restore_with(args: &[&str]) -> Ran {
    ran_in(tempfile::tempdir().unwrap(), &[&["restore", "-o", "out.db"], args].concat())
}

/// Runs the program in `dir`.
pub(super) fn ran_in(dir: tempfile::TempDir, args: &[&str]) -> Ran {
    let output = command_in(&dir, args).output().unwrap();
    Ran::of(dir, output)
}

pub(super) fn command_in(dir: &tempfile::TempDir, args: &[&str]) -> Command {
    crate::common::binary::hydrant(dir.path(), args)
}

impl Ran {
    pub(super) fn of(dir: tempfile::TempDir, output: std::process::Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap();
        Self { code, stdout: text(output.stdout), stderr: text(output.stderr), dir }
    }

    /// Checks that exactly the output with this hash lies in the directory, and returns the run.
    #[track_caller]
    pub(super) fn gives(self, hash: &str) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        assert!(!self.stderr.contains("Error:"), "{self:?}");
        assert_eq!(names_in(self.dir.path()), ["out.db"], "{self:?}");
        assert_eq!(sha256(&self.dir.path().join("out.db")), hash, "{self:?}");
        self
    }

    /// Checks that the run failed with status `code` and an error that has `text`, printed nothing else, and left
    /// nothing behind.
    #[track_caller]
    pub(super) fn fails_with(self, code: i32, text: &str) -> Self {
        assert_eq!((self.code, &*self.stdout), (code, ""), "{self:?}");
        assert_eq!(self.stderr.matches("Error:").count(), 1, "{self:?}");
        let error = self.stderr.lines().find(|line| line.starts_with("Error: ")).unwrap_or_default();
        assert!(error.contains(text), "no {text:?} in {self:?}");
        assert!(names_in(self.dir.path()).is_empty(), "{:?} {self:?}", names_in(self.dir.path()));
        self
    }

    #[track_caller]
    pub(super) fn fails(self, text: &str) -> Self {
        self.fails_with(1, text)
    }

    /// Checks that the run succeeded and wrote no database.
    #[track_caller]
    pub(super) fn writes_nothing(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        assert!(names_in(self.dir.path()).is_empty(), "{:?} {self:?}", names_in(self.dir.path()));
        self
    }

    #[track_caller]
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}
