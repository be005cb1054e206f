//! Destinations that fail: what the clients notice of it, which should be nothing but the time it took.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};

use crate::harness::net::alone_in_a_network;
use crate::harness::{
    Glbd, Payload, Server, SilentDestination, free_port, names_of, read_line, reset, said_goodbye, wait_until,
    was_reset,
};

#[test]
fn a_destination_that_refuses_is_passed_over_unnoticed() {
    let (mut down, up) = (Server::named("down"), Server::named("up"));
    down.stop();
    let glbd = Glbd::builder().arg("--round").destinations([&down, &up]).start();
    let clients: Vec<_> = (0..10).map(|_| glbd.connect()).collect();
    assert_eq!(names_of(&clients), ["up"; 10]);
    assert_eq!(glbd.info().row(&up).conns, 10);
    assert_eq!(glbd.info().row(&down).conns, 0);
}

#[test]
fn a_client_that_finds_none_fit_waits_for_one_where_it_may() {
    let (mut down, up) = (Server::named("down"), Server::named("up"));
    down.stop();
    // Refused by all there are, and then without any.
    for destinations in [&[&down][..], &[]] {
        let glbd = Glbd::builder().args(["--wait", "60"]).destinations(destinations).start();
        let waiting: Vec<_> = (0..5).map(|_| glbd.connect()).collect();
        let mut left = glbd.connect();
        wait_until("all are in", || glbd.info().total <= 6);
        left.shutdown(Shutdown::Write).expect("a connection");
        assert_eq!(left.read(&mut [0]).expect("an end"), 0, "who has left waits no longer");
        glbd.change(&up);
        assert_eq!(names_of(&waiting), ["up"; 5]);
        assert!(!glbd.log().contains(" turned away: "), "{}", glbd.log());
        assert_eq!(glbd.info().row(&up).conns, 5);
    }
}

#[test]
fn a_client_that_has_waited_long_enough_is_turned_away() {
    let mut down = Server::named("down");
    down.stop();
    let glbd = Glbd::builder().args(["--wait", "0.3"]).destinations([&down]).start();
    let began = Instant::now();
    let mut client = glbd.connect();
    assert_eq!(client.read(&mut [0]).expect("an end"), 0);
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    glbd.wait_for_log("turned away: no destination serves it");
    wait_until("nothing is left", || glbd.info().total == 0);
}

/// Where a connection's own port happens to be the one that nobody listens on, TCP connects it to itself.
#[test]
fn a_destination_that_is_down_is_not_mistaken_for_the_daemon_itself() {
    alone_in_a_network(|| {
        let glbd = Glbd::start(["127.0.0.1:40000"]);
        // The kernel chooses an even one of these, which is the destination's.
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40001").expect("this namespace's own range");
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        client.bind(&SocketAddr::from(([127, 0, 0, 1], 50_000)).into()).expect("a port");
        client.connect(&glbd.address().into()).expect("glbd listens");
        let mut client = TcpStream::from(client);
        let _ = client.write_all(b"is anybody there?\n");
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        assert_eq!(String::from_utf8_lossy(&answer), "", "from nobody but the daemon itself");
        glbd.wait_for_log("127.0.0.1:40000 cannot be reached: nobody listens there");
    });
}

#[test]
fn a_destination_without_a_route_is_passed_over() {
    alone_in_a_network(|| {
        let up = Server::named("up");
        let glbd = Glbd::builder()
            .args(["--round", "--connect-timeout", "60"])
            .destinations(["[2001:db8::1]:9", &up.to_string()])
            .start();
        let clients: Vec<_> = (0..4).map(|_| glbd.connect()).collect();
        assert_eq!(names_of(&clients), ["up"; 4]);
    });
}

/// A glbd that tries a silent destination for a second, and then this server.
fn with_a_silent_one_ahead_of(up: &Server) -> (SilentDestination, Glbd) {
    let silent = SilentDestination::start();
    let glbd = Glbd::builder()
        .args(["--single", "--connect-timeout", "1"])
        .destinations([format!("{silent}:2"), up.weighted(1.0)])
        .start();
    (silent, glbd)
}

#[test]
fn a_silent_destination_is_passed_over_after_the_connect_timeout() {
    let up = Server::echo();
    let (_silent, glbd) = with_a_silent_one_ahead_of(&up);
    let begun = Instant::now();
    let mut client = glbd.connect();
    client.write_all(b"sent before anybody could hear it\n").expect("an open connection");
    assert_eq!(read_line(&client).expect("an echo"), "sent before anybody could hear it");
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_secs(1), "the silent destination got {waited:?} only");
    assert!(waited < Duration::from_secs(4), "served after {waited:?} only");
}

#[test]
fn what_a_client_has_said_goes_to_the_destination_that_it_gets_in_the_end() {
    let (mut down, silent, up) = (Server::named("down"), SilentDestination::start(), Server::echo());
    down.stop();
    let glbd = Glbd::builder()
        .args(["--single", "--connect-timeout", "1"])
        .destinations([down.weighted(3.0), format!("{silent}:2"), up.weighted(1.0)])
        .start();
    let (client, payload) = (glbd.connect(), Payload::new(1, 20_000));
    payload.send(&client).expect("an open connection");
    client.shutdown(Shutdown::Write).expect("an open connection");
    payload.receive_to_end(&client);
}

