//! Host names as destinations, whose addresses change while glbd runs.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use tempfile::TempDir;

use crate::harness::{Glbd, Server, echoes, free_port, names_of, read_line, wait_until, with_mounted};

/// What the system knows of names, for one glbd.
struct Hosts(TempDir);

impl Hosts {
    fn new(text: &str) -> Self {
        let hosts = Self(tempfile::tempdir().expect("a temporary directory"));
        fs::write(hosts.0.path().join("nsswitch.conf"), "hosts: files\n").expect("a file");
        hosts.say(text);
        hosts
    }

    /// From now on, these names are known: `ADDRESS NAME`, a line each.
    fn say(&self, text: &str) {
        // Into the same file: another one of this name would not be the mounted one.
        fs::write(self.0.path().join("hosts"), text).expect("a file");
    }

    fn glbd(&self, arguments: &[&str], destinations: &[String]) -> Glbd {
        let [hosts, nsswitch] = ["hosts", "nsswitch.conf"].map(|name| self.0.path().join(name));
        let wrapper = with_mounted(&[(&hosts, "/etc/hosts"), (&nsswitch, "/etc/nsswitch.conf")]);
        Glbd::builder().wrapped_by(wrapper).args(arguments).destinations(destinations).start()
    }
}

const OFTEN: [&str; 2] = ["--resolve", "0.1"];

fn named(host: u8, port: u16) -> Server {
    Server::named_at(&host.to_string(), SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), port)))
}

fn addresses(glbd: &Glbd) -> Vec<String> {
    glbd.info().rows.iter().map(|row| row.address.clone()).collect()
}

#[test]
fn a_name_that_moves_takes_new_connections_along_and_the_old_ones_go_on() {
    let port = free_port();
    let _servers = [named(2, port), named(3, port)];
    let hosts = Hosts::new("127.0.0.2 db\n");
    let glbd = hosts.glbd(&OFTEN, &[format!("db:{port}:2")]);
    let old = glbd.connect();
    assert_eq!(read_line(&old).expect("a name"), "2");
    hosts.say("127.0.0.3 db\n");
    glbd.wait_for_log(&format!("destination db:{port} is at 127.0.0.3:{port} now, no longer at 127.0.0.2:{port}"));
    assert_eq!(read_line(&glbd.connect()).expect("a name"), "3");
    assert!(echoes(&old), "the old connection goes on");
    assert_eq!(addresses(&glbd), [format!("127.0.0.3:{port}")]);
    assert_eq!(glbd.info().rows[0].weight, 2.0);
}

#[test]
fn an_address_that_the_name_still_has_is_kept_whatever_the_order() {
    let port = free_port();
    let hosts = Hosts::new("127.0.0.2 db\n127.0.0.3 db\n");
    let glbd = hosts.glbd(&OFTEN, &[format!("db:{port}"), format!("other:{port}")][..1]);
    let before = addresses(&glbd);
    hosts.say("127.0.0.3 db\n127.0.0.2 db\n127.0.0.9 marker\n");
    glbd.change(format!("marker:{port}"));
    hosts.say("127.0.0.3 db\n127.0.0.2 db\n127.0.0.8 marker\n");
    glbd.wait_for_log(&format!("destination marker:{port} is at 127.0.0.8:{port} now"));
    assert_eq!(addresses(&glbd)[..1], before[..], "a round has passed, and it did not move");
}

#[test]
fn a_name_that_does_not_resolve_any_more_changes_nothing_and_is_told_once() {
    let port = free_port();
    let _server = named(2, port);
    let hosts = Hosts::new("127.0.0.2 db\n127.0.0.4 marker\n");
    let glbd = hosts.glbd(&OFTEN, &[format!("db:{port}"), format!("marker:{port}:0")]);
    hosts.say("127.0.0.5 marker\n");
    glbd.wait_for_log(&format!("destination marker:{port} is at 127.0.0.5:{port} now"));
    glbd.wait_for_log(&format!("destination db:{port}: "));
    hosts.say("127.0.0.6 marker\n");
    glbd.wait_for_log(&format!("destination marker:{port} is at 127.0.0.6:{port} now"));
    assert_eq!(read_line(&glbd.connect()).expect("a name"), "2");
    assert_eq!(glbd.log().matches(&format!("destination db:{port}: ")).count(), 1, "{}", glbd.log());
}

#[test]
fn a_name_does_not_move_to_where_another_destination_is() {
    let port = free_port();
    let hosts = Hosts::new("127.0.0.2 db\n");
    let glbd = hosts.glbd(&OFTEN, &[format!("db:{port}"), format!("127.0.0.3:{port}")]);
    hosts.say("127.0.0.3 db\n");
    glbd.wait_for_log(&format!("it is 127.0.0.3:{port} now, where another destination is; it stays at 127.0.0.2"));
    assert_eq!(addresses(&glbd), [format!("127.0.0.2:{port}"), format!("127.0.0.3:{port}")]);
}

#[test]
fn without_resolving_again_a_name_stays_where_it_was() {
    let port = free_port();
    let hosts = Hosts::new("127.0.0.2 db\n");
    let names_threads = |glbd: &Glbd| glbd.threads().iter().filter(|name| *name == "names").count();
    assert_eq!(names_threads(&hosts.glbd(&["--resolve", "0"], &[format!("db:{port}")])), 0);
    assert_eq!(names_threads(&hosts.glbd(&[], &[format!("db:{port}")])), 1);
}

