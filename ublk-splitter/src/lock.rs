//! Locks that a panic elsewhere does not take away.
//!
//! A panic in a thread of a queue, or in one that lays records, ends the process anyway; until it does, the others go on with what
//! is there.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
