//! All that needs the rights of the user who started the program.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use log::Level;
use socket2::{SockRef, Socket};

use super::prepared::{Notice, Prepared};
use super::service_manager::address;
use super::{control_trouble, listen_trouble};
use crate::checker;
use crate::config::{Config, Name, ProbeSpec};
use crate::control;
use crate::process::{Identity, Leftovers};
use crate::service;

/// Where the control FIFO is unless the command line says otherwise.
const DEFAULT_FIFO: &str = "/tmp/glbd.fifo";

/// What was opened, and what is to be removed at the end.
pub(super) struct Opened {
    /// The listening sockets of each service, in their order.
    pub listeners: Vec<Vec<mio::net::TcpListener>>,
    pub control: Option<TcpListener>,
    pub fifo: Option<File>,
    pub doors: Doors,
}

/// All ways in once more: to close them for good without waiting for the threads that use them, and to hand them over.
pub(super) struct Doors {
    services: Vec<Door>,
    control: Option<Socket>,
    fifo: Option<File>,
    /// The control socket is a service manager's.
    borrowed: bool,
}

/// The listening sockets of a service once more.
pub(super) struct Door {
    pub service: Name,
    /// They are a service manager's, which goes on listening.
    pub borrowed: bool,
    pub sockets: Vec<Socket>,
}

impl Door {
    pub(super) fn of(service: &Name, listeners: &[mio::net::TcpListener], borrowed: bool) -> io::Result<Door> {
        let sockets = listeners.iter().map(|it| SockRef::from(it).try_clone()).collect::<io::Result<_>>()?;
        Ok(Door { service: Name::clone(service), borrowed, sockets })
    }

    fn close(self) {
        if self.borrowed {
            return;
        }
        for socket in self.sockets {
            // It fails on one that does not listen.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Doors {
    fn of(
        services: Vec<Door>,
        control: Option<&TcpListener>,
        fifo: Option<&File>,
        borrowed: bool,
    ) -> io::Result<Doors> {
        let control = control.map(|it| SockRef::from(it).try_clone()).transpose()?;
        Ok(Doors { services, control, fifo: fifo.map(File::try_clone).transpose()?, borrowed })
    }

    /// Nobody listens any more, so that the next daemon can at once.
    pub(super) fn close(self) {
        self.services.into_iter().for_each(Door::close);
        if let Some(control) = self.control.filter(|_| !self.borrowed) {
            let _ = control.shutdown(Shutdown::Both);
        }
    }

    pub(super) fn door(&self, service: &str) -> Option<&Door> {
        self.services.iter().find(|it| &*it.service == service)
    }

    /// One more way in.
    pub(super) fn add(&mut self, door: Door) {
        self.services.push(door);
    }

    /// Lets go of the listening sockets of a service. They are closed once no thread has them.
    pub(super) fn remove(&mut self, service: &str) {
        self.services.retain(|it| &*it.service != service);
    }

    /// Whether the control socket is a service manager's.
    pub(super) fn has_borrowed_control(&self) -> bool {
        self.borrowed
    }

    pub(super) fn control(&self) -> Option<BorrowedFd<'_>> {
        self.control.as_ref().map(AsFd::as_fd)
    }

    pub(super) fn fifo(&self) -> Option<BorrowedFd<'_>> {
        self.fifo.as_ref().map(AsFd::as_fd)
    }
}

/// Sockets that are open already.
#[derive(Default)]
pub(super) struct OpenSockets {
    /// Those of each service, and whether they are a service manager's.
    pub services: HashMap<Name, (Vec<Socket>, bool)>,
    pub control: Option<Socket>,
    /// Whether that is a service manager's.
    pub borrowed_control: bool,
}

impl OpenSockets {
    /// Where clients of each service connect to, as far as that is decided by them.
    pub(super) fn addresses(&self) -> HashMap<Name, Vec<SocketAddr>> {
        let addresses = |(sockets, _): &(Vec<Socket>, bool)| sockets.iter().filter_map(address).collect();
        self.services.iter().map(|(name, sockets)| (Name::clone(name), addresses(sockets))).collect()
    }
}

/// The listening sockets of each service: those that are open already, and new ones.
fn open_services(
    config: &Config,
    prepared: &Prepared,
    open: &HashMap<Name, (Vec<Socket>, bool)>,
) -> Result<(Vec<Vec<mio::net::TcpListener>>, Vec<Door>), String> {
    let (mut all, mut doors) = (Vec::new(), Vec::new());
    for (service, addresses) in config.services.iter().zip(&prepared.listening) {
        let told = |error: io::Error| listen_trouble(service, &error);
        let (listeners, borrowed) = match (open.get(&service.name), addresses.first()) {
            (Some((sockets, borrowed)), _) => {
                (service::adopt(sockets, config.threads, &service.connections).map_err(told)?, *borrowed)
            }
            (None, Some(address)) => {
                (service::listen(*address, config.threads, &service.connections).map_err(told)?, false)
            }
            (None, None) => (Vec::new(), false),
        };
        let door = Door::of(&service.name, &listeners, borrowed);
        doors.push(door.map_err(|error| format!("cannot listen: {error}"))?);
        all.push(listeners);
    }
    Ok((all, doors))
}

impl Opened {
    /// What another process has opened, and what is to be opened beside it.
    pub(super) fn inherited(
        config: &Config,
        prepared: &Prepared,
        open: OpenSockets,
        fifo: Option<File>,
    ) -> Result<Opened, String> {
        let (listeners, doors) = open_services(config, prepared, &open.services)?;
        let control = open.control.map(TcpListener::from);
        let doors = Doors::of(doors, control.as_ref(), fifo.as_ref(), open.borrowed_control);
        let doors = doors.map_err(|error| format!("the sockets that are handed over: {error}"))?;
        Ok(Opened { listeners, control, fifo, doors })
    }
}

/// Opens everything that no service manager has opened, and gives up the rights that were needed for it.
pub(super) fn open(
    config: &Config,
    open: OpenSockets,
    prepared: &mut Prepared,
    leftovers: &mut Leftovers,
) -> Result<Opened, String> {
    let (listeners, doors) = open_services(config, prepared, &open.services)?;
    let control = match (open.control, &config.control, prepared.control) {
        (Some(socket), ..) => Some(socket.into()),
        (None, Some(name), Some(address)) => {
            Some(TcpListener::bind(address).map_err(|error| control_trouble(name, &error))?)
        }
        _ => None,
    };
    let fifo = open_fifo(config, leftovers, &mut prepared.notices)?;
    let doors = Doors::of(doors, control.as_ref(), fifo.as_ref(), open.borrowed_control);
    let doors = doors.map_err(|error| format!("cannot listen: {error}"))?;
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
    identity.map_or(Ok(()), Identity::assume)?;
    Ok(Opened { listeners, control, fifo, doors })
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