#[test]
fn a_name_taken_whole_is_as_many_destinations_as_it_has_addresses_over_time() {
    let port = free_port();
    let _servers = [named(2, port), named(3, port), named(4, port)];
    let hosts = Hosts::new("127.0.0.2 db\n127.0.0.3 db\n");
    let glbd = hosts.glbd(&["--resolve", "0.1", "--resolve-all"], &[format!("db:{port}:2")]);
    assert_eq!(names_of(&[glbd.connect(), glbd.connect()]), ["2", "3"]);
    hosts.say("127.0.0.3 db\n127.0.0.4 db\n");
    wait_until("the old address is gone, the new one there", || {
        addresses(&glbd) == [3, 4].map(|host| format!("127.0.0.{host}:{port}"))
    });
    assert_eq!(glbd.info().rows[1].weight, 2.0, "the weight of the name");
    hosts.say("127.0.0.2 db\n");
    wait_until("only one is left", || addresses(&glbd) == [format!("127.0.0.2:{port}")]);
}

#[test]
fn an_address_that_its_name_no_longer_has_serves_its_clients_to_the_end_and_takes_no_new_ones() {
    let port = free_port();
    let _servers = [named(2, port), named(3, port)];
    let hosts = Hosts::new("127.0.0.2 db\n127.0.0.3 db\n");
    let glbd = hosts.glbd(&["--resolve", "0.1", "--resolve-all"], &[format!("db:{port}")]);
    let held = [glbd.connect(), glbd.connect()];
    assert_eq!(names_of(&held), ["2", "3"]);
    hosts.say("127.0.0.3 db\n");
    glbd.wait_for_log("the name no longer has the address 127.0.0.2");
    let more: Vec<_> = (0..4).map(|_| glbd.connect()).collect();
    assert_eq!(names_of(&more), ["3", "3", "3", "3"]);
    assert!(echoes(&held[0]));
    drop(held);
    wait_until("it is gone", || addresses(&glbd) == [format!("127.0.0.3:{port}")]);
}

#[test]
fn a_change_of_a_name_taken_whole_is_one_of_all_its_destinations() {
    let port = free_port();
    let hosts = Hosts::new("127.0.0.2 db\n127.0.0.3 db\n");
    let glbd = hosts.glbd(&["--resolve-all"], &[]);
    for weight in [1.0, 3.0, 0.0] {
        glbd.change(format!("db:{port}:{weight}"));
        assert_eq!(glbd.info().rows.iter().map(|row| row.weight).collect::<Vec<_>>(), [weight, weight]);
    }
    glbd.change(format!("db:{port}:-1"));
    assert_eq!(addresses(&glbd).len(), 0);
}

#[test]
fn an_address_removed_by_hand_does_not_come_back_with_its_name() {
    let port = free_port();
    let hosts = Hosts::new("127.0.0.2 db\n127.0.0.3 db\n");
    let glbd = hosts.glbd(&["--resolve", "0.1", "--resolve-all"], &[format!("db:{port}")]);
    glbd.change(format!("127.0.0.2:{port}:-1"));
    hosts.say("127.0.0.2 db\n127.0.0.3 db\n127.0.0.4 db\n");
    wait_until("another address is there", || addresses(&glbd).len() == 2);
    assert_eq!(addresses(&glbd), [3, 4].map(|host| format!("127.0.0.{host}:{port}")));
}

/// What is refused where it is written as an address is not reached through a name either: glbd would connect to itself.
#[test]
fn addresses_to_which_nothing_can_be_connected_are_passed_over_and_told() {
    let port = free_port();
    for useless in ["0.0.0.0", "::", "224.0.0.1", "::ffff:0.0.0.0", "255.255.255.255"] {
        let _server = named(2, port);
        let hosts = Hosts::new("127.0.0.2 db\n");
        let passed_over = format!("db:{port}: its address {} is passed over", useless.trim_start_matches("::ffff:"));
        let glbd = hosts.glbd(&OFTEN, &[format!("db:{port}")]);
        hosts.say(&format!("{useless} db\n"));
        glbd.wait_for_log(&passed_over);
        glbd.wait_for_log("the name has no address that can be connected to");
        assert_eq!(addresses(&glbd), [format!("127.0.0.2:{port}")], "it stays where it is");
        hosts.say(&format!("{useless} db\n{useless} other\n127.0.0.2 db\n127.0.0.3 other\n"));
        glbd.change(format!("other:{port}"));
        assert_eq!(addresses(&glbd), [2, 3].map(|host| format!("127.0.0.{host}:{port}")));
        let answer = {
            hosts.say(&format!("{useless} third\n"));
            glbd.control(&format!("third:{port}:1"))
        };
        assert!(answer.starts_with(&format!("Error: third:{port}: the name has no address that can be")), "{answer}");
        assert_eq!(names_of(&[glbd.connect()]).len(), 1);
    }
}

#[test]
fn an_ipv4_address_in_ipv6s_clothes_is_an_ipv4_address() {
    let port = free_port();
    let _server = named(2, port);
    let hosts = Hosts::new("::ffff:127.0.0.2 db\n");
    let glbd = hosts.glbd(&OFTEN, &[format!("db:{port}")]);
    assert_eq!(addresses(&glbd), [format!("127.0.0.2:{port}")]);
    // Its own, which it must not connect to.
    hosts.say(&format!("::ffff:{} db\n", glbd.address().ip()));
    let own = glbd.address();
    let answer = glbd.control(&format!("db:{}:1", own.port()));
    assert!(answer.contains("this daemon listens there itself"), "{answer}");
}
