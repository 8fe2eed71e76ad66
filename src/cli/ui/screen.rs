//! Formats what commands print on stdout: JSON indented by two spaces, and tables with the layout of
//! Litestream's. Scripts rely on the names and the order of the JSON fields (docs/CLI.md, "JSON").
//!
//! File names come from buckets and may hold control characters, which could change what a terminal shows.
//! Text output escapes them.

use crate::cli::ui::failure::Failure;
use crate::cli::ui::table::{Align, aligned};
use crate::error::{Class, json_escaped};
use crate::fleet::{PastFields, V3Fields};
use crate::ltx::{Level, Txid};
use crate::plan::V3State;
use crate::restore::PastState;
use crate::timestamp::Timestamp;
use serde::Serialize;
use std::io::{self, Write};

/// The source of the creation time that is shown for an LTX file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeSource {
    /// The time is from the object's metadata `x-amz-meta-litestream-timestamp`, which Litestream writes.
    Metadata,
    /// The time is from the header of the LTX file.
    Header,
    /// The time is LastModified in the listing, when the object was uploaded. If the bucket was copied, it is the
    /// time of the copy.
    LastModified,
}

/// One LTX file, as `hydrant ltx` and `-dry-run` show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileLine {
    pub level: Level,
    pub min_txid: Txid,
    pub max_txid: Txid,
    /// Size of the file in bytes.
    pub size: u64,
    /// Creation time of the file. The field `time_source` tells where it is from and thus how exact it is.
    pub time: Timestamp,
    pub time_source: TimeSource,
    /// The version that is read, of a bucket's past.
    pub version_id: Option<String>,
}

impl FileLine {
    /// The name of the file: its lowest and highest TXID in hexadecimal, as `<min>-<max>.ltx`.
    pub fn name(&self) -> String {
        format!("{}-{}.ltx", self.min_txid, self.max_txid)
    }
}

/// The result of `hydrant restore`, to be printed as a message or as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreReport {
    /// Path of the restored database: `-o` as typed, else the configured path.
    pub db_path: String,
    /// Kind of the replica: `s3` or `file`.
    pub replica: &'static str,
    /// The TXID of the restored state. 0 if `v3` is set.
    pub txid: Txid,
    /// The restored state, if the files are those of Litestream 0.3.
    pub v3: Option<V3State>,
    /// The time of the restored state, and where it was found. None if it is not known without a further
    /// request.
    pub time: Option<(Timestamp, TimeSource)>,
    /// The time from which the state's age is measured back: the present, or the time that was asked for.
    pub reference: Timestamp,
    /// Duration of the restore in milliseconds.
    pub duration_ms: u64,
    /// The check that SQLite has made of the restored database: `none`, `quick` or `full`.
    pub integrity_check: &'static str,
    /// Size of the restored database in bytes.
    pub bytes: u64,
    /// Number of files that the database was restored from.
    pub files: u64,
    /// Total size in bytes of the files that the database was restored from.
    pub bytes_fetched: u64,
    /// Number of requests sent, including those in `retries` and `hedged`.
    pub requests: u64,
    /// Number of requests that were sent again after a failed attempt.
    pub retries: u64,
    /// Number of requests that were sent a second time because the first response was slow.
    pub hedged: u64,
    /// Why the newest state cannot be had, if an older one was restored (`-newest-intact`).
    pub lost: Option<String>,
    /// Warnings, for example about damaged files that were avoided, or a check that SQLite could not make.
    pub warnings: Vec<String>,
    /// From which past of a versioned bucket it was restored, if it was.
    pub past: Option<PastState>,
}

/// The JSON object of one file, in plans and in the output of `ltx -json`. Only plans have the field `name`. Only LTX
/// files have `level`, and only files of Litestream 0.3 have `key`.
#[derive(Serialize)]
pub(super) struct JsonFile {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub min_txid: String,
    pub max_txid: String,
    pub size: u64,
    pub timestamp: String,
    pub time_source: TimeSource,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
}

