//! The control protocol, on sockets and a FIFO, in one thread: parse, apply to the table, answer.

mod command;
mod conversation;
mod empty;
mod events;
mod executor;
mod fifo;
pub mod fuzz;
mod late;
mod lines;
mod listeners;
mod lookup;
mod report;
mod sessions;
mod still;
mod stream;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use log::warn;
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;

use crate::log::{Trouble, events as log_events};
use crate::resolve::{OwnAddresses, Resolver};
use crate::sessions::SessionControl;
use crate::state::StateFile;
use crate::status::Source;
use crate::supervise;
use conversation::{Conversation, Next};
use empty::EmptyWaits;
pub use events::{line as event_line, missed_line};
use executor::{Executor, Reply};
use fifo::Fifo;
pub use fifo::{create_fifo, remove_stale_fifo};
use late::{Asker, LateReport, ReportSender};
pub use late::{CommandDone, Commands, ReloadDone, ReloadOutcome};
pub use listeners::ControlListener;
use listeners::{Caller, Listeners};
pub use report::{info, watch};
use sessions::{Kicks, Then};
pub use still::Handle;
use still::Wish;

const FIFO: Token = Token(usize::MAX - 1);
const WAKER: Token = Token(usize::MAX - 2);
/// Commands of one client that are obeyed before others get their turn.
const COMMANDS_A_TURN: usize = 64;
/// How long to wait before accepting again when there is no room, or no descriptor.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(50);

/// Where commands come from, and what they act on.
pub struct Settings {
    /// The control sockets.
    pub listeners: Vec<ControlListener>,
    /// The FIFO, open; `None`: there is none.
    pub fifo: Option<File>,
    /// Most conversations at a time; one in which nothing is said makes room for a new one.
    pub max_conversations: usize,
    /// The pools and services, and the counters.
    pub source: Source,
    /// Where this daemon listens: nothing that it may balance to.
    pub own_addresses: OwnAddresses,
    /// Has the configuration file read again; `None`: there is none.
    pub reload: Option<Reload>,
    /// Finds and closes connections.
    pub sessions: Box<dyn SessionControl>,
    /// Where changes are kept; `None`: nowhere.
    pub state: Option<Arc<StateFile>>,
}

/// Has the configuration file read again by another thread, which says what that has come to.
pub type Reload = Box<dyn Fn(ReloadDone) + Send>;

/// The control thread.
pub struct Control {
    poll: Poll,
    listeners: Listeners,
    retry_at: Option<Instant>,
    /// How long conversations may take to end before all of it stands still.
    patient_until: Option<Instant>,
    fifo: Option<Fifo>,
    conversations: Slab<Conversation>,
    max_conversations: usize,
    generation: u64,
    unfinished: bool,
    /// Other threads that wait for an answer, by their number.
    waiting: HashMap<u64, CommandDone>,
    /// Dropped when the answers that are due have been sent.
    settling: Vec<Sender<()>>,
    executor: Executor,
    kicks: Kicks,
    empty_waits: EmptyWaits,
    sender: ReportSender,
    reports: Receiver<LateReport>,
    wish: Arc<Wish>,
    trouble: Arc<Trouble>,
}