/// The first attempt reads a little of it ahead. What the next attempt reads must not replace that.
#[test]
fn what_a_client_says_beyond_what_was_taken_before_is_added_to_it() {
    let up = Server::echo();
    let (_silent, glbd) = with_a_silent_one_ahead_of(&up);
    glbd.signal(Signal::SIGSTOP);
    let (client, payload) = (glbd.connect(), Payload::new(1, 20_000));
    payload.send(&client).expect("an open connection");
    glbd.signal(Signal::SIGCONT);
    payload.receive(&client);
}

#[test]
fn a_client_that_has_gone_before_it_is_let_in_costs_no_destination_a_connection() {
    let connections = Arc::new(AtomicUsize::new(0));
    let server = Server::serving({
        let connections = Arc::clone(&connections);
        move |mut stream| {
            connections.fetch_add(1, Ordering::SeqCst);
            stream.write_all(b"up\n").expect("an open connection");
        }
    });
    // Where all is spliced from the first byte, nothing is heard of a client before it has a destination.
    let usual = ["env", "--unset=GLBD_SPLICE"];
    let glbd = Glbd::builder().wrapped_by(usual).args(["--threads", "1"]).destinations([&server]).start();
    glbd.signal(Signal::SIGSTOP);
    let gone = glbd.connect();
    (&gone).write_all(b"too late\n").expect("an open connection");
    reset(gone);
    glbd.signal(Signal::SIGCONT);
    assert_eq!(read_line(&glbd.connect()).expect("a name"), "up");
    wait_until("all have gone", || glbd.info().total == 0);
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[test]
fn clients_that_wait_for_a_destination_go_on_to_another_when_it_is_removed() {
    let (silent, up) = (SilentDestination::start(), Server::named("up"));
    let glbd = Glbd::builder()
        .args(["--single", "--threads", "4", "--connect-timeout", "60"])
        .destinations([format!("{silent}:2"), up.weighted(1.0)])
        .start();
    let clients: Vec<_> = (0..20).map(|_| glbd.connect()).collect();
    wait_until("all are waiting", || glbd.info().row(&silent).conns == 20);
    glbd.change(format!("{silent}:-1"));
    assert_eq!(names_of(&clients), ["up"; 20]);
    assert_eq!(glbd.info().row(&up).conns, 20);
}

#[test]
fn clients_that_give_up_on_a_silent_destination_are_forgotten() {
    let silent = SilentDestination::start();
    let glbd = Glbd::builder().args(["--connect-timeout", "60"]).destinations([&silent]).start();
    let clients: Vec<_> = (0..5).map(|_| glbd.connect()).collect();
    wait_until("all are waiting", || glbd.info().total == 5);
    clients.into_iter().for_each(reset);
    wait_until("all are forgotten", || glbd.info().total == 0);
}

#[test]
fn with_all_destinations_down_clients_are_closed_at_once_and_served_at_once_when_they_are_back() {
    let mut servers = ["a", "b", "c"].map(Server::named);
    // So long an interval that nobody is served in this test because a failure was forgotten.
    let glbd = Glbd::builder().args(["--interval", "60"]).destinations(&servers).start();
    assert!(!read_line(&glbd.connect()).expect("a name").is_empty());

    servers.iter_mut().for_each(Server::stop);
    for _ in 0..10 {
        come_and_be_turned_away(&glbd);
    }
    assert_eq!(glbd.info().total, 0);

    servers.iter_mut().for_each(Server::start);
    for _ in 0..10 {
        assert!(!read_line(&glbd.connect()).expect("a name").is_empty(), "a client was turned away");
    }
}

#[test]
fn without_any_destination_clients_are_closed_at_once_and_served_when_there_is_one() {
    let glbd = Glbd::start([""; 0]);
    come_and_be_turned_away(&glbd);
    let server = Server::named("late");
    glbd.change(&server);
    assert_eq!(read_line(&glbd.connect()).expect("a name"), "late");
}

#[test]
fn a_failed_destination_is_avoided_for_the_interval_and_a_second_and_then_used_again() {
    let (mut flaky, steady) = (Server::named("flaky"), Server::named("steady"));
    flaky.stop();
    let glbd = Glbd::builder().args(["--round", "--interval", "0.5"]).destinations([&flaky, &steady]).start();
    let failed_after = Instant::now();
    for _ in 0..4 {
        assert_eq!(name_given(&glbd), "steady");
    }
    flaky.start();
    wait_until("the failed one is used again", || name_given(&glbd) == "flaky");
    let avoided = failed_after.elapsed();
    assert!(avoided >= Duration::from_millis(1500), "avoided for {avoided:?} only");
}

#[test]
fn a_connect_that_succeeds_clears_the_failure() {
    let mut servers = ["a", "b"].map(Server::named);
    let glbd = Glbd::builder().args(["--round", "--interval", "60"]).destinations(&servers).start();
    servers.iter_mut().for_each(Server::stop);
    come_and_be_turned_away(&glbd);
    servers.iter_mut().for_each(Server::start);
    // With both failed both are tried; the one that serves is then preferred until it is gone.
    let first = name_given(&glbd);
    for _ in 0..4 {
        assert_eq!(name_given(&glbd), first);
    }
    let serving = if first == "a" { 0 } else { 1 };
    servers[serving].stop();
    let second = name_given(&glbd);
    assert_ne!(second, first);
    assert!(!second.is_empty(), "a client was turned away");
}

/// Is closed at once, whether by an end or a reset.
fn come_and_be_turned_away(glbd: &Glbd) {
    let begun = Instant::now();
    match glbd.try_connect() {
        Ok(client) => assert_eq!(read_line(&client).ok().unwrap_or_default(), ""),
        Err(error) => assert!(was_reset(&error), "{error}"),
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "turned away after {:?}", begun.elapsed());
}

/// Who serves the next client.
fn name_given(glbd: &Glbd) -> String {
    read_line(&glbd.connect()).expect("a name or an end")
}

#[test]
fn a_server_that_stops_takes_only_its_own_clients_with_it() {
    let (mut leaving, staying) = (Server::named("leaving"), Server::named("staying"));
    let glbd = Glbd::start([&leaving, &staying]);
    let clients: Vec<TcpStream> = (0..10).map(|_| glbd.connect()).collect();
    let names = names_of(&clients);
    assert_eq!(names.iter().filter(|name| *name == "leaving").count(), 5);
    leaving.stop();
    let (lost, kept): (Vec<_>, Vec<_>) = clients.into_iter().zip(names).partition(|(_, name)| name == "leaving");
    for (client, _) in lost {
        said_goodbye(&client);
    }
    for (client, _) in &kept {
        (&*client).write_all(b"still there?\n").expect("an open connection");
        assert_eq!(read_line(client).expect("an echo"), "still there?");
    }
    wait_until("the lost ones are not counted", || glbd.info().row(&leaving).conns == 0);
    assert_eq!(glbd.info().row(&staying).conns, 5);
}

/// A client goes to as many others as it may, and no further.
#[test]
fn a_client_is_sent_to_so_many_other_destinations_and_no_more() {
    let last = Server::named("last");
    let dead: Vec<_> = (0..5).map(|_| format!("127.0.0.1:{}:2", free_port())).collect();
    for (retries, reaches) in [("5", true), ("4", false), ("0", false)] {
        // All of the dead ones come first.
        let glbd = Glbd::builder()
            .args(["--top", "--retries", retries, "-v"])
            .destinations(dead.iter().cloned().chain([last.weighted(1.0)]))
            .start();
        let client = glbd.connect();
        if reaches {
            assert_eq!(read_line(&client).expect("a name"), "last");
            continue;
        }
        assert!(said_goodbye(&client));
        glbd.wait_for_log("turned away: no destination serves it");
        let tried = glbd.log().matches("cannot be reached").count();
        assert_eq!(tried, retries.parse::<usize>().expect("a number") + 1, "{}", glbd.log());
    }
}

/// What one costs must not depend on how many have been tried before. (With `--source`, a pick looks at all there are.)
#[test]
fn a_client_that_tries_thousands_of_dead_destinations_costs_no_more_for_each_than_one_that_tries_hundreds() {
    for policy in [&["--round"][..], &["--random"], &["--single"], &[]] {
        let cost = |count: usize| {
            let port = free_port();
            let dead = (0..count).map(|number| format!("127.0.{}.{}:{port}", 1 + number / 250, 1 + number % 250));
            let glbd = Glbd::builder()
                .args(["--retries", "100000", "--connect-timeout", "60", "-t", "1"])
                .args(policy)
                .destinations(dead)
                .start();
            let before = glbd.cpu_time();
            assert!(said_goodbye(&glbd.connect()));
            (glbd.cpu_time() - before).as_secs_f64() / count as f64
        };
        // Once is enough: noise makes either dearer, but a cost that grows with the number never looks constant.
        let measured: Vec<_> =
            (0..5).map(|_| (cost(500), cost(8000))).take_while(|(few, many)| *many >= 2.5 * few).collect();
        assert!(measured.len() < 5, "{policy:?}: seconds each of few and of many: {measured:?}");
    }
}

#[test]
fn a_client_that_has_left_before_it_was_accepted_costs_a_destination_nothing() {
    let server = Server::named("a");
    let glbd = Glbd::builder().args(["-t", "2"]).destinations([&server]).start();
    glbd.signal(Signal::SIGSTOP);
    for number in 0..30 {
        let mut client = glbd.connect();
        match number % 3 {
            0 => drop(client),
            1 => reset(client),
            // It has said something, which is served though it does not wait for an answer.
            _ => client.write_all(b"good bye\n").expect("room in the backlog"),
        }
    }
    glbd.signal(Signal::SIGCONT);
    wait_until("all are served or gone", || glbd.stats().open == 0 && server.accepted() >= 10);
    assert_eq!(names_of(&[glbd.connect()]), ["a"]);
    assert_eq!(server.accepted(), 11);
}
