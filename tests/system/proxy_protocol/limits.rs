//! The limits of a service whose clients come through a proxy.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use super::programs::haproxy;
use super::{binary, version_1, version_2};
use crate::harness::{Glbd, Server, connect_from, echoes, free_port, read_line, said_goodbye, wait_until, was_reset};
use crate::services::{Site, at};

const VERSIONS: [&str; 2] = ["send-proxy", "send-proxy-v2"];
const PROXY: [u8; 4] = [127, 0, 0, 1];
const OTHER_PROXY: [u8; 4] = [127, 0, 0, 2];

/// A glbd with two workers and these options, whose clients from 127.0.0.1 and 127.0.0.2 are proxies.
fn start(server: &Server, options: &[&str]) -> Glbd {
    let proxies = "--accept-proxy=127.0.0.1,127.0.0.2";
    Glbd::builder().args(["--threads", "2", proxies]).args(options).destinations([server]).start()
}

/// The header of a client with this address.
fn header(client: [u8; 4]) -> Vec<u8> {
    version_1((client, 50_000).into(), ([198, 51, 100, 1], 3306).into())
}

/// A connection from this address that begins with this. A reset may come before connect(2) returns, or before it is said.
fn try_say(glbd: &Glbd, source: [u8; 4], bytes: &[u8]) -> io::Result<TcpStream> {
    let mut stream = connect_from(source, glbd.address())?;
    stream.write_all(bytes)?;
    Ok(stream)
}

/// The same where it is not reset at once.
fn say(glbd: &Glbd, source: [u8; 4], bytes: &[u8]) -> TcpStream {
    try_say(glbd, source, bytes).expect("glbd accepts")
}

/// Returns true if a connection that begins with this is reset.
fn resets(glbd: &Glbd, source: [u8; 4], bytes: &[u8]) -> bool {
    try_say(glbd, source, bytes).map_or_else(|error| was_reset(&error), |stream| is_reset(&stream))
}

fn is_served(stream: &TcpStream) -> bool {
    read_line(stream).is_ok_and(|name| name == "a")
}

/// Returns true if a client with this address is served, behind the proxy.
fn serves(glbd: &Glbd, client: [u8; 4]) -> bool {
    try_say(glbd, PROXY, &header(client)).is_ok_and(|stream| is_served(&stream))
}

fn is_reset(mut stream: &TcpStream) -> bool {
    stream.read(&mut [0]).is_err_and(|error| was_reset(&error))
}

fn wait_until_empty(glbd: &Glbd, descriptors: usize) {
    wait_until("all counts are back", || glbd.info().total == 0 && glbd.descriptors() == descriptors);
}

/// A HAProxy that says to this address by this option who its clients are.
fn in_front_of(address: SocketAddr, option: &str) -> super::programs::Program {
    haproxy(Ipv4Addr::LOCALHOST.into(), &format!("listen l\n bind ADDRESS\n server s {address} {option}"))
}

#[test]
fn through_haproxy_each_client_has_its_own_limits_and_gets_its_places_back() {
    for over_limit in ["--over-limit=wait", "--over-limit=reset"] {
        for option in VERSIONS {
            let server = Server::named("a");
            let limits = ["--deny=127.0.0.66", "--max-connections-per-source=2", "--service-max-connections=20"];
            let glbd = start(&server, &[&limits[..], &[over_limit]].concat());
            let start = glbd.descriptors();
            let front = in_front_of(glbd.address(), option);
            let connect = |client: u8| connect_from([127, 0, 0, client], front.address).expect("HAProxy accepts");
            let stays = |client: u8| Some(connect(client)).filter(is_served);
            for _ in 0..2 {
                let clients: Vec<_> = (10..15).flat_map(|client| [stays(client), stays(client)]).collect();
                assert!(clients.iter().all(Option::is_some), "{over_limit} {option}");
                assert!((10..15).all(|client| stays(client).is_none()));
                assert!((0..10).all(|_| stays(66).is_none()));
                drop(clients);
                wait_until_empty(&glbd, start);
            }
            glbd.wait_for_log("client 127.0.0.66:");
            glbd.wait_for_log("reset: service main does not allow its address");
            glbd.wait_for_log("reset: service main takes no more than 2 connections from one source");
        }
    }
}

#[test]
fn through_haproxy_each_client_has_its_own_rate() {
    let server = Server::named_and_closing("a");
    let glbd = start(&server, &["--connection-rate-per-source=2"]);
    let front = in_front_of(glbd.address(), "send-proxy-v2");
    let served = |client: u8| is_served(&connect_from([127, 0, 0, client], front.address).expect("HAProxy accepts"));
    // Those of one second may come at once: of many clients, each has as many.
    let counts: Vec<usize> = (10..20).map(|client| (0..2).filter(|_| served(client)).count()).collect();
    assert_eq!(counts, [2; 10]);
    wait_until("one is over its rate", || !served(10));
    assert!(served(30));
    wait_until("it is served when it behaves", || served(10));
}

