//! RabbitMQ: nodes that take so many connections each, and are told who their clients are.

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Instant;

use super::balancer::Opinion::{Down, Up};
use super::node::{Announced, HANGS, Node};
use super::scene::{Ending, Scene, client, clients, counts, ending, order, play_with_both, served_by, waits};
use crate::harness::{echoes, reset, wait_until};

/// As many connections each node takes, at the port where there is a limit.
const MOST: usize = 40;

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 100], port))
}

fn nodes() -> [Node; 3] {
    [1, 2, 3].map(|number: u8| {
        let ports = [(5672, Announced::Yes), (1883, Announced::Yes), (15672, Announced::No)];
        Node::new(&number.to_string(), [10, 0, 0, 20 + number], &ports)
    })
}

/// A client that is served, and the number of its node.
fn served(number: u8, port: u16) -> (String, TcpStream) {
    let client = client(number, at(port));
    (node_of(&client), client)
}

/// As many clients as the nodes take.
fn full() -> Vec<(String, TcpStream)> {
    (0..3 * MOST).map(|number| served(number as u8, 5672)).collect()
}

/// Clients that find all nodes full, in this order.
fn waiting(scene: &Scene, count: u8) -> Vec<TcpStream> {
    let come = |number: u8| {
        let client = client(200 + number, at(5672));
        wait_until_queued(scene, usize::from(number));
        client
    };
    (1..=count).map(come).collect()
}

fn wait_until_queued(scene: &Scene, count: usize) {
    wait_until(&format!("{count} wait in the queue"), || scene.balancer.queued("amqp") == count);
}

/// Ends the connection of a client of this node.
fn make_room(held: &mut Vec<(String, TcpStream)>, node: &str) {
    let position = held.iter().position(|(name, _)| name == node).expect("a client of it");
    held.swap_remove(position);
}

/// The number of the node that serves it.
fn node_of(client: &TcpStream) -> String {
    served_by(client).split(' ').next().expect("a name").to_owned()
}

#[test]
fn nodes_are_told_the_address_of_each_client() {
    play_with_both("rabbitmq", nodes, |scene, _nodes| {
        for (port, version) in [(5672, "v2"), (1883, "v1")] {
            let told = (1..=6).map(|number| {
                let client = client(number, at(port));
                let (answer, from) = (served_by(&client), client.local_addr().expect("an address"));
                answer.split_once(' ').expect("a header").1 == format!("{version} {from} {}", at(port))
            });
            scene.note("told its address and where it has connected to", told.collect::<Vec<bool>>());
        }
        scene.note("without a header where none is sent", served_by(&client(1, at(15672))).len());
    });
}

#[test]
fn nodes_have_their_turns_or_the_fewest() {
    play_with_both("rabbitmq", nodes, |scene, nodes| {
        let turns: Vec<_> = (0..9).map(|number| served(number, 5672)).collect();
        let mut turns = order(&turns);
        // Nothing says who is the first.
        let first = turns.iter().position(|name| *name == "1").expect("a client of the first");
        turns.rotate_left(first);
        scene.note("turns", turns);
        let mut fewest: Vec<_> = (0..9).map(|number| served(number, 1883)).collect();
        scene.note("fewest", counts(&fewest));
        fewest.retain(|(name, _)| name != "3");
        wait_until("those of node 3 have left", || nodes[2].open(1883) == 0);
        fewest.extend((0..3).map(|number| served(number, 1883)));
        scene.note("those who come go where some have left", counts(&fewest));
    });
}

