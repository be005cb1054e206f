//! Judging the nodes of a Galera cluster together: each may think well of itself, and yet not belong to the others.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::checker::protocol::GaleraFacts;
use crate::pool::health::Verdict;

/// How long several primary components must have stood against each other before one of them counts. When a node is cut
/// off, it takes up to Galera's `evs.inactive_timeout`, 15 s, to find out, and until then it believes in more members than
/// those have that go on without it.
const SETTLED: Duration = Duration::from_secs(15);

/// What a node last said of its cluster.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    pub facts: GaleraFacts,
    pub at: Instant,
    /// Whether it has not answered since.
    pub is_silent: bool,
}

/// A node that did not say that it cannot serve.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node<'a> {
    /// The destination's number; the lower, the earlier it was added.
    pub id: u64,
    pub heard: &'a Heard,
    pub verdict: Option<Verdict>,
}

impl<'a> Node<'a> {
    /// The primary component that it belongs to.
    fn component(&self) -> Option<Key<'a>> {
        let GaleraFacts { has_galera, primary, state_uuid, conf_id, size, .. } = &self.heard.facts;
        (*has_galera && *primary).then_some((state_uuid.as_str(), *conf_id, *size))
    }

    /// Whether it serves clients now.
    fn is_ready(&self) -> bool {
        self.verdict == Some(Verdict::Ready)
    }

    /// Whether it is DOWN, or nothing is known of it: no session would be lost if it stayed so.
    fn is_out(&self) -> bool {
        self.verdict <= Some(Verdict::Down)
    }
}

/// What distinguishes a primary component: state UUID, number, and size. Both sides of a split that were each made primary
/// by hand count on from the same number.
type Key<'a> = (&'a str, u64, u32);

/// The primary components that there are.
#[derive(Default)]
pub(super) struct Components {
    known: BTreeSet<(String, u64, u32)>,
    since: Option<Instant>,
}

