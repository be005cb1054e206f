//! What a connection needs of its worker.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use mio::Registry;

use super::flow::Tools;
use super::mailbox::MailboxSender;
use super::message::Message;
use super::timers::Timers;
use super::troubles::Troubles;
use super::unique_ids::UniqueIds;
use crate::address::PeerAddress;
use crate::service::ClientRefused;
use crate::stats::{Stats, WorkerStats};

/// What a connection needs of its worker.
pub(super) struct Kit {
    pub index: usize,
    pub registry: Arc<Registry>,
    stats: Stats,
    /// When the events at hand were taken from the kernel.
    pub now: Instant,
    pub tools: Tools,
    pub timers: Timers,
    /// The worker's own.
    pub mailbox: MailboxSender<Message>,
    /// How many connections to destinations were begun from addresses that the user has chosen.
    pub opened: usize,
    pub unique_ids: UniqueIds,
    troubles: Arc<Troubles>,
}

impl Kit {
    pub(super) fn new(
        registry: Arc<Registry>,
        (index, mailbox): (usize, MailboxSender<Message>),
        stats: &Stats,
        tools: Tools,
        troubles: &Arc<Troubles>,
    ) -> Kit {
        Kit {
            index,
            registry,
            stats: stats.clone(),
            now: Instant::now(),
            tools,
            timers: Timers::default(),
            mailbox,
            opened: 0,
            unique_ids: UniqueIds::new(),
            troubles: Arc::clone(troubles),
        }
    }

    pub(super) fn stats(&self) -> &WorkerStats {
        self.stats.worker(self.index)
    }

    /// See [`Troubles::nowhere_to_go`].
    pub(super) fn nowhere_to_go(&self, client: PeerAddress) {
        self.troubles.nowhere_to_go(client, self.now);
    }

    /// See [`Troubles::no_room`].
    pub(super) fn no_room(&self, service: &str) {
        self.troubles.no_room(service, self.now);
    }

    /// See [`Troubles::queue_is_full`].
    pub(super) fn queue_is_full(&self, service: &str, client: PeerAddress) {
        self.troubles.queue_is_full(service, client, self.now);
    }

    /// See [`Troubles::waited_in_vain`].
    pub(super) fn waited_in_vain(&self, service: &str, client: PeerAddress) {
        self.troubles.waited_in_vain(service, client, self.now);
    }

    /// See [`Troubles::in_a_loop`].
    pub(super) fn in_a_loop(&self, client: PeerAddress) {
        self.troubles.in_a_loop(client, self.now);
    }

    /// See [`Troubles::without_header`].
    pub(super) fn without_header(&self, client: PeerAddress, fault: &str) {
        self.troubles.without_header(client, fault, self.now);
    }

    /// See [`Troubles::refused`].
    pub(super) fn refused(&self, service: &str, client: PeerAddress, refused: ClientRefused) {
        self.troubles.refused(service, client, refused, self.now);
    }

    /// See [`Troubles::unlimited_source`].
    pub(super) fn unlimited_source(&self, service: &str, client: PeerAddress) {
        self.troubles.unlimited_source(service, client, self.now);
    }

    /// See [`Troubles::out_of_resources`].
    pub(super) fn out_of_resources(&self, error: &io::Error) {
        self.troubles.out_of_resources(error, self.now);
    }

    /// See [`Troubles::out_of_memory`].
    pub(super) fn out_of_memory(&self, error: &io::Error) {
        self.troubles.out_of_memory(error, self.now);
    }
}
