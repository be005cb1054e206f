//! From the list of changes to the table.

use std::collections::{HashMap, HashSet};
use std::io;

use super::Base;
use super::contents::{Entry, WRITER, saved_addresses};
use crate::address::{DestinationSpec, Endpoint, PeerAddress};
use crate::pool::health::Reason;
use crate::pool::{Pool, Rotation, Unresolved};
use crate::resolve::{self, OwnAddresses};

impl Base<'_> {
    /// Has names that do not resolve be where they were. Returns what an operator should hear of it.
    pub(super) fn fall_back(&self, at: &[Entry], pool: &Pool, own_addresses: &OwnAddresses) -> Vec<String> {
        let mut remarks = Vec::new();
        for Unresolved { endpoint, reason, .. } in pool.unresolved() {
            let known = at.iter().filter(|it| it.spec.endpoint == endpoint).filter_map(|it| it.address);
            let known: Vec<_> = known.filter(|it| !own_addresses.include(*it)).collect();
            if let Some(first) = known.first() {
                remarks.push(format!("destination {endpoint}: {reason}; it is taken to be at {first}, where it was"));
                pool.follow(&endpoint, &known, self.all_addresses);
            }
        }
        remarks
    }

    /// Makes changes. Returns those that could be made, and adds what an operator should hear of the others.
    pub(super) fn make_changes(
        &self,
        entries: &[Entry],
        pool: &Pool,
        own_addresses: &OwnAddresses,
        remarks: &mut Vec<String>,
    ) -> Vec<String> {
        let unresolved: HashSet<Endpoint> = pool.unresolved().into_iter().map(|it| it.endpoint).collect();
        let unknown = |Entry { spec, .. }: &&Entry| {
            spec.weight >= 0.0
                && !unresolved.contains(&spec.endpoint)
                && pool.known_addresses(&spec.endpoint).is_empty()
        };
        let unknown: Vec<Endpoint> = entries.iter().filter(unknown).map(|it| it.spec.endpoint.clone()).collect();
        let now = resolve::resolve_all(unknown, Some(resolve::PATIENCE), &mut || false);
        let now = now.unwrap_or_else(|error| {
            remarks.push(format!("cannot resolve names: {error}"));
            HashMap::new()
        });
        let found = Found { saved: saved_addresses(entries), now };
        let mut made = Vec::new();
        for entry in entries {
            match self.apply(&entry.spec, &found, pool, own_addresses) {
                Ok(()) => made.push(format!("{}:{}", entry.name(), entry.spec.weight)),
                Err(remark) => remarks.push(remark),
            }
        }
        made
    }

    /// Makes one change. An error is what an operator should hear of it.
    fn apply(
        &self,
        DestinationSpec { endpoint, weight }: &DestinationSpec,
        found: &Found,
        pool: &Pool,
        own_addresses: &OwnAddresses,
    ) -> Result<(), String> {
        if *weight < 0.0 {
            match endpoint.address() {
                Some(address) => pool.withdraw(address),
                // That there is nothing to remove is what is wanted.
                None => drop(pool.remove_name(endpoint)),
            }
            return Ok(());
        }
        if pool.reweigh_unresolved(endpoint, *weight).is_some() {
            return Ok(());
        }
        let told = |reason: String| format!("destination {endpoint}: {reason}");
        let addresses = match self.locate(endpoint, found, pool) {
            Ok(addresses) => addresses,
            Err(reason) => {
                let expected = pool.expect(endpoint, *weight, Reason::new(&reason));
                return expected.map_err(|error| told(error.to_string()));
            }
        };
        for address in addresses {
            if *weight > 0.0 && own_addresses.include(address) {
                return Err(told("this daemon listens there itself".to_owned()));
            }
            pool.set(endpoint, address, *weight).map_err(|error| told(error.to_string()))?;
        }
        Ok(())
    }

    /// Where a destination is: in the pool, or as it resolves, or where it was when it does not.
    fn locate(&self, endpoint: &Endpoint, found: &Found, pool: &Pool) -> Result<Vec<PeerAddress>, String> {
        let known = pool.known_addresses(endpoint);
        if !known.is_empty() {
            return Ok(known);
        }
        let most = if self.all_addresses { usize::MAX } else { 1 };
        match (found.now.get(endpoint), found.saved.get(endpoint)) {
            (Some(Ok(all)), _) => Ok(all.iter().copied().take(most).collect()),
            (_, Some(saved)) => Ok(saved.clone()),
            (Some(Err(error)), None) => Err(resolve::in_one_line(error)),
            (None, None) => Err("it has not resolved".to_owned()),
        }
    }
}

/// Where names are.
struct Found {
    /// As the file has it.
    saved: HashMap<Endpoint, Vec<PeerAddress>>,
    /// As they resolve.
    now: HashMap<Endpoint, io::Result<Vec<PeerAddress>>>,
}

/// Has the single destination of a service be the one that was chosen by hand. Returns what was done.
///
/// # Errors
/// What an operator should hear of it.
pub(super) fn prefer(writer: &Entry, rotation: &Rotation) -> Result<String, String> {
    let endpoint = &writer.spec.endpoint;
    let address = match rotation.known_addresses(endpoint)[..] {
        [only] => Some(only),
        _ => writer.address,
    };
    let name = writer.name();
    match address.is_some_and(|address| rotation.prefer(address)) {
        true => Ok(format!("{WRITER}{name}")),
        false => Err(format!("writer {name}: it cannot be the single destination")),
    }
}
