//! What is sent: a text, or events as they happen.

use std::convert::Infallible;
use std::fmt::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::Shared;
use super::seats::{InUse, StreamSeat};
use crate::control;
use crate::log::events;

/// How often it is looked for events.
const LOOK: Duration = Duration::from_millis(250);
/// After so many looks without an event, the client is sent something all the same, or one that is gone would stay.
const QUIET_LOOKS: u32 = 60;

/// What is sent.
pub(super) enum Answer {
    /// All at once; `None` when it was taken.
    Text(Option<Bytes>),
    /// Piece by piece.
    Events(Box<EventStream>),
}

impl From<String> for Answer {
    fn from(text: String) -> Answer {
        Answer::Text(Some(text.into()))
    }
}

impl From<&'static str> for Answer {
    fn from(text: &'static str) -> Answer {
        Answer::Text(Some(Bytes::from_static(text.as_bytes())))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Answer::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Answer::Events(stream) => stream.poll(context).map(|text| text.map(|it| Ok(Frame::data(it.into())))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Answer::Text(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, |it| it.len() as u64)),
            Answer::Events(_) => SizeHint::default(),
        }
    }
}

/// Events as they happen, as a browser's EventSource takes them.
pub(super) struct EventStream {
    next: u64,
    tick: Interval,
    quiet: u32,
    shared: Arc<Shared>,
    _kept: (StreamSeat, InUse),
}

impl EventStream {
    /// From this number on.
    pub(super) fn new(next: u64, shared: &Arc<Shared>, counted: StreamSeat, in_use: InUse) -> EventStream {
        let mut tick = interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        EventStream { next, tick, quiet: QUIET_LOOKS, shared: Arc::clone(shared), _kept: (counted, in_use) }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<String>> {
        loop {
            ready!(self.tick.poll_tick(context));
            if *self.shared.ends.borrow() {
                return Poll::Ready(None);
            }
            let (new, missed) = events::from(self.next);
            let mut text = String::new();
            if missed > 0 {
                // Writing to a string cannot fail.
                let _ = write!(text, "event: missed\ndata: {}\n", control::missed_line(missed, true));
            }
            for event in &new {
                let _ = write!(text, "id: {}\ndata: {}\n", event.number, control::event_line(event, true));
                self.next = event.number + 1;
            }
            self.quiet += 1;
            if text.is_empty() && self.quiet < QUIET_LOOKS {
                continue;
            }
            self.quiet = 0;
            return Poll::Ready(Some(if text.is_empty() { ":\n\n".to_owned() } else { text }));
        }
    }
}
