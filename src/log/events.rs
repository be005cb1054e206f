//! The last log lines about what has changed: when, who, why. Every such line says all three already, so that it is the
//! event.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use log::{Level, Record};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Most changes that are kept.
const MOST_CHANGES: usize = 1000;
/// Most lines that are kept for those who watch: what a watcher has not taken by then it misses.
const MOST_LINES: usize = 256;

/// The log target of lines about the configuration that are written elsewhere than where it is read.
pub const CONFIGURATION: &str = "glbd::daemon::reload";

/// A log line, and what it is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Each has the next one.
    pub number: u64,
    /// When it was logged.
    pub at: SystemTime,
    /// What it is about.
    pub kind: EventKind,
    /// How much it matters: `error`, `warn` or `info`.
    pub level: Arc<str>,
    /// The line.
    pub text: Arc<str>,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// Destinations, their weights and addresses.
    Table,
    /// What the watchdog says of destinations.
    Verdict,
    /// The single destination.
    Writer,
    /// The configuration.
    Configuration,
    /// The daemon itself.
    Process,
    /// Clients that cannot be served.
    Clients,
}

impl EventKind {
    /// All of them.
    pub const ALL: [EventKind; 6] = [
        EventKind::Table,
        EventKind::Verdict,
        EventKind::Writer,
        EventKind::Configuration,
        EventKind::Process,
        EventKind::Clients,
    ];

    /// By the module that has logged it.
    pub(super) fn of(target: &str) -> EventKind {
        let mut path = target.split("::").skip(1);
        match (path.next().unwrap_or_default(), path.next().unwrap_or_default()) {
            ("pool", "moves" | "single" | "switchover" | "succession" | "by_hand") => EventKind::Writer,
            ("pool", "backups" | "fallen") | ("health" | "checker", _) => EventKind::Verdict,
            ("pool" | "names" | "control" | "state" | "resolve", _) => EventKind::Table,
            ("daemon", "reload") | ("config" | "desired", _) => EventKind::Configuration,
            ("worker", _) => EventKind::Clients,
            _ => EventKind::Process,
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            EventKind::Table => "table",
            EventKind::Verdict => "verdict",
            EventKind::Writer => "writer",
            EventKind::Configuration => "configuration",
            EventKind::Process => "process",
            EventKind::Clients => "clients",
        })
    }
}

#[derive(Default)]
struct Events {
    next: u64,
    /// All but what is about clients, which could push out the rest.
    changes: VecDeque<Event>,
    lines: VecDeque<Event>,
    /// Wakes those who watch.
    wakers: Vec<Box<dyn Fn() + Send>>,
}

static EVENTS: Mutex<Events> =
    Mutex::new(Events { next: 1, changes: VecDeque::new(), lines: VecDeque::new(), wakers: Vec::new() });
static IS_WATCHED: AtomicBool = AtomicBool::new(false);

/// Keeps a log line.
pub(super) fn record(record: &Record) {
    let kind = EventKind::of(record.target());
    let level = record.level().as_str().to_ascii_lowercase().into();
    let (at, text) = (SystemTime::now(), record.args().to_string().into());
    let mut events = EVENTS.lock();
    let event = Event { number: events.next, at, kind, level, text };
    events.next += 1;
    push(&mut events.lines, event.clone(), MOST_LINES);
    if kind != EventKind::Clients {
        events.changes.push_back(event);
        trim(&mut events.changes);
    }
    if IS_WATCHED.load(Ordering::Relaxed) {
        events.wakers.iter().for_each(|wake| wake());
    }
}

fn push(events: &mut VecDeque<Event>, event: Event, most: usize) {
    if events.len() >= most {
        events.pop_front();
    }
    events.push_back(event);
}

/// Forgets the oldest changes of the kind that there are the most of: a destination that comes and goes does not push out
/// what people have done.
fn trim(changes: &mut VecDeque<Event>) {
    while changes.len() > MOST_CHANGES {
        let count = |kind: &EventKind| changes.iter().filter(|event| event.kind == *kind).count();
        let most = EventKind::ALL.into_iter().max_by_key(count);
        let oldest = changes.iter().position(|event| Some(event.kind) == most);
        changes.remove(oldest.unwrap_or_default());
    }
}

/// The changes that are kept, the oldest first.
pub fn changes() -> Vec<Event> {
    EVENTS.lock().changes.iter().cloned().collect()
}

/// Goes on with what another process has kept, as if it had been logged here before everything else.
pub fn resume(before: Vec<Event>) {
    let mut events = EVENTS.lock();
    let next = before.iter().map(|event| event.number).max().unwrap_or_default() + 1;
    let own = std::mem::take(&mut events.changes);
    let renumbered = own.into_iter().zip(next..).map(|(event, number)| Event { number, ..event });
    let all: Vec<Event> = before.into_iter().chain(renumbered).collect();
    events.next = all.last().map_or(next, |event| event.number + 1);
    events.lines.clear();
    events.changes = all.into();
    trim(&mut events.changes);
}

/// The number of the next event.
pub fn next() -> u64 {
    EVENTS.lock().next
}

/// Everything that was logged from the event of this number on, and how many events of that were not kept.
pub fn from(number: u64) -> (Vec<Event>, u64) {
    let events = EVENTS.lock();
    let first = events.lines.front().map_or(events.next, |event| event.number);
    let new = events.lines.iter().filter(|event| event.number >= number).cloned().collect();
    (new, first.saturating_sub(number))
}

/// Has `wake` called for each event while somebody [watches](watch). It must not log.
pub fn wake_by(wake: Box<dyn Fn() + Send>) {
    EVENTS.lock().wakers.push(wake);
}

/// Says whether anybody watches.
pub fn watch(is_watched: bool) {
    IS_WATCHED.store(is_watched, Ordering::Relaxed);
}

/// Whether a line is one of those that are kept.
pub(super) fn keeps(level: Level) -> bool {
    level <= Level::Info
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_of_the_kind_that_its_module_is() {
        for (target, kind) in [
            ("glbd::control::executor", EventKind::Table),
            ("glbd::names::pool_names", EventKind::Table),
            ("glbd::pool::dismissal", EventKind::Table),
            ("glbd::pool::moves", EventKind::Writer),
            ("glbd::health::tell", EventKind::Verdict),
            ("glbd::pool::backups", EventKind::Verdict),
            ("glbd::daemon::reload", EventKind::Configuration),
            (CONFIGURATION, EventKind::Configuration),
            ("glbd::daemon::serving", EventKind::Process),
            ("glbd::worker::troubles", EventKind::Clients),
            ("glbd", EventKind::Process),
        ] {
            assert_eq!(EventKind::of(target), kind, "{target}");
        }
    }
}
