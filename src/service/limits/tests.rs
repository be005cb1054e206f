use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::config::Config;

/// The limits of a service with these options.
fn options(words: &[&str]) -> LimitOptions {
    let words = ["glbd", "1"].iter().chain(words).map(|word| (*word).to_owned());
    Config::from_command_line(words).expect("a command line").services.remove(0).limits
}

fn limits(words: &[&str]) -> ServiceLimits {
    ServiceLimits::new(&options(words), None)
}

fn client(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, number).into()
}

/// A client connects.
fn connect(limits: &ServiceLimits, number: u8, now: Instant) -> Result<Place, ClientRefused> {
    let reservation = limits.reserve(now).unwrap_or_else(|wait| panic!("it waits: {wait:?}"));
    limits.admit(reservation, client(number), now).map(|permit| permit.place)
}

fn refusal(limits: &ServiceLimits, number: u8, now: Instant) -> Option<ClientRefused> {
    connect(limits, number, now).err()
}

#[test]
fn without_limits_everybody_is_admitted_and_no_table_is_made() {
    let limits = limits(&[]);
    let now = Instant::now();
    let places: Vec<_> = (0..200).map(|_| connect(&limits, 1, now).unwrap_or_else(|_| panic!("no limit"))).collect();
    assert_eq!(places.len(), 200);
    assert!(limits.counts.sources.get().is_none());
}

#[test]
fn the_most_connections_are_waited_for_and_a_client_that_leaves_wakes_the_workers() {
    let (limits, now) = (limits(&["--service-max-connections=2"]), Instant::now());
    let woken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&woken);
    limits.wake_by(move || _ = counted.fetch_add(1, Ordering::Relaxed));
    let places = [connect(&limits, 1, now), connect(&limits, 1, now)];
    assert_eq!(limits.reserve(now).err(), Some(MustWait::UntilWoken(Limit::Connections(2))));
    assert_eq!(woken.load(Ordering::Relaxed), 0);
    drop(places);
    assert_eq!(woken.load(Ordering::Relaxed), 1, "once for all that leave");
    // A reservation that is not used is given back.
    (0..9).for_each(|_| drop(limits.reserve(now)));
    assert_eq!(refusal(&limits, 1, now), None);
}

#[test]
fn the_most_connections_may_have_others_reset() {
    let (limits, now) = (limits(&["--service-max-connections=1", "--over-limit=reset"]), Instant::now());
    let place = connect(&limits, 1, now);
    assert_eq!(refusal(&limits, 2, now), Some(ClientRefused::Over(Limit::Connections(1))));
    drop(place);
    assert_eq!(refusal(&limits, 2, now), None);
}

#[test]
fn a_rate_is_waited_for_until_a_moment_or_has_others_reset() {
    let now = Instant::now() + Duration::from_secs(1);
    let waiting = limits(&["--connection-rate=2"]);
    (0..2).for_each(|_| assert_eq!(refusal(&waiting, 1, now), None));
    let Err(MustWait::Until(at, limit)) = waiting.reserve(now) else { panic!("it is over the rate") };
    assert_eq!((at, limit), (now + Duration::from_millis(500), Limit::Rate(2)));
    assert!(waiting.reserve(at).is_ok());
    let resetting = limits(&["--connection-rate=1", "--over-limit=reset"]);
    assert_eq!(refusal(&resetting, 1, now), None);
    assert_eq!(refusal(&resetting, 1, now), Some(ClientRefused::Over(Limit::Rate(1))));
}

#[test]
fn clients_that_are_refused_take_nothing_from_the_others() {
    for over_limit in ["--over-limit=wait", "--over-limit=reset"] {
        let service = ["--service-max-connections=2", "--connection-rate=2", over_limit];
        let source = ["--deny=10.0.0.9", "--max-connections-per-source=1"];
        let (limits, now) = (limits(&[&service[..], &source].concat()), Instant::now());
        let _first = connect(&limits, 1, now);
        for _ in 0..9 {
            assert_eq!(refusal(&limits, 9, now), Some(ClientRefused::Denied));
            assert_eq!(refusal(&limits, 1, now), Some(ClientRefused::Over(Limit::SourceConnections(1))));
        }
        assert_eq!(refusal(&limits, 2, now), None, "{over_limit}");
    }
}

#[test]
fn a_service_that_replaces_another_has_its_connections() {
    let now = Instant::now();
    let before = limits(&["--service-max-connections=9", "--max-connections-per-source=9"]);
    let places = [1, 1, 2].map(|number| connect(&before, number, now));
    let after = options(&["--service-max-connections=4", "--max-connections-per-source=2"]);
    let after = ServiceLimits::new(&after, Some(&before));
    assert_eq!(refusal(&after, 1, now), Some(ClientRefused::Over(Limit::SourceConnections(2))));
    let _last = connect(&after, 2, now);
    assert!(after.reserve(now).is_err());
    drop(places);
    assert_eq!(refusal(&after, 1, now), None);
    let without = ServiceLimits::new(&options(&[]), Some(&after));
    let places = [(); 20].map(|()| connect(&without, 1, now));
    assert!(places.iter().all(Result::is_ok));
    assert!(after.reserve(now).is_err(), "they count if there is a limit again");
}

#[test]
fn the_log_names_the_limit() {
    let told = [Limit::Connections(1), Limit::Rate(2), Limit::SourceConnections(3), Limit::SourceRate(1)];
    let expected = [
        "1 connection",
        "2 connections a second",
        "3 connections from one source",
        "1 connection a second from one source",
    ];
    assert_eq!(told.map(|limit| limit.to_string()), expected);
}
