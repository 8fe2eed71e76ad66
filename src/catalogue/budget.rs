//! How much memory the lists of files may take.

use crate::store::{StoreError, StoreErrorKind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The memory that the catalogues of a process may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatalogueLimit {
    /// The memory budget of the process (`--memory`).
    pub budget_bytes: u64,
    /// The catalogues may take this much. It is more than the budget only if nobody gave a budget.
    pub limit_bytes: u64,
}

impl Default for CatalogueLimit {
    /// No limit.
    fn default() -> Self {
        Self { budget_bytes: u64::MAX, limit_bytes: u64::MAX }
    }
}

/// Counts the memory of all catalogues of a process.
#[derive(Debug, Default)]
pub struct CatalogueMemory {
    limit: CatalogueLimit,
    used: AtomicU64,
    most: AtomicU64,
}

impl CatalogueMemory {
    /// Catalogues that together keep to `limit`.
    pub fn new(limit: CatalogueLimit) -> Self {
        Self { limit, ..Self::default() }
    }

    /// The account of one catalogue, which takes nothing yet.
    pub fn charge(&self) -> Charge<'_> {
        Charge { memory: self, bytes: 0 }
    }

    /// If the catalogues have taken more than the memory budget: how much they took at most, and the limit.
    pub fn exceeded(&self) -> Option<(u64, u64)> {
        let most = self.most.load(Relaxed);
        (most > self.limit.budget_bytes).then_some((most, self.limit.limit_bytes))
    }
}

/// The memory of one catalogue. It counts until this is dropped.
#[derive(Debug)]
pub struct Charge<'a> {
    memory: &'a CatalogueMemory,
    bytes: u64,
}

impl Charge<'_> {
    /// Sets what the catalogue of the listing of `prefix` takes now.
    ///
    /// # Errors
    /// All catalogues together take more than the limit.
    pub fn set(&mut self, bytes: u64, prefix: &str) -> Result<(), StoreError> {
        let CatalogueMemory { limit, used, most } = self.memory;
        used.fetch_add(bytes, Relaxed);
        let now = used.fetch_sub(self.bytes, Relaxed) - self.bytes;
        self.bytes = bytes;
        most.fetch_max(now, Relaxed);
        if now <= limit.limit_bytes {
            return Ok(());
        }
        let is_given = limit.limit_bytes <= limit.budget_bytes;
        let whose = if is_given { "of --memory" } else { "that this machine and its cgroup leave for it" };
        Err(StoreError {
            kind: StoreErrorKind::TooLarge,
            what: format!("LIST {prefix}"),
            detail: format!("the list of the files needs more than the {} MiB {whose}", limit.limit_bytes >> 20),
            request_id: None,
            hint: Some("raise --memory, or restore a share of the databases with --shard".to_owned()),
            attempts: 1,
        })
    }

    /// Counts the memory for ever: the catalogue is kept.
    pub fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_catalogues_together_keep_to_the_limit() {
        let memory = CatalogueMemory::new(CatalogueLimit { budget_bytes: 1 << 20, limit_bytes: 3 << 20 });
        let mut first = memory.charge();
        first.set(1 << 20, "a/").unwrap();
        assert_eq!(memory.exceeded(), None);
        first.set(2 << 20, "a/").unwrap();
        assert_eq!(memory.exceeded(), Some((2 << 20, 3 << 20)));
        let error = memory.charge().set(2 << 20, "b/").unwrap_err().to_string();
        assert!(error.contains("LIST b/: ") && error.contains("more than the 3 MiB that this machine"), "{error}");
        // What is dropped counts no longer, and what is kept does.
        memory.charge().set(1 << 20, "b/").unwrap();
        first.keep();
        assert!(memory.charge().set((1 << 20) + 1, "b/").is_err());
    }

    #[test]
    fn a_given_budget_is_the_limit_and_the_error_names_the_flags() {
        let memory = CatalogueMemory::new(CatalogueLimit { budget_bytes: 1 << 20, limit_bytes: 1 << 20 });
        let error = memory.charge().set(2 << 20, "b/").unwrap_err();
        let (class, text) = (error.class().to_string(), error.to_string());
        assert_eq!(class, "configuration");
        assert!(text.contains("the 1 MiB of --memory; raise --memory, or") && text.contains("--shard"), "{text}");
    }
}
