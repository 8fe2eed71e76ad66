//! Shows the progress of a run on stderr: a bar on a terminal, otherwise a plain line of text every 5 s.
//!
//! A thread of its own reads the run's counters up to ten times a second. The workers only increment these
//! counters, so showing progress costs them nothing.

use crate::cli::ui::human;
use crate::cli::ui::log::Log;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Whether and how progress is shown on stderr, from the flags `-progress` and `-no-progress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressMode {
    /// Neither flag was given. If stderr is a terminal, a progress bar is shown, otherwise nothing.
    Auto,
    /// `-progress` was given. If stderr is a terminal, a progress bar is shown, otherwise a plain line of text every
    /// 5 s.
    Always,
    /// `-no-progress` was given. No progress is shown.
    Never,
}

/// The phase that a run is in. It is the first word of the progress line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    #[default]
    Listing,
    Planning,
    Restoring,
    Verifying,
}

impl Phase {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Listing => "listing",
            Self::Planning => "planning",
            Self::Restoring => "restoring",
            Self::Verifying => "verifying",
        }
    }
}

/// Numbers of databases, for the progress of `restore-pattern`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Databases {
    /// Number of databases that were restored, have failed or were skipped.
    pub done: u64,
    /// Number of databases found so far.
    pub total: u64,
    pub failed: u64,
    pub skipped: u64,
    /// True if all databases were found, so that `total` does not grow any more.
    pub all_found: bool,
}

/// The state of a run at one moment. `hydrant restore` counts the bytes of the database, `restore-pattern` the
/// bytes to fetch. Both numbers of bytes may grow while further databases are being planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProgressSnapshot {
    pub phase: Phase,
    /// Number of bytes written or fetched so far.
    pub bytes_done: u64,
    /// Number of bytes to write or fetch in the whole run, as far as it is known. 0 if nothing is known yet.
    pub bytes_total: u64,
    /// Numbers of databases found and finished. None for `hydrant restore`, which restores a single database.
    pub databases: Option<Databases>,
    /// Number of requests that were sent again after a failed attempt.
    pub retries: u64,
    /// Number of responses by which a bucket asked for fewer requests, such as 503 SlowDown.
    pub throttled: u64,
    /// The number of requests per second that the limiter allows now. None while no bucket throttles.
    pub per_second: Option<u64>,
}

/// The progress bar is drawn anew every 100 ms.
const REDRAW: Duration = Duration::from_millis(100);
/// If stderr is not a terminal, a line with the progress is written every 5 s.
const PLAIN_LINE: Duration = Duration::from_secs(5);
/// The bar appears 300 ms after the start of a run. A shorter run shows none, because nobody could read it.
const QUIET_START: Duration = Duration::from_millis(300);
/// A terminal that does not tell its width is assumed to be 80 columns wide.
const DEFAULT_COLUMNS: usize = 80;
/// The line with the progress bar is at most 200 columns wide, even on a wider terminal. A longer line would be hard
/// to read.
const MOST_COLUMNS: usize = 200;

/// Runs `work` and returns its result. Meanwhile a thread calls `snapshot` repeatedly and shows the progress, if
/// `mode` and the terminal allow it. The bar is removed before this function returns.
pub fn during<T>(
    mode: ProgressMode,
    log: &Log,
    snapshot: impl Fn() -> ProgressSnapshot + Send,
    work: impl FnOnce() -> T,
) -> T {
    let bar = match (mode, log.is_terminal()) {
        (ProgressMode::Never, _) | (ProgressMode::Auto, false) => return work(),
        (_, terminal) => terminal,
    };
    // The sender `working` is dropped when `work` ends, also if it panics. That wakes the thread and ends it.
    let (working, ended) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let shower = std::thread::Builder::new().name("progress".to_owned());
        let _ = shower.spawn_scoped(scope, move || {
            if bar { show_bar(log, &snapshot, &ended) } else { show_lines(log, &snapshot, &ended) }
        });
        let result = work();
        drop(working);
        result
    })
}

/// Draws the progress bar at intervals of [`REDRAW`]. Returns when the sender of `ended` is dropped, which means that
/// the work has ended.
fn show_bar(log: &Log, snapshot: &impl Fn() -> ProgressSnapshot, ended: &mpsc::Receiver<()>) {
    let start = Instant::now();
    let mut meter = SpeedMeter::default();
    let mut wait = QUIET_START;
    while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
        meter.observe(start.elapsed(), snapshot());
        // The last column stays free, because some terminals begin a new line when the last column is used.
        log.bar(Some(meter.bar(columns().saturating_sub(1))));
        wait = REDRAW;
    }
    log.bar(None);
}

/// Writes a line with the progress at intervals of [`PLAIN_LINE`]. Returns when the sender of `ended` is dropped,
/// which means that the work has ended.
fn show_lines(log: &Log, snapshot: &impl Fn() -> ProgressSnapshot, ended: &mpsc::Receiver<()>) {
    let start = Instant::now();
    let mut meter = SpeedMeter::default();
    let mut next = PLAIN_LINE;
    while ended.recv_timeout(Duration::from_millis(500)) == Err(RecvTimeoutError::Timeout) {
        let now = start.elapsed();
        meter.observe(now, snapshot());
        if now >= next {
            log.info(&meter.plain());
            next = now + PLAIN_LINE;
        }
    }
}

/// The width in columns of the terminal on stderr.
fn columns() -> usize {
    let columns = rustix::termios::tcgetwinsize(std::io::stderr()).map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { DEFAULT_COLUMNS } else { columns }
}

/// Computes the speed of a run and the time left, as averages over the last seconds, and formats the lines that
/// show them.
#[derive(Debug, Default)]
pub struct SpeedMeter {
    /// When the last snapshot was taken, as the time since the run's start.
    now: Duration,
    snapshot: ProgressSnapshot,
    /// Speed in bytes per second, as an exponential moving average that begins at 0. It is therefore too low at
    /// first. Dividing it by `weight` corrects that.
    speed: f64,
    /// The moving average, with the same time constant as `speed`, of the constant 1. It grows from 0 to 1, and is
    /// too low at first by the same factor as `speed`.
    weight: f64,
    /// The estimated end of the run, in seconds from its start. None if there is no estimate.
    end: Option<f64>,
}

/// Time constant of the moving average of the speed: 4 s. A value that is 4 s old has a weight of 37 %.
const SPEED_WINDOW: f64 = 4.0;
/// The progress bar has at least 10 cells (characters between its brackets). If there is room for fewer, no bar is
/// drawn.
const LEAST_CELLS: usize = 10;
/// On a terminal with at least 60 columns the bar is always shown, and numbers beside it are left out if they do not
/// fit. On a narrower one the numbers come first.
const BAR_COLUMNS: usize = 60;
/// Time constant of the moving average of the estimated end: 3 s. A shorter one is used early in a run and near its
/// end.
const END_WINDOW: f64 = 3.0;

impl SpeedMeter {
    /// Adds the snapshot taken at `now`, the time since the run's start. `now` must not decrease from call to
    /// call.
    pub fn observe(&mut self, now: Duration, snapshot: ProgressSnapshot) {
        let elapsed = now.saturating_sub(self.now).as_secs_f64();
        if elapsed > 0.0 {
            let grown = snapshot.bytes_done.saturating_sub(self.snapshot.bytes_done) as f64;
            self.speed = blend(self.speed, grown / elapsed, elapsed, SPEED_WINDOW);
            self.weight = blend(self.weight, 1.0, elapsed, SPEED_WINDOW);
        }
        let grew = snapshot.bytes_total != self.snapshot.bytes_total;
        self.now = now;
        self.snapshot = snapshot;
        self.estimate_end(elapsed, grew);
    }

    /// Computes the estimated end from the last snapshot. `elapsed` is the time in seconds since the snapshot
    /// before. `grew` says that the total number of bytes has changed since then.
    fn estimate_end(&mut self, elapsed: f64, grew: bool) {
        let left = self.snapshot.bytes_total.saturating_sub(self.snapshot.bytes_done) as f64;
        let speed = self.bytes_per_second();
        if self.snapshot.bytes_total == 0 || speed < 1.0 {
            self.end = None;
            return;
        }
        let now = self.now.as_secs_f64();
        let end = now + left / speed;
        // The average is short early in a run, so that the first, poor estimates are forgotten soon. It is also
        // short near the end, where the newest estimate is the best.
        let window = END_WINDOW.min(now / 4.0).min(left / speed / 2.0).max(0.01);
        self.end = match self.end {
            Some(before) if !grew => Some(blend(before, end, elapsed, window)),
            // The total number of bytes has grown, so the old estimate of the end is wrong and is dropped.
            _ => Some(end),
        };
    }

    /// The average speed of the last few seconds, in bytes per second.
    fn bytes_per_second(&self) -> f64 {
        if self.weight > 0.0 { self.speed / self.weight } else { 0.0 }
    }

    /// The estimated time left. None if there is no estimate, or if not all databases were found yet.
    fn eta(&self) -> Option<Duration> {
        let known = self.snapshot.databases.is_none_or(|databases| databases.all_found);
        let left = self.end.filter(|_| known)? - self.now.as_secs_f64();
        Duration::try_from_secs_f64(left.max(0.0)).ok()
    }

    /// The fraction of the bytes that is done, from 0 to 1. None if the total is not known, or if not all
    /// databases were found yet.
    fn fraction(&self) -> Option<f64> {
        let ProgressSnapshot { bytes_done, bytes_total, databases, .. } = self.snapshot;
        (bytes_total > 0 && databases.is_none_or(|databases| databases.all_found))
            .then(|| (bytes_done as f64 / bytes_total as f64).min(1.0))
    }

    /// The texts beside the progress bar (counts, time left, speed …), the most important first. Those that do not
    /// fit are left out from the end.
    fn parts(&self) -> Vec<String> {
        let ProgressSnapshot { bytes_done, bytes_total, databases, retries, throttled, per_second, .. } = self.snapshot;
        let mut parts = Vec::new();
        if let Some(Databases { done, total, failed, all_found, .. }) = databases {
            let (done, total) = (human::thousands(done), human::thousands(total));
            parts.push(match all_found {
                true => format!("{done}/{total} databases"),
                false => format!("{done} databases, {total} found so far"),
            });
            if failed > 0 {
                parts.push(format!("{} failed", human::thousands(failed)));
            }
        }
        if bytes_total > 0 {
            if let Some(eta) = self.eta() {
                parts.push(format!("ETA {}", human::clock(eta)));
            }
            parts.push(human::speed(self.bytes_per_second()));
            parts.push(format!("{} of {}", human::bytes(bytes_done), human::bytes(bytes_total)));
        }
        if let Some(Databases { skipped: skipped @ 1.., .. }) = databases {
            parts.push(format!("{} skipped", human::thousands(skipped)));
        }
        if throttled > 0 {
            let now = per_second.map_or(String::new(), |n| format!(" (now {}/s)", human::thousands(n)));
            parts.push(format!("throttled {}{now}", human::thousands(throttled)));
        }
        if retries > 0 {
            parts.push(human::count(retries, "retry").replace("retrys", "retries"));
        }
        parts
    }

    /// Formats a line of at most `columns` characters: the phase, the percentage, the bar, and those of the other
    /// texts that fit.
    pub fn bar(&self, columns: usize) -> String {
        let columns = columns.min(MOST_COLUMNS);
        let mut line = self.snapshot.phase.as_str().to_owned();
        if let Some(fraction) = self.fraction() {
            // The percentage is rounded down, so that 100 % appears only when everything is done.
            line.push_str(&format!(" {:3}%", (fraction * 100.0) as u64));
        }
        // Room for the bar is reserved. Otherwise the bar would appear and vanish as the other texts change
        // their length.
        let reserved = if self.fraction().is_some() && columns >= BAR_COLUMNS { 3 + LEAST_CELLS } else { 0 };
        let mut tail = String::new();
        for part in self.parts() {
            if line.len() + tail.len() + 2 + part.len() + reserved > columns {
                break;
            }
            tail.push_str("  ");
            tail.push_str(&part);
        }
        if let Some(fraction) = self.fraction() {
            // The number 3 stands for a space and two brackets. A bar of more than 40 cells would be no clearer.
            let cells = columns.saturating_sub(line.len() + tail.len() + 3).min(40);
            if cells >= LEAST_CELLS {
                let full = ((fraction * cells as f64) as usize).min(cells);
                line.push_str(&format!(" [{}{}]", "#".repeat(full), ".".repeat(cells - full)));
            }
        }
        line.push_str(&tail);
        line.truncate(columns);
        line
    }

    /// Formats the progress as a plain line without a bar, for output that is not a terminal.
    pub fn plain(&self) -> String {
        let mut line = self.snapshot.phase.as_str().to_owned();
        if let Some(fraction) = self.fraction() {
            line.push_str(&format!(" {}%", (fraction * 100.0) as u64));
        }
        for part in self.parts() {
            line.push_str(", ");
            line.push_str(&part);
        }
        line
    }
}

/// One step of an exponential moving average. `old` is the average so far, `new` the value that was measured for
/// the last `elapsed` seconds, and `window` the time constant in seconds.
fn blend(old: f64, new: f64, elapsed: f64, window: f64) -> f64 {
    new + (old - new) * (-elapsed / window).exp()
}

#[cfg(test)]
mod tests {
    use crate::cli::ui::progress::*;

    fn single(bytes_done: u64, bytes_total: u64) -> ProgressSnapshot {
        ProgressSnapshot { phase: Phase::Restoring, bytes_done, bytes_total, ..Default::default() }
    }

    /// A meter after `seconds` of a restore of 2 GiB that has run at 100 MiB/s.
    fn steady(seconds: u64) -> SpeedMeter {
        let mut meter = SpeedMeter::default();
        for tick in 0..=seconds * 10 {
            meter.observe(Duration::from_millis(tick * 100), single(tick * (10 << 20), 2 << 30));
        }
        meter
    }

    #[test]
    fn bar_at_three_widths() {
        let meter = steady(10);
        assert_eq!(meter.bar(40), "restoring  48%  ETA 0:10  100 MiB/s");
        assert_eq!(meter.bar(80), "restoring  48% [##########...........]  ETA 0:10  100 MiB/s  1000 MiB of 2.0 GiB");
        assert_eq!(
            meter.bar(200),
            "restoring  48% [###################.....................]  ETA 0:10  100 MiB/s  1000 MiB of 2.0 GiB"
        );
        assert_eq!(meter.plain(), "restoring 48%, ETA 0:10, 100 MiB/s, 1000 MiB of 2.0 GiB");
    }

    #[test]
    fn never_wider_than_asked() {
        let mut meter = steady(3);
        meter.snapshot.databases =
            Some(Databases { done: 1234, total: 45_678, failed: 3, skipped: 2, all_found: true });
        meter.snapshot.retries = 1;
        meter.snapshot.throttled = 12;
        meter.snapshot.per_second = Some(950);
        for columns in 0..250 {
            assert!(meter.bar(columns).len() <= columns, "{columns}: {}", meter.bar(columns));
        }
        let wide = meter.bar(200);
        assert!(wide.contains("1,234/45,678 databases  3 failed  ETA "), "{wide}");
        assert!(wide.ends_with("  2 skipped  throttled 12 (now 950/s)  1 retry"), "{wide}");
        assert!(meter.bar(80).contains("1,234/45,678 databases  3 failed"));
        assert!(!meter.bar(40).contains("failed"));
    }

    #[test]
    fn discovery_counts_and_has_no_eta() {
        let mut meter = SpeedMeter::default();
        let databases = Some(Databases { total: 2500, ..Databases::default() });
        meter.observe(Duration::from_secs(1), ProgressSnapshot { databases, ..Default::default() });
        assert_eq!(meter.bar(80), "listing  0 databases, 2,500 found so far");
        meter.observe(Duration::from_secs(2), ProgressSnapshot { databases, ..single(1 << 20, 2 << 20) });
        assert!(!meter.bar(200).contains("ETA"));
    }

    #[test]
    fn the_eta_is_smooth() {
        // The snapshots show bursts: nothing for 0.4 s, then 50 MiB at once.
        let mut meter = SpeedMeter::default();
        let mut last = None::<f64>;
        for tick in 0u64..150 {
            meter.observe(Duration::from_millis(tick * 100), single(tick / 5 * (50 << 20), 2 << 30));
            if tick > 40 {
                let eta = meter.eta().unwrap().as_secs_f64();
                if let Some(last) = last {
                    assert!((eta - last).abs() < 0.6, "{tick}: {last} → {eta}");
                }
                last = Some(eta);
            }
        }
        assert!((last.unwrap() - 5.6).abs() < 1.5, "{last:?}");
    }

    #[test]
    fn a_slow_beginning_is_forgotten_by_the_end() {
        // The speed grows as in a restore of many databases: few are in flight at first, then more and more.
        let mut meter = SpeedMeter::default();
        let (mut done, total) = (0, 200u64 << 20);
        for tick in 0u64.. {
            done += tick.min(20) * (200 << 10);
            if done >= total {
                break;
            }
            meter.observe(Duration::from_millis(tick * 100), single(done, total));
            let left = (total - done) as f64 / f64::from(40 << 20);
            let eta = meter.eta().map_or(0.0, |eta| eta.as_secs_f64());
            assert!(left > 2.0 || eta < left * 1.6 + 0.3, "{tick}: {left} s left, estimated {eta}");
        }
    }

    #[test]
    fn a_bar_that_fits_stays() {
        let databases = |done| Some(Databases { done, total: 5000, all_found: true, ..Databases::default() });
        let mut meter = SpeedMeter::default();
        for tick in 0u64..100 {
            let snapshot = ProgressSnapshot { databases: databases(tick * 50), ..single(tick * (2 << 20), 200 << 20) };
            meter.observe(Duration::from_millis(tick * 100), snapshot);
            assert!(meter.bar(79).contains(" ["), "{}", meter.bar(79));
        }
    }

    #[test]
    fn odd_numbers_do_no_harm() {
        let mut meter = SpeedMeter::default();
        meter.observe(Duration::ZERO, single(5, 0));
        meter.observe(Duration::ZERO, single(u64::MAX, 1));
        meter.observe(Duration::from_secs(1), single(0, u64::MAX));
        meter.observe(Duration::from_secs(2), single(1, u64::MAX));
        assert!(meter.bar(80).len() <= 80);
        assert!(meter.plain().starts_with("restoring 0%"));
    }

    #[test]
    fn shows_nothing_unless_asked() {
        let log = Log::new(Box::new(std::io::sink()), 0, crate::cli::ui::log::LogFormat::Text, false, false);
        let never = || -> ProgressSnapshot { unreachable!("nobody asks") };
        assert_eq!(during(ProgressMode::Never, &log, never, || 1), 1);
        assert_eq!(during(ProgressMode::Auto, &log, never, || 2), 2);
        assert_eq!(during(ProgressMode::Always, &log, ProgressSnapshot::default, || 3), 3);
    }
}
