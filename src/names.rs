//! Host names among the destinations, resolved again from time to time: machines move, and some names stand for several.
//!
//! A thread of its own waits for the resolver. A name that does not resolve changes nothing.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use log::{info, warn};

use crate::address::{Endpoint, Host};
use crate::repeat::{self, Repeating};
use crate::resolve;
use crate::table::{DestinationStatus, Table};

/// What is resolved, and how often.
pub struct Settings {
    /// The destinations.
    pub table: Table,
    /// Between two rounds.
    pub interval: Duration,
    /// Whether all addresses of a name are destinations, not only one.
    pub all: bool,
    /// Where this daemon listens: nothing that it may balance to.
    pub own_addresses: Vec<SocketAddr>,
}

/// Starts to resolve names again, in a thread of its own, until what this returns is dropped.
///
/// # Errors
/// When it cannot be started.
pub fn start(settings: Settings) -> io::Result<Repeating> {
    let interval = settings.interval;
    let mut names = Names { settings, in_trouble: HashSet::new() };
    repeat::start("names", interval, interval, move || {
        names.resolve_again();
        true
    })
}

struct Names {
    settings: Settings,
    /// Those that something was wrong with the last time, which is told once.
    in_trouble: HashSet<Endpoint>,
}

impl Names {
    fn resolve_again(&mut self) {
        let destinations = self.settings.table.snapshot();
        let named = destinations.iter().filter(|it| matches!(it.endpoint.host, Host::Name(_)));
        let names: HashSet<&Endpoint> = named.map(|it| &it.endpoint).collect();
        self.in_trouble.retain(|name| names.contains(name));
        for name in names {
            let of_name: Vec<_> = destinations.iter().filter(|it| it.endpoint == *name).collect();
            let followed = match resolve::resolve_every(name) {
                Ok(addresses) if self.settings.all => self.follow_all(&of_name, &addresses),
                Ok(addresses) => self.follow(&of_name, &addresses),
                Err(error) => Err(format!("{}; its destinations stay as they are", resolve::in_one_line(&error))),
            };
            match followed {
                Ok(()) => drop(self.in_trouble.remove(name)),
                Err(reason) if self.in_trouble.insert(name.clone()) => warn!("destination {name}: {reason}"),
                Err(_) => {}
            }
        }
    }

    /// The one destination of this name is at the address that it had, if the name still has that, or at another.
    fn follow(&self, of_name: &[&DestinationStatus], addresses: &[SocketAddr]) -> Result<(), String> {
        for it in of_name.iter().filter(|it| !addresses.contains(&it.address)) {
            let Some(address) = addresses.first() else { continue };
            if resolve::is_own_address(&self.settings.own_addresses, *address) {
                return Err(format!("it is {address} now, where this daemon listens; it stays at {}", it.address));
            }
            if !self.settings.table.move_to(it.id, *address) {
                return Err(format!("it is {address} now, where another destination is; it stays at {}", it.address));
            }
            info!("destination {} is at {address} now, no longer at {}", it.endpoint, it.address);
        }
        Ok(())
    }

    /// Each address of the name is a destination. One that the name no longer has gets no new connections, and goes when
    /// it has none left.
    fn follow_all(&self, of_name: &[&DestinationStatus], addresses: &[SocketAddr]) -> Result<(), String> {
        let table = &self.settings.table;
        for it in of_name {
            let obsolete = !addresses.contains(&it.address);
            if table.set_obsolete(it.id, obsolete) {
                let now = if obsolete { "no longer has" } else { "has again" };
                info!("destination {}: the name {now} the address {}", it.endpoint, it.address);
            }
            if table.drop_obsolete(it.id) {
                info!("destination {} removed: its name no longer has it, and it has no connections", it.address);
            }
        }
        let Some(first) = of_name.first() else { return Ok(()) };
        let mut trouble = Ok(());
        for address in addresses.iter().filter(|address| of_name.iter().all(|it| it.address != **address)) {
            if resolve::is_own_address(&self.settings.own_addresses, *address) {
                trouble = Err(format!("one of its addresses is {address}, where this daemon listens"));
                continue;
            }
            if table.discover(&first.endpoint, *address, first.weight).map_err(|error| error.to_string())? {
                info!("destination {address} added: {} has it now", first.endpoint);
            }
        }
        trouble
    }
}
