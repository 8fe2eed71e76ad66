//! The table of latencies: one row per stage of a restore (listing, first byte, decoding, writing …) with count,
//! quantiles and maximum in milliseconds.

use crate::cli::ui::log::{Log, Severity};
use crate::cli::ui::table::{Align, aligned};
use crate::telemetry::{Quantiles, Stages};

/// Logs the table at severity Debug, one message per row. So it is shown if `-v` was given.
pub fn show(log: &Log, stages: &Stages) {
    if log.shows(Severity::Debug) {
        let rows = stages.iter().filter_map(|(stage, durations)| Some((stage.as_str(), durations.quantiles()?)));
        table(rows).iter().for_each(|line| log.debug(line));
    }
}

/// The lines of the table: a heading and one line per row. Empty if there are no rows.
pub fn table<'a>(rows: impl Iterator<Item = (&'a str, Quantiles)>) -> Vec<String> {
    let mut cells: Vec<[String; 7]> =
        vec![["latency (ms)", "count", "p50", "p90", "p99", "p99.9", "max"].map(str::to_owned)];
    cells.extend(rows.map(|(name, q)| {
        let [p50, p90, p99, p999, max] = [q.p50_ms, q.p90_ms, q.p99_ms, q.p999_ms, q.max_ms].map(millis);
        [name.to_owned(), q.count.to_string(), p50, p90, p99, p999, max]
    }));
    if cells.len() == 1 { Vec::new() } else { aligned(&cells, Align::Numbers) }
}

/// Formats milliseconds with at least three digits: two decimals below 10, one decimal below 100, none above.
fn millis(ms: f64) -> String {
    match ms {
        ..9.995 => format!("{ms:.2}"),
        ..99.95 => format!("{ms:.1}"),
        _ => format!("{ms:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::ui::latency_table::*;
    use crate::telemetry::Stage;
    use std::time::Duration;

    #[test]
    fn aligned_and_only_what_happened() {
        let mut stages = Stages::default();
        stages.record(Stage::List, Duration::from_micros(512));
        (0..1000).for_each(|_| stages.record(Stage::FirstByte, Duration::from_millis(256)));
        let rows = stages.iter().filter_map(|(stage, durations)| Some((stage.as_str(), durations.quantiles()?)));
        assert_eq!(
            table(rows),
            [
                "latency (ms)  count   p50   p90   p99  p99.9   max",
                "list              1  0.51  0.51  0.51   0.51  0.51",
                "first_byte     1000   257   257   257    257   257",
            ]
        );
        assert_eq!(table(std::iter::empty()), Vec::<String>::new());
        assert_eq!([9.994, 9.995, 99.96, 1234.5].map(millis), ["9.99", "10.0", "100", "1234"]);
    }
}
