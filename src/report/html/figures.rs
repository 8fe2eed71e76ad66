//! The figures of a page, as SVG within it: the recovery curve and what happened over time.

use crate::human;
use crate::report::answer::seconds;
use crate::report::document::ReportDocument;
use crate::report::html::scale::{Plot, byte_label, byte_steps, short, time_label, time_steps, whole_steps};
use crate::report::tally::Milestones;
use crate::report::timeline::{Interval, merged};
use maud::{Markup, html};

/// A figure has at most 240 points: more than that are closer than a screen can show. Neighbours are added up.
const MOST_POINTS: usize = 240;
/// The width of every figure, in the unit of its letters, which are 12 high.
const WIDTH: f64 = 480.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 12.0;
/// The width of a letter on average, for labels that must not overlap.
const LETTER: f64 = 6.2;

/// The intervals that a figure shows.
pub(super) fn drawn(intervals: &[Interval]) -> Vec<Interval> {
    match intervals.len().div_ceil(MOST_POINTS) {
        0 | 1 => intervals.to_vec(),
        by => merged(intervals, by),
    }
}

/// The lines and labels of both axes. Of figures below each other only the last one has labels of its times.
fn axes(plot: &Plot, x: &[f64], y: &[(f64, String)], is_last: bool) -> Markup {
    html! {
        @for (value, label) in y {
            @let at = short(plot.y(*value));
            line .grid x1=(plot.left) x2=(plot.right()) y1=(at) y2=(at) {}
            text x=(plot.left - 6.0) y=(short(plot.y(*value) + 4.0)) text-anchor="end" { (label) }
        }
        @for value in x {
            @let at = short(plot.x(*value));
            line .axis x1=(at) x2=(at) y1=(short(plot.bottom())) y2=(short(plot.bottom() + 4.0)) {}
            @if is_last {
                text x=(at) y=(short(plot.bottom() + 17.0)) text-anchor="middle" { (time_label(*value)) }
            }
        }
        line .axis x1=(plot.left) x2=(plot.right()) y1=(short(plot.bottom())) y2=(short(plot.bottom())) {}
    }
}

/// The curve of a sum over time, from nothing at the start.
fn sums(plot: &Plot, intervals: &[Interval], of: fn(&Interval) -> u64) -> String {
    let mut sum = 0;
    let mut points = vec![plot.point(0.0, 0.0)];
    for interval in intervals {
        sum += of(interval);
        points.push(plot.point(interval.seconds, sum as f64));
    }
    points.join(" ")
}

/// The recovery curve: databases done over time, with the marks.
pub(super) fn recovery(document: &ReportDocument<'_>) -> Markup {
    let intervals = drawn(&document.end.timeline);
    let failed: u64 = intervals.iter().map(|interval| interval.failed).sum();
    let forecast = document.end.forecast.as_ref();
    let is_disk_measured = forecast.is_some_and(|forecast| forecast.disk_bytes_per_second.is_some());
    let all = (document.tally.databases() + document.end.not_reached) as f64;
    let marks = document.milestones.map(marks).unwrap_or_default();
    let labels = placed(&marks, document.end.run.seconds);
    let rows = labels.iter().map(|(row, _)| row + 1).max().unwrap_or(0);
    let top = 10.0 + 14.0 * rows as f64;
    let x_max = document.end.run.seconds.max(intervals.last().map_or(0.0, |last| last.seconds));
    let plot = Plot { left: LEFT, top, width: WIDTH - LEFT - RIGHT, height: 230.0, x_max, y_max: all.max(1.0) };
    let count = |value: f64| (value, human::thousands(value as u64));
    html! {
        figure #recovery {
            h3 { "Databases done over time" }
            svg role="img" aria-label="Databases done over time" viewBox={ "0 0 " (WIDTH) " " (short(plot.bottom() + 24.0)) }
                data-plot=(plot.attribute()) {
                (axes(&plot, &time_steps(x_max, 6.0), &whole_steps(plot.y_max, 5.0).into_iter().map(count).collect::<Vec<_>>(), true))
                polyline .area points={
                    (sums(&plot, &intervals, |interval| interval.done)) " "
                    (plot.point(intervals.last().map_or(0.0, |last| last.seconds), 0.0))
                } {}
                @for (mark, (row, x)) in marks.iter().zip(&labels) {
                    @let at = short(plot.x(mark.seconds));
                    line .mark x1=(at) x2=(at) y1=(short(4.0 + 14.0 * (*row as f64 + 1.0))) y2=(short(plot.y(mark.databases))) {}
                    text .strong x=(short(*x)) y=(short(12.0 + 14.0 * *row as f64)) text-anchor="middle" { (mark.label) }
                }
                polyline .curve data-series="done" points=(sums(&plot, &intervals, |interval| interval.done)) {}
                @if failed > 0 {
                    polyline .failed data-series="failed" points=(sums(&plot, &intervals, |interval| interval.failed)) {}
                }
                @for mark in &marks {
                    circle .dot data-mark=(mark.name) data-seconds=(mark.seconds) r="3.5"
                        cx=(short(plot.x(mark.seconds))) cy=(short(plot.y(mark.databases))) {}
                }
            }
            figcaption {
                "The time begins with the command, so it holds the listing"
                @if is_disk_measured { " and the measurement of the disk" }
                " too."
                @if failed > 0 { " The red line counts the databases that failed." }
            }
        }
    }
}

