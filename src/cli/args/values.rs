//! Parsers for the values of single flags. An error is the reason that the message `invalid value "X" for flag
//! -NAME: reason` ends with.

use crate::catalogue::Generation;
use crate::cli::args::resolved::{AsOf, BenchStage, LevelFilter, Shard};
use crate::cli::ui::failure::Failure;
use crate::cli::ui::log::LogFormat;
use crate::io::BackendChoice;
use crate::ltx::{Level, Txid};
use crate::restore::VerifyDepth;
use crate::timestamp::Timestamp;
use std::time::Duration;

/// Parses `-txid`: 1 to 16 hexadecimal digits. Zero stands for the newest state.
pub fn txid(text: &str) -> Result<Txid, String> {
    let ok = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    match u64::from_str_radix(text, 16) {
        Ok(value) if ok => Ok(Txid(value)),
        _ => Err("invalid txid format, expected 1 to 16 hexadecimal digits".to_owned()),
    }
}

/// Parses `-generation`: 16 hexadecimal digits, in small letters as in keys.
pub fn generation(text: &str) -> Result<Generation, String> {
    Generation::parse(text)
        .ok_or_else(|| "must be 16 lower-case hexadecimal digits, the name of a folder below generations/".to_owned())
}

/// Parses `-level`: a number from 0 to 9, or `all`.
pub fn level(text: &str) -> Result<LevelFilter, String> {
    if text == "all" {
        return Ok(LevelFilter::All);
    }
    let level = text.parse().ok().and_then(Level::new);
    level.map(LevelFilter::Only).ok_or_else(|| "level must be between 0 and 9".to_owned())
}

/// Parses an integer as Go's package `flag` does: decimal, or hexadecimal after `0x`. Unlike Go it accepts no
/// octal or binary numbers and no underscores.
pub fn integer(text: &str) -> Result<i64, String> {
    let (digits, negative) = match text.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (text.strip_prefix('+').unwrap_or(text), false),
    };
    let (digits, radix) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None => (digits, 10),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err("parse error".to_owned());
    }
    let sign = if negative { "-" } else { "" };
    i64::from_str_radix(&format!("{sign}{digits}"), radix).map_err(|_| "value out of range".to_owned())
}

/// Parses an integer of at least 1, such as the value of `-parallel`.
pub fn at_least_one(text: &str) -> Result<std::num::NonZeroUsize, String> {
    let value = integer(text)?;
    usize::try_from(value).ok().and_then(std::num::NonZeroUsize::new).ok_or_else(|| "must be at least 1".to_owned())
}

/// Parses an integer of at least 0, such as the value of `-max-retries`.
pub fn count(text: &str) -> Result<u32, String> {
    match integer(text)? {
        value if value < 0 => Err("must not be negative".to_owned()),
        value => u32::try_from(value).map_err(|_| "value out of range".to_owned()),
    }
}

/// Parses a size and returns it in bytes. A size is a number, with or without a decimal fraction, and a unit. The
/// units K, Ki, KiB to T, Ti, TiB are powers of 1024. KB to TB are powers of 1000. B or no unit means bytes. Case
/// does not matter.
pub fn size(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(split).unwrap_or((text, ""));
    let factor: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "ki" | "kib" => 1 << 10,
        "m" | "mi" | "mib" => 1 << 20,
        "g" | "gi" | "gib" => 1 << 30,
        "t" | "ti" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err("must be a size, e.g. 256MiB".to_owned()),
    };
    let bytes = scaled(number, factor).ok_or_else(|| "must be a size, e.g. 256MiB".to_owned())?;
    let bytes = u64::try_from(bytes).map_err(|_| "value out of range".to_owned())?;
    if bytes == 0 { Err("must be more than 0".to_owned()) } else { Ok(bytes) }
}

/// The least rate of listings: one in 100 s.
const LEAST_LIST_RATE: f64 = 0.01;
/// The smallest memory budget. Some files need more; their errors say so.
const LEAST_MEMORY_BYTES: u64 = 1 << 20;

/// Parses `-memory`: a size of at least 1 MiB. A number without a unit is a number of bytes.
pub fn memory(text: &str) -> Result<u64, String> {
    match size(text)? {
        bytes if bytes < LEAST_MEMORY_BYTES => Err("must be at least 1MiB; a unit may follow, e.g. 256MiB".to_owned()),
        bytes => Ok(bytes),
    }
}

/// Multiplies the decimal number in the text `number` by `factor`, and rounds down. None if the text is not a
/// decimal number with at most 20 digits before and 9 after the point.
fn scaled(number: &str, factor: u64) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || whole.len() > 20 || fraction.len() > 9 || (fraction.is_empty() && number.contains('.')) {
        return None;
    }
    let mut bytes = whole.parse::<u128>().ok()? * u128::from(factor);
    if !fraction.is_empty() {
        let digits = u32::try_from(fraction.len()).ok()?;
        bytes += fraction.parse::<u128>().ok()? * u128::from(factor) / 10u128.pow(digits);
    }
    Some(bytes)
}

