//! All destinations that are watched: which to check when, and what the results make of them. No input or output here.

mod agents;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Instant;

use super::agent::AgentWatch;
use super::cluster::{self, Components, Node};
use super::hysteresis::Observation;
use super::members::ClusterView;
use super::schedule::Schedule;
use super::watched::{Timing, Watched};
use crate::address::PeerAddress;
use crate::checker::protocol::{Answer, Finding};
use crate::config::{ProbeSpec, WatchdogOptions};
use crate::pool::DestinationId;
use crate::pool::health::{Health, ShutdownSessions, Verdict};

/// A discovered destination that failed so many times, and is no longer reported, goes.
const FAILURES_TO_BE_FORGOTTEN: u32 = 8;

/// All destinations that are watched, by their numbers.
pub(super) struct Monitor {
    options: WatchdogOptions,
    watched: BTreeMap<u64, Watched>,
    /// When each is to be checked, or its weight to grow.
    schedule: Schedule,
    /// Those whose sessions are to be closed as soon as another destination is READY for certain.
    fallen: BTreeSet<u64>,
    /// Those that are READY.
    ready: BTreeSet<u64>,
    view: ClusterView,
    /// Whether any node has ever shown Galera.
    has_seen_galera: bool,
    /// What the nodes belong to.
    components: Components,
    /// Those to which the others objected when they were last asked.
    outvoted: HashSet<u64>,
    /// Those of the start that have not been judged, and those that are to be judged again.
    unjudged: HashSet<u64>,
    /// Those of the start whose agents have not answered.
    unheard_agents: HashSet<u64>,
}

/// What is to be done at a moment.
#[derive(Default)]
pub(super) struct Due {
    /// The checks to ask for, and for each whether it is to log in afresh.
    pub checks: Vec<(DestinationId, bool)>,
    /// What the weights are to be multiplied by that have grown.
    pub scales: Vec<(DestinationId, f64)>,
    /// Those whose agents are to be asked.
    pub agents: Vec<DestinationId>,
}

/// What a report makes of a destination.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Judgement {
    pub id: DestinationId,
    pub address: PeerAddress,
    pub health: Health,
    /// Whether it may be sent clients, for those that wait to know.
    pub fit: bool,
    /// The verdict before, if that was another.
    pub changed_from: Option<Option<Verdict>>,
    /// The members of its cluster, if it is fit to tell.
    pub members: Vec<PeerAddress>,
    /// Whether it is to go if it was discovered.
    pub has_left: bool,
}

impl Monitor {
    pub(super) fn new(options: WatchdogOptions) -> Monitor {
        Monitor {
            options,
            watched: BTreeMap::new(),
            schedule: Schedule::default(),
            fallen: BTreeSet::new(),
            ready: BTreeSet::new(),
            view: ClusterView::default(),
            has_seen_galera: false,
            components: Components::default(),
            outvoted: HashSet::new(),
            unjudged: HashSet::new(),
            unheard_agents: HashSet::new(),
        }
    }

    /// How they are watched.
    pub(super) fn options(&self) -> &WatchdogOptions {
        &self.options
    }

    /// Goes on with other options: what is known of each destination stays, and all are checked again at once. Members
    /// that were reported before count only where they still are.
    pub(super) fn change_options(&mut self, options: WatchdogOptions, now: Instant) {
        let asks_alike = std::mem::discriminant(&options.probe) == std::mem::discriminant(&self.options.probe);
        if !(asks_alike && options.discover) {
            self.view.forget_members();
        }
        self.options = options;
        let all: Vec<u64> = self.watched.keys().copied().collect();
        let options = self.options.clone();
        for id in all {
            self.change(id, |it| it.begin_again(&options, now));
        }
        if self.options.agent.is_none() {
            self.unheard_agents.clear();
        }
    }