#[test]
fn a_denied_client_is_reset_after_its_header_and_takes_nothing_from_the_others() {
    for over_limit in ["--over-limit=wait", "--over-limit=reset"] {
        let server = Server::named("a");
        let glbd = start(
            &server,
            &[
                "--allow=192.0.2.0/24",
                "--deny=192.0.2.66",
                "--service-max-connections=2",
                "--connection-rate=5",
                over_limit,
            ],
        );
        let start = glbd.descriptors();
        for _ in 0..30 {
            // What is behind the header does not matter, nor that the proxy itself is not allowed.
            assert!(resets(&glbd, PROXY, &[&header([192, 0, 2, 66])[..], b"hello\n"].concat()));
            assert!(resets(&glbd, PROXY, &header([198, 51, 100, 7])));
            assert!(resets(&glbd, PROXY, b"GET / HTTP/1.0\r\n\r\n"));
        }
        assert!(serves(&glbd, [192, 0, 2, 7]), "{over_limit}");
        wait_until_empty(&glbd, start);
        assert_eq!(server.accepted(), 1);
    }
}

/// What the proxy connects for itself, and what has no address, are the proxy's own connections.
#[test]
fn a_check_of_the_proxy_counts_for_the_proxy() {
    let server = Server::named("a");
    let glbd = start(&server, &["--max-connections-per-source=1", "--deny=127.0.0.2"]);
    let local = binary(0x20, 0, &[]);
    let check = say(&glbd, PROXY, &local);
    assert!(is_served(&check));
    assert!(resets(&glbd, PROXY, &local) && resets(&glbd, PROXY, b"PROXY UNKNOWN\r\n"));
    assert!(resets(&glbd, OTHER_PROXY, &local), "it is denied itself");
    // Not so their clients, nor one that has the same address as the proxy of another.
    assert!(serves(&glbd, [192, 0, 2, 7]) && is_served(&say(&glbd, OTHER_PROXY, &header([192, 0, 2, 8]))));
    assert!(resets(&glbd, OTHER_PROXY, &header(PROXY)));
    drop(check);
    wait_until("its place is free", || is_served(&say(&glbd, OTHER_PROXY, &header(PROXY))));
}

#[test]
fn of_whoever_is_not_listed_no_header_helps_it_past_a_limit() {
    let server = Server::named("a");
    let glbd =
        start(&server, &["--allow=127.0.0.0/8,192.0.2.0/24", "--deny=127.0.0.9", "--max-connections-per-source=1"]);
    assert!(resets(&glbd, [127, 0, 0, 9], &header([192, 0, 2, 7])));
    let first = say(&glbd, [127, 0, 0, 8], &header([192, 0, 2, 7]));
    assert!(is_served(&first));
    assert!(resets(&glbd, [127, 0, 0, 8], &header([192, 0, 2, 8])));
    assert!(serves(&glbd, [192, 0, 2, 7]));
}

#[test]
fn an_ipv6_client_behind_an_ipv4_proxy_is_one_of_its_network() {
    let server = Server::named("a");
    let glbd = start(&server, &["--max-connections-per-source=1", "--deny=2001:db8:66::/48"]);
    let to = "[2001:db8::1]:3306".parse().expect("an address");
    let client = |ip: &str| SocketAddr::new(ip.parse::<IpAddr>().expect("an address"), 5);
    let header = |ip: &str| version_2(client(ip), to, &[]);
    let held = say(&glbd, PROXY, &header("2001:db8::7"));
    assert!(is_served(&held));
    assert!(["2001:db8::8", "2001:db8:66::1"].iter().all(|ip| resets(&glbd, PROXY, &header(ip))));
    assert!(is_served(&say(&glbd, PROXY, &header("2001:db8:0:1::8"))));
}

/// Room is not kept for long for those that say nothing while others wait for it.
#[test]
fn connections_that_say_nothing_leave_others_room_after_half_a_second() {
    for (limit, over_limit) in
        [("--service-max-connections=4", "wait"), ("--service-max-connections=4", "reset"), ("--max_conn=4", "wait")]
    {
        let server = Server::named("a");
        let mut options = vec![limit];
        if limit.contains("service") {
            options.extend(["--over-limit", over_limit]);
        }
        let glbd = start(&server, &options);
        let start = glbd.descriptors();
        let silent: Vec<TcpStream> =
            (0..4).map(|number| say(&glbd, PROXY, &header([192, 0, 2, 7])[..number])).collect();
        match over_limit {
            "wait" => assert!(serves(&glbd, [192, 0, 2, 7])),
            _ => wait_until("there is room again", || serves(&glbd, [192, 0, 2, 7])),
        }
        glbd.wait_for_log("reset: PROXY header late: not complete within 0.5 s, and others wait for its place;");
        assert!(silent.iter().all(is_reset));
        wait_until_empty(&glbd, start);
    }
}

