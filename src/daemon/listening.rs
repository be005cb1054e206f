//! Where services listen: each of their addresses by itself.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use log::warn;
use socket2::{SockRef, Socket};

use super::handover::LeftAddress;
use super::listen_trouble;
use crate::address::{ListenAddress, PeerAddress};
use crate::config::{Config, ConnectionOptions, Name, ServiceConfig};
use crate::process::{Leftovers, socket_file};
use crate::resolve::{self, OwnAddresses};
use crate::service::{self, Listener, Service, socket_number};
use crate::worker::{self, ListenerGroup};

/// An address of a service.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ListenPlace {
    /// As it was asked for; of a service manager's socket, where that is.
    pub listen: ListenAddress,
    /// Where that is.
    pub at: PeerAddress,
}

/// All addresses at which each service listens.
#[derive(Debug, Clone, Default)]
pub(super) struct ListenPlaces(HashMap<Name, Vec<ListenPlace>>);

impl ListenPlaces {
    /// Where the services of `config` are to listen. What was asked for before is where it was found then, as `doors` say;
    /// the rest is resolved.
    ///
    /// # Errors
    /// One line that names the address which does not resolve, or is another one's as well, or the interface that there is not.
    pub(super) fn resolve<'d>(
        config: &Config,
        doors: impl IntoIterator<Item = &'d Door>,
    ) -> Result<ListenPlaces, String> {
        let known: HashMap<String, PeerAddress> =
            doors.into_iter().map(|door| (door.place.listen.to_string(), door.place.at)).collect();
        let place = |listen: &ListenAddress| {
            let at = match known.get(&listen.to_string()) {
                Some(at) => *at,
                None => resolve::resolve_listen_address(listen).map_err(|error| listen_trouble(listen, &error))?,
            };
            Ok(ListenPlace { listen: listen.clone(), at })
        };
        let (mut places, mut taken) = (ListenPlaces::default(), HashMap::new());
        for service in &config.services {
            let all = service.listen.iter().map(place).collect::<Result<Vec<_>, String>>()?;
            if service.connections.uses_any_address() {
                let told = |error| format!("service {} cannot use addresses of other machines: {error}", service.name);
                service::may_use_any_address().map_err(told)?;
            }
            let interface = &service.connections.interface;
            if let (Some(name), Some(first)) = (interface, all.first()) {
                service::find_interface(name).map_err(|error| listen_trouble(&first.listen, &error))?;
            }
            for ListenPlace { listen, at } in &all {
                let interface = interface.as_ref().filter(|_| !at.is_unix());
                if let Some(other) = taken.insert((*at, interface), &service.name) {
                    return Err(format!("cannot listen on {listen}: it is {at}, where service {other} listens"));
                }
            }
            places.0.insert(Name::clone(&service.name), all);
        }
        Ok(places)
    }

    /// The addresses of one service.
    pub(super) fn of(&self, service: &Name) -> &[ListenPlace] {
        self.0.get(service).map_or(&[], Vec::as_slice)
    }

    /// Whether any service is to listen at just this address.
    fn claim(&self, address: SocketAddr) -> bool {
        self.0.values().flatten().any(|place| place.at == address.into())
    }

    /// Whether a service is to go on listening where it does.
    pub(super) fn include(&self, door: &Door) -> bool {
        self.of(&door.service).iter().any(|place| place.listen == door.place.listen)
    }

    /// All addresses, and those of the control sockets.
    pub(super) fn own_addresses(&self, control: impl IntoIterator<Item = SocketAddr>) -> OwnAddresses {
        let control = control.into_iter().map(PeerAddress::from);
        self.0.values().flatten().map(|place| place.at).chain(control).collect::<Vec<_>>().into()
    }
}

/// The listening sockets of a service at one of its addresses once more: to close them for good without waiting for the
/// threads that use them, and to hand them over.
pub(super) struct Door {
    pub service: Name,
    pub place: ListenPlace,
    /// The network interface that they are bound to.
    pub interface: Option<String>,
    /// They are a service manager's, which goes on listening.
    pub borrowed: bool,
    pub sockets: Vec<Socket>,
    /// What the workers call them; `None` before they serve them.
    pub group: Option<ListenerGroup>,
    /// The file that was made for them, until the daemon sees to it.
    pub made: Leftovers,
}

