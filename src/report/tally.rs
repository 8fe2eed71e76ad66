//! Sums over the rows of a report: outcomes, the recovery curve's marks, ages.

use crate::report::rows::{DatabaseRow, RowStanding};
use crate::report::timeline::rounded_seconds;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// A state that is older than this counts as old.
const DAY: u64 = 86_400;
/// The limits between the groups of ages, in seconds, from 10 s to 32 days.
const AGE_LIMITS: [u64; 8] = [10, 60, 600, 3_600, 21_600, DAY, 7 * DAY, 32 * DAY];

/// Sums over all rows, counted as they come.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Databases by judgement.
    pub standings: BTreeMap<RowStanding, u64>,
    /// Databases by the word for their outcome or verdict.
    pub words: BTreeMap<&'static str, u64>,
    /// Databases of which only an older state than the newest could be had.
    pub not_newest: u64,
    /// Failed databases by class, stale ones by that word.
    pub classes: BTreeMap<&'static str, u64>,
    /// Size of the databases that have a result, in bytes.
    pub bytes: u64,
    /// Size of the files that were fetched or planned, in bytes.
    pub bytes_fetched: u64,
    /// Number of these files.
    pub files: u64,
    /// How often databases were tried again.
    pub retries: u64,
    /// Milliseconds from the start of the run to the end of each database that did not fail or is stale.
    done_at: Vec<u32>,
    /// Age of each state, in seconds.
    ages: Vec<u32>,
}

/// When the databases were done, in seconds from the start of the run. These are the marks of the recovery curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Milestones {
    /// The number of databases that did not fail, stale ones included. Half and 99 % are shares of it.
    pub databases: u64,
    /// The first one.
    pub first_seconds: f64,
    /// Half of them.
    pub half_seconds: f64,
    /// 99 % of them.
    pub p99_seconds: f64,
    /// All of them.
    pub all_seconds: f64,
}

/// How old the states are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct AgeTable {
    /// The time from which ages are measured back, in RFC 3339.
    pub reference: String,
    /// The number of databases whose state has a known time.
    pub databases: u64,
    /// How many of them are older than a day.
    pub older_than_a_day: u64,
    /// The quantiles. None: there is no state with a known time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantiles: Option<AgeQuantiles>,
    /// The histogram: groups without a gap, from 0 s on.
    pub groups: Vec<AgeGroup>,
}

/// Quantiles of ages in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct AgeQuantiles {
    /// The age of the newest state.
    pub min: u64,
    /// The median.
    pub p50: u64,
    /// The age that 90 % of the states do not exceed.
    pub p90: u64,
    /// The age that 99 % of the states do not exceed.
    pub p99: u64,
    /// The age of the oldest state.
    pub max: u64,
}

/// One group of ages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct AgeGroup {
    /// The youngest age of the group, in seconds.
    pub from_seconds: u64,
    /// The age that the group is below. None: the oldest group, which has no end.
    pub below_seconds: Option<u64>,
    /// The number of databases in the group.
    pub databases: u64,
}

impl Tally {
    /// Counts a row. The database ended `at` this time since the start of the run.
    pub fn add(&mut self, row: &DatabaseRow, at: Duration) {
        *self.standings.entry(row.standing).or_default() += 1;
        *self.words.entry(row.word()).or_default() += 1;
        self.bytes += row.bytes.unwrap_or(0);
        self.bytes_fetched += row.bytes_fetched.unwrap_or(0);
        self.files += row.files.unwrap_or(0);
        self.retries += u64::from(row.retries);
        self.not_newest += u64::from(row.lost.is_some());
        if row.standing == RowStanding::Bad {
            *self.classes.entry(row.class.unwrap_or(row.word())).or_default() += 1;
        }
        // A stale one can be restored.
        if row.standing != RowStanding::Bad || row.verdict == "stale" {
            self.done_at.push(u32::try_from(at.as_millis()).unwrap_or(u32::MAX));
        }
        if let Some(age) = row.age_seconds {
            self.ages.push(u32::try_from(age).unwrap_or(u32::MAX));
        }
    }

    /// The number of rows.
    pub fn databases(&self) -> u64 {
        self.standings.values().sum()
    }

    /// The number of rows with this judgement.
    pub fn count(&self, standing: RowStanding) -> u64 {
        self.standings.get(&standing).copied().unwrap_or(0)
    }

    /// The words and their counts, from good to bad.
    pub fn by_word(&self) -> impl Iterator<Item = (&'static str, u64)> {
        const ORDER: [&str; 10] = [
            "restored",
            "planned",
            "rehearsed",
            "restorable",
            "degraded",
            "skipped",
            "no backups",
            "stale",
            "not restorable",
            "failed",
        ];
        let mut all: Vec<_> = self.words.iter().map(|(word, count)| (*word, *count)).collect();
        all.sort_by_key(|(word, _)| ORDER.iter().position(|known| known == word));
        all.into_iter()
    }

