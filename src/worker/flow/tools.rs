//! What the flows of a worker share.

use super::Traffic;
use crate::worker::pipe::{PipeBudget, PipePool};
use crate::worker::socket::Socket;
use crate::worker::stream::Stream;

/// What small messages are copied through, in bytes.
const SCRATCH: usize = 64 * 1024;

/// How many times the scratch buffer's length a flow may move before others get their turn: 512 kB, a quarter of a
/// millisecond's worth. In larger portions, the processes at both ends are woken less often, which is most of what bulk
/// costs.
const READS_A_TURN: usize = 8;

/// The part of the scratch buffer's length that is received while there is no sink, 4 kB.
const AHEAD_PART: usize = 16;

/// What all flows of a worker share.
pub(in crate::worker) struct Tools<S: Socket = Stream> {
    pub(super) scratch: Box<[u8]>,
    pub(super) pipes: PipePool<S>,
    pub(super) splicing: Splicing,
}

impl<S: Socket> Tools<S> {
    pub(in crate::worker) fn new(pipes: PipeBudget, splicing: Splicing) -> Tools<S> {
        Tools::with_scratch(SCRATCH, pipes, splicing)
    }

    /// The other sizes follow from the scratch buffer's, so that tests can do with a small one.
    pub(in crate::worker) fn with_scratch(length: usize, pipes: PipeBudget, splicing: Splicing) -> Tools<S> {
        Tools { scratch: vec![0; length].into(), pipes: PipePool::new(pipes), splicing }
    }

    /// Bytes that a flow may move before others get their turn.
    pub(super) fn budget(&self) -> usize {
        self.scratch.len() * READS_A_TURN
    }

    /// Where a little is received while there is no sink.
    pub(super) fn ahead(&mut self) -> &mut [u8] {
        let length = self.scratch.len() / AHEAD_PART;
        &mut self.scratch[..length]
    }

    /// What a flow has read last, where that was copied.
    pub(in crate::worker) fn last_read(&self, traffic: &Traffic) -> &[u8] {
        &self.scratch[..traffic.copied]
    }

    /// Gives up what is only kept for the next flow.
    pub(in crate::worker) fn rest(&mut self) {
        self.pipes.clear();
    }
}

/// When to splice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Splicing {
    /// Once a flow is bulk.
    Bulk,
    /// From the first byte on: for tests.
    Always,
    /// Never: for tests.
    Never,
}

impl Splicing {
    /// As the environment variable `GLBD_SPLICE` says: `always` or `never`, which tests set.
    pub fn from_environment() -> Splicing {
        match std::env::var("GLBD_SPLICE").as_deref() {
            Ok("always") => Splicing::Always,
            Ok("never") => Splicing::Never,
            _ => Splicing::Bulk,
        }
    }

    pub(super) fn is_due(self, bulk: bool) -> bool {
        self == Splicing::Always || (bulk && self == Splicing::Bulk)
    }
}
