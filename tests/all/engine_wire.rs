//! Restores from a bucket of which many answers have a flipped bit. The result must be the right database or an error.

use hydrant::cancel::CancellationToken;
use hydrant::commit::{CommitContext, Destination, Replace};
use hydrant::io::{BackendChoice, IoBackend, probe};
use hydrant::ltx::PageSize;
use hydrant::plan::Target;
use hydrant::restore::{Request, RestoreError, SEGMENT_BYTES, Workers, WorkersOptions, restore};
use hydrant::sim::generate::{EncodingMix, HistoryParams, random_history};
use hydrant::sim::server::{Failure, Faults, RequestKind, SimOptions, SimServer};
use hydrant::store::Store;
use hydrant::store::s3::{S3, S3Config, S3Options};
use hydrant::telemetry::Counters;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;

fn run(engine: &Workers, store: Store, path: &str, output: &Path) -> Result<(), RestoreError> {
    let request = Request {
        store,
        path: path.to_owned(),
        replica: None,
        target: Target::Latest,
        generation: None,
        newest_intact: false,
        destination: Arc::new(Destination::prepare(&CommitContext::default(), output, Replace::Never)?),
        check: None,
        parallelism: None,
    };
    let restored = engine.run(move |worker| Box::pin(async move { restore(&worker, request).await })).unwrap()?;
    Ok(restored.published.sync_dir()?)
}

/// Small files and files in segments of all kinds, with and without memory for the overlay.
#[test]
fn flipped_bits_never_give_another_database() {
    let auto = probe(BackendChoice::Auto).unwrap().kind;
    let (mut right, mut after_flips, mut failed) = (0, 0, 0);
    for seed in 0..36 {
        let params = HistoryParams {
            page_size: PageSize::new([512, 1024, 4096][seed as usize % 3]).unwrap(),
            encoding: [EncodingMix::Block, EncodingMix::Mixed][seed as usize / 3 % 2],
            tracked: [0.0, 1.0, 0.3][seed as usize / 6 % 3],
            max_pages: 150,
            ..HistoryParams::default()
        };
        let database = random_history(seed, &params).unwrap();
        let server = SimServer::start(SimOptions { seed, ..SimOptions::default() }).unwrap();
        server.objects().put_database("bucket", &database);
        let bit = (Failure::FlippedBit, [0.02, 0.1][seed as usize % 2]);
        server.set_faults(Faults { fail: vec![bit], only_kind: Some(RequestKind::Get), ..Faults::default() });
        let config = S3Config {
            bucket: "bucket".into(),
            region: Some("us-east-1".into()),
            endpoint: Some(server.endpoint()),
            path_style: true,
            anonymous: true,
            ..S3Config::default()
        };
        for (kind, segment_bytes, memory_bytes) in [
            (auto, SEGMENT_BYTES, 64 << 20),
            (auto, 2_000, 64 << 20),
            (IoBackend::Pwrite, SEGMENT_BYTES, 1 << 20),
            (IoBackend::Pwrite, 2_000, 1 << 20),
        ] {
            let counters = Arc::new(Counters::default());
            let options = WorkersOptions {
                workers: 2,
                kind,
                memory_bytes,
                catalogue: Default::default(),
                tasks: 4,
                segment_bytes,
                checks: false,
            };
            let engine = Workers::start(&options, Arc::clone(&counters), CancellationToken::new()).unwrap();
            let store = Store::S3(Arc::new(S3::new(config.clone(), &S3Options::default(), Arc::clone(&counters))));
            let dir = tempfile::tempdir().unwrap();
            let output = dir.path().join("out.db");
            match run(&engine, store, &database.root, &output) {
                Ok(()) => {
                    let found = std::fs::read(&output).unwrap();
                    let is_right = Sha256::digest(&found)[..] == database.expected.sha256[..];
                    assert!(is_right, "{seed} {kind:?} {segment_bytes} {memory_bytes}: {} bytes", found.len());
                    right += 1;
                    after_flips += u32::from(counters.retries.get() > 0);
                }
                Err(error) => {
                    assert!(matches!(error, RestoreError::File { .. } | RestoreError::Chain { .. }), "{seed} {error}");
                    assert!(!output.exists());
                    failed += 1;
                }
            }
        }
    }
    println!("right {right}, of them after flips {after_flips}; failed {failed}");
    assert!(after_flips > 10, "{right} {after_flips} {failed}");
}
