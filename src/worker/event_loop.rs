//! One event loop and its connections.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll};
use slab::Slab;

use super::accept::{Accepted, Acceptor, Newcomer};
use super::accepting_workers::AcceptingWorkers;
use super::acceptors::Acceptors;
use super::connection::{Connection, Ending, Next};
use super::kit::Kit;
use super::mailbox::{Inbox, MailboxSender};
use super::message::Message;
use super::surveys::Surveys;
use super::synchronous::ConnectTurns;
use super::{Key, MAIL};
use crate::pool::Event;
use crate::sessions::SessionId;

/// Events taken from the kernel at a time.
const EVENTS: usize = 1024;
/// Clients accepted before the connections get their turn again.
const ACCEPTS: usize = 64;

/// One event loop and its connections.
pub(super) struct Worker {
    poll: Poll,
    inbox: Inbox<Message>,
    mailboxes: Box<[MailboxSender<Message>]>,
    acceptors: Acceptors,
    accepting: Arc<AcceptingWorkers>,
    connections: Slab<Connection>,
    generation: u32,
    /// Connections that have more to do than they were given time for.
    unfinished: VecDeque<Key>,
    turns: ConnectTurns,
    surveys: Surveys,
    kit: Kit,
}

impl Worker {
    pub(super) fn new(
        poll: Poll,
        inbox: Inbox<Message>,
        mailboxes: Box<[MailboxSender<Message>]>,
        accepting: Arc<AcceptingWorkers>,
        kit: Kit,
    ) -> Worker {
        Worker {
            poll,
            inbox,
            mailboxes,
            acceptors: Acceptors::default(),
            accepting,
            connections: Slab::new(),
            generation: 0,
            unfinished: VecDeque::new(),
            turns: ConnectTurns::default(),
            surveys: Surveys::default(),
            kit,
        }
    }

    pub(super) fn index(&self) -> usize {
        self.kit.index
    }