#[test]
fn clients_of_full_nodes_wait_and_the_one_that_came_first_is_served_first() {
    play_with_both("rabbitmq", nodes, |scene, mut nodes| {
        let mut held = full();
        scene.note("all are full", counts(&held));
        let mut waiting = waiting(scene, 3);
        for node in ["2", "3"] {
            make_room(&mut held, node);
            let first = waiting.remove(0);
            scene.note("the first has the place", node_of(&first));
            scene.note("others wait", waiting.iter().all(waits));
            held.push((node.to_owned(), first));
        }
        nodes[0].stop(5672);
        scene.wait_for("amqp", &nodes[0], 5672, Down);
        held.retain(|(name, client)| name != "1" || echoes(client));
        scene.note("a node is gone, and the last one waits on", (counts(&held), waits(&waiting[0])));
        nodes[0].start(5672);
        scene.note("it is back", node_of(&waiting[0]));
    });
}

#[test]
fn a_client_that_leaves_the_queue_is_passed_over_and_one_that_has_said_all_is_served() {
    play_with_both("rabbitmq", nodes, |scene, _nodes| {
        let mut held = full();
        let mut waiting = waiting(scene, 4);
        drop(waiting.remove(1));
        reset(waiting.remove(1));
        waiting[1].shutdown(Shutdown::Write).expect("an open connection");
        for client in &waiting {
            make_room(&mut held, "1");
            scene.note("who is left is served by", node_of(client));
        }
    });
}

#[test]
fn clients_that_wait_while_the_last_node_goes_down_are_turned_away_in_the_end() {
    play_with_both("rabbitmq", nodes, |scene, mut nodes| {
        let held = full();
        let waiting = waiting(scene, 2);
        nodes.iter_mut().for_each(|node| node.stop(5672));
        scene.note("those that are served end with their nodes", held.iter().all(|(_, client)| !echoes(client)));
        scene.note("those that wait are served by", waiting.iter().map(served_by).collect::<Vec<String>>());
    });
}

#[test]
fn a_client_that_waits_for_too_long_is_turned_away() {
    play_with_both("rabbitmq", nodes, |scene, _nodes| {
        let held = full();
        let begun = Instant::now();
        let waits = client(250, at(5672));
        scene.differs("how, after it has said something", ending(&waits), Ending::Clean, Ending::Reset);
        let waited = begun.elapsed().as_secs_f64();
        assert!((19.9..30.0).contains(&waited), "{}: {waited} s", scene.balancer.name());
        scene.note("others are served as before", held.iter().all(|(_, client)| echoes(client)));
    });
}

#[test]
fn a_node_that_accepts_and_does_not_speak_amqp_gets_no_clients() {
    play_with_both("rabbitmq", nodes, |scene, nodes| {
        let mut held: Vec<_> = (1..=3).map(|number| served(number, 5672)).collect();
        nodes[1].say(HANGS);
        scene.wait_for("amqp", &nodes[1], 5672, Down);
        scene.note("those that it has stay", held.iter().filter(|(_, client)| echoes(client)).count());
        held.extend((4..=7).map(|number| served(number, 5672)));
        scene.note("new ones go to the others", counts(&held[3..]));
        scene.note(
            "where only the port is tried it serves",
            counts(&(1..=6).map(|number| served(number, 1883)).collect::<Vec<_>>()),
        );
        nodes[1].say(200);
        scene.wait_for("amqp", &nodes[1], 5672, Up);
        held.extend((8..=10).map(|number| served(number, 5672)));
        scene.note("it serves again", counts(&held[7..]));
    });
}

#[test]
fn each_browser_has_its_own_node_while_that_is_there() {
    play_with_both("rabbitmq", nodes, |scene, nodes| {
        let before = clients(20, at(15672));
        scene.note("all three serve", counts(&before).len());
        scene.note("the same again", order(&before) == order(&clients(20, at(15672))));
        nodes[1].say(503);
        scene.wait_for("management", &nodes[1], 15672, Down);
        let without = clients(20, at(15672));
        scene.note("none goes to the one that is down", counts(&without).contains_key("2"));
        nodes[1].say(200);
        scene.wait_for("management", &nodes[1], 15672, Up);
        scene.note("they come back", order(&before) == order(&clients(20, at(15672))));
    });
}