impl Components {
    /// Takes note of those that the nodes belong to. Returns whether they have been the same for long enough, and every
    /// node has been heard since.
    pub(super) fn are_settled(&mut self, nodes: &[Node<'_>], now: Instant) -> bool {
        let known = nodes.iter().filter_map(Node::component);
        let known: BTreeSet<_> = known.map(|(uuid, conf_id, size)| (uuid.to_owned(), conf_id, size)).collect();
        if known != self.known {
            (self.known, self.since) = (known, Some(now));
        }
        self.since.is_some_and(|since| {
            now.saturating_duration_since(since) >= SETTLED && nodes.iter().all(|node| node.heard.at >= since)
        })
    }
}

/// The nodes to which the others object, and why. They are to be taken for DOWN by their own word.
///
/// With `requires_galera`, a node without Galera does. Of several clusters, or several primary components of one, the
/// largest counts, by the number of members that its nodes report; of equally large ones the one that serves clients
/// now, and of those the one with the destination that was added first. Before the components of one cluster are
/// `settled`, only nodes that are out are objected to, so that none comes in on the smaller side of a split. What a
/// silent node said before counts until its verdict is DOWN: a single check that is missed on the larger side lets no
/// node of the smaller one in.
pub(super) fn objections(nodes: &[Node<'_>], requires_galera: bool, settled: bool) -> HashMap<u64, String> {
    let mut objections = HashMap::new();
    if requires_galera {
        let without = nodes.iter().filter(|it| !it.heard.facts.has_galera);
        objections.extend(without.map(|it| (it.id, "it has no Galera, which other destinations have".to_owned())));
    }
    let mut components: BTreeMap<Key<'_>, Vec<&Node<'_>>> = BTreeMap::new();
    for node in nodes {
        if let Some(key) = node.component() {
            components.entry(key).or_default().push(node);
        }
    }
    let rank = |size: u32, nodes: &[&Node<'_>]| {
        let ready = nodes.iter().filter(|it| it.is_ready()).count();
        (size, ready, Reverse(nodes.iter().map(|it| it.id).min()))
    };
    let Some(largest) = components.iter().max_by_key(|((.., size), nodes)| rank(*size, nodes)).map(|(key, _)| *key)
    else {
        return objections;
    };
    let (uuid, _, larger) = largest;
    for ((own_uuid, _, own), nodes) in components.iter().filter(|(key, _)| **key != largest) {
        let is_same_cluster = *own_uuid == uuid;
        let reason = if is_same_cluster {
            format!("its primary component has {own} members, another one {larger}")
        } else {
            format!("it is in a cluster of its own ({own_uuid}, {own} members, not {uuid}, {larger} members)")
        };
        let objected = nodes.iter().filter(|it| !is_same_cluster || settled || it.is_out());
        objections.extend(objected.map(|it| (it.id, reason.clone())));
    }
    objections
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn facts(state_uuid: &str, conf_id: u64, size: u32) -> GaleraFacts {
        let state_uuid = state_uuid.to_owned();
        GaleraFacts { has_galera: true, state_uuid, conf_id, size, primary: true, recv_queue: 0 }
    }

    fn objected(all: &[GaleraFacts], requires_galera: bool) -> Vec<u64> {
        let heard = heard(all);
        let mut ids: Vec<u64> = objections(&nodes(&heard), requires_galera, true).into_keys().collect();
        ids.sort_unstable();
        ids
    }

    fn heard(all: &[GaleraFacts]) -> Vec<Heard> {
        let at = Instant::now();
        all.iter().map(|facts| Heard { facts: facts.clone(), at, is_silent: false }).collect()
    }

    fn nodes(all: &[Heard]) -> Vec<Node<'_>> {
        (0..).zip(all).map(|(id, heard)| Node { id, heard, verdict: Some(Verdict::Spare) }).collect()
    }

    #[test]
    fn nodes_without_galera_do_not_count_among_nodes_with_it() {
        let without = GaleraFacts::default;
        assert_eq!(objected(&[without(), facts("a", 3, 2), facts("a", 3, 2)], true), [0]);
        assert_eq!(objected(&[without(), facts("a", 3, 2)], false), [0; 0]);
    }

    #[test]
    fn of_several_clusters_and_components_the_largest_counts() {
        assert_eq!(objected(&[facts("a", 3, 1), facts("b", 9, 2), facts("b", 9, 2)], true), [0]);
        assert_eq!(objected(&[facts("a", 3, 2), facts("a", 3, 2), facts("a", 4, 1)], true), [2]);
        assert_eq!(objected(&[facts("a", 3, 1), facts("b", 1, 1)], true), [1], "the first of equals");
        assert_eq!(objected(&[facts("a", 3, 2), facts("a", 3, 2)], true), [0; 0]);
    }

    #[test]
    fn both_sides_of_a_split_that_were_made_primary_by_hand_are_told_apart() {
        assert_eq!(objected(&[facts("a", 4, 1), facts("a", 4, 2), facts("a", 4, 2)], true), [0]);
    }

    #[test]
    fn of_equally_large_ones_the_one_that_serves_counts() {
        let all = heard(&[facts("a", 1, 1), facts("b", 1, 1)]);
        let mut nodes = nodes(&all);
        nodes[1].verdict = Some(Verdict::Ready);
        assert!(objections(&nodes, true, true).contains_key(&0));
    }

    #[test]
    fn a_component_that_has_just_changed_is_given_time() {
        let (mut all, mut components) = (heard(&[facts("a", 3, 2), facts("a", 4, 3)]), Components::default());
        let begun = all[0].at;
        assert!(!components.are_settled(&nodes(&all[..1]), begun));
        // One after the other learns of it.
        let (change, late) = (begun + SETTLED, begun + 2 * SETTLED);
        all[1].at = change;
        assert!(!components.are_settled(&nodes(&all), change));
        assert!(!components.are_settled(&nodes(&all), late), "the first was not heard since");
        all[0].at = late;
        assert!(components.are_settled(&nodes(&all), late));
        let mut both = nodes(&all);
        assert_eq!(objections(&both, true, false), HashMap::new());
        both[0].verdict = Some(Verdict::Down);
        assert!(objections(&both, true, false).contains_key(&0), "it does not come in");
        both[0].verdict = Some(Verdict::Ready);
        assert!(objections(&both, true, true).contains_key(&0));
        all[1].is_silent = true;
        assert!(components.are_settled(&nodes(&all), late), "silence changes nothing");
        assert!(objections(&nodes(&all), true, true).contains_key(&0), "before it is DOWN");
        let again = heard(&[facts("a", 4, 3), facts("a", 4, 3)]);
        assert!(!components.are_settled(&nodes(&again), late), "it has changed");
    }

    proptest! {
        #[test]
        fn there_is_always_one_component_without_objections(
            drawn in prop::collection::vec((0u8..3, 0u64..3, 0u32..4, any::<bool>(), any::<bool>()), 1..8)
        ) {
            let (all, ready): (Vec<_>, Vec<_>) = drawn.iter().map(|(uuid, conf_id, size, has_galera, ready)| {
                let facts = GaleraFacts { has_galera: *has_galera, ..facts(&uuid.to_string(), *conf_id, *size) };
                (facts, *ready)
            }).unzip();
            let all = heard(&all);
            let mut nodes = nodes(&all);
            let verdict = |is_ready| Some(if is_ready { Verdict::Ready } else { Verdict::Spare });
            nodes.iter_mut().zip(ready).for_each(|(node, is_ready)| node.verdict = verdict(is_ready));
            let objected = objections(&nodes, true, true);
            let has_galera = |it: &Node<'_>| it.heard.facts.has_galera;
            let left: Vec<_> = nodes.iter().filter(|it| has_galera(it) && !objected.contains_key(&it.id)).collect();
            if nodes.iter().any(has_galera) {
                prop_assert!(!left.is_empty());
                prop_assert!(left.iter().all(|it| it.component() == left[0].component()));
            }
        }
    }
}