/// The JSON object that `hydrant restore -json` prints.
#[derive(Serialize)]
struct JsonResult<'a> {
    db_path: &'a str,
    replica: &'a str,
    txid: String,
    #[serde(flatten)]
    v3: Option<V3Fields>,
    duration_ms: u64,
    integrity_check: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_source: Option<TimeSource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_s: Option<u64>,
    bytes: u64,
    files: u64,
    bytes_fetched: u64,
    requests: u64,
    retries: u64,
    hedged: u64,
    #[serde(flatten)]
    past: Option<PastFields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

pub(super) fn json_file(file: &FileLine, name: Option<String>) -> JsonFile {
    JsonFile {
        level: Some(file.level.get()),
        key: None,
        name,
        min_txid: file.min_txid.to_string(),
        max_txid: file.max_txid.to_string(),
        size: file.size,
        timestamp: file.time.to_rfc3339_seconds(),
        time_source: file.time_source,
        version_id: file.version_id.clone(),
    }
}

/// The state of a database in words: `txid 00000000000003e8`, or for files of Litestream 0.3
/// `generation 172497b1f17ea34a, index 00000003, offset 00001038`.
pub fn state(txid: Txid, v3: Option<&V3State>) -> String {
    match v3.map(V3Fields::of) {
        None => format!("txid {txid}"),
        Some(V3Fields { generation, index, offset, .. }) => {
            format!("generation {generation}, index {index}, offset {offset}")
        }
    }
}

impl RestoreReport {
    pub fn to_json(&self) -> String {
        pretty(&JsonResult {
            db_path: &self.db_path,
            replica: self.replica,
            txid: if self.v3.is_some() { String::new() } else { self.txid.to_string() },
            v3: self.v3.as_ref().map(V3Fields::of),
            duration_ms: self.duration_ms,
            integrity_check: self.integrity_check,
            timestamp: self.time.map(|(time, _)| time.to_rfc3339_seconds()),
            time_source: self.time.map(|(_, source)| source),
            age_s: self.time.map(|(time, _)| time.seconds_until(self.reference)),
            bytes: self.bytes,
            files: self.files,
            bytes_fetched: self.bytes_fetched,
            requests: self.requests,
            retries: self.retries,
            hedged: self.hedged,
            past: self.past.as_ref().map(PastFields::of),
            lost: self.lost.as_deref(),
            warnings: &self.warnings,
        })
    }
}

/// The output of `hydrant ltx -json`: an array with one object per file. It is `[]` if there are no files.
pub fn ltx_json(files: &[FileLine]) -> String {
    pretty(&files.iter().map(|file| json_file(file, None)).collect::<Vec<_>>())
}

/// The output of `hydrant ltx`: a heading and one line per file. The heading is printed also if there are no
/// files.
pub fn ltx_text(files: &[FileLine]) -> String {
    let mut rows = vec![["level", "min_txid", "max_txid", "size", "created"].map(str::to_owned)];
    rows.extend(files.iter().map(|file| {
        [
            file.level.to_string(),
            file.min_txid.to_string(),
            file.max_txid.to_string(),
            file.size.to_string(),
            file.time.to_rfc3339_seconds(),
        ]
    }));
    table(&rows)
}

/// Formats `rows` as a table with all columns aligned left and two spaces between them. The last column is not
/// padded.
pub fn table<const N: usize>(rows: &[[String; N]]) -> String {
    aligned(rows, Align::Left).into_iter().map(|line| line + "\n").collect()
}

/// Formats `value` as JSON, indented by two spaces, with a newline at the end. The structs of this program can
/// always be serialised; if that failed nevertheless, the result is an object with the error.
pub(in crate::cli) fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value)
        .map_or_else(|e| format!("{{\"error\":\"{e}\"}}\n"), |text| json_escaped(text) + "\n")
}

/// Prints `text` on stdout. A closed pipe, as in `hydrant ltx … | head`, is not an error.
///
/// # Errors
/// Any other failure to write. If stdout is a file on a full disk, the output is incomplete, and the exit code
/// must tell.
pub fn print(text: &str) -> Result<(), Failure> {
    print_to(&mut io::stdout().lock(), text)
}

