//! What log lines call the destinations of a pool, and the services that choose from them.

use std::fmt;
use std::sync::Arc;

use super::{Pool, Rotation};

/// Names a pool in log lines, where the daemon has several: the same destination may be in two of them.
#[derive(Debug, Clone, Default)]
pub struct Label {
    name: Option<Arc<str>>,
    are_several: bool,
}

impl Label {
    /// What the log calls a destination of the pool, given its address or name: `POOL/HOST:PORT`, or `HOST:PORT` where
    /// there is one pool.
    pub fn of<T: fmt::Display>(&self, destination: T) -> Labelled<'_, T> {
        Labelled { pool: self.pool(), destination }
    }

    /// The pool's name, empty where there is one pool.
    pub fn pool(&self) -> &str {
        self.name.as_deref().filter(|_| self.are_several).unwrap_or_default()
    }
}

/// Names a service in log lines about its single destination, where the daemon has several: two of them may use the same
/// pool. It is printed as `service NAME: `, or as nothing.
#[derive(Debug, Clone, Default)]
pub struct ServiceLabel(Option<Arc<str>>);

impl ServiceLabel {
    /// The service's name, empty where there is one service.
    pub fn service(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

impl fmt::Display for ServiceLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|name| write!(f, "service {name}: "))
    }
}

/// A destination as the log calls it.
pub struct Labelled<'l, T> {
    pool: &'l str,
    destination: T,
}

impl<T: fmt::Display> fmt::Display for Labelled<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pool {
            "" => self.destination.fmt(f),
            pool => write!(f, "{pool}/{}", self.destination),
        }
    }
}

impl Pool {
    /// Tells its name, and whether there are others, so that log lines put it in front of its destinations.
    pub fn set_label(&self, name: Arc<str>, are_several: bool) {
        self.lock().label = Label { name: Some(name), are_several };
    }

    /// Its name, if it was told.
    pub fn name(&self) -> Option<Arc<str>> {
        self.lock().label.name.clone()
    }

    /// What log lines call its destinations.
    pub fn label(&self) -> Label {
        self.lock().label.clone()
    }
}

impl Rotation {
    /// Has log lines about its single destination name its service, or not.
    pub fn set_label(&self, service: Option<Arc<str>>) {
        self.pool().lock().rotation_mut(self.id()).label = ServiceLabel(service);
    }
}
