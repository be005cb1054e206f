//! Single settings of HAProxy: what stands in their place, where no other test has it.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use crate::harness::net::alone_in_a_network;
use crate::harness::{
    Glbd, KernelsEnd, Server, Stage, connect_from, connect_to, echoes, free_port, glbd, names_of, read_line,
    said_goodbye, wait_until,
};

fn named() -> [Server; 3] {
    ["a", "b", "c"].map(Server::named)
}

/// The names of the servers of so many clients, which come one after the other and stay.
fn held(glbd: &Glbd, count: usize) -> (Vec<TcpStream>, Vec<String>) {
    let clients: Vec<TcpStream> = (0..count).map(|_| glbd.connect()).collect();
    let names = names_of(&clients);
    (clients, names)
}

/// `server ... disabled`, and `enable server` later.
#[test]
fn a_server_of_weight_0_is_checked_and_gets_no_client_until_it_has_another_weight() {
    let [a, b, _] = named();
    let glbd = Glbd::builder().args(["-w", "tcp", "-i", "0.1"]).destinations([a.to_string(), b.weighted(0.0)]).start();
    wait_until("it is checked", || glbd.watch().row(&b).state == "READY");
    let (_clients, names) = held(&glbd, 4);
    assert_eq!(names, ["a"; 4]);
    assert_eq!(b.accepted(), 0, "a check does not let itself be accepted");
    glbd.change(b.weighted(1.0));
    assert_eq!(held(&glbd, 4).1, ["b"; 4]);
}

/// `stick on src` with `peers`.
#[test]
fn two_that_go_by_the_source_agree_without_speaking_to_each_other() {
    let [a, b, c] = named();
    let servers_of = |glbd: &Glbd| -> Vec<String> {
        let clients = (1..=60).map(|number| connect_from([127, 9, 3, number], glbd.address()).expect("glbd accepts"));
        names_of(&clients.collect::<Vec<TcpStream>>())
    };
    let [one, other] = [[&a, &b, &c], [&c, &a, &b]]
        .map(|servers| Glbd::builder().arg("--source").destinations(servers).start())
        .map(|glbd| servers_of(&glbd));
    assert_eq!(one, other, "in whatever order they have their destinations");
}

/// `option clitcpka`.
#[test]
fn clients_are_probed_for_being_alive_whatever_is_asked_for_towards_servers() {
    for options in [&[][..], &["-K"]] {
        let stage = Stage::start_with(Glbd::builder().args(options));
        let (client, _server) = stage.pair();
        let timer = || KernelsEnd::opposite(&client).map(|end| end.timer);
        wait_until("a keepalive timer runs", || timer() == Some(KernelsEnd::KEEPALIVE_TIMER));
    }
}

/// `shutdown sessions server`.
#[test]
fn a_server_that_is_removed_and_added_again_has_lost_its_sessions_and_takes_new_ones() {
    let [a, b, _] = named();
    let glbd = Glbd::start([&a, &b]);
    let (clients, names) = held(&glbd, 6);
    glbd.change(b.weighted(-1.0));
    glbd.change(b.weighted(1.0));
    for (client, name) in clients.iter().zip(&names) {
        assert!(if name == "b" { !said_goodbye(client) } else { echoes(client) }, "a client of {name}");
    }
    assert_eq!(held(&glbd, 3).1, ["b"; 3]);
}

/// The same where there is one writer.
#[test]
fn a_writer_that_is_removed_and_added_again_is_the_writer_no_more() {
    let [a, b, _] = named();
    let glbd = Glbd::builder().args(["--single", "-w", "tcp", "-i", "0.1"]).destinations([&a, &b]).start();
    let (clients, names) = held(&glbd, 2);
    assert_eq!(names, ["a"; 2]);
    glbd.change(a.weighted(-1.0));
    glbd.change(a.weighted(1.0));
    assert!(clients.iter().all(|client| !said_goodbye(client)));
    wait_until("it is READY again", || glbd.watch().row(&a).state == "READY");
    assert_eq!(held(&glbd, 2).1, ["b"; 2]);
    assert_eq!(glbd.control(&format!("writer {a}")), "Ok\n");
    assert_eq!(held(&glbd, 2).1, ["a"; 2]);
}

/// `bind` with the virtual address of two machines.
#[test]
fn an_address_that_is_not_on_the_machine_is_an_error_unless_the_kernel_takes_it() {
    alone_in_a_network(|| {
        let server = Server::named("a");
        let address = SocketAddr::from(([10, 0, 0, 100], free_port()));
        let refused = glbd::run(&[&address.to_string(), &server.to_string()]);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains(&address.to_string()) && said.contains("Cannot assign requested address"), "{said}");
        fs::write("/proc/sys/net/ipv4/ip_nonlocal_bind", "1").expect("this namespace's own setting");
        let _glbd =
            Glbd::builder().listen_on(address.ip()).listen_on_port(address.port()).destinations([&server]).start();
        let added = Command::new("ip").args(["address", "add", "10.0.0.100/32", "dev", "lo"]).status();
        assert!(added.expect("ip, from Debian's package iproute2").success());
        let client = connect_to(address).expect("glbd accepts");
        assert_eq!(read_line(&client).expect("a name"), "a");
    });
}
