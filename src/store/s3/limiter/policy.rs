//! The tuned numbers of the request limiter, with units and reasons. Measured in docs/decisions/16-limiter-policy.md.

use std::time::Duration;

/// Maximum number of requests in flight per core, for at least two cores. One core cannot decode more responses.
const REQUESTS_PER_CORE: usize = 128;
/// Maximum number of requests in flight to all buckets, on any machine. Each request takes memory.
const MAX_REQUESTS: usize = 1024;

/// Initial limit of requests in flight to a bucket.
pub(super) const FIRST_REQUESTS: usize = 32;
/// Bytes that each response adds to goodput besides its body, so that many small objects count too.
pub(super) const ANSWER_BYTES: u64 = 32 << 10;
/// Minimum time for which goodput is measured. If twice the time to the first byte is longer, that time is used.
pub(super) const GOODPUT_TIME: Duration = Duration::from_millis(20);
/// Share of an increase that must show in goodput: a doubling must raise it by 20 %, an increase of 25 % by 5 %.
pub(super) const LEAST_GAIN: f64 = 0.2;
/// Number of measurements with too little gain before an increase is undone. More than one, because the first
/// measurement still includes responses to earlier requests.
pub(super) const GAIN_MEASUREMENTS: u32 = 3;
/// Time between two attempts with 25 % more requests in flight.
pub(super) const PROBE_EVERY: Duration = Duration::from_secs(2);

/// Number of latest latencies from which the time to hedge is computed. The first time, an eighth of them is enough.
pub(super) const HEDGE_SAMPLE: usize = 256;
/// A request counts as slow if it takes longer than 95 % of the latest requests.
pub(super) const HEDGE_QUANTILE: f64 = 0.95;
/// A request is hedged after this many times the latency of a slow one.
pub(super) const HEDGE_FACTOR: u32 = 2;
/// Minimum time before a request is hedged. Shorter delays come from the operating system's scheduler.
pub(super) const HEDGE_LEAST_WAIT: Duration = Duration::from_millis(10);
/// Number of hedges per request: at most 2 % more requests to the bucket.
pub(super) const HEDGE_SHARE: f64 = 0.02;
/// Maximum number of unused hedges that are saved up. The default maximum of requests has this many permits more.
pub(super) const HEDGE_BURST: usize = 16;

/// Time for which the share of 503s is measured. A longer time finds the limit later. A shorter one is disturbed by a
/// core that is busy for some milliseconds.
pub(super) const MEASUREMENT: Duration = Duration::from_millis(100);
/// Minimum number of responses in one measurement. With 20, one 503 is 5 %.
pub(super) const LEAST_ANSWERS: u32 = 20;
/// Minimum limit in requests per second. With a lower limit, the end of an outage would be noticed late.
pub(super) const LEAST_RATE: f64 = 40.0;
/// Share by which the held limit lies below the limit that was found, and the first step when the limit is raised.
pub(super) const MARGIN: f64 = 0.02;
/// Maximum step of a raise after a limit was found. A larger step finds a higher limit sooner but causes more 503s.
pub(super) const LARGEST_STEP: f64 = 0.15;
/// Share of 503s that ends a doubling. A smaller share may be chance, and the next doubling shows whether it is.
pub(super) const TOLERATED: f64 = 0.25;
/// Time for which a limit is held before a higher one is tried.
pub(super) const HOLD: Duration = Duration::from_secs(1);
/// Standard deviations above the expected number of 503s that are not taken for chance. With 2.5, one measurement in
/// 160 is judged wrongly.
pub(super) const DEVIATIONS: f64 = 2.5;
/// If more than this share of the responses is 503, the bucket is down, and no limit can be measured.
pub(super) const NEARLY_ALL: f64 = 0.9;
/// Time without a 503 after which a limit of requests per second ends.
pub(super) const FORGET_AFTER: Duration = Duration::from_secs(60);
/// Maximum number of prefixes that have limits of their own, which bounds memory.
pub(super) const MAX_PREFIXES: usize = 1024;

/// Returns the default maximum of requests in flight to all buckets on this machine.
pub fn default_max_requests() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (REQUESTS_PER_CORE * cores.max(2)).min(MAX_REQUESTS)
}
