//! Whether a bucket's refusals are its prefixes' doing. Pure: the time is passed in.
//!
//! A limit on the whole bucket refuses all prefixes alike, whatever each asks for; limits on
//! prefixes refuse those that ask for more than theirs, while others are not refused. So time is
//! cut into slices, since refusals and requests of a prefix both come in bursts, and in each slice
//! it is known how many of its refusals a prefix had to expect from its part of the answers. How
//! far what came is from that, over some slices, is about 1 by chance; what is more than [`DRIFT`]
//! adds up.

use std::time::{Duration, Instant};

/// How long a slice takes, and how many are remembered.
const SLICE: Duration = Duration::from_millis(50);
const SLICES: usize = 64;
/// A comparison is over when chance could have moved so many refusals (a variance).
const ENOUGH_VARIANCE: f64 = 2.0;
/// Taken off for each comparison, and how much what remains must add up to.
const DRIFT: f64 = 2.0;
const PROVEN: f64 = 40.0;
/// A prefix with so many answers in so long is busy.
const BUSY: (u64, Duration) = (10, Duration::from_secs(1));
/// Others are refused as well if their share is more than this part of the prefix's.
const ALIKE: f64 = 0.5;

/// Answers, and 503s among them.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counted {
    answers: u64,
    refused: u64,
}

impl Counted {
    const fn add(&mut self, refused: bool) {
        self.answers += 1;
        self.refused += refused as u64;
    }

    const fn since(self, earlier: Self) -> Self {
        Self {
            answers: self.answers.saturating_sub(earlier.answers),
            refused: self.refused.saturating_sub(earlier.refused),
        }
    }

    fn share(self) -> f64 {
        self.refused as f64 / self.answers.max(1) as f64
    }
}

/// A bucket's answers, and the evidence.
#[derive(Debug, Default)]
pub struct All {
    epoch: Option<Instant>,
    /// The current slice, from 1; those before it are in the ring.
    now: u64,
    ring: Ring,
    total: Counted,
    evidence: f64,
}

#[derive(Debug)]
struct Ring([Counted; SLICES]);

impl Default for Ring {
    fn default() -> Self {
        Self([Counted::default(); SLICES])
    }
}

/// A prefix's answers.
#[derive(Debug, Default)]
pub struct Own {
    /// Of this slice; 0: none.
    slice: u64,
    counted: Counted,
    /// Over the slices of this comparison: refusals that came, that were to be expected, and by how
    /// much chance may move them.
    came: f64,
    expected: f64,
    variance: f64,
    /// Since when, how many, and how many of all before.
    lately: Option<(Instant, Counted, Counted)>,
    busy_until: Option<Instant>,
    is_alike: bool,
}

impl All {
    /// An answer came.
    pub fn add(&mut self, now: Instant, refused: bool) {
        let slice = self.slice_at(now);
        let passed = slice.saturating_sub(self.now).min(SLICES as u64);
        for past in 0..passed {
            self.ring.0[((slice - past) % SLICES as u64) as usize] = Counted::default();
        }
        self.now = self.now.max(slice);
        self.ring.0[(self.now % SLICES as u64) as usize].add(refused);
        self.total.add(refused);
    }

    fn slice_at(&mut self, at: Instant) -> u64 {
        let epoch = *self.epoch.get_or_insert(at);
        let slices = at.saturating_duration_since(epoch).as_millis() / SLICE.as_millis();
        u64::try_from(slices).unwrap_or(u64::MAX - 1) + 1
    }

    /// What came in a slice; None where it is no longer known, or goes on.
    fn of(&self, slice: u64) -> Option<Counted> {
        let is_known = slice > 0 && slice < self.now && self.now - slice < SLICES as u64;
        is_known.then(|| self.ring.0[(slice % SLICES as u64) as usize])
    }

    /// Whether the refusals since the evidence was forgotten are the prefixes' own.
    pub fn is_proven(&self) -> bool {
        self.evidence >= PROVEN
    }

    pub const fn forget(&mut self) {
        self.evidence = 0.0;
    }
}

impl Own {
    /// An answer came, which `all` has been told of. It counts as evidence if the bucket's rate was
    /// limited since `limited_since`, before its slice.
    pub fn add(&mut self, now: Instant, refused: bool, all: &mut All, limited_since: Option<Instant>) {
        if self.slice != all.now {
            let since = limited_since.map(|since| all.slice_at(since));
            if since.is_some_and(|since| self.slice > since) {
                self.settle(all);
            }
            (self.slice, self.counted) = (all.now, Counted::default());
        }
        self.counted.add(refused);
        self.look(now, refused, all.total);
    }

    /// Compares a slice that has passed, and where that is enough adds to the evidence.
    fn settle(&mut self, all: &mut All) {
        let Some(both) = all.of(self.slice).filter(|both| both.refused > 0 && both.answers > 1) else { return };
        let part = self.counted.answers as f64 / both.answers as f64;
        let (answers, refused) = (both.answers as f64, both.refused as f64);
        self.came += self.counted.refused as f64;
        self.expected += part * refused;
        // Of the hypergeometric distribution.
        self.variance += (part * (1.0 - part) * refused * (answers - refused) / (answers - 1.0)).max(0.0);
        if self.variance < ENOUGH_VARIANCE {
            return;
        }
        // The deviance of a count, scaled to its variance.
        let logarithm = if self.came > 0.0 { (self.came / self.expected).ln() } else { 0.0 };
        let deviance = 2.0 * (self.came * logarithm - self.came + self.expected) * self.expected / self.variance;
        all.evidence = (all.evidence + deviance - DRIFT).max(0.0);
        (self.came, self.expected, self.variance) = (0.0, 0.0, 0.0);
    }

    fn look(&mut self, now: Instant, refused: bool, total: Counted) {
        let (since, own, before) = self.lately.get_or_insert((now, Counted::default(), total));
        own.add(refused);
        let is_over = now.saturating_duration_since(*since) >= BUSY.1;
        if own.answers >= BUSY.0 {
            let others = total.since(*before).since(*own);
            self.is_alike = others.share() > ALIKE * own.share();
            self.busy_until = Some(now + BUSY.1);
        } else if !is_over {
            return;
        }
        self.lately = None;
    }

    /// Whether the others' share of refusals was about the prefix's, when it was busy.
    pub const fn is_alike(&self) -> bool {
        self.is_alike
    }

    /// Whether the prefix had enough answers of late to be judged.
    pub fn is_busy(&self, now: Instant) -> bool {
        self.busy_until.is_some_and(|until| now <= until)
    }
}