#[test]
fn while_there_is_room_a_header_may_take_its_time() {
    let server = Server::named("a");
    let glbd = start(&server, &["--service-max-connections=9"]);
    let header = header([192, 0, 2, 7]);
    let mut slow = say(&glbd, PROXY, &header[..9]);
    thread::sleep(Duration::from_millis(1200));
    slow.write_all(&header[9..]).expect("an open connection");
    assert!(is_served(&slow));
    // A port check takes none of the room.
    for _ in 0..20 {
        let check = say(&glbd, PROXY, b"");
        check.shutdown(std::net::Shutdown::Write).expect("an open connection");
        assert!(said_goodbye(&check));
    }
}

/// A proxy that passes on what one client does takes nothing from its others, nor from those of another proxy.
#[test]
fn while_one_client_of_a_proxy_opens_thousands_of_connections_the_others_are_served_each_time() {
    for over_limit in ["--over-limit=wait", "--over-limit=reset"] {
        let server = Server::named("a");
        let of_a_source = ["--max-connections-per-source=20", "--connection-rate-per-source=100"];
        let of_all = ["--service-max-connections=100", "--connection-rate=1000", over_limit];
        let glbd = start(&server, &[&of_a_source[..], &of_all].concat());
        let start = glbd.descriptors();
        let attack = header([192, 0, 2, 66]);
        thread::scope(|scope| {
            let attackers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut held = Vec::new();
                        for _ in 0..500 {
                            // One that was refused is over.
                            held.extend(try_say(&glbd, PROXY, &attack));
                            if held.len() > 50 {
                                held.drain(..25);
                            }
                        }
                    })
                })
                .collect();
            let mut served = 0;
            while attackers.iter().any(|attacker| !attacker.is_finished()) || served < 100 {
                let proxy = if served % 2 == 0 { PROXY } else { OTHER_PROXY };
                let stream = try_say(&glbd, proxy, &header([192, 0, 2, 7]));
                assert!(stream.is_ok_and(|it| is_served(&it)), "{over_limit}: client {served} was not served");
                served += 1;
                // Below its own rate.
                thread::sleep(Duration::from_millis(12));
            }
        });
        glbd.wait_for_log("client 192.0.2.66:50000 reset: service main takes no more than");
        wait_until_empty(&glbd, start);
    }
}

fn reload(site: &Site) {
    assert_eq!(site.daemon.control("reload"), "service s: new connections have other limits\nOk\n");
}

#[test]
fn a_reload_and_an_upgrade_limit_the_clients_behind_haproxy_as_others() {
    let (site, server, port) = (Site::new(), Server::echo(), free_port());
    let write = |limits: &str| {
        site.write(&[("a", &[&server], "")], &[("s", port, &format!("accept-proxy = [\"127.0.0.1\"]\n{limits}"))]);
    };
    write("max-connections-per-source = 2");
    site.start();
    let front = in_front_of(at(port), "send-proxy-v2");
    let connect = |client: u8| connect_from([127, 0, 0, client], front.address).ok().filter(echoes);
    let mut clients: Vec<_> = [10, 10, 11].map(|client| connect(client).expect("it is served")).into();
    assert!(connect(10).is_none());
    // Its header is not there yet: the limits that count are those of when it comes.
    let begin = |bytes: &[u8]| {
        let mut stream = connect_from(PROXY, at(port)).expect("glbd accepts");
        stream.write_all(bytes).expect("an open connection");
        stream
    };
    let header = header([127, 0, 0, 10]);
    let [mut third, mut denied] = [begin(&header[..9]), begin(&header[..9])];
    thread::sleep(Duration::from_millis(100));
    write("max-connections-per-source = 3");
    reload(&site);
    third.write_all(&header[9..]).expect("an open connection");
    assert!(echoes(&third));
    assert!(connect(10).is_none() && connect(11).is_some());
    write("deny = [\"127.0.0.10\"]");
    reload(&site);
    denied.write_all(&header[9..]).expect("an open connection");
    assert!(is_reset(&denied));
    assert!(connect(10).is_none() && connect(11).is_some() && clients.iter().all(echoes));
    write("max-connections-per-source = 2");
    reload(&site);
    assert!(connect(10).is_none());
    site.daemon.upgrade();
    let after = [connect(12), connect(12)];
    assert!(after.iter().all(Option::is_some) && connect(10).is_none() && connect(12).is_none());
    clients.push(third);
    assert!(clients.iter().all(echoes), "an upgrade keeps connections");
    drop((clients, after));
    wait_until("all counts are back", || site.daemon.info().total == 0);
    let again = [connect(10), connect(10)];
    assert!(again.iter().all(Option::is_some) && connect(10).is_none());
}
