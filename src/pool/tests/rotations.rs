//! Several services that use one pool: a writer with a single destination, a reader that spreads its clients.

use super::single::{Told, marked, waits};
use super::*;

/// A pool of so many destinations that are all READY, and two rotations over it.
fn pair(count: usize, first: PolicyKind, second: PolicyKind) -> (Rotation, Rotation) {
    let first = watched(first, &vec![1.0; count]);
    let second = first.pool().rotation(rules(second));
    first.elect_single();
    second.elect_single();
    (first, second)
}

fn rules(policy: PolicyKind) -> Balancing {
    Balancing { policy, top: false, shutdown_sessions: ShutdownSessions::Elsewhere }
}

fn ports(rotation: &Rotation, count: usize) -> Vec<u16> {
    (0..count).map(|_| pick(rotation).address().port()).collect()
}

#[test]
fn fewest_connections_are_those_of_all_services_together() {
    let (writer, reader) = pair(3, PolicyKind::Single, PolicyKind::LeastConnected);
    let written: Vec<Lease> = (0..4).map(|_| pick(&writer)).collect();
    assert!(written.iter().all(|lease| lease.address() == at(1)));
    let read: Vec<Lease> = (0..8).map(|_| pick(&reader)).collect();
    let on = |port| read.iter().filter(|lease| lease.address() == at(port)).count();
    assert_eq!([on(1), on(2), on(3)], [0, 4, 4]);
    assert_eq!(writer.connections(), 12);
    drop(written);
    assert_eq!(pick(&reader).address(), at(1));
}

#[test]
fn each_service_takes_turns_of_its_own() {
    let (first, second) = pair(3, PolicyKind::RoundRobin, PolicyKind::RoundRobin);
    assert_eq!(ports(&first, 2), [1, 2]);
    assert_eq!(ports(&second, 4), [1, 2, 3, 1]);
    assert_eq!(ports(&first, 2), [3, 1]);
}

#[test]
fn a_service_that_comes_later_uses_what_is_there_and_follows_its_changes() {
    let first = watched(PolicyKind::RoundRobin, &[1.0, 1.0, 1.0]);
    judge(&first, 2, Verdict::Down);
    let second = first.pool().rotation(rules(PolicyKind::RoundRobin));
    assert_eq!(ports(&second, 4), [1, 3, 1, 3]);
    judge(&first, 2, Verdict::Ready);
    first.drain(at(1)).expect("it is there");
    assert_eq!(ports(&second, 2), [2, 3]);
}

#[test]
fn a_client_whose_service_gets_another_pool_has_tried_none_of_its_destinations() {
    let (before, after) = (table(PolicyKind::RoundRobin, &[1.0]), table(PolicyKind::RoundRobin, &[1.0]));
    let mut tried = Tried::default();
    let lease = before.pick(client(1), &mut tried, Instant::now()).leased().expect("a destination");
    // The attempt was under way when the pool changed.
    tried.add(lease.id());
    assert!(after.pick(client(1), &mut tried, Instant::now()).leased().is_some());
}

#[test]
fn a_writer_that_moves_closes_and_awaits_its_own_sessions_only() {
    let (writer, reader) = pair(2, PolicyKind::Single, PolicyKind::RoundRobin);
    let told = Told::by(&writer);
    let (write, read) = (pick(&writer), pick(&reader));
    assert_eq!((write.address(), read.address()), (at(1), at(1)));
    writer.switch_single(at(2), Duration::ZERO, clock::now(), Box::new(|_| {})).expect("it is READY");
    assert_eq!(told.take(), [Event::Closed(write.id(), at(1), Some(writer.id()))]);
    assert!(waits(&writer), "its session has not ended yet");
    assert_eq!((pick(&reader).address(), marked(&reader)), (at(2), None));
    drop(write);
    assert_eq!((pick(&writer).address(), marked(&writer)), (at(2), Some(2)), "the reader's goes on");
    assert_eq!(reader.sessions_on(read.id()), 1);
}

#[test]
fn sessions_that_a_move_leaves_are_those_of_the_service_that_moves() {
    let (writer, reader) = pair(2, PolicyKind::Single, PolicyKind::RoundRobin);
    let (write, read) = (pick(&writer), pick(&reader));
    judge(&writer, 1, Verdict::Down);
    assert_eq!(marked(&writer), Some(2));
    assert_eq!(writer.sessions_on(write.id()), 1, "the writer's is closed by its move");
    drop((write, read));
}

