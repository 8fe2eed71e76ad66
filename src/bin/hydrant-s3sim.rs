//! The S3 simulator as a program. Without a subcommand it serves folders as S3 buckets until SIGTERM or SIGINT.
//! With `generate` it writes Litestream replicas into a folder that it can serve later.

use clap::{Args, Parser, Subcommand, ValueEnum};
use hydrant::catalogue::Layout;
use hydrant::ltx::PageSize;
use hydrant::sim::generate::v3::{FleetV3, LargeV3, LargeV3Spec, PackSpec, pack_sqlite, v3_fleet};
use hydrant::sim::generate::{
    EncodingMix, GenerateError, GeneratedDatabase, HistoryParams, LargeDatabase, LargeSpec, TinyFleet,
    lock_page_database, random_history, sample_fleet, tiny_fleet,
};
use hydrant::sim::server::{
    Failure, Faults, FolderWriter, Latency, RateLimit, SimCredentials, SimOptions, SimServer, Tail, write_folder,
    write_v3_folder,
};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

type Failed = Box<dyn std::error::Error>;

/// An S3 server for tests and benchmarks, with simulated latency, throttling and faults.
#[derive(Parser)]
#[command(name = "hydrant-s3sim", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Subcommand)]
enum Command {
    /// Writes generated Litestream replicas into a folder, which can then be served as a bucket.
    Generate(Generate),
}

#[derive(Args)]
struct Serve {
    /// The folder to serve. Each folder inside it is a bucket. Without this option the server starts with no
    /// buckets.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Serves the folder given by --root itself as one bucket with this name.
    #[arg(long, value_name = "NAME", requires = "root")]
    bucket: Option<String>,
    /// Reads all files into memory before serving, so that a request reads nothing from the disk.
    #[arg(long)]
    in_memory: bool,
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// The seed of the random numbers that decide latencies and faults.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Latency until the first byte of an answer, in milliseconds. With --latency-sigma, the median of that
    /// latency.
    #[arg(long, value_name = "MS", default_value_t = 0.0)]
    latency_ms: f64,
    /// The sigma of a log-normal distribution of the latency. 0: every request has the same latency.
    #[arg(long, value_name = "SIGMA", default_value_t = 0.0)]
    latency_sigma: f64,
    /// The slow tail of the latency. This fraction of the requests waits for its first byte longer by this factor.
    /// Example: 0.01,20 makes 1 % of the requests 20 times slower.
    #[arg(long, value_name = "FRACTION,FACTOR", value_parser = pair)]
    tail: Option<(f64, f64)>,
    /// The bandwidth limit of one connection, in bytes per second.
    #[arg(long, value_name = "BYTES")]
    bandwidth: Option<u64>,
    /// The number of requests per second that one bucket serves. Requests beyond it get 503 SlowDown.
    #[arg(long, value_name = "RATE")]
    rate_limit: Option<f64>,
    /// Counts --rate-limit per key prefix instead of per bucket. The prefix is this many folders of the key. 0: per
    /// bucket.
    #[arg(long, value_name = "PARTS", default_value_t = 0)]
    rate_limit_parts: usize,
    /// The probability of each kind of failure, from 0 to 1. The kinds are 500, 503, unavailable, timeout, reset,
    /// reset-after, half, black-hole, stall, flip, 304 and archived. Example: 500=0.1,half=0.05.
    #[arg(long, value_name = "KIND=PROBABILITY,…", value_delimiter = ',', value_parser = failure)]
    fail: Vec<(Failure, f64)>,
    /// The probability that a GET or HEAD finds another ETag than the listing gave, as if the object had been
    /// replaced.
    #[arg(long, value_name = "PROBABILITY", default_value_t = 0.0)]
    changed_etag: f64,
    /// The access key that clients must use. With it and --secret-key, the server checks every signature.
    #[arg(long, value_name = "KEY", requires = "secret_key")]
    access_key: Option<String>,
    #[arg(long, value_name = "KEY", requires = "access_key")]
    secret_key: Option<String>,
    #[arg(long, default_value = "us-east-1")]
    region: String,
}

