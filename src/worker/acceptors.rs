//! The listening sockets of one worker, of all services.

use std::time::Instant;

use mio::{Registry, Token};

use super::accept::{Accepted, Acceptor};
use super::listener_group::ListenerGroup;

/// The listening sockets of one worker, which take turns.
#[derive(Default)]
pub(super) struct Acceptors {
    acceptors: Vec<Acceptor>,
    /// Counts the turns.
    next: usize,
    /// There will be no others.
    closed: bool,
    /// Nobody is let in for now.
    paused: bool,
}

impl Acceptors {
    /// Adds one, or closes it if the worker accepts no clients any more.
    pub(super) fn add(&mut self, acceptor: Acceptor, registry: &Registry) {
        if self.closed {
            acceptor.close(registry);
        } else {
            self.acceptors.push(acceptor);
        }
    }

    /// Takes out those of one group.
    pub(super) fn remove(&mut self, group: ListenerGroup) -> Vec<Acceptor> {
        self.acceptors.extract_if(.., |acceptor| acceptor.group() == group).collect()
    }

    /// Takes out all.
    pub(super) fn remove_all(&mut self) -> Vec<Acceptor> {
        std::mem::take(&mut self.acceptors)
    }

    /// Closes all, and those that are added later. Returns false if they were closed before.
    pub(super) fn close(&mut self, registry: &Registry) -> bool {
        self.remove_all().into_iter().for_each(|acceptor| acceptor.close(registry));
        !std::mem::replace(&mut self.closed, true)
    }

    /// Accepts no clients for now, or accepts them again. Those of sockets that are taken out are not held up.
    pub(super) fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Begins to accept the clients of a group.
    pub(super) fn release(&mut self, group: ListenerGroup) {
        self.of_group(group).for_each(Acceptor::release);
    }

    /// Records that there is a client in a backlog. Returns false if the token is a connection's.
    pub(super) fn on_event(&mut self, token: Token) -> bool {
        let Some(group) = ListenerGroup::of(token) else { return false };
        self.of_group(group).for_each(Acceptor::listener_is_ready);
        true
    }

    fn of_group(&mut self, group: ListenerGroup) -> impl Iterator<Item = &mut Acceptor> {
        self.acceptors.iter_mut().filter(move |acceptor| acceptor.group() == group)
    }

    /// Services may have been replaced.
    pub(super) fn follow_replacements(&mut self) {
        self.acceptors.iter_mut().for_each(Acceptor::follow_replacement);
    }

    /// There may be room again.
    pub(super) fn look_for_room(&mut self) {
        self.acceptors.iter_mut().for_each(Acceptor::look_for_room);
    }

    /// Whether asking again at once may bring another client.
    pub(super) fn may_have_more(&self) -> bool {
        !self.paused && self.acceptors.iter().any(Acceptor::may_have_more)
    }

    /// When to ask again after a shortage.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        if self.paused {
            return None;
        }
        self.acceptors.iter().filter_map(Acceptor::retry_at).min()
    }

    /// Takes the next client from a backlog, if there is room for it.
    pub(super) fn accept(&mut self, now: Instant) -> Accepted {
        if self.paused {
            return Accepted::Nothing;
        }
        let count = self.acceptors.len();
        for turn in self.next..self.next + count {
            let accepted = self.acceptors[turn % count].accept(now);
            if !matches!(accepted, Accepted::Nothing) {
                self.next = (turn + 1) % count;
                return accepted;
            }
        }
        Accepted::Nothing
    }
}
