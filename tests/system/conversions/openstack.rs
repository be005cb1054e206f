//! An OpenStack's controllers: fourteen sections, in each of which a client has a server of its own.

use std::net::SocketAddr;

use super::balancer::Opinion::{self, Down, Up};
use super::node::{Announced, Node};
use super::scene::{Scene, clients, counts, order, play_with_both};

/// The sections, their ports, and whether a page is asked for. Galera's is another.
const SECTIONS: [(&str, u16, bool); 13] = [
    ("dashboard_cluster", 443, false),
    ("glance_api_cluster", 9292, true),
    ("glance_registry_cluster", 9191, false),
    ("keystone_admin_cluster", 35357, true),
    ("keystone_public_internal_cluster", 5000, true),
    ("nova_ec2_api_cluster", 8773, false),
    ("nova_compute_api_cluster", 8774, true),
    ("nova_metadata_api_cluster", 8775, false),
    ("cinder_api_cluster", 8776, true),
    ("ceilometer_api_cluster", 8777, false),
    ("nova_vncproxy_cluster", 6080, false),
    ("neutron_api_cluster", 9696, true),
    ("swift_proxy_cluster", 8080, false),
];

const DATABASE: &str = "galera_cluster";

/// Clients of each section.
const CLIENTS: u8 = 40;

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 11], port))
}

fn controllers() -> [Node; 3] {
    let ports: Vec<(u16, Announced)> =
        SECTIONS.iter().map(|it| it.1).chain([3306, 9200]).map(|port| (port, Announced::No)).collect();
    [1, 2, 3].map(|number: u8| Node::new(&number.to_string(), [10, 0, 0, 11 + number], &ports))
}

/// Waits until the balancer thinks so of a controller in all sections.
fn wait_for_all(scene: &Scene, controller: &Node, opinion: Opinion) {
    SECTIONS.iter().for_each(|(section, port, _)| scene.wait_for(section, controller, *port, opinion));
    scene.wait_for(DATABASE, controller, 3306, opinion);
}

/// Who serves the clients of each section.
fn servers() -> Vec<Vec<String>> {
    let servers = |port| clients(CLIENTS, at(port)).into_iter().map(|(name, _)| name).collect();
    SECTIONS.iter().map(|(_, port, _)| servers(*port)).collect()
}

#[test]
fn in_each_section_a_client_keeps_its_controller_while_that_is_there() {
    play_with_both("openstack", controllers, |scene, mut controllers| {
        let before = servers();
        let all_serve = |servers: &Vec<String>| ["1", "2", "3"].iter().all(|it| servers.iter().any(|name| name == it));
        scene.note("all three serve", before.iter().map(all_serve).collect::<Vec<bool>>());
        scene.note("the same again", servers() == before);

        // The list of an API's versions.
        controllers[0].say(300);
        controllers[1].say(503);
        for (section, port, has_page) in SECTIONS {
            let opinion = if has_page { Down } else { Up };
            scene.wait_for(section, &controllers[1], port, opinion);
        }
        let without = servers();
        let is_used = |servers: &Vec<String>| servers.iter().any(|name| name == "2");
        scene.note("is the second used", without.iter().map(is_used).collect::<Vec<bool>>());
        let mut stayed = SECTIONS.iter().zip(without.iter().zip(&before)).filter(|((.., has_page), _)| !has_page);
        scene.note("all stay where only its port is tried", stayed.all(|(_, (now, before))| now == before));
        let moved = |(now, before): (&Vec<String>, &Vec<String>)| {
            now.iter().zip(before).filter(|(now, before)| now != before && *before != "2").count()
        };
        let moved: usize = without.iter().zip(&before).map(moved).sum();
        scene.differs("do clients of the others move", moved > 0, true, false);

        controllers[0].say(200);
        controllers[1].say(200);
        wait_for_all(scene, &controllers[1], Up);
        scene.note("they come back", servers() == before);

        controllers[2].stop_all();
        wait_for_all(scene, &controllers[2], Down);
        let without = servers();
        scene.note("the third is used nowhere", without.iter().flatten().all(|name| name == "1" || name == "2"));
        controllers[2].start_all();
        wait_for_all(scene, &controllers[2], Up);
        scene.note("they come back again", servers() == before);
    });
}

#[test]
fn the_database_has_one_controller_at_a_time() {
    play_with_both("openstack", controllers, |scene, mut controllers| {
        let held = clients(CLIENTS, at(3306));
        scene.note("all go to the first", counts(&held));
        controllers[0].stop(9200);
        scene.wait_for(DATABASE, &controllers[0], 3306, Down);
        scene.note("sessions stay", held.iter().filter(|(_, client)| crate::harness::echoes(client)).count());
        scene.note("new ones go to the second", counts(&clients(CLIENTS, at(3306))));
        controllers[1].say(503);
        scene.wait_for(DATABASE, &controllers[1], 3306, Down);
        scene.note("and to the third", order(&clients(3, at(3306))));
        controllers[0].start(9200);
        scene.wait_for(DATABASE, &controllers[0], 3306, Up);
        scene.note("and to the first again", counts(&clients(CLIENTS, at(3306))));
    });
}
