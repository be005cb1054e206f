//! The processes that this one has taken over from and that still have connections: they count here, and are closed when
//! their destination is removed or down.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use super::{Channel, Connections, Message};
use crate::stats::Stats;
use crate::table::{Event, Table};

const WAKER: Token = Token(0);
const LINK: Token = Token(1);

/// One of them.
pub(in crate::daemon) struct PredecessorLink {
    channel: Channel,
    connections: HashMap<SocketAddr, usize>,
}

impl PredecessorLink {
    pub(super) fn new(channel: Channel, connections: &Connections) -> PredecessorLink {
        PredecessorLink { channel, connections: connections.iter().copied().collect() }
    }

    /// What it has, for the next one that hears of it.
    pub(in crate::daemon) fn connections(&self) -> Connections {
        self.connections.iter().map(|(address, count)| (*address, *count)).collect()
    }
}

impl AsFd for PredecessorLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

/// What the thread is told that talks to them.
enum Word {
    /// Their connections to this destination are to be closed.
    Close(SocketAddr),
    /// They are to stop at once.
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
}

impl Predecessors {
    /// Starts to listen to them, and to count their connections in `table` and what these carry in `stats`.
    ///
    /// # Errors
    /// When there is no descriptor or no thread left.
    pub(in crate::daemon) fn start(links: Vec<PredecessorLink>, table: &Table, stats: &Stats) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        for link in &links {
            link.channel.never_wait()?;
            poll.registry().register(&mut SourceFd(&link.channel.as_raw_fd()), LINK, Interest::READABLE)?;
        }
        let (words, heard) = unbounded();
        let (closes, bell) = (words.clone(), Arc::clone(&waker));
        table.subscribe(Box::new(move |event| {
            if let Event::Closed(_, address) = event
                && closes.send(Word::Close(address)).is_ok()
            {
                // Fails only when the counter behind it is full, and then the thread will wake.
                let _ = bell.wake();
            }
        }));
        let (table, stats) = (table.clone(), stats.clone());
        let listener = Listener { poll, heard, links, table, stats, paused: false };
        listener.count_all();
        thread::Builder::new().name("predecessors".into()).spawn(move || listener.run())?;
        Ok(Predecessors { words, waker })
    }

    /// Has them stop at once.
    pub(in crate::daemon) fn stop(&self) {
        let (done, stopped) = bounded(0);
        self.say(Word::Stop(done));
        // Closed without a word when it is done, or the thread is not there any more.
        let _ = stopped.recv();
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
    paused: bool,
}

impl Listener {
    /// Goes on until none is left.
    fn run(mut self) {
        let mut events = Events::with_capacity(64);
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
            }
        }
    }

    fn obey(&mut self, word: Word) {
        match word {
            Word::Close(address) => self.tell(&Message::Close(address)),
            Word::Stop(done) => {
                self.tell(&Message::Stop);
                drop(done);
            }
            Word::Pause(reply) => {
                self.paused = true;
                let copy = |link: &PredecessorLink| {
                    Some(PredecessorLink {
                        channel: link.channel.try_clone().ok()?,
                        connections: link.connections.clone(),
                    })
                };
                // Whoever asked waits for it.
                let _ = reply.send(self.links.iter().filter_map(copy).collect());
            }
            Word::Resume => self.paused = false,
            Word::End => self.links.clear(),
        }
    }

    fn tell(&self, message: &Message) {
        for link in &self.links {
            // One that is gone has nothing to close any more.
            let _ = link.channel.send(message, &[]);
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
        changed.into_iter().for_each(|address| self.count(address));
    }

    fn count_all(&self) {
        let addresses: BTreeSet<SocketAddr> =
            self.links.iter().flat_map(|link| link.connections.keys().copied()).collect();
        addresses.into_iter().for_each(|address| self.count(address));
    }

    fn count(&self, address: SocketAddr) {
        let connections = self.links.iter().filter_map(|link| link.connections.get(&address)).sum();
        self.table.set_elsewhere(address, connections);
    }
}
