//! The output of `hydrant restore -dry-run`, as text and as JSON (docs/CLI.md, "hydrant restore").

use crate::cli::ui::human;
use crate::cli::ui::screen::{FileLine, JsonFile, TimeSource, json_file, pretty, state, table};
use crate::error::escaped;
use crate::fleet::{PastFields, V3Fields};
use crate::ltx::Txid;
use crate::plan::V3State;
use crate::restore::PastState;
use crate::timestamp::Timestamp;
use serde::Serialize;

/// One file of Litestream 0.3, as `-dry-run` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V3FileLine {
    /// The key of the file in its store.
    pub key: String,
    /// The path of the file below its generation: `wal/00000000_00001038.wal.lz4`.
    pub name: String,
    /// Size of the file in bytes.
    pub size: u64,
    /// The time of the listing, the only one that there is.
    pub time: Timestamp,
    /// The version that is read, of a bucket's past.
    pub version_id: Option<String>,
}

/// The files that a restore would fetch, from the oldest to the newest. There is at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlannedFiles {
    /// LTX files.
    Ltx(Vec<FileLine>),
    /// Files of Litestream 0.3: a snapshot and segments of WAL.
    V3 {
        /// The state that they lead to.
        state: V3State,
        files: Vec<V3FileLine>,
    },
}

/// The result of `hydrant restore -dry-run`, to be printed as text or JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanReport {
    /// The source (path of a database or replica URL) as typed, with its secrets replaced by `***`.
    pub source: String,
    /// Path of the database to create: `-o` as typed, else the configured path.
    pub target_path: String,
    /// Kind of the replica: `s3` or `file`.
    pub replica: &'static str,
    /// The time from which the state's age is measured back: the present, or the time that was asked for.
    pub reference: Timestamp,
    pub files: PlannedFiles,
    /// Why the newest state cannot be had, if they lead to an older one (`-newest-intact`).
    pub lost: Option<String>,
    /// The past of a versioned bucket that the files are from, if they are.
    pub past: Option<PastState>,
}

/// The JSON object that `hydrant restore -dry-run -json` prints.
#[derive(Serialize)]
struct JsonPlan<'a> {
    source: &'a str,
    target_path: &'a str,
    replica: &'a str,
    min_txid: String,
    max_txid: String,
    #[serde(flatten)]
    v3: Option<V3Fields>,
    files: Vec<JsonFile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_source: Option<TimeSource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_s: Option<u64>,
    #[serde(flatten)]
    past: Option<PastFields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<&'a str>,
}

impl V3FileLine {
    fn to_json(&self) -> JsonFile {
        JsonFile {
            level: None,
            key: Some(self.key.clone()),
            name: Some(self.name.clone()),
            min_txid: String::new(),
            max_txid: String::new(),
            size: self.size,
            timestamp: self.time.to_rfc3339_seconds(),
            time_source: TimeSource::LastModified,
            version_id: self.version_id.clone(),
        }
    }
}

impl PlannedFiles {
    /// The range of TXIDs that LTX files cover: from the lowest of the first file to the highest of the last file. None
    /// for files of Litestream 0.3.
    fn range(&self) -> Option<(Txid, Txid)> {
        let Self::Ltx(files) = self else { return None };
        let min = files.first().map_or_else(Txid::default, |file| file.min_txid);
        let max = files.last().map_or_else(Txid::default, |file| file.max_txid);
        Some((min, max))
    }

    /// The time of the state that the files lead to.
    fn newest(&self) -> Option<(Timestamp, TimeSource)> {
        match self {
            Self::Ltx(files) => files.last().map(|file| (file.time, file.time_source)),
            Self::V3 { state, .. } => Some((state.time, TimeSource::LastModified)),
        }
    }

    fn state(&self) -> Option<&V3State> {
        match self {
            Self::Ltx(_) => None,
            Self::V3 { state, .. } => Some(state),
        }
    }

    fn to_json(&self) -> Vec<JsonFile> {
        match self {
            Self::Ltx(files) => files.iter().map(|file| json_file(file, Some(file.name()))).collect(),
            Self::V3 { files, .. } => files.iter().map(V3FileLine::to_json).collect(),
        }
    }

