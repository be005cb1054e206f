//! The thread that talks to the processes before this one: it counts what they report, and passes on what they are to do.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use log::warn;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use super::predecessors::{PredecessorLink, Predecessors, Word};
use super::{Message, Order};
use crate::pool::{Event, Rotation};
use crate::stats::Stats;
use crate::worker;

const WAKER: Token = Token(0);
const LINK: Token = Token(1);

pub(super) struct Listener {
    poll: Poll,
    heard: Receiver<Word>,
    links: Vec<PredecessorLink>,
    table: Rotation,
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
        table: &Rotation,
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
        let (orders, bell) = (words.clone(), Arc::clone(&waker));
        table.subscribe(Box::new(move |event| {
            let word = match event {
                Event::Closed(_, address, _) => Word::Order(Order::Close(address)),
                Event::Moved(_, from, to) => Word::Order(Order::Move(from, to)),
                Event::Settled => Word::Settled,
                Event::Added(_) => Word::Added,
                _ => return,
            };
            if orders.send(word).is_ok() {
                // Fails only when the counter behind it is full, and then the thread will wake.
                let _ = bell.wake();
            }
        }));
        let (table, stats, workers) = (table.clone(), stats.clone(), workers.clone());
        let (alive, ended) = bounded(0);
        let listener =
            Listener { poll, heard, links, table, stats, workers, paused: false, stopping: None, _alive: alive };
        Ok((listener, Predecessors::new(words, waker, ended)))
    }

    /// Runs until no process is left.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(64);
        // It may have moved since they decided themselves.
        self.order_single();
        self.tell();
        while !self.links.is_empty() {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // Nothing that comes from outside can bring this about.
                result => result.expect("the event queue works"),
            }
            self.obey_all();
            if !self.paused {
                self.listen();
                self.tell();
            }
        }
        // A destination that moved before its count was cleared took the count with it.
        self.obey_all();
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
            Word::Added => self.count(self.links.iter().flat_map(|link| link.connections.keys().copied()).collect()),
            Word::Stop(done) => {
                self.order(Order::Stop);
                self.stopping = Some(done);
            }
            Word::Pause(reply) => {
                self.paused = true;
                let copy = |link: &PredecessorLink| {
                    let (channel, connections) = (link.channel.try_clone().ok()?, link.connections.clone());
                    Some(PredecessorLink { channel, connections, orders: link.orders.clone() })
                };
                // It fails only if the receiver has been dropped, which then needs no copy.
                let _ = reply.send(self.links.iter().filter_map(copy).collect());
            }
            Word::Resume => self.paused = false,
            Word::End => self.links.clear(),
        }
    }

    /// Tells them where the single destination is, unless it is being moved: they hear it when that is over.
    fn order_single(&mut self) {
        if let Some(address) = self.table.single() {
            self.order(Order::Single(address));
        }
    }

    fn order(&mut self, order: Order) {
        self.links.iter_mut().for_each(|link| link.order(order));
        if let Order::Move(from, to) = order {
            // What was reported since the table moved it could not be counted there.
            self.count([from, to].into());
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
                        for (address, count) in connections {
                            changed.insert(address);
                            match count {
                                0 => link.connections.remove(&address),
                                count => link.connections.insert(address, count),
                            };
                        }
                    }
                    Ok(Some(_)) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break true,
                    // It has ended.
                    Ok(None) | Err(_) => {
                        changed.extend(link.connections.keys());
                        break false;
                    }
                }
            }
        });
        self.count(changed);
    }

    fn count(&self, addresses: BTreeSet<SocketAddr>) {
        for address in addresses {
            let connections = self.links.iter().filter_map(|link| link.connections.get(&address)).sum();
            self.table.set_elsewhere(address, connections);
            self.table.set_sessions_elsewhere(address, connections);
        }
        self.workers.set_elsewhere(self.clients());
    }

    /// How many clients they have.
    pub(super) fn clients(&self) -> usize {
        self.links.iter().flat_map(|link| link.connections.values()).sum()
    }
}
