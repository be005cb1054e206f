//! From the table to the shortest list of changes that makes it of the command line's.

use std::collections::HashSet;

use super::Base;
use super::contents::{Entry, REMOVED};
use crate::address::{Endpoint, PeerAddress};
use crate::pool::{DestinationStatus, Origin, Pool, Unresolved};

impl Base<'_> {
    /// From the destinations that were asked for to those in the pool, and to the order that hands have made. One that no
    /// hand has added has the place that the configuration gives it at the next start, wherever a reload has put it.
    pub(super) fn changes(&self, pool: &Pool) -> Vec<Entry> {
        let (rows, unresolved) = (pool.snapshot(), pool.unresolved());
        let (mut removed, mut set) = (Removals::default(), Vec::new());
        // Where among the base the last one stands that keeps its place there; `None` once one that does not is before it.
        let mut last = Some(0);
        for row in rows.iter().filter(|row| row.origin == Origin::ByHand && !row.is_leaving) {
            for (index, endpoint) in row.wanted_as.iter().enumerate() {
                let place = self.place(endpoint);
                // Others only share a destination, which has its place.
                let is_first = index == 0;
                let is_placed = is_first && row.is_placed_by_hand;
                let stays = place.is_some_and(|place| !is_placed || last.is_some_and(|last| place >= last));
                if is_first {
                    last = last.zip(place.filter(|_| stays)).map(|(last, place)| last.max(place));
                }
                if place.is_some() && !stays {
                    removed.add(endpoint.clone());
                }
                if !stays || self.weight(endpoint) != Some(row.weight) {
                    set.push(changed(endpoint, row, &rows));
                }
            }
        }
        let is_news = |it: &&Unresolved| self.weight(&it.endpoint) != Some(it.weight);
        set.extend(unresolved.iter().filter(is_news).map(|it| Entry::new(it.endpoint.clone(), it.weight, None)));
        let there: HashSet<&Endpoint> = rows.iter().flat_map(|row| &row.wanted_as).collect();
        let there: HashSet<&Endpoint> = there.into_iter().chain(unresolved.iter().map(|it| &it.endpoint)).collect();
        let addresses: HashSet<PeerAddress> = rows.iter().map(|row| row.address).collect();
        let is_there = |endpoint: &Endpoint| {
            there.contains(endpoint) || endpoint.address().is_some_and(|address| addresses.contains(&address))
        };
        let base = self.destinations.iter().map(|spec| &spec.endpoint);
        base.filter(|endpoint| !is_there(endpoint)).for_each(|endpoint| removed.add(endpoint.clone()));
        if self.finds_more {
            pool.withdrawn().into_iter().for_each(|address| removed.add(address.into()));
        }
        // What is removed makes room for what is added.
        removed.entries.into_iter().chain(set).collect()
    }

    pub(super) fn place(&self, endpoint: &Endpoint) -> Option<usize> {
        self.destinations.iter().position(|spec| spec.endpoint == *endpoint)
    }

    fn weight(&self, endpoint: &Endpoint) -> Option<f64> {
        // Of one that is given more than once, the last weight counts.
        self.destinations.iter().rev().find(|spec| spec.endpoint == *endpoint).map(|spec| spec.weight)
    }
}

/// What is to be taken out, each once.
#[derive(Default)]
struct Removals {
    entries: Vec<Entry>,
    seen: HashSet<Endpoint>,
}

impl Removals {
    fn add(&mut self, endpoint: Endpoint) {
        if self.seen.insert(endpoint.clone()) {
            self.entries.push(Entry::new(endpoint, REMOVED, None));
        }
    }
}

/// A name whose addresses differ in weight is changed address by address.
fn changed(endpoint: &Endpoint, row: &DestinationStatus, rows: &[DestinationStatus]) -> Entry {
    let mut same_name = rows.iter().filter(|other| other.wanted_as.contains(endpoint));
    match same_name.all(|other| other.weight == row.weight) {
        true => Entry::new(endpoint.clone(), row.weight, Some(row.address)),
        false => Entry::new(row.address.into(), row.weight, None),
    }
}