/// One mark of the recovery curve.
struct Mark {
    name: &'static str,
    label: String,
    seconds: f64,
    databases: f64,
}

fn marks(milestones: Milestones) -> Vec<Mark> {
    let Milestones { databases, first_seconds, half_seconds, p99_seconds, all_seconds } = milestones;
    let share = |share: f64| (databases as f64 * share).ceil().max(1.0);
    let mark = |name, at, databases| Mark { name, label: format!("{name} {}", seconds(at)), seconds: at, databases };
    vec![
        mark("first", first_seconds, 1.0),
        mark("half", half_seconds, share(0.5)),
        mark("99 %", p99_seconds, share(0.99)),
        mark("all", all_seconds, share(1.0)),
    ]
}

/// The row and the middle of each label, so that none covers another. Marks come in order of time.
fn placed(marks: &[Mark], x_max: f64) -> Vec<(usize, f64)> {
    let plot = Plot { left: LEFT, top: 0.0, width: WIDTH - LEFT - RIGHT, height: 1.0, x_max, y_max: 1.0 };
    let mut ends: Vec<f64> = Vec::new();
    let mut place = |mark: &Mark| {
        let half = mark.label.chars().count() as f64 * LETTER / 2.0;
        let x = plot.x(mark.seconds).clamp(half, WIDTH - half);
        let row = ends.iter().position(|end| *end + 8.0 < x - half).unwrap_or(ends.len());
        match ends.get_mut(row) {
            Some(end) => *end = x + half,
            None => ends.push(x + half),
        }
        (row, x)
    };
    marks.iter().map(&mut place).collect()
}

/// One strip of the figure over time.
struct Strip {
    title: String,
    /// What is counted, per second.
    of: fn(&Interval) -> u64,
    /// A second count in the same strip.
    second: Option<fn(&Interval) -> u64>,
    is_bytes: bool,
    class: &'static str,
    series: &'static str,
}

