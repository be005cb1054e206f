//! One TCP socket as Linux has it, as far as a relay can tell: what each call returns, and which changes cause an event.

use std::collections::VecDeque;
use std::io;

use crate::worker::source::Sign;

/// What stands for a byte of urgent data, which is never relayed.
const URGENT: u8 = b'!';

/// One of the two sockets, or the peer at its other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Client,
    Server,
}

impl End {
    pub const BOTH: [End; 2] = [End::Client, End::Server];

    pub fn opposite(self) -> End {
        if self == End::Client { End::Server } else { End::Client }
    }

    /// What a peer sends at this position. It does not repeat, so that a byte in a wrong place is seen.
    fn byte(self, position: usize) -> u8 {
        let mixed = (position as u32 + 1).wrapping_mul(0x9e37_79b1) >> 17;
        mixed as u8 ^ self as u8
    }
}

/// What a peer does.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    /// Sends so many bytes.
    Sends(usize),
    /// Sends urgent data, unless the last is still to be read.
    SendsUrgent,
    /// Sends its end.
    Ends,
    /// Resets the connection.
    Resets,
    /// Reads up to so many bytes.
    Reads(usize),
}

/// One socket, and what its peer has done.
#[derive(Default)]
pub struct Tcp {
    unread: VecDeque<u8>,
    /// Where among the unread bytes the urgent one is.
    urgent: Option<usize>,
    /// All bytes that the peer has sent, without urgent ones.
    pub sent_by_peer: usize,
    pub has_sent_urgent: bool,
    pub ended_by_peer: bool,
    pub reset_by_peer: bool,
    /// Bytes that the other peer had not got yet when this one reset the connection.
    pub undelivered_at_reset: usize,
    /// The error that the next call returns.
    error: Option<i32>,
    /// Room for bytes on their way to the peer.
    pub capacity: usize,
    on_their_way: usize,
    /// A call found less room than it needed: the kernel reports when there is more.
    no_space: bool,
    /// Bytes that were taken for the peer.
    pub accepted: usize,
    /// The last bytes may be kept back for others that follow at once.
    corked: bool,
    is_shut_down: bool,
    /// There may be something to report.
    changed: bool,
}

/// What an event reports.
pub struct Readiness {
    pub sign: Option<Sign>,
    pub writable: bool,
    pub error: bool,
}

impl Tcp {
    pub fn new(capacity: usize) -> Tcp {
        // What is registered is reported at once, as far as it is ready.
        Tcp { capacity, changed: true, ..Tcp::default() }
    }

    fn space(&self) -> usize {
        self.capacity - self.on_their_way
    }

    pub fn is_writable(&self) -> bool {
        self.space() > 0 && self.space() * 3 >= self.capacity
    }

    /// Returns true if there is something to read: bytes, the end or an error.
    pub fn has_something(&self) -> bool {
        let is_at_urgent = usize::from(self.urgent == Some(0));
        self.unread.len() > is_at_urgent || self.ended_by_peer || self.reset_by_peer
    }

    /// Returns true if it has no room, and will report when there is some.
    pub fn awaits_space(&self) -> bool {
        self.no_space || self.changed
    }

    /// Returns true if an event is under way.
    pub fn has_event(&self) -> bool {
        self.changed
    }

    /// Returns true if this peer has ended, and all that it sent was taken for the other.
    pub fn is_relayed(&self, to: &Tcp) -> bool {
        self.ended_by_peer && to.accepted == self.sent_by_peer
    }

    /// Bytes of the peer's that were read, without urgent ones.
    pub fn taken(&self) -> usize {
        self.sent_by_peer + usize::from(self.urgent.is_some()) - self.unread.len()
    }

    /// Returns true if the peer was sent the end.
    pub fn is_shut_down(&self) -> bool {
        self.is_shut_down
    }

    pub fn is_corked(&self) -> bool {
        self.corked
    }

