//! Points in time as nanoseconds since the Unix epoch, and their text form in RFC 3339.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A point in time: nanoseconds since 1970-01-01T00:00:00Z. The range is the years 1677 to 2262. A time outside
/// becomes [`Self::MIN`] or [`Self::MAX`], because an LTX header may hold any number of milliseconds. The default is
/// the epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The earliest time, in the year 1677.
    pub const MIN: Self = Self(i64::MIN);
    /// The latest time, in the year 2262.
    pub const MAX: Self = Self(i64::MAX);

    /// The time `nanos` nanoseconds after the epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// The time `ms` milliseconds after the epoch, the unit of LTX headers. A time out of range becomes
    /// [`Self::MIN`] or [`Self::MAX`].
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms.saturating_mul(1_000_000))
    }

    /// The number of nanoseconds since the epoch.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// The present time of the system's clock.
    pub fn now() -> Self {
        Self::from_system_time(SystemTime::now())
    }

    /// Converts a time of the system, for example the mtime of a file. A time out of range becomes [`Self::MIN`] or
    /// [`Self::MAX`]: file systems can hold times after the year 9999.
    pub fn from_system_time(t: SystemTime) -> Self {
        Self(match t.duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            Err(e) => i64::try_from(e.duration().as_nanos()).map_or(i64::MIN, |before| -before),
        })
    }

    /// Parses a time in RFC 3339, which may have a fraction of a second and an offset. A date without a time is
    /// refused, and so is a space in place of the `T`.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        if !matches!(text.as_bytes().get(10), Some(b'T' | b't')) {
            return None;
        }
        OffsetDateTime::parse(text, &Rfc3339).ok().map(Self::from_offset)
    }

    /// The time in UTC without a fraction of a second, for example `2026-11-22T01:31:45Z`.
    pub fn to_rfc3339_seconds(self) -> String {
        let whole = OffsetDateTime::from_unix_timestamp(self.0.div_euclid(1_000_000_000));
        whole.ok().and_then(|whole| whole.format(&Rfc3339).ok()).unwrap_or_else(|| self.to_string())
    }

    /// The whole seconds from this time to `later`. 0 if `later` is before it.
    pub fn seconds_until(self, later: Self) -> u64 {
        u64::try_from(later.0.saturating_sub(self.0)).unwrap_or(0) / 1_000_000_000
    }

    /// The time `nanos` nanoseconds later, at most [`Self::MAX`].
    pub const fn saturating_add_nanos(self, nanos: i64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    fn from_offset(t: OffsetDateTime) -> Self {
        let nanos = t.unix_timestamp_nanos();
        Self(i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX }))
    }
}

/// Prints RFC 3339 in UTC. The fraction of a second has as many digits as necessary.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text =
            OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0)).ok().and_then(|t| t.format(&Rfc3339).ok());
        match text {
            Some(text) => f.write_str(&text),
            None => write!(f, "{} ns after the epoch", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn rfc3339_round_trip_and_refusals() {
        let t = Timestamp::parse_rfc3339("2026-11-22T01:32:36.21Z").unwrap();
        assert_eq!(t.to_string(), "2026-11-22T01:32:36.21Z");
        assert_eq!(t.to_rfc3339_seconds(), "2026-11-22T01:32:36Z");
        assert_eq!(Timestamp::parse_rfc3339("2026-11-22T02:32:36.21+01:00"), Some(t));
        assert_eq!(Timestamp::parse_rfc3339("2026-11-22 01:32:36Z"), None);
        assert_eq!(Timestamp::parse_rfc3339("2026-11-22"), None);
        assert_eq!(Timestamp::from_millis(i64::MAX), Timestamp::MAX);
        assert!(!Timestamp::MIN.to_string().is_empty());
        assert_eq!(Timestamp::MIN.to_rfc3339_seconds(), "1677-09-21T00:12:43Z");
        assert_eq!(Timestamp::MAX.to_rfc3339_seconds(), "2262-04-11T23:47:16Z");
    }

    #[test]
    fn times_of_files_saturate() {
        let years = |n: u64| Duration::from_secs(n * 31_556_952);
        let after = |n| Timestamp::from_system_time(UNIX_EPOCH + years(n));
        let before = |n| Timestamp::from_system_time(UNIX_EPOCH - years(n));
        assert_eq!(after(50), Timestamp::from_millis(50 * 31_556_952_000));
        assert_eq!(before(50), Timestamp::from_millis(-50 * 31_556_952_000));
        assert_eq!((after(1_000), after(100_000)), (Timestamp::MAX, Timestamp::MAX));
        assert_eq!((before(1_000), before(100_000)), (Timestamp::MIN, Timestamp::MIN));
    }
}
