//! All to one.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Candidate, Policy};

/// The one that was picked before, while it is there; else the one that was added to the table first, so that daemons
/// with the same table agree. Which weight goes first is [`Top`](super::Top)'s to say.
#[derive(Default)]
pub(super) struct Single {
    /// Slots by serial.
    candidates: BTreeMap<u64, usize>,
    /// The serial.
    current: Option<u64>,
}

impl Policy for Single {
    fn join(&mut self, candidate: &Candidate) {
        self.candidates.insert(candidate.serial, candidate.slot);
    }

    fn leave(&mut self, candidate: &Candidate) {
        self.candidates.remove(&candidate.serial);
    }

    fn pick(&mut self, _client: IpAddr, tried: &[usize]) -> Option<usize> {
        let current = self.current.and_then(|serial| self.candidates.get_key_value(&serial));
        let mut by_age = current.into_iter().chain(&self.candidates);
        let (serial, slot) = by_age.find(|(_, slot)| !tried.contains(slot))?;
        self.current = Some(*serial);
        Some(*slot)
    }
}