/// Parses `-limit-rate`: a size, in bytes per second.
pub fn rate(text: &str) -> Result<u64, String> {
    const LEAST: u64 = 64 << 10;
    size(text).and_then(|rate| if rate < LEAST { Err("must be at least 64KiB".to_owned()) } else { Ok(rate) })
}

/// Parses a number of listings per second (`-list-rate`).
pub fn list_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "must be a number, e.g. 5 or 0.5".to_owned())?;
    if rate.is_finite() && rate >= LEAST_LIST_RATE { Ok(rate) } else { Err("must be at least 0.01".to_owned()) }
}

/// Parses a mode of permissions: three octal digits, or four of which the first is 0.
pub fn mode(text: &str) -> Result<u32, String> {
    crate::config::parse_mode(text).ok_or_else(|| "must be octal permissions, e.g. 0640".to_owned())
}

/// Parses a duration in Go's notation (`500ms`, `1m30s`). It must not be negative.
pub fn duration(text: &str) -> Result<Duration, String> {
    crate::config::parse_go_duration(text).map_err(|_| "parse error".to_owned())
}

/// Parses `-io-engine`: auto, uring or pwrite.
pub fn engine(text: &str) -> Result<BackendChoice, String> {
    text.parse().map_err(|_| "must be auto, uring or pwrite".to_owned())
}

/// Parses `-log-format`: text or json.
pub fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("must be text or json".to_owned()),
    }
}

/// Parses `-shard`: the index of a share and the number of shares, as `I/N` with 0 ≤ I < N.
pub fn shard(text: &str) -> Result<Shard, String> {
    let parsed = text.split_once('/').and_then(|(index, of)| Some((decimal(index)?, decimal(of)?)));
    match parsed {
        Some((index, of)) if index < of => Ok(Shard { index, of }),
        Some(_) => Err("must be I/N with 0 <= I < N".to_owned()),
        None => Err("must be I/N, e.g. 0/4".to_owned()),
    }
}

/// Parses a number that consists of decimal digits only. Rust's own parser would also accept a `+`.
fn decimal(text: &str) -> Option<u32> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Parses `-depth`: plan, headers, full or sqlite.
pub fn depth(text: &str) -> Result<VerifyDepth, String> {
    let all = [VerifyDepth::Plan, VerifyDepth::Headers, VerifyDepth::Full, VerifyDepth::Sqlite];
    let named = all.into_iter().find(|depth| depth.as_str() == text);
    named.ok_or_else(|| "must be plan, headers, full or sqlite".to_owned())
}

/// Parses an age: a duration in Go's notation, or a number of days such as `7d`.
pub fn age(text: &str) -> Result<Duration, String> {
    let days = text.strip_suffix('d').and_then(decimal).map(|days| Duration::from_secs(u64::from(days) * 86_400));
    days.map_or_else(|| duration(text).map_err(|_| "must be an age, e.g. 36h or 7d".to_owned()), Ok)
}

/// Parses `-stage`: list, fetch, decode or all.
pub fn bench_stage(text: &str) -> Result<BenchStage, String> {
    let named = BenchStage::EACH.into_iter().find(|stage| stage.as_str() == text);
    named.ok_or_else(|| "must be list, fetch, decode or all".to_owned())
}

/// Checks that `text` is a valid glob (docs/CLI.md, "hydrant restore-pattern") and returns it unchanged.
pub fn glob(text: &str) -> Result<String, String> {
    crate::fleet::glob(text).map(|_| text.to_owned())
}

/// Parses `-as-of`: an RFC 3339 time, or `last`. An empty text is an error: a script whose variable is not set must not
/// restore the present in place of the past.
pub fn as_of(text: &str) -> Result<AsOf, Failure> {
    match text {
        "last" => Ok(AsOf::Last),
        "" => Err(Failure::usage("an empty -as-of: give an RFC 3339 time, or leave the flag out")),
        text => match timestamp_of("as-of", text)? {
            Some(time) => Ok(AsOf::Time(time)),
            None => Err(Failure::internal("a time that is not empty was read as none")),
        },
    }
}

/// Parses `-timestamp`: an RFC 3339 time. An empty text counts as if the flag was not given (None).
pub fn timestamp(text: &str) -> Result<Option<Timestamp>, Failure> {
    timestamp_of("timestamp", text)
}

/// Parses the time of another flag in the same way.
pub fn timestamp_of(flag: &str, text: &str) -> Result<Option<Timestamp>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || format!("invalid -{flag}, must specify in ISO 8601 format (e.g. 2000-01-01T00:00:00Z)");
    Timestamp::parse_rfc3339(text).map(Some).ok_or_else(|| Failure::usage(wrong()))
}
