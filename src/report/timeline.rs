//! What happened in each second of a run.
//!
//! A [`Timeline`] is made from samples of counters that only grow. It reads no clock: each sample comes with its
//! time. [`sampled`] takes the samples on a thread of its own while a run goes on.

use serde::Serialize;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// A run of at most 20 s has an interval for each tenth of a second, because a few whole seconds show nothing.
const SHORT_RUN: Duration = Duration::from_secs(20);
const SHORT_INTERVAL: Duration = Duration::from_millis(100);
const INTERVAL: Duration = Duration::from_secs(1);
/// From 100,000 intervals on (28 hours) two neighbours become one, so that a run of weeks takes no more memory.
const MOST_INTERVALS: usize = 100_000;

/// A reading of the counters of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CounterSample {
    /// Databases that have ended without a failure.
    pub done: u64,
    /// Databases that have failed.
    pub failed: u64,
    /// Bytes of bodies received from the store. 0 for replicas on a local disk.
    pub bytes: u64,
    /// Bytes written to databases.
    pub bytes_written: u64,
    /// Requests sent, with repeated ones.
    pub requests: u64,
    /// Answers that ask for fewer requests.
    pub throttled: u64,
}

/// What happened in one interval of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Interval {
    /// When the interval ended, in seconds since the start of the run. It began when the one before it ended.
    pub seconds: f64,
    /// Databases that ended in it without a failure.
    pub done: u64,
    /// Bytes received in it.
    pub bytes: u64,
    /// Bytes written in it.
    pub bytes_written: u64,
    /// Requests sent in it.
    pub requests: u64,
    /// Answers in it that ask for fewer requests.
    pub throttled: u64,
    /// Databases that failed in it.
    pub failed: u64,
}

impl Interval {
    fn add(&mut self, later: &Self) {
        self.seconds = later.seconds;
        self.done += later.done;
        self.bytes += later.bytes;
        self.bytes_written += later.bytes_written;
        self.requests += later.requests;
        self.throttled += later.throttled;
        self.failed += later.failed;
    }
}

/// The intervals of a run, in order.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    intervals: Vec<Interval>,
    last: CounterSample,
    ended: Duration,
}

impl Timeline {
    /// Ends an interval `at` this time since the start of the run, with this reading. A time that is not after the
    /// last one adds to the interval before.
    pub fn sample(&mut self, at: Duration, now: CounterSample) {
        let before = std::mem::replace(&mut self.last, now);
        let interval = Interval {
            seconds: rounded_seconds(at.max(self.ended)),
            done: now.done.saturating_sub(before.done),
            bytes: now.bytes.saturating_sub(before.bytes),
            bytes_written: now.bytes_written.saturating_sub(before.bytes_written),
            requests: now.requests.saturating_sub(before.requests),
            throttled: now.throttled.saturating_sub(before.throttled),
            failed: now.failed.saturating_sub(before.failed),
        };
        match self.intervals.last_mut() {
            Some(last) if interval.seconds <= last.seconds => last.add(&interval),
            _ => self.intervals.push(interval),
        }
        self.ended = self.ended.max(at);
        if self.intervals.len() >= MOST_INTERVALS {
            self.intervals = merged(&self.intervals, 2);
        }
    }

    /// The intervals: one for each second, or for each tenth of a second if the run took at most 20 s.
    pub fn intervals(&self) -> Vec<Interval> {
        if self.ended <= SHORT_RUN {
            return self.intervals.clone();
        }
        // A sample that comes up to 50 ms late still ends its second.
        let second = |interval: &Interval| (interval.seconds - 0.05).ceil();
        let mut whole: Vec<Interval> = Vec::new();
        for interval in &self.intervals {
            match whole.last_mut() {
                Some(last) if second(last) == second(interval) => last.add(interval),
                _ => whole.push(*interval),
            }
        }
        whole
    }

    /// How long to wait after `now`, a time since the start of the run, before the next sample.
    fn next_wait(now: Duration) -> Duration {
        let interval = if now < SHORT_RUN { SHORT_INTERVAL } else { INTERVAL };
        let into = now.as_nanos() % interval.as_nanos();
        interval.saturating_sub(Duration::from_nanos(u64::try_from(into).unwrap_or(0)))
    }
}

/// Each `by` neighbours as one interval.
pub(super) fn merged(intervals: &[Interval], by: usize) -> Vec<Interval> {
    let one = |chunk: &[Interval]| {
        let mut sum = Interval::default();
        chunk.iter().for_each(|interval| sum.add(interval));
        sum
    };
    intervals.chunks(by.max(1)).map(one).collect()
}

/// Seconds in milliseconds' precision.
pub fn rounded_seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e3).round() / 1e3
}

