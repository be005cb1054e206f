//! All that can be known before anything is opened.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::Level;

use super::handover::State;
use super::limits::Limits;
use super::{control_trouble, listen_trouble};
use crate::checker::Credentials;
use crate::config::Config;
use crate::counted::Counted;
use crate::pool::health::{Reason, ShutdownSessions};
use crate::pool::{Balancing, Change, Pool, PoolSettings, Rotation, Unresolved};
use crate::process::{self, Identity};
use crate::resolve::{self, OwnAddresses};
use crate::state::{Base, Loaded, StateFile};

/// Who a daemon started by root runs as unless the command line says otherwise.
const DEFAULT_USER: &str = "daemon";
/// A failed destination is avoided for the interval between checks and this.
const AVOIDED_LONGER: Duration = Duration::from_secs(1);

/// Changes of the last time that stand in one log line.
const TOLD_AT_ONCE: usize = 20;

/// How much it matters, and what it is.
pub(super) type Notice = (Level, String);

/// All that can be known before anything is opened.
pub(super) struct Prepared {
    pub limits: Limits,
    pub listening: SocketAddr,
    /// All addresses at which it listens: of several sockets that a service manager has opened, each has its own.
    pub listening_at: Vec<SocketAddr>,
    pub control: Option<SocketAddr>,
    pub table: Rotation,
    /// Where changes are kept, if anywhere.
    pub state: Option<Arc<StateFile>>,
    /// Who the checks log in as, where there are any.
    pub credentials: Option<Credentials>,
    pub identity: Option<Identity>,
    /// What the log should tell, once there is one.
    pub notices: Vec<Notice>,
}

impl Prepared {
    pub(super) fn own_addresses(&self) -> OwnAddresses {
        self.listening_at.iter().copied().chain(self.control).collect::<Vec<_>>().into()
    }

    /// For a start with what the command line says; the table is to be [filled](Prepared::fill). Sockets may be open
    /// already: at which addresses clients connect, and where the control socket is.
    pub(super) fn anew(
        config: &Config,
        open: Vec<SocketAddr>,
        open_control: Option<SocketAddr>,
    ) -> Result<Prepared, String> {
        let credentials = credentials(config, None)?;
        let limits = Limits::for_config(config, config.threads)?;
        let listening = resolve::resolve_listen_address(&config.service.listen);
        let listening = listening.map_err(|error| listen_trouble(config, &error))?;
        let control =
            config.control.as_ref().map(|address| resolve::resolve(address).map_err(|error| (address, error)));
        let control = control.transpose().map_err(|(address, error)| control_trouble(address, &error))?;
        let control = open_control.or(control);
        let notices = limits.notice.iter().map(|notice| (Level::Warn, notice.clone())).collect();
        let (table, identity) = (empty_pool(config), identity(config)?);
        let listening_at = if open.is_empty() { vec![listening] } else { open };
        let state = state_file(config);
        Ok(Prepared { limits, listening, listening_at, control, table, state, credentials, identity, notices })
    }

    /// For going on with another process's table, sockets and rights.
    pub(super) fn to_take_over(
        config: &Config,
        state: &State,
        threads: usize,
        listening_at: Vec<SocketAddr>,
        control: Option<SocketAddr>,
    ) -> Result<Prepared, String> {
        let listening = *listening_at.first().ok_or("no listening socket is handed over")?;
        let credentials = credentials(config, state.credentials.clone())?;
        let limits = Limits::for_config(config, threads)?;
        let table = empty_pool(config);
        table.restore(state.table.clone(), Instant::now());
        table.restore_choices(state.choices.clone(), Instant::now());
        // A move of the single destination waits for connections that are all in other processes.
        state.count_in(&table);
        let (identity, notices, state) = (None, what_stays(config, state), state_file(config));
        Ok(Prepared { limits, listening, listening_at, control, table, state, credentials, identity, notices })
    }

    /// Fills the table from the command line and the state file. Stops waiting for names once `give_up` returns true. Threads
    /// that resolve names may still run when this returns, so whatever needs a process with a single thread comes before.
    pub(super) fn fill(&mut self, config: &Config, give_up: &mut dyn FnMut() -> bool) -> Result<(), String> {
        self.fill_table(config, give_up)?;
        self.load_state(config.check)?;
        self.tell_unresolved();
        self.tell_open_control();
        let Some(state) = self.state.as_ref().filter(|_| !config.check) else { return Ok(()) };
        // Better known now than when a change is to be kept.
        let user = self.identity.as_ref().map(|identity| format!(" as user '{}'", identity.name())).unwrap_or_default();
        let told = |error| format!("cannot write the state to {}{user}: {error}", state.path().display());
        state.save(&self.table).map_err(told)
    }

