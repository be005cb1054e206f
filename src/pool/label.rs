//! What log lines call the destinations of a pool.

use std::fmt;
use std::sync::Arc;

use super::Pool;

/// Names a pool in log lines, where the daemon has several: the same destination may be in two of them.
#[derive(Debug, Clone, Default)]
pub struct Label(Option<Arc<str>>);

impl Label {
    /// What the log calls a destination of the pool, given its address or name: `POOL/HOST:PORT`, or `HOST:PORT` where
    /// there is one pool.
    pub fn of<T: fmt::Display>(&self, destination: T) -> Labelled<'_, T> {
        Labelled { pool: self.pool(), destination }
    }

    /// The pool's name, empty where there is one pool.
    pub fn pool(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
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
    /// Has log lines name the pool in front of its destinations, or not.
    pub fn set_label(&self, name: Option<Arc<str>>) {
        self.lock().label = Label(name);
    }

    /// What log lines call its destinations.
    pub fn label(&self) -> Label {
        self.lock().label.clone()
    }
}
