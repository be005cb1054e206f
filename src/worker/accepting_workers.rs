//! Tells a worker without connections when it may end.

use std::sync::Arc;

use super::mailbox::Inbox;
use super::sync::{AtomicUsize, Ordering};
use super::wake_once::WakeOnce;

/// Counts the workers that still accept clients, each of which may hand a client to any other worker.
pub(super) struct AcceptingWorkers {
    count: AtomicUsize,
    workers: Box<[Arc<WakeOnce>]>,
}

impl AcceptingWorkers {
    /// All of these accept.
    pub(super) fn new(workers: Box<[Arc<WakeOnce>]>) -> Arc<AcceptingWorkers> {
        Arc::new(AcceptingWorkers { count: AtomicUsize::new(workers.len()), workers })
    }

    /// Called once by each worker, when it has handed over its last client.
    pub(super) fn leave(&self) {
        // Release: a worker that finds no other accepting sees the clients that were handed to it.
        if self.count.fetch_sub(1, Ordering::Release) == 1 {
            // Workers without connections sleep until now.
            self.workers.iter().for_each(|worker| worker.wake());
        }
    }

    /// Returns true if `inbox` has no message and no client will be handed to its worker any more.
    pub(super) fn have_left<M>(&self, inbox: &Inbox<M>) -> bool {
        // In this order: a client may be handed over between the two.
        self.count.load(Ordering::Acquire) == 0 && inbox.is_empty()
    }
}
