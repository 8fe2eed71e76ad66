//! The figures of a page that do not run over time: latencies by stage and ages.

use crate::human;
use crate::report::answer::shown_time;
use crate::report::document::ReportDocument;
use crate::report::html::scale::short;
use crate::report::tally::AgeGroup;
use crate::telemetry::Quantiles;
use maud::{Markup, html};

const WIDTH: f64 = 480.0;
const ROW: f64 = 24.0;

/// A histogram of the ages of the states. None: no state has a known time.
pub(super) fn ages(document: &ReportDocument<'_>) -> Option<Markup> {
    let ages = &document.ages;
    let most = ages.groups.iter().map(|group| group.databases).max().filter(|most| *most > 0)?;
    let (left, right) = (112.0, 62.0);
    let width = |group: &AgeGroup| (WIDTH - left - right) * group.databases as f64 / most as f64;
    let height = ages.groups.len() as f64 * ROW + 4.0;
    let not_known = document.tally.databases().saturating_sub(ages.databases);
    Some(html! {
        figure #ages {
            h3 { "How old the states are" }
            svg role="img" aria-label="Histogram of the ages of the states" viewBox={ "0 0 " (WIDTH) " " (height) } {
                @for (index, group) in ages.groups.iter().enumerate() {
                    @let y = index as f64 * ROW;
                    text x=(left - 8.0) y=(short(y + 16.0)) text-anchor="end" { (age_label(group)) }
                    rect .bar x=(left) y=(short(y + 4.0)) width=(short(width(group))) height=(ROW - 8.0) {}
                    text .strong data-age=(group.from_seconds) x=(short(left + width(group) + 6.0)) y=(short(y + 16.0)) {
                        (human::thousands(group.databases))
                    }
                }
                line .axis x1=(left) x2=(left) y1="0" y2=(height) {}
            }
            figcaption {
                "Databases by the age of their state, measured from " (shown_time(&ages.reference)) "."
                @if not_known > 0 { " " (human::count(not_known, "database")) " without a known state." }
            }
        }
    })
}

fn age_label(group: &AgeGroup) -> String {
    match group.below_seconds {
        Some(below) if group.from_seconds == 0 => format!("below {}", age(below)),
        Some(below) => format!("{} – {}", age(group.from_seconds), age(below)),
        None => format!("{} and more", age(group.from_seconds)),
    }
}

/// An age in the shortest form: `10 s`, `6 h`, `7 d`.
fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Latencies by stage: the range of each, and all quantiles as a table. None: nothing was measured.
pub(super) fn latencies(document: &ReportDocument<'_>) -> Option<Markup> {
    let stages = document.end.stages.iter();
    let rows: Vec<(&str, Quantiles)> =
        stages.filter_map(|(stage, durations)| Some((stage.as_str(), durations.quantiles()?))).collect();
    let shortest = rows.iter().map(|(_, q)| q.p50_ms).fold(f64::INFINITY, f64::min).max(1e-3);
    let longest = rows.iter().map(|(_, q)| q.max_ms).fold(1e-3, f64::max);
    if rows.is_empty() {
        return None;
    }
    // Whole decades: latencies differ by orders of magnitude.
    let first = shortest.log10().floor();
    let last = longest.log10().ceil().max(first + 1.0);
    let (left, right) = (70.0, 16.0);
    let x = |ms: f64| {
        let share = (ms.max(1e-3).log10() - first) / (last - first);
        left + (WIDTH - left - right) * share.clamp(0.0, 1.0)
    };
    let height = rows.len() as f64 * ROW;
    let decades = (0..=(last - first) as i32).map(|n| first + f64::from(n));
    Some(html! {
        figure #latencies {
            h3 { "Latencies by stage" }
            svg role="img" aria-label="Latencies by stage" viewBox={ "0 0 " (WIDTH) " " (short(height + 26.0)) } {
                @for decade in decades {
                    @let at = short(x(10_f64.powf(decade)));
                    line .grid x1=(at) x2=(at) y1="0" y2=(height) {}
                    text x=(at) y=(short(height + 17.0)) text-anchor="middle" { (decade_label(decade)) }
                }
                @for (index, (stage, q)) in rows.iter().enumerate() {
                    @let middle = (index as f64 + 0.5) * ROW;
                    text .strong x=(left - 8.0) y=(short(middle + 4.0)) text-anchor="end" { (stage_label(stage)) }
                    line .thin x1=(short(x(q.p50_ms))) x2=(short(x(q.max_ms))) y1=(short(middle)) y2=(short(middle)) {}
                    rect .bar x=(short(x(q.p50_ms))) y=(short(middle - 4.0)) height="8"
                        width=(short((x(q.p99_ms) - x(q.p50_ms)).max(1.0))) {}
                    line .tick x1=(short(x(q.p50_ms))) x2=(short(x(q.p50_ms))) y1=(short(middle - 7.0)) y2=(short(middle + 7.0)) {}
                }
            }
            figcaption { "The tick is the median, the bar ends at the 99th percentile, the line at the longest." }
            div .scroll {
                table {
                    thead {
                        tr {
                            th scope="col" { "ms" }
                            @for name in ["count", "p50", "p90", "p99", "p99.9", "max"] { th .n scope="col" { (name) } }
                        }
                    }
                    tbody {
                        @for (stage, q) in &rows {
                            tr {
                                th scope="row" { (stage_label(stage)) }
                                td .n { (human::thousands(q.count)) }
                                @for ms in [q.p50_ms, q.p90_ms, q.p99_ms, q.p999_ms, q.max_ms] { td .n { (millis(ms)) } }
                            }
                        }
                    }
                }
            }
        }
    })
}

/// The name of a stage in a figure.
fn stage_label(stage: &str) -> String {
    stage.replace('_', " ")
}

fn decade_label(exponent: f64) -> String {
    match exponent as i32 {
        ..=-1 => format!("{} µs", short(10_f64.powf(exponent + 3.0))),
        0..=2 => format!("{} ms", short(10_f64.powf(exponent))),
        _ => format!("{} s", human::thousands(10_f64.powf(exponent - 3.0) as u64)),
    }
}

/// Milliseconds with at least three digits, as the table of `-v` has them.
fn millis(ms: f64) -> String {
    match ms {
        ..9.995 => format!("{ms:.2}"),
        ..99.95 => format!("{ms:.1}"),
        _ => human::thousands(ms.round() as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        assert_eq!(
            [-3.0, -1.0, 0.0, 2.0, 3.0, 6.0].map(decade_label),
            ["1 µs", "100 µs", "1 ms", "100 ms", "1 s", "1,000 s"]
        );
        let group = |from_seconds, below_seconds| age_label(&AgeGroup { from_seconds, below_seconds, databases: 0 });
        assert_eq!(group(0, Some(10)), "below 10 s");
        assert_eq!(group(3_600, Some(21_600)), "1 h – 6 h");
        assert_eq!(group(2_764_800, None), "32 d and more");
        assert_eq!([0.5, 12.34, 1234.5].map(millis), ["0.50", "12.3", "1,235"]);
    }
}
