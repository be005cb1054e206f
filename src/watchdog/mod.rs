//! Health: asks destinations how they are, and writes verdicts into the table.
//!
//! All probes run in one thread, as tasks that wait for different things: one that hangs costs nobody anything.

mod discovery;
mod fleet;
mod opinion;
mod probe;
mod watch;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::{Instant, sleep};

use crate::config::WatchdogOptions;
use crate::resolve::Resolver;
use crate::table::{DestinationId, Event, Table};
use fleet::Fleet;
pub use probe::{Credentials, Prober, mark, take_mark};
use watch::Watch;

/// What is watched, and how.
pub struct Settings {
    /// How.
    pub options: WatchdogOptions,
    /// Makes the probes.
    pub prober: Prober,
    /// The destinations.
    pub table: Table,
    /// Where this daemon listens: nothing that it may balance to.
    pub own_addresses: Vec<SocketAddr>,
    /// Called once every destination that there is at the start has been judged, or a probe's timeout is over.
    pub on_first_verdicts: Box<dyn FnOnce() + Send>,
}

/// How the rest of the program reaches the watchdog.
pub struct Handle {
    messages: UnboundedSender<Message>,
    thread: std::thread::JoinHandle<()>,
}

impl Handle {
    /// Ends all probes. What they have started is told to end, and not waited for.
    pub fn stop(self) {
        let _ = self.messages.send(Message::Stop);
        // It has nothing to do but to drop them; a panic was logged.
        let _ = self.thread.join();
    }
}

enum Message {
    Table(Event),
    Stop,
}

/// Starts to watch, in a thread of its own.
///
/// # Errors
/// When there is no thread, or no descriptor for its event queue.
pub fn start(settings: Settings) -> io::Result<Handle> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let (messages, received) = unbounded_channel();
    let events = messages.clone();
    settings.table.subscribe(Box::new(move |event| {
        if matters(event) {
            // Nobody needs to hear it when the watchdog has ended.
            let _ = events.send(Message::Table(event));
        }
    }));
    let thread = std::thread::Builder::new().name("watchdog".into()).spawn(move || {
        LocalSet::new().block_on(&runtime, Watchdog::run(settings, received));
    })?;
    Ok(Handle { messages, thread })
}

fn matters(event: Event) -> bool {
    !matches!(event, Event::Closed(..) | Event::Checked(..))
}

/// What all tasks use.
struct Common {
    options: WatchdogOptions,
    prober: Prober,
    table: Table,
    own_addresses: Vec<SocketAddr>,
    resolver: Resolver,
    fleet: RefCell<Fleet>,
}

/// Keeps a task for each destination.
struct Watchdog {
    common: Rc<Common>,
    tasks: HashMap<DestinationId, Task>,
}

struct Task {
    /// Has it probe at once.
    hint: Rc<Notify>,
    handle: JoinHandle<()>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

impl Watchdog {
    async fn run(settings: Settings, mut messages: UnboundedReceiver<Message>) {
        let Settings { options, prober, table, own_addresses, on_first_verdicts } = settings;
        let patience = options.timeout + SCHEDULING;
        let destinations = table.snapshot();
        let ids: Vec<DestinationId> = destinations.iter().map(|it| it.id).collect();
        let unjudged = destinations.iter().filter(|it| it.health.verdict.is_none()).map(|it| it.id).collect();
        let fleet = RefCell::new(Fleet::new(unjudged, on_first_verdicts));
        let common = Rc::new(Common { options, prober, table, own_addresses, resolver: Resolver::default(), fleet });
        let mut watchdog = Watchdog { common: Rc::clone(&common), tasks: HashMap::new() };
        ids.into_iter().for_each(|id| watchdog.watch(id));
        tokio::task::spawn_local(async move {
            sleep(patience).await;
            common.fleet.borrow_mut().stop_waiting();
        });
        while let Some(Message::Table(event)) = messages.recv().await {
            watchdog.on(event);
        }
        watchdog.stop().await;
    }

    fn on(&mut self, event: Event) {
        match event {
            Event::Added(id) if self.tasks.contains_key(&id) => {}
            Event::Added(id) | Event::Moved(id, ..) => self.watch(id),
            Event::Removed(id) => {
                self.tasks.remove(&id);
                let mut fleet = self.common.fleet.borrow_mut();
                fleet.is_unfit(id);
                fleet.judged(id);
            }
            Event::Doubted(id) | Event::Awaited(id) => {
                self.tasks.get(&id).into_iter().for_each(|task| task.hint.notify_one());
            }
            Event::Closed(..) | Event::Checked(..) => {}
        }
    }

    /// Begins to watch a destination, anew when it was watched at another address.
    fn watch(&mut self, id: DestinationId) {
        // It may be gone again.
        let Some(address) = self.common.table.address_at(id) else { return };
        self.common.fleet.borrow_mut().is_unfit(id);
        let hint = Rc::new(Notify::new());
        let watch = Watch::new(id, address, Rc::clone(&hint), Rc::clone(&self.common));
        let handle = tokio::task::spawn_local(watch.run());
        self.tasks.insert(id, Task { hint, handle });
    }

    async fn stop(self) {
        let handles: Vec<_> = self.tasks.values().map(|task| task.handle.abort_handle()).collect();
        drop(self.tasks);
        while handles.iter().any(|task| !task.is_finished()) {
            tokio::task::yield_now().await;
        }
        let since = Instant::now();
        while probe::are_any_ending() && since.elapsed() < COURTESY {
            sleep(STEP).await;
        }
    }
}

/// How long what the probes have started may take to end before whoever tidies up after the daemon kills it.
const COURTESY: Duration = Duration::from_millis(200);
const STEP: Duration = Duration::from_millis(5);
/// How much longer than its timeout a first probe may take on a busy machine until clients are let in all the same.
const SCHEDULING: Duration = Duration::from_millis(100);
