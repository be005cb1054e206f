//! Connections of this process and of those before it, for those who look for them: the questions to the processes before
//! this one, and what an old process answers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use parking_lot::Mutex;

use super::predecessors::{PredecessorLink, Predecessors, Word, WordSender};
use super::{Channel, Completeness, Holder, Message, Order, PORTION, clients};
use crate::sessions::{MissingProcess, Session, SessionControl, SessionFilter, SessionId, SurveyPart};
use crate::worker;

/// How long an old process has to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);
/// How long it takes at most to find that out itself.
const FINDS_WITHIN: Duration = Duration::from_secs(2);
/// When a process that has not answered is asked something else: it may never have read the question, or have failed to
/// answer it.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// Connections of one message: each takes at most some 600 bytes.
const SESSIONS: usize = 80;

/// All connections, also those of older processes.
pub(in crate::daemon) struct AllSessions {
    workers: worker::Handle,
    older: OlderSessions,
}

/// Those of older processes. None before [`ask`](OlderSessions::ask).
#[derive(Clone, Default)]
pub(in crate::daemon) struct OlderSessions(Arc<Mutex<Option<WordSender>>>);

impl OlderSessions {
    /// From now on, these processes are asked.
    pub(in crate::daemon) fn ask(&self, predecessors: &Predecessors) {
        *self.0.lock() = Some(predecessors.words.clone());
    }

    fn send(&self, word: Word) {
        if let Some(words) = &*self.0.lock() {
            words.send(word);
        }
    }
}

impl AllSessions {
    pub(in crate::daemon) fn new(workers: &worker::Handle, older: &OlderSessions) -> AllSessions {
        AllSessions { workers: workers.clone(), older: older.clone() }
    }
}

impl SessionControl for AllSessions {
    fn find(&self, survey: SurveyPart) {
        let own = survey.filter().id.map(|id| id.process == std::process::id());
        if own != Some(true) {
            self.older.send(Word::Find(survey.split()));
        }
        if own != Some(false) {
            self.workers.find(survey);
        }
    }

    fn close(&self, ids: &[SessionId]) {
        let (own, others): (Vec<SessionId>, Vec<SessionId>) =
            ids.iter().partition(|id| id.process == std::process::id());
        self.workers.close(&own);
        if !others.is_empty() {
            self.older.send(Word::Kick(others));
        }
    }
}

/// The questions that an older process is still to answer. It is sent one at a time, so that a process which was stopped
/// finds no more than one when it goes on.
#[derive(Default)]
pub(super) struct Questions {
    /// The oldest first.
    waiting: VecDeque<Question>,
    /// The one that it was asked, and until when its answer is waited for before it is asked something else.
    asked: Option<(u64, Instant)>,
}

struct Question {
    number: u64,
    deadline: Instant,
    survey: SurveyPart,
}

impl Questions {
    /// When the next one has not been answered in time.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.front().map(|it| it.deadline)
    }

    /// Asks the next one, if none is being answered.
    pub(super) fn ask(&mut self, channel: &Channel, now: Instant) {
        let Some(Question { number, survey, .. }) = self.waiting.front() else { return };
        if self.asked.is_some_and(|(_, until)| now < until) {
            return;
        }
        let question = Message::Find { number: *number, filter: survey.filter().clone() };
        // If it does not listen, it is asked when it does, or is gone, which is noticed when it is listened to.
        if channel.send(&question, &[]).is_ok() {
            self.asked = Some((*number, now + ASK_AGAIN));
        }
    }
}

impl PredecessorLink {
    /// Asks it which of its connections are meant.
    pub(super) fn find(&mut self, survey: SurveyPart, now: Instant) {
        // Another process that listened to it before may still get answers.
        let number = fastrand::u64(..);
        match self.pid {
            Some(pid) if survey.filter().id.is_none_or(|id| id.process == pid) => {
                self.questions.waiting.push_back(Question { number, deadline: now + ANSWERS_WITHIN, survey });
            }
            Some(_) => {}
            None => self.misses(&survey),
        }
    }

    /// Gives up questions that it has not answered in time.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(question) = self.questions.waiting.pop_front_if(|it| it.deadline <= now) {
            self.misses(&question.survey);
        }
    }

    /// It has found these.
    pub(super) fn found(&mut self, number: u64, sessions: Vec<Session>, last: Option<Completeness>) {
        if let Some(question) = self.questions.waiting.front().filter(|it| it.number == number) {
            question.survey.add(sessions.into_iter());
            if last == Some(Completeness::Partial) {
                self.misses(&question.survey);
            }
            if last.is_some() {
                self.questions.waiting.pop_front();
            }
        }
        if last.is_some() && self.questions.asked.is_some_and(|(asked, _)| asked == number) {
            self.questions.asked = None;
        }
    }

    /// Has it close those of these connections that are its own.
    pub(super) fn kick(&mut self, ids: &[SessionId]) {
        let own: Vec<SessionId> = ids.iter().filter(|id| Some(id.process) == self.pid).copied().collect();
        self.orders.extend(own.chunks(PORTION).map(|ids| Order::Kick(ids.to_vec())));
    }

    fn misses(&self, survey: &SurveyPart) {
        let all = || self.connections.iter().map(|((holder, _), count)| (holder, *count));
        // Those without a destination count for the limits only, those of services that are gone for the pool only.
        let limits = all().filter(|(holder, _)| matches!(holder, Holder::Limits(_))).map(|(_, count)| count).sum();
        let connections = clients(all()).max(limits);
        if connections > 0 {
            survey.misses(MissingProcess { process: self.pid, connections });
        }
    }
}

impl Order {
    /// How much of a message it takes.
    pub(super) fn size(&self) -> usize {
        match self {
            Order::Kick(ids) => ids.len(),
            _ => 1,
        }
    }
}

/// Tells the process that has taken over which connections of this one are meant.
pub(super) fn answer(channel: &Channel, workers: &worker::Handle, number: u64, filter: SessionFilter) {
    let (sender, found) = bounded(1);
    // That nobody waits any more is as good.
    workers.find(SurveyPart::new(filter, Box::new(move |found| drop(sender.send(found)))));
    let (sessions, completeness) = match found.recv_timeout(FINDS_WITHIN) {
        Ok(found) => (found.sessions, Completeness::Complete),
        Err(_) => (Vec::new(), Completeness::Partial),
    };
    let portions = sessions.len().div_ceil(SESSIONS).max(1);
    for portion in 0..portions {
        let sessions = sessions.iter().skip(portion * SESSIONS).take(SESSIONS).cloned().collect();
        let last = (portion + 1 == portions).then_some(completeness);
        // It does not listen, or is gone: then it waits no longer for the rest.
        if channel.send(&Message::Found { number, sessions, last }, &[]).is_err() {
            return;
        }
    }
}
