//! Whether the times of a chain's files run backwards.
//!
//! When a database was replaced or reset, Litestream numbers its transactions from 1 again. The new
//! files overwrite old ones with the same TXIDs. Old files with higher TXIDs remain and seem to
//! continue the chain. If the schema is the same, no check of the content fails. The times show it: a
//! file that continues the chain is older than the file before it.

use crate::timestamp::Timestamp;

/// A writer's clock may be set back by one second without a warning; in nanoseconds.
const CLOCK_STEP: i64 = 1_000_000_000;

/// The times of the headers of a chain. They are noted from the newest file to the oldest.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ChainTimes {
    /// The file noted last: its index in the chain, and its time.
    last: Option<(usize, Timestamp)>,
    largest: Option<StepBack>,
}

/// Two neighbouring files of a chain. The one with the higher TXIDs was created earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StepBack {
    /// Index in the chain of the file with the lower TXIDs. The other file is the next.
    pub older: usize,
    pub older_time: Timestamp,
    pub newer_time: Timestamp,
}

impl ChainTimes {
    /// Notes that file `place` of the chain was created at `time`. `place` descends from call to call.
    pub(super) fn note(&mut self, place: usize, time: Timestamp) {
        if let Some((newer, newer_time)) = self.last
            && newer == place + 1
            && time > newer_time.saturating_add_nanos(CLOCK_STEP)
            && self.largest.is_none_or(|step| step.nanos() < nanos(newer_time, time))
        {
            self.largest = Some(StepBack { older: place, older_time: time, newer_time });
        }
        self.last = Some((place, time));
    }

    /// The largest step back among the files noted so far.
    pub(super) const fn step_back(&self) -> Option<StepBack> {
        self.largest
    }
}

impl StepBack {
    fn nanos(&self) -> i64 {
        nanos(self.newer_time, self.older_time)
    }
}

fn nanos(from: Timestamp, to: Timestamp) -> i64 {
    to.as_nanos().saturating_sub(from.as_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step_back(millis: &[i64]) -> Option<(usize, i64, i64)> {
        let mut times = ChainTimes::default();
        for (place, &time) in millis.iter().enumerate().rev() {
            times.note(place, Timestamp::from_nanos(time * 1_000_000));
        }
        let in_millis = |time: Timestamp| time.as_nanos() / 1_000_000;
        times.step_back().map(|step| (step.older, in_millis(step.older_time), in_millis(step.newer_time)))
    }

    #[test]
    fn the_largest_step_back_is_found() {
        assert_eq!(step_back(&[]), None);
        assert_eq!(step_back(&[5, 5, 6]), None);
        // Exactly one second is allowed.
        assert_eq!(step_back(&[1_000, 0, 1_500, 500]), None);
        assert_eq!(step_back(&[1_001, 0]), Some((0, 1_001, 0)));
        assert_eq!(step_back(&[9_000, 7_000, 8_000, 20_000, 3_000, 4_000]), Some((3, 20_000, 3_000)));
    }
}