    /// The files as a table with a heading.
    fn to_text(&self) -> String {
        match self {
            Self::Ltx(files) => {
                let mut rows = vec![["level", "file", "min_txid", "max_txid", "size", "timestamp"].map(str::to_owned)];
                rows.extend(files.iter().map(|file| {
                    [
                        file.level.to_string(),
                        file.name(),
                        file.min_txid.to_string(),
                        file.max_txid.to_string(),
                        file.size.to_string(),
                        file.time.to_rfc3339_seconds(),
                    ]
                }));
                with_versions(&rows, files.iter().map(|file| &file.version_id))
            }
            Self::V3 { files, .. } => {
                let mut rows = vec![["file", "size", "timestamp"].map(str::to_owned)];
                rows.extend(
                    files.iter().map(|file| [file.name.clone(), file.size.to_string(), file.time.to_rfc3339_seconds()]),
                );
                with_versions(&rows, files.iter().map(|file| &file.version_id))
            }
        }
    }
}

/// A table of files, with their version ids if they have some.
fn with_versions<'a, const N: usize>(rows: &[[String; N]], ids: impl Iterator<Item = &'a Option<String>>) -> String {
    let ids: Vec<&str> = ids.flatten().map(String::as_str).collect();
    if ids.is_empty() {
        return table(rows);
    }
    let column = std::iter::once("version_id").chain(ids);
    table(rows).lines().zip(column).map(|(line, id)| format!("{line}  {}\n", escaped(id))).collect()
}

impl PlanReport {
    /// How old the state is that the files lead to.
    pub fn age_seconds(&self) -> Option<u64> {
        self.files.newest().map(|(time, _)| time.seconds_until(self.reference))
    }

    /// The message about the newest state, for example `newest state: 2026-01-31T12:00:00Z, 3 hours old`.
    pub fn newest_state(&self) -> Option<String> {
        let (newest, source) = self.files.newest()?;
        let source = match source {
            TimeSource::Header | TimeSource::Metadata => "",
            TimeSource::LastModified => " (by the listing)",
        };
        let age = human::age(newest.seconds_until(self.reference));
        Some(format!("newest state: {}, {age} old{source}", newest.to_rfc3339_seconds()))
    }

    pub fn to_json(&self) -> String {
        let newest = self.files.newest();
        let (min, max) = self.files.range().map(|(min, max)| (min.to_string(), max.to_string())).unwrap_or_default();
        pretty(&JsonPlan {
            source: &self.source,
            target_path: &self.target_path,
            replica: self.replica,
            min_txid: min,
            max_txid: max,
            v3: self.files.state().map(V3Fields::of),
            files: self.files.to_json(),
            timestamp: newest.map(|(time, _)| time.to_rfc3339_seconds()),
            time_source: newest.map(|(_, source)| source),
            age_s: newest.map(|(time, _)| time.seconds_until(self.reference)),
            past: self.past.as_ref().map(PastFields::of),
            lost: self.lost.as_deref(),
        })
    }

