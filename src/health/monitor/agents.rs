//! What the words of agents make of their destinations.

use std::time::Instant;

use super::{Judgement, Monitor};
use crate::checker::protocol::AgentWord;

impl Monitor {
    /// Whether the word of a destination's agent is one that was asked for. To be called once for each.
    pub(in crate::health) fn expects_agent(&mut self, id: u64, now: Instant) -> bool {
        self.unheard_agents.remove(&id);
        let watched = self.watched.get_mut(&id);
        // An agent that is asked no longer may still answer.
        let is_expected = watched.is_none_or(|it| it.agent.as_mut().is_none_or(|agent| agent.answers(now)));
        self.reschedule(id);
        is_expected
    }

    /// Takes the word of a destination's agent into account. `None` if it changes nothing.
    pub(in crate::health) fn hear_agent(&mut self, id: u64, word: &AgentWord, now: Instant) -> Option<Judgement> {
        let watched = self.watched.get_mut(&id).filter(|it| it.agent.is_some())?;
        let before = watched.health.clone();
        let outcome = watched.hear_agent(word, now);
        if !outcome.fit {
            self.view.is_unfit(id);
        }
        watched.rescale(&self.view, &self.options, now);
        let is_changed = watched.health != before;
        let judgement = Judgement::of(watched, outcome.fit, outcome.changed_from);
        self.reschedule(id);
        self.ask_others(id, judgement.changed_from.is_some(), now);
        is_changed.then_some(judgement)
    }
}
