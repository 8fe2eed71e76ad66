//! A histogram of ages.

/// The upper bounds of the histogram's buckets, in seconds: 1, 5, 15 and 30 minutes, 1, 3, 6 and 12 hours, 1, 2, 7 and
/// 30 days. Recovery objectives are usually one of these. An age on a bound is within it.
pub const AGE_BOUNDS_SECONDS: [u64; 12] =
    [60, 300, 900, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 2_592_000];

/// How many ages fall into each bucket of [`AGE_BOUNDS_SECONDS`], their number, their sum and the greatest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgeHistogram {
    counts: [u64; AGE_BOUNDS_SECONDS.len()],
    count: u64,
    sum_seconds: u64,
    max_seconds: Option<u64>,
}

impl AgeHistogram {
    /// Adds one age.
    pub fn add(&mut self, seconds: u64) {
        let bucket = AGE_BOUNDS_SECONDS.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.count += 1;
        self.sum_seconds = self.sum_seconds.saturating_add(seconds);
        self.max_seconds = self.max_seconds.max(Some(seconds));
    }

    /// For each bound, how many ages are not above it. These numbers ascend.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        AGE_BOUNDS_SECONDS.into_iter().zip(&self.counts).scan(0, |sum, (bound, count)| {
            *sum += count;
            Some((bound, *sum))
        })
    }

    /// The number of ages.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The sum of the ages in seconds.
    pub fn sum_seconds(&self) -> u64 {
        self.sum_seconds
    }

    /// The greatest age in seconds. None: there is no age.
    pub fn max_seconds(&self) -> Option<u64> {
        self.max_seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_on_a_bound_is_within_it() {
        let mut ages = AgeHistogram::default();
        assert_eq!((ages.count(), ages.max_seconds()), (0, None));
        for age in [0, 60, 61, 86_400, 86_401, u64::MAX] {
            ages.add(age);
        }
        let below = |bound| ages.cumulative().find(|(found, _)| *found == bound).unwrap().1;
        assert_eq!([60, 300, 43_200, 86_400, 172_800, 2_592_000].map(below), [2, 3, 3, 4, 5, 5]);
        assert_eq!((ages.count(), ages.sum_seconds(), ages.max_seconds()), (6, u64::MAX, Some(u64::MAX)));
        assert!(AGE_BOUNDS_SECONDS.is_sorted());
    }
}
