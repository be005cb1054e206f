//! The processes that this one has taken over from and that still have connections: they count here, follow their
//! destinations, and are closed when these are removed or down.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use mio::Waker;

use super::listener::Listener;
use super::sessions::Questions;
use super::{Channel, Connections, Holder, Message, Order, PORTION};
use crate::address::PeerAddress;
use crate::service::Inventory;
use crate::sessions::{SessionId, SurveyPart};
use crate::stats::Stats;
use crate::supervise;
use crate::worker;

/// Most orders that wait for a process that does not listen.
const MAX_ORDERS: usize = 65_536;
/// How long the end may wait for all to have heard of it.
const STOPPING: Duration = Duration::from_millis(300);

/// One of them.
pub(in crate::daemon) struct PredecessorLink {
    pub(super) channel: Channel,
    /// Its number, if it answers questions; an earlier version does not.
    pub(super) pid: Option<u32>,
    pub(super) connections: HashMap<(Holder, PeerAddress), usize>,
    /// Those that it has not been told yet.
    pub(super) orders: VecDeque<Order>,
    pub(super) questions: Questions,
}

impl PredecessorLink {
    pub(super) fn new(
        channel: Channel,
        pid: Option<u32>,
        connections: &Connections,
        orders: &[Order],
    ) -> PredecessorLink {
        let connections = connections.iter().map(|(holder, address, count)| ((holder.clone(), *address), *count));
        let (connections, orders) = (connections.collect(), orders.iter().cloned().collect());
        PredecessorLink { channel, pid, connections, orders, questions: Questions::default() }
    }

    /// The same process, for another one that is to listen to it.
    pub(super) fn copy(&self) -> Option<PredecessorLink> {
        let (channel, connections) = (self.channel.try_clone().ok()?, self.connections.clone());
        let (pid, orders) = (self.pid, self.orders.clone());
        Some(PredecessorLink { channel, pid, connections, orders, questions: Questions::default() })
    }

    /// Its process ID, to be handed on in the next upgrade.
    pub(in crate::daemon) fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Its connections, to be handed on in the next upgrade.
    pub(in crate::daemon) fn connections(&self) -> Connections {
        let connections = self.connections.iter();
        connections.map(|((holder, address), count)| (holder.clone(), *address, *count)).collect()
    }

    /// What it has not been told yet.
    pub(in crate::daemon) fn orders(&self) -> Vec<Order> {
        self.orders.iter().cloned().collect()
    }

    /// Has it told something. Those who hold connections of a pool in which a destination moves are `holders`.
    pub(super) fn order(&mut self, order: Order, holders: &[Holder]) {
        if let Order::Move(_, from, to) = order {
            for holder in holders {
                if let Some(count) = self.connections.remove(&(holder.clone(), from)) {
                    *self.connections.entry((holder.clone(), to)).or_default() += count;
                }
            }
        }
        self.orders.push_back(order);
    }

    /// Tells it what it has to do, as far as it listens. False when there is no use in that any more.
    pub(super) fn tell(&mut self) -> bool {
        while !self.orders.is_empty() {
            let mut size = 0;
            let fits = |order: &&Order| {
                size += order.size();
                size <= PORTION
            };
            let portion: Vec<Order> = self.orders.iter().take_while(fits).cloned().collect();
            let count = portion.len();
            match self.channel.send(&Message::Orders(portion), &[]) {
                Ok(()) => drop(self.orders.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // It is gone, which is noticed when it is listened to.
                Err(_) => self.orders.clear(),
            }
        }
        if self.orders.is_empty() {
            self.questions.ask(&self.channel, Instant::now());
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
pub(super) enum Word {
    Order(Order),
    /// The single destination has moved.
    Settled,
    /// A destination, a pool or a service is new, and they may still have connections of one that was there before.
    Added,
    /// They are to say which of their connections are meant.
    Find(SurveyPart),
    /// They are to close those of these connections that are theirs.
    Kick(Vec<SessionId>),
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
    pub(super) words: WordSender,
    ended: Receiver<()>,
}

/// How that thread is told something.
#[derive(Clone)]
pub(super) struct WordSender {
    words: Sender<Word>,
    waker: Arc<Waker>,
}

impl WordSender {
    pub(super) fn send(&self, word: Word) {
        // A thread that has ended, since nobody was left, needs to hear nothing.
        if self.words.send(word).is_ok() {
            // Fails only when the counter behind it is full, and then the thread will wake.
            let _ = self.waker.wake();
        }
    }
}

impl Predecessors {
    /// Starts to listen to them, and to go on counting their connections in the pools and for the limit of `workers`, which
    /// begins with [`State::count_elsewhere`](super::State::count_elsewhere), and what they carry in `stats`.
    ///
    /// # Errors
    /// When there is no descriptor or no thread left.
    pub(in crate::daemon) fn start(
        links: Vec<PredecessorLink>,
        inventory: &Inventory,
        stats: &Stats,
        workers: &worker::Handle,
    ) -> io::Result<Self> {
        let (listener, predecessors) = Listener::new(links, inventory, stats, workers)?;
        supervise::spawn("predecessors", move || listener.run())?;
        Ok(predecessors)
    }

    pub(super) fn new(words: Sender<Word>, waker: Arc<Waker>, ended: Receiver<()>) -> Predecessors {
        Predecessors { words: WordSender { words, waker }, ended }
    }

    /// Pools or services are others than before.
    pub(in crate::daemon) fn setup_changed(&self) {
        self.words.send(Word::Added);
    }

    /// Has them close a service's connections to this destination.
    pub(in crate::daemon) fn close(&self, service: &str, address: PeerAddress) {
        self.words.send(Word::Order(Order::Close(Holder::Service(service.to_owned()), address)));
    }

    /// Has them stop at once.
    pub(in crate::daemon) fn stop(&self) {
        let (done, stopped) = bounded(0);
        self.words.send(Word::Stop(done));
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
        self.words.send(Word::Pause(reply));
        links.recv().unwrap_or_default()
    }

    /// Listens again after [`pause`](Predecessors::pause).
    pub(in crate::daemon) fn resume(&self) {
        self.words.send(Word::Resume);
    }
}

impl Drop for Predecessors {
    fn drop(&mut self) {
        self.words.send(Word::End);
    }
}
