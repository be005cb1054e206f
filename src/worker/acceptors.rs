//! The listening sockets of one worker, of all services.

use std::time::Instant;

use mio::{Registry, Token};

use super::Key;
use super::accept::{Acceptor, Newcomer};

/// The listening sockets of one worker, which take turns.
pub(super) struct Acceptors {
    acceptors: Vec<Acceptor>,
    /// Which one is asked first for the next client.
    next: usize,
}

impl Acceptors {
    /// Their tokens are the [numbers](Key::listener_token) of their places.
    pub(super) fn new(acceptors: Vec<Acceptor>) -> Acceptors {
        Acceptors { acceptors, next: 0 }
    }

    /// From now on clients are let in.
    pub(super) fn release(&mut self) {
        self.acceptors.iter_mut().for_each(Acceptor::release);
    }

    /// One of the sockets has a client in its backlog. Returns false if the token is not one of theirs.
    pub(super) fn on_event(&mut self, token: Token) -> bool {
        let Some(place) = Key::listener(token) else { return false };
        self.acceptors.get_mut(place).into_iter().for_each(Acceptor::listener_is_ready);
        true
    }

    /// There may be somebody in every backlog.
    pub(super) fn all_are_ready(&mut self) {
        self.acceptors.iter_mut().for_each(Acceptor::listener_is_ready);
    }

    /// There may be room again.
    pub(super) fn look_for_room(&mut self) {
        self.acceptors.iter_mut().for_each(Acceptor::look_for_room);
    }

    /// Whether asking again at once may bring another client.
    pub(super) fn may_have_more(&self) -> bool {
        self.acceptors.iter().any(Acceptor::may_have_more)
    }

    /// When to ask again after a shortage.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.acceptors.iter().filter_map(Acceptor::retry_at).min()
    }

    /// Closes all sockets. Returns false if they were closed before.
    pub(super) fn close(&mut self, registry: &Registry) -> bool {
        let close = |any: bool, acceptor: &mut Acceptor| acceptor.close(registry) | any;
        self.acceptors.iter_mut().fold(false, close)
    }

    /// The next client in a backlog, if there is room for it.
    pub(super) fn accept(&mut self, now: Instant) -> Option<Newcomer> {
        let count = self.acceptors.len();
        for turn in self.next..self.next + count {
            if let Some(newcomer) = self.acceptors[turn % count].accept(now) {
                self.next = (turn + 1) % count;
                return Some(newcomer);
            }
        }
        None
    }
}