impl Door {
    /// Closes the sockets for everybody.
    pub(super) fn close(self) {
        if self.borrowed {
            return;
        }
        for socket in self.sockets {
            // It fails on one that does not listen.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Follows other options of its service.
    pub(super) fn renew(&mut self, options: &ConnectionOptions) -> io::Result<()> {
        self.interface = interface_at(self.place.at, options);
        self.sockets.iter().try_for_each(|socket| service::renew(socket, self.borrowed, options))
    }

    /// Accepts only clients that come in through this interface.
    fn bind_to(&self, interface: Option<&str>) -> io::Result<()> {
        self.sockets.iter().try_for_each(|socket| service::bind_to_device(socket, interface))
    }

    /// The file of its UNIX socket, if it is this daemon's business.
    fn file(&self) -> Option<&'static Path> {
        self.place.at.file().filter(|_| !self.borrowed)
    }

    /// Returns true if the file of its UNIX socket was removed, so that clients do not find it.
    pub(super) fn has_lost_file(&self) -> bool {
        let found = self.file().map(fs::symlink_metadata);
        found.is_some_and(|found| found.is_err_and(|error| error.kind() == ErrorKind::NotFound))
    }

    /// Warns if clients do not reach it, since its file is gone or something else lies there.
    pub(super) fn warn_if_out_of_reach(&self) {
        let Door { service, place, .. } = self;
        if self.file().is_some_and(socket_file::is_replaced) {
            warn!("service {service}: another file lies at {}, which is left alone; clients do not reach it", place.at);
        } else if self.has_lost_file() {
            warn!("service {service}: the file of {} is gone; clients do not reach it", place.at);
        }
    }

    /// What another process is told that does not go on with these.
    pub(super) fn as_left(&self) -> LeftAddress {
        LeftAddress { at: self.place.at, interface: self.interface.clone() }
    }

    /// Whether a service has these where it has others.
    pub(super) fn is_where(&self, other: &Door) -> bool {
        self.service == other.service && self.place == other.place
    }

    /// Whether these are meant.
    pub(super) fn is_among(&self, left: &[LeftAddress]) -> bool {
        left.iter().any(|it| it.at == self.place.at && it.interface == self.interface)
    }

    /// Whether a service may go on with these sockets, if it is to listen where they are.
    fn is_for(&self, service: &ServiceConfig) -> bool {
        let interface = interface_at(self.place.at, &service.connections);
        match self.borrowed {
            true => self.service == service.name,
            false => self.service == service.name || self.interface == interface,
        }
    }
}

/// Listening sockets of a service at one of its addresses, which nobody serves yet.
pub(super) struct Opening {
    service: Name,
    place: ListenPlace,
    interface: Option<String>,
    borrowed: bool,
    listeners: Vec<Listener>,
    /// The file that was made for them.
    pub made: Leftovers,
}

/// The network interface that sockets are bound to. A UNIX socket is bound to none.
fn interface_at(at: PeerAddress, options: &ConnectionOptions) -> Option<String> {
    options.interface.clone().filter(|_| !at.is_unix())
}

impl Opening {
    /// Has a service listen at one of its addresses. Sockets of `doors` that nobody else is to have, as `places` say, are used
    /// as far as they are at this address: so clients who wait there are served. A service manager's are those of one service
    /// only.
    ///
    /// # Errors
    /// Those of bind(2), and of binding to the service's interface.
    pub(super) fn new(
        service: &ServiceConfig,
        place: &ListenPlace,
        doors: &[&Door],
        places: &ListenPlaces,
        count: usize,
    ) -> io::Result<Opening> {
        let options = &service.connections;
        let opening = |listeners, borrowed| Opening::with(service, place, listeners, borrowed);
        let usable = || doors.iter().filter(|door| door.is_for(service));
        let same = usable().filter(|door| door.place.at == place.at);
        // The service's own before others.
        if let Some(door) = same.max_by_key(|door| door.service == service.name) {
            if door.has_lost_file()
                && let Ok(opening) = Opening::anew(service, place, count)
            {
                return Ok(opening);
            }
            let sockets: Vec<&Socket> = door.sockets.iter().collect();
            return Ok(opening(service::adopt(&sockets, door.borrowed, count, options)?, door.borrowed));
        }
        let Some(at) = place.at.inet() else { return Opening::anew(service, place, count) };
        let sockets = || usable().filter(|door| !door.borrowed).flat_map(|door| &door.sockets);
        let is_at = |socket: &&Socket| address(socket) == Some(at);
        let is_covered = |socket: &&Socket| {
            address(socket).is_some_and(|other| other != at && service::covers(at, other) && !places.claim(other))
        };
        let there: Vec<&Socket> = sockets().filter(is_at).collect();
        let covered: Vec<&Socket> = sockets().filter(is_covered).collect();
        let mut listeners = match there.is_empty() {
            false => service::adopt(&there, false, count, options)?,
            true => {
                let all = doors.iter().filter(|door| !door.borrowed).flat_map(|door| &door.sockets);
                let overlaps = |socket: &&Socket| address(socket).is_some_and(|other| service::overlap(other, at));
                service::listen(place.at, count, options, &all.filter(overlaps).collect::<Vec<_>>())?
            }
        };
        if !covered.is_empty() {
            listeners.extend(service::adopt(&covered, false, count, options)?);
        }
        Ok(opening(listeners, false))
    }

    fn with(service: &ServiceConfig, place: &ListenPlace, listeners: Vec<Listener>, borrowed: bool) -> Opening {
        Opening {
            service: Name::clone(&service.name),
            place: place.clone(),
            interface: interface_at(place.at, &service.connections),
            borrowed,
            listeners,
            made: Leftovers::default(),
        }
    }

