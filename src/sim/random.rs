//! Random numbers by the SplitMix64 algorithm. The same seed gives the same numbers on every machine and in every
//! version, which random number crates do not promise. Not suitable for secrets.

/// A stream of random numbers that a seed determines.
#[derive(Debug, Clone)]
pub struct Random(u64);

/// Mixes the bits of one number, so that similar inputs give unrelated outputs.
pub const fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A hash of `bytes` that is the same in every version. It is not suitable for hash tables that an attacker can
/// fill.
pub fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let mut state = mix(seed ^ bytes.len() as u64);
    for chunk in bytes.chunks(8) {
        let word = chunk.iter().fold(0u64, |word, &byte| word << 8 | u64::from(byte));
        state = mix(state ^ word);
    }
    state
}

impl Random {
    /// Begins the stream of random numbers that belongs to this seed.
    pub const fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// The next random number, uniform over all 64-bit values.
    pub fn next_u64(&mut self) -> u64 {
        let value = mix(self.0);
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        value
    }

    /// A number from 0 to `bound` - 1, uniformly distributed; 0 if `bound` is 0. It is computed by multiplication,
    /// so its bias is below 2^-32 for bounds up to 2^32.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from 0.0 up to but not including 1.0, uniformly distributed.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Returns true with this probability (0 to 1).
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// A number of the standard normal distribution, computed by the Box–Muller method.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}