    fn fill_table(&mut self, config: &Config, give_up: &mut dyn FnMut() -> bool) -> Result<(), String> {
        let own_addresses = self.own_addresses();
        resolve::set_own_addresses(own_addresses.clone());
        let endpoints = config.pool.destinations.iter().map(|spec| spec.endpoint.clone()).collect();
        let patience = (!config.strict_names).then_some(resolve::PATIENCE);
        let found = resolve::resolve_all(endpoints, patience, give_up);
        for spec in &config.pool.destinations {
            let told = |reason: String| format!("destination {}: {reason}", spec.endpoint);
            let addresses = match found.get(&spec.endpoint) {
                Some(Ok(addresses)) => addresses,
                Some(Err(error)) if config.strict_names => return Err(told(resolve::in_one_line(error))),
                missing => {
                    let reason = missing.and_then(|it| it.as_ref().err()).map(resolve::in_one_line).unwrap_or_default();
                    let expected = self.table.expect(&spec.endpoint, spec.weight, Reason::new(&reason));
                    expected.map_err(|error| told(error.to_string()))?;
                    continue;
                }
            };
            let (own, others): (Vec<SocketAddr>, Vec<SocketAddr>) =
                addresses.iter().partition(|address| own_addresses.include(**address));
            match own.first() {
                Some(_) if others.is_empty() => {
                    return Err(told("this daemon is to listen there itself".to_owned()));
                }
                Some(own) => {
                    let notice = told(format!("one of its addresses is {own}, where this daemon listens"));
                    self.notices.push((Level::Warn, notice));
                }
                None => {}
            }
            for address in others.into_iter().take(if config.pool.resolve_all { usize::MAX } else { 1 }) {
                let change = self.table.give(&spec.endpoint, address, spec.weight);
                if change.map_err(|error| told(error.to_string()))? != Change::Added {
                    let notice = told(format!("given more than once; its weight is {}", spec.weight));
                    self.notices.push((Level::Warn, notice));
                }
            }
        }
        Ok(())
    }

    fn tell_open_control(&mut self) {
        if let Some(address) = self.control.filter(|address| !address.ip().is_loopback()) {
            let notice =
                format!("the control port {address} is open to other machines: who reaches it may change everything");
            self.notices.push((Level::Warn, notice));
        }
    }

    fn tell_unresolved(&mut self) {
        let told = |it: Unresolved| {
            let reason = if it.reason.is_empty() { String::new() } else { format!(": {}", it.reason) };
            (
                Level::Warn,
                format!("destination {} does not resolve yet{reason}; it is asked for again and again", it.endpoint),
            )
        };
        self.notices.extend(self.table.unresolved().into_iter().map(told));
    }

    /// Makes the changes that were made the last time.
    fn load_state(&mut self, only_look: bool) -> Result<(), String> {
        let Some(state) = self.state.clone() else { return Ok(()) };
        let path = state.path().display();
        let own_addresses = self.own_addresses();
        let loaded = match only_look {
            true => state.preview(&self.table, &own_addresses),
            false => state.load(&self.table, &own_addresses),
        };
        match loaded {
            Ok(Loaded::Nothing) => {}
            Ok(Loaded::Changes(made, remarks)) => {
                for part in made.chunks(TOLD_AT_ONCE) {
                    let (changes, list) = (Counted(part.len(), "change"), part.join(" "));
                    let were_made = match (only_look, part.len()) {
                        (true, _) => "would be made",
                        (false, 1) => "was made",
                        (false, _) => "were made",
                    };
                    let made = format!("{changes} of the last time {were_made} again, as {path} says: {list}");
                    self.notices.push((Level::Info, made));
                }
                self.notices.extend(remarks.into_iter().map(|remark| (Level::Warn, format!("{path}: {remark}"))));
            }
            Ok(Loaded::Damaged(reason)) if only_look => {
                let notice = format!("{path} is damaged: {reason}; nothing of it will be used");
                self.notices.push((Level::Warn, notice));
            }
            Ok(Loaded::Damaged(reason)) => {
                let what = "nothing of it was used, and it is kept as";
                self.notices.push((Level::Warn, format!("{path} is damaged: {reason}; {what} {path}.damaged")));
            }
            Err(error) => return Err(format!("cannot read the state from {path}: {error}")),
        }
        Ok(())
    }
}

/// Notices of what the configuration file says since the old process has read it, and an upgrade does not change.
fn what_stays(config: &Config, state: &State) -> Vec<Notice> {
    let Some(file) = &config.file else { return Vec::new() };
    let lasting = config.lasting();
    let others =
        lasting.iter().filter(|(name, value)| state.lasting.iter().any(|(it, was)| it == name && was != value));
    let notice = |(name, _): &(String, String)| {
        let notice = format!("{}: another '{name}' than before takes effect at a restart", file.display());
        (Level::Warn, notice)
    };
    others.map(notice).collect()
}

fn state_file(config: &Config) -> Option<Arc<StateFile>> {
    let base = Base {
        destinations: config.pool.destinations.clone(),
        all_addresses: config.pool.resolve_all,
        finds_more: config.pool.resolve_all || config.pool.watchdog.as_ref().is_some_and(|options| options.discover),
    };
    config.state.as_deref().map(|path: &Path| Arc::new(StateFile::new(path, base)))
}

fn credentials(config: &Config, known: Option<Credentials>) -> Result<Option<Credentials>, String> {
    config.pool.watchdog.as_ref().map(|options| Credentials::for_checks(&options.probe, known)).transpose()
}

/// The pool that is asked for, still empty, as its service chooses from it.
pub(super) fn empty_pool(config: &Config) -> Rotation {
    let pool = Pool::new(PoolSettings {
        avoid_failed_for: config.pool.interval + AVOIDED_LONGER,
        watched: config.pool.watchdog.is_some(),
        recheck_after: config.pool.recheck_after,
    });
    pool.rotation(Balancing {
        policy: config.service.policy,
        top: config.service.top,
        shutdown_sessions: shutdown_sessions(config),
    })
}

fn shutdown_sessions(config: &Config) -> ShutdownSessions {
    config.pool.watchdog.as_ref().map_or(ShutdownSessions::default(), |options| options.shutdown_sessions)
}

fn identity(config: &Config) -> Result<Option<Identity>, String> {
    let default = || (config.daemon && process::is_root()).then_some(DEFAULT_USER);
    let Some(user) = config.user.as_deref().or_else(default) else { return Ok(None) };
    let identity = Identity::look_up(user)?;
    if identity.is_current() {
        return Ok(None);
    }
    if !process::is_root() {
        return Err(format!("only root can change to user '{user}'"));
    }
    Ok(Some(identity))
}
