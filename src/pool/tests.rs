use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use proptest::prelude::*;

use super::health::{Health, Reason, ShutdownSessions, Verdict};
use super::*;
use crate::address::{Host, PeerAddress};

mod avoided;
mod backups;
mod dismissal;
mod health;
mod names;
mod overlap;
mod queue;
mod reconfigured;
mod refusals;
mod rotations;
mod saved;
mod single;
mod spare;
mod succession;
mod transfers;
mod turns;
mod weights;

fn table(policy: PolicyKind, weights: &[f64]) -> Rotation {
    filled(table_of(balancing(policy)), weights)
}

/// With a watchdog, which has found all of them READY.
fn watched(policy: PolicyKind, weights: &[f64]) -> Rotation {
    let table = filled(table_of(Given { watched: true, ..balancing(policy) }), weights);
    (1..=weights.len()).for_each(|port| judge(&table, port as u16, Verdict::Ready));
    table
}

/// The settings of a pool and of its only rotation.
#[derive(Clone, Copy)]
struct Given {
    policy: PolicyKind,
    top: bool,
    avoid_failed_for: Duration,
    watched: bool,
    recheck_after: Option<Duration>,
    shutdown_sessions: ShutdownSessions,
}

fn table_of(given: Given) -> Rotation {
    let Given { policy, top, avoid_failed_for, watched, recheck_after, shutdown_sessions } = given;
    let pool = Pool::new(PoolSettings { avoid_failed_for, watched, recheck_after, ..PoolSettings::default() });
    pool.rotation(Balancing { policy, top, shutdown_sessions })
}

fn balancing(policy: PolicyKind) -> Given {
    Given {
        policy,
        top: false,
        avoid_failed_for: Duration::from_secs(2),
        watched: false,
        recheck_after: None,
        shutdown_sessions: ShutdownSessions::Elsewhere,
    }
}

/// Has the next process go on with what this one knows.
fn hand_over(table: &Rotation, next: &Rotation) {
    next.restore(table.save(clock::now()), clock::now());
    next.restore_choices(table.save_choices(clock::now()), clock::now());
}

/// Other processes have so many connections to a destination, all of the same service.
fn set_elsewhere(table: &Rotation, address: PeerAddress, connections: usize) {
    table.set_elsewhere(address, connections);
    table.set_sessions_elsewhere(address, connections);
}

/// What the watchdog says from now on.
fn judge(table: &Rotation, port: u16, verdict: Verdict) {
    let health = Health { verdict: Some(verdict), reason: Reason::new("as told"), ..Health::unjudged() };
    if let Some(row) = table.snapshot().iter().find(|row| row.address == at(port)) {
        table.judge(row.id, at(port), health, verdict == Verdict::Ready);
    }
}

fn filled(table: Rotation, weights: &[f64]) -> Rotation {
    for (index, weight) in weights.iter().enumerate() {
        add(&table, index as u16 + 1, *weight);
    }
    table
}

fn at(port: u16) -> PeerAddress {
    PeerAddress::from(([127, 0, 0, 1], port))
}

fn add(table: &Rotation, port: u16, weight: f64) {
    let endpoint = Endpoint { host: Host::Address(at(port).ip_or_local()), port };
    table.set(&endpoint, at(port), weight).expect("there is room");
}

/// As if a name had another address.
fn move_to(table: &Rotation, port: u16, to: u16) {
    let mut inner = table.pool().lock();
    let slot = inner.at(at(port)).expect("a destination");
    inner.move_to(slot, &at(port).into(), at(to)).expect("nothing is there");
}

fn client(number: u32) -> IpAddr {
    IpAddr::V4((0x0a00_0000 + number).into())
}

fn pick(table: &Rotation) -> Lease {
    table.pick(client(1), &mut Tried::default(), Instant::now()).leased().expect("something to pick")
}

/// The port, which says which destination it is.
fn short(table: &Rotation) -> u16 {
    pick(table).address().port()
}

fn counts(table: &Rotation) -> Vec<usize> {
    table.snapshot().iter().map(|it| it.connections).collect()
}

#[test]
fn held_connections_are_spread_by_weight_exactly() {
    let table = table(PolicyKind::LeastConnected, &[1.0, 2.0, 3.0]);
    let leases: Vec<Lease> = (0..60).map(|_| pick(&table)).collect();
    assert_eq!(counts(&table), [10, 20, 30]);
    drop(leases);
    assert_eq!(counts(&table), [0, 0, 0]);
}

