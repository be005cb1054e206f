//! Wakes a worker that sleeps in its poll, once for any number of reasons.

use std::sync::Arc;

use super::sync::{AtomicBool, Ordering, Waker};

/// A worker's waker, which makes one system call until the worker has looked, however often it is used.
pub(super) struct WakeOnce {
    waker: Waker,
    /// Set from the system call until the worker looks.
    pending: AtomicBool,
}

impl WakeOnce {
    pub(super) fn new(waker: Waker) -> Arc<WakeOnce> {
        Arc::new(WakeOnce { waker, pending: AtomicBool::new(false) })
    }

    /// Makes the worker look at everything that the caller has done before.
    pub(super) fn wake(&self) {
        if !self.pending.swap(true, Ordering::Release) {
            // Fails only when the counter behind it is full, and then the worker will wake.
            let _ = self.waker.wake();
        }
    }

    /// Called by the worker when the waker's event has come, before it looks. A swap and not a store: this acquires
    /// what the callers did that found a wake-up pending and made no system call.
    pub(super) fn clear(&self) {
        self.pending.swap(false, Ordering::Acquire);
    }
}
