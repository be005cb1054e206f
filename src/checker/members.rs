//! The addresses of a cluster's members, which some nodes report by name.
//!
//! Checks never wait for a name: a name that is not known yet is left out of the answer, and looked up meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::protocol::MAX_MEMBERS;
use crate::address::{Endpoint, Host, PeerAddress, parse_destination};
use crate::resolve::Resolver;

/// How long the address of a name is good for, and how long a name that has none is not looked up again.
const FRESH: Duration = Duration::from_secs(10);
/// Most names that are remembered.
const MAX_NAMES: usize = 1024;

/// Knows the addresses of the names that the nodes of a pool report.
pub(super) struct Members {
    resolver: Resolver,
    known: Arc<Mutex<HashMap<Endpoint, Known>>>,
}

struct Known {
    address: Option<PeerAddress>,
    /// When it was asked for last.
    asked: Instant,
    /// Whether the answer is still to come.
    pending: bool,
}

impl Members {
    /// Looks names up by a resolver that others may use as well.
    pub(super) fn new(resolver: Resolver) -> Members {
        Members { resolver, known: Arc::default() }
    }

    /// The addresses of `members`, those without a port at `port`; and whether none of them is missing. What is no
    /// address at all is passed over: a node may say anything of itself.
    pub(super) fn locate(&self, members: &[String], port: u16) -> (Vec<PeerAddress>, bool) {
        let mut addresses = Vec::new();
        let mut are_complete = members.len() <= MAX_MEMBERS;
        for member in members.iter().take(MAX_MEMBERS) {
            let Ok(spec) = parse_destination(member, Some(port)) else { continue };
            // A node's own is on another machine, or known already.
            if matches!(spec.endpoint.host, Host::Unix(_)) {
                continue;
            }
            match spec.endpoint.address().or_else(|| self.look_up(spec.endpoint)) {
                Some(address) => addresses.push(address),
                None => are_complete = false,
            }
        }
        (addresses, are_complete)
    }

    /// The last known address of a name, which is asked for again when that is old.
    pub(super) fn look_up(&self, endpoint: Endpoint) -> Option<PeerAddress> {
        let now = Instant::now();
        let mut known = self.known.lock();
        if known.len() >= MAX_NAMES && !known.contains_key(&endpoint) {
            known.retain(|_, it| it.pending || now.duration_since(it.asked) < FRESH);
            if known.len() >= MAX_NAMES {
                return None;
            }
        }
        let is_due = |it: &Known| !it.pending && now.duration_since(it.asked) >= FRESH;
        let is_due = known.get(&endpoint).is_none_or(is_due);
        let has_room = is_due && self.resolver.has_room_for(known.values().filter(|it| it.pending).count());
        let entry = known.entry(endpoint.clone()).or_insert(Known { address: None, asked: now, pending: false });
        if is_due {
            let answers = Arc::clone(&self.known);
            let name = endpoint.clone();
            let done = move |found: std::io::Result<Vec<PeerAddress>>| {
                if let Some(entry) = answers.lock().get_mut(&name) {
                    entry.pending = false;
                    // A name that does not resolve now keeps the address that it had.
                    entry.address = found.ok().and_then(|found| found.first().copied()).or(entry.address);
                }
            };
            // When too many are being looked up already, the next answer asks again.
            entry.pending = has_room && self.resolver.resolve_later(endpoint, entry.address, done).is_ok();
            entry.asked = if entry.pending { now } else { now.checked_sub(FRESH).unwrap_or(now) };
        }
        entry.address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locate(members: &Members, names: &[&str]) -> (Vec<String>, bool) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let (addresses, are_complete) = members.locate(&names, 3306);
        (addresses.iter().map(ToString::to_string).collect(), are_complete)
    }

    #[test]
    fn addresses_are_taken_as_they_are_and_nonsense_is_passed_over() {
        let members = Members::new(Resolver::default());
        let found = locate(&members, &["10.0.0.1", "10.0.0.2:3307", "[::1]:3308", "", "10.0.0.3:99999", "a b"]);
        assert_eq!(found, (["10.0.0.1:3306", "10.0.0.2:3307", "[::1]:3308"].map(str::to_owned).to_vec(), true));
    }

    #[test]
    fn a_name_is_there_once_it_is_resolved_and_never_waited_for() {
        let members = Members::new(Resolver::default());
        let first = locate(&members, &["localhost:7", "10.0.0.1"]);
        assert!(first.0.contains(&"10.0.0.1:3306".to_owned()), "{first:?}");
        let since = Instant::now();
        while !locate(&members, &["localhost:7", "10.0.0.1"]).1 {
            assert!(since.elapsed() < Duration::from_secs(20), "localhost does not resolve");
            std::thread::yield_now();
        }
    }

    fn name(number: usize) -> Endpoint {
        parse_destination(&format!("node{number}.invalid:1"), None).expect("a name").endpoint
    }

    /// With as many names as are remembered, all of which were asked for so long ago.
    fn full(age: Duration, pending: bool) -> Members {
        let members = Members::new(Resolver::default());
        let asked = Instant::now().checked_sub(age).expect("a machine that has run for that long");
        let known = |number| (name(number), Known { address: Some(([10, 0, 0, 1], 1).into()), asked, pending });
        members.known.lock().extend((0..MAX_NAMES).map(known));
        members
    }

    #[test]
    fn names_that_are_reported_no_longer_make_room_for_others() {
        let members = full(2 * FRESH, false);
        locate(&members, &["localhost:7"]);
        assert_eq!(members.known.lock().len(), 1);
        for members in [full(Duration::ZERO, false), full(2 * FRESH, true)] {
            assert_eq!(locate(&members, &["localhost:7"]), (vec![], false), "there is no room yet");
            let known = locate(&members, &["node0.invalid:1"]);
            assert_eq!(known, (vec!["10.0.0.1:1".to_owned()], true), "one that is known keeps its place");
            assert_eq!(members.known.lock().len(), MAX_NAMES);
        }
    }

    #[test]
    fn a_name_is_asked_for_again_when_its_address_is_old_and_it_is_not_being_asked_for() {
        for (age, pending, again) in
            [(FRESH / 2, false, false), (FRESH, false, true), (2 * FRESH, false, true), (2 * FRESH, true, false)]
        {
            let members = full(age, pending);
            locate(&members, &["node0.invalid:1"]);
            let asked = members.known.lock()[&name(0)].asked;
            assert_eq!(asked.elapsed() < FRESH / 4, again, "{age:?}, {pending}");
        }
    }
}
