//! One direction of a connection: bytes from a source to a sink.
//!
//! A flow owns memory only while its sink is slower than its source. It remembers what mio's edge-triggered events say
//! just once: that the source may have more to read, that the sink may take more.

use std::io::{self, ErrorKind, Read, Write};

use mio::net::TcpStream;

/// Bytes that a flow may move before others get their turn.
const BUDGET: usize = 256 * 1024;

/// What is known of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Reading would block: nothing came since it was drained.
    Drained,
    /// There may be something to read.
    Readable,
    /// There may be something to read, and behind it the source's end, or more than a short read shows: only reading
    /// nothing proves that it is drained.
    Closing,
    /// Its end was read.
    Ended,
}

/// Bytes that the sink has not taken yet.
struct Held {
    bytes: Box<[u8]>,
    sent: usize,
}

/// One direction.
pub(super) struct Flow {
    source: Source,
    /// The sink took less than it was offered, and has not become writable since.
    blocked: bool,
    held: Option<Held>,
    /// The source's end was passed on: nothing more will ever happen here.
    done: bool,
}

/// How far a flow has come.
#[derive(Debug)]
pub(super) enum Progress {
    /// Nothing can be done until the next event.
    Waiting,
    /// Others should have their turn now; there may be more.
    Unfinished,
    /// Everything up to the source's end is with the sink.
    Ended,
    /// Reading failed: the source was reset.
    SourceFailed(io::Error),
    /// Writing failed: the sink was reset.
    SinkFailed(io::Error),
}

/// Bytes moved and calls made.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub received: usize,
    pub receive_calls: usize,
    pub sent: usize,
    pub send_calls: usize,
}

impl Flow {
    pub(super) fn new() -> Flow {
        Flow { source: Source::Drained, blocked: false, held: None, done: false }
    }

    /// The source may have something to read, and with `closing`, its end.
    pub(super) fn source_is_readable(&mut self, closing: bool) {
        match self.source {
            Source::Ended => {}
            _ if closing => self.source = Source::Closing,
            Source::Drained => self.source = Source::Readable,
            Source::Readable | Source::Closing => {}
        }
    }

    /// The sink may take more.
    pub(super) fn sink_is_writable(&mut self) {
        self.blocked = false;
    }

    /// Nothing more is to be moved.
    pub(super) fn finish(&mut self) {
        self.done = true;
        self.held = None;
    }

    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Moves what can be moved.
    pub(super) fn pump(
        &mut self,
        source: &TcpStream,
        sink: &TcpStream,
        scratch: &mut [u8],
        traffic: &mut Traffic,
    ) -> Progress {
        loop {
            if let Err(error) = self.send_held(sink, traffic) {
                return Progress::SinkFailed(error);
            }
            if self.held.is_some() {
                return Progress::Waiting;
            }
            match self.source {
                Source::Ended => return Progress::Ended,
                Source::Drained => return Progress::Waiting,
                Source::Readable | Source::Closing if traffic.received >= BUDGET => return Progress::Unfinished,
                Source::Readable | Source::Closing => {}
            }
            let received = match self.receive(source, scratch, traffic) {
                Ok(received) => received,
                Err(error) => return Progress::SourceFailed(error),
            };
            match self.send(sink, &scratch[..received], traffic) {
                Ok(sent) if sent < received => {
                    self.held = Some(Held { bytes: scratch[sent..received].into(), sent: 0 });
                }
                Ok(_) => {}
                Err(error) => return Progress::SinkFailed(error),
            }
        }
    }

    /// Receives once; 0 when there was nothing or the source has ended.
    fn receive(&mut self, mut source: &TcpStream, scratch: &mut [u8], traffic: &mut Traffic) -> io::Result<usize> {
        loop {
            traffic.receive_calls += 1;
            match source.read(scratch) {
                Ok(0) => self.source = Source::Ended,
                Ok(received) => {
                    traffic.received += received;
                    // A short read has drained the socket: what comes later brings a new event.
                    if received < scratch.len() && self.source == Source::Readable {
                        self.source = Source::Drained;
                    }
                    return Ok(received);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.source = Source::Drained,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            return Ok(0);
        }
    }

    fn send_held(&mut self, sink: &TcpStream, traffic: &mut Traffic) -> io::Result<()> {
        let Some(mut held) = self.held.take() else { return Ok(()) };
        if !self.blocked {
            held.sent += self.send(sink, &held.bytes[held.sent..], traffic)?;
        }
        if held.sent < held.bytes.len() {
            self.held = Some(held);
        }
        Ok(())
    }

    /// Sends as much as the sink takes. When that is less than all, the kernel tells when it takes more.
    fn send(&mut self, mut sink: &TcpStream, bytes: &[u8], traffic: &mut Traffic) -> io::Result<usize> {
        let mut sent = 0;
        while sent < bytes.len() && !self.blocked {
            traffic.send_calls += 1;
            match sink.write(&bytes[sent..]) {
                Ok(count) => {
                    sent += count;
                    self.blocked = sent < bytes.len();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.blocked = true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        traffic.sent += sent;
        Ok(sent)
    }
}
