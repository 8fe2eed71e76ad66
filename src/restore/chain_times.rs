//! Detects plans whose files seem to continue each other but come from two different databases.
//!
//! If a database was replaced or reset, Litestream numbers its transactions from 1 again. The new LTX files
//! overwrite old ones with the same TXIDs. Old files with higher TXIDs remain, and seem to continue the chain
//! of the new ones. If both databases have the same schema, no check of the content notices this. The
//! creation times do: a file that continues the chain was created before the file that it follows.

use crate::timestamp::Timestamp;

/// A step back in time of up to 1 s (10⁹ ns) gives no warning. It may come from a correction of the clock of the
/// machine that wrote the backups.
const CLOCK_STEP: i64 = 1_000_000_000;

/// Collects the creation times of a chain of LTX files, from the newest file to the oldest, and finds the largest
/// step back in time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ChainTimes {
    /// Index in the chain and creation time of the file that was added last.
    last: Option<(usize, Timestamp)>,
    /// The largest step back in time found so far.
    largest: Option<StepBack>,
}

/// Two neighbouring files of a chain, of which the one with the higher TXIDs was created earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StepBack {
    /// Index in the chain of the file with the lower TXIDs. The other file has the next index.
    pub older: usize,
    /// Creation time of the file with the lower TXIDs.
    pub older_time: Timestamp,
    /// Creation time of the file with the higher TXIDs.
    pub newer_time: Timestamp,
}

impl ChainTimes {
    /// Adds the creation time `time` of file `place` of the chain. `place` must descend from call to call.
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

    /// The largest step back in time among the files added so far. None if there is none above one second.
    pub(super) const fn step_back(&self) -> Option<StepBack> {
        self.largest
    }
}

impl StepBack {
    /// By how many nanoseconds the file with the higher TXIDs is the earlier one.
    fn nanos(&self) -> i64 {
        nanos(self.newer_time, self.older_time)
    }
}

/// The time from `from` to `to` in nanoseconds. Negative if `to` is the earlier one.
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
        // A step back in time of exactly one second gives no warning.
        assert_eq!(step_back(&[1_000, 0, 1_500, 500]), None);
        assert_eq!(step_back(&[1_001, 0]), Some((0, 1_001, 0)));
        assert_eq!(step_back(&[9_000, 7_000, 8_000, 20_000, 3_000, 4_000]), Some((3, 20_000, 3_000)));
    }
}
