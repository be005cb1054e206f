//! What a flow does before it relays, or when it never will: only one of its ends is known, or serves.

use std::borrow::Cow;
use std::io;

use super::{Failure, Flow, Splicing, Tools, Traffic};
use crate::sys;
use crate::worker::first_packet::{self, Inspection};
use crate::worker::proxy_protocol::{Addresses, Parsed, Tlvs, parse};
use crate::worker::socket::Socket;
use crate::worker::source::Source;

/// What became of a source's first packet.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::worker) enum FirstPacket {
    /// It has not come yet, or not all of it.
    Awaited,
    /// It is with the sink.
    PassedOn,
    /// It is this error, and was not passed on.
    Error(Box<[u8]>),
    /// The source ended before it was complete.
    Missing,
}

/// What became of the PROXY header in front of what a source says.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::worker) enum ProxyHeader {
    /// It has not come yet, or not all of it.
    Awaited,
    /// It was taken off.
    Taken {
        addresses: Option<Addresses>,
        /// What it says beside them.
        tlvs: Tlvs,
        /// How many bytes behind it were read as well, and are held.
        behind: usize,
    },
    /// What came instead is none, for this reason.
    Invalid(&'static str),
    /// The source ended within it.
    Cut,
    /// The source ended without a byte.
    Missing,
}

impl<S: Socket> Flow<S> {
    /// Prepares for another source: discards what is known of this one, and what it said.
    pub(in crate::worker) fn forget_source(&mut self) {
        self.source = Source::Drained;
        self.held = None;
    }

    /// Returns true if the source's end may be the next thing to read.
    pub(in crate::worker) fn may_have_ended(&self) -> bool {
        matches!(self.source, Source::Ending | Source::Uncertain | Source::Ended)
    }

    /// Receives the source's first packet, and passes it on, with all that follows it in the same read, once it has
    /// been inspected. Until then it is held here.
    ///
    /// # Errors
    /// [`Failure`]: one end was reset.
    pub(in crate::worker) fn pass_first_packet(
        &mut self,
        source: &S,
        sink: &S,
        tools: &mut Tools<S>,
        traffic: &mut Traffic,
    ) -> Result<FirstPacket, Failure> {
        loop {
            match self.source {
                Source::Ended => return Ok(FirstPacket::Missing),
                Source::Drained => return Ok(FirstPacket::Awaited),
                Source::Readable | Source::Ending | Source::Uncertain => {}
            }
            let received = self.received(source.receive(&mut tools.scratch), traffic).map_err(Failure::Source)?;
            if received == 0 {
                continue;
            }
            self.source.was_read(received < tools.scratch.len());
            let fresh = &tools.scratch[..received];
            let bytes = match self.held.take() {
                None => Cow::Borrowed(fresh),
                Some(held) => Cow::Owned([&held.bytes, fresh].concat()),
            };
            match first_packet::inspect(&bytes) {
                Inspection::Incomplete => self.hold(bytes.into_owned().into()),
                Inspection::Refused(packet) => return Ok(FirstPacket::Error(first_packet::keep(packet))),
                Inspection::Accepted => {
                    self.forward(sink, &bytes, traffic).map_err(Failure::Sink)?;
                    return Ok(FirstPacket::PassedOn);
                }
            }
        }
    }

    /// Puts bytes of the worker's own in front of what was received ahead.
    pub(in crate::worker) fn put_first(&mut self, bytes: &[u8]) {
        let behind = self.held.take().map_or_else(Box::default, |held| held.bytes);
        self.hold([bytes, &behind].concat().into());
    }

    /// Sends bytes of the worker's own past what was received ahead, and returns how many the sink has taken.
    ///
    /// # Errors
    /// Those of send(2), when the sink was reset.
    pub(in crate::worker) fn say_first(&mut self, sink: &S, bytes: &[u8], traffic: &mut Traffic) -> io::Result<usize> {
        self.send(sink, bytes, false, traffic)
    }

