//! Waiting until a destination has no connections: `wait-empty`.

use std::time::{Duration, Instant};

use super::command::Target;
use super::late::Asker;
use crate::address::PeerAddress;
use crate::counted::Counted;
use crate::pool::Pool;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// Most that wait at a time: each keeps a conversation open.
const MOST: usize = 32;

/// A client that waits.
pub(super) struct EmptyWait {
    pub asker: Asker,
    pub target: Target,
    pub pool: Pool,
    /// Where the destination was when the wait began.
    pub addresses: Vec<PeerAddress>,
    pub deadline: Instant,
}

/// Those who wait.
#[derive(Default)]
pub(super) struct EmptyWaits {
    waits: Vec<EmptyWait>,
    next_look: Option<Instant>,
}

impl EmptyWait {
    /// How many connections there are, those of older processes included. One that was removed has none.
    fn left(&self) -> usize {
        let now = self.pool.known_addresses(&self.target.spec.endpoint);
        let is_meant = |address: &PeerAddress| self.addresses.contains(address) || now.contains(address);
        self.pool.snapshot().iter().filter(|it| is_meant(&it.address)).map(|it| it.connections).sum()
    }

    /// The answer, if there is one by now.
    fn answer(&self, now: Instant) -> Option<String> {
        match self.left() {
            0 => Some("Ok\n".to_owned()),
            count if self.deadline <= now => {
                let count = Counted(count, "connection");
                Some(format!("Error: {}: not empty in time, {count} left\n", self.target))
            }
            _ => None,
        }
    }
}

impl EmptyWaits {
    /// One more waits.
    ///
    /// # Errors
    /// The answer if too many do.
    pub(super) fn add(&mut self, wait: EmptyWait) -> Result<(), (Asker, String)> {
        if self.waits.len() >= MOST {
            return Err((wait.asker, format!("Error: {}: {MOST} others wait already\n", wait.target)));
        }
        self.waits.push(wait);
        self.next_look = Some(Instant::now());
        Ok(())
    }

    /// When to look again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next_look
    }

    /// The answers that there are by now. Those who are not there any more are forgotten.
    pub(super) fn go_on(&mut self, now: Instant, is_there: impl Fn(Asker) -> bool) -> Vec<(Asker, String)> {
        if self.next_look.is_none_or(|at| at > now) {
            return Vec::new();
        }
        let mut answers = Vec::new();
        self.waits.retain(|it| match it.answer(now) {
            Some(answer) => {
                answers.push((it.asker, answer));
                false
            }
            None => is_there(it.asker),
        });
        self.next_look = (!self.waits.is_empty()).then(|| now + LOOK);
        answers
    }
}
