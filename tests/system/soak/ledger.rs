//! What the soak did to its destinations and when, and how every client's connection ended.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Instant, SystemTime};

/// What ends the connections of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// Its process ends: connections end cleanly or by a reset, whatever has been sent by then.
    Killed,
    /// glbd cuts its connections, because it is removed or DOWN: a reset, never a clean end.
    Cut,
}

struct Period {
    destination: usize,
    harm: Harm,
    ended: Option<Instant>,
}

/// How the connections of one kind of client ended.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    /// With everything as it should be.
    pub complete: usize,
    /// Early, by what the soak had done to the destination.
    pub cut: usize,
    /// Bytes that were compared.
    pub bytes: u64,
}

/// The record of the whole soak, shared by all of its threads.
#[derive(Default)]
pub struct Ledger {
    periods: Mutex<Vec<Period>>,
    tallies: Mutex<BTreeMap<&'static str, Tally>>,
    deeds: Mutex<BTreeMap<&'static str, usize>>,
    errors: Mutex<Vec<String>>,
    /// The deeds of the last minutes, by the wall clock, as the log has it.
    journal: Mutex<Vec<String>>,
}

/// One client's connection.
pub struct Visit {
    pub kind: &'static str,
    pub begun: Instant,
    /// Its address, by which it is in the daemon's log.
    pub address: Option<SocketAddr>,
    /// The number of its destination, once it has said that.
    pub destination: Option<usize>,
    /// Bytes compared.
    pub bytes: usize,
}

impl Ledger {
    /// Records that a destination is harmed until the guard is dropped.
    pub fn harm(&self, destination: usize, harm: Harm) -> impl Drop {
        let mut periods = self.periods.lock().expect("no panic");
        periods.push(Period { destination, harm, ended: None });
        EndOfHarm { ledger: self, index: periods.len() - 1 }
    }

    /// Returns true if a destination, or any if it is not known, was harmed in this way since then.
    pub fn was_harmed(&self, destination: Option<usize>, harm: Harm, since: Instant) -> bool {
        let periods = self.periods.lock().expect("no panic");
        let mut matching =
            periods.iter().filter(|it| it.harm == harm && destination.is_none_or(|number| number == it.destination));
        matching.any(|it| it.ended.is_none_or(|ended| ended >= since))
    }

    /// Records how a client's connection ended. A failure that nothing the soak did explains is an error.
    pub fn close(&self, visit: &Visit, result: io::Result<()>) {
        let Visit { kind, begun, address, destination, bytes } = *visit;
        let is_explained = match &result {
            Ok(()) => true,
            Err(error) => {
                let harmed = |harm| self.was_harmed(destination, harm, begun);
                match error.kind() {
                    ErrorKind::UnexpectedEof => harmed(Harm::Killed),
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::NotConnected => {
                        harmed(Harm::Killed) || harmed(Harm::Cut)
                    }
                    _ => false,
                }
            }
        };
        let mut tallies = self.tallies.lock().expect("no panic");
        let tally = tallies.entry(kind).or_default();
        tally.bytes += bytes as u64;
        match result {
            Ok(()) => tally.complete += 1,
            Err(_) if is_explained => tally.cut += 1,
            Err(error) => {
                let harms = [Harm::Killed, Harm::Cut].map(|harm| self.was_harmed(destination, harm, begun));
                let age = begun.elapsed();
                let who = format!("{kind} from {address:?} at {destination:?}, {age:?} old");
                self.error(format!("{who}, killed or cut: {harms:?}: {error}"));
            }
        }
    }

    /// Records that something begins to be done to a destination.
    pub fn note(&self, what: &str, destination: usize) {
        let mut journal = self.journal.lock().expect("no panic");
        journal
            .push(format!("{} {what}: destination {destination}", humantime::format_rfc3339_millis(SystemTime::now())));
    }

    /// What was done last.
    pub fn last_deeds(&self) -> String {
        let journal = self.journal.lock().expect("no panic");
        journal[journal.len().saturating_sub(30)..].join("\n")
    }

    /// Counts something that the soak did.
    pub fn count(&self, deed: &'static str) {
        *self.deeds.lock().expect("no panic").entry(deed).or_default() += 1;
    }

    /// Records what must not happen.
    pub fn error(&self, text: String) {
        eprintln!("error: {text}");
        self.errors.lock().expect("no panic").push(text);
    }

    /// What must not have happened.
    pub fn errors(&self) -> Vec<String> {
        self.errors.lock().expect("no panic").clone()
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "{:32} {:>10} {:>6} {:>10}", "clients", "complete", "cut", "MB")?;
        for (kind, Tally { complete, cut, bytes }) in &*self.tallies.lock().expect("no panic") {
            writeln!(f, "{kind:32} {complete:>10} {cut:>6} {:>10.1}", *bytes as f64 / 1e6)?;
        }
        for (deed, count) in &*self.deeds.lock().expect("no panic") {
            writeln!(f, "{deed:43} {count:>6}")?;
        }
        write!(f, "{:43} {:>6}", "errors", self.errors.lock().expect("no panic").len())
    }
}

struct EndOfHarm<'a> {
    ledger: &'a Ledger,
    index: usize,
}

impl Drop for EndOfHarm<'_> {
    fn drop(&mut self) {
        if let Ok(mut periods) = self.ledger.periods.lock() {
            periods[self.index].ended = Some(Instant::now());
        }
    }
}
