//! The texts of all errors and warnings with their class, as they appear in the error log, in `reason` and after
//! `Error:`. Users search for these texts, and scripts depend on some.

use super::normal::Normal;
use super::support::Transcript;
use hydrant::catalogue::{Generation, Lineage};
use hydrant::commit::{CommitError, UnsafeName};
use hydrant::config::ConfigError;
use hydrant::error::Class;
use hydrant::fleet::PatternError;
use hydrant::io::IoError;
use hydrant::ltx::error::Checksum;
use hydrant::ltx::{Fault, FormatError, Part, Pgno, Txid};
use hydrant::plan::{DatedFile, DatedGeneration, PlanError, Warning};
use hydrant::restore::{ChainError, NothingFound, RestoreError};
use hydrant::store::{StoreError, StoreErrorKind};
use hydrant::timestamp::Timestamp;
use hydrant::wal::{WalChecksum, WalError, WalFault};
use rustix::io::Errno;
use std::error::Error;
use std::fmt::Display;
use std::path::PathBuf;

fn behind(class: Class, text: impl Display) -> String {
    format!("{class} | {text}\n")
}

fn line(text: &impl Display) -> String {
    format!("{text}\n")
}

/// The error's text. Its causes' texts are in it, and none of them is a source besides: whoever prints
/// an error with its sources prints no cause twice.
fn whole(error: &dyn Error) -> String {
    let text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        assert!(!text.contains(&cause.to_string()), "with its sources this prints a cause twice: {text}");
        source = cause.source();
    }
    text
}

fn error_line(error: &impl Error) -> String {
    line(&whole(error))
}

fn path() -> PathBuf {
    "/data/a\u{1b}.db".into()
}

fn key() -> String {
    "a\u{1b}.db/key".to_owned()
}

fn reason() -> String {
    "the\u{1b} reason".to_owned()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_790_000_000_000 + 1000 * seconds)
}

fn plan_errors() -> String {
    texts!(PlanError, |error: &PlanError| behind(error.class(), whole(error)), {
        NoBackups {},
        NoSnapshot { generation: Generation(5), files: 2, instead: None },
        NoSnapshot { generation: Generation(5), files: 2, instead: Some(Generation(6)) },
        Prerelease { key: key(), instead: None },
        Prerelease { key: key(), instead: Some(Generation(6)) },
        UnknownGeneration { generation: Generation(5), known: vec![] },
        UnknownGeneration { generation: Generation(5), known: vec![generation(6), generation(7)] },
        WalHole { generation: Generation(5), after: key(), index: 3, offset: 4152 },
        SnapshotNotReached { generation: Generation(5), index: 3, after: key() },
        PageHole { generation: Generation(5), index: 3, page: 7, pages: 9 },
        CutOff { generation: Generation(5), index: 3, offset: 4152 },
        NoOtherSnapshot { generation: Generation(5), class: Class::Truncated, keys: vec![key(), key()] },
        DamagedWal { class: Class::Truncated, keys: vec![key()] },
        ArchivedFiles { keys: vec![key()] },
        ChainDoesNotBeginAtOne { first: Txid(5) },
        Hole { have: Txid(5), next: Txid(7) },
        TxidNotReachable { txid: Txid(6), below: Some(Txid(5)), above: Some(Txid(7)) },
        TxidNotReachable { txid: Txid(6), below: Some(Txid(5)), above: None },
        TxidNotReachable { txid: Txid(6), below: None, above: Some(Txid(7)) },
        TxidNotReachable { txid: Txid(6), below: None, above: None },
        TimestampDoesNotExist { at: at(0), oldest: Some(at(9)) },
        NoOtherChain { txid: Txid(7), class: Class::Truncated, keys: vec![key(), key()] },
        Archived { txid: Txid(7), keys: vec![key(), key()] },
        OnlyOtherLineage { error: PlanError::TimestampDoesNotExist { at: at(0), oldest: Some(at(9)) }.into(), folder: "a\u{1b}.db/ltx/".into() },
    })
}

