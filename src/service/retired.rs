//! Services that are no longer asked for, for as long as connections of them go on.

use std::sync::{Arc, Weak};

use super::{Continued, Service, ServiceEntry};
use crate::config::Name;
use crate::counters::Counters;

/// A service that is no longer asked for. If it is again while it has connections, it goes on with what they come to.
#[derive(Clone)]
pub struct RetiredService {
    /// What it is called.
    pub name: Name,
    /// What its connections come to.
    pub counters: Counters,
    /// Its connections hold on to it, and nothing else: its rotation ends with the last.
    service: Weak<Service>,
}

impl RetiredService {
    /// One of other processes, which have connections of it.
    pub fn elsewhere(name: &str) -> RetiredService {
        RetiredService { name: name.into(), counters: Counters::default(), service: Weak::new() }
    }

    /// Returns true if it has connections, in this process or in others.
    pub fn has_connections(&self) -> bool {
        self.counters.open_now().0 > 0
    }

    /// The service, while this process has connections of it.
    pub fn service(&self) -> Option<Arc<Service>> {
        self.service.upgrade()
    }

    /// What there is for a service that takes its place. How connections are logged was switched by hand, if at all, and
    /// is forgotten.
    pub fn continued(&self) -> Continued {
        Continued { counters: self.counters.clone(), connection_log: None }
    }
}

impl From<&ServiceEntry> for RetiredService {
    fn from(ServiceEntry { config, service }: &ServiceEntry) -> RetiredService {
        let (name, counters) = (Name::clone(&config.name), service.counters.clone());
        RetiredService { name, counters, service: Arc::downgrade(service) }
    }
}