fn print_to(out: &mut impl Write, text: &str) -> Result<(), Failure> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(Class::Io, format!("cannot write to stdout: {e}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use crate::catalogue::Generation;
    use crate::cli::ui::screen::*;

    fn files() -> Vec<FileLine> {
        let file = |level, min, max, size, time, time_source| FileLine {
            level: Level::new(level).unwrap(),
            min_txid: Txid(min),
            max_txid: Txid(max),
            size,
            time: Timestamp::parse_rfc3339(time).unwrap(),
            time_source,
            version_id: None,
        };
        vec![
            file(9, 1, 5, 123_456, "2026-11-22T01:31:45.75Z", TimeSource::Metadata),
            file(0, 6, 7, 99, "2026-11-22T02:31:46+01:00", TimeSource::LastModified),
        ]
    }

    #[test]
    fn result_as_json() {
        let mut report = RestoreReport {
            db_path: "/data/a.db".to_owned(),
            replica: "file",
            txid: Txid(0x1f),
            v3: None,
            time: None,
            reference: files()[0].time,
            duration_ms: 640,
            integrity_check: "quick",
            bytes: 4096,
            files: 3,
            bytes_fetched: 2000,
            requests: 4,
            retries: 0,
            hedged: 0,
            lost: None,
            warnings: vec![],
            past: None,
        };
        let expected = r#"{
  "db_path": "/data/a.db",
  "replica": "file",
  "txid": "000000000000001f",
  "duration_ms": 640,
  "integrity_check": "quick",
  "bytes": 4096,
  "files": 3,
  "bytes_fetched": 2000,
  "requests": 4,
  "retries": 0,
  "hedged": 0
}
"#;
        assert_eq!(report.to_json(), expected);
        report.time = Some((files()[0].time, TimeSource::Header));
        report.lost = Some("hole".to_owned());
        report.warnings = vec!["a".to_owned()];
        let value: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(value["timestamp"], "2026-11-22T01:31:45Z");
        assert_eq!((&value["time_source"], &value["age_s"]), (&"header".into(), &0.into()));
        assert_eq!((&value["lost"], &value["warnings"][0]), (&"hole".into(), &"a".into()));
        let generation = Generation::parse("172497b1f17ea34a").unwrap();
        let time = Timestamp::parse_rfc3339("2026-11-22T01:31:46.25Z").unwrap();
        report.v3 = Some(V3State { generation, index: 1, offset: 0x1_0200_0020, time });
        let value: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!((&value["txid"], &value["format"]), (&"".into(), &"v0.3".into()));
        assert_eq!(value["offset"], "102000020");
        assert_eq!((&value["index"], &value["time"]), (&"00000001".into(), &"2026-11-22T01:31:46.25Z".into()));
    }

    #[test]
    fn ltx_both_ways_and_empty() {
        assert_eq!(
            ltx_text(&files()),
            "\
level  min_txid          max_txid          size    created
9      0000000000000001  0000000000000005  123456  2026-11-22T01:31:45Z
0      0000000000000006  0000000000000007  99      2026-11-22T01:31:46Z
"
        );
        assert_eq!(ltx_text(&[]), "level  min_txid  max_txid  size  created\n");
        assert_eq!(ltx_json(&[]), "[]\n");
        let expected = r#"[
  {
    "level": 9,
    "min_txid": "0000000000000001",
    "max_txid": "0000000000000005",
    "size": 123456,
    "timestamp": "2026-11-22T01:31:45Z",
    "time_source": "metadata"
  }
]
"#;
        assert_eq!(ltx_json(&files()[..1]), expected);
    }

    #[test]
    fn a_closed_pipe_is_quiet_and_a_full_disk_is_not() {
        struct Fails(io::ErrorKind);
        impl Write for Fails {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert_eq!(print_to(&mut Fails(io::ErrorKind::BrokenPipe), "x"), Ok(()));
        assert!(print_to(&mut Fails(io::ErrorKind::StorageFull), "x").is_err());
    }
}
