//! Models of the channel and the waker that run under loom, with the guarantees that glbd relies on and no others.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use loom::sync::atomic::{AtomicUsize, Ordering};
use mio::{Registry, Token};

/// A queue that orders nothing but a message's sending before its receipt. Where nothing else has ordered the sending
/// before it, `try_recv` may miss a message that is there.
struct Queue<M> {
    /// `None` once the receiver is gone. A lock that loom does not see, and that is always free.
    messages: Mutex<Option<VecDeque<M>>>,
    length: AtomicUsize,
}

pub(in crate::worker) struct Sender<M>(Arc<Queue<M>>);

pub(in crate::worker) struct Receiver<M>(Arc<Queue<M>>);

pub(in crate::worker) fn unbounded<M>() -> (Sender<M>, Receiver<M>) {
    let queue = Queue { messages: Mutex::new(Some(VecDeque::new())), length: AtomicUsize::new(0) };
    let queue = Arc::new(queue);
    (Sender(Arc::clone(&queue)), Receiver(queue))
}

impl<M> Sender<M> {
    pub(in crate::worker) fn send(&self, message: M) -> Result<(), M> {
        match &mut *self.0.messages.lock().expect("no panic") {
            Some(messages) => messages.push_back(message),
            None => return Err(message),
        }
        self.0.length.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

impl<M> Clone for Sender<M> {
    fn clone(&self) -> Sender<M> {
        Sender(Arc::clone(&self.0))
    }
}

impl<M> Receiver<M> {
    pub(in crate::worker) fn try_recv(&self) -> Result<M, ()> {
        if self.is_empty() {
            return Err(());
        }
        self.0.length.fetch_sub(1, Ordering::Relaxed);
        self.0.messages.lock().expect("no panic").as_mut().and_then(VecDeque::pop_front).ok_or(())
    }

    pub(in crate::worker) fn is_empty(&self) -> bool {
        self.0.length.load(Ordering::Acquire) == 0
    }
}

impl<M> Drop for Receiver<M> {
    fn drop(&mut self) {
        // Its messages are dropped when the lock is free again: that may send others.
        let messages = self.0.messages.lock().map(|mut messages| messages.take());
        drop(messages);
    }
}

/// The waker's eventfd: a flag that [`Poll::wait`] waits for and takes.
#[derive(Default)]
struct Event {
    is_set: loom::sync::Mutex<bool>,
    changed: loom::sync::Condvar,
}

pub(in crate::worker) struct Waker(Arc<Event>);

/// A worker's poll, in which it waits for its waker only.
pub(in crate::worker) struct Poll(Arc<Event>);

impl Waker {
    /// As mio's.
    pub(in crate::worker) fn new(_: &Registry, _: Token) -> io::Result<Waker> {
        Ok(Waker::pair().0)
    }

    pub(in crate::worker) fn pair() -> (Waker, Poll) {
        let event = Arc::new(Event::default());
        (Waker(Arc::clone(&event)), Poll(event))
    }

    pub(in crate::worker) fn wake(&self) -> io::Result<()> {
        let mut is_set = self.0.is_set.lock().expect("no panic");
        assert!(!*is_set, "a system call for a worker that was woken already");
        *is_set = true;
        self.0.changed.notify_one();
        Ok(())
    }
}

impl Poll {
    /// Sleeps until the waker's event. Loom reports a deadlock if that does not come.
    pub(in crate::worker) fn wait(&self) {
        let mut is_set = self.0.is_set.lock().expect("no panic");
        while !*is_set {
            is_set = self.0.changed.wait(is_set).expect("no panic");
        }
        *is_set = false;
    }
}
