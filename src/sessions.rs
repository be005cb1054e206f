//! Connections as they are shown to people, and which of them are meant: what control asks workers for.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use parking_lot::Mutex;

use crate::address::PeerAddress;

/// Tells a connection of this process from all others that there are or were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId {
    /// The worker that serves it.
    pub worker: u32,
    /// Its place there, and which of all in this place it is.
    pub slot: u32,
    /// The second of these.
    pub generation: u32,
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.worker, self.slot, self.generation)
    }
}

impl FromStr for SessionId {
    type Err = ();

    fn from_str(text: &str) -> Result<SessionId, ()> {
        let numbers: Vec<u32> = text.split('-').map(|it| it.parse().map_err(drop)).collect::<Result<_, _>>()?;
        let [worker, slot, generation] = numbers[..] else { return Err(()) };
        Ok(SessionId { worker, slot, generation })
    }
}

/// A connection at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// Which it is.
    pub id: SessionId,
    /// Of which service.
    pub service: Arc<str>,
    /// Who has connected, or for whom a proxy has.
    pub client: PeerAddress,
    /// What the destination sees as its client.
    pub local: Option<SocketAddr>,
    /// Where it has been passed on to, or is to be.
    pub destination: Option<PeerAddress>,
    /// `header`, `connecting`, `queued`, `connected`, `half-closed` or `ending`.
    pub state: &'static str,
    /// Since it was accepted.
    pub age: Duration,
    /// Since bytes last came or went.
    pub idle: Duration,
    /// Received from the client.
    pub bytes_in: u64,
    /// Sent to the client.
    pub bytes_out: u64,
}

/// Which connections are meant: those that are all of this.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SessionFilter {
    /// Exactly this one.
    pub id: Option<SessionId>,
    /// Of this service.
    pub service: Option<String>,
    /// From this network.
    pub client: Option<IpNet>,
    /// On this destination.
    pub destination: Option<PeerAddress>,
    /// Accepted so long ago, at least.
    pub older: Option<Duration>,
    /// Without a byte for so long, at least.
    pub idle: Option<Duration>,
}

impl SessionFilter {
    /// Whether this one is meant.
    pub fn fits(&self, session: &Session) -> bool {
        let in_network = |network: &IpNet| network.contains(&session.client.ip_or_local());
        self.id.is_none_or(|id| id == session.id)
            && self.service.as_ref().is_none_or(|service| **service == *session.service)
            && self.client.as_ref().is_none_or(in_network)
            && self.destination.is_none_or(|destination| session.destination == Some(destination))
            && self.older.is_none_or(|older| session.age >= older)
            && self.idle.is_none_or(|idle| session.idle >= idle)
    }
}

/// Called with all that was found, once.
pub type Found = Box<dyn FnOnce(Vec<Session>) + Send>;

/// A question to all workers.
pub struct Survey {
    filter: SessionFilter,
    found: Mutex<Vec<Session>>,
    /// Workers that have not answered yet.
    pending: AtomicUsize,
    done: Mutex<Option<Found>>,
}

/// The question, as one worker has it. It has answered when this is dropped.
pub struct SurveyPart(Arc<Survey>);

impl Survey {
    /// A question to so many workers. `done` is called when all have answered, or are gone.
    pub fn ask(filter: SessionFilter, workers: usize, done: Found) -> Vec<SurveyPart> {
        let survey = Arc::new(Survey {
            filter,
            found: Mutex::default(),
            pending: AtomicUsize::new(workers),
            done: Mutex::new(Some(done)),
        });
        (0..workers).map(|_| SurveyPart(Arc::clone(&survey))).collect()
    }
}

impl SurveyPart {
    /// Adds those of these connections that are meant.
    pub fn add(&self, sessions: impl Iterator<Item = Session>) {
        let meant: Vec<Session> = sessions.filter(|session| self.0.filter.fits(session)).collect();
        self.0.found.lock().extend(meant);
    }
}

impl Drop for SurveyPart {
    fn drop(&mut self) {
        if self.0.pending.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(done) = self.0.done.lock().take()
        {
            done(std::mem::take(&mut *self.0.found.lock()));
        }
    }
}

/// What is asked of the workers about connections.
pub trait SessionControl: Send {
    /// Finds connections. It is said when all workers have looked.
    fn find(&self, filter: SessionFilter, done: Found);

    /// Closes these, as far as they are still there.
    fn close(&self, ids: &[SessionId]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let id = SessionId { worker: 1, slot: 20, generation: 300 };
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "1", "1-2", "1-2-3-4", "a-b-c", "1-2--3", "1-2-4294967296"] {
            assert_eq!(text.parse::<SessionId>(), Err(()), "{text}");
        }
    }

    #[test]
    fn a_survey_is_over_when_the_last_worker_has_answered_or_is_gone() {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        let mut parts =
            Survey::ask(SessionFilter::default(), 2, Box::new(move |found| sender.send(found).expect("one")));
        drop(parts.pop());
        assert!(receiver.try_recv().is_err());
        drop(parts);
        assert_eq!(receiver.try_recv(), Ok(Vec::new()));
    }
}