fn lineage(folder: &str, files: usize) -> Lineage {
    Lineage { folder: format!("a\u{1b}.db/{folder}/"), files, max_txid: Txid(7), last_modified: at(0) }
}

fn warnings() -> String {
    texts!(Warning, line, {
        NewestIntact { reached: Txid(5), newest: Txid(7) },
        NewestIntactWal { generation: Generation(5), index: 3, offset: 4152, lost: 0 },
        NewestIntactWal { generation: Generation(5), index: 3, offset: 4152, lost: 1 },
        NewestIntactWal { generation: Generation(5), index: 3, offset: 4152, lost: 2 },
        NewestIntactGeneration { used: generation(5), lost: generation(6) },
        NewestIntactFormat { is_v3: true, used: at(1) },
        NewestIntactFormat { is_v3: false, used: at(1) },
        StateBetweenRetired { reached: Txid(5), newest: Txid(7) },
        MovedOn { pinned: Txid(5), reached: Txid(7) },
        RoutedAround { keys: vec![key(), key()] },
        AvoidedArchived { keys: vec![key()] },
        OtherLineage { used: lineage("000N", 7), other: lineage("ltx", 1) },
        TimesRunBackwards {
            older: DatedFile { key: key(), time: at(90) },
            newer: DatedFile { key: key(), time: at(0) },
        },
        V3LeftAside { generations: 1, newest: None },
        V3LeftAside { generations: 2, newest: Some(at(1)) },
        LtxLeftAside { files: 2, newest: at(1) },
        NewerGeneration { used: generation(5), newer: generation(6) },
        TimesOfACopy { generations: vec![generation(5), generation(6)] },
        SnapshotAhead { key: key() },
    })
}

fn store_error() -> StoreError {
    StoreError {
        kind: StoreErrorKind::Server,
        what: "GET s3://bucket/a\u{1b}.db".to_owned(),
        detail: "HTTP 500: InternalError".to_owned(),
        request_id: Some("0A1B".to_owned()),
        hint: Some("what to do".to_owned()),
        attempts: 10,
    }
}

fn store_errors() -> String {
    let short = StoreError { request_id: None, hint: None, attempts: 1, ..store_error() };
    [store_error(), short].iter().map(|error| behind(error.class(), whole(error))).collect()
}

fn io_error() -> IoError {
    IoError::Refused { what: "write", path: path(), at: Some(4096), len: Some(512), errno: Errno::IO }
}

fn io_errors() -> String {
    texts!(IoError, |error: &IoError| behind(error.class(), whole(error)), {
        Refused { what: "write", path: path(), at: Some(4096), len: Some(512), errno: Errno::NOSPC },
        Refused { what: "sync", path: path(), at: None, len: None, errno: Errno::IO },
        Short { path: path(), at: 4096, len: 512 },
        NoProgress { what: "write", path: path(), at: 4096, len: 512 },
        Internal { what: "a write of more than its buffer holds", path: path(), at: 4096, len: 512 },
        NoUring { reason: reason() },
        NoRuntime { reason: reason() },
        NoThread { 0: std::io::Error::from(Errno::PERM).into() },
    })
}

fn unsafe_names() -> String {
    every!(UnsafeName: Empty, NoName, Control, NameTooLong, PathTooLong, Temporary).iter().map(error_line).collect()
}