    /// Has a service listen at an address where no socket of this daemon does, or none that clients find.
    ///
    /// # Errors
    /// Those of bind(2).
    pub(super) fn anew(service: &ServiceConfig, place: &ListenPlace, count: usize) -> io::Result<Opening> {
        let listeners = service::listen(place.at, count, &service.connections, &[])?;
        let mut opening = Opening::with(service, place, listeners, false);
        place.at.file().into_iter().for_each(|file| opening.made.add(file.to_owned()));
        Ok(opening)
    }

    /// Gives the file that was made to this user and its group, where no others are asked for.
    ///
    /// # Errors
    /// Those of chown(2).
    pub(super) fn give_to(&self, owner: (u32, u32), options: &ConnectionOptions) -> io::Result<()> {
        let Some(file) = self.place.at.file().filter(|_| !self.borrowed) else { return Ok(()) };
        let access = options.socket_access.resolve().map_err(io::Error::other)?;
        socket_file::set_access(file, access.or_of(owner))
    }

    /// What was asked for.
    pub(super) fn listen(&self) -> &ListenAddress {
        &self.place.listen
    }

    /// Whose clients connect here.
    pub(super) fn service(&self) -> &Name {
        &self.service
    }

    /// Whether its sockets are a service manager's.
    pub(super) fn is_borrowed(&self) -> bool {
        self.borrowed
    }

    /// The descriptors of its sockets.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.listeners.iter().map(AsFd::as_fd)
    }

    /// Has the workers serve it. With `held`, no client is accepted yet.
    ///
    /// # Errors
    /// Those of dup(2) and epoll_ctl(2). The sockets are closed then.
    pub(super) fn serve(self, workers: &worker::Handle, service: &Arc<Service>, held: bool) -> io::Result<Door> {
        let sockets = self.listeners.iter().map(|it| SockRef::from(it).try_clone()).collect::<io::Result<_>>()?;
        let Opening { service: name, place, interface, borrowed, listeners, made } = self;
        let group = Some(workers.serve(service, listeners, held)?);
        Ok(Door { service: name, place, interface, borrowed, sockets, group, made })
    }
}

/// Has each of these doors accept only clients that come in through an interface. When one cannot, none does.
///
/// # Errors
/// One line that names the address and the interface.
pub(super) fn bind_to_interfaces(doors: &[(&Door, Option<&str>)]) -> Result<(), String> {
    for (number, (door, interface)) in doors.iter().enumerate() {
        if let Err(error) = door.bind_to(*interface) {
            for (door, _) in &doors[..=number] {
                // What it has was there before; without the right to set it again, it was not taken away either.
                let _ = door.bind_to(door.interface.as_deref());
            }
            return Err(listen_trouble(&door.place.listen, &error));
        }
    }
    Ok(())
}

/// Waits for the handshakes that have begun at sockets which are to be closed, where others listen at one of their addresses
/// by now: the kernel would reset them. Clients that come meanwhile are the others'.
pub(super) fn await_handshakes(leaving: &[&Door], places: &ListenPlaces) {
    /// Longer than it takes to the other side of the world and back.
    const HANDSHAKE: Duration = Duration::from_millis(500);
    let is_divided = |door: &&Door| {
        let Some(left) = door.place.at.inet().filter(|_| !door.borrowed) else { return false };
        let mut all = places.0.values().flatten().filter_map(|place| place.at.inet());
        all.any(|at| at != left && service::covers(left, at))
    };
    if leaving.iter().any(is_divided) {
        thread::sleep(HANDSHAKE);
    }
}

/// A socket's own address.
pub(super) fn address(socket: &Socket) -> Option<SocketAddr> {
    socket.local_addr().ok()?.as_socket()
}

/// Opens all addresses of all services.
///
/// # Errors
/// One line that names the address which cannot be listened at.
pub(super) fn open_all(config: &Config, places: &ListenPlaces, doors: &[Door]) -> Result<Vec<Opening>, String> {
    let doors: Vec<&Door> = doors.iter().collect();
    let mut all = Vec::new();
    for service in &config.services {
        for place in places.of(&service.name) {
            let opening = Opening::new(service, place, &doors, places, config.threads);
            all.push(opening.map_err(|error| listen_trouble(&place.listen, &error))?);
        }
    }
    Ok(all)
}

/// Those of the doors that are handed over of which some sockets are in none of these. Clients that wait there are for the
/// process before this one.
pub(super) fn unused<'d>(doors: &'d [Door], opened: &[Opening]) -> Vec<&'d Door> {
    let number = |descriptor: BorrowedFd<'_>| socket_number(&descriptor).ok();
    let used: HashSet<u64> = opened.iter().flat_map(Opening::descriptors).filter_map(number).collect();
    let is_used = |socket: &Socket| number(socket.as_fd()).is_some_and(|number| used.contains(&number));
    doors.iter().filter(|door| !door.sockets.iter().all(is_used)).collect()
}
