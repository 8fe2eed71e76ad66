//! Locks that stay usable after a panic.
//!
//! If a thread panics while it holds a lock, Rust marks the lock as poisoned. Hydrant ignores that mark: what it
//! keeps under locks is consistent after every statement, and the owner of the thread reports the panic. The other
//! threads therefore go on.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Locks `mutex`, even if it is poisoned.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks `lock` for reading, even if it is poisoned.
pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// Locks `lock` for writing, even if it is poisoned.
pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a notification, even if the lock is poisoned. May return without a notification, as every condition
/// variable does.
pub(crate) fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_poisoned_lock_still_opens() {
        let both = Arc::new((Mutex::new(1), RwLock::new(2)));
        let poisoned = Arc::clone(&both);
        let panicked = std::thread::spawn(move || {
            let _guards = (lock(&poisoned.0), write(&poisoned.1));
            panic!("as it should");
        });
        assert!(panicked.join().is_err());
        assert!(both.0.is_poisoned() && both.1.is_poisoned());
        *write(&both.1) += 1;
        assert_eq!((*lock(&both.0), *read(&both.1)), (1, 3));
    }
}
