//! A writer's port with backups and a reader's, the sessions of which end with their node.

use std::net::{SocketAddr, TcpStream};

use super::balancer::Opinion::{Down, Up};
use super::node::{Announced, HANGS, Node};
use super::scene::{Ending, Scene, clients, counts, ending, play_with_both, waits};
use crate::harness::{echoes, wait_until};

fn writer() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 100], 3306))
}

fn reader() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 100], 3307))
}

fn nodes() -> [Node; 3] {
    [1, 2, 3].map(|number: u8| {
        Node::new(&number.to_string(), [10, 0, 0, number], &[(3306, Announced::No), (9200, Announced::No)])
    })
}

/// Waits until both sections know that a node is down.
fn both_down(scene: &Scene, node: &Node) {
    ["writer", "reader"].iter().for_each(|section| scene.wait_for(section, node, 3306, Down));
}

fn both_up(scene: &Scene, node: &Node) {
    ["writer", "reader"].iter().for_each(|section| scene.wait_for(section, node, 3306, Up));
}

/// Takes those of a node away, and says how they end.
fn endings_of(clients: &mut Vec<(String, TcpStream)>, node: &str) -> Vec<Ending> {
    let (gone, stay) = std::mem::take(clients).into_iter().partition(|(name, _)| name == node);
    *clients = stay;
    let gone: Vec<(String, TcpStream)> = gone;
    endings(&gone)
}

/// Waits for the end of each connection.
fn endings(clients: &[(String, TcpStream)]) -> Vec<Ending> {
    clients.iter().map(|(_, client)| ending(client)).collect()
}

fn all_echo(clients: &[(String, TcpStream)]) -> bool {
    clients.iter().all(|(_, client)| echoes(client))
}

#[test]
fn writers_have_one_node_at_a_time_and_readers_all_by_weight() {
    play_with_both("writer-reader", nodes, |scene, nodes| {
        nodes.iter().for_each(|node| both_up(scene, node));
        let (mut writers, mut readers) = (clients(6, writer()), clients(10, reader()));
        scene.note("writers", counts(&writers));
        scene.note("readers", counts(&readers));

        nodes[0].say(503);
        both_down(scene, &nodes[0]);
        scene.note("writers of the node that is down are closed", endings_of(&mut writers, "1").len());
        scene.note("so are its readers", endings_of(&mut readers, "1").len());
        scene.note("the other readers stay", all_echo(&readers));
        writers = clients(4, writer());
        scene.note("writers go to the first backup", counts(&writers));
        readers.extend(clients(4, reader()));
        scene.note("readers go to the others", counts(&readers));

        nodes[1].say(HANGS);
        both_down(scene, &nodes[1]);
        scene.note("a backup that hangs loses its sessions as well", endings_of(&mut writers, "2").len());
        scene.note("so do its readers", endings_of(&mut readers, "2").len());
        writers = clients(4, writer());
        scene.note("writers go to the second backup", counts(&writers));

        nodes[0].say(200);
        both_up(scene, &nodes[0]);
        scene.note("the first is back, and the backup's writers are closed", endings_of(&mut writers, "3").len());
        scene.note("but not its readers", all_echo(&readers));
        scene.note("writers go to the first again", counts(&clients(4, writer())));
        scene.note("so do readers, of whom it has none", counts(&clients(2, reader())));

        let last = [clients(1, writer()), clients(1, reader())].into_iter().flatten().collect::<Vec<_>>();
        nodes[0].say(503);
        nodes[2].say(503);
        [&nodes[0], &nodes[2]].into_iter().for_each(|node| both_down(scene, node));
        endings(&last);
        scene.note("none is left", [counts(&clients(2, writer())), counts(&clients(2, reader()))]);
    });
}

#[test]
fn a_backup_that_takes_over_from_another_closes_the_others_sessions_with_glbd_only() {
    play_with_both("writer-reader", nodes, |scene, nodes| {
        nodes[..2].iter().for_each(|node| node.say(503));
        nodes[..2].iter().for_each(|node| both_down(scene, node));
        let held = clients(2, writer());
        scene.note("writers of the second backup", counts(&held));
        nodes[1].say(200);
        both_up(scene, &nodes[1]);
        scene.note("new ones", counts(&clients(2, writer())));
        if !scene.is_haproxy() {
            endings(&held);
        }
        scene.differs("how many stay", held.iter().filter(|(_, client)| echoes(client)).count(), 2, 0);
    });
}

#[test]
fn how_the_sessions_of_a_node_end_that_is_down() {
    play_with_both("writer-reader", nodes, |scene, nodes| {
        nodes.iter().for_each(|node| both_up(scene, node));
        let held = clients(1, writer());
        nodes[0].say(503);
        scene.differs("what a client sees", ending(&held[0].1), Ending::Clean, Ending::Reset);
        wait_until("nothing is left at the node", || nodes[0].open(3306) == 0);
        assert!(!waits(&held[0].1));
    });
}
