//! The thread that talks to the processes before this one: it counts what they report, and passes on what they are to do.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use log::warn;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use super::predecessors::{PredecessorLink, Predecessors, Word};
use super::{Holder, Message, Order, clients, count_there, holders};
use crate::address::PeerAddress;
use crate::config::Name;
use crate::pool::{Event, RotationId};
use crate::service::{Inventory, PoolEntry};
use crate::stats::Stats;
use crate::worker;

const WAKER: Token = Token(0);
const LINK: Token = Token(1);

pub(super) struct Listener {
    poll: Poll,
    heard: Receiver<Word>,
    links: Vec<PredecessorLink>,
    inventory: Inventory,
    stats: Stats,
    workers: worker::Handle,
    paused: bool,
    /// Closed when every process has been sent the order to stop.
    stopping: Option<Sender<()>>,
    _alive: Sender<()>,
}

impl Listener {
    /// The thread's part and what speaks to it, before the thread is started.
    pub(super) fn new(
        links: Vec<PredecessorLink>,
        inventory: &Inventory,
        stats: &Stats,
        workers: &worker::Handle,
    ) -> io::Result<(Listener, Predecessors)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        for link in &links {
            link.channel.never_wait()?;
            let interests = Interest::READABLE.add(Interest::WRITABLE);
            poll.registry().register(&mut SourceFd(&link.channel.as_raw_fd()), LINK, interests)?;
        }
        let (words, heard) = unbounded();
        let (alive, ended) = bounded(0);
        let predecessors = Predecessors::new(words, waker, ended);
        inventory.now().pools.iter().for_each(|it| predecessors.follow(it, inventory));
        let (inventory, stats, workers) = (inventory.clone(), stats.clone(), workers.clone());
        let listener =
            Listener { poll, heard, links, inventory, stats, workers, paused: false, stopping: None, _alive: alive };
        Ok((listener, predecessors))
    }

    /// Runs until no process is left.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(64);
        // It may have moved since they decided themselves.
        self.order_single();
        self.tell();
        while !self.links.is_empty() {
            match self.poll.poll(&mut events, self.time_to_wait()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // Nothing that comes from outside can bring this about.
                result => result.expect("the event queue works"),
            }
            self.obey_all();
            let now = Instant::now();
            self.links.iter_mut().for_each(|link| link.expire(now));
            if !self.paused {
                self.listen();
                self.tell();
            }
        }
        // A destination that moved before its count was cleared took the count with it.
        self.obey_all();
    }

    /// `None`: until something happens.
    fn time_to_wait(&self) -> Option<Duration> {
        let deadline = self.links.iter().filter_map(|link| link.questions.deadline()).min()?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    pub(super) fn obey_all(&mut self) {
        while let Ok(word) = self.heard.try_recv() {
            self.obey(word);
        }
    }

    fn obey(&mut self, word: Word) {
        match word {
            Word::Order(order) => self.order(order),
            Word::Settled => self.order_single(),
            Word::Added => self.count(self.links.iter().flat_map(|link| link.connections.keys().cloned()).collect()),
            Word::Find(survey) => self.links.iter_mut().for_each(|link| link.find(survey.split(), Instant::now())),
            Word::Kick(ids) => self.links.iter_mut().for_each(|link| link.kick(&ids)),
            Word::Stop(done) => {
                self.order(Order::Stop);
                self.stopping = Some(done);
            }
            Word::Pause(reply) => {
                self.paused = true;
                // It fails only if the receiver has been dropped, which then needs no copy.
                let _ = reply.send(self.links.iter().filter_map(PredecessorLink::copy).collect());
            }
            Word::Resume => self.paused = false,
            Word::End => self.links.clear(),
        }
    }

    /// Tells them where the single destination is, unless it is being moved: they hear it when that is over.
    fn order_single(&mut self) {
        for service in &self.inventory.now().services {
            if let Some(address) = service.rotation().single() {
                self.order(Order::Single(service.config.name.to_string(), address));
            }
        }
    }

    fn order(&mut self, order: Order) {
        let holders = match &order {
            Order::Move(pool, ..) => holders(&self.inventory.now(), pool),
            _ => Vec::new(),
        };
        self.links.iter_mut().for_each(|link| link.order(order.clone(), &holders));
        if let Order::Move(_, from, to) = order {
            // What was reported since the pool moved it could not be counted there.
            self.count(holders.into_iter().flat_map(|holder| [(holder.clone(), from), (holder, to)]).collect());
        }
    }

    pub(super) fn tell(&mut self) {
        self.links.retain_mut(|link| {
            let listens = link.tell();
            if !listens {
                warn!("a process before this one does not listen: what is left of its connections does not count here");
            }
            listens
        });
        if self.links.iter().all(|link| link.orders.is_empty()) {
            self.stopping = None;
        }
    }

    pub(super) fn listen(&mut self) {
        let mut changed = BTreeSet::new();
        let stats = &self.stats;
        self.links.retain_mut(|link| {
            loop {
                match link.channel.receive() {
                    Ok(Some((Message::Traffic { connections, counted }, _))) => {
                        stats.add(counted);
                        for (holder, address, count) in connections {
                            let key = (holder, address);
                            changed.insert(key.clone());
                            match count {
                                0 => link.connections.remove(&key),
                                count => link.connections.insert(key, count),
                            };
                        }
                    }
                    Ok(Some((Message::Found { number, sessions, last }, _))) => link.found(number, sessions, last),
                    Ok(Some((Message::Counted(ledger), _))) => super::enter(&self.inventory.now(), &ledger),
                    Ok(Some(_)) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break true,
                    // It has ended.
                    Ok(None) | Err(_) => {
                        changed.extend(link.connections.keys().cloned());
                        break false;
                    }
                }
            }
        });
        self.count(changed);
    }

    fn count(&self, keys: BTreeSet<(Holder, PeerAddress)>) {
        let setup = self.inventory.now();
        for key in keys {
            let connections = self.links.iter().filter_map(|link| link.connections.get(&key)).sum();
            let (holder, address) = key;
            count_there(&setup, &holder, address, connections);
        }
        self.workers.set_elsewhere(self.clients());
    }

    /// How many clients they have.
    pub(super) fn clients(&self) -> usize {
        clients(self.links.iter().flat_map(|link| &link.connections).map(|((holder, _), count)| (holder, *count)))
    }
}

impl Predecessors {
    /// Passes on to those processes what happens in a pool.
    pub(in crate::daemon) fn follow(&self, PoolEntry { config, pool }: &PoolEntry, inventory: &Inventory) {
        let (name, inventory, words) = (Name::clone(&config.name), inventory.clone(), self.words.clone());
        pool.subscribe(Box::new(move |event| {
            let word = match event {
                Event::Closed(_, address, whose) => match holder(&inventory, &name, whose) {
                    Some(holder) => Word::Order(Order::Close(holder, address)),
                    None => return,
                },
                Event::Moved(_, from, to) => Word::Order(Order::Move(name.to_string(), from, to)),
                Event::Settled => Word::Settled,
                Event::Added(_) => Word::Added,
                _ => return,
            };
            words.send(word);
        }));
    }
}

/// Whose connections are closed: all of the pool's, or those of one of its services. `None` if that is no more.
fn holder(inventory: &Inventory, pool: &Name, whose: Option<RotationId>) -> Option<Holder> {
    let Some(rotation) = whose else { return Some(Holder::Pool(pool.to_string())) };
    let setup = inventory.now();
    let service = setup.services_of(pool).find(|it| it.rotation().id() == rotation)?;
    Some(Holder::Service(service.config.name.to_string()))
}
