//! Formats numbers for people: sizes in binary units, speeds, durations, counts.

use std::time::Duration;

/// Formats a size in bytes with a binary unit and at most four digits: `1023 B`, `1.0 KiB`, `12.3 MiB`,
/// `456 GiB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = "KiB";
    for next in UNITS.into_iter().skip(1) {
        // 1023.5 and more would be rounded to 1024, so the next unit is used.
        if value < 1023.5 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if value < 99.95 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// Formats a speed, given in bytes per second: `812 MiB/s`. Negative, infinite and undefined speeds are shown
/// as `0 B/s`.
pub fn speed(bytes_per_second: f64) -> String {
    let whole = if bytes_per_second.is_finite() && bytes_per_second > 0.0 { bytes_per_second as u64 } else { 0 };
    format!("{}/s", bytes(whole))
}

/// Formats a duration, rounded down: `640 ms`, `12.3 s`, `4m05s`, `2h03m`.
pub fn duration(d: Duration) -> String {
    let seconds = d.as_secs();
    match seconds {
        0 => format!("{} ms", d.as_millis()),
        1..60 => format!("{}.{} s", seconds, d.subsec_millis() / 100),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// Formats an age, rounded down to its largest unit: `5 seconds`, `3 hours`, `12 days`.
pub fn age(seconds: u64) -> String {
    match seconds {
        0..60 => count(seconds, "second"),
        60..3_600 => count(seconds / 60, "minute"),
        3_600..86_400 => count(seconds / 3_600, "hour"),
        _ => count(seconds / 86_400, "day"),
    }
}

/// Formats the time left of a run as a clock: `0:09`, `12:34`, `3:02:01`. From 100 hours on it is `>99h`.
pub fn clock(d: Duration) -> String {
    let seconds = d.as_secs();
    match seconds {
        0..3600 => format!("{}:{:02}", seconds / 60, seconds % 60),
        3600..360_000 => format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
        _ => ">99h".to_owned(),
    }
}

/// Formats a count with its noun, to which an `s` is added unless the count is 1: `1 file`, `12,345 files`.
pub fn count(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", thousands(n), if n == 1 { "" } else { "s" })
}

/// Formats a number with a comma between groups of three digits: `1,234,567`.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use crate::human::*;

    #[test]
    fn sizes() {
        let table = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (102_349, "100 KiB"),
            (1_048_575, "1.0 MiB"),
            (1_181_116_006, "1.1 GiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (n, text) in table {
            assert_eq!(bytes(n), text, "{n}");
        }
        assert_eq!(speed(f64::NAN), "0 B/s");
        assert_eq!(speed(2_097_152.0), "2.0 MiB/s");
    }

    #[test]
    fn times_and_counts() {
        assert_eq!(duration(Duration::from_millis(640)), "640 ms");
        assert_eq!(duration(Duration::from_millis(12_345)), "12.3 s");
        assert_eq!(duration(Duration::from_secs(245)), "4m05s");
        assert_eq!(duration(Duration::from_secs(7_400)), "2h03m");
        assert_eq!([age(59), age(60), age(7_199), age(86_400 * 12)], ["59 seconds", "1 minute", "1 hour", "12 days"]);
        assert_eq!(clock(Duration::from_secs(9)), "0:09");
        assert_eq!(clock(Duration::from_secs(10_921)), "3:02:01");
        assert_eq!(clock(Duration::MAX), ">99h");
        assert_eq!(count(1, "file"), "1 file");
        assert_eq!(count(12_345, "file"), "12,345 files");
        assert_eq!(thousands(100), "100");
        assert_eq!(thousands(1_000_000), "1,000,000");
    }
}
