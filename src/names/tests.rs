//! Names of several pools, looked up by a resolver that says what a test wants.

use std::net::Ipv4Addr;
use std::sync::Weak;
use std::thread;
use std::time::Instant;

use super::*;
use crate::address::{Endpoint, Host, PeerAddress, parse_destination};
use crate::pool::PoolSettings;
use crate::pool::health::Reason;

const OFTEN: Option<Duration> = Some(Duration::from_millis(20));
/// Most names that are looked up at once.
const ALL: usize = 32;
const WITHIN: Duration = Duration::from_secs(20);

fn pool(names: &[&str]) -> Pool {
    let pool = Pool::new(PoolSettings { avoid_failed_for: WITHIN, watched: false, ..PoolSettings::default() });
    for name in names {
        pool.expect(&endpoint(name), 1.0, Reason::new("not asked yet")).expect("there is room");
    }
    pool
}

fn endpoint(name: &str) -> Endpoint {
    parse_destination(&format!("{name}:1"), None).expect("a name").endpoint
}

/// Names that begin so hang for ever, or have two addresses, or none; others have one.
fn look_up(endpoint: &Endpoint, _: Option<PeerAddress>) -> io::Result<Vec<PeerAddress>> {
    let Host::Name(name) = &endpoint.host else { return Err(io::ErrorKind::InvalidInput.into()) };
    while name.starts_with("hangs") {
        thread::park();
    }
    let count = match &name[..3] {
        "two" => 2,
        "non" => return Err(io::ErrorKind::NotFound.into()),
        _ => 1,
    };
    Ok((1..=count).map(|host| (Ipv4Addr::new(127, 0, 0, host), 1).into()).collect())
}

fn handle() -> Handle {
    Handle::with_resolver(OwnAddresses::default(), Resolver::for_pools(look_up))
}

fn settings(pool: &Pool, interval: Option<Duration>, all: bool) -> Settings {
    Settings { pool: pool.clone(), interval, all }
}

fn has_thread(handle: &Handle) -> bool {
    handle.thread.0.lock().messages.is_some()
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < WITHIN, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn addresses(pool: &Pool, name: &str) -> usize {
    pool.addresses_of(&endpoint(name)).len()
}

#[test]
fn names_that_hang_in_some_pools_do_not_keep_those_of_others_from_being_looked_up() {
    let many: Vec<String> = (0..300).map(|number| format!("hangs{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let handle = handle();
    let hanging = [pool(&many), pool(&many), pool(&many)];
    for pool in &hanging {
        handle.follow(settings(pool, OFTEN, false)).expect("a thread");
    }
    wait_until("they are looked up", || handle.resolver.free() < ALL / 4);
    let good = pool(&["one", "other", "third", "fourth", "fifth"]);
    handle.follow(settings(&good, OFTEN, false)).expect("a thread");
    wait_until("the other pool's names resolve", || good.unresolved().is_empty());
}

#[test]
fn one_pool_alone_has_no_more_than_its_part_looked_up() {
    let many: Vec<String> = (0..100).map(|number| format!("hangs{number}")).collect();
    let (handle, pool) = (handle(), pool(&many.iter().map(String::as_str).collect::<Vec<_>>()));
    handle.follow(settings(&pool, OFTEN, false)).expect("a thread");
    wait_until("half of all", || handle.resolver.free() == ALL / 2);
    thread::sleep(Duration::from_millis(50));
    assert_eq!(handle.resolver.free(), ALL / 2);
}

/// Whether this still holds a pool.
fn watch_drop(pool: &Pool) -> Weak<()> {
    let token = Arc::new(());
    let dropped = Arc::downgrade(&token);
    pool.subscribe(Box::new(move |_| drop(Arc::clone(&token))));
    dropped
}

#[test]
fn a_pool_that_is_forgotten_is_freed_though_a_name_of_its_hangs_and_the_others_are_followed() {
    let (handle, forgotten, other) = (handle(), pool(&["hangs", "one"]), pool(&["none"]));
    for pool in [&forgotten, &other] {
        handle.follow(settings(pool, OFTEN, false)).expect("a thread");
    }
    wait_until("it is followed", || addresses(&forgotten, "one") == 1);
    let alive = watch_drop(&forgotten);
    handle.forget(&forgotten);
    drop(forgotten);
    wait_until("it is freed", || alive.upgrade().is_none());
    other.expect(&endpoint("late"), 1.0, Reason::new("not asked yet")).expect("there is room");
    wait_until("it resolves", || addresses(&other, "late") == 1);
}

#[test]
fn there_is_a_thread_only_while_there_may_be_something_to_resolve() {
    let (handle, resolved, unresolved) = (handle(), pool(&[]), pool(&["hangs", "one"]));
    handle.follow(settings(&resolved, None, false)).expect("no thread");
    assert!(!has_thread(&handle));
    handle.forget(&resolved);
    handle.follow(settings(&unresolved, None, false)).expect("a thread");
    assert!(has_thread(&handle));
    handle.forget(&unresolved);
    wait_until("it ends", || !has_thread(&handle));
    handle.follow(settings(&resolved, OFTEN, false)).expect("a thread");
    assert!(has_thread(&handle), "another one");
    handle.follow(settings(&resolved, None, false)).expect("a thread");
    wait_until("nothing is left to be done", || !has_thread(&handle));
    handle.follow(settings(&unresolved, OFTEN, false)).expect("a thread");
    wait_until("it is followed", || addresses(&unresolved, "one") == 1);
}

#[test]
fn a_thread_ends_and_lets_go_of_its_pools_when_its_handle_is_dropped() {
    let (handle, pool) = (handle(), pool(&["one"]));
    let alive = watch_drop(&pool);
    handle.follow(settings(&pool, OFTEN, false)).expect("a thread");
    drop((handle, pool));
    wait_until("it is freed", || alive.upgrade().is_none());
}

#[test]
fn a_pool_is_followed_in_another_way_at_once() {
    let (handle, pool) = (handle(), pool(&["two"]));
    let long = Some(Duration::from_secs(3600));
    handle.follow(settings(&pool, long, false)).expect("a thread");
    wait_until("it resolves", || addresses(&pool, "two") == 1);
    handle.follow(settings(&pool, long, true)).expect("a thread");
    wait_until("all its addresses are there", || addresses(&pool, "two") == 2);
}
