//! The queue of messages to a worker.

use std::sync::Arc;

use super::sync::{Receiver, Sender, unbounded};
use super::wake_once::WakeOnce;

/// The sending end. A message wakes the worker.
pub(super) struct MailboxSender<M> {
    messages: Sender<M>,
    worker: Arc<WakeOnce>,
}

/// The worker's end.
pub(super) struct Inbox<M> {
    messages: Receiver<M>,
    worker: Arc<WakeOnce>,
}

/// Makes a mailbox for the worker that `worker` wakes.
pub(super) fn open<M>(worker: Arc<WakeOnce>) -> (MailboxSender<M>, Inbox<M>) {
    let (sender, receiver) = unbounded();
    (MailboxSender { messages: sender, worker: Arc::clone(&worker) }, Inbox { messages: receiver, worker })
}

impl<M> MailboxSender<M> {
    pub(super) fn send(&self, message: M) {
        // A worker that has ended reads no more messages.
        if self.messages.send(message).is_ok() {
            self.worker.wake();
        }
    }
}

// Not derived: that would ask the message to be `Clone`.
impl<M> Clone for MailboxSender<M> {
    fn clone(&self) -> MailboxSender<M> {
        MailboxSender { messages: self.messages.clone(), worker: Arc::clone(&self.worker) }
    }
}

impl<M> Inbox<M> {
    /// Called when the worker was woken, before it reads messages or looks for room: whatever comes later wakes it again.
    pub(super) fn on_wake(&self) {
        self.worker.clear();
    }

    /// Returns the next message, if there is one.
    pub(super) fn next(&self) -> Option<M> {
        self.messages.try_recv().ok()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}
