//! From the list of changes to the table.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;

use super::StateFile;
use super::contents::{Contents, Entry, WRITER, address_of, saved_addresses};
use crate::address::{DestinationSpec, Endpoint};
use crate::pool::health::Reason;
use crate::pool::{Rotation, Unresolved};
use crate::resolve::{self, OwnAddresses};

impl StateFile {
    /// Has names of the command line that do not resolve be where they were. Returns what an operator should hear of it.
    pub(super) fn fall_back(
        &self,
        at: &[(Endpoint, SocketAddr)],
        table: &Rotation,
        own_addresses: &OwnAddresses,
    ) -> Vec<String> {
        let mut remarks = Vec::new();
        for Unresolved { endpoint, reason, .. } in table.unresolved() {
            let known = at.iter().filter(|(name, _)| *name == endpoint).map(|(_, address)| *address);
            let known: Vec<_> = known.filter(|it| !own_addresses.include(*it)).collect();
            if let Some(first) = known.first() {
                remarks.push(format!("destination {endpoint}: {reason}; it is taken to be at {first}, where it was"));
                table.follow(&endpoint, &known, self.base.all_addresses);
            }
        }
        remarks
    }

    /// Makes the file's changes. Returns those that could be made, and adds what an operator should hear of the others.
    pub(super) fn make_changes(
        &self,
        Contents { entries, writer, .. }: Contents,
        table: &Rotation,
        own_addresses: &OwnAddresses,
        remarks: &mut Vec<String>,
    ) -> Vec<String> {
        let unresolved: HashSet<Endpoint> = table.unresolved().into_iter().map(|it| it.endpoint).collect();
        let unknown = |Entry { spec, .. }: &&Entry| {
            spec.weight >= 0.0 && !unresolved.contains(&spec.endpoint) && table.addresses_of(&spec.endpoint).is_empty()
        };
        let unknown: Vec<Endpoint> = entries.iter().filter(unknown).map(|it| it.spec.endpoint.clone()).collect();
        let found = Found {
            saved: saved_addresses(&entries),
            now: resolve::resolve_all(unknown, Some(resolve::PATIENCE), &mut || false),
        };
        let mut made = Vec::new();
        let mut note = |what: String, result: Result<(), String>| match result {
            Ok(()) => made.push(what),
            Err(remark) => remarks.push(remark),
        };
        for Entry { spec, .. } in &entries {
            note(format!("{}:{}", spec.endpoint, spec.weight), self.apply(spec, &found, table, own_addresses));
        }
        if let Some((endpoint, address)) = writer {
            note(format!("{WRITER}{endpoint}"), prefer(&endpoint, address, table));
        }
        made
    }

    /// Makes one change. An error is what an operator should hear of it.
    fn apply(
        &self,
        DestinationSpec { endpoint, weight }: &DestinationSpec,
        found: &Found,
        table: &Rotation,
        own_addresses: &OwnAddresses,
    ) -> Result<(), String> {
        if *weight < 0.0 {
            match address_of(endpoint) {
                Some(address) => table.withdraw(address),
                // That there is nothing to remove is what is wanted.
                None => drop(table.remove_name(endpoint)),
            }
            return Ok(());
        }
        if table.reweigh_unresolved(endpoint, *weight).is_some() {
            return Ok(());
        }
        let told = |reason: String| format!("destination {endpoint}: {reason}");
        let addresses = match self.locate(endpoint, found, table) {
            Ok(addresses) => addresses,
            Err(reason) => {
                let expected = table.expect(endpoint, *weight, Reason::new(&reason));
                return expected.map_err(|error| told(error.to_string()));
            }
        };
        for address in addresses {
            if *weight > 0.0 && own_addresses.include(address) {
                return Err(told("this daemon listens there itself".to_owned()));
            }
            table.set(endpoint, address, *weight).map_err(|error| told(error.to_string()))?;
        }
        Ok(())
    }

    /// Where a destination is: in the table, or as it resolves, or where it was when it does not.
    fn locate(&self, endpoint: &Endpoint, found: &Found, table: &Rotation) -> Result<Vec<SocketAddr>, String> {
        if let Some(address) = address_of(endpoint) {
            return Ok(vec![address]);
        }
        let known = table.addresses_of(endpoint);
        if !known.is_empty() {
            return Ok(known);
        }
        let most = if self.base.all_addresses { usize::MAX } else { 1 };
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
    saved: HashMap<Endpoint, Vec<SocketAddr>>,
    /// As they resolve.
    now: HashMap<Endpoint, io::Result<Vec<SocketAddr>>>,
}

/// Has the single destination be the one that was chosen by hand. An error is what an operator should hear of it.
fn prefer(endpoint: &Endpoint, address: Option<SocketAddr>, table: &Rotation) -> Result<(), String> {
    let known = table.addresses_of(endpoint);
    let address = address_of(endpoint).or_else(|| match known[..] {
        [only] => Some(only),
        _ => address,
    });
    let preferred = address.is_some_and(|address| table.prefer(address));
    if preferred { Ok(()) } else { Err(format!("writer {endpoint}: it cannot be the single destination")) }
}