    /// Serves clients until there are none and none can come.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        while !self.is_done() {
            let wait = self.time_to_wait();
            self.turn(&mut events, wait);
        }
    }

    /// One turn of the loop: waits for events, and does all that is to be done then. It is a function for the tests' sake
    /// only, and a call of it costs each message some instructions.
    #[inline(always)]
    fn turn(&mut self, events: &mut Events, wait: Option<Duration>) {
        match self.poll.poll(events, wait) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return,
            // Nothing that comes from outside can bring this about.
            result => result.expect("the event queue works"),
        }
        self.kit.now = Instant::now();
        self.kit.stats().polls.add(1);
        // Not among the events: what has come of a destination before it is cut off is still passed on.
        if self.dispatch(events) {
            self.read_mail();
        }
        self.accept(ACCEPTS);
        self.on_timers();
        self.give_a_turn();
        self.connect_in_turn();
        if !self.surveys.is_empty() {
            self.surveys.go_on(&self.connections, self.kit.index, self.kit.now);
        }
    }

    /// Passes events on. Returns true if one of them is the mailbox's.
    fn dispatch(&mut self, events: &Events) -> bool {
        let mut has_mail = false;
        for event in events {
            match event.token() {
                MAIL => has_mail = true,
                token if self.acceptors.on_event(token) => {}
                token => {
                    let (key, side) = Key::of(token);
                    self.with(key, |connection, kit| connection.on_event(side, event, kit));
                }
            }
        }
        has_mail
    }

    /// Returns true if nothing is left to do, and no other worker can bring more.
    fn is_done(&self) -> bool {
        self.connections.is_empty() && self.accepting.have_left(&self.inbox)
    }

    /// `None`: until something happens.
    fn time_to_wait(&mut self) -> Option<Duration> {
        if !self.unfinished.is_empty() || !self.surveys.is_empty() || self.acceptors.may_have_more() {
            return Some(Duration::ZERO);
        }
        let connections = &self.connections;
        let timer = self.kit.timers.next(|deadline, key| holds(connections, deadline, key));
        let deadline = timer.into_iter().chain(self.acceptors.retry_at()).min()?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    /// Does something with a connection, if it is still there, and what follows from that.
    fn with(&mut self, key: Key, step: impl FnOnce(&mut Connection, &mut Kit) -> Next) {
        let connection = self.connections.get_mut(key.slot as usize).filter(|connection| connection.key() == key);
        let Some(connection) = connection else { return };
        match step(connection, &mut self.kit) {
            Next::Wait => {}
            Next::Again => {
                if connection.join_unfinished() {
                    self.unfinished.push_back(key);
                }
            }
            Next::Connect => self.begin_to_connect(key),
            Next::Close(ending) => {
                self.connections.remove(key.slot as usize).close(ending, self.kit.index, self.kit.now);
                if self.connections.is_empty() {
                    self.kit.tools.rest();
                }
            }
        }
    }

    fn read_mail(&mut self) {
        self.inbox.on_wake();
        self.acceptors.look_for_room();
        while let Some(message) = self.inbox.next() {
            match message {
                Message::Serve(newcomer) => self.serve(newcomer),
                Message::Room(key) => self.with(key, Connection::on_room),
                Message::Pool(Event::Closed(id, _, whose)) => {
                    self.with_all(|connection, kit| connection.on_destination_closed(id, whose, kit));
                }
                Message::Pool(Event::Checked(id, fit)) => {
                    self.with_all(|connection, kit| connection.on_destination_checked(id, fit, kit));
                }
                Message::Pool(Event::Settled) => self.with_all(Connection::on_settled),
                // Of no concern to connections.
                Message::Pool(_) => {}
                Message::Listen(acceptor) => self.acceptors.add(acceptor, &self.kit.registry),
                Message::Accept(group) => self.acceptors.release(group),
                Message::Pause(paused) => self.acceptors.pause(paused),
                Message::Retire(group) => {
                    self.acceptors.remove(group).into_iter().for_each(|acceptor| self.retire(acceptor));
                }
                Message::Replaced => {
                    self.acceptors.follow_replacements();
                    self.with_all(Connection::follow_replacement);
                }
                Message::Survey(survey) => self.surveys.add(survey),
                Message::Kick(ids) => {
                    for SessionId { slot, generation, .. } in ids {
                        self.with(Key { generation, slot }, Connection::kick);
                    }
                }
                Message::Settle(heard) => drop(heard),
                Message::Drain => {
                    self.acceptors.remove_all().into_iter().for_each(|acceptor| self.retire(acceptor));
                    self.stop_accepting();
                }
                Message::HandOver => self.stop_accepting(),
                Message::Stop(done) => {
                    self.stop_accepting();
                    // The process may end before all are closed.
                    self.connections.iter().for_each(|(_, connection)| connection.prepare_to_close(Ending::Cut));
                    self.with_all(Connection::stop);
                    drop(done);
                }
            }
        }
    }

    /// Accepts up to so many clients. Those that are refused are among them: they can come without end.
    fn accept(&mut self, most: usize) {
        for _ in 0..most {
            match self.acceptors.accept(self.kit.now) {
                Accepted::Client(newcomer) => self.assign(newcomer),
                Accepted::Refused => {}
                Accepted::Nothing => break,
            }
        }
    }

    /// Serves an accepted client, or hands it over to another worker.
    fn assign(&mut self, mut newcomer: Newcomer) {
        self.kit.stats().connections.add(1);
        match newcomer.admitted.assign(self.kit.index) {
            own if own == self.kit.index => self.serve(newcomer),
            other => self.mailboxes[other].send(Message::Serve(newcomer)),
        }
    }

    fn serve(&mut self, mut newcomer: Newcomer) {
        // The worker that has accepted it may not have read yet that the service was replaced.
        if let Some(replacement) = newcomer.service.replacement() {
            newcomer.service = Arc::clone(replacement);
        }
        self.generation = self.generation.wrapping_add(1);
        let entry = self.connections.vacant_entry();
        let key = Key::new(self.generation, entry.key());
        let connection = entry.insert(Connection::new(key, newcomer, &self.kit));
        // When it fails, it is done again before the client is connected to a destination.
        let _ = connection.watch_client(&self.kit);
        match connection.awaits_header() {
            true => self.with(key, Connection::read_header),
            false => self.begin_to_connect(key),
        }
    }

    /// Has a connection look for a destination, in its turn if it connects in turn.
    fn begin_to_connect(&mut self, key: Key) {
        let connects_in_turn = find(&self.connections, key).is_some_and(Connection::connects_in_turn);
        if !connects_in_turn || self.turns.may_connect(key) {
            self.with(key, Connection::connect);
        }
    }

    fn with_all(&mut self, step: impl Fn(&mut Connection, &mut Kit) -> Next) {
        let keys: Vec<Key> = self.connections.iter().map(|(_, connection)| connection.key()).collect();
        keys.into_iter().for_each(|key| self.with(key, &step));
    }

    /// Accepts the clients that wait already, as far as the process has room, and closes the socket.
    fn retire(&mut self, mut acceptor: Acceptor) {
        acceptor.give_up();
        // No more than there can be: clients that come meanwhile would keep it from ending.
        for _ in 0..acceptor.backlog() {
            match acceptor.accept(self.kit.now) {
                Accepted::Client(newcomer) => self.assign(newcomer),
                Accepted::Refused => {}
                Accepted::Nothing => break,
            }
        }
        acceptor.close(&self.kit.registry);
    }

    fn stop_accepting(&mut self) {
        if self.acceptors.close(&self.kit.registry) {
            self.accepting.leave();
        }
    }

    fn on_timers(&mut self) {
        let mut due = Vec::new();
        let connections = &self.connections;
        let now = self.kit.now;
        self.kit.timers.tidy(connections.len(), |deadline, key| holds(connections, deadline, key));
        while let Some(key) = self.kit.timers.pop_due(now, |deadline, key| holds(connections, deadline, key)) {
            due.push(key);
        }
        for key in due {
            self.with(key, Connection::on_timer);
        }
    }

    /// Goes on with one of the unfinished connections. Only one: then those with small messages, which take no time,
    /// are looked after again.
    fn give_a_turn(&mut self) {
        while let Some(key) = self.unfinished.pop_front() {
            // Some have been closed in the meantime.
            if find(&self.connections, key).is_some() {
                return self.with(key, Connection::resume);
            }
        }
    }

    fn connect_in_turn(&mut self) {
        while let Some(key) = self.next_in_turn() {
            self.with(key, Connection::connect);
        }
    }

    fn next_in_turn(&mut self) -> Option<Key> {
        let connections = &self.connections;
        self.turns.next(|key| find(connections, key).is_some_and(Connection::has_the_turn))
    }
}

fn find(connections: &Slab<Connection>, key: Key) -> Option<&Connection> {
    connections.get(key.slot as usize).filter(|connection| connection.key() == key)
}

fn holds(connections: &Slab<Connection>, deadline: Instant, key: Key) -> bool {
    find(connections, key).is_some_and(|connection| connection.is_armed_for(deadline))
}

#[cfg(test)]
mod tests;
