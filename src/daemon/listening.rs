//! Where services listen: each of their addresses by itself.

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;

use mio::net::TcpListener;
use socket2::{SockRef, Socket};

use super::listen_trouble;
use crate::address::ListenAddress;
use crate::config::{Config, Name, ServiceConfig};
use crate::resolve::{self, OwnAddresses};
use crate::service::{self, Service};
use crate::worker::{self, ListenerGroup};

/// An address of a service.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ListenPlace {
    /// As it was asked for; of a service manager's socket, where that is.
    pub listen: ListenAddress,
    /// Where that is.
    pub at: SocketAddr,
}

/// All addresses at which each service listens.
#[derive(Debug, Clone, Default)]
pub(super) struct ListenPlaces(HashMap<Name, Vec<ListenPlace>>);

impl ListenPlaces {
    /// Where the services of `config` are to listen. What was asked for before is where it was found then, as `doors` say;
    /// the rest is resolved.
    ///
    /// # Errors
    /// One line that names the address which does not resolve, or is another one's as well.
    pub(super) fn resolve<'d>(
        config: &Config,
        doors: impl IntoIterator<Item = &'d Door>,
    ) -> Result<ListenPlaces, String> {
        let known: HashMap<String, SocketAddr> =
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
            for ListenPlace { listen, at } in &all {
                if let Some(other) = taken.insert(*at, &service.name) {
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

    /// Whether a service is to go on listening where it does.
    pub(super) fn include(&self, door: &Door) -> bool {
        self.of(&door.service).iter().any(|place| place.listen == door.place.listen)
    }

    /// All addresses, and the control socket's.
    pub(super) fn own_addresses(&self, control: Option<SocketAddr>) -> OwnAddresses {
        self.0.values().flatten().map(|place| place.at).chain(control).collect::<Vec<_>>().into()
    }
}

/// The listening sockets of a service at one of its addresses once more: to close them for good without waiting for the
/// threads that use them, and to hand them over.
pub(super) struct Door {
    pub service: Name,
    pub place: ListenPlace,
    /// They are a service manager's, which goes on listening.
    pub borrowed: bool,
    pub sockets: Vec<Socket>,
    /// What the workers call them; `None` before they serve them.
    pub group: Option<ListenerGroup>,
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
}

/// Listening sockets of a service at one of its addresses, which nobody serves yet.
pub(super) struct Opening {
    service: Name,
    place: ListenPlace,
    borrowed: bool,
    listeners: Vec<TcpListener>,
}

impl Opening {
    /// Has a service listen at one of its addresses. Where that is the address of a door, its sockets are used; a service
    /// manager's are those of one service only.
    ///
    /// # Errors
    /// Those of bind(2).
    pub(super) fn new<'d>(
        service: &ServiceConfig,
        place: &ListenPlace,
        doors: impl IntoIterator<Item = &'d Door>,
        count: usize,
    ) -> io::Result<Opening> {
        let is_usable = |door: &&Door| door.place.at == place.at && (!door.borrowed || door.service == service.name);
        let door = doors.into_iter().find(is_usable);
        let listeners = match door {
            Some(door) => service::adopt(&door.sockets, count, &service.connections)?,
            None => service::listen(place.at, count, &service.connections)?,
        };
        let borrowed = door.is_some_and(|door| door.borrowed);
        Ok(Opening { service: Name::clone(&service.name), place: place.clone(), borrowed, listeners })
    }

    /// Whose clients connect here.
    pub(super) fn service(&self) -> &Name {
        &self.service
    }

    /// Has the workers serve it. With `held`, no client is accepted yet.
    ///
    /// # Errors
    /// Those of dup(2) and epoll_ctl(2). The sockets are closed then.
    pub(super) fn serve(self, workers: &worker::Handle, service: &Arc<Service>, held: bool) -> io::Result<Door> {
        let sockets = self.listeners.iter().map(|it| SockRef::from(it).try_clone()).collect::<io::Result<_>>()?;
        let group = Some(workers.serve(service, self.listeners, held)?);
        Ok(Door { service: self.service, place: self.place, borrowed: self.borrowed, sockets, group })
    }
}

/// Opens all addresses of all services.
///
/// # Errors
/// One line that names the address which cannot be listened at.
pub(super) fn open_all(config: &Config, places: &ListenPlaces, doors: &[Door]) -> Result<Vec<Opening>, String> {
    let mut all = Vec::new();
    for service in &config.services {
        for place in places.of(&service.name) {
            let opening = Opening::new(service, place, doors, config.threads);
            all.push(opening.map_err(|error| listen_trouble(&place.listen, &error))?);
        }
    }
    Ok(all)
}