    pub fn to_text(&self) -> String {
        let state = match (self.files.range(), self.files.state()) {
            (Some((min, max)), _) => format!("txid range: {min} - {max}"),
            (None, Some(v3)) => format!("state: {}", state(Txid(0), Some(v3))),
            (None, None) => String::new(),
        };
        format!(
            "Restore plan:\n  source: {}\n  target: {}\n  replica: {}\n  {state}\n\nFiles to fetch:\n{}",
            escaped(&self.source),
            escaped(&self.target_path),
            self.replica,
            self.files.to_text()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Generation;
    use crate::ltx::Level;

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

    fn plan() -> PlanReport {
        PlanReport {
            source: "s3://bucket/a\x1bb".to_owned(),
            target_path: "out.db".to_owned(),
            replica: "s3",
            reference: Timestamp::parse_rfc3339("2026-11-22T02:31:46Z").unwrap(),
            files: PlannedFiles::Ltx(files()),
            lost: None,
            past: None,
        }
    }

    /// The same from files of Litestream 0.3.
    fn plan_of_v3() -> PlanReport {
        let file = |name: &str, size, time| V3FileLine {
            key: format!("a/generations/172497b1f17ea34a/{name}"),
            name: name.to_owned(),
            size,
            time: Timestamp::parse_rfc3339(time).unwrap(),
            version_id: None,
        };
        let files = vec![
            file("snapshots/00000001.snapshot.lz4", 6957, "2026-11-22T01:31:45.75Z"),
            file("wal/00000001_00000000.wal.lz4", 119, "2026-11-22T01:31:46.25Z"),
        ];
        let generation = Generation::parse("172497b1f17ea34a").unwrap();
        let state = V3State { generation, index: 1, offset: 0, time: files[1].time };
        PlanReport { files: PlannedFiles::V3 { state, files }, ..plan() }
    }

    #[test]
    fn a_plan_of_v3_as_text() {
        let expected = "\
Restore plan:
  source: s3://bucket/a\\u{1b}b
  target: out.db
  replica: s3
  state: generation 172497b1f17ea34a, index 00000001, offset 00000000

Files to fetch:
file                             size  timestamp
snapshots/00000001.snapshot.lz4  6957  2026-11-22T01:31:45Z
wal/00000001_00000000.wal.lz4    119   2026-11-22T01:31:46Z
";
        assert_eq!(plan_of_v3().to_text(), expected);
        let newest = "newest state: 2026-11-22T01:31:46Z, 59 minutes old (by the listing)";
        assert_eq!(plan_of_v3().newest_state().as_deref(), Some(newest));
    }

    #[test]
    fn a_plan_of_v3_as_json() {
        let expected = r#"{
  "source": "s3://bucket/a\u001bb",
  "target_path": "out.db",
  "replica": "s3",
  "min_txid": "",
  "max_txid": "",
  "format": "v0.3",
  "generation": "172497b1f17ea34a",
  "index": "00000001",
  "offset": "00000000",
  "time": "2026-11-22T01:31:46.25Z",
  "files": [
    {
      "key": "a/generations/172497b1f17ea34a/snapshots/00000001.snapshot.lz4",
      "name": "snapshots/00000001.snapshot.lz4",
      "min_txid": "",
      "max_txid": "",
      "size": 6957,
      "timestamp": "2026-11-22T01:31:45Z",
      "time_source": "last_modified"
    },
    {
      "key": "a/generations/172497b1f17ea34a/wal/00000001_00000000.wal.lz4",
      "name": "wal/00000001_00000000.wal.lz4",
      "min_txid": "",
      "max_txid": "",
      "size": 119,
      "timestamp": "2026-11-22T01:31:46Z",
      "time_source": "last_modified"
    }
  ],
  "timestamp": "2026-11-22T01:31:46Z",
  "time_source": "last_modified",
  "age_s": 3599
}
"#;
        assert_eq!(plan_of_v3().to_json(), expected);
    }

    #[test]
    fn plan_as_text() {
        let expected = "\
Restore plan:
  source: s3://bucket/a\\u{1b}b
  target: out.db
  replica: s3
  txid range: 0000000000000001 - 0000000000000007

Files to fetch:
level  file                                   min_txid          max_txid          size    timestamp
9      0000000000000001-0000000000000005.ltx  0000000000000001  0000000000000005  123456  2026-11-22T01:31:45Z
0      0000000000000006-0000000000000007.ltx  0000000000000006  0000000000000007  99      2026-11-22T01:31:46Z
";
        assert_eq!(plan().to_text(), expected);
    }

    #[test]
    fn plan_as_json() {
        let expected = r#"{
  "source": "s3://bucket/a\u001bb",
  "target_path": "out.db",
  "replica": "s3",
  "min_txid": "0000000000000001",
  "max_txid": "0000000000000007",
  "files": [
    {
      "level": 9,
      "name": "0000000000000001-0000000000000005.ltx",
      "min_txid": "0000000000000001",
      "max_txid": "0000000000000005",
      "size": 123456,
      "timestamp": "2026-11-22T01:31:45Z",
      "time_source": "metadata"
    },
    {
      "level": 0,
      "name": "0000000000000006-0000000000000007.ltx",
      "min_txid": "0000000000000006",
      "max_txid": "0000000000000007",
      "size": 99,
      "timestamp": "2026-11-22T01:31:46Z",
      "time_source": "last_modified"
    }
  ],
  "timestamp": "2026-11-22T01:31:46Z",
  "time_source": "last_modified",
  "age_s": 3600
}
"#;
        assert_eq!(plan().to_json(), expected);
        let newest = "newest state: 2026-11-22T01:31:46Z, 1 hour old (by the listing)";
        assert_eq!(plan().newest_state().as_deref(), Some(newest));
    }
}