    /// Receives the PROXY header in front of what the source says, and holds what was read behind it.
    ///
    /// # Errors
    /// Those of recv(2), when the source was reset.
    pub(in crate::worker) fn receive_proxy_header(
        &mut self,
        source: &S,
        tools: &mut Tools<S>,
        traffic: &mut Traffic,
    ) -> io::Result<ProxyHeader> {
        loop {
            match self.source {
                Source::Ended if self.held.is_some() => return Ok(ProxyHeader::Cut),
                Source::Ended => return Ok(ProxyHeader::Missing),
                Source::Drained => return Ok(ProxyHeader::Awaited),
                Source::Readable | Source::Ending | Source::Uncertain => {}
            }
            let room = tools.ahead();
            let received = source.receive(room);
            if self.starves(&received, traffic) {
                return Ok(ProxyHeader::Awaited);
            }
            let received = self.received(received, traffic)?;
            if received == 0 {
                continue;
            }
            self.source.was_read(received < room.len());
            let before = self.held.take().map_or_else(Box::default, |held| held.bytes);
            let bytes = [&before, &room[..received]].concat();
            match parse(&bytes) {
                Parsed::Incomplete => self.hold(bytes.into()),
                Parsed::Invalid(fault) => return Ok(ProxyHeader::Invalid(fault)),
                Parsed::Header { length, addresses, tlvs } => {
                    let behind = bytes.len() - length;
                    if behind > 0 {
                        self.hold(bytes[length..].into());
                    } else if self.source == Source::Drained {
                        // The end may be right behind it, and is looked for before a destination is connected to.
                        self.source = Source::Readable;
                    }
                    let tlvs = Tlvs::new(&bytes[tlvs..length]);
                    return Ok(ProxyHeader::Taken { addresses, tlvs, behind });
                }
            }
        }
    }

    /// Returns true if all that was read is the source's end.
    pub(in crate::worker) fn has_ended_without_a_word(&self) -> bool {
        self.source == Source::Ended && self.held.is_none()
    }

    /// Returns true if nothing of the source is held here, or waits to be read.
    pub(in crate::worker) fn is_silent(&self) -> bool {
        self.source == Source::Drained && self.held.is_none()
    }

    /// Sends bytes of the worker's own to the sink; what it does not take is held.
    ///
    /// # Errors
    /// Those of send(2), when the sink was reset.
    pub(in crate::worker) fn say(&mut self, sink: &S, bytes: &[u8], traffic: &mut Traffic) -> io::Result<()> {
        self.forward(sink, bytes, traffic)
    }

    /// Sends what the sink did not take before. Returns true once nothing is left.
    ///
    /// # Errors
    /// Those of send(2), when the sink was reset.
    pub(in crate::worker) fn flush(&mut self, sink: &S, traffic: &mut Traffic) -> io::Result<bool> {
        self.send_held(sink, traffic)?;
        Ok(!self.holds_anything())
    }

    /// Receives and discards what the source says, up to `most` bytes. Returns true at its end.
    ///
    /// # Errors
    /// Those of recv(2), when the source was reset.
    pub(in crate::worker) fn discard(
        &mut self,
        source: &S,
        most: usize,
        tools: &mut Tools<S>,
        traffic: &mut Traffic,
    ) -> io::Result<bool> {
        self.held = None;
        while traffic.received < most && !matches!(self.source, Source::Drained | Source::Ended) {
            let received = self.received(source.receive(&mut tools.scratch), traffic)?;
            if received > 0 {
                self.source.was_read(received < tools.scratch.len());
            }
        }
        Ok(self.source == Source::Ended)
    }

    /// Takes a little of what the source has to read, and holds it for a sink to come; unless its end or trouble has been
    /// told of, or all is to be spliced.
    ///
    /// # Errors
    /// Those of recv(2), when the source was reset.
    pub(in crate::worker) fn receive_ahead(
        &mut self,
        source: &S,
        tools: &mut Tools<S>,
        traffic: &mut Traffic,
    ) -> io::Result<()> {
        if self.source != Source::Readable || self.held.is_some() || tools.splicing == Splicing::Always {
            return Ok(());
        }
        let ahead = tools.ahead();
        let received = source.receive(ahead);
        if received.as_ref().is_err_and(sys::is_shortage) {
            // It stays readable, and nothing has to be read yet.
            return Ok(());
        }
        let received = self.received(received, traffic)?;
        if received > 0 {
            self.source.was_read(received < ahead.len());
            self.hold(ahead[..received].into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
