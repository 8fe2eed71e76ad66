//! Every number that the limiter was tuned by, with its unit and its reason. What was measured is in
//! docs/decisions/16-limiter-policy.md.

use std::time::Duration;

/// Requests in flight per core, over all buckets, counted as for two cores at least. A core cannot decode more.
const REQUESTS_PER_CORE: usize = 128;
/// Requests in flight over all buckets on any machine. Each costs memory.
const MAX_REQUESTS: usize = 1024;

/// Requests in flight to a new bucket.
pub(super) const FIRST_REQUESTS: usize = 32;
/// Bytes that a response counts in addition to its body. Small objects count by their number.
pub(super) const ANSWER_BYTES: u64 = 32 << 10;
/// Minimum time for which goodput is measured. Otherwise it is twice the time to the first byte.
pub(super) const GOODPUT_TIME: Duration = Duration::from_millis(20);
/// Part of an increase that must come back as goodput: a doubling must raise it by 20 %, a quarter more by 5 %.
pub(super) const LEAST_GAIN: f64 = 0.2;
/// Measurements that must show too little gain before an increase is taken back. The first one includes responses to
/// earlier requests.
pub(super) const GAIN_MEASUREMENTS: u32 = 3;
/// Time between attempts with a quarter more requests in flight.
pub(super) const PROBE_EVERY: Duration = Duration::from_secs(2);

/// Number of newest times to the first byte that a hedge's threshold is computed from. An eighth of them is enough
/// for the first threshold.
pub(super) const HEDGE_SAMPLE: usize = 256;
/// Requests slower than this part of the sample are slow.
pub(super) const HEDGE_QUANTILE: f64 = 0.95;
/// A request is hedged after this many times the time of a slow one.
pub(super) const HEDGE_FACTOR: u32 = 2;
/// No request is hedged earlier. Shorter delays come from the scheduler.
pub(super) const HEDGE_LEAST_WAIT: Duration = Duration::from_millis(10);
/// Hedges per request: what hedging may cost the bucket.
pub(super) const HEDGE_SHARE: f64 = 0.02;
/// Maximum number of hedges saved up. The default cap has as many permits more, for hedges.
pub(super) const HEDGE_BURST: usize = 16;

/// Time for which the share of 503s is measured. More finds a limit later. Less is disturbed by a core that is busy
/// for some milliseconds.
pub(super) const MEASUREMENT: Duration = Duration::from_millis(100);
/// Minimum number of responses in a measurement. With 20, one 503 is 5 %.
pub(super) const LEAST_ANSWERS: u32 = 20;
/// Minimum rate in requests per second. At lower rates, the end of an outage is noticed late.
pub(super) const LEAST_RATE: f64 = 40.0;
/// The rate is held this part below the limit. It is also the first step when it is raised.
pub(super) const MARGIN: f64 = 0.02;
/// Maximum step of a probe. A larger one finds a raised limit sooner and costs more 503s.
pub(super) const LARGEST_STEP: f64 = 0.15;
/// A larger share of 503s ends a doubling. A smaller one can be chance; the next doubling shows.
pub(super) const TOLERATED: f64 = 0.25;
/// Time for which a rate is held before more is tried.
pub(super) const HOLD: Duration = Duration::from_secs(1);
/// Standard deviations above the expected number of 503s that are not chance. With 2.5, one measurement in 160 is
/// wrong.
pub(super) const DEVIATIONS: f64 = 2.5;
/// If a larger share of responses is 503, the bucket is down, and no limit can be measured.
pub(super) const NEARLY_ALL: f64 = 0.9;
/// A rate ends after this time without a 503.
pub(super) const FORGET_AFTER: Duration = Duration::from_secs(60);
/// Maximum number of prefixes with rates of their own. Bounds memory.
pub(super) const MAX_PREFIXES: usize = 1024;

/// The default cap of requests in flight over all buckets on this machine.
pub fn default_max_requests() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (REQUESTS_PER_CORE * cores.max(2)).min(MAX_REQUESTS)
}
