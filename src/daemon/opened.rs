//! All that needs the rights of the user who started the program.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use log::Level;

use super::control_sockets::{ControlDoor, ControlSpot, Sorted};
use super::handover::LeftAddress;
use super::http_socket::HttpSocket;
use super::listen_trouble;
use super::listening::{self, Door, Opening};
use super::prepared::{Notice, Prepared};
use crate::checker;
use crate::config::{Config, ProbeSpec};
use crate::control::{self, ControlListener};
use crate::process::Leftovers;

/// Where the control FIFO is unless the command line says otherwise.
const DEFAULT_FIFO: &str = "/tmp/glbd.fifo";

/// What was opened, and what is to be removed at the end.
pub(super) struct Opened {
    /// Sockets of another process that this one does not go on with.
    pub unused: Vec<LeftAddress>,
    /// The listening sockets of all services.
    pub listening: Vec<Opening>,
    pub control: Vec<ControlListener>,
    pub fifo: Option<File>,
    pub http: Option<HttpSocket>,
    pub doors: Doors,
}

/// All ways in once more: to close them for good without waiting for the threads that use them, and to hand them over.
/// Those of the services come with the workers.
pub(super) struct Doors {
    services: Vec<Door>,
    pub control: Vec<ControlDoor>,
    fifo: Option<File>,
}

impl Doors {
    fn of(control: Vec<ControlDoor>, fifo: Option<&File>) -> io::Result<Doors> {
        Ok(Doors { services: Vec::new(), control, fifo: fifo.map(File::try_clone).transpose()? })
    }

    /// The control sockets for the thread that listens to them.
    fn control_listeners(&self) -> io::Result<Vec<ControlListener>> {
        self.control.iter().map(ControlDoor::listener).collect()
    }

    /// Nobody listens any more, so that the next daemon can at once.
    pub(super) fn close(self) {
        self.services.into_iter().for_each(Door::close);
        self.control.into_iter().for_each(ControlDoor::close);
    }

    /// The listening sockets of all services.
    pub(super) fn all(&self) -> &[Door] {
        &self.services
    }

    /// The listening sockets of a service, at each of its addresses.
    pub(super) fn of_service<'d>(&'d self, service: &'d str) -> impl Iterator<Item = &'d Door> {
        self.services.iter().filter(move |it| &*it.service == service)
    }

    /// The same, to be changed.
    pub(super) fn of_service_mut<'d>(&'d mut self, service: &'d str) -> impl Iterator<Item = &'d mut Door> {
        self.services.iter_mut().filter(move |it| &*it.service == service)
    }

    /// The files that were made for listening sockets, which are to be seen to from now on.
    pub(super) fn take_made(&mut self) -> Leftovers {
        let mut made = Leftovers::default();
        self.services.iter_mut().for_each(|door| made.join(std::mem::take(&mut door.made)));
        made
    }

    /// One more way in.
    pub(super) fn add(&mut self, door: Door) {
        self.services.push(door);
    }

    /// Lets go of some listening sockets. They are closed once no thread has them.
    pub(super) fn remove(&mut self, goes: impl Fn(&Door) -> bool) -> Vec<Door> {
        self.services.extract_if(.., |door| goes(door)).collect()
    }

    /// Whether the control sockets are a service manager's.
    pub(super) fn has_borrowed_control(&self) -> bool {
        self.control.iter().any(|door| door.borrowed)
    }

    pub(super) fn fifo(&self) -> Option<BorrowedFd<'_>> {
        self.fifo.as_ref().map(AsFd::as_fd)
    }
}

/// Sockets that are open already.
#[derive(Default)]
pub(super) struct OpenSockets {
    /// Those that clients connect to.
    pub services: Vec<Door>,
}

impl Opened {
    /// What another process has opened, and what is to be opened beside it.
    pub(super) fn inherited(
        config: &Config,
        prepared: &mut Prepared,
        open: OpenSockets,
        fifo: Option<File>,
        leftovers: &mut Leftovers,
    ) -> Result<Opened, String> {
        let listening = listening::open_all(config, &prepared.places, &open.services)?;
        let unused = listening::unused(&open.services, &listening);
        listening::await_handshakes(&unused, &prepared.places);
        let unused = unused.into_iter().map(Door::as_left).collect();
        let control = open_control(std::mem::take(&mut prepared.control), leftovers)?;
        Ok(Opened { unused, ..Opened::with(listening, control, fifo)? })
    }

