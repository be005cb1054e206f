//! A service: where clients connect, which destinations they are given, and how their connections are treated.
//!
//! Workers serve any number of services. A connection holds on to its service, so that one that ends, or changes, goes on
//! with its connections as they began.

mod inventory;
mod listen;

use crate::config::{ConnectionOptions, Greeting};
use crate::pool::Rotation;
pub use inventory::{Inventory, PoolEntry, ServiceEntry, Setup};
pub use listen::{BACKLOG, adopt, keep_alive, listen};

/// What the connections of one service have in common.
pub struct Service {
    /// Picks their destinations.
    pub rotation: Rotation,
    /// How they are treated.
    pub options: ConnectionOptions,
}

impl Service {
    /// Returns true if a destination's first packet is inspected before anything is passed on.
    pub fn inspects_greeting(&self) -> bool {
        self.options.greeting == Greeting::Mysql
    }
}
