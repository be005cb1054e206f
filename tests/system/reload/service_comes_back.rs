//! A service that is dropped while it has connections, and asked for again before these have ended.

use std::net::TcpStream;

use serde_json::Value;

use crate::harness::{Server, connect_to, echoes, free_port, said_goodbye, wait_until};
use crate::services::{Site, at, served};

/// A service that stays, and one on two servers that is dropped and asked for again.
struct Returning {
    site: Site,
    servers: [Server; 3],
    ports: [u16; 3],
    /// More lines of the second service.
    more: &'static str,
}

impl Returning {
    fn start(more: &'static str) -> Self {
        let it = Self {
            site: Site::new(),
            servers: [0; 3].map(|_| Server::echo()),
            ports: [0; 3].map(|_| free_port()),
            more,
        };
        it.write("b");
        it.site.start();
        it
    }

    /// The file with the second service on this pool, of which there is none without the service.
    fn write(&self, pool: &str) {
        let [first, second, third] = self.servers.each_ref();
        let service = format!("pool = \"{pool}\"\n{}", self.more);
        self.site.write(
            &[("a", &[first], ""), (pool, &[second, third], "")],
            &[("s", self.ports[0], "pool = \"a\""), ("t", self.ports[1], &service)],
        );
    }

    fn write_without(&self) {
        self.site.write(&[("a", &[&self.servers[0]], "")], &[("s", self.ports[0], "pool = \"a\"")]);
    }

    /// The same, but that its pool stays, for another service.
    fn write_without_service(&self) {
        let [first, second, third] = self.servers.each_ref();
        self.site.write(
            &[("a", &[first], ""), ("b", &[second, third], "")],
            &[("s", self.ports[0], "pool = \"a\""), ("u", self.ports[2], "pool = \"b\"")],
        );
    }

    fn reload(&self) {
        let answer = self.site.daemon.control("reload");
        assert!(answer.ends_with("Ok\n"), "{answer}");
    }

    fn drop_and_add(&self) {
        self.write_without();
        self.reload();
        self.write("b");
        self.reload();
    }

    /// Connections of the second service: now, at most, and ever.
    fn connections(&self) -> Option<[u64; 3]> {
        let connections = &self.service()["connections"];
        Some([connections["now"].as_u64()?, connections["highest"].as_u64()?, connections["total"].as_u64()?])
    }

    /// How many of them have ended for this cause.
    fn ended(&self, cause: &str) -> u64 {
        let ended = self.service()["ended"].as_array().cloned().unwrap_or_default();
        ended.iter().find(|it| it["cause"] == cause).and_then(|it| it["count"].as_u64()).unwrap_or_default()
    }

    fn service(&self) -> Value {
        let status: Value = serde_json::from_str(&self.site.daemon.control("getinfo json")).expect("JSON");
        let services = status["services"].as_array().cloned().unwrap_or_default();
        services.into_iter().find(|it| it["name"] == "t").unwrap_or_default()
    }

    fn sessions(&self) -> [TcpStream; 2] {
        [0; 2].map(|_| served(self.ports[1]))
    }

    /// Its counters have gone on, and do so to the end of its connections. Then it begins anew.
    fn goes_on_with(&self, sessions: [TcpStream; 2], how: &str) {
        wait_until(&format!("{how}: both count"), || self.connections() == Some([2, 2, 2]));
        assert!(sessions.iter().all(echoes));
        let third = served(self.ports[1]);
        wait_until(&format!("{how}: one more counts"), || self.connections() == Some([3, 3, 3]));
        drop((sessions, third));
        wait_until(&format!("{how}: all have ended"), || {
            (self.connections(), self.ended("client")) == (Some([0, 3, 3]), 3)
        });
        self.drop_and_add();
        assert_eq!((self.connections(), self.ended("client")), (Some([0, 0, 0]), 0), "{how}");
    }
}

#[test]
fn the_counters_of_a_service_that_comes_back_go_on() {
    let it = Returning::start("");
    let sessions = it.sessions();
    it.drop_and_add();
    it.drop_and_add();
    it.goes_on_with(sessions, "with its pool");

    let sessions = it.sessions();
    it.write_without_service();
    it.reload();
    // However often the file is read in between.
    it.reload();
    it.write("b");
    it.reload();
    it.goes_on_with(sessions, "alone");

    let sessions = it.sessions();
    it.write_without();
    it.reload();
    it.write("c");
    it.reload();
    it.goes_on_with(sessions, "on another pool");
}

