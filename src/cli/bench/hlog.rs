//! The log file of `hydrant bench -hlog`. It holds a histogram of each latency for each second, in the log format
//! of HdrHistogram. Values are in nanoseconds. A histogram's tag is `STAGE/LATENCY`, for example
//! `fetch/first_byte`, as in the printed table.

use crate::cli::args::resolved::BenchStage;
use crate::cli::ui::failure::Failure;
use crate::error::Class;
use crate::telemetry::Stages;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriter, IntervalLogWriterBuilder, Tag};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Instant, SystemTime};

/// A histogram log (`-hlog`) that is being written.
pub(super) struct Hlog<'a> {
    writer: IntervalLogWriter<'a, 'a, BufWriter<File>, V2DeflateSerializer>,
    /// The time when the log was begun. The start times of its intervals are relative to this.
    begun: Instant,
    /// The first error while writing the log. It is reported at the end of the run; further ones are ignored.
    error: Option<String>,
}

/// Creates a histogram log at `path`, passes it to `work`, and closes it. Without a path, `work` gets None. Returns
/// the result of `work`, and the failure if the log could not be written completely.
///
/// # Errors
/// The file cannot be created. `work` is then not run.
pub(super) fn within<T>(
    path: Option<&Path>,
    work: impl FnOnce(Option<&mut Hlog<'_>>) -> T,
) -> Result<(T, Option<Failure>), Failure> {
    let Some(path) = path else { return Ok((work(None), None)) };
    let failed = |e: &str| Failure::failed(Class::Io, format!("cannot write {}: {e}", path.display()));
    let mut out = BufWriter::new(File::create(path).map_err(|e| failed(&e.to_string()))?);
    let mut serializer = V2DeflateSerializer::new();
    let now = SystemTime::now();
    let writer = IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .add_comment("hydrant bench: nanoseconds; maxima in milliseconds")
        .with_start_time(now)
        .with_base_time(now)
        .with_max_value_divisor(1e6)
        .begin_log_with(&mut out, &mut serializer)
        .map_err(|e| failed(&e.to_string()))?;
    let mut hlog = Hlog { writer, begun: Instant::now(), error: None };
    let result = work(Some(&mut hlog));
    let error = hlog.error.take();
    drop(hlog);
    let error = error.or_else(|| out.flush().err().map(|e| e.to_string()));
    Ok((result, error.map(|e| failed(&e))))
}

impl Hlog<'_> {
    /// Writes one line per latency: the histogram of the durations in `stages`, which were recorded from `begun`
    /// until now while the stage `bench` was measured.
    pub(super) fn write(&mut self, bench: BenchStage, begun: Instant, stages: &Stages) {
        for (stage, durations) in stages.iter() {
            let tag = format!("{}/{}", bench.as_str(), stage.as_str());
            if let Some(nanos) = durations.nanos() {
                let since = begun.saturating_duration_since(self.begun);
                let written = self.writer.write_histogram(nanos, since, begun.elapsed(), Tag::new(&tag));
                if let Err(e) = written {
                    self.error.get_or_insert(e.to_string());
                }
            }
        }
    }
}
