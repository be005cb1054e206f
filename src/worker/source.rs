//! What a flow knows of where its bytes come from.
//!
//! The events that tell of it are edge-triggered: what they say once has to be remembered until reading has disproved it.
//!
//! A read that brings less than there was room for has drained the socket. When an event has told of the end before, it
//! has brought the last of it: the kernel tells of an end only once all that comes before it is there to be read. The
//! exceptions are urgent data, in front of which reading stops short, and resets.

use mio::event::Event;

/// What an event says of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// It has something to read.
    Readable,
    /// It has ended: behind what it has to read comes nothing more.
    Ending,
    /// It was reset, or sent urgent data, at which reading stops short: what can be read at once may not be all.
    Uncertain,
}

impl Sign {
    /// `None`: it says nothing of what there is to read.
    pub(super) fn of(event: &Event) -> Option<Sign> {
        Sign::shown_by(event.is_error() || event.is_priority(), event.is_read_closed(), event.is_readable())
    }

    /// What the flags of an event say, of which the first is for errors and urgent data.
    pub(super) fn shown_by(is_exceptional: bool, is_read_closed: bool, is_readable: bool) -> Option<Sign> {
        if is_exceptional {
            Some(Sign::Uncertain)
        } else if is_read_closed {
            Some(Sign::Ending)
        } else {
            is_readable.then_some(Sign::Readable)
        }
    }
}

/// What is known of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Reading would block: nothing came since it was drained.
    Drained,
    /// There may be something to read.
    Readable,
    /// There may be something to read; what a short read brings is the last of it.
    Ending,
    /// There may be something to read, and more than a short read shows: only reading nothing proves that it is drained.
    Uncertain,
    /// All was read, up to its end.
    Ended,
}

impl Source {
    pub(super) fn hear(&mut self, sign: Sign) {
        *self = match (*self, sign) {
            (Source::Ended, _) => Source::Ended,
            (_, Sign::Uncertain) | (Source::Uncertain, _) => Source::Uncertain,
            (_, Sign::Ending) | (Source::Ending, _) => Source::Ending,
            (Source::Drained | Source::Readable, Sign::Readable) => Source::Readable,
        };
    }

    /// Bytes were read; with `short`, less than there was room for.
    pub(super) fn was_read(&mut self, short: bool) {
        *self = match *self {
            // What comes later brings a new event.
            Source::Readable if short => Source::Drained,
            Source::Ending if short => Source::Ended,
            unchanged => unchanged,
        };
    }
}
