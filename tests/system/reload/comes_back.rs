//! A pool that is dropped while it has connections, and asked for again before these have ended.

use std::net::TcpStream;

use crate::harness::{Server, echoes, free_port, wait_until};
use crate::services::{Site, served};

/// Two pools with a service each. The second pool is dropped, in any way, and asked for again; it has a client.
struct Returning {
    site: Site,
    servers: [Server; 3],
    ports: [u16; 2],
    more: &'static str,
}

impl Returning {
    fn start(more: &'static str) -> (Self, TcpStream) {
        let (servers, ports) = ([0; 3].map(|_| Server::echo()), [0; 2].map(|_| free_port()));
        let it = Self { site: Site::new(), servers, ports, more };
        it.write_both(&it.servers[1]);
        it.site.start();
        let session = served(ports[1]);
        (it, session)
    }

    fn write_one(&self) {
        self.site.write(&[("a", &[&self.servers[0]], "")], &[("s", self.ports[0], "pool = \"a\"")]);
    }

    fn write_both(&self, destination: &Server) {
        self.site.write(
            &[("a", &[&self.servers[0]], ""), ("b", &[destination], self.more)],
            &[("s", self.ports[0], "pool = \"a\""), ("t", self.ports[1], "pool = \"b\"")],
        );
    }

    fn reload(&self) {
        let answer = self.site.daemon.control("reload");
        assert!(answer.ends_with("Ok\n"), "{answer}");
    }

    /// The rows of the second pool, as address and connections.
    fn rows(&self) -> Vec<(String, String)> {
        let rows = self.site.rows("getinfo", "Router: t, pool b");
        let words = rows.iter().map(|row| row.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        words.map(|words| (words[0].clone(), words[words.len() - 1].clone())).collect()
    }

    fn has_one_connection_that_remove_resets(&self, session: &TcpStream) {
        let destination = self.servers[1].to_string();
        wait_until("its connection is shown", || self.rows() == [(destination.clone(), "1".to_owned())]);
        assert!(echoes(session));
        // New clients count beside it.
        let second = served(self.ports[1]);
        wait_until("both are shown", || self.rows() == [(destination.clone(), "2".to_owned())]);
        assert_eq!(self.site.daemon.control(&format!("remove b/{destination}")), "Ok\n");
        wait_until("both are reset", || !echoes(session) && !echoes(&second));
        assert_eq!(self.rows(), []);
    }
}

const KINDS: [&str; 3] = ["", "watchdog = \"tcp\"\ninterval = 0.2", "resolve = 0.2"];

#[test]
fn a_pool_that_comes_back_has_the_connections_that_it_had() {
    for more in KINDS {
        let (it, session) = Returning::start(more);
        it.write_one();
        it.reload();
        // However often the file is read in between.
        it.reload();
        it.write_both(&it.servers[1]);
        it.reload();
        it.has_one_connection_that_remove_resets(&session);
    }
}

#[test]
fn a_destination_that_comes_back_is_not_said_to_be_given_more_than_once() {
    let (it, session) = Returning::start("");
    // With its pool, and alone.
    it.write_one();
    it.reload();
    it.write_both(&it.servers[1]);
    it.reload();
    it.write_both(&it.servers[2]);
    it.reload();
    it.write_both(&it.servers[1]);
    it.reload();
    assert!(echoes(&session));
    assert!(!it.site.log().contains("given more than once"), "{}", it.site.log());
}

#[test]
fn a_pool_that_comes_back_after_upgrades_has_the_connections_of_the_older_processes() {
    for (upgrades, more) in [(1, KINDS[0]), (2, KINDS[1])] {
        let (it, session) = Returning::start(more);
        it.write_one();
        it.reload();
        (0..upgrades).for_each(|_| it.site.daemon.upgrade());
        it.write_both(&it.servers[1]);
        it.reload();
        it.has_one_connection_that_remove_resets(&session);
    }
}

#[test]
fn a_pool_that_an_upgrade_brings_back_or_drops_has_the_connections_of_the_older_process() {
    let (it, session) = Returning::start("");
    it.write_one();
    it.reload();
    it.write_both(&it.servers[1]);
    it.site.daemon.upgrade();
    wait_until("its connection is shown", || it.rows().iter().any(|(_, connections)| connections == "1"));
    it.write_one();
    it.site.daemon.upgrade();
    it.write_both(&it.servers[1]);
    it.reload();
    it.has_one_connection_that_remove_resets(&session);
}

#[test]
fn what_a_pool_had_before_it_was_dropped_takes_no_new_clients_when_it_comes_back() {
    let (it, session) = Returning::start("");
    let by_hand = &it.servers[0];
    assert_eq!(it.site.daemon.control(&format!("b/{by_hand}:9")), "Ok\n");
    let on_hand = served(it.ports[1]);
    assert_eq!(by_hand.accepted(), 1);
    assert_eq!(it.site.daemon.control(&format!("remove b/{}", it.servers[2])), {
        format!("Error: b/{}: no such destination\n", it.servers[2])
    });
    it.write_one();
    it.reload();
    // Another destination than before, and none that a hand has added.
    it.write_both(&it.servers[2]);
    it.reload();
    (0..4).for_each(|_| drop(served(it.ports[1])));
    assert_eq!([0, 1, 2].map(|server| it.servers[server].accepted()), [1, 1, 4]);
    let shown = |count: usize| wait_until("as many as have connections are shown", || it.rows().len() == count);
    shown(3);
    assert!(echoes(&session) && echoes(&on_hand));
    drop(session);
    shown(2);
    drop(on_hand);
    shown(1);
}