    fn with(listening: Vec<Opening>, control: Vec<ControlDoor>, fifo: Option<File>) -> Result<Opened, String> {
        let told = |error: io::Error| format!("cannot listen: {error}");
        let doors = Doors::of(control, fifo.as_ref()).map_err(told)?;
        let control = doors.control_listeners().map_err(told)?;
        Ok(Opened { unused: Vec::new(), listening, control, fifo, http: None, doors })
    }
}

/// Opens everything that no service manager has opened, and gives up the rights that were needed for it.
pub(super) fn open(
    config: &Config,
    open: OpenSockets,
    prepared: &mut Prepared,
    leftovers: &mut Leftovers,
) -> Result<Opened, String> {
    let mut listening = listening::open_all(config, &prepared.places, &open.services)?;
    for opening in &mut listening {
        leftovers.join(std::mem::take(&mut opening.made));
        let service = config.services.iter().find(|it| it.name == *opening.service());
        if let (Some(identity), Some(service)) = (&prepared.identity, service) {
            let given = opening.give_to(identity.numbers(), &service.connections);
            given.map_err(|error| listen_trouble(opening.listen(), &error))?;
        }
    }
    let control = open_control(std::mem::take(&mut prepared.control), leftovers)?;
    let http = HttpSocket::open(config, prepared.identity.as_ref())?;
    http.iter().for_each(|http| http.note(leftovers));
    let fifo = open_fifo(config, leftovers, &mut prepared.notices)?;
    if let Some(path) = &config.pidfile {
        leftovers.write_pidfile(path)?;
    }
    let mut probes = config.pools.iter().filter_map(|pool| pool.watchdog.as_ref()).map(|options| &options.probe);
    // A file may bring scripts later on.
    if config.file.is_some() || probes.any(|probe| matches!(probe, ProbeSpec::Exec(_))) {
        leftovers.add_marked_processes(checker::mark());
    }
    let identity = prepared.identity.as_ref();
    leftovers.prepare_for(identity).map_err(|error| format!("cannot start the janitor: {error}"))?;
    if let Some(identity) = identity {
        for socket in listening.iter().filter(|it| !it.is_borrowed()).flat_map(Opening::descriptors) {
            // Without it, it takes a restart to listen at the same port of another address.
            let _ = identity.give(socket);
        }
        identity.assume(config.services.iter().any(|service| service.connections.uses_any_address()))?;
    }
    Ok(Opened { http, ..Opened::with(listening, control, fifo)? })
}

/// The control sockets: those that are open already, and new ones, whose files are to be removed at the end.
fn open_control(sorted: Sorted, leftovers: &mut Leftovers) -> Result<Vec<ControlDoor>, String> {
    let Sorted { mut kept, changed, missing, .. } = sorted;
    changed.iter().try_for_each(ControlSpot::set_access)?;
    for spot in &missing {
        kept.push(spot.open()?);
        spot.address.path().into_iter().for_each(|path| leftovers.add(path.to_owned()));
    }
    Ok(kept)
}

/// Where the control FIFO is to be.
pub(super) fn fifo_path(config: &Config) -> &Path {
    config.fifo.as_deref().unwrap_or(Path::new(DEFAULT_FIFO))
}

fn open_fifo(config: &Config, leftovers: &mut Leftovers, notices: &mut Vec<Notice>) -> Result<Option<File>, String> {
    let path = fifo_path(config);
    control::remove_stale_fifo(path);
    match control::create_fifo(path) {
        Ok(fifo) => {
            leftovers.add(path.to_owned());
            Ok(Some(fifo))
        }
        // Nobody asked for it: another daemon that has it is no reason not to start.
        Err(error) if config.fifo.is_none() => {
            notices.push((Level::Warn, format!("there is no control FIFO {}: {error}", path.display())));
            Ok(None)
        }
        Err(error) => Err(format!("cannot make the FIFO {}: {error}", path.display())),
    }
}
