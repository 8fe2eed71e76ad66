//! When a standby looks for changes, and how (docs/FOLLOW.md, "Polling"). Pure: time is passed in, as the time since the
//! follower began.
//!
//! A GET of the next key costs a twelfth of a LIST, and a hit is the file itself. So where the interval is short, most
//! polls are GETs, and LISTs find what a GET cannot: gaps, compactions, and files that were replaced.

use std::time::Duration;

/// With an interval of 10 s or more, every poll is a LIST of level 0.
const LISTS_ONLY: Duration = Duration::from_secs(10);
/// With a shorter interval, level 0 is listed every 15 intervals, and every 15 s at least.
const LIST_EVERY: (u32, Duration) = (15, Duration::from_secs(15));
/// All levels are listed every 300 intervals, and every 5 min at least.
const LIST_ALL_EVERY: (u32, Duration) = (300, Duration::from_secs(300));
/// A standby in a fleet lists level 0 every 5 min, for files that were replaced. All else is seen by the fleet's scans.
const FLEET_LIST_EVERY: Duration = Duration::from_secs(300);
/// If no request has succeeded for 4 min, all levels are listed: Litestream keeps files of level 0 for 5 min.
const LONG_SILENCE: Duration = Duration::from_secs(240);
/// At most 8 polls follow each other at once. A store that lists what it does not have would be asked without end.
const MOST_AT_ONCE: u32 = 8;
/// The longest pause after failures.
const MOST_PAUSE: Duration = Duration::from_secs(60);
/// The shortest pause after a failure.
const LEAST_PAUSE: Duration = Duration::from_millis(100);

/// The way to look for changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PollKind {
    /// GETs of the next keys of level 0, until one is not there.
    NextKey,
    /// A LIST of level 0, from the oldest file that is remembered on.
    Level0,
    /// A LIST of all levels.
    All,
}

/// The result of a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Polled {
    /// All is applied that was found.
    Done,
    /// There is more to find, or something to look at once more: the next poll is this one, at once.
    Again(PollKind),
    /// Requests have failed.
    Failed,
}

/// The times of past polls.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    interval: Duration,
    /// Whether scans of a fleet look for what a GET of the next key does not find.
    is_in_fleet: bool,
    listed: Duration,
    listed_all: Duration,
    succeeded: Duration,
    /// The number of failed polls since the last one that succeeded.
    failures: u32,
    /// The next poll, if the last one has asked for it.
    next: Option<PollKind>,
    /// The number of polls in a row that have asked for another one.
    in_a_row: u32,
}

impl Schedule {
    /// A schedule whose first poll lists all levels, at once.
    pub(super) const fn new(interval: Duration, is_in_fleet: bool) -> Self {
        let zero = Duration::ZERO;
        Self {
            interval,
            is_in_fleet,
            listed: zero,
            listed_all: zero,
            succeeded: zero,
            failures: 0,
            next: Some(PollKind::All),
            in_a_row: 0,
        }
    }

    /// How to poll at the time `now`.
    pub(super) fn poll(&self, now: Duration) -> PollKind {
        let since = |then: Duration| now.saturating_sub(then);
        let every = |(intervals, least): (u32, Duration)| self.interval.saturating_mul(intervals).min(least);
        let (is_all_due, is_list_due) = match self.is_in_fleet {
            true => (false, since(self.listed) >= FLEET_LIST_EVERY),
            false => (
                since(self.listed_all) >= every(LIST_ALL_EVERY),
                self.interval >= LISTS_ONLY || since(self.listed) >= every(LIST_EVERY),
            ),
        };
        if is_all_due || since(self.succeeded) >= LONG_SILENCE {
            PollKind::All
        } else if let Some(next) = self.next {
            next
        } else if is_list_due {
            PollKind::Level0
        } else {
            PollKind::NextKey
        }
    }

