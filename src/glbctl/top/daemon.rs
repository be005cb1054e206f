//! What is known of one daemon: its last answer, how much it has changed since the one before, and whether it is there.

use std::collections::HashMap;
use std::time::Instant;

use super::super::model::{ClientLine, Destination, Event, Filter, Pool, Status};

/// What a daemon has answered.
#[derive(Debug, Clone)]
pub struct Look {
    pub at: Instant,
    pub status: Status,
    /// The oldest first.
    pub events: Vec<Event>,
    /// Or why there are none.
    pub clients: Result<Vec<ClientLine>, String>,
}

/// How much a second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    pub connections: f64,
    pub bytes_in: f64,
    pub bytes_out: f64,
    pub failures: f64,
}

/// Counters of something at one moment.
#[derive(Debug, Clone, Copy)]
struct Counts {
    connections: u64,
    bytes_in: u64,
    bytes_out: u64,
    failures: u64,
}

impl Counts {
    fn of(it: &Destination) -> Counts {
        Counts {
            connections: it.connections.total,
            bytes_in: it.bytes_in,
            bytes_out: it.bytes_out,
            failures: it.connects.failures(),
        }
    }

    /// Nothing for what has begun anew since.
    fn since(self, before: Counts, seconds: f64) -> Rates {
        let rate = |now: u64, before: u64| match seconds > 0.0 {
            true => now.saturating_sub(before) as f64 / seconds,
            false => 0.0,
        };
        Rates {
            connections: rate(self.connections, before.connections),
            bytes_in: rate(self.bytes_in, before.bytes_in),
            bytes_out: rate(self.bytes_out, before.bytes_out),
            failures: rate(self.failures, before.failures),
        }
    }
}

/// A destination's place in a daemon: its pool and its address.
pub type Key = (String, String);

/// One of the daemons that are looked at.
#[derive(Debug)]
pub struct Daemon {
    pub name: String,
    pub look: Option<Look>,
    /// Since when it does not answer, and why.
    pub away: Option<(Instant, String)>,
    pub rates: Rates,
    by_destination: HashMap<Key, Rates>,
}

impl Daemon {
    /// One that has not been looked at.
    pub fn new(name: String) -> Daemon {
        Daemon { name, look: None, away: None, rates: Rates::default(), by_destination: HashMap::new() }
    }

    /// It has answered, or not.
    pub fn saw(&mut self, look: Result<Look, String>, at: Instant, filter: &Filter) {
        let mut look = match look {
            Ok(look) => look,
            Err(reason) => {
                let since = self.away.as_ref().map_or(at, |(since, _)| *since);
                self.away = Some((since, reason));
                self.rates = Rates::default();
                self.by_destination.clear();
                return;
            }
        };
        match look.status.clone().filtered(filter) {
            Ok(status) => look.status = status,
            Err(failure) => return self.saw(Err(failure.to_string()), at, filter),
        }
        self.away = None;
        let before = self.look.as_ref().filter(|before| before.status.process.started == look.status.process.started);
        if let Some(before) = before {
            let seconds = look.at.saturating_duration_since(before.at).as_secs_f64();
            let process = |status: &Status| {
                let (process, failures) =
                    (&status.process, status.destinations().map(|(_, it)| it.connects.failures()));
                Counts {
                    connections: process.accepted,
                    bytes_in: process.bytes_in,
                    bytes_out: process.bytes_out,
                    failures: failures.fold(0, u64::saturating_add),
                }
            };
            self.rates = process(&look.status).since(process(&before.status), seconds);
            let old: HashMap<Key, Counts> =
                before.status.destinations().map(|(pool, it)| (key(pool, it), Counts::of(it))).collect();
            let rates = |(pool, it): (&Pool, &Destination)| {
                let key = key(pool, it);
                let rates = old.get(&key).map(|old| Counts::of(it).since(*old, seconds)).unwrap_or_default();
                (key, rates)
            };
            self.by_destination = look.status.destinations().map(rates).collect();
        } else {
            self.rates = Rates::default();
            self.by_destination.clear();
        }
        self.look = Some(look);
    }

    /// What a destination does.
    pub fn rates_of(&self, key: &Key) -> Rates {
        self.by_destination.get(key).copied().unwrap_or_default()
    }

    /// Its last answer.
    pub fn status(&self) -> Option<&Status> {
        self.look.as_ref().map(|look| &look.status)
    }
}

/// The place of a destination.
pub fn key(pool: &Pool, destination: &Destination) -> Key {
    (pool.name.to_string(), destination.address.to_string())
}