    pub fn act(&mut self, end: End, act: Act) {
        if self.reset_by_peer {
            return;
        }
        match act {
            Act::Reads(most) => {
                self.on_their_way -= most.min(self.on_their_way);
                let makes_room = self.no_space && self.is_writable();
                self.no_space &= !makes_room;
                self.changed |= makes_room;
            }
            Act::Resets => {
                self.reset_by_peer = true;
                self.error = Some(if self.ended_by_peer { libc::EPIPE } else { libc::ECONNRESET });
                self.changed = true;
            }
            _ if self.ended_by_peer => {}
            Act::Sends(count) => {
                let first = self.sent_by_peer;
                self.unread.extend((first..first + count).map(|position| end.byte(position)));
                self.sent_by_peer += count;
                self.changed = true;
            }
            Act::SendsUrgent if self.urgent.is_none() => {
                self.urgent = Some(self.unread.len());
                self.unread.push_back(URGENT);
                (self.has_sent_urgent, self.changed) = (true, true);
            }
            Act::SendsUrgent => {}
            Act::Ends => (self.ended_by_peer, self.changed) = (true, true),
        }
    }

    /// What the kernel finds when the socket may have changed. `None`: nothing to report.
    pub fn poll(&mut self) -> Option<Readiness> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let is_read_closed = self.ended_by_peer || self.reset_by_peer;
        let writable = self.reset_by_peer || self.is_shut_down || self.is_writable();
        self.no_space |= !writable;
        let (error, is_urgent, is_readable) = (self.error.is_some(), self.urgent.is_some(), self.has_something());
        let sign = Sign::shown_by(error || is_urgent, is_read_closed, is_readable);
        (writable || sign.is_some()).then_some(Readiness { sign, writable, error })
    }

    /// Goes on behind urgent data, where that is next: it is not among what a call reads.
    pub fn skip_urgent(&mut self) {
        if self.urgent == Some(0) {
            self.urgent = None;
            self.unread.pop_front();
        }
    }

    /// How many bytes can be read in one go: up to the urgent one.
    pub fn readable(&self) -> usize {
        self.urgent.unwrap_or(self.unread.len())
    }

    pub fn read(&mut self, count: usize) -> impl Iterator<Item = u8> {
        self.urgent = self.urgent.map(|position| position - count);
        self.unread.drain(..count)
    }

    /// What a call returns that finds nothing to read.
    pub fn nothing_to_read(&mut self) -> io::Result<usize> {
        match self.error {
            _ if self.ended_by_peer => Ok(0),
            Some(_) => Err(self.take_error().expect("an error")),
            None if self.reset_by_peer => Ok(0),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    pub fn take_error(&mut self) -> Option<io::Error> {
        self.error.take().map(io::Error::from_raw_os_error)
    }

    /// Takes as many of these bytes as there is room for.
    pub fn accept(&mut self, end: End, bytes: &[u8], more: bool) -> io::Result<usize> {
        assert!(!self.is_shut_down, "bytes are sent behind the end");
        if self.reset_by_peer {
            return Err(self.take_error().unwrap_or_else(|| io::Error::from_raw_os_error(libc::EPIPE)));
        }
        let count = bytes.len().min(self.space());
        self.no_space |= count < bytes.len();
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let first = self.accepted;
        let expected: Vec<u8> = (first..first + count).map(|position| end.opposite().byte(position)).collect();
        assert_eq!(&bytes[..count], &expected, "sent to the {end:?} from position {first} on");
        // Where there is no room for all, nothing is kept back.
        self.corked = more && count == bytes.len();
        (self.accepted, self.on_their_way) = (first + count, self.on_their_way + count);
        Ok(count)
    }

    /// Sends the peer the end, once it was sent all of these bytes.
    pub fn shut_down(&mut self, sent: usize) {
        assert!(!self.is_shut_down, "the end is passed on twice");
        assert!(self.reset_by_peer || self.accepted == sent, "the end overtakes {} bytes", sent - self.accepted);
        (self.is_shut_down, self.corked) = (true, false);
    }
}