/// Runs `work`, and takes samples by `read` meanwhile, on a thread of its own. `begun` is the start of the run. The
/// sample at the end is the caller's to take. Without a thread the timeline is empty.
pub fn sampled<T>(begun: Instant, read: impl Fn() -> CounterSample + Send, work: impl FnOnce() -> T) -> (T, Timeline) {
    // The sender `working` is dropped when `work` ends, also if it panics. That ends the thread.
    let (working, ended) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let sampler = std::thread::Builder::new().name("timeline".to_owned()).spawn_scoped(scope, move || {
            let mut timeline = Timeline::default();
            while ended.recv_timeout(Timeline::next_wait(begun.elapsed())) == Err(RecvTimeoutError::Timeout) {
                timeline.sample(begun.elapsed(), read());
            }
            timeline
        });
        let result = work();
        drop(working);
        let timeline = sampler.ok().and_then(|sampler| sampler.join().ok());
        (result, timeline.unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(n: u64) -> CounterSample {
        CounterSample {
            done: n,
            failed: n / 10,
            bytes: n * 100,
            bytes_written: n * 1000,
            requests: 3 * n,
            throttled: n / 2,
        }
    }

    fn sum(intervals: &[Interval]) -> CounterSample {
        intervals.iter().fold(CounterSample::default(), |sum, i| CounterSample {
            done: sum.done + i.done,
            failed: sum.failed + i.failed,
            bytes: sum.bytes + i.bytes,
            bytes_written: sum.bytes_written + i.bytes_written,
            requests: sum.requests + i.requests,
            throttled: sum.throttled + i.throttled,
        })
    }

    #[test]
    fn a_short_run_keeps_tenths_of_seconds() {
        let mut timeline = Timeline::default();
        (1..=15).for_each(|tenth| timeline.sample(Duration::from_millis(100 * tenth + 1), sample(tenth)));
        timeline.sample(Duration::from_millis(1533), sample(40));
        let intervals = timeline.intervals();
        assert_eq!(intervals.len(), 16);
        assert_eq!((intervals[0].seconds, intervals[0].done, intervals[0].requests), (0.101, 1, 3));
        assert_eq!((intervals[15].seconds, intervals[15].done), (1.533, 25));
        assert_eq!(sum(&intervals), sample(40));
    }

    #[test]
    fn a_long_run_has_whole_seconds() {
        let mut timeline = Timeline::default();
        let (mut at, mut n) = (Duration::ZERO, 0);
        while at < Duration::from_secs(30) {
            at += Timeline::next_wait(at);
            n += 7;
            // Samples come late, here by 3 ms.
            timeline.sample(at + Duration::from_millis(3), sample(n));
        }
        timeline.sample(Duration::from_millis(30_250), sample(2000));
        let intervals = timeline.intervals();
        assert_eq!(sum(&intervals), sample(2000));
        assert_eq!(intervals.last().unwrap().seconds, 30.25);
        assert_eq!(intervals.len(), 31);
        assert_eq!((intervals[0].seconds, intervals[29].seconds), (1.003, 30.003));
        for pair in intervals.windows(2) {
            let length = pair[1].seconds - pair[0].seconds;
            assert!(length > 0.0 && length < 1.2, "{pair:?}");
        }
    }

    #[test]
    fn a_clock_that_stands_still_loses_nothing() {
        let mut timeline = Timeline::default();
        timeline.sample(Duration::from_secs(1), sample(10));
        timeline.sample(Duration::from_secs(1), sample(20));
        timeline.sample(Duration::from_millis(900), sample(30));
        assert_eq!(timeline.intervals().len(), 1);
        assert_eq!(sum(&timeline.intervals()), sample(30));
    }

    #[test]
    fn weeks_take_no_more_memory() {
        let mut timeline = Timeline::default();
        for second in 1..=400_000 {
            timeline.sample(Duration::from_secs(second), sample(second));
        }
        assert!(timeline.intervals.len() < MOST_INTERVALS);
        assert_eq!(sum(&timeline.intervals()), sample(400_000));
        assert_eq!(timeline.intervals().last().unwrap().seconds, 400_000.0);
    }

    /// The thread ends with the work, whatever it has sampled until then.
    #[test]
    fn the_sampler_ends_with_the_work() {
        let (told, read) = (std::sync::atomic::AtomicU64::new(0), std::sync::atomic::AtomicU64::new(0));
        use std::sync::atomic::Ordering::SeqCst;
        let (result, mut timeline) = sampled(
            Instant::now(),
            || {
                read.fetch_add(1, SeqCst);
                sample(told.load(SeqCst))
            },
            || {
                told.store(10, SeqCst);
                // Ends when the sampler has read: it does so every 100 ms.
                while read.load(SeqCst) < 2 {
                    std::thread::yield_now();
                }
                "done"
            },
        );
        timeline.sample(Duration::from_secs(3600), sample(11));
        assert_eq!((result, sum(&timeline.intervals())), ("done", sample(11)));
    }
}
