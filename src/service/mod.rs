//! A service: where clients connect, which destinations they are given, and how their connections are treated.
//!
//! Workers serve any number of services. A connection holds on to its service, and so goes on when that ends.

mod listen;

use std::sync::Arc;

use crate::config::{ConnectionOptions, Greeting};
use crate::pool::Rotation;
pub use listen::{BACKLOG, adopt, keep_alive, listen};

/// What the connections of one service have in common.
pub struct Service {
    /// What the log calls it.
    pub name: Arc<str>,
    /// Picks their destinations.
    pub rotation: Rotation,
    /// How they are treated.
    pub options: ConnectionOptions,
}

impl Service {
    /// Makes one, which has no clients before workers serve it.
    pub fn new(name: &str, rotation: Rotation, options: ConnectionOptions) -> Arc<Service> {
        Arc::new(Service { name: name.into(), rotation, options })
    }

    /// Returns true if a destination's first packet is inspected before anything is passed on.
    pub fn inspects_greeting(&self) -> bool {
        self.options.greeting == Greeting::Mysql
    }
}
