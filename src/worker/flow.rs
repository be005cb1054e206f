//! One direction of a connection: bytes from a source to a sink.
//!
//! Small messages are copied through a scratch buffer of the worker's. Once a read fills that, the flow is bulk, and goes
//! through a pipe with splice(2), until it pauses. A flow owns memory only while its sink is slower than its source, and
//! changes over only when nothing is held, so that bytes cannot overtake each other. It remembers what mio's
//! edge-triggered events say just once: that the source may have more to read, that the sink may take more.

mod prelude;
mod tools;

use std::io::{self, ErrorKind};

use super::pipe::Pipe;
use super::socket::Socket;
use super::source::{Sign, Source};
use super::stream::Stream;
use crate::sys;
pub(super) use prelude::{FirstPacket, ProxyHeader};
pub(super) use tools::{Splicing, Tools};

/// Bytes that the sink has not taken yet.
struct Held {
    bytes: Box<[u8]>,
    sent: usize,
}

/// One direction.
pub(super) struct Flow<S: Socket = Stream> {
    source: Source,
    /// Whether the last bytes go in one segment with the end, where that is known in time: it spares the sink's process
    /// a wake-up, and both ends a packet.
    end_in_one: bool,
    /// The sink took less than it was offered, and has not become writable since.
    blocked: bool,
    /// The kernel was short of memory for the last call; no event reports when that is over.
    starved: bool,
    /// As much comes at a time as the scratch buffer holds, or more.
    bulk: bool,
    held: Option<Held>,
    /// What bulk goes through; kept beyond a pump only while something is in it.
    pipe: Option<Pipe<S>>,
    /// The source's end was passed on: nothing more will ever happen here.
    done: bool,
}

/// How far a flow has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing can be done until the next event.
    Waiting,
    /// Others should have their turn now; there may be more.
    Unfinished,
    /// Everything up to the source's end is with the sink.
    Ended,
}

/// Which end of a flow was reset, or broke in another way.
#[derive(Debug)]
pub(super) enum Failure {
    Source(io::Error),
    Sink(io::Error),
}

/// Bytes moved and calls made.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub received: usize,
    pub receive_calls: usize,
    pub sent: usize,
    pub send_calls: usize,
    /// Bytes of the last read that are in the scratch buffer.
    pub copied: usize,
    /// The error of a call for which the kernel was short of memory.
    pub shortage: Option<i32>,
}

impl Traffic {
    /// Whether no call was made.
    pub(super) fn is_nothing(&self) -> bool {
        self.receive_calls == 0 && self.send_calls == 0
    }
}

impl<S: Socket> Flow<S> {
    pub(super) fn new(end_in_one: bool) -> Flow<S> {
        let source = Source::Drained;
        Flow { source, end_in_one, blocked: false, starved: false, bulk: false, held: None, pipe: None, done: false }
    }

    /// An event has told of the source.
    pub(super) fn hear(&mut self, sign: Sign) {
        self.source.hear(sign);
    }

    /// The sink may take more.
    pub(super) fn sink_is_writable(&mut self) {
        self.blocked = false;
    }

    /// Returns true if a pump is due without an event, because the kernel was short of memory during the last one.
    pub(super) fn is_starved(&self) -> bool {
        self.starved
    }

    /// Nothing more is to be moved.
    pub(super) fn finish(&mut self) {
        self.done = true;
        self.starved = false;
        self.bulk = false;
        self.held = None;
        self.pipe = None;
    }

    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Whether it last moved so much at a time that others should not wait for the next.
    pub(super) fn is_bulk(&self) -> bool {
        self.bulk || self.pipe.is_some()
    }

    /// Moves what can be moved.
    ///
    /// # Errors
    /// [`Failure`]: nothing more will be moved.
    pub(super) fn pump(
        &mut self,
        source: &S,
        sink: &S,
        tools: &mut Tools<S>,
        traffic: &mut Traffic,
    ) -> Result<Progress, Failure> {
        self.starved = false;
        let progress = self.move_on(source, sink, tools, traffic)?;
        self.bulk = traffic.received >= tools.scratch.len();
        if let Some(pipe) = self.pipe.take_if(|pipe| pipe.is_empty()) {
            tools.pipes.give_back(pipe);
        }
        Ok(progress)
    }

