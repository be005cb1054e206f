//! Host names among the destinations, resolved again from time to time: machines move, and some names stand for several.
//!
//! One [thread](follower) does so for all pools, and there is none while nothing is to be resolved. Each name is looked up
//! in a thread of its own, so that no name waits for another one. A name that no longer resolves changes nothing; a name
//! that has never resolved is tried more often.

mod follower;
mod pool_names;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::Mutex;

use crate::pool::Pool;
use crate::resolve::{OwnAddresses, Resolver, resolve_every};
use crate::supervise;
use follower::Follower;

/// A pool whose names are resolved, and how often.
pub struct Settings {
    /// The destinations.
    pub pool: Pool,
    /// Between two rounds; `None`: names that have resolved are not resolved again.
    pub interval: Option<Duration>,
    /// Whether all addresses of a name are destinations, not only one.
    pub all: bool,
}

impl Settings {
    /// Whether there may be anything to resolve, now or later.
    fn need_thread(&self) -> bool {
        self.interval.is_some() || !self.pool.unresolved().is_empty()
    }
}

/// How the rest of the program reaches the thread that resolves names, which ends with this.
pub struct Handle {
    own_addresses: OwnAddresses,
    resolver: Resolver,
    thread: Thread,
}

/// The way to the thread, while there is one.
#[derive(Clone, Default)]
struct Thread(Arc<Mutex<ThreadState>>);

#[derive(Default)]
struct ThreadState {
    messages: Option<Sender<Message>>,
    /// It is not to end, even if it has nothing to do.
    is_held: bool,
}

/// There is a thread, until this is dropped or for as long as it has something to do.
pub struct Hold(Thread);

/// What the thread is told.
enum Message {
    Follow(Settings),
    /// The number of a pool.
    Forget(u32),
    /// It may end.
    Release,
}

impl Handle {
    /// No pool yet. What `own_addresses` include is nothing to balance to.
    pub fn new(own_addresses: OwnAddresses) -> Handle {
        Handle::with_resolver(own_addresses, Resolver::for_pools(resolve_every))
    }

    fn with_resolver(own_addresses: OwnAddresses, resolver: Resolver) -> Handle {
        Handle { own_addresses, resolver, thread: Thread::default() }
    }

    /// Has the names of a pool resolved from now on, or in another way than before. To be called again when a name is added
    /// that does not resolve, unless names are resolved again and again anyway.
    ///
    /// # Errors
    /// When a thread is needed and cannot be started.
    pub fn follow(&self, settings: Settings) -> io::Result<()> {
        let mut thread = self.thread.0.lock();
        if settings.need_thread() {
            self.start_unless_there(&mut thread)?;
        }
        send(thread.messages.as_ref(), Message::Follow(settings));
        Ok(())
    }

    /// Makes sure that [`follow`](Handle::follow) finds a thread, as long as what this returns is not dropped.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn hold(&self) -> io::Result<Hold> {
        let mut thread = self.thread.0.lock();
        thread.is_held = true;
        let started = self.start_unless_there(&mut thread);
        thread.is_held &= started.is_ok();
        started.map(|()| Hold(self.thread.clone()))
    }

    fn start_unless_there(&self, thread: &mut ThreadState) -> io::Result<()> {
        if thread.messages.is_none() {
            let (messages, received) = unbounded();
            let mut follower = Follower::new(self.own_addresses.clone(), self.resolver.clone(), self.thread.clone());
            supervise::start("names", move || follower.run(&received))?;
            thread.messages = Some(messages);
        }
        Ok(())
    }

    /// Has the names of a pool resolved no longer; they stay where they are.
    pub fn forget(&self, pool: &Pool) {
        send(self.thread.0.lock().messages.as_ref(), Message::Forget(pool.number()));
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.thread.0.lock().messages = None;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut thread = self.0.0.lock();
        thread.is_held = false;
        send(thread.messages.as_ref(), Message::Release);
    }
}

fn send(thread: Option<&Sender<Message>>, message: Message) {
    if let Some(thread) = thread {
        // It fails only when the thread has ended.
        let _ = thread.send(message);
    }
}

impl Thread {
    /// Called by the thread, when it has nothing to do. Returns true if it is to end: it will be told nothing more.
    fn ends(&self, received: &Receiver<Message>) -> bool {
        let mut thread = self.0.lock();
        let ends = received.is_empty() && !thread.is_held;
        if ends {
            thread.messages = None;
        }
        ends
    }
}
