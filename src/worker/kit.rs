//! What a connection needs of its worker.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use log::warn;
use mio::Registry;

use super::flow::Tools;
use super::timers::Timers;
use crate::config::ConnectionOptions;
use crate::log::Seldom;
use crate::stats::{Stats, WorkerStats};
use crate::table::Table;

/// What a connection needs of its worker.
pub(super) struct Kit {
    pub index: usize,
    pub registry: Registry,
    pub table: Table,
    stats: Stats,
    pub options: ConnectionOptions,
    /// When the events at hand were taken from the kernel.
    pub now: Instant,
    pub tools: Tools,
    pub timers: Timers,
    /// How many connections to destinations were begun from addresses that the user has chosen.
    pub opened: usize,
    nowhere: Seldom,
    loops: Seldom,
    shortage: Seldom,
}

impl Kit {
    pub(super) fn new(
        registry: Registry,
        index: usize,
        table: &Table,
        stats: &Stats,
        options: &ConnectionOptions,
        tools: Tools,
    ) -> Kit {
        Kit {
            index,
            registry,
            table: table.clone(),
            stats: stats.clone(),
            options: options.clone(),
            now: Instant::now(),
            tools,
            timers: Timers::default(),
            opened: 0,
            nowhere: Seldom::default(),
            loops: Seldom::default(),
            shortage: Seldom::default(),
        }
    }

    pub(super) fn stats(&self) -> &WorkerStats {
        self.stats.worker(self.index)
    }

    /// Tells that a client was turned away because no destination is left for it.
    pub(super) fn nowhere_to_go(&mut self, client: SocketAddr) {
        if let Some(unsaid) = self.nowhere.due(self.now) {
            warn!("client {client} turned away: no destination serves it{unsaid}");
        }
    }

    /// Tells that a client was turned away because its connection has come through this balancer again and again.
    pub(super) fn in_a_loop(&mut self, client: SocketAddr) {
        if let Some(unsaid) = self.loops.due(self.now) {
            warn!(
                "client {client} turned away: it has come through a loop: a destination passes clients back to this daemon{unsaid}"
            );
        }
    }

    /// Tells that this machine lacks something that a connection needs.
    pub(super) fn out_of_resources(&mut self, error: &io::Error) {
        if let Some(unsaid) = self.shortage.due(self.now) {
            warn!("this machine cannot make a connection: {error}; see to its limits{unsaid}");
        }
    }
}
