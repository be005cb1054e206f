//! Clients that wait for room on destinations whose connections are limited.

use std::sync::Arc;

use super::*;

/// Destinations of so many connections each.
fn limited(policy: PolicyKind, limit: usize, count: usize) -> Rotation {
    let table = watched(policy, &vec![1.0; count]);
    table.configure(settings(limit, None));
    table
}

fn settings(limit: usize, max_queue: Option<usize>) -> PoolSettings {
    let avoid_failed_for = Duration::from_secs(2);
    let max_connections = Some(limit);
    PoolSettings { avoid_failed_for, watched: true, max_connections, max_queue, ..PoolSettings::default() }
}

/// A client that waits, and how often it was woken.
struct Waiting {
    ticket: Ticket,
    woken: Arc<AtomicUsize>,
}

impl Waiting {
    fn of(table: &Rotation, number: u32) -> Waiting {
        Waiting::since(Instant::now(), table, number)
    }

    fn since(came: Instant, table: &Rotation, number: u32) -> Waiting {
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        let wake = Box::new(move || _ = count.fetch_add(1, Ordering::Relaxed));
        match table.queue(client(number), came, &mut Tried::default(), Instant::now(), wake) {
            Ok(ticket) => Waiting { ticket, woken },
            Err(_) => panic!("client {number} need not wait, or cannot"),
        }
    }

    /// The port that it was given, where it was woken.
    fn given(&mut self) -> Option<Lease> {
        if self.woken.swap(0, Ordering::Relaxed) == 0 {
            assert!(matches!(self.ticket.claim(Instant::now()), Turn::Wait), "not woken, and yet served");
            return None;
        }
        match self.ticket.claim(Instant::now()) {
            Turn::Leased(lease) => Some(lease),
            Turn::Wait => panic!("woken for nothing"),
            Turn::PickAgain => panic!("sent away"),
        }
    }

    fn is_to_pick_again(&mut self) -> bool {
        matches!(self.ticket.claim(Instant::now()), Turn::PickAgain)
    }
}

fn is_full(table: &Rotation) -> bool {
    matches!(table.pick(client(1), &mut Tried::default(), Instant::now()), Pick::Full)
}

fn port(lease: &Lease) -> u16 {
    lease.address().port()
}

#[test]
fn no_destination_gets_more_connections_than_it_may_have() {
    for policy in [PolicyKind::LeastConnected, PolicyKind::RoundRobin, PolicyKind::Random] {
        let table = limited(policy, 2, 3);
        let leases: Vec<Lease> = (0..6).map(|_| pick(&table)).collect();
        assert!(is_full(&table), "{policy:?}");
        let mut ports: Vec<u16> = leases.iter().map(port).collect();
        ports.sort_unstable();
        assert_eq!(ports, [1, 1, 2, 2, 3, 3], "{policy:?}");
        drop(leases);
        assert!(!is_full(&table));
    }
}

#[test]
fn first_fills_one_destination_after_the_other() {
    let table = limited(PolicyKind::First, 2, 2);
    let mut leases: Vec<Lease> = (0..4).map(|_| pick(&table)).collect();
    assert_eq!(leases.iter().map(port).collect::<Vec<_>>(), [1, 1, 2, 2]);
    assert!(is_full(&table));
    leases.remove(0);
    assert_eq!(port(&pick(&table)), 1);
    leases.pop();
    assert_eq!(port(&pick(&table)), 1, "whatever room there is on the second");
}

