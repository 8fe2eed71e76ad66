//! Tests of a limit of requests per second against a simulated bucket, in simulated time.

use super::policy;
use super::rate::Rate;
use super::simulation::{Allowed, Course, World};
use std::time::Instant;

fn world(seed: u64) -> World<Rate> {
    World::new(Rate::new(Instant::now()), seed)
}

/// Number of clients that together could send 2.5 times the limit, with 20 ms per response.
fn clients(rate: f64) -> usize {
    ((rate * 0.05) as usize).clamp(32, 256)
}

fn waste(courses: &[Course]) -> f64 {
    let sum = |of: fn(&Course) -> u32| courses.iter().map(of).sum::<u32>();
    f64::from(sum(|c| c.refused)) / f64::from(sum(|c| c.taken + c.refused))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn nothing_is_limited_before_the_first_refusal() {
    let mut world = world(1);
    let course = world.run(1.0, 256, Allowed::refusing(0.0));
    assert!(course.taken > 10_000 && course.refused == 0, "{course:?}");
    assert_eq!(world.control.per_second(), None);
}

#[test]
fn uses_nine_tenths_of_a_limit_within_five_seconds_and_wastes_little() {
    for rate in [300.0, 1000.0, 5500.0] {
        for burst in [0.03, 0.1, 1.0] {
            let mut world = world(1);
            let allowed = Allowed { burst, ..Allowed::rate(rate) };
            let courses = [world.run(5.0, clients(rate), allowed), world.run(10.0, clients(rate), allowed)];
            let case = format!("{rate} {burst}: {:?}", courses.each_ref().map(Course::per_second));
            assert!(courses[0].per_second() > 0.8 * rate && courses[1].per_second() >= 0.9 * rate, "{case}");
            assert!(waste(&courses) <= 0.05, "{case}: {}", waste(&courses));
        }
    }
}

#[test]
fn finds_the_limit_where_client_and_server_wait_for_their_cores() {
    for rate in [1000.0, 2500.0, 5500.0] {
        let (mut wasted, mut used) = (Vec::new(), Vec::new());
        for seed in 1..=20 {
            let mut world = world(seed);
            world.is_busy = true;
            let courses = [10.0, 10.0].map(|seconds| world.run(seconds, 2 * clients(rate), Allowed::rate(rate)));
            wasted.push(waste(&courses));
            used.push(courses[1].per_second() / rate);
        }
        assert!(mean(&wasted) <= 0.04 && wasted.iter().all(|&waste| waste <= 0.08), "{rate}: {wasted:?}");
        assert!(mean(&used) >= 0.93 && used.iter().all(|&used| used >= 0.7), "{rate}: {used:?}");
    }
}

#[test]
fn follows_when_the_limit_halves_or_doubles() {
    for rate in [300.0, 1000.0, 2500.0] {
        let mut world = world(1);
        world.run(5.0, 256, Allowed::rate(rate));
        let mut courses = Vec::new();
        for part in [rate / 2.0, rate, rate * 2.0, rate] {
            courses.push(world.run(5.0, 256, Allowed::rate(part)));
            courses.push(world.run(5.0, 256, Allowed::rate(part)));
            let settled = courses.last().map_or(0.0, Course::per_second);
            assert!(settled >= 0.9 * part, "{part}: {settled}");
        }
        assert!(waste(&courses) <= 0.05, "{rate}: {}", waste(&courses));
    }
}

/// The bucket has no limit but refuses a share of the requests. 64 clients send as fast as they can, one request per 20
/// ms.
#[test]
fn refusals_by_chance_do_not_slow_a_bucket_without_a_limit() {
    for share in [0.005, 0.02, 0.05, 0.1, 0.3, 0.5] {
        let possible = 64.0 / 0.020 * (1.0 - share);
        let mut used = Vec::new();
        for seed in 1..=20 {
            let mut world = world(seed);
            world.run(5.0, 64, Allowed::refusing(share));
            used.push(world.run(5.0, 64, Allowed::refusing(share)).per_second() / possible);
        }
        assert!(mean(&used) > 0.9 && used.iter().all(|&used| used > 0.3), "{share}: {used:?}");
    }
}

#[test]
fn a_limit_is_used_among_refusals_by_chance_and_when_they_end() {
    for rate in [800.0, 1000.0] {
        let (mut used, mut wasted) = (Vec::new(), Vec::new());
        for seed in 1..=20 {
            let mut world = world(seed);
            let allowed = Allowed { refused: 0.1, ..Allowed::rate(rate) };
            world.run(5.0, 64, allowed);
            let course = world.run(10.0, 64, allowed);
            used.push(course.per_second() / (0.9 * rate));
            wasted.push(course.waste() - 0.1);
            world.run(5.0, 64, Allowed::rate(rate));
            let course = world.run(10.0, 64, Allowed::rate(rate));
            assert!(course.per_second() > 0.9 * rate && course.waste() < 0.05, "{seed}: {course:?}");
        }
        assert!(mean(&used) > 0.9 && used.iter().all(|&used| used > 0.6), "{rate}: {used:?}");
        assert!(mean(&wasted) < 0.1, "{rate}: {wasted:?}");
    }
}

#[test]
fn an_outage_is_asked_little_and_its_end_is_noticed() {
    let mut used = Vec::new();
    for seed in 1..=20 {
        let mut world = world(seed);
        world.run(5.0, 64, Allowed::refusing(1.0));
        let outage = world.run(10.0, 64, Allowed::refusing(1.0));
        assert!(f64::from(outage.refused) <= 1.5 * policy::LEAST_RATE * 10.0, "{seed}: {outage:?}");
        // After the outage, the bucket has no limit, or a limit and random refusals.
        world.run(5.0, 64, Allowed::refusing(0.0));
        let after = world.run(1.0, 64, Allowed::refusing(0.0)).per_second();
        assert!(after > 2000.0, "{seed}: {after}");
        world.run(5.0, 64, Allowed::refusing(1.0));
        let allowed = Allowed { refused: 0.1, ..Allowed::rate(800.0) };
        world.run(10.0, 64, allowed);
        used.push(world.run(5.0, 64, allowed).per_second() / (0.9 * 800.0));
    }
    assert!(mean(&used) > 0.85 && used.iter().all(|&used| used > 0.3), "{used:?}");
}

#[test]
fn a_rate_that_nobody_uses_does_not_grow_and_ends_after_a_minute() {
    let mut world = world(1);
    world.run(3.0, 64, Allowed::rate(300.0));
    let before = world.control.per_second().unwrap();
    world.run(5.0, 1, Allowed::rate(300.0));
    assert!(world.control.per_second().unwrap() <= before * 1.05);
    world.run(60.0, 1, Allowed::rate(300.0));
    assert_eq!(world.control.per_second(), None);
}