fn commit_errors() -> String {
    texts!(CommitError, |error: &CommitError| behind(error.class(), whole(error)), {
        Exists { path: path() },
        SidecarExists { path: path() },
        IsDirectory { path: path() },
        IsSymlink { path: path() },
        NotRegular { path: path() },
        NotAFileName { path: path() },
        UnsafeName { name: key(), why: UnsafeName::Control },
        IsNoDirectory { path: path() },
        InUse { path: path(), pid: Some(17) },
        InUse { path: path(), pid: None },
        Busy { path: path() },
        NoSpace { path: path(), needed: 4096, free: Some(512), errno: Errno::NOSPC },
        NoSpace { path: path(), needed: 4096, free: None, errno: Errno::FBIG },
        NoStagingSpace { dir: "/tmp".into(), path: path(), needed: 4096, free: Some(512), errno: Errno::NOSPC },
        WrongLength { path: path(), expected: 4096, found: 512 },
        Refused { what: "open directory", path: path(), errno: Errno::ACCESS },
        Refused { what: "open directory", path: path(), errno: Errno::NAMETOOLONG },
        DanglingLink { path: path(), target: "nowhere\u{1b}".into() },
        LinkLoop { path: path() },
        TakesNothing { path: path() },
        MountPoint { path: path() },
        FileSystem {
            path: path(),
            kind: "fuse.rclone".into(),
            what: "takes bytes in order only",
            errno: Errno::INVAL,
        },
        Sqlite { path: path(), reason: reason() },
        Io { 0: io_error() },
        Internal { what: "the new file has no temporary name", path: path() },
    })
}

fn format_errors() -> String {
    texts!(FormatError, |error: &FormatError| behind(error.class(), whole(error)), {
        Truncated { part: Part::Header, size: 0, needed: 100 },
        Truncated { part: Part::Header, size: 50, needed: 100 },
        Malformed { part: Part::Trailer, offset: 4096, fault: Fault::MinTxidZero },
        ChecksumMismatch { what: Checksum::File, part: Part::Trailer, offset: 4096, stored: 17, computed: 18 },
        ChecksumMismatch { what: Checksum::Database, part: Part::Trailer, offset: 4096, stored: 17, computed: 18 },
        ChecksumMismatch { what: Checksum::Lz4, part: Part::Page(Pgno(3)), offset: 4096, stored: 17, computed: 18 },
        NameDisagrees { name: (Txid(1), Txid(2)), header: (Txid(1), Txid(3)) },
    })
}

fn parts() -> String {
    texts!(Part, line, { Header {}, Pages {}, Page { 0: Pgno(3) }, Index {}, Trailer {} })
}

fn faults() -> String {
    texts!(Fault, error_line, {
        Magic { found: 17 },
        HeaderFlags { found: 17 },
        PageSize { found: 17 },
        MinTxidZero {},
        TxidsReversed { min: Txid(2), max: Txid(1) },
        PreApply { found: 17, rule: "breaks a rule" },
        Padding { found: 17 },
        FrameFlags { found: 0x0422 },
        FrameFlags { found: 17 },
        EndMark { found: 17 },
        PageOrder { after: Pgno(3) },
        LockPage {},
        FrameSize { found: 17, max: 16 },
        Lz4Header { 0: "what is wrong" },
        Lz4Block { 0: "what is wrong" },
        PageLength { expected: 4096, found: 17 },
        Varint {},
        IndexPgno { found: 17 },
        IndexOrder { after: Pgno(3), found: Pgno(2) },
        IndexOffset { pgno: Pgno(3), expected: 16, found: 17 },
        IndexFrameSize { pgno: Pgno(3), found: 17, max: 16 },
        IndexEnd { frames_end: 17, expected: 16 },
        IndexSize { expected: 16, found: 17 },
        IndexSizeBeyondFile { found: 17, max: 16 },
        IndexDisagrees {},
        SegmentEnd { expected: 16, found: 17 },
        SnapshotPage { expected: Some(Pgno(3)), found: Some(Pgno(4)) },
        SnapshotPage { expected: Some(Pgno(3)), found: None },
        SnapshotPage { expected: None, found: Some(Pgno(4)) },
        SnapshotPage { expected: None, found: None },
        PostApply { found: 17, rule: "breaks a rule" },
        TrailingBytes { bytes: 17 },
    })
}