    /// When the databases were done. None: none was.
    pub fn milestones(&mut self) -> Option<Milestones> {
        // Databases end out of order where several threads report them.
        self.done_at.sort_unstable();
        let at = |share: f64| {
            let millis = quantile(&self.done_at, share)?;
            Some(rounded_seconds(Duration::from_millis(u64::from(millis))))
        };
        Some(Milestones {
            databases: self.done_at.len() as u64,
            first_seconds: at(0.0)?,
            half_seconds: at(0.5)?,
            p99_seconds: at(0.99)?,
            all_seconds: at(1.0)?,
        })
    }

    /// How old the states are. `reference` is the time from which ages are measured back.
    pub fn ages(&mut self, reference: String) -> AgeTable {
        self.ages.sort_unstable();
        let below = |limit: u64| self.ages.partition_point(|age| u64::from(*age) < limit) as u64;
        let starts = std::iter::once(0).chain(AGE_LIMITS);
        let ends = AGE_LIMITS.into_iter().map(Some).chain([None]);
        let all = self.ages.len() as u64;
        let group = |(from, end): (u64, Option<u64>)| AgeGroup {
            from_seconds: from,
            below_seconds: end,
            databases: end.map_or(all, below) - below(from),
        };
        let at = |share| quantile(&self.ages, share).map(u64::from);
        let quantiles =
            || Some(AgeQuantiles { min: at(0.0)?, p50: at(0.5)?, p90: at(0.9)?, p99: at(0.99)?, max: at(1.0)? });
        AgeTable {
            reference,
            databases: all,
            older_than_a_day: all - below(DAY + 1),
            quantiles: quantiles(),
            groups: starts.zip(ends).map(group).collect(),
        }
    }
}

/// The smallest value that at least this share of `sorted` does not exceed. None: `sorted` is empty.
fn quantile(sorted: &[u32], share: f64) -> Option<u32> {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(standing: RowStanding, age: Option<u64>) -> DatabaseRow {
        let (outcome, class) = match standing {
            RowStanding::Bad => ("failed", Some("hole")),
            RowStanding::Skipped => ("skipped", None),
            RowStanding::Degraded | RowStanding::Good => ("restored", None),
        };
        DatabaseRow { outcome, class, age_seconds: age, bytes: Some(10), standing, ..DatabaseRow::default() }
    }

    #[test]
    fn marks_are_shares_of_what_did_not_fail() {
        let mut tally = Tally::default();
        assert_eq!(tally.milestones(), None);
        for at in (1..=200).rev() {
            tally.add(&row(RowStanding::Good, None), Duration::from_millis(at * 10));
            tally.add(&row(RowStanding::Bad, None), Duration::from_secs(at * 100));
        }
        let expected =
            Milestones { databases: 200, first_seconds: 0.01, half_seconds: 1.0, p99_seconds: 1.98, all_seconds: 2.0 };
        assert_eq!(tally.milestones(), Some(expected));
        assert_eq!((tally.databases(), tally.count(RowStanding::Bad), tally.classes["hole"]), (400, 200, 200));
        assert_eq!((tally.words["restored"], tally.words["failed"], tally.bytes), (200, 200, 4000));
        let mut one = Tally::default();
        one.add(&row(RowStanding::Degraded, None), Duration::from_millis(7));
        let Milestones { first_seconds, all_seconds, .. } = one.milestones().unwrap();
        assert_eq!((first_seconds, all_seconds), (0.007, 0.007));
    }

    #[test]
    fn ages_fall_into_groups_without_a_gap() {
        let mut tally = Tally::default();
        assert_eq!(tally.ages(String::new()).quantiles, None);
        let all = [0, 9, 10, 59, 60, 86_400, 86_401, 40 * DAY, u64::MAX];
        all.iter().for_each(|age| tally.add(&row(RowStanding::Good, Some(*age)), Duration::ZERO));
        tally.add(&row(RowStanding::Bad, None), Duration::ZERO);
        let ages = tally.ages("T".to_owned());
        let groups: Vec<u64> = ages.groups.iter().map(|group| group.databases).collect();
        assert_eq!(groups, [2, 2, 1, 0, 0, 0, 2, 0, 2]);
        assert_eq!((ages.databases, ages.older_than_a_day), (9, 3));
        assert_eq!(ages.groups.iter().map(|group| group.databases).sum::<u64>(), ages.databases);
        assert!(ages.groups.windows(2).all(|pair| pair[0].below_seconds == Some(pair[1].from_seconds)));
        let quantiles = ages.quantiles.unwrap();
        assert_eq!((quantiles.min, quantiles.p50, quantiles.max), (0, 60, u64::from(u32::MAX)));
    }
}
