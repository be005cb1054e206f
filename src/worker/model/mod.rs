//! A model of the relay: the flows of one connection between two sockets of which everything can be chosen, against what
//! must be true in whichever order things happen.
//!
//! The sockets keep to what Linux promises of TCP and epoll. Peers send, end, reset and read at any time, also between two
//! calls of one step of the relay. An event is reported once after a change, and says what is true when it is reported.

mod kernel;
mod relay;
mod tcp;

use proptest::collection::vec;
use proptest::prelude::*;

use super::connection::Ending;
use super::flow::Splicing;
pub(super) use kernel::ModelSocket;
use relay::{Machine, Relay, Step};
use tcp::{Act, End};

/// More than is ever sent in one story.
const UNLIMITED: usize = 1 << 20;

/// How many stories are made up for each property.
const CASES: u32 = 1024;

fn splicing() -> impl Strategy<Value = Splicing> {
    prop_oneof![2 => Just(Splicing::Bulk), 1 => Just(Splicing::Always), 1 => Just(Splicing::Never)]
}

fn machine() -> impl Strategy<Value = Machine> {
    let capacity = || prop_oneof![Just(UNLIMITED), 1..2000_usize];
    (splicing(), 0..3_usize, 1..600_usize, [capacity(), capacity()])
        .prop_map(|(splicing, pipes, pipe_capacity, capacities)| Machine { splicing, pipes, pipe_capacity, capacities })
}

/// One with room for everything.
fn roomy(splicing: Splicing) -> Machine {
    Machine { splicing, pipes: 2, pipe_capacity: 100, capacities: [UNLIMITED; 2] }
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::Client), Just(End::Server)]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => prop_oneof![1..10_usize, 1..130_usize, 1..1500_usize].prop_map(Act::Sends),
        8 => prop_oneof![1..10_usize, 1..1500_usize].prop_map(Act::Reads),
        1 => Just(Act::SendsUrgent),
        1 => Just(Act::Ends),
        1 => Just(Act::Resets),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (end(), act()).prop_map(|(end, act)| Step::Act(end, act)),
        2 => (end(), act()).prop_map(|(end, act)| Step::Meanwhile(end, act)),
        4 => end().prop_map(Step::Event),
        2 => Just(Step::Turn),
        1 => Just(Step::Interrupt),
        1 => Just(Step::Attempt),
        1 => Just(Step::Accepted),
    ]
}

/// What the event loop comes to, in any order.
fn event() -> impl Strategy<Value = Step> {
    prop_oneof![2 => end().prop_map(Step::Event), 1 => Just(Step::Turn)]
}

#[test]
fn a_client_that_ends_without_a_word_costs_no_destination_a_connection() {
    for (acts, closed) in [(&[Act::Ends][..], Some(Ending::Clean)), (&[Act::Sends(1), Act::Ends], None)] {
        let mut relay = Relay::new(roomy(Splicing::Bulk));
        acts.iter().for_each(|act| relay.step(Step::Act(End::Client, *act)));
        relay.step(Step::Attempt);
        assert_eq!(relay.closed(), closed, "{acts:?}");
    }
}

/// A call that brings nothing costs as much as one that does.
#[test]
fn a_message_costs_one_read_and_one_write_even_with_its_end_behind_it() {
    for splicing in [Splicing::Bulk, Splicing::Never] {
        for from in End::BOTH {
            let mut relay = Relay::new(roomy(splicing));
            relay.settle();
            for acts in [&[Act::Sends(10)][..], &[Act::Sends(10), Act::Ends]] {
                let before = relay.calls();
                acts.iter().for_each(|act| relay.step(Step::Act(from, *act)));
                // At once, rather than when others have had their turn.
                relay.step(Step::Event(from));
                assert_eq!(relay.calls() - before, 2, "{acts:?} from the {from:?}");
                relay.settle();
            }
        }
    }
}

#[test]
fn a_sink_that_takes_a_part_is_tried_again_only_when_it_has_room() {
    let mut relay = Relay::new(Machine { capacities: [30, UNLIMITED], ..roomy(Splicing::Bulk) });
    relay.settle();
    let before = relay.calls();
    relay.step(Step::Act(End::Server, Act::Sends(50)));
    relay.settle();
    assert_eq!((relay.calls() - before, relay.accepted()), (2, [30, 0]));
    relay.step(Step::Act(End::Client, Act::Reads(30)));
    relay.settle();
    assert_eq!((relay.calls() - before, relay.accepted()), (3, [50, 0]));
}

#[test]
fn what_follows_a_read_that_fills_the_buffer_is_spliced() {
    for (splicing, pipes, spliced) in [
        (Splicing::Bulk, 2, [936, 946, 946]),
        (Splicing::Bulk, 0, [0, 0, 0]),
        (Splicing::Always, 2, [1000, 1010, 1020]),
        (Splicing::Never, 2, [0, 0, 0]),
    ] {
        let mut relay = Relay::new(Machine { pipes, ..roomy(splicing) });
        relay.settle();
        // After a pause, messages are copied again.
        for (count, spliced) in [1000, 10, 10].into_iter().zip(spliced) {
            relay.step(Step::Act(End::Server, Act::Sends(count)));
            relay.settle();
            assert_eq!(relay.spliced(), spliced, "{splicing:?}, {pipes} pipes");
        }
        assert_eq!(relay.accepted(), [1020, 0]);
    }
}

#[test]
fn what_follows_bulk_waits_until_others_have_had_their_turn() {
    for splicing in [Splicing::Bulk, Splicing::Always, Splicing::Never] {
        let mut relay = Relay::new(roomy(splicing));
        relay.settle();
        relay.step(Step::Act(End::Server, Act::Sends(200)));
        relay.step(Step::Event(End::Server));
        assert_eq!(relay.accepted(), [200, 0], "at first it was not known that it is bulk");
        relay.step(Step::Act(End::Server, Act::Sends(10)));
        relay.step(Step::Event(End::Server));
        assert_eq!(relay.accepted(), [200, 0]);
        relay.step(Step::Turn);
        assert_eq!(relay.accepted(), [210, 0]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_in_whichever_order_what_arrives_is_what_was_sent(
        machine in machine(), steps in vec(step(), 0..60)
    ) {
        let mut relay = Relay::new(machine);
        steps.into_iter().for_each(|step| relay.step(step));
        relay.settle();
        relay.finish();
    }

    /// Whether the relay learns of the reset by an event, by a read or by a write.
    #[test]
    fn what_a_peer_sends_right_before_a_reset_arrives(
        splicing in splicing(), resetting in end(), counts in [0..500_usize, 0..500_usize], at_once in any::<bool>(),
        events in vec(event(), 0..8)
    ) {
        let mut relay = Relay::new(roomy(splicing));
        relay.settle();
        let acts = [
            (resetting.opposite(), Act::Sends(counts[0])),
            (resetting, Act::Sends(counts[1])),
            (resetting, Act::Resets),
        ];
        for (end, act) in acts {
            relay.step(if at_once { Step::Act(end, act) } else { Step::Meanwhile(end, act) });
        }
        events.into_iter().for_each(|step| relay.step(step));
        relay.settle();
        relay.finish();
    }
}