fn generation(name: u64) -> DatedGeneration {
    DatedGeneration { name: Generation(name), first: at(0), last: at(1) }
}

fn wal_errors() -> String {
    let mismatch = |what| WalError::ChecksumMismatch { what, offset: 4096, stored: 17, computed: 18 };
    let mut texts = texts!(WalError, |error: &WalError| behind(error.class(), whole(error)), {
        Truncated { size: 0, part: "LZ4 frame header" },
        Truncated { size: 50, part: "LZ4 block" },
        Malformed { offset: 4096, fault: WalFault::TrailingBytes { bytes: 17 } },
        Malformed { offset: 4096, fault: WalFault::PageZero },
        ChecksumMismatch { what: WalChecksum::Lz4Header, offset: 4096, stored: 17, computed: 18 },
        Encrypted {},
    });
    for what in
        [WalChecksum::Lz4Block, WalChecksum::Lz4Content, WalChecksum::Header, WalChecksum::Frame, WalChecksum::Salts]
    {
        texts += &error_line(&mismatch(what));
    }
    texts
}

fn wal_faults() -> String {
    texts!(WalFault, error_line, {
        Magic { found: *b"SQLi" },
        Magic { found: [0x02, 0x21, 0x4c, 0x18] },
        Magic { found: [0x50, 0x2a, 0x4d, 0x18] },
        Lz4Header { 0: "what is wrong" },
        BlockSize { found: 17, max: 16 },
        Lz4Block { 0: "what is wrong" },
        ContentSize { stored: 16, found: 17 },
        TrailingBytes { bytes: 17 },
        WalMagic { found: 17 },
        WalVersion { found: 17 },
        PageSize { found: 17 },
        PageZero {},
        HalfHeader { found: 17, needed: 32 },
        HalfFrame { found: 17, needed: 4120 },
    })
}

fn chain_errors() -> String {
    let shown = |error: &ChainError| {
        let error = RestoreError::Chain { key: key(), error: error.clone() };
        behind(error.class(), whole(&error))
    };
    texts!(ChainError, shown, {
        PageSize { expected: 4096, found: 512 },
        PageMissing { pgno: Pgno(3), commit: 4 },
        Commit { commit: 4, planned_bytes: 17 },
        PreApply { expected: 16, found: 17 },
        Database { expected: 16, found: 17 },
        NotBefore { target: at(0), found: at(1) },
        WalPageSize { expected: 4096, found: 512 },
        SnapshotPageSize { expected: 4096, found: 512 },
        NotADatabase { found: b"something else".to_vec() },
        HalfPage { bytes: 5000, page_size: 4096 },
        Overlap { offset: 4152, ended: 8272 },
    })
}

fn restore_errors() -> String {
    texts!(RestoreError, |error: &RestoreError| behind(error.class(), whole(error)), {
        Plan { 0: PlanError::NoBackups },
        Nothing { 0: NothingFound::Empty { path: key(), objects: 0, example: None } },
        Nothing { 0: NothingFound::Empty { path: key(), objects: 1, example: Some(key()) } },
        Nothing { 0: NothingFound::Empty { path: key(), objects: 2, example: Some(key()) } },
        Nothing { 0: NothingFound::NoDirectory { path: path(), nearest: path() } },
        Nothing { 0: NothingFound::Inside { path: key(), replica: key(), root: key() } },
        Nothing { 0: NothingFound::Below { path: key(), count: 2, roots: vec![key(), key()] } },
        File { key: key(), error: FormatError::Truncated { part: Part::Header, size: 50, needed: 100 } },
        Chain { key: key(), error: ChainError::PageMissing { pgno: Pgno(3), commit: 4 } },
        Wal { key: key(), error: WalError::Encrypted },
        Ahead { key: key() },
        Unreadable { key: key(), error: store_error().into() },
        Store { 0: store_error() },
        Commit { 0: CommitError::Busy { path: path() } },
        Io { 0: io_error() },
        Damaged { findings: vec![reason(), reason()] },
        OnlyV3 {},
        Standby { path: path(), why: reason() },
        Memory { needed_bytes: 17, budget_bytes: 16 },
        Vanished {},
        Restless { attempts: 8, last: store_error() },
        Internal { what: "a plan has no files" },
        Cancelled {},
    })
}

