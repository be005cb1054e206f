//! Names with IPv4 and IPv6 addresses, and IPv6 addresses with a zone.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::process::Command;

use super::{Hosts, OFTEN, addresses, named};
use crate::harness::net::alone_in_a_network;
use crate::harness::{Glbd, Server, free_port, names_of, read_line, wait_until};

#[test]
fn of_a_name_with_both_kinds_of_addresses_those_are_taken_that_are_preferred() {
    let port = free_port();
    let hosts = Hosts::new("127.0.0.2 db\n::1 db\n127.0.0.3 old\n");
    let names = ["db", "old"].map(|name| format!("{name}:{port}"));
    let (four, six, old) = (format!("127.0.0.2:{port}"), format!("[::1]:{port}"), format!("127.0.0.3:{port}"));
    for (options, expected) in [(&[][..], &four), (&["--prefer", "ipv4"], &four), (&["--prefer", "ipv6"], &six)] {
        for all in [&[][..], &["--resolve-all"]] {
            let glbd = hosts.glbd(&[options, all].concat(), &names);
            assert_eq!(addresses(&glbd), [expected.clone(), old.clone()], "{options:?} {all:?}");
            // At run time, too.
            glbd.change(format!("db:{}", port + 1));
            assert_eq!(addresses(&glbd)[2], expected.replace(&format!(":{port}"), &format!(":{}", port + 1)));
        }
    }
}