#[test]
fn room_goes_to_the_client_that_has_waited_for_longest_whatever_service_it_is_of() {
    let reader = limited(PolicyKind::LeastConnected, 1, 2);
    let other = reader.pool().rotation(Balancing {
        policy: PolicyKind::RoundRobin,
        top: false,
        shutdown_sessions: ShutdownSessions::Elsewhere,
    });
    let (one, two) = (pick(&reader), pick(&other));
    let mut waiting = [Waiting::of(&reader, 1), Waiting::of(&other, 2), Waiting::of(&reader, 3)];
    assert_eq!((reader.waiting(), other.waiting()), (2, 1));
    let freed = port(&two);
    drop(two);
    let [first, second, third] = &mut waiting;
    let first = first.given().expect("it has waited for longest");
    assert_eq!((port(&first), second.given().is_none(), third.given().is_none()), (freed, true, true));
    assert!(is_full(&other), "no newcomer gets what is kept for one that waits");
    drop(one);
    let second = second.given().expect("it is next");
    drop((first, second));
    third.given().expect("it is the last");
    assert_eq!((reader.waiting(), other.waiting()), (0, 0));
}

#[test]
fn a_client_that_gives_up_leaves_its_place_and_what_was_kept_for_it_to_the_next() {
    let table = limited(PolicyKind::LeastConnected, 1, 1);
    let lease = pick(&table);
    let [first, second, third] = [1, 2, 3].map(|number| Waiting::of(&table, number));
    drop(first);
    drop(lease);
    assert_eq!(second.woken.load(Ordering::Relaxed), 1);
    drop(second);
    let mut third = third;
    drop(third.given().expect("what was kept for the one before"));
    assert_eq!((table.connections(), table.waiting()), (0, 0));
}

#[test]
fn clients_wait_rather_than_go_to_a_backup_or_a_spare_one() {
    let table = limited(PolicyKind::RoundRobin, 1, 3);
    table.set_backups([(at(2).into(), 1)].into());
    judge(&table, 3, Verdict::Spare);
    let lease = pick(&table);
    assert!(port(&lease) == 1 && is_full(&table));
    let mut waiting = [Waiting::of(&table, 1), Waiting::of(&table, 2), Waiting::of(&table, 3)];
    judge(&table, 1, Verdict::Down);
    let ports = [2, 3].map(|_| 0);
    let [first, second, third] = &mut waiting;
    let backup = first.given().expect("the backup serves now");
    assert_eq!((port(&backup), second.given().is_none(), ports), (2, true, [0, 0]), "not the SPARE one");
    judge(&table, 2, Verdict::Down);
    let spare = second.given().expect("the SPARE one serves now");
    assert_eq!((port(&spare), third.given().is_none()), (3, true));
    judge(&table, 3, Verdict::Down);
    assert!(third.is_to_pick_again(), "there is nothing to wait for");
}

#[test]
fn a_failed_connect_sends_a_client_to_the_others_and_then_to_the_queue() {
    let table = limited(PolicyKind::RoundRobin, 1, 2);
    let mut tried = Tried::default();
    let first = table.pick(client(1), &mut tried, Instant::now()).leased().expect("room");
    let _second = pick(&table);
    tried.add(first.id());
    let id = first.id();
    first.failed(Instant::now());
    assert!(matches!(table.pick(client(1), &mut tried, Instant::now()), Pick::Full), "the other one is full");
    let lease = pick(&table);
    assert_eq!(lease.id(), id, "one that has not tried it may, while the other one is full");
}

#[test]
fn whoever_is_bound_to_a_destination_waits_for_that_one() {
    let table = limited(PolicyKind::Source, 1, 2);
    let mut leases: Vec<Lease> = Vec::new();
    let mut own = |number| {
        let lease = table.pick(client(number), &mut Tried::default(), Instant::now()).leased().expect("room");
        let own = port(&lease);
        leases.push(lease);
        own
    };
    let one = own(1);
    let other = (2..).find(|number| {
        let pick = table.pick(client(*number), &mut Tried::default(), Instant::now());
        pick.leased().is_some_and(|lease| port(&lease) != one)
    });
    let other = other.expect("some client is the other one's");
    assert_ne!(own(other), one);
    let mut waiting = [Waiting::of(&table, 1), Waiting::of(&table, other), Waiting::of(&table, other)];
    let [first, second, third] = &mut waiting;
    leases.retain(|lease| port(lease) == one);
    assert!(first.given().is_none(), "it waits for its own");
    let lease = second.given().expect("its own has room");
    assert_ne!(port(&lease), one);
    assert!(third.given().is_none());
    table.configure(settings(1, Some(0)));
    judge(&table, one, Verdict::Down);
    assert!(first.given().is_none(), "its own is the other one now, which is full");
    drop((lease, leases));
    assert!(third.given().or_else(|| first.given()).is_some());
}

