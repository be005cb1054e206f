//! A service: where clients connect, which and how many of them may, which destinations they are given, and how their
//! connections are treated.
//!
//! Workers serve any number of services. A connection holds on to its service, and so goes on when that ends. A service
//! never changes: another one replaces it.

mod beside;
mod inventory;
mod limits;
mod listen;
mod listener;
mod places;
mod retired;
mod transparent;

use std::sync::{Arc, OnceLock};

use crate::config::{ConnectionOptions, Greeting, LimitOptions};
use crate::connection_log::Switch;
use crate::counters::Counters;
use crate::pool::Rotation;
pub use beside::{covers, overlap, socket_number};
pub use inventory::{Inventory, PoolEntry, ServiceEntry, Setup};
pub use limits::{ClientRefused, Limit, MustWait, Permit, Place, Reservation, ServiceLimits, SharedRate, SharedToken};
pub use listen::{adopt, bind_to_device, find_interface, keep_alive, listen, renew, workers_are_bound_to};
pub use listener::{Listener, path_of};
pub use places::Places;
pub use retired::RetiredService;
pub use transparent::{may_use_any_address, set_transparent};

/// What the connections of one service have in common.
pub struct Service {
    /// What the log calls it.
    pub name: Arc<str>,
    /// Picks their destinations.
    pub rotation: Rotation,
    /// How they are treated.
    pub options: ConnectionOptions,
    /// Which clients it accepts, and how many.
    pub limits: ServiceLimits,
    /// What its connections come to. Those of the service that has replaced it are the same.
    pub counters: Counters,
    /// How its connections are logged now, which may be otherwise than it was asked for.
    pub connection_log: Switch,
    /// What has replaced it.
    successor: OnceLock<Arc<Service>>,
}

/// What a service goes on with of one before it.
#[derive(Default)]
pub struct Continued {
    counters: Counters,
    connection_log: Option<Switch>,
}

impl Service {
    /// Makes one without limits, which has no clients before workers serve it.
    pub fn new(name: &str, rotation: Rotation, options: ConnectionOptions) -> Arc<Service> {
        let limits = ServiceLimits::new(&LimitOptions::default(), None);
        Service::limited(name, rotation, options, limits, Continued::default())
    }

    /// Makes one with limits, which goes on with what there is of the one that it is to replace.
    pub fn limited(
        name: &str,
        rotation: Rotation,
        options: ConnectionOptions,
        limits: ServiceLimits,
        Continued { counters, connection_log }: Continued,
    ) -> Arc<Service> {
        let connection_log = connection_log.unwrap_or_else(|| Switch::at(options.log));
        let (name, successor) = (name.into(), OnceLock::new());
        Arc::new(Service { name, rotation, options, limits, counters, connection_log, successor })
    }

    /// What there is for a service that is to replace this one.
    pub fn continued(&self) -> Continued {
        Continued { counters: self.counters.clone(), connection_log: Some(self.connection_log.clone()) }
    }

    /// Records that `successor` takes its place from now on.
    ///
    /// # Panics
    /// If either of them was replaced before: each service is made anew from a configuration.
    pub fn replace_with(self: &Arc<Self>, successor: Arc<Service>) {
        // A circle would have no end.
        assert!(successor.successor.get().is_none() && !Arc::ptr_eq(self, &successor), "a service that was replaced");
        // What was switched by hand stays, unless it is asked for otherwise now.
        if successor.options.log != self.options.log {
            self.connection_log.set(successor.options.log);
        }
        assert!(self.successor.set(successor).is_ok(), "service {} was replaced before", self.name);
    }

    /// The service that has taken its place, if one has: the last of those that have replaced each other.
    pub fn replacement(&self) -> Option<&Arc<Service>> {
        let mut last = self.successor.get()?;
        while let Some(next) = last.successor.get() {
            last = next;
        }
        Some(last)
    }

    /// Returns true if a destination's first packet is inspected before anything is passed on.
    pub fn inspects_greeting(&self) -> bool {
        self.options.greeting == Greeting::Mysql
    }
}
