//! Parses durations in the syntax of Go, which litestream.yml and the command line use: `5s`, `1m30s`, `500ms`,
//! `1.5h`.

use std::time::Duration;
use thiserror::Error;

/// Why a text is no duration. [`parse_go_duration`] returns it, for flags and for litestream.yml.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DurationError {
    /// No number where one is expected, or none at all.
    #[error("not a duration such as 5s, 1m30s or 500ms")]
    Malformed,
    /// A number without `ns`, `us`, `ms`, `s`, `m` or `h`.
    #[error("missing unit in duration (ns, us, ms, s, m, h)")]
    MissingUnit,
    /// A number with other letters behind it.
    #[error("unknown unit in duration (ns, us, ms, s, m, h)")]
    UnknownUnit,
    /// Less than zero.
    #[error("duration must not be negative")]
    Negative,
    /// Beyond what Go holds, about 292 years.
    #[error("duration too long")]
    TooLong,
}

/// Parses Go's `time.ParseDuration` syntax; a bare `0` needs no unit. Negative durations, which
/// mean nothing here, are refused.
pub fn parse_go_duration(text: &str) -> Result<Duration, DurationError> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let mut rest = unsigned;
    let mut total_ns: u64 = 0;
    if rest.is_empty() {
        return Err(DurationError::Malformed);
    }
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    // This loop ends: each turn takes a number of at least one digit from the text, or returns an error.
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(DurationError::Malformed);
        }
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end).unwrap_or((after, ""));
        let part_ns = scaled(whole, fraction, unit_ns(unit)?)?;
        total_ns = total_ns.checked_add(part_ns).filter(|&ns| ns <= MAX_NS).ok_or(DurationError::TooLong)?;
        rest = after;
    }
    if text.starts_with('-') && total_ns > 0 {
        return Err(DurationError::Negative);
    }
    Ok(Duration::from_nanos(total_ns))
}

const MAX_NS: u64 = i64::MAX as u64;

fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

fn unit_ns(unit: &str) -> Result<u64, DurationError> {
    match unit {
        "ns" => Ok(1),
        "us" | "µs" | "μs" => Ok(1_000),
        "ms" => Ok(1_000_000),
        "s" => Ok(1_000_000_000),
        "m" => Ok(60 * 1_000_000_000),
        "h" => Ok(3_600 * 1_000_000_000),
        "" => Err(DurationError::MissingUnit),
        _ => Err(DurationError::UnknownUnit),
    }
}

/// Converts the number `whole.fraction` of a unit of `unit_ns` nanoseconds to nanoseconds. Fractions of a
/// nanosecond are cut off.
fn scaled(whole: &str, fraction: &str, unit_ns: u64) -> Result<u64, DurationError> {
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| DurationError::TooLong)? };
    let mut ns = whole.checked_mul(unit_ns).ok_or(DurationError::TooLong)?;
    // Only 15 digits of the fraction are read. Further digits are below one nanosecond for every unit up to an
    // hour.
    let mut place = 1_u128;
    let mut value = 0_u128;
    for digit in fraction.bytes().take(15) {
        value = value * 10 + u128::from(digit.wrapping_sub(b'0'));
        place *= 10;
    }
    let extra = value * u128::from(unit_ns) / place;
    ns = u64::try_from(extra).ok().and_then(|extra| ns.checked_add(extra)).ok_or(DurationError::TooLong)?;
    Ok(ns)
}