#[test]
fn idle_destinations_take_turns_by_weight() {
    let table = table(PolicyKind::LeastConnected, &[1.0, 1.0, 2.0]);
    let mut hits = HashMap::new();
    (0..40).for_each(|_| *hits.entry(short(&table)).or_insert(0) += 1);
    assert_eq!(hits, HashMap::from([(1, 10), (2, 10), (3, 20)]));
}

#[test]
fn round_robin_is_smooth() {
    let table = table(PolicyKind::RoundRobin, &[5.0, 1.0, 1.0]);
    let turns: Vec<u16> = (0..7).map(|_| short(&table)).collect();
    assert_eq!(turns, [1, 2, 1, 1, 3, 1, 1]);
}

#[test]
fn equals_take_turns_in_the_order_in_which_they_were_added() {
    let table = table(PolicyKind::RoundRobin, &[1.0, 1.0, 1.0]);
    let turns: Vec<u16> = (0..9).map(|_| short(&table)).collect();
    assert_eq!(turns, [1, 2, 3, 1, 2, 3, 1, 2, 3]);
}

#[test]
fn random_keeps_to_the_weights() {
    let table = table(PolicyKind::Random, &[0.75, 0.25]);
    let first = (0..4000).filter(|_| short(&table) == 1).count();
    assert!((2800..3200).contains(&first), "{first} of 4000");
    let map: Vec<_> = table.snapshot().iter().map(|it| it.map).collect();
    assert_eq!(map, [Some(0.75), Some(1.0)]);
}

#[test]
fn single_sticks_until_it_fails_or_a_heavier_one_appears() {
    let table = table(PolicyKind::Single, &[1.0, 2.0, 2.0]);
    assert_eq!(short(&table), 2);
    pick(&table).failed(Instant::now());
    assert_eq!(short(&table), 3, "goes on to the other of top weight");
    let later = Instant::now() + Duration::from_secs(3);
    let after_recovery = table.pick(client(1), &mut Tried::default(), later).leased().map(|it| it.address().port());
    assert_eq!(after_recovery, Some(3), "does not jump back");
    add(&table, 4, 2.5);
    assert_eq!(short(&table), 4);
    add(&table, 4, 2.0);
    assert_eq!(short(&table), 4, "stays, though it is an equal now");
}

#[test]
fn top_narrows_to_the_heaviest_that_are_fit() {
    let table = table_of(Given { top: true, ..balancing(PolicyKind::RoundRobin) });
    for (port, weight) in [(1, 1.0), (2, 2.0), (3, 2.0)] {
        add(&table, port, weight);
    }
    assert!((0..10).all(|_| short(&table) != 1));
    while let Some(lease) =
        table.pick(client(1), &mut Tried::default(), Instant::now()).leased().filter(|it| it.address().port() != 1)
    {
        lease.failed(Instant::now());
    }
    assert_eq!(short(&table), 1);
}

#[test]
fn a_failed_one_comes_last_but_comes() {
    let table = table(PolicyKind::LeastConnected, &[1.0, 1.0]);
    let now = Instant::now();
    let first = table.pick(client(1), &mut Tried::default(), now).leased().expect("two to pick from");
    let failed = first.address().port();
    assert!(first.failed(now), "the first failure is news");
    assert!((0..10).all(|_| short(&table) != failed));
    let other = pick(&table);
    let mut tried = [other.id()].into_iter().collect();
    other.failed(now);
    let mut last = table.pick(client(1), &mut tried, now).leased().expect("the failed one is still tried");
    assert_eq!(last.address().port(), failed);
    assert!(last.connected(), "it is news that it answers again");
    assert!(!last.connected());
    assert_eq!(short(&table), failed, "and it is preferred to the one that failed");
}

#[test]
fn a_drained_or_removed_one_is_not_picked() {
    let table = table(PolicyKind::LeastConnected, &[1.0, 1.0]);
    let heard = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&heard);
    table.subscribe(Box::new(move |event| {
        counter.fetch_add(usize::from(matches!(event, Event::Closed(..))), Ordering::Relaxed);
    }));
    let held = pick(&table);
    table.drain(held.address()).expect("it is there");
    assert!((0..10).all(|_| short(&table) != held.address().port()));
    assert_eq!(heard.load(Ordering::Relaxed), 0, "draining closes nothing");
    assert_eq!(table.remove(held.address()), Ok(Change::Removed(1)));
    assert_eq!(heard.load(Ordering::Relaxed), 1);
    assert_eq!(table.remove(held.address()), Err(TableError::NoSuchDestination));
    add(&table, held.address().port(), 1.0);
    drop(held);
    assert_eq!(counts(&table), [0, 0], "a lease of the old one does not count on the new one");
}

