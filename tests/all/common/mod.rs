//! Code that the integration tests share: commands, S3 servers and clients, waiting, LTX headers.

pub(crate) mod append_only;
pub(crate) mod binary;
pub(crate) mod client;
pub(crate) mod disk;
pub(crate) mod fleet;
pub(crate) mod metrics;
pub(crate) mod raw;
pub(crate) mod wait;

use hydrant::ltx::header::{FLAG_NO_CHECKSUM, Header};
use hydrant::ltx::{PageSize, Txid};
use hydrant::restore::RestoreError;
use hydrant::store::Store;
use hydrant::store::s3::{S3, S3Config, S3Options, StaticCredentials};
use hydrant::telemetry::Counters;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::oneshot;

/// The header of an LTX file with one transaction, as Litestream writes it: without checksums of the database.
pub(crate) fn ltx_header(page_size: PageSize, commit: u32, txid: u64, timestamp_ms: i64) -> Header {
    Header {
        flags: FLAG_NO_CHECKSUM,
        page_size,
        commit,
        min_txid: Txid(txid),
        max_txid: Txid(txid),
        timestamp_ms,
        pre_apply_checksum: 0,
        wal_offset: 0,
        wal_size: 0,
        wal_salt1: 0,
        wal_salt2: 0,
        node_id: 0,
    }
}

/// The key of the damaged file, if the error is about one.
pub(crate) fn damaged_key(error: &RestoreError) -> Option<&str> {
    match error {
        RestoreError::File { key, .. } | RestoreError::Chain { key, .. } | RestoreError::Unreadable { key, .. } => {
            Some(key)
        }
        _ => None,
    }
}

/// A server of an independent S3 implementation (s3s-fs) for the directories below `root`, on a thread of its own.
/// Each directory is a bucket. It checks signatures and supports path-style requests only. It stops when this is
/// dropped.
pub(crate) struct S3sServer {
    /// The URL of the server, `http://127.0.0.1:PORT`.
    pub endpoint: String,
    pub access_key: &'static str,
    pub secret_key: &'static str,
    root: PathBuf,
    /// The copy of the content that is served. It is removed together with the server.
    _copy: Option<tempfile::TempDir>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl S3sServer {
    pub(crate) fn start(root: &Path) -> Self {
        let (access_key, secret_key) = ("AKIDHYDRANTTESTS", "hydrant-tests-secret-key");
        let fs = s3s_fs::FileSystem::new(root).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (stop, mut stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let mut builder = S3ServiceBuilder::new(fs);
            builder.set_auth(SimpleAuth::from_single(access_key, secret_key));
            let service = builder.build();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let stream = tokio::select! {
                        accepted = listener.accept() => accepted.unwrap().0,
                        _ = &mut stopped => break,
                    };
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service.clone());
                    tokio::spawn(async {
                        // A client that closes its connection is not an error of the server.
                        let _ = connection.await;
                    });
                }
            });
        });
        Self {
            endpoint,
            access_key,
            secret_key,
            root: root.to_owned(),
            _copy: None,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Starts a server that has a copy of the directory `content` as bucket `bucket`.
    pub(crate) fn serving_copy_of(content: &Path, bucket: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        copy(content, &root.path().join(bucket));
        let mut server = Self::start(root.path());
        server._copy = Some(root);
        server
    }

    /// Creates an S3 client for `bucket` of this server.
    pub(crate) fn store(&self, bucket: &str) -> Store {
        let config = S3Config {
            bucket: bucket.into(),
            region: Some("us-east-1".into()),
            endpoint: Some(self.endpoint.clone()),
            path_style: true,
            credentials: Some(StaticCredentials {
                access_key_id: self.access_key.into(),
                secret_access_key: self.secret_key.into(),
                session_token: None,
            }),
            ..S3Config::default()
        };
        Store::S3(Arc::new(S3::new(config, &S3Options::default(), Arc::new(Counters::default()))))
    }

    /// Stores an object by writing the server's files. `timestamp` is the value of its metadata
    /// `litestream-timestamp`.
    pub(crate) fn put(&self, bucket: &str, key: &str, content: &[u8], timestamp: Option<&str>) {
        let path = self.root.join(bucket).join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        if let Some(timestamp) = timestamp {
            let name = format!(".bucket-{}.object-{}.metadata.json", base64url(bucket), base64url(key));
            let metadata = format!("{{\"user_metadata\":{{\"litestream-timestamp\":\"{timestamp}\"}}}}");
            std::fs::write(self.root.join(name), metadata).unwrap();
        }
    }
}

impl Drop for S3sServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Copies a directory with everything in it. The copy can be written to, whatever the modes of the original.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::write(to, std::fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

fn base64url(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for group in text.as_bytes().chunks(3) {
        let bits = group.iter().fold(0u32, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - group.len()));
        for i in 0..=group.len() {
            out.push(char::from(DIGITS[(bits >> (18 - 6 * i)) as usize & 63]));
        }
    }
    out
}
