//! A reader that leaves the writer's destination alone.

use super::single::{Told, marked};
use super::*;

fn pair(weights: &[f64]) -> (Rotation, Rotation) {
    pair_of(PolicyKind::RoundRobin, weights)
}

fn pair_of(policy: PolicyKind, weights: &[f64]) -> (Rotation, Rotation) {
    let writer = watched(PolicyKind::Single, weights);
    let reader =
        writer.pool().rotation(Balancing { policy, top: false, shutdown_sessions: ShutdownSessions::Elsewhere });
    avoid(&reader, Some(&writer));
    (writer, reader)
}

fn avoid(reader: &Rotation, writer: Option<&Rotation>) {
    reader.pool().avoid(&[(reader, writer)]);
}

fn ports(rotation: &Rotation, count: usize) -> Vec<u16> {
    let mut ports: Vec<u16> = (0..count).map(|_| pick(rotation).address().port()).collect();
    ports.sort_unstable();
    ports
}

#[test]
fn readers_go_to_the_others_before_the_writer_has_a_client_and_after() {
    let (writer, reader) = pair(&[1.0, 1.0, 1.0]);
    assert_eq!(ports(&reader, 4), [2, 2, 3, 3]);
    let _session = pick(&writer);
    assert_eq!(ports(&reader, 4), [2, 2, 3, 3]);
}

#[test]
fn they_follow_the_writer_when_it_moves() {
    let (writer, reader) = pair(&[1.0, 1.0, 1.0]);
    drop(pick(&writer));
    writer.switch_single(at(3), Duration::ZERO, Instant::now(), Box::new(|_| {})).expect("it is fit");
    assert_eq!(ports(&reader, 4), [1, 1, 2, 2]);
    judge(&writer, 3, Verdict::Down);
    assert_eq!(ports(&reader, 4), [2, 2, 2, 2], "the writer is on the first again");
}

#[test]
fn while_there_is_no_other_as_fit_they_share_the_writers() {
    let (writer, reader) = pair(&[1.0, 1.0]);
    drop(pick(&writer));
    judge(&writer, 2, Verdict::Spare);
    assert_eq!(ports(&reader, 2), [1, 1], "a SPARE one is not as fit");
    judge(&writer, 2, Verdict::Down);
    assert_eq!(ports(&reader, 2), [1, 1]);
    judge(&writer, 2, Verdict::Ready);
    assert_eq!(ports(&reader, 2), [2, 2]);
    // A client that has tried the other one in vain.
    let other = reader.snapshot()[1].id;
    let mut tried: Tried = [other].into_iter().collect();
    let lease = reader.pick(client(1), &mut tried, Instant::now()).leased().expect("the writer's is left");
    assert_eq!(lease.address(), at(1));
    let mut both: Tried = reader.snapshot().iter().map(|row| row.id).collect();
    assert!(reader.pick(client(1), &mut both, Instant::now()).leased().is_none());
}

#[test]
fn a_writer_that_is_gone_or_single_no_more_is_not_avoided() {
    let (writer, reader) = pair(&[1.0, 1.0]);
    drop(pick(&writer));
    writer.rebalance(Balancing {
        policy: PolicyKind::RoundRobin,
        top: false,
        shutdown_sessions: ShutdownSessions::Elsewhere,
    });
    assert_eq!(ports(&reader, 4), [1, 1, 2, 2]);
    drop(writer);
    assert_eq!(ports(&reader, 4), [1, 1, 2, 2]);
    avoid(&reader, None);
    assert_eq!(ports(&reader, 4), [1, 1, 2, 2]);
}

#[test]
fn a_writer_of_another_pool_and_itself_are_not_avoided() {
    let (writer, reader) = pair(&[1.0, 1.0]);
    let (elsewhere, _) = pair(&[1.0, 1.0]);
    avoid(&reader, Some(&elsewhere));
    assert_eq!(ports(&reader, 4), [1, 1, 2, 2]);
    avoid(&writer, Some(&writer));
    assert_eq!(ports(&writer, 2), [1, 1]);
}

#[test]
fn a_reader_that_begins_to_avoid_the_writer_does_not_remember_the_clients_it_had_there() {
    // More than so many that looking at all of them is quick.
    let (writer, reader) = pair_of(PolicyKind::Source, &[1.0; 40]);
    drop(pick(&writer));
    let clients = || -> Vec<PeerAddress> {
        let pick = |number| reader.pick(client(number), &mut Tried::default(), Instant::now());
        (0..200).map(|number| pick(number).leased().expect("there are others").address()).collect()
    };
    avoid(&reader, None);
    let before = clients();
    assert!(before.contains(&at(1)));
    avoid(&reader, Some(&writer));
    for (before, now) in before.iter().zip(clients()) {
        assert_ne!(now, at(1));
        assert!(now == *before || *before == at(1), "nobody else has gone elsewhere");
    }
    avoid(&reader, None);
    assert_eq!(clients(), before, "and they have what was theirs again");
}