#[test]
fn where_the_queue_is_full_a_client_goes_to_another_than_its_own_or_has_no_room() {
    let table = limited(PolicyKind::Source, 1, 2);
    table.configure(settings(1, Some(0)));
    let own = table.pick(client(7), &mut Tried::default(), Instant::now()).leased().expect("room");
    let mut tried = Tried::default();
    let wake = || Box::new(|| {}) as Wake;
    let Err(Pick::Leased(other)) = table.queue(client(7), Instant::now(), &mut tried, Instant::now(), wake()) else {
        panic!("there is room on the other");
    };
    assert_ne!(port(&own), port(&other));
    let full = table.queue(client(7), Instant::now(), &mut Tried::default(), Instant::now(), wake());
    assert!(matches!(full, Err(Pick::Full | Pick::Nothing)));
}

#[test]
fn clients_of_a_single_destination_keep_their_places_while_it_moves() {
    for by_hand in [false, true] {
        let table = limited(PolicyKind::Single, 1, 2);
        let session = pick(&table);
        let mut waiting = [Waiting::of(&table, 1), Waiting::of(&table, 2)];
        match by_hand {
            true => table.switch_single(at(2), Duration::ZERO, Instant::now(), Box::new(|_| {})).expect("it is fit"),
            false => judge(&table, 1, Verdict::Down),
        }
        assert!(waiting.iter_mut().all(|it| it.given().is_none() && it.ticket.awaits_settling()));
        // One that has queued elsewhere, and one that has not.
        let mut late = Waiting::of(&table, 3);
        assert!(super::single::waits(&table));
        drop(session);
        let [first, second] = &mut waiting;
        let lease = first.given().expect("it has waited for longest");
        assert_eq!((port(&lease), is_full(&table)), (2, true));
        assert!(second.given().is_none() && late.given().is_none());
        drop(lease);
        drop(second.given().expect("it is next"));
        late.given().expect("it is the last");
    }
}

#[test]
fn who_came_first_is_served_first_whoever_was_first_in_the_queue() {
    let table = limited(PolicyKind::LeastConnected, 1, 1);
    let (lease, first) = (pick(&table), Instant::now());
    let came = |number: u32| first + Duration::from_millis(number.into());
    // As the workers have had them pick again.
    let mut waiting: Vec<_> = [0, 2, 4, 1, 3, 5].map(|it| (it, Waiting::since(came(it), &table, it))).into();
    waiting.sort_by_key(|(number, _)| *number);
    drop(lease);
    for (number, it) in &mut waiting {
        drop(it.given().unwrap_or_else(|| panic!("it is the turn of {number}")));
    }
}

#[test]
fn a_higher_limit_or_another_destination_lets_clients_in() {
    let table = limited(PolicyKind::LeastConnected, 1, 1);
    let _lease = pick(&table);
    let mut waiting = [1, 2, 3].map(|number| Waiting::of(&table, number));
    table.configure(settings(2, None));
    let [first, second, third] = &mut waiting;
    let _first = first.given().expect("there is room for one more");
    assert!(second.given().is_none());
    add(&table, 2, 1.0);
    judge(&table, 2, Verdict::Ready);
    let (second, third) = (second.given().expect("a new one"), third.given().expect("of two places"));
    assert_eq!((port(&second), port(&third)), (2, 2));
    assert!(is_full(&table));
    table.configure(PoolSettings { max_connections: None, ..settings(1, None) });
    assert!(!is_full(&table));
}