/// Throughput, requests and throttling over time. None: nothing was counted.
pub(super) fn traffic(document: &ReportDocument<'_>) -> Option<Markup> {
    let intervals = drawn(&document.end.timeline);
    let sum = |of: fn(&Interval) -> u64| intervals.iter().map(of).sum::<u64>();
    let (received, written) = (sum(|i| i.bytes), sum(|i| i.bytes_written));
    let mut strips = Vec::new();
    let bytes: [fn(&Interval) -> u64; 2] = [|i| i.bytes, |i| i.bytes_written];
    let strip = |title: String, of, series| Strip { title, of, second: None, is_bytes: false, class: "area", series };
    match (received, written) {
        (0, 0) => {}
        (0, _) => strips
            .push(Strip { is_bytes: true, ..strip("Bytes written per second".to_owned(), bytes[1], "bytes_written") }),
        (_, 0) => {
            strips.push(Strip { is_bytes: true, ..strip("Bytes received per second".to_owned(), bytes[0], "bytes") })
        }
        _ => strips.push(Strip {
            is_bytes: true,
            second: Some(bytes[1]),
            ..strip("Bytes received (area) and written (dashed) per second".to_owned(), bytes[0], "bytes")
        }),
    }
    if sum(|i| i.requests) > 0 {
        strips.push(strip("Requests per second".to_owned(), |i| i.requests, "requests"));
        let throttled = sum(|i| i.throttled);
        if throttled > 0 {
            let title = format!("Throttled answers per second: {} in all", human::thousands(throttled));
            strips.push(Strip { class: "throttle", ..strip(title, |i| i.throttled, "throttled") });
        }
    }
    if strips.is_empty() {
        return None;
    }
    let height = if strips.len() > 2 { 68.0 } else { 100.0 };
    let x_max = document.end.run.seconds.max(intervals.last().map_or(0.0, |last| last.seconds));
    let place = |index: usize, strip: &Strip| {
        let rates = intervals.iter().zip(lengths(&intervals)).map(|(interval, length)| {
            let second = strip.second.map_or(0, |of| of(interval));
            (strip.of)(interval).max(second) as f64 / length
        });
        let y_max = rates.fold(0.0, f64::max) * 1.05;
        let top = 20.0 + index as f64 * (height + 36.0);
        Plot { left: LEFT, top, width: WIDTH - LEFT - RIGHT, height, x_max, y_max }
    };
    let placed: Vec<(Plot, Strip)> =
        strips.into_iter().enumerate().map(|(i, strip)| (place(i, &strip), strip)).collect();
    let bottom = placed.last().map_or(0.0, |(plot, _)| plot.bottom() + 24.0);
    Some(html! {
        figure #traffic {
            h3 { "Throughput, requests and throttling over time" }
            svg role="img" aria-label="Throughput, requests and throttling over time" viewBox={ "0 0 " (WIDTH) " " (short(bottom)) } {
                @for (plot, strip) in &placed {
                    text .strong x=(plot.left) y=(short(plot.top - 7.0)) { (strip.title) }
                    (axes(plot, &time_steps(x_max, 6.0), &labels(strip, plot.y_max), plot.bottom() + 24.0 >= bottom))
                    polygon .(strip.class) data-series=(strip.series) data-plot=(plot.attribute()) points=(rates(plot, &intervals, strip.of)) {}
                    @if strip.class == "area" {
                        polyline .curve points=(rates(plot, &intervals, strip.of)) {}
                    }
                    @if let Some(of) = strip.second {
                        polyline .second points=(rates(plot, &intervals, of)) {}
                    }
                }
            }
            figcaption {
                @if document.end.requests_repeated > 0 {
                    (human::count(document.end.requests_repeated, "request")) " of these had to be sent again."
                } @else if sum(|i| i.requests) > 0 {
                    "No request had to be sent again."
                } @else {
                    "The replicas lie on a local disk: no requests are sent."
                }
            }
        }
    })
}

fn labels(strip: &Strip, y_max: f64) -> Vec<(f64, String)> {
    if strip.is_bytes {
        return byte_steps(y_max, 3.0).into_iter().map(|value| (value, byte_label(value))).collect();
    }
    whole_steps(y_max, 3.0).into_iter().map(|value| (value, human::thousands(value as u64))).collect()
}

/// The seconds that each interval takes.
fn lengths(intervals: &[Interval]) -> impl Iterator<Item = f64> {
    let starts = std::iter::once(0.0).chain(intervals.iter().map(|interval| interval.seconds));
    starts.zip(intervals).map(|(start, interval)| (interval.seconds - start).max(1e-3))
}

/// The outline of rates: level within each interval, and down to zero at both ends.
fn rates(plot: &Plot, intervals: &[Interval], of: fn(&Interval) -> u64) -> String {
    let mut points = vec![plot.point(0.0, 0.0)];
    let mut end = 0.0;
    for (interval, length) in intervals.iter().zip(lengths(intervals)) {
        let rate = of(interval) as f64 / length;
        points.push(plot.point(end, rate));
        end = interval.seconds;
        points.push(plot.point(end, rate));
    }
    points.push(plot.point(end, 0.0));
    points.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_at_one_place_have_labels_of_their_own() {
        let at = |all_seconds| {
            let milestones =
                Milestones { databases: 1000, first_seconds: 0.1, half_seconds: 0.2, p99_seconds: 9.9, all_seconds };
            placed(&marks(milestones), 10.0)
        };
        let rows = |placed: Vec<(usize, f64)>| placed.into_iter().map(|(row, _)| row).collect::<Vec<_>>();
        assert_eq!(rows(at(10.0)), [0, 1, 0, 1]);
        let all = at(10.0);
        assert!(all.iter().all(|(_, x)| (0.0..=WIDTH).contains(x)), "{all:?}");
        assert_eq!(placed(&[], 1.0), []);
    }

    #[test]
    fn a_long_run_is_drawn_with_few_points() {
        let second = |n: u32| Interval { seconds: f64::from(n), done: 2, ..Interval::default() };
        let all: Vec<Interval> = (1..=1000).map(second).collect();
        let few = drawn(&all);
        assert!(few.len() <= MOST_POINTS);
        assert_eq!(few.iter().map(|interval| interval.done).sum::<u64>(), 2000);
        assert_eq!(few.last().unwrap().seconds, 1000.0);
        assert_eq!(drawn(&all[..240]).len(), 240);
        assert_eq!(drawn(&[]), []);
    }
}
