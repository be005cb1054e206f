//! The agent of one destination that is watched: when it is asked, and what becomes of its words.

use std::time::{Duration, Instant};

use crate::checker::protocol::{AgentHealth, AgentWord};
use crate::pool::health::Reason;
use crate::pool::{AgentMode, AgentState};

/// Most answers that may come when one is asked for: one of a question before as well.
const ANSWERS: u8 = 2;

/// When an agent is asked.
#[derive(Debug)]
pub(super) struct AgentWatch {
    interval: Duration,
    asked: Option<Instant>,
    /// Whether it has not answered yet.
    is_being_asked: bool,
    /// How many answers may come without another question.
    due_answers: u8,
    next: Instant,
}

impl AgentWatch {
    /// One to be asked at once.
    pub(super) fn new(interval: Duration, now: Instant) -> AgentWatch {
        // An answer to an earlier watch of the same may still come.
        AgentWatch { interval, asked: None, is_being_asked: false, due_answers: 1, next: now }
    }

    /// When to ask it; `None` while it is being asked.
    pub(super) fn next(&self) -> Option<Instant> {
        (!self.is_being_asked).then_some(self.next)
    }

    /// Whether it was ever asked.
    pub(super) fn was_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// It is asked. `phase`, from 0 to 1, is the part of an interval after which it is asked again.
    pub(super) fn begin(&mut self, phase: f64, now: Instant) {
        (self.asked, self.is_being_asked) = (Some(now), true);
        self.due_answers = (self.due_answers + 1).min(ANSWERS);
        self.next = now + self.interval.mul_f64(phase);
    }

    /// It has answered, or cannot be reached. Returns false if it was not asked.
    pub(super) fn answers(&mut self, now: Instant) -> bool {
        let rest = self.due_answers.checked_sub(1);
        self.due_answers = rest.unwrap_or(0);
        self.is_being_asked = false;
        self.next = self.next.max(now);
        rest.is_some()
    }

    /// The checker that was to ask is gone.
    pub(super) fn ask_again(&mut self, now: Instant) {
        if std::mem::take(&mut self.is_being_asked) {
            self.next = now;
        }
    }
}

/// Takes note of what an agent says.
pub(super) fn apply(state: &mut AgentState, word: &AgentWord) {
    state.percent = word.percent.unwrap_or(state.percent);
    state.max_connections = word.max_connections.or(state.max_connections);
    if let Some(mode) = word.mode {
        let reason = if mode == AgentMode::Ready { Reason::default() } else { Reason::new(&word.comment) };
        (state.mode, state.mode_reason) = (mode, reason);
    }
    match &word.health {
        Some(AgentHealth::Up) => state.down = None,
        Some(AgentHealth::Down(words)) => state.down = Some(Reason::new(words)),
        None => {}
    }
}