/// As `localhost` often does, where the server listens on one of its addresses only.
#[test]
fn of_a_name_with_both_kinds_of_addresses_the_other_one_is_taken_if_all_of_one_refuse() {
    let port = free_port();
    let hosts = Hosts::new("127.0.0.2 db\n127.0.0.3 db\n::1 db\n");
    let (four, six) = (format!("127.0.0.2:{port}"), format!("[::1]:{port}"));
    let db = [format!("db:{port}")];
    let at_six = || Server::named_at("six", SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
    let mut server = at_six();
    let glbd = hosts.glbd(&OFTEN, &db);
    assert_eq!(addresses(&glbd), std::slice::from_ref(&six));
    let held = glbd.connect();
    assert_eq!(names_of(&[glbd.connect()]), ["six"]);
    // One that serves is kept to, though the other kind is preferred.
    let other = named(2, port);
    glbd.change(format!("db:{port}:2"));
    wait_until("it has been resolved again", || server.accepted() > 0 && glbd.info().row(&six).weight == 2.0);
    assert_eq!(names_of(&[glbd.connect()]), ["six"]);
    server.stop();
    // That is found out by a client.
    wait_until("the other address serves", || {
        let client = glbd.connect();
        read_line(&client).is_ok_and(|name| name == "2")
    });
    assert_eq!(addresses(&glbd), std::slice::from_ref(&four));
    glbd.wait_for_log(&format!("is at {four} now, no longer at {six}"));
    drop((held, other));

    // At run time, and with all addresses.
    let _server = at_six();
    assert_eq!(glbd.control(&format!("db:{port}:-1\ndb:{port}")), "Ok\nOk\n");
    assert_eq!(addresses(&glbd), std::slice::from_ref(&six));
    assert_eq!(addresses(&hosts.glbd(&["--resolve-all"], &db)), [six]);
}

/// With a check, it is the check that finds out.
#[test]
fn a_destination_that_is_down_is_looked_for_at_the_other_kind_of_address_of_its_name() {
    let port = free_port();
    let hosts = Hosts::new("127.0.0.2 db\n::1 db\n");
    let mut server = named(2, port);
    let options = ["-w", "tcp", "-i", "0.1", "--fall", "1", "--rise", "1"];
    let glbd = hosts.glbd(&[&OFTEN[..], &options].concat(), &[format!("db:{port}")]);
    glbd.wait_for_log(" READY");
    assert_eq!(addresses(&glbd), [format!("127.0.0.2:{port}")]);
    server.stop();
    let _other = Server::named_at("six", SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
    glbd.wait_for_log(&format!("destination [::1]:{port} READY"));
    assert_eq!(names_of(&[glbd.connect()]), ["six"]);
}

#[test]
fn a_link_local_address_is_taken_with_its_interface() {
    alone_in_a_network(|| {
        let ip = |arguments: &str| {
            let done = Command::new("ip").args(arguments.split(' ')).status();
            assert!(done.expect("ip, from Debian's package iproute2").success(), "ip {arguments}");
        };
        ip("link add db0 type veth peer name other");
        ip("link set other up");
        ip("link set db0 up");
        ip("addr add fe80::7/64 dev db0 nodad");
        let port = free_port();
        let index = nix::net::if_::if_nametoindex("db0").expect("an interface");
        let address = SocketAddrV6::new("fe80::7".parse().expect("an address"), port, 0, index);
        let _server = Server::named_at("db", address.into());
        let written = format!("[fe80::7%db0]:{port}");
        let state = tempfile::tempdir().expect("a temporary directory");
        let state = state.path().join("state");
        let start = || Glbd::builder().args(["--state", &state.display().to_string()]).destinations([&written]).start();
        let glbd = start();
        assert_eq!(addresses(&glbd), [address.to_string()]);
        assert_eq!(names_of(&[glbd.connect()]), ["db"]);
        assert_eq!(glbd.control(&format!("{written}:2")), "Ok\n");
        // As it is shown.
        assert_eq!(glbd.control(&format!("{address}:3")), "Ok\n");
        assert_eq!(glbd.info().rows[0].weight, 3.0);
        drop(glbd);
        assert_eq!(start().info().rows[0].weight, 3.0);
        let error = "Error: '[fe80::7]:1': a link-local address needs its interface: [fe80::7%eth0]\n";
        assert_eq!(start().control("[fe80::7]:1"), error);
        // One whose interface is not there yet is as a name that does not resolve yet.
        let absent = format!("[fe80::7%db1]:{port}");
        let glbd = Glbd::builder().args(OFTEN).destinations([&absent]).start();
        let watch = glbd.control("getwatch");
        assert!(watch.contains(&format!("{absent} ")) && watch.contains(" UNRESOLVED "), "{watch}");
        // Nor is it where it was: another interface may have the number.
        let other_state = tempfile::tempdir().expect("a temporary directory");
        let keeping = ["--state".to_owned(), other_state.path().join("state").display().to_string()];
        let start = || Glbd::builder().args(&keeping).destinations([&written]).start();
        assert_eq!(start().control(&format!("{written}:2")), "Ok\n");
        ip("link set db0 down");
        ip("link set db0 name db9");
        assert_eq!(addresses(&start()), [""; 0]);
        ip("link set db9 name db0");
        ip("link set db0 down");
        ip("link set db0 name db1");
        ip("link set db1 up");
        ip("addr replace fe80::7/64 dev db1 nodad");
        wait_until("it is there", || addresses(&glbd) == [address.to_string()]);
        wait_until("it serves", || read_line(&glbd.connect()).is_ok_and(|name| name == "db"));
    });
}

/// What accepts there is this daemon.
#[test]
fn of_a_name_with_this_daemons_own_address_the_others_are_taken() {
    let port = free_port();
    let hosts = Hosts::new("127.0.0.8 both\n::1 both\n127.0.0.8 several\n127.0.0.9 several\n");
    let _servers = [Server::named_at("six", SocketAddr::from((Ipv6Addr::LOCALHOST, port))), named(9, port)];
    for (name, serves) in [("both", "six"), ("several", "9")] {
        for options in [&[][..], &["--resolve-all"]] {
            let glbd = Glbd::builder().wrapped_by(hosts.wrapper()).args(options.iter().copied());
            let glbd = glbd.listen_on(Ipv4Addr::new(127, 0, 0, 8)).listen_on_port(port);
            let glbd = glbd.destinations([format!("{name}:{port}")]).start();
            assert_eq!(names_of(&[glbd.connect()]), [serves], "{name} {options:?}");
        }
    }
}