#[derive(Args)]
struct Generate {
    #[arg(long)]
    kind: Kind,
    /// The folder to write into.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The number of databases to generate (kinds fleet, sample, random, v3-fleet and v3-sample).
    #[arg(long, default_value_t = 100)]
    count: usize,
    /// The size of the database in bytes (kinds large and v3-large).
    #[arg(long, default_value_t = 1_060_000_000)]
    bytes: u64,
    /// The number of increments, which are the LTX files after the snapshot (kind large).
    #[arg(long, default_value_t = 0)]
    increments: u32,
    /// The number of pages that an increment (kind large) or a segment (kind v3-large) writes.
    #[arg(long, default_value_t = 20)]
    pages_per_increment: u32,
    /// The number of indexes, each with its own WAL (kind v3-large).
    #[arg(long, default_value_t = 200)]
    indexes: u32,
    /// The number of segments of WAL in each index (kind v3-large).
    #[arg(long, default_value_t = 5)]
    segments: u32,
    /// How far increments change the same pages, from 0 (different pages) to 1 (the same pages) (kinds large and
    /// v3-large).
    #[arg(long, default_value_t = 0.8)]
    overlap: f64,
    /// The page size in bytes (kinds large, random, v3-large and v3-sample).
    #[arg(long, default_value = "4096", value_parser = page_size)]
    page_size: PageSize,
    #[arg(long, default_value = "block")]
    encoding: EncodingName,
    #[arg(long, default_value = "s3")]
    layout: LayoutName,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// Many small databases with five LTX files each. The pages hold generated bytes, not SQLite content.
    Fleet,
    /// One large SQLite database: a snapshot, and increments if --increments asks for them.
    Large,
    /// Databases that SQLite itself has written.
    Sample,
    /// One database larger than 1 GiB, so that it contains SQLite's lock page.
    LockPage,
    /// Databases with random histories of transactions, compactions and snapshots.
    Random,
    /// Many small databases in the format of Litestream 0.3, with a snapshot and five segments of WAL each.
    V3Fleet,
    /// One large SQLite database in the format of Litestream 0.3: a snapshot, and segments of WAL.
    V3Large,
    /// Databases that SQLite itself has written, in the format of Litestream 0.3.
    V3Sample,
}

#[derive(Clone, Copy, ValueEnum)]
enum EncodingName {
    Block,
    Frame,
    Mixed,
}

#[derive(Clone, Copy, ValueEnum)]
enum LayoutName {
    S3,
    File,
}

fn pair(text: &str) -> Result<(f64, f64), String> {
    let (fraction, factor) = text.split_once(',').ok_or("expected FRACTION,FACTOR")?;
    let number = |text: &str| text.trim().parse::<f64>().map_err(|error| error.to_string());
    Ok((number(fraction)?, number(factor)?))
}

fn failure(text: &str) -> Result<(Failure, f64), String> {
    let (kind, probability) = text.split_once('=').ok_or("expected KIND=PROBABILITY")?;
    let failure = match kind {
        "500" => Failure::InternalError,
        "503" => Failure::SlowDown,
        "unavailable" => Failure::Unavailable,
        "timeout" => Failure::RequestTimeout,
        "reset" => Failure::ResetBeforeHeaders,
        "reset-after" => Failure::ResetAfterHeaders,
        "half" => Failure::HalfBody,
        "black-hole" => Failure::BlackHole,
        "stall" => Failure::StalledBody,
        "flip" => Failure::FlippedBit,
        "304" => Failure::NotModified,
        "archived" => Failure::Archived,
        other => return Err(format!("no failure is called {other:?}")),
    };
    let probability: f64 = probability.parse().map_err(|_| format!("{probability:?} is no number"))?;
    if (0.0..=1.0).contains(&probability) {
        Ok((failure, probability))
    } else {
        Err(format!("{probability} is no probability"))
    }
}

