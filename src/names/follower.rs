//! The thread that resolves the names of all pools, and whose turn it is to have one looked up.

use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, select, unbounded};

use super::pool_names::PoolNames;
use super::{Message, Thread};
use crate::address::{Endpoint, PeerAddress};
use crate::resolve::{OwnAddresses, Resolver};

/// The addresses that a name of the pool with this number has.
type Answer = (u32, Endpoint, io::Result<Vec<PeerAddress>>);

/// Resolves the names of all pools.
pub(super) struct Follower {
    own_addresses: OwnAddresses,
    resolver: Resolver,
    thread: Thread,
    /// By their numbers.
    pools: BTreeMap<u32, PoolNames>,
    /// The pool that had its turn last.
    last: u32,
    answers: (Sender<Answer>, Receiver<Answer>),
}

impl Follower {
    pub(super) fn new(own_addresses: OwnAddresses, resolver: Resolver, thread: Thread) -> Follower {
        Follower { own_addresses, resolver, thread, pools: BTreeMap::new(), last: 0, answers: unbounded() }
    }

    /// Goes on until nothing is left to be done, or nothing more can be told.
    pub(super) fn run(&mut self, messages: &Receiver<Message>) {
        let answers = self.answers.1.clone();
        loop {
            let now = Instant::now();
            self.pools.values_mut().for_each(|pool| pool.begin_rounds(now));
            self.pools.retain(|_, pool| !pool.is_done());
            self.ask(now);
            let Some(next) = self.pools.values().filter_map(PoolNames::next_deadline).min() else {
                if self.thread.ends(messages) {
                    return;
                }
                // The message that has arrived meanwhile.
                match messages.recv() {
                    Ok(message) => self.obey(message),
                    Err(_) => return,
                }
                continue;
            };
            select! {
                recv(messages) -> message => match message {
                    Ok(message) => self.obey(message),
                    Err(_) => return,
                },
                recv(answers) -> answer => answer.into_iter().for_each(|answer| self.on_answer(answer)),
                default(next.saturating_duration_since(now)) => {}
            }
        }
    }

    fn obey(&mut self, message: Message) {
        match message {
            Message::Follow(settings) => {
                let (number, now) = (settings.pool.number(), Instant::now());
                match self.pools.get_mut(&number) {
                    Some(pool) => pool.change(settings, now),
                    None => drop(self.pools.insert(number, PoolNames::new(settings, now))),
                }
            }
            // What is being looked up for it will be of no use.
            Message::Forget(number) => drop(self.pools.remove(&number)),
            Message::Release => {}
        }
    }

    fn on_answer(&mut self, (number, name, answer): Answer) {
        if let Some(pool) = self.pools.get_mut(&number) {
            pool.on_answer(&name, answer, &self.own_addresses);
        }
    }

    /// Has as many names looked up as may be at once, the pools taking turns.
    fn ask(&mut self, now: Instant) {
        while let Some(number) = self.whose_turn() {
            let Some(pool) = self.pools.get_mut(&number) else { return };
            let Some((name, kept)) = pool.next() else { return };
            let (answer, asked) = (self.answers.0.clone(), name.clone());
            // Sending fails only when this thread has ended, which needs no answer any more.
            let done = move |addresses| drop(answer.send((number, asked, addresses)));
            if self.resolver.resolve_later(name, kept, done).is_err() {
                return;
            }
            pool.next_is_asked(now);
            self.last = number;
        }
    }

    /// The next pool that may have a name looked up.
    fn whose_turn(&self) -> Option<u32> {
        let may_ask = |pool: &PoolNames| pool.running_if_any_waits().is_some_and(|it| self.resolver.has_room_for(it));
        let mut following = self.pools.range(self.last.saturating_add(1)..).chain(self.pools.range(..=self.last));
        following.find(|(_, pool)| may_ask(pool)).map(|(number, _)| *number)
    }
}
