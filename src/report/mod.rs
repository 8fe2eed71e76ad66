//! Reports about a run: what was asked, a row for each database, what happened in each second, and sums over them.
//!
//! ```text
//! rows, samples ─► book (tally, timeline) ─► document ─► JSON | html | markdown
//! ```
//! `rows` has the row of a database and `document` the other tables. `book` collects them while a run goes on and
//! writes the files. `answer` puts the result into words. Nothing here reads a clock or knows a command: whoever
//! runs a fleet passes rows, samples and the description of the run in.

mod answer;
mod book;
mod document;
mod file;
mod forecast;
mod html;
mod markdown;
mod rows;
mod tally;
#[cfg(test)]
mod tests;
mod timeline;

pub use book::{ReportBook, ReportError, ReportFormat};
pub use document::{ExtraTable, HostInfo, Purpose, ReportDocument, RunEnd, RunInfo, SCHEMA_VERSION, ShownRows};
pub use forecast::{RestoreForecast, ShardsForecast};
pub use rows::{DatabaseRow, NewestIntact, QueryAnswer, RowStanding, json_line};
pub use tally::{AgeGroup, AgeQuantiles, AgeTable, Milestones, Tally};
pub use timeline::{CounterSample, Interval, Timeline, rounded_seconds, sampled};