fn config_errors() -> String {
    texts!(ConfigError, |error: &ConfigError| behind(error.class(), whole(error)), {
        FileNotFound { 0: path() },
        FileUnreadable { path: path(), detail: reason() },
        FileTooLarge { path: path(), limit_bytes: 16 },
        Yaml { path: path(), line: 3, column: 4, reason: reason() },
        Yaml { path: path(), line: 0, column: 0, reason: reason() },
        DatabaseNotFound { 0: path() },
        ReplicaMissing {},
        MultipleReplicas {},
        ReplicaAndReplicas {},
        AgeEncryption {},
        UrlAndBucket {},
        UrlAndPath { kind: "s3" },
        PathIsUrl {},
        UrlSchemeMissing { url: key() },
        UnsupportedType { kind: "sftp".to_owned() },
        BucketMissing {},
        BadBucket {},
        BadArn {},
        FilePathMissing { bucket_set: true },
        FilePathMissing { bucket_set: false },
        BadEscape {},
        UserInfo {},
        BadBoolean { key: "skipVerify" },
        BadEndpoint { setting: "endpoint", reason: "the reason" },
        SseAlgorithm { found: key() },
        SseKey { reason: "the reason" },
        SseKeyFile { path: path(), detail: reason() },
        SseNeedsHttps {},
        PathAndDir { number: 3 },
        PathOrDirMissing { number: 3 },
        DirPatternMissing { number: 3 },
        BadDirPattern { pattern: key() },
        Entry { error: ConfigError::BucketMissing.into(), unset: vec![], database: path(), path: path(), line: 0 },
        Entry { error: ConfigError::AgeEncryption.into(), unset: vec![], database: path(), path: path(), line: 3 },
        Entry {
            error: ConfigError::BucketMissing.into(),
            unset: vec!["BUCKET".to_owned()],
            database: "".into(),
            path: path(),
            line: 3,
        },
        Entry {
            error: ConfigError::BucketMissing.into(),
            unset: vec!["BUCKET".to_owned(), "REGION".to_owned()],
            database: path(),
            path: path(),
            line: 3,
        },
        UnknownParameter { found: "forcepathstyle".to_owned(), near: "forcePathStyle" },
        KeyInUrl { instead: "AWS_SESSION_TOKEN" },
        HomeUnknown { 0: path() },
        NoCurrentDirectory { detail: reason() },
        EmptyPath {},
    })
}

fn pattern_errors() -> String {
    texts!(PatternError, error_line, {
        Syntax { pattern: key(), reason: "the reason".to_owned() },
        Path { 0: ConfigError::EmptyPath },
    })
}

#[test]
fn texts() {
    let mut seen = Transcript::new("texts", Normal::off());
    seen.file("plans", &plan_errors());
    seen.file("warnings of plans", &warnings());
    seen.file("requests", &store_errors());
    seen.file("reads and writes", &io_errors());
    seen.file("names that are no outputs'", &unsafe_names());
    seen.file("outputs", &commit_errors());
    seen.file("LTX files", &format_errors());
    seen.file("parts of LTX files", &parts());
    seen.file("what is malformed in LTX files", &faults());
    seen.file("objects of Litestream 0.3", &wal_errors());
    seen.file("what is malformed in objects of Litestream 0.3", &wal_faults());
    seen.file("LTX files in the company of others", &chain_errors());
    seen.file("restores", &restore_errors());
    seen.file("litestream.yml and URLs", &config_errors());
    seen.file("patterns", &pattern_errors());
    seen.matches();
}
