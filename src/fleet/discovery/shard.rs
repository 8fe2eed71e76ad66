//! Divides a fleet among hosts (docs/CLI.md, "Shards"). Every database belongs to exactly one shard, which
//! depends only on the database's id and the number of shards.

use sha2::{Digest, Sha256};

/// Value of `--shard I/N`. `index` counts from 0 and is less than `of`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Number of this shard, counted from 0.
    pub index: u32,
    /// Number of shards, at least 1.
    pub of: u32,
}

impl Shard {
    /// Returns whether the database `id` (`bucket/key`) belongs to this shard.
    pub fn takes(self, id: &str) -> bool {
        shard_of(id, self.of) == self.index
    }
}

/// Returns the shard, from 0 to `count` - 1, of the database `id` (`bucket/key`): the first 8 bytes of the id's
/// SHA-256 as a big-endian number, modulo `count`. If `count` is 0, the result is 0.
pub fn shard_of(id: &str, count: u32) -> u32 {
    let digest = Sha256::digest(id.as_bytes());
    let head = digest.iter().take(8).fold(0u64, |head, byte| head << 8 | u64::from(*byte));
    // The remainder is less than `count`, which is a u32, so this conversion cannot fail.
    u32::try_from(head % u64::from(count.max(1))).unwrap_or(0)
}

/// Value of `-sample R/K` with `-seed S`: of K samples, sample R. All K together hold every database once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Which sample, counted from 0.
    pub share: Shard,
    /// The seed. Another one divides the fleet otherwise.
    pub seed: String,
}

impl Sample {
    /// Whether the database `id` (`bucket/key`) belongs to this sample: the first 8 bytes of the SHA-256 of seed and id
    /// as a big-endian number, modulo the number of samples.
    pub fn takes(&self, id: &str) -> bool {
        shard_of(&format!("{}{id}", self.seed), self.share.of) == self.share.index
    }
}

#[cfg(test)]
mod tests {
    use crate::fleet::discovery::shard::*;

    /// These values must never change, because hosts with different versions of Hydrant restore one fleet
    /// together.
    #[test]
    fn vectors() {
        let vectors: [(&str, [u32; 4]); 6] = [
            ("fleet/backups/single/app.db", [1, 1, 9, 121]),
            ("fleet/backups/single/app.db-2", [0, 2, 14, 126]),
            ("fleet/backups/tenants/münchen/größe.db", [0, 2, 12, 564]),
            ("fleet/nested/app.db/old/copy.db", [0, 2, 6, 350]),
            ("bucket/", [0, 0, 6, 142]),
            ("/srv/replicas/app.db", [1, 2, 7, 95]),
        ];
        for (id, expected) in vectors {
            assert_eq!([2, 3, 16, 1000].map(|count| shard_of(id, count)), expected, "{id}");
        }
    }

    #[test]
    fn shares_are_disjoint_and_complete() {
        for of in [1, 2, 7, 16] {
            let mut sizes = vec![0; of as usize];
            for i in 0..1000 {
                let id = format!("fleet/tenants/{i}/app.db");
                let takers: Vec<u32> = (0..of).filter(|&index| Shard { index, of }.takes(&id)).collect();
                assert_eq!(takers, [shard_of(&id, of)]);
                sizes[takers[0] as usize] += 1;
            }
            let fair = 1000 / of;
            assert!(sizes.iter().all(|&size| size > fair / 2 && size < fair * 2), "{sizes:?}");
        }
        assert_eq!(shard_of("a/b", 0), 0);
    }
}
