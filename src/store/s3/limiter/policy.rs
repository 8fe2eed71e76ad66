//! Every number that the limiter was tuned by, with its unit and its reason. What was measured is
//! in docs/decisions/16-limiter-policy.md.

use std::time::Duration;

/// How the limiter of a bucket behaves.
#[derive(Debug, Clone)]
pub(super) struct LimiterPolicy {
    /// Requests in flight per core, over all buckets, counted as for two cores at least. More
    /// brings nothing that a core could decode.
    pub requests_per_core: usize,
    /// Requests in flight over all buckets, however many cores there are: each costs memory.
    pub max_requests: usize,

    /// Requests in flight to a bucket of which nothing is known.
    pub first_requests: usize,
    /// What an answer counts beside the bytes of bodies, in bytes: many small objects are worth
    /// as much as few large ones.
    pub answer_bytes: u64,
    /// How long goodput is measured, at least: shorter than two first bytes tells nothing.
    pub goodput_time: Duration,
    /// Part of an increase that must come back as goodput: a doubling must bring 20 %, a quarter
    /// more 5 %.
    pub least_gain: f64,
    /// Measurements after which an increase that brought too little is taken back. The first one
    /// has answers to requests from before the increase in it.
    pub gain_measurements: u32,
    /// Time between attempts with a quarter more in flight.
    pub probe_every: Duration,

    /// First bytes that the threshold for hedging is found from; an eighth is enough to begin with,
    /// fewer say little about the slowest twentieth.
    pub hedge_sample: usize,
    /// Part of the first bytes that are faster than the usual slow one.
    pub hedge_quantile: f64,
    /// A request is hedged after this many times the usual slow first byte.
    pub hedge_factor: u32,
    /// Nothing is hedged sooner: less is the noise of a scheduler.
    pub hedge_least_wait: Duration,
    /// Hedges per request: what hedging may cost the bucket.
    pub hedge_share: f64,
    /// Hedges that quiet times save up, and requests in flight beyond the default maximum that
    /// are kept for them.
    pub hedge_burst: usize,

    /// How long the share of 503s is measured. A longer measurement finds a limit later, a
    /// shorter one is at the mercy of a core that is busy for some milliseconds.
    pub measurement: Duration,
    /// Answers in a measurement, at least: with 20, one more or less is 5 %.
    pub least_answers: u32,
    /// Requests per second that may always be sent. Below this rate a measurement takes so long
    /// that the end of an outage would be noticed late.
    pub least_rate: f64,
    /// How far below the limit that was found the rate is held, and the first step above it.
    pub margin: f64,
    /// The largest step of a probe. A larger one finds a limit that was raised sooner, and more is
    /// refused where it was not raised.
    pub largest_step: f64,
    /// While a limit is searched for, a share of 503s below this does not end the search: refusals
    /// by chance would. The next doubling shows a limit beyond doubt.
    pub tolerated: f64,
    /// How long a rate is held before more is tried.
    pub hold: Duration,
    /// Standard deviations above the expected number of 503s that are not chance: at 2.5, one
    /// measurement in 160 is mistaken.
    pub deviations: f64,
    /// A share from here on is "nearly all": of answers that are 503s, the bucket is down and
    /// nothing can be learnt; of the rate that was used, the rate is what holds requests back.
    pub nearly: f64,
    /// Without a 503 for this long, a rate ends.
    pub forget_after: Duration,
    /// Prefixes of a bucket that may have rates of their own: a bound for memory.
    pub max_prefixes: usize,
}

impl Default for LimiterPolicy {
    fn default() -> Self {
        Self {
            requests_per_core: 128,
            max_requests: 1024,

            first_requests: 32,
            answer_bytes: 32 << 10,
            goodput_time: Duration::from_millis(20),
            least_gain: 0.2,
            gain_measurements: 3,
            probe_every: Duration::from_secs(2),

            hedge_sample: 256,
            hedge_quantile: 0.95,
            hedge_factor: 2,
            hedge_least_wait: Duration::from_millis(10),
            hedge_share: 0.02,
            hedge_burst: 16,

            measurement: Duration::from_millis(100),
            least_answers: 20,
            least_rate: 40.0,
            margin: 0.02,
            largest_step: 0.15,
            tolerated: 0.25,
            hold: Duration::from_secs(1),
            deviations: 2.5,
            nearly: 0.9,
            forget_after: Duration::from_secs(60),
            max_prefixes: 1024,
        }
    }
}

impl LimiterPolicy {
    /// Requests in flight over all buckets on this machine.
    pub(super) fn default_max_requests(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (self.requests_per_core * cores.max(2)).min(self.max_requests)
    }

    /// Whether more of `answers` were refused than chance explains where the share `usual`, itself
    /// found from `known` answers, is refused.
    pub(super) fn is_more_than_chance(&self, refused: u32, answers: u32, usual: f64, known: u32) -> bool {
        let answers = f64::from(answers);
        let variance = usual * (1.0 - usual) * answers * (1.0 + answers / f64::from(known.max(1)));
        f64::from(refused) > usual * answers + self.deviations * variance.sqrt()
    }
}
