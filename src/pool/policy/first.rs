//! The one that was added first, while it has room.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Ahead, Candidate, Policy};
use crate::pool::tried::Tried;

/// All by their serials, and their slots: those that are full are not among them.
#[derive(Default)]
pub(super) struct First(BTreeSet<(u64, usize)>);

impl Policy for First {
    fn join(&mut self, candidate: &Candidate, _ahead: Ahead) {
        self.0.insert((candidate.serial, candidate.slot));
    }

    fn leave(&mut self, candidate: &Candidate) -> Ahead {
        self.0.remove(&(candidate.serial, candidate.slot));
        Ahead::default()
    }

    fn pick(&mut self, _client: IpAddr, tried: &Tried) -> Option<usize> {
        self.0.iter().find(|(_, slot)| !tried.has(*slot)).map(|(_, slot)| *slot)
    }
}
