//! Destinations that are asked for, into pools.

use std::collections::HashMap;
use std::io;

use log::Level;

use super::prepared::Notice;
use crate::address::{DestinationSpec, Endpoint, PeerAddress};
use crate::config::PoolConfig;
use crate::counted::Counted;
use crate::desired::DestinationsChange;
use crate::pool::health::Reason;
use crate::pool::{Change, Dismissed, Pool};
use crate::resolve::{self, OwnAddresses};

/// Where destinations are.
pub(super) struct Located {
    found: HashMap<Endpoint, io::Result<Vec<PeerAddress>>>,
    /// Whether a name that does not resolve is an error.
    strict: bool,
}

impl Located {
    /// Resolves all names. Stops waiting for them once `give_up` returns true. Threads that resolve names may still run when
    /// this returns, so whatever needs a process with a single thread comes before.
    ///
    /// # Errors
    /// When no thread can be started for that.
    pub(super) fn resolve<'s>(
        specs: impl IntoIterator<Item = &'s DestinationSpec>,
        strict: bool,
        give_up: &mut dyn FnMut() -> bool,
    ) -> Result<Located, String> {
        let endpoints = specs.into_iter().map(|spec| spec.endpoint.clone()).collect();
        let patience = (!strict).then_some(resolve::PATIENCE);
        let found = resolve::resolve_all(endpoints, patience, give_up);
        Ok(Located { found: found.map_err(|error| format!("cannot resolve names: {error}"))?, strict })
    }

    /// Where a destination is to be, with what there is to say of that; the error why it is not known yet.
    fn addresses(&self, spec: &DestinationSpec, own: &OwnAddresses) -> Result<Result<Placed, String>, String> {
        let told = |reason: String| format!("destination {}: {reason}", spec.endpoint);
        let addresses = match self.found.get(&spec.endpoint) {
            Some(Ok(addresses)) => addresses,
            Some(Err(error)) if self.strict => return Err(told(resolve::in_one_line(error))),
            missing => {
                let reason = missing.and_then(|it| it.as_ref().err()).map(resolve::in_one_line);
                return Ok(Err(reason.unwrap_or_default()));
            }
        };
        let (ours, others): (Vec<PeerAddress>, Vec<PeerAddress>) =
            addresses.iter().partition(|address| own.include(**address));
        match ours.first() {
            Some(_) if others.is_empty() => Err(told("this daemon is to listen there itself".to_owned())),
            Some(ours) => {
                let notice = told(format!("one of its addresses is {ours}, where this daemon listens"));
                Ok(Ok(Placed { addresses: others, notice: Some(notice) }))
            }
            None => Ok(Ok(Placed { addresses: others, notice: None })),
        }
    }

    /// Whether all of these could be destinations.
    ///
    /// # Errors
    /// One line that says of the first which could not, and why.
    pub(super) fn check(&self, specs: &[DestinationSpec], own: &OwnAddresses) -> Result<(), String> {
        specs.iter().try_for_each(|spec| self.addresses(spec, own).map(drop))
    }

    /// Adds destinations to a pool. Returns what the log should tell.
    ///
    /// # Errors
    /// One line that says of the first which cannot be one, and why.
    pub(super) fn fill(
        &self,
        pool: &Pool,
        config: &PoolConfig,
        specs: &[DestinationSpec],
        own: &OwnAddresses,
    ) -> Result<Vec<Notice>, String> {
        let mut notices = Vec::new();
        let most = if config.resolve_all { usize::MAX } else { 1 };
        let label = pool.label();
        for spec in specs {
            let told = |reason: String| format!("destination {}: {reason}", label.of(&spec.endpoint));
            let Placed { addresses, notice } = match self.addresses(spec, own)? {
                Ok(placed) => placed,
                Err(reason) => {
                    let expected = pool.expect(&spec.endpoint, spec.weight, Reason::new(&reason));
                    expected.map_err(|error| told(error.to_string()))?;
                    continue;
                }
            };
            notices.extend(notice.map(|notice| (Level::Warn, notice)));
            for address in addresses.into_iter().take(most) {
                let change = pool.give(&spec.endpoint, address, spec.weight);
                if change.map_err(|error| told(error.to_string()))? != Change::Added {
                    let notice = told(format!("given more than once; its weight is {}", spec.weight));
                    notices.push((Level::Warn, notice));
                }
            }
        }
        Ok(notices)
    }
}

/// Has a pool follow what is asked for, but for what is [added](Located::fill). Returns what it came to, a line each.
pub(super) fn follow(pool: &Pool, change: &DestinationsChange) -> Vec<String> {
    let mut lines = Vec::new();
    for DestinationSpec { endpoint, weight } in &change.reweighted {
        if pool.reweigh_unresolved(endpoint, *weight).is_none() {
            let addresses = pool.known_addresses(endpoint).into_iter();
            let reweighed = addresses.filter(|address| pool.reweigh_as_given(*address, *weight).is_ok()).count();
            if reweighed == 0 {
                lines.push(format!("destination {endpoint} was removed by hand, and stays away"));
                continue;
            }
        }
        lines.push(format!("destination {endpoint} has weight {weight}"));
    }
    for endpoint in &change.dropped {
        let dismissed = pool.dismiss(endpoint);
        if dismissed.is_empty() {
            lines.push(format!("destination {endpoint} dropped"));
        }
        lines.extend(dismissed.into_iter().map(|it| match it {
            Dismissed::Removed(address) => format!("destination {address} dropped"),
            Dismissed::Drained(address, connections) => {
                let connections = Counted(connections, "connection");
                format!(
                    "destination {address} dropped: it takes no new clients and goes with the last of {connections}"
                )
            }
            Dismissed::Stays(address) => format!("destination {address} stays: it is wanted otherwise as well"),
        }));
    }
    lines
}

/// Where a destination is to be.
struct Placed {
    addresses: Vec<PeerAddress>,
    notice: Option<String>,
}