#[test]
fn the_counters_of_a_service_that_comes_back_go_on_where_older_processes_have_its_connections() {
    let it = Returning::start("");
    let sessions = it.sessions();
    it.site.daemon.upgrade();
    it.drop_and_add();
    it.goes_on_with(sessions, "it was there in both processes");

    let sessions = it.sessions();
    it.write_without();
    it.reload();
    it.site.daemon.upgrade();
    it.site.daemon.upgrade();
    it.write("b");
    it.reload();
    it.goes_on_with(sessions, "it was dropped before two upgrades");

    let sessions = it.sessions();
    it.write_without();
    it.site.daemon.upgrade();
    it.write("b");
    it.reload();
    it.goes_on_with(sessions, "an upgrade has dropped it");

    let sessions = it.sessions();
    it.write_without();
    it.reload();
    it.write("b");
    it.site.daemon.upgrade();
    it.goes_on_with(sessions, "an upgrade has brought it back");
}

#[test]
fn connections_from_before_count_for_the_limits_of_a_service_that_comes_back() {
    let it = Returning::start("max-connections = 2\nover-limit = \"reset\"");
    let is_served = || connect_to(at(it.ports[1])).is_ok_and(|client| echoes(&client));
    let [first, second] = it.sessions();
    it.drop_and_add();
    assert!(!is_served());
    drop(first);
    wait_until("there is room for one", is_served);
    it.site.daemon.upgrade();
    wait_until("the one that has come has ended", || it.connections().is_some_and(|[now, ..]| now == 1));
    let third = served(it.ports[1]);
    it.drop_and_add();
    assert!(!is_served(), "one is the older process's");
    drop((second, third));
    wait_until("there is room", is_served);
}

#[test]
fn the_writer_of_a_service_that_comes_back_stays_and_a_move_closes_the_sessions_from_before() {
    let it = Returning::start("policy = \"single\"");
    let [first, second] = [1, 2].map(|number| it.servers[number].to_string());
    for alone in [true, false] {
        let session = served(it.ports[1]);
        let writer = it.service()["writer"].as_str().map(str::to_owned);
        if alone {
            it.write_without_service()
        } else {
            it.write_without()
        }
        it.reload();
        it.write("b");
        it.reload();
        assert_eq!(it.service()["writer"].as_str().map(str::to_owned), writer);
        assert!(echoes(&session));
        let other = if writer.as_ref() == Some(&first) { &second } else { &first };
        assert_eq!(it.site.daemon.control(&format!("writer t/{other} 0")), "Ok\n");
        assert!(!said_goodbye(&session), "it was reset");
    }
}

#[test]
fn how_connections_are_logged_is_as_the_file_says_when_a_service_comes_back() {
    let it = Returning::start("");
    let _sessions = it.sessions();
    let before = it.site.daemon.control("connlog");
    assert_eq!(it.site.daemon.control("connlog t json"), "Ok\n");
    assert_ne!(it.site.daemon.control("connlog"), before);
    it.drop_and_add();
    assert_eq!(it.site.daemon.control("connlog"), before);
}

#[test]
fn connections_from_before_are_found_by_the_name_of_a_service_that_comes_back() {
    let it = Returning::start("");
    let sessions = it.sessions();
    it.drop_and_add();
    let found = || it.site.daemon.control("getconns t");
    assert!(found().ends_with("Connections: 2\n"), "{}", found());
    let (text, mut gone) = (found(), 0);
    for id in text.lines().filter(|line| line.contains(" t ")).filter_map(|line| line.split(' ').next()) {
        assert_eq!(it.site.daemon.control(&format!("kick {id}")), "1 connection closed\nOk\n");
        gone += 1;
        wait_until("it is gone", || found().ends_with(&format!("Connections: {}\n", 2 - gone)));
    }
    assert!(!sessions.iter().any(echoes));
    assert_eq!(it.ended("kicked"), 2);
}