/// The same as HAProxy does with `minconn 1`, `maxconn 4` and `fullconn 8`.
fn on_a_ramp(count: usize) -> Rotation {
    let table = limited(PolicyKind::LeastConnected, 4, count);
    table.configure(PoolSettings { ramp: Some(Ramp { least: 1, full: 8 }), ..settings(4, None) });
    table
}

/// A client comes, and is served or waits.
fn comes(table: &Rotation, number: u32, waiting: &mut Vec<Waiting>) -> Option<Lease> {
    match table.pick(client(number), &mut Tried::default(), Instant::now()) {
        Pick::Leased(lease) => return Some(lease),
        Pick::Full => {}
        Pick::Wait | Pick::Nothing => panic!("there is one that is fit"),
    }
    let woken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&woken);
    let wake = Box::new(move || _ = count.fetch_add(1, Ordering::Relaxed));
    match table.queue(client(number), Instant::now(), &mut Tried::default(), Instant::now(), wake) {
        Ok(ticket) => waiting.push(Waiting { ticket, woken }),
        Err(pick) => return pick.leased(),
    }
    None
}

#[test]
fn a_limit_that_follows_the_load_grows_as_clients_come_and_falls_as_they_leave() {
    let table = on_a_ramp(1);
    let (mut leases, mut waiting) = (Vec::new(), Vec::new());
    for (load, served) in [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 3), (7, 3), (8, 4), (9, 4)] {
        leases.extend(comes(&table, load, &mut waiting));
        for it in &mut waiting {
            if it.woken.load(Ordering::Relaxed) > 0 {
                leases.extend(it.given());
            }
        }
        assert_eq!(leases.len(), served, "with {load} clients");
    }
    assert_eq!(waiting.iter().map(|it| it.woken.load(Ordering::Relaxed)).sum::<usize>(), 0);
    // Those that leave the queue lower the load, and one of less than half of it has room for one.
    waiting.clear();
    leases.truncate(1);
    let mut others = Vec::new();
    assert!(comes(&table, 10, &mut others).is_none() && comes(&table, 11, &mut others).is_none());
    leases.clear();
    let first = others[0].given().expect("the destination is free");
    assert!(others[1].given().is_none());
    drop(first);
    assert!(others[1].given().is_some());
}

#[test]
fn the_word_of_an_agent_is_a_limit_that_makes_room_or_takes_it() {
    let table = limited(PolicyKind::LeastConnected, 2, 1);
    let agent_says = |most| {
        let (id, address, health) = table.healths().remove(0);
        let agent = AgentState { max_connections: most, ..AgentState::default() };
        table.set_health(id, address, Health { agent, ..health });
    };
    let mut leases = vec![pick(&table), pick(&table)];
    let mut waiting: Vec<Waiting> = (1..=100).map(|number| Waiting::of(&table, number)).collect();
    let mut given = |leases: &mut Vec<Lease>, count: usize| {
        leases.extend(waiting.drain(..count).map(|mut it| it.given().expect("there is room for it")));
        assert!(waiting.iter().all(|it| it.woken.load(Ordering::Relaxed) == 0), "{} wait", waiting.len());
    };
    agent_says(Some(3));
    given(&mut leases, 1);
    agent_says(Some(90));
    given(&mut leases, 87);
    agent_says(Some(1));
    leases.truncate(1);
    given(&mut leases, 0);
    agent_says(Some(0));
    given(&mut leases, 12);
    leases.extend((0..200).map(|_| pick(&table)));
    // Another reload does not undo what an agent has said; the end of the agent does.
    table.configure(settings(5, None));
    assert!(!is_full(&table));
    // Nor does an upgrade.
    let next = limited(PolicyKind::LeastConnected, 1, 0);
    hand_over(&table, &next);
    let _leases = [pick(&next), pick(&next)];
    agent_says(None);
    assert!(is_full(&table));
}