/// More than are looked at for each client.
#[test]
fn source_remembers_no_destination_that_is_gone() {
    let table = table(PolicyKind::Source, &[1.0; 100]);
    for number in 0..200 {
        let before = table
            .pick(client(number), &mut Tried::default(), Instant::now())
            .leased()
            .expect("a hundred to pick from")
            .address();
        assert_eq!(
            table.pick(client(number), &mut Tried::default(), Instant::now()).leased().map(|it| it.address()),
            Some(before)
        );
        table.drain(before).expect("it is there");
        assert_ne!(
            table.pick(client(number), &mut Tried::default(), Instant::now()).leased().map(|it| it.address()),
            Some(before)
        );
        add(&table, before.port(), 1.0);
        assert_eq!(
            table.pick(client(number), &mut Tried::default(), Instant::now()).leased().map(|it| it.address()),
            Some(before)
        );
    }
}

/// Whichever program picks, this year's or the next.
#[test]
fn source_sends_clients_where_it_always_did() {
    let table = table(PolicyKind::Source, &[1.0, 2.0, 3.0]);
    let v6 = "2001:db8::1".parse().expect("an address");
    let ports = [client(1), client(2), client(3), client(4), client(5), v6].map(|client| {
        table.pick(client, &mut Tried::default(), Instant::now()).leased().map(|lease| lease.address().port())
    });
    assert_eq!(ports, [3, 2, 2, 3, 1, 2].map(Some));
}

#[test]
fn a_weight_that_is_set_again_takes_no_turn_back() {
    let table = table(PolicyKind::RoundRobin, &[1.0, 1.0, 1.0]);
    let turns: Vec<u16> = (0..6)
        .map(|_| {
            add(&table, 1, 1.0);
            short(&table)
        })
        .collect();
    assert_eq!(turns, [1, 2, 3, 1, 2, 3]);
}

#[test]
fn round_robin_takes_in_a_newcomer_at_once_whatever_the_weights() {
    for weight in [1e-9, 1.0, 1e9] {
        let table = table(PolicyKind::RoundRobin, &[weight, weight]);
        (0..1000).for_each(|_| drop(pick(&table)));
        add(&table, 3, weight);
        let late = (0..30).filter(|_| short(&table) == 3).count();
        assert_eq!(late, 10, "turns of 30 with weights of {weight}");
    }
}

#[test]
fn source_keeps_to_the_weights() {
    let table = table(PolicyKind::Source, &[1.0, 2.0, 3.0]);
    let mut hits = HashMap::new();
    for number in 0..6000 {
        let lease =
            table.pick(client(number), &mut Tried::default(), Instant::now()).leased().expect("three to pick from");
        *hits.entry(lease.address().port()).or_insert(0i32) += 1;
    }
    // More than five standard deviations.
    assert!((1..=3).all(|port| (hits[&port] - 1000 * i32::from(port)).abs() < 200), "{hits:?}");
}

/// Leases picked and dropped from four threads at once.
#[test]
fn counts_are_exact_across_threads() {
    let table = table(PolicyKind::LeastConnected, &[1.0, 2.0, 3.0]);
    let held: Vec<Lease> = std::thread::scope(|scope| {
        let pickers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    (0..1000).for_each(|_| drop(pick(&table)));
                    (0..15).map(|_| pick(&table)).collect::<Vec<Lease>>()
                })
            })
            .collect();
        pickers.into_iter().flat_map(|picker| picker.join().expect("no picker panics")).collect()
    });
    assert_eq!(counts(&table).iter().sum::<usize>(), 60);
    drop(held);
    assert_eq!(counts(&table), [0, 0, 0]);
}

fn weights() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(0.1..10.0f64, 2..12)
}

