//! The processes that this one has taken over from and that still have connections: they count here, follow their
//! destinations, and are closed when these are removed or down.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use log::warn;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use super::{Channel, Connections, Message, Order, PORTION};
use crate::stats::Stats;
use crate::table::{Event, Table};
use crate::worker;

const WAKER: Token = Token(0);
const LINK: Token = Token(1);
/// Most orders that wait for a process that does not listen.
const MAX_ORDERS: usize = 65_536;
/// How long the end may wait for all to have heard of it.
const STOPPING: Duration = Duration::from_millis(300);

/// One of them.
pub(in crate::daemon) struct PredecessorLink {
    channel: Channel,
    connections: HashMap<SocketAddr, usize>,
    /// Those that it has not been told yet.
    orders: VecDeque<Order>,
}

impl PredecessorLink {
    pub(super) fn new(channel: Channel, connections: &Connections, orders: &[Order]) -> PredecessorLink {
        let (connections, orders) = (connections.iter().copied().collect(), orders.iter().copied().collect());
        PredecessorLink { channel, connections, orders }
    }

    /// What it has, for the next one that hears of it.
    pub(in crate::daemon) fn connections(&self) -> Connections {
        self.connections.iter().map(|(address, count)| (*address, *count)).collect()
    }

    /// What it has not been told yet.
    pub(in crate::daemon) fn orders(&self) -> Vec<Order> {
        self.orders.iter().copied().collect()
    }

    fn order(&mut self, order: Order) {
        if let Order::Move(from, to) = order
            && let Some(count) = self.connections.remove(&from)
        {
            self.connections.insert(to, count);
        }
        self.orders.push_back(order);
    }

    /// Tells it what it has to do, as far as it listens. False when there is no use in that any more.
    fn tell(&mut self) -> bool {
        while !self.orders.is_empty() {
            let portion: Vec<Order> = self.orders.iter().take(PORTION).copied().collect();
            let count = portion.len();
            match self.channel.send(&Message::Orders(portion), &[]) {
                Ok(()) => drop(self.orders.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // It is gone, which is noticed when it is listened to.
                Err(_) => self.orders.clear(),
            }
        }
        self.orders.len() <= MAX_ORDERS
    }
}

impl AsFd for PredecessorLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

/// What the thread is told that talks to them.
enum Word {
    Order(Order),
    /// The single destination has moved.
    Settled,
    /// They are to stop at once. Dropped when all have heard it.
    Stop(Sender<()>),
    /// Nobody is to be listened to, so that another process can; this is how far each is.
    Pause(Sender<Vec<PredecessorLink>>),
    /// The other process did not come about.
    Resume,
    /// The other process listens now.
    End,
}

/// The thread that talks to them, and ends with this.
pub(in crate::daemon) struct Predecessors {
    words: Sender<Word>,
    waker: Arc<Waker>,
    ended: Receiver<()>,
}

impl Predecessors {
    /// Starts to listen to them, and to go on counting their connections in `table` and for the limit of `workers`, which
    /// begins with [`State::count_elsewhere`](super::State::count_elsewhere), and what they carry in `stats`.
    ///
    /// # Errors
    /// When there is no descriptor or no thread left.
    pub(in crate::daemon) fn start(
        links: Vec<PredecessorLink>,
        table: &Table,
        stats: &Stats,
        workers: &worker::Handle,
    ) -> io::Result<Self> {
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
                Event::Closed(_, address) => Word::Order(Order::Close(address)),
                Event::Moved(_, from, to) => Word::Order(Order::Move(from, to)),
                Event::Settled => Word::Settled,
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
        thread::Builder::new().name("predecessors".into()).spawn(move || listener.run())?;
        Ok(Predecessors { words, waker, ended })
    }

    /// Has them close their connections to this destination.
    pub(in crate::daemon) fn close(&self, address: SocketAddr) {
        self.say(Word::Order(Order::Close(address)));
    }

    /// Has them stop at once.
    pub(in crate::daemon) fn stop(&self) {
        let (done, stopped) = bounded(0);
        self.say(Word::Stop(done));
        // Closed without a word when it is done, or the thread is not there any more.
        let _ = stopped.recv_timeout(STOPPING);
    }

    /// Something that is closed without a word when the last of them has ended.
    pub(in crate::daemon) fn ended(&self) -> Receiver<()> {
        self.ended.clone()
    }

    /// Listens to nobody from now on, and returns the conversations as they are.
    pub(in crate::daemon) fn pause(&self) -> Vec<PredecessorLink> {
        let (reply, links) = bounded(1);
        self.say(Word::Pause(reply));
        links.recv().unwrap_or_default()
    }

    /// Listens again after [`pause`](Predecessors::pause).
    pub(in crate::daemon) fn resume(&self) {
        self.say(Word::Resume);
    }

    fn say(&self, word: Word) {
        // A thread that has ended, since nobody was left, needs to hear nothing.
        if self.words.send(word).is_ok() {
            let _ = self.waker.wake();
        }
    }
}

impl Drop for Predecessors {
    fn drop(&mut self) {
        self.say(Word::End);
    }
}

struct Listener {
    poll: Poll,
    heard: Receiver<Word>,
    links: Vec<PredecessorLink>,
    table: Table,
    stats: Stats,
    workers: worker::Handle,
    paused: bool,
    /// Whoever waits for all to have heard that they are to stop.
    stopping: Option<Sender<()>>,
    _alive: Sender<()>,
}

impl Listener {
    /// Goes on until none is left.
    fn run(mut self) {
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
            while let Ok(word) = self.heard.try_recv() {
                self.obey(word);
            }
            if !self.paused {
                self.listen();
                self.tell();
            }
        }
    }

    fn obey(&mut self, word: Word) {
        match word {
            Word::Order(order) => self.order(order),
            Word::Settled => self.order_single(),
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
                // Whoever asked waits for it.
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
    }

    fn tell(&mut self) {
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

    fn listen(&mut self) {
        let mut changed = BTreeSet::new();
        let stats = &self.stats;
        self.links.retain_mut(|link| {
            loop {
                match link.channel.receive() {
                    Ok(Some((Message::Traffic { connections, counted }, _))) => {
                        stats.add(counted);
                        for (address, count) in connections {
                            changed.insert(address);
                            link.connections.insert(address, count);
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
        }
        self.workers.set_elsewhere(self.links.iter().flat_map(|link| link.connections.values()).sum());
    }
}