/// A writer and a reader with a single destination each, which have chosen them.
fn singles(weights: &[f64]) -> (Rotation, Rotation) {
    let (writer, reader) = pair_of(PolicyKind::Single, weights);
    reader.elect_single();
    writer.elect_single();
    (writer, reader)
}

fn places(writer: &Rotation, reader: &Rotation) -> [Option<u16>; 2] {
    [writer, reader].map(marked)
}

#[test]
fn a_reader_with_a_single_destination_has_the_best_of_those_that_are_not_the_writers() {
    let (writer, reader) = singles(&[3.0, 1.0, 2.0]);
    assert_eq!(places(&writer, &reader), [Some(1), Some(3)]);
    assert_eq!((ports(&reader, 2), ports(&writer, 2)), (vec![3, 3], vec![1, 1]));
    judge(&writer, 3, Verdict::Spare);
    assert_eq!(places(&writer, &reader), [Some(1), Some(2)]);
    judge(&writer, 2, Verdict::Down);
    assert_eq!(places(&writer, &reader), [Some(1), Some(1)], "a SPARE one is not as fit");
    judge(&writer, 2, Verdict::Ready);
    assert_eq!(places(&writer, &reader), [Some(1), Some(2)]);
}

#[test]
fn it_moves_with_its_sessions_when_the_writer_comes() {
    let (writer, reader) = singles(&[1.0, 1.0, 1.0]);
    let _sessions = [pick(&writer), pick(&reader)];
    assert_eq!(places(&writer, &reader), [Some(1), Some(2)]);
    let told = Told::by(&reader);
    writer.switch_single(at(2), Duration::ZERO, Instant::now(), Box::new(|_| {})).expect("it is fit");
    assert_eq!((places(&writer, &reader), told.closed()), ([Some(2), Some(1)], vec![1, 2]));
    judge(&writer, 2, Verdict::Down);
    assert_eq!(places(&writer, &reader), [Some(1), Some(3)]);
    // The two that are left change places once, and no more.
    judge(&writer, 1, Verdict::Down);
    assert_eq!(places(&writer, &reader), [Some(3), Some(3)]);
    judge(&writer, 1, Verdict::Ready);
    assert_eq!(places(&writer, &reader), [Some(3), Some(1)]);
    let quiet = Told::by(&reader);
    judge(&writer, 1, Verdict::Ready);
    assert_eq!((quiet.take(), places(&writer, &reader)), (vec![], [Some(3), Some(1)]));
}

#[test]
fn a_hand_does_not_bring_it_to_the_writers_while_there_is_another() {
    let (writer, reader) = singles(&[1.0, 1.0, 1.0]);
    let to = |port, grace| reader.switch_single(at(port), grace, Instant::now(), Box::new(|_| {}));
    let avoided = Err(SwitchError::Avoided("is the single destination of service ".to_owned()));
    assert_eq!(to(1, Duration::ZERO), avoided);
    assert_eq!((to(3, Duration::ZERO), places(&writer, &reader)), (Ok(()), [Some(1), Some(3)]));
    // The writer comes first.
    let _session = pick(&reader);
    assert_eq!(to(2, Duration::from_secs(9)), Ok(()));
    writer.switch_single(at(2), Duration::ZERO, Instant::now(), Box::new(|_| {})).expect("it is fit");
    assert_eq!((places(&writer, &reader), super::single::waits(&reader)), ([Some(2), Some(3)], false));
    // What a hand chose is left as well.
    writer.switch_single(at(3), Duration::ZERO, Instant::now(), Box::new(|_| {})).expect("it is fit");
    assert_eq!(places(&writer, &reader), [Some(3), Some(1)]);
    judge(&writer, 1, Verdict::Down);
    judge(&writer, 2, Verdict::Down);
    assert_eq!((to(3, Duration::ZERO), places(&writer, &reader)), (Ok(()), [Some(3), Some(3)]));
}

#[test]
fn a_row_of_readers_comes_to_rest_and_a_circle_is_not_obeyed() {
    let (writer, reader) = singles(&[1.0, 1.0]);
    let third = writer.pool().rotation(Balancing {
        policy: PolicyKind::Single,
        top: false,
        shutdown_sessions: ShutdownSessions::Never,
    });
    avoid(&third, Some(&reader));
    third.elect_single();
    assert_eq!((places(&writer, &reader), marked(&third)), ([Some(1), Some(2)], Some(1)));
    judge(&writer, 1, Verdict::Down);
    judge(&writer, 1, Verdict::Ready);
    assert_eq!((places(&writer, &reader), marked(&third)), ([Some(2), Some(1)], Some(2)));
    avoid(&writer, Some(&third));
    judge(&writer, 2, Verdict::Down);
    judge(&writer, 2, Verdict::Ready);
    assert_eq!((places(&writer, &reader), marked(&third)), ([Some(1), Some(2)], Some(1)));
}