    /// Watches a destination from now on, anew when it was watched at another address. `phase`, from 0 to 1, is the part
    /// of an interval after which it is checked for the second time.
    pub(super) fn watch(&mut self, id: DestinationId, address: PeerAddress, health: Health, phase: f64, now: Instant) {
        self.view.is_unfit(id.serial());
        if health.verdict.is_none() {
            self.unjudged.insert(id.serial());
            if self.options.agent.is_some() {
                self.unheard_agents.insert(id.serial());
            }
        }
        self.watched.insert(id.serial(), Watched::new(id, address, health, &self.options, phase, now));
        self.reschedule(id.serial());
    }

    /// To be called after each change of a destination.
    fn reschedule(&mut self, id: u64) {
        let watched = self.watched.get(&id);
        let deadlines = |it: &Watched| {
            let agent = it.agent.as_ref().and_then(AgentWatch::next);
            [it.next_check(), it.next_step(&self.options), agent].into_iter().flatten().min()
        };
        self.schedule.set(id, watched.and_then(deadlines));
        let is_ready = watched.is_some_and(|it| it.verdict() == Some(Verdict::Ready));
        for (set, belongs) in
            [(&mut self.fallen, watched.is_some_and(Watched::is_to_be_closed)), (&mut self.ready, is_ready)]
        {
            match belongs {
                true => set.insert(id),
                false => set.remove(&id),
            };
        }
    }

    fn change(&mut self, id: u64, change: impl FnOnce(&mut Watched)) {
        if let Some(watched) = self.watched.get_mut(&id) {
            change(watched);
        }
        self.reschedule(id);
    }

    /// Watches a destination no longer.
    pub(super) fn forget(&mut self, id: DestinationId) {
        self.watched.remove(&id.serial());
        self.reschedule(id.serial());
        self.view.is_unfit(id.serial());
        self.unjudged.remove(&id.serial());
        self.unheard_agents.remove(&id.serial());
        self.outvoted.remove(&id.serial());
    }

    /// Whether a destination is watched.
    pub(super) fn is_watched(&self, id: DestinationId) -> bool {
        self.watched.contains_key(&id.serial())
    }

    /// Whether every destination has been judged, and its agent been heard.
    pub(super) fn all_are_judged(&self) -> bool {
        self.unjudged.is_empty() && self.unheard_agents.is_empty()
    }

    /// Every destination and its address.
    pub(super) fn addresses(&self) -> impl Iterator<Item = (DestinationId, PeerAddress)> {
        self.watched.values().map(|it| (it.id, it.address))
    }

    /// Has a destination checked as soon as may be; `fresh`, as a new client would be served.
    pub(super) fn hint(&mut self, id: DestinationId, fresh: bool, now: Instant) {
        self.change(id.serial(), |it| it.hint(fresh, now));
    }

    /// The checker is gone, and what it was asked for with it.
    pub(super) fn checker_is_gone(&mut self, now: Instant) {
        let waiting: Vec<u64> = self.watched.iter().filter(|(_, it)| it.is_being_checked).map(|(id, _)| *id).collect();
        waiting.into_iter().for_each(|id| self.change(id, |it| it.check_again(now)));
        let all: Vec<u64> = self.watched.iter().filter(|(_, it)| it.agent.is_some()).map(|(id, _)| *id).collect();
        let ask_again = |it: &mut Watched| it.agent.iter_mut().for_each(|agent| agent.ask_again(now));
        all.into_iter().for_each(|id| self.change(id, ask_again));
    }