    fn move_on(
        &mut self,
        source: &S,
        sink: &S,
        tools: &mut Tools<S>,
        traffic: &mut Traffic,
    ) -> Result<Progress, Failure> {
        loop {
            self.send_held(sink, traffic).map_err(Failure::Sink)?;
            if self.holds_anything() || self.starved {
                return Ok(Progress::Waiting);
            }
            match self.source {
                Source::Ended => return Ok(Progress::Ended),
                Source::Drained => return Ok(Progress::Waiting),
                _ if traffic.received >= tools.budget() => return Ok(Progress::Unfinished),
                Source::Readable | Source::Ending | Source::Uncertain => {}
            }
            if self.pipe.is_none() && tools.splicing.is_due(self.bulk) {
                self.pipe = tools.pipes.lend();
            }
            match &mut self.pipe {
                Some(pipe) => {
                    let signed = self.source != Source::Readable;
                    let filled = pipe.fill_from(source, tools.budget() - traffic.received);
                    if filled.as_ref().is_err_and(sys::is_shortage) {
                        // Copying takes less of the kernel's memory.
                        self.pipe = None;
                        self.copy(source, sink, &mut tools.scratch, traffic)?;
                        continue;
                    }
                    self.received(filled, traffic).map_err(Failure::Source)?;
                    // Urgent data stops splicing for good, which even takes it for the end when that is behind it; it
                    // stops reading only for a moment.
                    if self.source == Source::Ended || (signed && self.source == Source::Drained) {
                        self.source = Source::Uncertain;
                        self.copy(source, sink, &mut tools.scratch, traffic)?;
                    }
                }
                None => self.copy(source, sink, &mut tools.scratch, traffic)?,
            }
        }
    }

    /// Receives once, and sends what came; what the sink does not take is held.
    fn copy(&mut self, source: &S, sink: &S, scratch: &mut [u8], traffic: &mut Traffic) -> Result<(), Failure> {
        let received = source.receive(scratch);
        if self.starves(&received, traffic) {
            return Ok(());
        }
        let received = self.received(received, traffic).map_err(Failure::Source)?;
        let short = received < scratch.len();
        self.bulk = !short;
        if received > 0 {
            self.source.was_read(short);
            traffic.copied = received;
        }
        self.forward(sink, &scratch[..received], traffic).map_err(Failure::Sink)
    }

    /// Sends bytes; what the sink does not take is held.
    fn forward(&mut self, sink: &S, bytes: &[u8], traffic: &mut Traffic) -> io::Result<()> {
        let end_follows = self.end_in_one && self.source == Source::Ended;
        let sent = self.send(sink, bytes, end_follows, traffic)?;
        if sent < bytes.len() {
            self.hold(bytes[sent..].into());
        }
        Ok(())
    }

    /// Keeps bytes for the sink. None may be held already, which these would replace.
    fn hold(&mut self, bytes: Box<[u8]>) {
        debug_assert!(self.held.is_none(), "bytes are held already");
        self.held = Some(Held { bytes, sent: 0 });
    }

    /// What the result of a receiving call says of the source, and how much came.
    fn received(&mut self, result: io::Result<usize>, traffic: &mut Traffic) -> io::Result<usize> {
        traffic.receive_calls += 1;
        match result {
            Ok(0) => self.source = Source::Ended,
            Ok(count) => {
                traffic.received += count;
                return Ok(count);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.source = Source::Drained,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(0)
    }

    /// Whether bytes wait here for the sink.
    pub(super) fn holds_anything(&self) -> bool {
        self.held.is_some() || self.pipe.as_ref().is_some_and(|pipe| !pipe.is_empty())
    }

    fn send_held(&mut self, sink: &S, traffic: &mut Traffic) -> io::Result<()> {
        if let Some(mut held) = self.held.take() {
            held.sent += self.send(sink, &held.bytes[held.sent..], false, traffic)?;
            if held.sent < held.bytes.len() {
                self.held = Some(held);
            }
        }
        if let Some(mut pipe) = self.pipe.take() {
            while !pipe.is_empty() && !self.blocked {
                let emptied = pipe.empty_into(sink);
                if self.starves(&emptied, traffic) {
                    break;
                }
                self.sent(emptied, traffic)?;
            }
            self.pipe = Some(pipe);
        }
        Ok(())
    }

    /// Sends as much as the sink takes.
    fn send(&mut self, sink: &S, bytes: &[u8], more: bool, traffic: &mut Traffic) -> io::Result<usize> {
        let mut sent = 0;
        while sent < bytes.len() && !self.blocked {
            let taken = sink.send(&bytes[sent..], more);
            if self.starves(&taken, traffic) {
                break;
            }
            let taken = self.sent(taken, traffic)?;
            sent += taken;
            // When it takes only a part, the kernel tells when it takes more. After a signal, it would not.
            self.blocked |= taken > 0 && sent < bytes.len();
        }
        Ok(sent)
    }

    /// Returns true if the kernel was short of memory for a call. Nothing was moved then, and the call is repeated later.
    fn starves(&mut self, result: &io::Result<usize>, traffic: &mut Traffic) -> bool {
        let shortage = result.as_ref().err().filter(|error| sys::is_shortage(error));
        traffic.shortage = traffic.shortage.or(shortage.and_then(io::Error::raw_os_error));
        self.starved |= shortage.is_some();
        shortage.is_some()
    }

    /// What the result of a sending call says of the sink, and how much went.
    fn sent(&mut self, result: io::Result<usize>, traffic: &mut Traffic) -> io::Result<usize> {
        traffic.send_calls += 1;
        match result {
            Ok(count) => {
                traffic.sent += count;
                return Ok(count);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.blocked = true,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(0)
    }
}
