//! What happens to clients behind a balancer, written down by whoever plays it, so that two accounts can be compared.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use super::balancer::{Balancer, Opinion};
use super::file;
use super::node::{Node, ask_who};
use crate::harness::net::alone_in_a_network;
use crate::harness::{connect_from, read_line, wait_until, was_reset};

/// A balancer, and what was written down.
pub struct Scene {
    pub balancer: Balancer,
    account: RefCell<Vec<String>>,
}

/// Plays a scene with HAProxy and with glbd, by the pair of files that has this name, in front of such nodes.
pub fn play_with_both(name: &str, nodes: fn() -> [Node; 3], scene: fn(&Scene, [Node; 3])) {
    play(["cfg", "toml"].map(|ending| file(name, ending)), nodes, scene);
}

/// Plays a scene with HAProxy and with glbd at the same time, each by its file, and compares the accounts line by line.
pub fn play(files: [PathBuf; 2], nodes: fn() -> [Node; 3], scene: fn(&Scene, [Node; 3])) {
    let (sender, accounts) = mpsc::channel();
    let balancers: [fn(&Path) -> Balancer; 2] = [Balancer::haproxy, Balancer::glbd];
    let players = files.into_iter().zip(balancers).map(|(file, start)| {
        let sender = sender.clone();
        thread::spawn(move || {
            alone_in_a_network(move || {
                // An address of the loopback interface makes all of its network the machine's own.
                let mut ip = Command::new("ip");
                ip.args(["address", "add", "10.0.0.100/16", "dev", "lo"]);
                assert!(ip.status().expect("ip, from Debian's package iproute2").success());
                // HAProxy takes one for down that is not there at its first check.
                let nodes = nodes();
                let it = Scene { balancer: start(&file), account: RefCell::default() };
                scene(&it, nodes);
                sender.send((it.balancer.name(), it.account.take())).expect("the test");
            });
        })
    });
    // Both have begun before one is waited for.
    let players: Vec<_> = players.collect();
    players.into_iter().for_each(|player| player.join().expect("a scene that was played to its end"));
    drop(sender);
    let accounts: BTreeMap<&str, Vec<String>> = accounts.into_iter().collect();
    assert_eq!(accounts["HAProxy"].join("\n"), accounts["glbd"].join("\n"), "{accounts:#?}");
}

impl Scene {
    /// Writes down what happened.
    pub fn note(&self, what: &str, seen: impl Debug) {
        self.account.borrow_mut().push(format!("{what}: {seen:?}"));
    }

    /// Makes sure of what is not the same with both by design.
    pub fn differs<T: Debug + PartialEq>(&self, what: &str, seen: T, with_haproxy: T, with_glbd: T) {
        let expected = if self.is_haproxy() { with_haproxy } else { with_glbd };
        assert_eq!(seen, expected, "{}: {what}", self.balancer.name());
    }

    /// Which of the two it is.
    pub fn is_haproxy(&self) -> bool {
        matches!(self.balancer, Balancer::HaProxy(..))
    }

    /// Waits until the balancer thinks so of a node in a section, by what it serves at this port.
    pub fn wait_for(&self, section: &str, node: &Node, port: u16, opinion: Opinion) {
        let server = node.address(port);
        let what = format!("{} finds {server} of {section} to be {opinion:?}", self.balancer.name());
        wait_until(&what, || self.balancer.opinion(section, server) == opinion);
    }

    /// Waits until a node has so many connections in a section, as the balancer counts them.
    pub fn wait_for_connections(&self, section: &str, node: &Node, port: u16, count: usize) {
        let server = node.address(port);
        let what = format!("{} has {count} connections with {server} in {section}", self.balancer.name());
        wait_until(&what, || self.balancer.connections(section, server) == count);
    }
}

/// A client from 10.0.1.NUMBER.
pub fn client(number: u8, address: SocketAddr) -> TcpStream {
    ask_who(connect_from([10, 0, 1, number], address).expect("the balancer accepts"))
}

/// Who serves a client from this address, which stays; nobody where it is rejected as soon as it connects.
pub fn visit(ip: [u8; 4], address: SocketAddr) -> (String, Option<TcpStream>) {
    match connect_from(ip, address).map(ask_who) {
        Ok(client) => (served_by(&client), Some(client)),
        Err(error) if was_reset(&error) => ("nobody".to_owned(), None),
        Err(error) => panic!("the balancer accepts: {error}"),
    }
}

/// Who serves a client; nobody if it was turned away.
pub fn served_by(client: &TcpStream) -> String {
    match read_line(client) {
        Ok(name) if name.is_empty() => "nobody".to_owned(),
        Ok(name) => name,
        Err(error) if was_reset(&error) => "nobody".to_owned(),
        Err(error) => panic!("neither a server's name nor an end: {error}"),
    }
}

/// Clients that stay, each from an address of its own, and who serves them.
pub fn clients(count: u8, address: SocketAddr) -> Vec<(String, TcpStream)> {
    let come = |number| {
        let client = client(number, address);
        (served_by(&client), client)
    };
    (1..=count).map(come).collect()
}

/// How many clients each server has.
pub fn counts(clients: &[(String, TcpStream)]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    clients.iter().for_each(|(name, _)| *counts.entry(name.as_str()).or_default() += 1);
    counts
}

/// Who serves each.
pub fn order(clients: &[(String, TcpStream)]) -> Vec<&str> {
    clients.iter().map(|(name, _)| name.as_str()).collect()
}

/// Whether nothing has come for a client, neither bytes nor an end.
pub fn waits(client: &TcpStream) -> bool {
    client.set_nonblocking(true).expect("O_NONBLOCK");
    let nothing = client.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    client.set_nonblocking(false).expect("O_NONBLOCK");
    nothing
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Ending {
    Clean,
    Reset,
}

/// Waits for the end of a client's connection.
pub fn ending(mut client: &TcpStream) -> Ending {
    match client.read(&mut [0]) {
        Ok(0) => Ending::Clean,
        Err(error) if was_reset(&error) => Ending::Reset,
        other => panic!("not the end: {other:?}"),
    }
}
