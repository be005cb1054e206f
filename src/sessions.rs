//! Connections as they are shown to people, and which of them are meant: what control asks workers for.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::address::PeerAddress;

/// Tells a connection from all others of this process and of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SessionId {
    /// The process that has it.
    pub process: u32,
    /// The worker that serves it.
    pub worker: u32,
    /// Its place there, and which of all in this place it is.
    pub slot: u32,
    /// The second of these.
    pub generation: u32,
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}-{}-{}", self.process, self.worker, self.slot, self.generation)
    }
}

impl FromStr for SessionId {
    type Err = ();

    fn from_str(text: &str) -> Result<SessionId, ()> {
        let (process, place) = text.split_once('.').ok_or(())?;
        let process = process.parse().map_err(drop)?;
        let numbers: Vec<u32> = place.split('-').map(|it| it.parse().map_err(drop)).collect::<Result<_, _>>()?;
        let [worker, slot, generation] = numbers[..] else { return Err(()) };
        Ok(SessionId { process, worker, slot, generation })
    }
}

/// A connection at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Which it is.
    pub id: SessionId,
    /// Of which service.
    pub service: Arc<str>,
    /// The pool of its destination; none where a process of an earlier version does not say so.
    #[serde(default)]
    pub pool: Option<Arc<str>>,
    /// Who has connected, or for whom a proxy has.
    pub client: PeerAddress,
    /// What the destination sees as its client.
    pub local: Option<SocketAddr>,
    /// Where it has been passed on to, or is to be.
    pub destination: Option<PeerAddress>,
    /// `header`, `connecting`, `queued`, `connected`, `half-closed` or `ending`.
    pub state: Cow<'static, str>,
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
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SessionFilter {
    /// Exactly this one.
    pub id: Option<SessionId>,
    /// Of this service.
    pub service: Option<String>,
    /// From this network.
    pub client: Option<IpNet>,
    /// Of those that have connected to the UNIX socket at this path. Not a [`PeerAddress`], which would be kept for ever.
    #[serde(default)]
    pub socket: Option<String>,
    /// On this destination.
    pub destination: Option<PeerAddress>,
    /// And this pool has it.
    #[serde(default)]
    pub pool: Option<String>,
    /// Accepted so long ago, at least.
    pub older: Option<Duration>,
    /// Without a byte for so long, at least.
    pub idle: Option<Duration>,
}

impl SessionFilter {
    /// Whether this one is meant.
    pub fn fits(&self, session: &Session) -> bool {
        let in_network = |network: &IpNet| session.client.ip().is_some_and(|ip| network.contains(&ip));
        let at_socket = |path: &String| matches!(session.client, PeerAddress::Unix(it) if it.as_str() == path);
        self.id.is_none_or(|id| id == session.id)
            && self.service.as_ref().is_none_or(|service| **service == *session.service)
            && self.client.as_ref().is_none_or(in_network)
            && self.socket.as_ref().is_none_or(at_socket)
            && self.destination.is_none_or(|destination| session.destination == Some(destination))
            && self.pool.as_ref().is_none_or(|pool| session.pool.as_ref().is_some_and(|it| **it == **pool))
            && self.older.is_none_or(|older| session.age >= older)
            && self.idle.is_none_or(|idle| session.idle >= idle)
    }
}

/// What was found.
#[derive(Debug, Default, PartialEq)]
pub struct FoundSessions {
    /// Those that are meant, in no order.
    pub sessions: Vec<Session>,
    /// Processes that have not answered, or not completely.
    pub missing: Vec<MissingProcess>,
}

/// An older process that has not said in time which connections it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingProcess {
    /// Its number; `None`: an earlier version, which cannot be asked.
    pub process: Option<u32>,
    /// How many connections it has, as far as is known.
    pub connections: usize,
}

/// Called with all that was found, once.
pub type Found = Box<dyn FnOnce(FoundSessions) + Send>;

/// A question to several workers and processes.
struct Survey {
    filter: SessionFilter,
    found: Mutex<FoundSessions>,
    /// How many have not answered yet.
    pending: AtomicUsize,
    done: Mutex<Option<Found>>,
}

/// The question, as one of those has it that are asked. It has answered when this is dropped.
pub struct SurveyPart(Arc<Survey>);

impl SurveyPart {
    /// A question. `done` is called when this part and all that were [split](SurveyPart::split) off are dropped.
    pub fn new(filter: SessionFilter, done: Found) -> SurveyPart {
        SurveyPart(Arc::new(Survey {
            filter,
            found: Mutex::default(),
            pending: AtomicUsize::new(1),
            done: Mutex::new(Some(done)),
        }))
    }