fn page_size(text: &str) -> Result<PageSize, String> {
    text.parse().ok().and_then(PageSize::new).ok_or_else(|| "a power of two from 512 to 65536".into())
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Some(Command::Generate(generate)) => write_replicas(&generate),
        None => serve(cli.serve),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hydrant-s3sim: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(args: Serve) -> Result<(), Failed> {
    let latency_ms = if args.latency_ms.is_finite() { args.latency_ms.clamp(0.0, 3_600_000.0) } else { 0.0 };
    let first_byte = Duration::from_secs_f64(latency_ms / 1000.0);
    let latency = if args.latency_sigma > 0.0 {
        Latency::LogNormal { median: first_byte, sigma: args.latency_sigma }
    } else {
        Latency::Fixed(first_byte)
    };
    let faults = Faults {
        latency,
        tail: args.tail.map(|(fraction, factor)| Tail { fraction, factor }),
        bandwidth_per_connection: args.bandwidth,
        rate_limit: args
            .rate_limit
            .map(|rate| RateLimit { prefix_parts: args.rate_limit_parts, ..RateLimit::per_bucket(rate) }),
        fail: args.fail,
        changed_etag: args.changed_etag,
        ..Faults::default()
    };
    let credentials = args.access_key.zip(args.secret_key).map(|(access_key, secret_key)| SimCredentials {
        access_key,
        secret_key,
        session_token: None,
    });
    let server = SimServer::start(SimOptions {
        listen: args.listen,
        threads: args.threads,
        seed: args.seed,
        credentials,
        region: args.region,
        faults,
        ..SimOptions::default()
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut files = 0;
        if let Some(root) = args.root {
            if let Some(bucket) = args.bucket {
                files = server.objects().load_folder(&bucket, "", &root, None)?;
            } else {
                for entry in std::fs::read_dir(&root)? {
                    let entry = entry?;
                    if let (Ok(bucket), true) = (entry.file_name().into_string(), entry.path().is_dir()) {
                        files += server.objects().load_folder(&bucket, "", &entry.path(), None)?;
                    }
                }
            }
            if args.in_memory {
                server.objects().read_into_memory()?;
            }
        }
        println!("{}", server.endpoint());
        std::io::stdout().flush()?;
        eprintln!("serving {files} objects in {} buckets", server.objects().buckets().len());
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        println!("{}", server.stats());
        Ok(())
    })
}

fn write_replicas(args: &Generate) -> Result<(), Failed> {
    let encoding = match args.encoding {
        EncodingName::Block => EncodingMix::Block,
        EncodingName::Frame => EncodingMix::Frame,
        EncodingName::Mixed => EncodingMix::Mixed,
    };
    let layout = match args.layout {
        LayoutName::S3 => Layout::Hex,
        LayoutName::File => Layout::Decimal,
    };
    let databases: Vec<GeneratedDatabase> = match args.kind {
        Kind::Large => return write_large(args, layout, encoding),
        Kind::V3Large => return write_v3_large(args),
        Kind::V3Fleet | Kind::V3Sample => return write_v3_replicas(args),
        Kind::Fleet => {
            tiny_fleet(&TinyFleet { count: args.count, layout, encoding, seed: args.seed, ..TinyFleet::default() })?
        }
        Kind::Sample => sample_fleet(args.count, args.seed)?,
        Kind::LockPage => vec![lock_page_database("lock-page.db", layout, encoding)?],
        Kind::Random => (0..args.count as u64)
            .map(|number| {
                let root = format!("random/{number:06}.db");
                let params =
                    HistoryParams { root, layout, encoding, page_size: args.page_size, ..HistoryParams::default() };
                random_history(args.seed.wrapping_add(number), &params)
            })
            .collect::<Result<_, GenerateError>>()?,
    };
    let files = write_folder(&args.out, &databases)?;
    println!("{} databases, {files} files in {}", databases.len(), args.out.display());
    Ok(())
}

/// Writes the snapshot of the large database page by page, so that a database larger than the memory can be
/// generated.
fn write_large(args: &Generate, layout: Layout, encoding: EncodingMix) -> Result<(), Failed> {
    let large = LargeDatabase::without_snapshot(&LargeSpec {
        layout,
        page_size: args.page_size,
        bytes: args.bytes,
        increments: args.increments,
        pages_per_increment: args.pages_per_increment,
        overlap: args.overlap,
        encoding,
        seed: args.seed,
        ..LargeSpec::default()
    })?;
    let mut folder = FolderWriter::create(&args.out)?;
    folder.streamed(&large.snapshot_object(), |file| {
        large.write_snapshot(file).map(drop).map_err(std::io::Error::other)
    })?;
    for object in &large.objects {
        folder.object(object)?;
    }
    folder.expected(&large.spec.root, &large.expected());
    let files = folder.finish()?;
    println!("1 database of {} bytes, {files} files in {}", large.size_bytes(), args.out.display());
    Ok(())
}

fn write_v3_replicas(args: &Generate) -> Result<(), Failed> {
    let replicas = match args.kind {
        Kind::V3Fleet => v3_fleet(&FleetV3 { count: args.count, seed: args.seed, ..FleetV3::default() }),
        _ => (0..args.count as u64)
            .map(|number| {
                let root = format!("sample/{number:06}.db");
                let spec = PackSpec { root, page_size: args.page_size, ahead: false, ..PackSpec::default() };
                pack_sqlite(args.seed.wrapping_add(number), &spec)
            })
            .collect::<Result<_, GenerateError>>()?,
    };
    let files = write_v3_folder(&args.out, &replicas)?;
    println!("{} databases, {files} files in {}", replicas.len(), args.out.display());
    Ok(())
}

/// Writes the snapshot of the large database block by block, so that a database larger than the memory can be
/// generated.
fn write_v3_large(args: &Generate) -> Result<(), Failed> {
    let large = LargeV3::without_snapshot(&LargeV3Spec {
        page_size: args.page_size,
        bytes: args.bytes,
        indexes: args.indexes,
        segments: args.segments,
        pages_per_segment: args.pages_per_increment,
        overlap: args.overlap,
        seed: args.seed,
        ..LargeV3Spec::default()
    })?;
    let mut folder = FolderWriter::create(&args.out)?;
    folder.v3_streamed(&large.snapshot_object(), |file| {
        large.write_snapshot(file).map(drop).map_err(std::io::Error::other)
    })?;
    for object in &large.objects {
        folder.v3_object(object)?;
    }
    folder.expected_v3(&large.spec.root, &large.expected());
    let files = folder.finish()?;
    println!("1 database of {} bytes, {files} files in {}", large.size_bytes(), args.out.display());
    Ok(())
}
