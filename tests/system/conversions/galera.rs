//! The usual configuration for Galera: three nodes with clustercheck, least connected.

use std::net::SocketAddr;
use std::time::Duration;

use super::balancer::Opinion::{Down, Up};
use super::node::{Announced, HANGS, Node};
use super::scene::{Ending, client, clients, counts, ending, play_with_both, served_by};
use crate::harness::{echoes, wait_until};

const SECTION: &str = "galera_cluster";

fn address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 100], 3306))
}

fn nodes() -> [Node; 3] {
    [1, 2, 3].map(|number: u8| {
        Node::new(&number.to_string(), [10, 0, 0, number], &[(3306, Announced::No), (9200, Announced::No)])
    })
}

#[test]
fn clients_go_to_the_node_with_the_fewest_and_to_none_that_is_not_synced() {
    play_with_both("galera", nodes, |scene, nodes| {
        let mut held = clients(12, address());
        scene.note("twelve clients stay", counts(&held));
        held.retain(|(name, _)| name != "2");
        wait_until("those of node 2 have left", || nodes[1].open(3306) == 0);
        held.extend(clients(4, address()));
        scene.note("four come in their place", counts(&held));

        nodes[2].say(503);
        scene.wait_for(SECTION, &nodes[2], 3306, Down);
        scene.note("those of a node that is DOWN stay", held.iter().filter(|(_, client)| echoes(client)).count());
        let more = clients(6, address());
        scene.note("six more", counts(&more));
        nodes[2].say(200);
        scene.wait_for(SECTION, &nodes[2], 3306, Up);
        scene.note("it is back, and has three fewer than the others", counts(&clients(3, address())));

        nodes[0].say(HANGS);
        nodes[1].say(500);
        nodes[..2].iter().for_each(|node| scene.wait_for(SECTION, node, 3306, Down));
        scene.note("two are down, one of which does not answer", counts(&clients(3, address())));
        nodes[2].say(404);
        scene.wait_for(SECTION, &nodes[2], 3306, Down);
        scene.note("all are down", counts(&clients(3, address())));
        nodes[0].say(200);
        scene.wait_for(SECTION, &nodes[0], 3306, Up);
        scene.note("one is back", counts(&clients(3, address())));
    });
}

#[test]
fn a_client_whose_node_refuses_goes_on_to_another() {
    play_with_both("galera", nodes, |scene, mut nodes| {
        nodes.iter().for_each(|node| scene.wait_for(SECTION, node, 3306, Up));
        let held = clients(3, address());
        nodes[0].stop(3306);
        let ends: Vec<Ending> = held.iter().filter(|(it, _)| it == "1").map(|(_, client)| ending(client)).collect();
        scene.note("a client of a server that ends has the same end", ends);
        scene.note("its page says that it is fit", scene.balancer.opinion(SECTION, nodes[0].address(3306)));
        let served = clients(6, address()).iter().filter(|(name, _)| ["2", "3"].contains(&name.as_str())).count();
        scene.note("six clients are served by the others", served);
        // HAProxy tries one other server, with luck the right one.
        nodes[1].stop(3306);
        let served = clients(3, address()).iter().filter(|(name, _)| name == "3").count();
        assert!(served == 3 || scene.is_haproxy(), "glbd tries them all: {served}");
    });
}

#[test]
fn a_node_that_redirects_is_fit_for_haproxy_and_not_for_glbd() {
    play_with_both("galera", nodes, |scene, nodes| {
        nodes.iter().for_each(|node| scene.wait_for(SECTION, node, 3306, Up));
        nodes[0].say(302);
        nodes[1].say(503);
        scene.wait_for(SECTION, &nodes[0], 3306, if scene.is_haproxy() { Up } else { Down });
        scene.wait_for(SECTION, &nodes[1], 3306, Down);
        let of_the_first = clients(6, address()).iter().filter(|(name, _)| name == "1").count();
        scene.differs("clients of the first of two", of_the_first, 3, 0);
    });
}

#[test]
fn after_fifty_seconds_of_silence_both_end_the_connection() {
    play_with_both("galera", nodes, |scene, _nodes| {
        let client = client(1, address());
        scene.note("it is served", served_by(&client) != "nobody");
        client.set_read_timeout(Some(Duration::from_secs(90))).expect("a timeout");
        let begun = std::time::Instant::now();
        scene.differs("how it ends", ending(&client), Ending::Clean, Ending::Reset);
        let passed = begun.elapsed().as_secs();
        assert!((48..70).contains(&passed), "{}: {passed} s", scene.balancer.name());
    });
}
