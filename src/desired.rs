//! What is asked for, and what has to be done so that it is: pure code, which changes nothing.

use std::collections::BTreeMap;

use crate::address::{DestinationSpec, Endpoint};

/// From the destinations that were asked for to those that are asked for now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DestinationsChange {
    /// These are new.
    pub added: Vec<DestinationSpec>,
    /// These are asked for no longer.
    pub dropped: Vec<Endpoint>,
    /// These were asked for with another weight.
    pub reweighted: Vec<DestinationSpec>,
}

impl DestinationsChange {
    /// What has changed between two lists. Of a destination that is given more than once, the last weight counts.
    pub fn between(before: &[DestinationSpec], now: &[DestinationSpec]) -> DestinationsChange {
        let weights = |specs: &[DestinationSpec]| -> BTreeMap<String, f64> {
            specs.iter().map(|spec| (spec.endpoint.to_string(), spec.weight)).collect()
        };
        let (old, new) = (weights(before), weights(now));
        let mut change = DestinationsChange::default();
        for spec in now {
            let key = spec.endpoint.to_string();
            let last = DestinationSpec { weight: new.get(&key).copied().unwrap_or(spec.weight), ..spec.clone() };
            let list = match old.get(&key) {
                None => &mut change.added,
                Some(weight) if *weight != last.weight => &mut change.reweighted,
                Some(_) => continue,
            };
            if !list.contains(&last) {
                list.push(last);
            }
        }
        for DestinationSpec { endpoint, .. } in before {
            if !new.contains_key(&endpoint.to_string()) && !change.dropped.contains(endpoint) {
                change.dropped.push(endpoint.clone());
            }
        }
        change
    }

    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.dropped.is_empty() && self.reweighted.is_empty()
    }
}
