//! What integration tests share. Each test binary uses a part of it.
#![allow(dead_code)]

pub mod client;
pub mod raw;

use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use std::path::{Path, PathBuf};
use tokio::sync::oneshot;

/// An independent S3 server (s3s-fs) over a directory, on a thread of its own. It checks
/// signatures. Path-style only; buckets are the directories below the root. Ends when dropped.
pub struct S3sServer {
    /// `http://127.0.0.1:PORT`.
    pub endpoint: String,
    pub access_key: &'static str,
    pub secret_key: &'static str,
    root: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl S3sServer {
    pub fn start(root: &Path) -> Self {
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
                        // A client that goes away is not the server's failure.
                        let _ = connection.await;
                    });
                }
            });
        });
        Self { endpoint, access_key, secret_key, root: root.to_owned(), stop: Some(stop), thread: Some(thread) }
    }

    /// Puts an object by writing the server's files; `timestamp` is its litestream-timestamp.
    pub fn put(&self, bucket: &str, key: &str, content: &[u8], timestamp: Option<&str>) {
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
