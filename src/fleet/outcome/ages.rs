//! How old the restored states are. A replica that nobody has written to for days is whole, and still a loss.

use crate::fleet::job::{Ended, Ending, NewestState};
use crate::metrics::AgeHistogram;
use crate::timestamp::Timestamp;

/// A state that is older than this is counted.
pub const DAY_SECONDS: u64 = 86_400;

/// The ages of a run's states.
#[derive(Debug, Clone)]
pub struct Ages {
    reference: Timestamp,
    oldest: Option<(String, NewestState)>,
    /// Databases whose state is older than a day.
    pub older_than_a_day: u64,
    /// All ages.
    pub histogram: AgeHistogram,
}

/// The state that a database was restored to, or would be. None: it was neither restored nor planned.
pub(super) fn state_of(ended: &Ended) -> Option<NewestState> {
    match &ended.ending {
        Ending::Restored { outcome, .. } => Some(match &outcome.v3 {
            Some(v3) => NewestState { time: v3.time, source: "last_modified" },
            None => NewestState { time: outcome.timestamp, source: "header" },
        }),
        Ending::Planned(planned) => planned.state,
        Ending::Verified(verified) => verified.state.map(|state| NewestState {
            time: state.time,
            source: if state.is_time_of_header { "header" } else { "last_modified" },
        }),
        Ending::Rehearsed(_) | Ending::Skipped(_) | Ending::Failed { .. } => None,
    }
}

impl Ages {
    /// No states yet. Ages are counted up to `reference`.
    pub fn new(reference: Timestamp) -> Self {
        Self { reference, oldest: None, older_than_a_day: 0, histogram: AgeHistogram::default() }
    }

    /// The time from which ages are measured back.
    pub fn reference(&self) -> Timestamp {
        self.reference
    }

    /// The database with the oldest state.
    pub fn oldest(&self) -> Option<(&str, NewestState)> {
        self.oldest.as_ref().map(|(name, state)| (name.as_str(), *state))
    }

    pub(super) fn add(&mut self, ended: &Ended) {
        let Some(state) = state_of(ended) else { return };
        let age = state.age_seconds(self.reference);
        self.histogram.add(age);
        self.older_than_a_day += u64::from(age > DAY_SECONDS);
        // Of equally old ones the first by name, so that the result does not depend on which ends first.
        if self.oldest().is_none_or(|(name, oldest)| (state.time, ended.name()) < (oldest.time, name)) {
            self.oldest = Some((ended.name().to_owned(), state));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::job::{PlannedDatabase, Subject};
    use crate::ltx::Txid;
    use std::time::Duration;

    #[test]
    fn the_oldest_and_those_older_than_a_day() {
        let day = i64::try_from(DAY_SECONDS).unwrap() * 1000;
        let mut ages = Ages::new(Timestamp::from_millis(10 * day));
        for (name, millis) in [("a", 9 * day), ("b", 9 * day - 1000), ("c", day), ("d", 11 * day)] {
            let state = Some(NewestState { time: Timestamp::from_millis(millis), source: "last_modified" });
            let planned = PlannedDatabase {
                txid: Txid(1),
                v3: None,
                files: 1,
                bytes: 1,
                requests: 1,
                lost: None,
                moved_from: None,
                past: None,
                warnings: vec![],
                state,
            };
            ages.add(&Ended {
                subject: Subject::Entry(name.to_owned()),
                output: None,
                retries: 0,
                elapsed: Duration::ZERO,
                ending: Ending::Planned(planned),
            });
        }
        assert_eq!((ages.histogram.count(), ages.histogram.max_seconds()), (4, Some(9 * DAY_SECONDS)));
        let (name, state) = ages.oldest().unwrap();
        assert_eq!((name, state.age_seconds(ages.reference()), ages.older_than_a_day), ("c", 9 * DAY_SECONDS, 2));
        let newer = NewestState { time: Timestamp::from_millis(11 * day), source: "header" };
        assert_eq!(newer.age_seconds(ages.reference()), 0);
        assert_eq!(
            NewestState { time: Timestamp::MIN, ..newer }.age_seconds(Timestamp::MAX),
            i64::MAX as u64 / 1_000_000_000
        );
    }
}