proptest! {
    #[test]
    fn round_robin_is_never_more_than_a_turn_from_the_weights(weights in weights(), picks in 1..500usize) {
        let table = table(PolicyKind::RoundRobin, &weights);
        let mut counts = vec![0.0; weights.len()];
        let total: f64 = weights.iter().sum();
        for pick in 1..=picks {
            counts[usize::from(short(&table)) - 1] += 1.0;
            for (weight, count) in weights.iter().zip(&counts) {
                let quota = pick as f64 * weight / total;
                prop_assert!((count - quota).abs() < 1.0 + 1e-6, "{count} turns for a quota of {quota}");
            }
        }
    }

    #[test]
    fn least_connected_stays_within_one_connection_of_the_weights(weights in weights(), held in 1..300usize) {
        let table = table(PolicyKind::LeastConnected, &weights);
        let _leases: Vec<Lease> = (0..held).map(|_| pick(&table)).collect();
        let total: f64 = weights.iter().sum();
        for (weight, count) in weights.iter().zip(counts(&table)) {
            let quota = held as f64 * weight / total;
            prop_assert!((count as f64) < quota + 1.0 + weights.len() as f64 * weight / total + 1e-6);
            prop_assert!(count as f64 > quota - weights.len() as f64 * weight / total - 1.0 - 1e-6);
        }
    }

    #[test]
    fn source_moves_only_the_clients_of_the_one_removed(weights in weights(), gone in 0..12usize) {
        let table = table(PolicyKind::Source, &weights);
        let gone = (gone % weights.len()) as u16 + 1;
        let choose = |number| {
            table.pick(client(number), &mut Tried::default(), Instant::now()).leased().map(|lease| lease.address().port())
        };
        let before: Vec<_> = (0..200).map(choose).collect();
        table.remove(at(gone)).expect("it is there");
        for (number, was) in before.iter().enumerate().filter(|(_, was)| **was != Some(gone)) {
            prop_assert_eq!(choose(number as u32), *was);
        }
        add(&table, gone, weights[usize::from(gone) - 1]);
        prop_assert_eq!((0..200).map(choose).collect::<Vec<_>>(), before);
    }

    #[test]
    fn every_policy_picks_something_fit_whatever_happens(
        steps in prop::collection::vec((0..5u8, 1..6u16, 0.0..3.0f64), 1..60), kind in 0..5usize, top: bool
    ) {
        let kinds = [PolicyKind::LeastConnected, PolicyKind::RoundRobin, PolicyKind::Random, PolicyKind::Source,
            PolicyKind::Single];
        let table = table_of(Given { top, ..balancing(kinds[kind]) });
        let (mut leases, mut now) = (Vec::new(), Instant::now());
        for (action, port, weight) in steps {
            now += Duration::from_millis(300);
            match action {
                0 => add(&table, port, weight),
                1 => drop(table.remove(at(port))),
                2 => drop(table.drain(at(port))),
                3 => drop(table.pick(client(7), &mut Tried::default(), now).leased().map(|lease| lease.failed(now))),
                _ => {
                    let fit = table.snapshot().iter().filter(|it| it.weight > 0.0).count();
                    let (mut tried, mut ids) = (Tried::default(), Vec::new());
                    while let Some(mut lease) = table.pick(client(u32::from(port)), &mut tried, now).leased() {
                        prop_assert!(!ids.contains(&lease.id()));
                        ids.push(lease.id());
                        tried.add(lease.id());
                        lease.connected();
                        leases.push(lease);
                    }
                    prop_assert_eq!(tried.count(), fit, "each that is fit is tried once");
                }
            }
        }
        drop(leases);
        prop_assert!(counts(&table).iter().all(|count| *count == 0));
    }
}

#[test]
fn source_spreads_neighbouring_clients_as_chance_would() {
    const DESTINATIONS: usize = 50;
    const CLIENTS: u32 = 20_000;
    let table = table(PolicyKind::Source, &[1.0; DESTINATIONS]);
    let mut hits = [0f64; DESTINATIONS];
    for number in 0..CLIENTS {
        let lease =
            table.pick(client(number), &mut Tried::default(), Instant::now()).leased().expect("fifty to pick from");
        hits[usize::from(lease.address().port()) - 1] += 1.0;
    }
    let expected = f64::from(CLIENTS) / DESTINATIONS as f64;
    let chi_squared: f64 = hits.iter().map(|hits| (hits - expected).powi(2) / expected).sum();
    // With 49 degrees of freedom, chance goes beyond this once in 10,000 times, and evener than that as seldom.
    assert!((19.0..95.0).contains(&chi_squared), "chi squared is {chi_squared}");
}