#[test]
fn the_choice_of_a_hand_is_one_services() {
    let (first, second) = pair(3, PolicyKind::Single, PolicyKind::Single);
    first.switch_single(at(3), Duration::ZERO, clock::now(), Box::new(|_| {})).expect("it is READY");
    assert_eq!((marked(&first), marked(&second)), (Some(3), Some(1)));
    let chosen = |rotation: &Rotation| rotation.chosen().map(|(_, address)| address);
    assert_eq!((chosen(&first), chosen(&second)), (Some(at(3)), None));
    second.switch_single(at(2), Duration::ZERO, clock::now(), Box::new(|_| {})).expect("it is READY");
    assert_eq!((marked(&first), marked(&second)), (Some(3), Some(2)));
    // It falls for both, and the choice with it.
    judge(&first, 3, Verdict::Down);
    judge(&first, 3, Verdict::Ready);
    assert_eq!((marked(&first), marked(&second)), (Some(1), Some(2)));
    assert_eq!((chosen(&first), chosen(&second)), (None, Some(at(2))));
}

#[test]
fn a_failed_connect_of_one_service_has_the_others_prefer_another_destination_too() {
    let (first, second) = pair(2, PolicyKind::RoundRobin, PolicyKind::RoundRobin);
    pick(&first).failed(Instant::now());
    assert_eq!(ports(&second, 3), [2, 2, 2]);
}

#[test]
fn a_failed_connect_of_a_writer_that_stays_takes_nothing_from_its_reader() {
    let (writer, reader) = pair(2, PolicyKind::Single, PolicyKind::RoundRobin);
    pick(&writer).failed(Instant::now());
    assert_eq!((marked(&writer), ports(&reader, 2)), (Some(1), vec![1, 2]));
}

#[test]
fn a_destination_that_is_removed_is_gone_for_all_and_the_next_in_its_place_starts_anew() {
    let (writer, reader) = pair(2, PolicyKind::Single, PolicyKind::LeastConnected);
    let (write, told) = (pick(&writer), Told::by(&writer));
    writer.remove(at(1)).expect("it is there");
    assert_eq!(told.take()[0], Event::Closed(write.id(), at(1), None));
    add(&writer, 4, 1.0);
    judge(&writer, 4, Verdict::Ready);
    drop(write);
    assert_eq!((marked(&writer), ports(&reader, 2).len()), (Some(2), 2));
    writer.switch_single(at(4), Duration::ZERO, clock::now(), Box::new(|_| {})).expect("it is READY");
    assert_eq!(marked(&writer), Some(4), "no session of the one before it in its place is waited for");
}

#[test]
fn a_service_that_has_ended_is_forgotten_when_its_last_session_has() {
    let (first, second) = pair(2, PolicyKind::LeastConnected, PolicyKind::Single);
    let session = pick(&second);
    let (pool, count) = (first.pool().clone(), |pool: &Pool| pool.0.lock().rotations.len());
    drop(second);
    assert_eq!((count(&pool), pool.connections()), (2, 1));
    drop(session);
    assert_eq!((count(&pool), pool.connections()), (1, 0));
    judge(&first, 1, Verdict::Down);
    assert_eq!(ports(&first, 2), [2, 2]);
}

/// What happens to a pool that two services use.
#[derive(Debug, Clone)]
enum Step {
    First,
    Second,
    Judge(u16, Verdict),
    Weigh(u16, f64),
}

proptest! {
    /// Round robin depends on nothing but turns, which are each rotation's own.
    #[test]
    fn what_one_service_picks_does_not_depend_on_the_other(steps in proptest::collection::vec(prop_oneof![
        3 => Just(Step::First),
        3 => Just(Step::Second),
        1 => (1..4u16, prop_oneof![Just(Verdict::Ready), Just(Verdict::Down)]).prop_map(|(it, to)| Step::Judge(it, to)),
        1 => (1..4u16, 0..4u8).prop_map(|(it, weight)| Step::Weigh(it, f64::from(weight))),
    ], 0..60)) {
        let alone = watched(PolicyKind::RoundRobin, &[1.0, 2.0, 3.0]);
        let shared = watched(PolicyKind::RoundRobin, &[1.0, 2.0, 3.0]);
        let other = shared.pool().rotation(rules(PolicyKind::Single));
        let picked = |rotation: &Rotation| {
            let picked = rotation.pick(client(1), &mut Tried::default(), Instant::now());
            picked.leased().map(|lease| lease.address())
        };
        for step in steps {
            match step {
                Step::First => prop_assert_eq!(picked(&alone), picked(&shared)),
                Step::Second => drop(picked(&other)),
                Step::Judge(port, verdict) => [&alone, &shared].into_iter().for_each(|it| judge(it, port, verdict)),
                Step::Weigh(port, weight) => {
                    [&alone, &shared].into_iter().for_each(|it| _ = it.reweigh(at(port), weight));
                }
            }
        }
    }
}