    /// The same question to somebody else.
    #[must_use]
    pub fn split(&self) -> SurveyPart {
        self.0.pending.fetch_add(1, Ordering::Relaxed);
        SurveyPart(Arc::clone(&self.0))
    }

    /// Which connections are meant.
    pub fn filter(&self) -> &SessionFilter {
        &self.0.filter
    }

    /// Adds those of these connections that are meant.
    pub fn add(&self, sessions: impl Iterator<Item = Session>) {
        let meant: Vec<Session> = sessions.filter(|session| self.0.filter.fits(session)).collect();
        self.0.found.lock().sessions.extend(meant);
    }

    /// This process has not answered.
    pub fn misses(&self, process: MissingProcess) {
        self.0.found.lock().missing.push(process);
    }
}

impl Drop for SurveyPart {
    fn drop(&mut self) {
        if self.0.pending.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(done) = self.0.done.lock().take()
        {
            let found = std::mem::take(&mut *self.0.found.lock());
            done(found);
        }
    }
}

/// What is asked about connections.
pub trait SessionControl: Send {
    /// Finds connections.
    fn find(&self, survey: SurveyPart);

    /// Closes these, as far as they are still there.
    fn close(&self, ids: &[SessionId]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let id = SessionId { process: 4000, worker: 1, slot: 20, generation: 300 };
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "1", "9.1-2", "1-2-3", "9.1-2-3-4", "9.a-b-c", "9.1-2--3", "9.1-2-4294967296", "-1.1-2-3"] {
            assert_eq!(text.parse::<SessionId>(), Err(()), "{text}");
        }
    }

    #[test]
    fn what_a_process_of_an_earlier_version_finds_beyond_what_is_meant_is_left_out() {
        let session = |number, client: &str| Session {
            id: SessionId { process: 1, worker: 0, slot: number, generation: 0 },
            service: "s".into(),
            pool: None,
            client: client.parse().expect("an address"),
            local: None,
            destination: None,
            state: "connected".into(),
            age: Duration::ZERO,
            idle: Duration::ZERO,
            bytes_in: 0,
            bytes_out: 0,
        };
        let all = ["127.0.0.1:1", "unix:/run/a.sock", "unix:@a"];
        let found = |filter: SessionFilter| {
            let (sender, receiver) = crossbeam_channel::bounded(1);
            let survey = SurveyPart::new(filter, Box::new(move |found| sender.send(found).expect("one")));
            survey.add((0..).zip(all).map(|(number, client)| session(number, client)));
            drop(survey);
            let found: FoundSessions = receiver.recv().expect("an answer");
            found.sessions.iter().map(|it| it.client.to_string()).collect::<Vec<_>>()
        };
        // It knows of networks only, in which it has those of UNIX sockets as well.
        for path in ["/run/a.sock", "@a"] {
            let socket = SessionFilter { socket: Some(path.to_owned()), ..SessionFilter::default() };
            assert_eq!(found(socket), [format!("unix:{path}")]);
        }
        let network = SessionFilter { client: "127.0.0.0/8".parse().ok(), ..SessionFilter::default() };
        assert_eq!(found(network), ["127.0.0.1:1"]);
    }

    #[test]
    fn a_process_that_knows_of_no_pools_is_understood_and_none_of_its_connections_taken_for_one_of_a_pool() {
        let id = r#"{"process":1,"worker":0,"slot":0,"generation":0}"#;
        let text = format!(
            r#"{{"id":{id},"service":"s","client":"10.0.0.9:1","local":null,"destination":"10.0.0.1:1","state":"connected",
               "age":{{"secs":1,"nanos":0}},"idle":{{"secs":1,"nanos":0}},"bytes_in":0,"bytes_out":0}}"#
        );
        let session: Session = serde_json::from_str(&text).expect("a session");
        let filter: SessionFilter = serde_json::from_str(
            r#"{"id":null,"service":null,"client":null,"destination":"10.0.0.1:1","older":null,"idle":null}"#,
        )
        .expect("a filter");
        assert!(filter.fits(&session));
        assert!(!SessionFilter { pool: Some("p".to_owned()), ..filter }.fits(&session));
    }

    #[test]
    fn a_survey_is_over_when_the_last_worker_has_answered_or_is_gone() {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        let one = SurveyPart::new(SessionFilter::default(), Box::new(move |found| sender.send(found).expect("one")));
        let other = one.split();
        let missing = MissingProcess { process: Some(7), connections: 2 };
        one.misses(missing);
        drop(one);
        assert!(receiver.try_recv().is_err());
        drop(other);
        assert_eq!(receiver.try_recv(), Ok(FoundSessions { sessions: Vec::new(), missing: vec![missing] }));
    }
}