    /// When something is to be done the next time.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.schedule.first()
    }

    /// What is to be done now. The checks count as begun.
    pub(super) fn due(&mut self, now: Instant) -> Due {
        let mut due = Due::default();
        while let Some(id) = self.schedule.pop_due(now) {
            let Some(watched) = self.watched.get_mut(&id) else { continue };
            if watched.next_check().is_some_and(|next| next <= now) {
                due.checks.push((watched.id, watched.begin_check(now)));
            }
            if watched.next_step(&self.options).is_some_and(|step| step <= now) {
                watched.rescale(&self.view, &self.options, now);
                due.scales.push((watched.id, watched.health.scale));
            }
            if let Some(agent) = watched.agent.as_mut().filter(|agent| agent.next().is_some_and(|next| next <= now)) {
                // So that not all are asked at the same time for ever.
                agent.begin(if agent.was_asked() { 1.0 } else { fastrand::f64() }, now);
                due.agents.push(watched.id);
            }
            self.reschedule(id);
        }
        due
    }

    /// Since when the oldest report that has not come is waited for.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.watched.values().filter_map(Watched::waits_since).min()
    }

    /// Whether a destination is watched, and is there.
    pub(super) fn is_watched_at(&self, id: u64, address: PeerAddress) -> bool {
        self.watched.get(&id).is_some_and(|it| it.address == address)
    }

    /// Whether a report on a destination is one that was asked for. To be called once for each.
    pub(super) fn expects_report(&mut self, id: u64) -> bool {
        self.watched.get_mut(&id).is_some_and(Watched::expects_report)
    }

    /// Takes the result of a check into account. `None` where there is no such destination any more.
    pub(super) fn report(&mut self, id: u64, finding: &Finding, timing: Timing, now: Instant) -> Option<Judgement> {
        let watched = self.watched.get_mut(&id)?;
        self.unjudged.remove(&id);
        let (observation, reason, answer) = match finding {
            Finding::Shortage(_) | Finding::Pause => {
                watched.was_not_checked(&self.options, now);
                // A client that waits for an answer goes by what was known before.
                let fit = watched.verdict() >= Some(Verdict::Spare);
                let judgement = Judgement::of(watched, fit, None);
                self.reschedule(id);
                return Some(judgement);
            }
            Finding::Silence(reason) => (Observation::Silence, reason.as_str(), None),
            Finding::Answer(answer) => (Observation::Word(answer.verdict), answer.reason.as_str(), Some(answer)),
        };
        watched.hear(answer, now);
        self.has_seen_galera |= watched.heard.as_ref().is_some_and(|heard| heard.facts.has_galera);
        let objection = self.hear_objections(now).remove(&id).filter(|_| observation.verdict() > Verdict::Down);
        let (observation, reason) = match &objection {
            Some(objection) => (Observation::Word(Verdict::Down), objection.as_str()),
            None => (observation, reason),
        };
        let watched = self.watched.get_mut(&id)?;
        let absent = answer.is_some_and(|answer| answer.absent);
        let outcome = watched.observe(observation, reason, absent, timing, &self.options, now);
        match outcome.fit {
            true => self.view.answers_within(id, watched.health.latency),
            false => self.view.is_unfit(id),
        }
        watched.rescale(&self.view, &self.options, now);
        let mut judgement = Judgement::of(watched, outcome.fit, outcome.changed_from);
        self.take_members(&mut judgement, answer);
        self.reschedule(id);
        self.ask_others(id, judgement.changed_from.is_some(), now);
        Some(judgement)
    }

    fn take_members(&mut self, judgement: &mut Judgement, answer: Option<&Answer>) {
        if !self.options.discover {
            return;
        }
        let id = judgement.id.serial();
        if let Some(answer) = answer.filter(|answer| judgement.fit && !answer.members.is_empty()) {
            self.view.reports_members(id, &answer.members, answer.members_are_complete);
            judgement.members.clone_from(&answer.members);
        }
        let failures = self.watched.get(&id).map_or(0, Watched::failures);
        judgement.has_left = failures >= FAILURES_TO_BE_FORGOTTEN && self.view.has_left(judgement.address);
    }

    /// The destinations to which the others object. Those to which they did not before are checked again at once.
    fn hear_objections(&mut self, now: Instant) -> HashMap<u64, String> {
        if !matches!(self.options.probe, ProbeSpec::Galera(_)) {
            return HashMap::new();
        }
        let requires_galera = self.options.probe.requires_galera() && self.has_seen_galera;
        // Cloned, because what follows changes `self`.
        let heard = |(id, it): (&u64, &Watched)| it.heard.clone().map(|heard| (*id, heard, it.verdict()));
        let heard: Vec<_> = self.watched.iter().filter_map(heard).collect();
        let nodes: Vec<_> =
            heard.iter().map(|(id, heard, verdict)| Node { id: *id, heard, verdict: *verdict }).collect();
        let settled = self.components.are_settled(&nodes, now);
        let objections = cluster::objections(&nodes, requires_galera, settled);
        let new: Vec<u64> = objections.keys().filter(|id| !self.outvoted.contains(id)).copied().collect();
        for id in new {
            // At the start, clients wait for that check as well.
            self.unjudged.insert(id);
            self.change(id, |it| it.hint(false, now));
        }
        self.outvoted = objections.keys().copied().collect();
        objections
    }

    /// Where a destination may lose its sessions for another's sake, has one of those checked that are READY; and has
    /// those checked that may lose them when it is READY itself.
    fn ask_others(&mut self, id: u64, is_changed: bool, now: Instant) {
        if self.options.shutdown_sessions != ShutdownSessions::Elsewhere {
            return;
        }
        if is_changed && self.ready.contains(&id) {
            let fallen: Vec<u64> = self.fallen.iter().copied().collect();
            return fallen.into_iter().for_each(|other| self.change(other, |it| it.may_follow(now)));
        }
        let Some(since) = self.watched.get(&id).and_then(Watched::looks_for_another_since) else { return };
        let others = self.ready.iter().filter_map(|other| self.watched.get(other));
        let is_due = |it: &&Watched| it.may_be_ready_since(since);
        let another =
            others.clone().find(|it| is_due(it) && !it.is_being_checked).or_else(|| others.clone().find(is_due));
        if let Some(another) = another.map(|it| it.id.serial()) {
            self.change(another, |it| it.hint(false, now));
        }
    }

    /// The destinations whose sessions are to be closed, now that this one was reported on.
    pub(super) fn to_be_closed(&self, reported: u64) -> Vec<ToBeClosed> {
        let Some(current) = self.watched.get(&reported) else { return Vec::new() };
        let all = |ids: &BTreeSet<u64>| ids.iter().filter_map(|id| self.watched.get(id)).collect::<Vec<_>>();
        match self.options.shutdown_sessions {
            ShutdownSessions::Never => Vec::new(),
            ShutdownSessions::Always => all(&self.fallen).into_iter().map(|it| it.to_be_closed(None)).collect(),
            ShutdownSessions::Elsewhere if self.fallen.contains(&reported) => {
                let others = all(&self.ready).into_iter().filter(|other| current.is_surpassed_by(other));
                vec![current.to_be_closed(Some(others.map(|it| it.id).collect()))]
            }
            ShutdownSessions::Elsewhere => {
                let surpassed = all(&self.fallen).into_iter().filter(|it| it.is_surpassed_by(current));
                surpassed.map(|it| it.to_be_closed(Some(vec![current.id]))).collect()
            }
        }
    }

    /// The sessions of a destination that has fallen are closed.
    pub(super) fn sessions_are_closed(&mut self, id: DestinationId) {
        self.change(id.serial(), Watched::sessions_are_closed);
    }
}

/// A destination that has fallen, and is to lose its sessions.
pub(super) struct ToBeClosed {
    pub id: DestinationId,
    pub address: PeerAddress,
    /// If one of these takes new clients; `None`: in any case.
    pub elsewhere: Option<Vec<DestinationId>>,
}

impl Watched {
    fn to_be_closed(&self, elsewhere: Option<Vec<DestinationId>>) -> ToBeClosed {
        ToBeClosed { id: self.id, address: self.address, elsewhere }
    }
}

impl Judgement {
    fn of(watched: &Watched, fit: bool, changed_from: Option<Option<Verdict>>) -> Judgement {
        let (id, address, health) = (watched.id, watched.address, watched.health.clone());
        Judgement { id, address, health, fit, changed_from, members: Vec::new(), has_left: false }
    }
}

#[cfg(test)]
mod tests;