#[test]
fn an_agent_may_say_less_than_the_least_of_a_ramp() {
    let table = on_a_ramp(1);
    table.configure(PoolSettings { ramp: Some(Ramp { least: 3, full: 8 }), ..settings(4, None) });
    let (id, address, health) = table.healths().remove(0);
    let agent = AgentState { max_connections: Some(2), ..AgentState::default() };
    table.set_health(id, address, Health { agent, ..health });
    let _leases = [pick(&table), pick(&table)];
    assert!(is_full(&table));
}

#[test]
fn connections_of_older_processes_take_room_until_they_end() {
    let table = limited(PolicyKind::LeastConnected, 2, 1);
    set_elsewhere(&table, at(1), 2);
    assert!(is_full(&table));
    let mut waiting = Waiting::of(&table, 1);
    set_elsewhere(&table, at(1), 1);
    waiting.given().expect("one has ended there");
}

#[test]
fn what_was_kept_on_a_destination_that_takes_no_more_clients_is_given_back() {
    let table = limited(PolicyKind::LeastConnected, 1, 1);
    let lease = pick(&table);
    let mut waiting = Waiting::of(&table, 1);
    drop(lease);
    judge(&table, 1, Verdict::Down);
    assert!(waiting.is_to_pick_again());
    assert_eq!(table.connections(), 0);
}

proptest! {
    /// Whatever happens in whatever order, limits hold, nobody waits while there is room, and counts return.
    #[test]
    fn no_limit_is_passed_and_nobody_waits_for_room_that_there_is(
        policy in prop::sample::select(vec![
            PolicyKind::LeastConnected, PolicyKind::RoundRobin, PolicyKind::Random, PolicyKind::First,
            PolicyKind::Source
        ]),
        limit in 1usize..3,
        full in prop::option::of(1usize..12),
        steps in prop::collection::vec((0u8..8, 0usize..20), 1..80),
    ) {
        let table = limited(policy, limit, 3);
        let ramp = full.map(|full| Ramp { least: 1, full });
        table.configure(PoolSettings { ramp, ..settings(limit, None) });
        let (mut leases, mut waiting): (Vec<Lease>, Vec<Waiting>) = (Vec::new(), Vec::new());
        for (step, which) in steps {
            match step {
                0..=3 => {
                    let client_number = which as u32;
                    match table.pick(client(client_number), &mut Tried::default(), Instant::now()) {
                        Pick::Leased(lease) => leases.push(lease),
                        Pick::Full => leases.extend(comes(&table, client_number, &mut waiting)),
                        Pick::Wait | Pick::Nothing => {}
                    }
                }
                4 if !leases.is_empty() => drop(leases.swap_remove(which % leases.len())),
                5 if !waiting.is_empty() => drop(waiting.swap_remove(which % waiting.len())),
                6 => judge(&table, 1 + (which % 3) as u16, [Verdict::Ready, Verdict::Spare, Verdict::Down][which % 7 % 3]),
                _ if !leases.is_empty() => {
                    leases.swap_remove(which % leases.len()).failed(Instant::now());
                }
                _ => {}
            }
            waiting.retain_mut(|it| {
                if it.woken.swap(0, Ordering::Relaxed) == 0 {
                    return true;
                }
                match it.ticket.claim(Instant::now()) {
                    Turn::Leased(lease) => leases.push(lease),
                    Turn::PickAgain => {}
                    Turn::Wait => panic!("woken for nothing"),
                }
                false
            });
            let rows = table.snapshot();
            for row in &rows {
                // Those of a verdict before may be more.
                prop_assert!(row.connections <= limit, "{:?}", row);
                prop_assert_eq!(row.connections, leases.iter().filter(|lease| lease.id() == row.id).count());
            }
            prop_assert_eq!(table.waiting(), waiting.len());
            // One that comes is a part of the load, and may make room by that.
            if policy != PolicyKind::Source && !waiting.is_empty() && ramp.is_none() {
                prop_assert!(is_full(&table), "there is room, and {} wait", waiting.len());
            }
        }
        drop((waiting, leases));
        prop_assert_eq!((table.connections(), table.waiting()), (0, 0));
    }
}
