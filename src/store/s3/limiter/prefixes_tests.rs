//! Tests of the rates of a bucket and of its prefixes, in simulated time.

use super::super::simulation::{Allowed, Control, World};
use super::*;

impl Control for Prefixes {
    fn may_send(&mut self, now: Instant, prefix: usize, passed: &mut [bool; 2]) -> bool {
        let (key, mut next) = (key(prefix), *passed);
        while let Some(rate) = self.next(Some(&key), &mut next) {
            if lock(&rate.rate).take(now).is_err() {
                return false;
            }
            *passed = next;
        }
        true
    }

    fn answered(&mut self, now: Instant, sent: Instant, prefix: usize, throttled: bool) {
        Self::answered(self, Some(&key(prefix)), now, sent, throttled);
    }
}

fn name(prefix: usize) -> String {
    format!("p/{prefix:04}")
}

fn key(prefix: usize) -> String {
    format!("p/{prefix:04}/file")
}

fn world(seed: u64) -> World<Prefixes> {
    let mut world = World::new(Prefixes::new(Instant::now()), seed);
    world.backs_off = true;
    world
}

#[test]
fn a_prefix_is_the_first_two_folders() {
    for (key, prefix) in
        [("a/b/c", Some("a/b")), ("a/b/d/e", Some("a/b")), ("a/c/c", Some("a/c")), ("a/file", Some("a"))]
    {
        assert_eq!(prefix_of(key), prefix, "{key}");
    }
    assert_eq!(prefix_of("file"), None);
    for (folder, prefix) in [("a/b/c", "a/b"), ("a/b", "a/b"), ("a", "a"), ("", ""), ("/a/b", "/a")] {
        assert_eq!(prefix_of_folder(folder), prefix, "{folder}");
        assert!(prefix_of(&format!("{folder}/0009/x.ltx")).is_some_and(|of| of.starts_with(prefix)), "{folder}");
    }
}

#[test]
fn three_throttled_prefixes_are_used() {
    let (mut taken, mut refused) = (0, 0);
    for seed in 1..=20 {
        let mut world = world(seed);
        let allowed = Allowed { prefix: |_| Some(100.0), ..Allowed::rate(f64::INFINITY) };
        let first = world.run_prefixes(5.0, 64, allowed, |random| random.usize(..3));
        let second = world.run_prefixes(10.0, 64, allowed, |random| random.usize(..3));
        assert!(first.taken > 1000, "{seed}: {first:?}");
        assert!(second.per_second() > 230.0 && second.waste() < 0.1, "{seed}: {second:?}");
        (taken, refused) = (taken + second.taken, refused + second.refused);
    }
    let waste = f64::from(refused) / f64::from(taken + refused);
    assert!(taken > 20 * 2500 && waste < 0.05, "{taken} {waste}");
}

/// The result must not depend on the order in which prefixes are requested, nor on how the limit changes.
#[test]
fn a_limit_on_the_bucket_is_told_from_limits_on_prefixes() {
    for prefixes in [3, 30] {
        for order in 0..3 {
            let mut world = world(1);
            let mut asked = 0;
            for rate in [1000.0, 300.0, 1000.0] {
                let mut next = |random: &mut fastrand::Rng| {
                    asked += 1;
                    match order {
                        0 => random.usize(..prefixes),
                        1 => (asked / 3 * 7919) % prefixes,
                        _ => (asked / 150 + random.usize(..2)) % prefixes,
                    }
                };
                let allowed = Allowed::rate(rate);
                world.run_prefixes(4.0, 64, allowed, &mut next);
                let course = world.run_prefixes(4.0, 64, allowed, &mut next);
                let case = format!("{prefixes} {order} {rate}: {course:?}");
                assert!(course.per_second() > 0.9 * rate && course.waste() < 0.05, "{case}");
                assert!(world.control.limited().is_empty(), "{case}");
            }
        }
    }
}

#[test]
fn one_throttled_prefix_does_not_hold_others_back() {
    for seed in 1..=5 {
        let mut world = world(seed);
        let allowed = Allowed { prefix: |prefix| (prefix == 0).then_some(100.0), ..Allowed::rate(f64::INFINITY) };
        world.run_prefixes(5.0, 400, allowed, |random| random.usize(..30));
        let course = world.run_prefixes(5.0, 400, allowed, |random| random.usize(..30));
        assert!(course.taken > 10_000 && course.waste() < 0.01, "{seed}: {course:?}");
        assert!(course.by_prefix.get(&0).is_some_and(|&taken| taken > 450), "{seed}: {course:?}");
        assert!(world.control.bucket.per_second().is_none() && world.control.limited().len() == 1, "{seed}");
    }
}

#[test]
fn rates_of_prefixes_are_bounded_and_end_a_minute_after_the_last_503() {
    let begun = Instant::now();
    let prefixes = Prefixes::new(begun);
    let mut counts = Counts::new(begun);
    (counts.answers, counts.refused) = (40, 30);
    let counts = (0..policy::MAX_PREFIXES + 1).map(|prefix| (name(prefix).into(), counts)).collect();
    let mut all = Rate::new(begun);
    all.hold(begun, 1000.0);
    let mut now = begun;
    let trial = loop {
        // The simulated bucket refuses every tenth request, whatever the rate.
        now += std::time::Duration::from_millis(1);
        if let Some(trial) = all.answered(now, now, (now - begun).as_millis().is_multiple_of(10)) {
            break trial;
        }
        assert!(now < begun + std::time::Duration::from_secs(10), "no trial has ended: {all:?}");
    };
    assert!(prefixes.blame(now, counts, trial));
    assert_eq!(prefixes.limited().len(), policy::MAX_PREFIXES);
    let later = now + std::time::Duration::from_secs(61);
    for prefix in 0..policy::MAX_PREFIXES + 1 {
        prefixes.answered(Some(&key(prefix)), later, later, false);
    }
    assert!(prefixes.bucket.per_second().is_none() && prefixes.limited().is_empty());
}
