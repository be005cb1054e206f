//! Both sockets of a relay, the peers at their other ends, and epoll.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use super::tcp::{Act, End, Readiness, Tcp};
use crate::worker::socket::Socket;

/// Both sockets and their peers.
pub struct World {
    client: RefCell<Tcp>,
    server: RefCell<Tcp>,
    /// What peers do while the relay is at work: one act before each of its calls.
    meanwhile: RefCell<VecDeque<(End, Act)>>,
    pipe_capacity: usize,
    /// Calls that moved nothing, less those that an act may account for.
    futile: Cell<usize>,
    /// The next call is interrupted by a signal.
    interrupted: Cell<bool>,
    /// All calls.
    pub calls: Cell<usize>,
    /// Bytes that went through pipes.
    pub spliced: Cell<usize>,
}

impl World {
    pub fn new(capacities: [usize; 2], pipe_capacity: usize) -> Rc<World> {
        let [client, server] = capacities.map(|capacity| RefCell::new(Tcp::new(capacity)));
        Rc::new(World {
            client,
            server,
            meanwhile: RefCell::default(),
            pipe_capacity,
            futile: Cell::default(),
            interrupted: Cell::default(),
            calls: Cell::default(),
            spliced: Cell::default(),
        })
    }

    pub fn tcp(&self, end: End) -> RefMut<'_, Tcp> {
        if end == End::Client { self.client.borrow_mut() } else { self.server.borrow_mut() }
    }

    pub fn act(&self, end: End, act: Act) {
        let accepted = self.tcp(end.opposite()).accepted;
        let mut tcp = self.tcp(end);
        if matches!(act, Act::Resets) && !tcp.reset_by_peer {
            tcp.undelivered_at_reset = tcp.sent_by_peer - accepted;
        }
        tcp.act(end, act);
    }

    /// Puts an act off until the relay makes a call.
    pub fn act_meanwhile(&self, end: End, act: Act) {
        self.meanwhile.borrow_mut().push_back((end, act));
    }

    /// Interrupts the next call.
    pub fn interrupt(&self) {
        self.interrupted.set(true);
    }

    /// Has happen what was put off and has not come to pass.
    pub fn catch_up(&self) {
        let acts: Vec<_> = self.meanwhile.borrow_mut().drain(..).collect();
        acts.into_iter().for_each(|(end, act)| self.act(end, act));
    }

    pub fn poll(&self, end: End) -> Option<Readiness> {
        self.tcp(end).poll()
    }

    /// Bounds what follows by calls in vain, of which a loop without end would make ever more.
    pub fn begin_pump(&self) {
        self.futile.set(0);
    }

    /// What happens at the beginning of each call.
    fn begin_call(&self) -> io::Result<()> {
        self.calls.set(self.calls.get() + 1);
        let act = self.meanwhile.borrow_mut().pop_front();
        match act {
            Some((end, act)) => self.act(end, act),
            None => self.futile.set(self.futile.get() + 1),
        }
        if self.interrupted.take() { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    }

    /// Notes what a call came to.
    fn returning(&self, result: io::Result<usize>) -> io::Result<usize> {
        if matches!(result, Ok(1..)) {
            self.futile.set(0);
        }
        assert!(self.futile.get() < 8, "the relay calls again and again in vain");
        result
    }
}

/// The relay's socket at one end.
pub struct ModelSocket {
    pub world: Rc<World>,
    pub end: End,
}

impl ModelSocket {
    fn tcp(&self) -> RefMut<'_, Tcp> {
        self.world.tcp(self.end)
    }

    /// Ends what is sent to the peer.
    pub fn shut_down(&self) {
        let sent = self.world.tcp(self.end.opposite()).sent_by_peer;
        self.tcp().shut_down(sent);
    }

    pub fn take_error(&self) -> Option<io::Error> {
        self.tcp().take_error()
    }
}

impl Socket for ModelSocket {
    type Pipe = RefCell<VecDeque<u8>>;

    fn open_pipe() -> io::Result<Self::Pipe> {
        Ok(RefCell::default())
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.world.begin_call()?;
        let mut tcp = self.tcp();
        tcp.skip_urgent();
        let count = tcp.readable().min(buffer.len());
        buffer.iter_mut().zip(tcp.read(count)).for_each(|(place, byte)| *place = byte);
        let result = if count > 0 { Ok(count) } else { tcp.nothing_to_read() };
        drop(tcp);
        self.world.returning(result)
    }

    fn send(&self, bytes: &[u8], more: bool) -> io::Result<usize> {
        self.world.begin_call()?;
        let result = self.tcp().accept(self.end, bytes, more);
        self.world.returning(result)
    }

    fn splice_into(&self, pipe: &Self::Pipe, most: usize) -> io::Result<usize> {
        self.world.begin_call()?;
        let (mut tcp, mut pipe) = (self.tcp(), pipe.borrow_mut());
        let room = self.world.pipe_capacity - pipe.len();
        let count = tcp.readable().min(most).min(room);
        pipe.extend(tcp.read(count));
        let result = match count {
            0 if room == 0 => Err(io::ErrorKind::WouldBlock.into()),
            0 => tcp.nothing_to_read(),
            count => Ok(count),
        };
        drop(tcp);
        self.world.returning(result)
    }

    fn splice_out_of(&self, pipe: &Self::Pipe, most: usize) -> io::Result<usize> {
        self.world.begin_call()?;
        let mut pipe = pipe.borrow_mut();
        let bytes: Vec<u8> = pipe.iter().copied().take(most).collect();
        let result = self.tcp().accept(self.end, &bytes, false);
        let count = *result.as_ref().unwrap_or(&0);
        pipe.drain(..count);
        self.world.spliced.set(self.world.spliced.get() + count);
        self.world.returning(result)
    }
}