impl Control {
    /// Prepares to listen to what `settings` names.
    ///
    /// # Errors
    /// When there are no descriptors left for the event queue.
    pub fn new(settings: Settings) -> io::Result<Control> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let mut listeners = Listeners::default();
        listeners.set(settings.listeners, poll.registry())?;
        let fifo = settings.fifo.map(|file| Fifo::new(file, poll.registry(), FIFO)).transpose()?;
        let (sender, reports) = unbounded();
        let sender = ReportSender { reports: sender, waker };
        // The file of a process before this one is still to be claimed.
        sender.send(LateReport::TableChanged);
        let watching = sender.clone();
        log_events::wake_by(Box::new(move || drop(watching.waker.wake())));
        settings.source.inventory.now().pools.iter().for_each(|it| sender.follow(&it.pool));
        let executor = Executor {
            source: settings.source,
            own_addresses: settings.own_addresses,
            state: settings.state,
            reload: settings.reload,
            sessions: settings.sessions,
            resolver: Resolver::default(),
            is_retired: false,
            unwritten: RefCell::default(),
            kept: RefCell::default(),
            setup_lost: None,
        };
        executor.remember();
        Ok(Control {
            poll,
            listeners,
            retry_at: None,
            patient_until: None,
            fifo,
            conversations: Slab::new(),
            max_conversations: settings.max_conversations,
            generation: 0,
            unfinished: false,
            waiting: HashMap::new(),
            settling: Vec::new(),
            executor,
            kicks: Kicks::default(),
            empty_waits: EmptyWaits::default(),
            sender,
            reports,
            wish: Arc::default(),
            trouble: Trouble::new(module_path!(), "control connections cannot be accepted"),
        })
    }

    /// Starts the thread. With `still`, nobody is obeyed before [`Handle::go_on`].
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(self, still: bool) -> io::Result<Handle> {
        let handle = Handle { sender: self.sender.clone(), wish: Arc::clone(&self.wish) };
        if still {
            handle.stand_still();
        }
        let mut control = self;
        supervise::start("control", move || control.run())?;
        Ok(handle)
    }

    fn run(&mut self) {
        // After a defect, whichever of them has met it.
        self.conversations.clear();
        let mut events = Events::with_capacity(128);
        loop {
            let wait = self.time_to_wait();
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // Nothing that comes from outside can bring this about.
                result => result.expect("the event queue works"),
            }
            let now = Instant::now();
            self.executor.source.inventory.now().services.iter().for_each(|it| it.rotation().advance_switchover(now));
            for event in &events {
                match event.token() {
                    WAKER => {}
                    FIFO => self.fifo.iter_mut().for_each(Fifo::is_readable),
                    token if self.listeners.on_event(token) => {}
                    Token(slot) => self.conversations.get_mut(slot).into_iter().for_each(Conversation::is_readable),
                }
            }
            if self.heed_wish(now) {
                self.unfinished = false;
                self.read_reports();
                if self.executor.is_retired {
                    // They are the business of the process that has taken over.
                    self.kicks = Kicks::default();
                }
                self.kicks.go_on(now, &*self.executor.sessions);
                self.look_at_waits(now);
                self.read_fifo(now);
                self.accept(now);
                self.go_on_with_conversations(now);
                self.settling.clear();
            }
        }
    }

    fn time_to_wait(&self) -> Option<Duration> {
        let setup = self.executor.source.inventory.now();
        let switchover = setup.services.iter().filter_map(|it| it.rotation().deadline()).min();
        if self.wish.is_still() {
            return switchover.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        }
        if self.unfinished {
            return Some(Duration::ZERO);
        }
        let conversations = self.conversations.iter().filter_map(|(_, conversation)| conversation.deadline());
        let fifo = self.fifo.as_ref().and_then(Fifo::deadline);
        let now = Instant::now();
        let patience = self.patient_until.filter(|until| *until > now);
        let deadline = conversations.chain(fifo).chain(self.retry_at).chain(patience).chain(switchover);
        let deadline = deadline.chain(self.kicks.deadline()).chain(self.empty_waits.deadline()).min()?;
        Some(deadline.saturating_duration_since(now))
    }

    fn read_reports(&mut self) {
        let mut has_changed = false;
        while let Ok(report) = self.reports.try_recv() {
            match report {
                LateReport::Command { line, peer, done } => self.obey(&line, peer, done),
                LateReport::Resolved { asker, target, addresses } => {
                    let answer = self.executor.finish(&target, addresses, asker);
                    self.answer_late(asker, &answer);
                }
                LateReport::Switched { asker, target, result } => {
                    let answer = self.executor.switched(&target, result);
                    match asker {
                        // It has not waited.
                        Asker::Fifo => self.fifo.iter_mut().for_each(|fifo| fifo.report(&answer)),
                        asker => self.answer_late(asker, &answer),
                    }
                }
                LateReport::Found { asker, query, found } => {
                    let unknown = || lookup::unknown_name(&self.executor.source.inventory.now(), &query.filter);
                    let is_empty = found.sessions.is_empty() && found.missing.is_empty();
                    let unknown = is_empty.then(unknown).flatten();
                    let answer = match query.then {
                        _ if let Some(reason) = unknown => format!("Error: {reason}\n"),
                        Then::Show(shown) => sessions::connections(found, shown),
                        Then::ShowClients(shown) => sessions::clients(found, shown),
                        Then::Kick(pace) => match query.filter.id.filter(|_| found.sessions.is_empty()) {
                            Some(id) => sessions::no_such_connection(id, &found),
                            None => self.kicks.begin(found, pace, asker, &*self.executor.sessions),
                        },
                    };
                    self.answer_late(asker, &answer);
                }
                LateReport::WaitEmpty(wait) => {
                    if let Err((asker, answer)) = self.empty_waits.add(wait) {
                        self.answer_late(asker, &answer);
                    }
                }
                LateReport::Reloaded { asker, outcome } => {
                    let answer = match outcome {
                        Ok(lines) => {
                            let last = self.executor.setup_kept();
                            lines.into_iter().map(|line| line + "\n").chain([last]).collect()
                        }
                        Err(reasons) => reasons.iter().map(|it| format!("Error: {it}\n")).collect::<String>(),
                    };
                    self.answer_late(asker, &answer);
                }
                LateReport::ListenAt(listeners) => {
                    if let Err(error) = self.listeners.set(listeners, self.poll.registry()) {
                        warn!("control: cannot listen: {error}");
                    }
                }
                LateReport::Settle(settled) => self.settling.push(settled),
                LateReport::SetupChanged => self.executor.keep_setup(),
                LateReport::TableChanged => has_changed = true,
            }
        }
        if has_changed {
            self.executor.keep_news();
        }
    }

    /// Answers those who wait for the end of connections, as far as that has come, or their time is over.
    fn look_at_waits(&mut self, now: Instant) {
        let (conversations, waiting) = (&self.conversations, &self.waiting);
        let is_there = |asker: Asker| match asker {
            Asker::Fifo => true,
            Asker::Conversation { slot, generation, .. } => {
                conversations.get(slot).is_some_and(|it| it.generation == generation)
            }
            Asker::Thread { number, .. } => waiting.contains_key(&number),
        };
        for (asker, answer) in self.empty_waits.go_on(now, is_there) {
            self.answer_late(asker, &answer);
        }
    }

    /// Obeys another thread. It bounds how many of its clients wait for an answer.
    fn obey(&mut self, line: &str, peer: Option<SocketAddr>, done: CommandDone) {
        self.generation += 1;
        let number = self.generation;
        match self.executor.execute(line, self.sender.answering(Asker::Thread { number, peer })) {
            Reply::Text(answer) => done(answer),
            Reply::Later | Reply::Switching => drop(self.waiting.insert(number, done)),
            Reply::Prompt | Reply::Quit | Reply::Watch(_) => done("Error: there is no conversation\n".to_owned()),
        }
    }

    fn answer_late(&mut self, asker: Asker, answer: &str) {
        match asker {
            Asker::Fifo => self.fifo.iter_mut().for_each(|fifo| fifo.answer_late(answer)),
            Asker::Conversation { slot, generation, .. } => {
                let asking = self.conversations.get_mut(slot).filter(|it| it.generation == generation);
                asking.into_iter().for_each(|it| it.answer_late(answer));
            }
            Asker::Thread { number, .. } => {
                self.waiting.remove(&number).into_iter().for_each(|done| done(answer.to_owned()));
            }
        }
    }

    fn accept(&mut self, now: Instant) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
        while self.listeners.are_ready() && self.retry_at.is_none() && self.patient_until.is_none() {
            if self.conversations.len() > self.max_conversations && !self.close_an_idle_one(now) {
                self.retry_at = Some(now + SHORTAGE_PAUSE);
                return;
            }
            match self.listeners.accept() {
                Ok(Some(caller)) => self.open_conversation(caller),
                Ok(None) => return,
                Err(error) => {
                    self.retry_at = Some(now + SHORTAGE_PAUSE);
                    self.close_an_idle_one(now);
                    if let Some(suppressed) = self.trouble.occurs(now) {
                        warn!("control: cannot accept: {error}{suppressed}");
                    }
                }
            }
        }
    }

    fn open_conversation(&mut self, mut caller: Caller) {
        self.generation += 1;
        let entry = self.conversations.vacant_entry();
        let interest = Interest::READABLE | Interest::WRITABLE;
        // A client that cannot be watched is closed.
        if self.poll.registry().register(caller.stream.source(), Token(entry.key()), interest).is_ok() {
            entry.insert(Conversation::new(caller, self.generation));
        }
    }

    /// Makes room by closing the conversation in which nothing has been said for longest. False when all are at work.
    fn close_an_idle_one(&mut self, now: Instant) -> bool {
        let idle = self.conversations.iter().filter_map(|(slot, it)| Some((it.idle_since(now)?, slot)));
        let longest = idle.min().map(|(_, slot)| slot);
        longest.map(|slot| self.conversations.remove(slot)).is_some()
    }

    /// All of them: there are few, and most have just had an event.
    fn go_on_with_conversations(&mut self, now: Instant) {
        let (executor, sender) = (&self.executor, &self.sender);
        let mut is_watched = false;
        self.conversations.retain(|slot, conversation| {
            let (generation, peer) = (conversation.generation, conversation.peer);
            let asker = Asker::Conversation { slot, generation, peer };
            let read_only = conversation.read_only;
            let execute = |line: &str| match read_only {
                true => executor.query(line, sender.answering(asker)),
                false => executor.execute(line, sender.answering(asker)),
            };
            let next = match conversation.go_on(execute) {
                Next::Close => Next::Close,
                _ if conversation.deadline().is_some_and(|deadline| deadline <= now) => {
                    conversation.on_deadline(execute)
                }
                next => next,
            };
            self.unfinished |= next == Next::Again;
            is_watched |= conversation.watches() && next != Next::Close;
            next != Next::Close
        });
        log_events::watch(is_watched);
    }

    fn read_fifo(&mut self, now: Instant) {
        let Some(fifo) = &mut self.fifo else { return };
        let (executor, sender) = (&self.executor, &self.sender);
        self.unfinished |= fifo.go_on(now, |line| executor.execute(line, sender.answering(Asker::Fifo)));
    }
}