    /// Notes that `poll` ended with `polled` at the time `now`. Returns the pause before the next poll. `random` is
    /// evenly distributed from 0 to 1: pauses differ by up to 10 %, so that standbys do not poll in step.
    pub(super) fn ended(&mut self, poll: PollKind, polled: Polled, now: Duration, random: f64) -> Duration {
        let jitter = 0.9 + 0.2 * random;
        if polled == Polled::Failed {
            self.failures = self.failures.saturating_add(1);
            let doubled = self.interval.max(LEAST_PAUSE).saturating_mul(1 << self.failures.min(16));
            return doubled.min(MOST_PAUSE.max(self.interval)).mul_f64(jitter);
        }
        self.failures = 0;
        self.succeeded = now;
        if poll != PollKind::NextKey {
            self.listed = now;
        }
        if poll == PollKind::All {
            self.listed_all = now;
        }
        (self.next, self.in_a_row) = match polled {
            Polled::Again(next) => (Some(next), self.in_a_row.saturating_add(1)),
            Polled::Done | Polled::Failed => (None, 0),
        };
        let is_at_once = self.next.is_some() && self.in_a_row <= MOST_AT_ONCE;
        if is_at_once { Duration::ZERO } else { self.interval.mul_f64(jitter) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// The polls of `seconds` seconds in which nothing changes, with their number.
    fn idle(interval: f64, seconds: f64, is_in_fleet: bool) -> [usize; 3] {
        let mut schedule = Schedule::new(secs(interval), is_in_fleet);
        let (mut now, mut count) = (Duration::ZERO, [0; 3]);
        while now < secs(seconds) {
            let poll = schedule.poll(now);
            count[poll as usize] += 1;
            now += schedule.ended(poll, Polled::Done, now, 0.5);
        }
        count
    }

    #[test]
    fn an_idle_database_costs_one_request_per_poll() {
        let [gets, lists, all] = idle(1.0, 3600.0, false);
        assert_eq!(gets + lists + all, 3600);
        assert_eq!((lists, all), (3600 / 15 - 12, 12));
        assert_eq!(idle(30.0, 3600.0, false), [0, 108, 12]);
        // In a fleet listings are the scans' work.
        assert_eq!(idle(1.0, 3600.0, true), [3588, 11, 1]);
    }

    #[test]
    fn failures_back_off_and_a_long_silence_is_answered_by_a_listing_of_all() {
        let mut schedule = Schedule::new(secs(1.0), false);
        let first = schedule.ended(PollKind::All, Polled::Done, secs(0.0), 0.0);
        assert_eq!(first, secs(0.9));
        let pauses: Vec<_> =
            (0..8).map(|_| schedule.ended(PollKind::NextKey, Polled::Failed, secs(1.0), 0.5).as_secs()).collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(schedule.poll(secs(2.0)), PollKind::NextKey);
        assert_eq!(schedule.poll(secs(239.0)), PollKind::Level0);
        assert_eq!(schedule.poll(secs(240.0)), PollKind::All);
        assert_eq!(schedule.ended(PollKind::All, Polled::Done, secs(240.0), 1.0), secs(1.1));
        assert_eq!(schedule.poll(secs(241.0)), PollKind::NextKey);
    }

    #[test]
    fn a_gap_is_looked_at_at_once() {
        let mut schedule = Schedule::new(secs(1.0), false);
        schedule.ended(PollKind::All, Polled::Done, secs(0.0), 0.5);
        assert_eq!(schedule.ended(PollKind::Level0, Polled::Again(PollKind::All), secs(15.0), 0.5), Duration::ZERO);
        assert_eq!(schedule.poll(secs(15.0)), PollKind::All);
        schedule.ended(PollKind::All, Polled::Done, secs(15.0), 0.5);
        assert_eq!(schedule.poll(secs(15.0)), PollKind::NextKey);
        // Not for ever.
        let again = |_| schedule.ended(PollKind::All, Polled::Again(PollKind::All), secs(15.0), 0.5);
        let pauses: Vec<_> = (0..MOST_AT_ONCE + 2).map(again).collect();
        assert_eq!(pauses.iter().filter(|pause| pause.is_zero()).count(), MOST_AT_ONCE as usize);
        assert_eq!(pauses.last(), Some(&secs(1.0)));
    }
}
