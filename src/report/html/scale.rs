//! Scales of figures: values to positions, and the values at which an axis has a line.

use crate::human;
use crate::report::answer::seconds;

/// The rectangle of a figure in which values are drawn, and the values at its far edges. Zero is at left and bottom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plot {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
    pub x_max: f64,
    pub y_max: f64,
}

impl Plot {
    pub(super) fn x(&self, value: f64) -> f64 {
        self.left + self.width * (value / self.x_max.max(1e-9)).clamp(0.0, 1.0)
    }

    pub(super) fn y(&self, value: f64) -> f64 {
        self.bottom() - self.height * (value / self.y_max.max(1e-9)).clamp(0.0, 1.0)
    }

    pub(super) fn bottom(&self) -> f64 {
        self.top + self.height
    }

    pub(super) fn right(&self) -> f64 {
        self.left + self.width
    }

    /// The point of two values, as an SVG attribute holds it.
    pub(super) fn point(&self, x: f64, y: f64) -> String {
        format!("{},{}", short(self.x(x)), short(self.y(y)))
    }

    /// The rectangle and its values in one attribute, from which a reader can compute values back.
    pub(super) fn attribute(&self) -> String {
        let Self { left, top, width, height, x_max, y_max } = self;
        format!("{left} {top} {width} {height} {x_max} {y_max}")
    }
}

/// A coordinate with at most two decimals.
pub(super) fn short(n: f64) -> String {
    let text = format!("{n:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Values from 0 to `max` in steps of 1, 2 or 5 times a power of ten, at most `most` steps. At least one step, also
/// where `max` is 0.
pub(super) fn steps(max: f64, most: f64) -> Vec<f64> {
    let max = if max.is_finite() && max > 0.0 { max } else { 1.0 };
    let rough = max / most;
    let power = 10_f64.powf(rough.log10().floor());
    let factor =
        [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= rough * (1.0 - 1e-9)).unwrap_or(10.0);
    values(factor * power, max)
}

/// The multiples of `step` from 0 to `max`.
fn values(step: f64, max: f64) -> Vec<f64> {
    // A rounding error must not cost the last one.
    let last = ((max / step) + 1e-6).floor() as u32;
    (0..=last).map(|n| f64::from(n) * step).collect()
}

/// Steps of whole numbers.
pub(super) fn whole_steps(max: f64, most: f64) -> Vec<f64> {
    let mut all = steps(max, most);
    all.retain(|value| value.fract() == 0.0);
    all
}

/// Steps of a size in bytes: round numbers of its unit.
pub(super) fn byte_steps(max: f64, most: f64) -> Vec<f64> {
    let mut unit = 1.0;
    while max / unit >= 1024.0 && unit < 1e18 {
        unit *= 1024.0;
    }
    steps(max / unit, most).into_iter().map(|value| value * unit).collect()
}

/// A size of [`byte_steps`] as a label.
pub(super) fn byte_label(value: f64) -> String {
    let text = human::bytes(value as u64);
    text.replace(".0 ", " ")
}

/// Steps of a time in seconds: round numbers of seconds, minutes or hours.
pub(super) fn time_steps(max: f64, most: f64) -> Vec<f64> {
    const ROUND: [f64; 13] = [
        60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0, 7_200.0, 10_800.0, 21_600.0, 43_200.0, 86_400.0, 172_800.0,
    ];
    if max / most <= 30.0 {
        let all = steps(max, most);
        // 20 s and 50 s do not divide a minute evenly, 30 s do.
        return if max > 60.0 { values(if max / most <= 10.0 { 10.0 } else { 30.0 }, max) } else { all };
    }
    match ROUND.into_iter().find(|step| max / step <= most) {
        Some(step) => values(step, max),
        None => steps(max / 86_400.0, most).into_iter().map(|days| days * 86_400.0).collect(),
    }
}

/// A time of [`time_steps`] as a label: `0`, `0.5 s`, `30 s`, `1m30s`, `2 min`, `3 h`.
pub(super) fn time_label(value: f64) -> String {
    let whole = value.round();
    match whole as u64 {
        _ if value == 0.0 => "0".to_owned(),
        _ if value < 60.0 => format!("{} s", short(value)),
        s if s.is_multiple_of(86_400) => human::count(s / 86_400, "day"),
        s if s.is_multiple_of(3_600) => format!("{} h", s / 3_600),
        s if s < 3_600 && s.is_multiple_of(60) => format!("{} min", s / 60),
        _ => seconds(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_numbers() {
        assert_eq!(steps(10.0, 5.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(steps(9_988.0, 5.0), [0.0, 2_000.0, 4_000.0, 6_000.0, 8_000.0]);
        assert_eq!(steps(0.0, 4.0), [0.0, 0.5, 1.0]);
        assert_eq!(whole_steps(1.0, 4.0), [0.0, 1.0]);
        assert_eq!(whole_steps(3.0, 4.0), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(steps(f64::NAN, 4.0), [0.0, 0.5, 1.0]);
        let labels = |all: Vec<f64>, label: fn(f64) -> String| all.into_iter().map(label).collect::<Vec<_>>();
        assert_eq!(labels(byte_steps(3.4e6, 4.0), byte_label), ["0 B", "1 MiB", "2 MiB", "3 MiB"]);
        assert_eq!(labels(time_steps(1.5, 4.0), time_label), ["0", "0.5 s", "1 s", "1.5 s"]);
        assert_eq!(
            labels(time_steps(100.0, 6.0), time_label),
            ["0", "30 s", "1m00s", "1m30s"].map(|l| l.replace("1m00s", "1 min"))
        );
        assert_eq!(labels(time_steps(245.0, 6.0), time_label), ["0", "1 min", "2 min", "3 min", "4 min"]);
        assert_eq!(labels(time_steps(20_000.0, 6.0), time_label), ["0", "1 h", "2 h", "3 h", "4 h", "5 h"]);
        assert_eq!(
            labels(time_steps(864_000.0, 6.0), time_label),
            ["0", "2 days", "4 days", "6 days", "8 days", "10 days"]
        );
        for exponent in -30..60 {
            let max = 1.7 * 10_f64.powi(exponent);
            for all in [steps(max, 5.0), time_steps(max, 6.0), byte_steps(max, 4.0)] {
                assert!((1..=12).contains(&all.len()), "{max}: {all:?}");
            }
        }
    }

    #[test]
    fn positions_stay_inside() {
        let plot = Plot { left: 50.0, top: 10.0, width: 400.0, height: 200.0, x_max: 4.0, y_max: 100.0 };
        assert_eq!(plot.point(0.0, 0.0), "50,210");
        assert_eq!(plot.point(1.0, 25.0), "150,160");
        assert_eq!(plot.point(9.0, 200.0), "450,10");
        let empty = Plot { x_max: 0.0, y_max: 0.0, ..plot };
        assert_eq!(empty.point(0.0, 0.0), "50,210");
        assert_eq!([short(1.0), short(0.126), short(12.5)], ["1", "0.13", "12.5"]);
    }
}
