//! Compares Hydrant's rate limiter with CUBIC on simulated buckets. The time is simulated too, so the numbers are
//! the same on every machine, however busy it is.

// The files of the limiter are included here, because it has no public interface. Parts of them are unused in this
// bench.
#[allow(dead_code)]
#[allow(unreachable_pub)]
#[path = "../../src/store/s3/limiter/policy.rs"]
mod policy;
#[allow(dead_code)]
#[path = "../../src/store/s3/limiter/rate.rs"]
mod rate;
#[allow(dead_code)]
#[path = "../../src/store/s3/limiter/simulation.rs"]
mod simulation;

mod cubic;

use super::Results;
use cubic::Cubic;
use rate::Rate;
use simulation::{Allowed, Control, Course, World};
use std::time::Instant;

const SEEDS: u64 = 10;
/// The number of clients that send requests. A request takes 20 ms, so 64 clients reach at most 3,200 requests per
/// second, and 256 reach 12,800.
const CLIENTS: usize = 64;
const MANY_CLIENTS: usize = 256;

impl Control for Cubic {
    fn may_send(&mut self, now: Instant, _prefix: usize, _passed: &mut [bool; 2]) -> bool {
        self.take(now)
    }

    fn answered(&mut self, now: Instant, _sent: Instant, _prefix: usize, throttled: bool) {
        Self::answered(self, now, throttled);
    }
}

/// A simulated case: its name, the number of clients, and what the bucket allows in consecutive parts of 10 s each.
type Case = (&'static str, usize, Vec<Allowed>);

fn cases() -> Vec<Case> {
    let ten_percent = |rate| Allowed { refused: 0.1, ..Allowed::rate(rate) };
    vec![
        ("R = 300", CLIENTS, vec![Allowed::rate(300.0)]),
        ("R = 1,000", CLIENTS, vec![Allowed::rate(1000.0)]),
        ("R = 5,500", MANY_CLIENTS, vec![Allowed::rate(5500.0)]),
        (
            "R = 1,000, then 500, 1,000, 2,000",
            CLIENTS,
            vec![Allowed::rate(1000.0), Allowed::rate(500.0), Allowed::rate(1000.0), Allowed::rate(2000.0)],
        ),
        ("no limit, 10 % refused by chance", CLIENTS, vec![Allowed::refusing(0.1)]),
        ("R = 800, 10 % refused by chance", CLIENTS, vec![ten_percent(800.0)]),
        ("all refused, then R = 800 and 10 % by chance", CLIENTS, vec![Allowed::refusing(1.0), ten_percent(800.0)]),
    ]
}

/// The sums over all runs of a case: the requests that the bucket allowed and those that were used, and the
/// refusals beyond those that happen by chance.
#[derive(Default)]
struct Totals {
    taken: f64,
    taken_later: f64,
    possible: f64,
    refused: f64,
    answers: f64,
}

impl Totals {
    fn add(&mut self, allowed: Allowed, clients: usize, courses: [Course; 2]) {
        let possible = allowed.bucket.min(clients as f64 / 0.020) * (1.0 - allowed.refused);
        let [first, later] = courses;
        // During an outage the bucket allows nothing. The cost of an outage shows in the part that follows.
        self.possible += possible * first.seconds;
        self.taken += f64::from(first.taken + later.taken);
        self.taken_later += f64::from(later.taken);
        let answers = f64::from(first.taken + later.taken + first.refused + later.refused);
        self.refused += f64::from(first.refused + later.refused) - allowed.refused * answers;
        self.answers += answers;
    }

    fn of<C: Control>(make: fn() -> C, is_busy: bool, (_, clients, parts): &Case) -> Self {
        let mut totals = Self::default();
        for seed in 1..=SEEDS {
            let mut world = World::new(make(), seed);
            (world.is_busy, world.backs_off) = (is_busy, true);
            for &allowed in parts {
                let courses = [world.run(5.0, *clients, allowed), world.run(5.0, *clients, allowed)];
                totals.add(allowed, *clients, courses);
            }
        }
        totals
    }

    fn cells(&self) -> [String; 3] {
        [
            format!("{:.0} %", 50.0 * self.taken / self.possible),
            format!("{:.0} %", 100.0 * self.taken_later / self.possible),
            format!("{:.1} %", 100.0 * (self.refused / self.answers).max(0.0)),
        ]
    }
}

/// Runs all cases, once with idle cores and once with busy cores.
pub(crate) fn simulated(results: &Results) {
    for is_busy in [false, true] {
        let cores = if is_busy { "client and server wait for their cores" } else { "quiet" };
        let title = format!("Simulated, {cores}: of what is possible in 10 s; after 5 s; refused beyond chance");
        results.table(&title, &["bucket", "Hydrant", "after 5 s", "503s", "CUBIC", "after 5 s", "503s"]);
        for case in cases() {
            let own = Totals::of(|| Rate::new(Instant::now()), is_busy, &case);
            let cubic = Totals::of(|| Cubic::new(Instant::now()), is_busy, &case);
            let mut row = vec![case.0.to_owned()];
            row.extend(own.cells().into_iter().chain(cubic.cells()));
            results.row(&row);
        }
    }
}
