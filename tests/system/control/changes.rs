//! Adding, weighing, draining and removing destinations.

use std::io::Write;
use std::net::{Ipv6Addr, TcpStream};

use crate::harness::{Daemon, Glbd, Server, names_of, read_line, said_goodbye, servers, wait_until};

/// So many clients that stay, each served.
fn clients(glbd: &Glbd, count: usize) -> Vec<TcpStream> {
    let clients: Vec<TcpStream> = (0..count).map(|_| glbd.connect()).collect();
    assert!(names_of(&clients).iter().all(|name| !name.is_empty()));
    clients
}

#[test]
fn a_destination_comes_changes_drains_and_goes_by_ipv4_ipv6_and_name() {
    let ipv4 = Server::named("a");
    let ipv6 = Server::serving_at(Ipv6Addr::LOCALHOST, |mut stream| {
        if stream.write_all(b"a\n").is_ok() {
            servers::echo(stream);
        }
    });
    for (written, address) in [
        (ipv4.to_string(), ipv4.address()),
        (ipv6.to_string(), ipv6.address()),
        (format!("localhost:{}", ipv4.address().port()), ipv4.address()),
        (format!("LocalHost:{}", ipv4.address().port()), ipv4.address()),
    ] {
        let glbd = Glbd::start([""; 0]);
        glbd.change(&written);
        assert_eq!(glbd.info().row(address).weight, 1.0, "{written} without a weight");
        let client = glbd.connect();
        assert_eq!(read_line(&client).expect("a name"), "a", "{written}");

        glbd.change(format!("{written}:0.25"));
        let info = glbd.info();
        assert_eq!((info.rows.len(), info.row(address).weight, info.row(address).conns), (1, 0.25, 1), "{written}");

        glbd.change(format!("{written}:0"));
        assert_eq!((glbd.info().row(address).weight, glbd.info().row(address).usage), (0.0, 1.0), "{written}");

        glbd.change(format!("{written}:-1"));
        assert_eq!((glbd.info().rows.len(), glbd.info().total), (0, 0), "{written}");
        said_goodbye(&client);
    }
}

#[test]
fn a_destination_that_was_named_is_known_by_its_address_too_and_the_other_way_round() {
    let glbd = Glbd::start(["localhost:1"]);
    glbd.change("127.0.0.1:1:2");
    glbd.change("localhost:1:3");
    let info = glbd.info();
    assert_eq!((info.rows.len(), info.row("127.0.0.1:1").weight), (1, 3.0));
    glbd.change("127.0.0.1:1:-1");
    glbd.change("127.0.0.1:2");
    glbd.change("localhost:2:-1");
    assert_eq!(glbd.info().rows.len(), 0);
}

#[test]
fn every_weight_that_makes_sense_is_taken() {
    let glbd = Glbd::start([""; 0]);
    for (written, weight) in [
        ("1", 1.0),
        ("0.75", 0.75),
        ("1e2", 100.0),
        (".5", 0.5),
        ("1000000", 1e6),
        ("0", 0.0),
        ("-0", 0.0),
        ("0.001", 0.001),
    ] {
        glbd.change("127.0.0.1:1");
        glbd.change(format!("127.0.0.1:1:{written}  \t"));
        assert_eq!(glbd.info().rows[0].weight, weight, "{written}");
    }
    for negative in ["-1", "-0.5", "-1e9"] {
        glbd.change("127.0.0.1:1");
        glbd.change(format!("127.0.0.1:1:{negative}"));
        assert_eq!(glbd.info().rows.len(), 0, "{negative}");
    }
}

#[test]
fn a_drained_destination_keeps_its_clients_and_gets_no_new_ones() {
    let [drained, other] = ["drained", "other"].map(Server::named);
    let glbd = Glbd::builder().args(["-t", "4"]).destinations([&drained, &other]).start();
    let early = clients(&glbd, 8);
    glbd.change(drained.weighted(0.0));
    assert_eq!(names_of(&(0..8).map(|_| glbd.connect()).collect::<Vec<_>>()), ["other"; 8]);
    for mut client in &early {
        client.write_all(b"still there\n").expect("an open connection");
        assert_eq!(read_line(client).expect("an echo"), "still there");
    }
    assert_eq!(glbd.info().row(&drained).conns, 4);
    glbd.change(drained.weighted(5.0));
    assert_eq!(names_of(&(0..8).map(|_| glbd.connect()).collect::<Vec<_>>()), ["drained"; 8]);
}

#[test]
fn a_removal_closes_the_connections_on_all_workers_and_then_the_counts_are_right() {
    let [removed, other] = ["removed", "other"].map(Server::named);
    let glbd = Glbd::builder().args(["-t", "4"]).destinations([&removed, &other]).start();
    let clients: Vec<TcpStream> = (0..40).map(|_| glbd.connect()).collect();
    let names = names_of(&clients);
    assert_eq!((glbd.info().row(&removed).conns, glbd.info().row(&other).conns), (20, 20));

    glbd.change(removed.weighted(-1.0));
    let (cut, kept): (Vec<_>, Vec<_>) = clients.iter().zip(&names).partition(|(_, name)| *name == "removed");
    assert_eq!((cut.len(), kept.len()), (20, 20));
    for (client, _) in cut {
        said_goodbye(client);
    }
    wait_until("the removed server is left alone", || removed.open() == 0);
    for (mut client, _) in kept {
        client.write_all(b"still there\n").expect("an open connection");
        assert_eq!(read_line(client).expect("an echo"), "still there");
    }
    let info = glbd.info();
    assert_eq!((info.rows.len(), info.row(&other).conns, info.total), (1, 20, 20));
    assert_eq!(glbd.stats().open, 20);

    glbd.change(&removed);
    let info = glbd.info();
    assert_eq!((info.row(&removed).conns, info.total), (0, 20), "added again");
    drop(clients);
    wait_until("all have left", || glbd.info().total == 0);
    assert!(glbd.info().rows.iter().all(|row| row.conns == 0));
    assert_eq!(glbd.stats().open, 0);
}

#[test]
fn changes_may_be_said_in_words_and_an_address_needs_no_port() {
    let glbd = Glbd::start(["127.0.0.1:1:0.5"]);
    let port = glbd.address().port();
    for line in
        ["add 127.0.0.2", "127.0.0.3", "add 127.0.0.4:7:3", "127.0.0.1:1 2", "drain 127.0.0.2", "remove 127.0.0.3"]
    {
        glbd.change(line);
    }
    let rows: Vec<_> = glbd.info().rows.into_iter().map(|row| (row.address, row.weight)).collect();
    let at = |address: &str, weight| (address.to_owned(), weight);
    assert_eq!(rows, [at("127.0.0.1:1", 2.0), at(&format!("127.0.0.2:{port}"), 0.0), at("127.0.0.4:7", 3.0)]);
    let own = glbd.control("127.0.0.1");
    assert_eq!(own, format!("Error: 127.0.0.1:{port}: this daemon listens there itself\n"));
}

#[test]
fn what_is_refused_is_told_in_one_line_with_the_reason() {
    let glbd = Glbd::start(["127.0.0.1:1:0.5"]);
    for (line, reason) in [
        ("nonsense", "'nonsense' is neither a command nor HOST:PORT[:WEIGHT]; try help"),
        ("127.0.0.1:", "'127.0.0.1:': '' is not a port (1 to 65535)"),
        ("127.0.0.1:0:1", "'127.0.0.1:0:1': '0' is not a port (1 to 65535)"),
        ("127.0.0.1:65536", "'127.0.0.1:65536': '65536' is not a port (1 to 65535)"),
        ("127.0.0.1:http:1", "'127.0.0.1:http:1': 'http' is not a port (1 to 65535)"),
        ("127.0.0.1:1:heavy", "'127.0.0.1:1:heavy': 'heavy' is not a weight (a finite number)"),
        ("127.0.0.1:1:nan", "'127.0.0.1:1:nan': 'nan' is not a weight (a finite number)"),
        ("127.0.0.1:1:-inf", "'127.0.0.1:1:-inf': '-inf' is not a weight (a finite number)"),
        ("127.0.0.1:1:1:1", "'127.0.0.1:1:1:1': '1:1' is not a weight (a finite number)"),
        ("127.0.0.1:1:1 2", "'127.0.0.1:1:1 2': expected HOST:PORT:WEIGHT"),
        ("127.0.0.256:1:1", "'127.0.0.256:1:1': '127.0.0.256' is not an IP address"),
        ("::1:3306:1", "'::1:3306:1': an IPv6 address must stand in brackets"),
        ("[::1:3306", "'[::1:3306': '[' without ']'"),
        ("0.0.0.0:1", "'0.0.0.0:1': not an address that can be connected to"),
        (":3306:1", "':3306:1': the host is empty"),
        ("no host:1", "'no host:1' is neither a command nor HOST:PORT[:WEIGHT]; try help"),
        ("127.0.0.1:2:0", "127.0.0.1:2: no such destination"),
        ("127.0.0.1:2:-1", "127.0.0.1:2: no such destination"),
        ("[::1]:1:-1", "[::1]:1: no such destination"),
        ("help me", "'help me' is neither a command nor HOST:PORT[:WEIGHT]; try help"),
    ] {
        assert_eq!(glbd.control(line), format!("Error: {reason}\n"), "{line}");
    }
    let rows = glbd.info().rows;
    assert_eq!((rows.len(), rows[0].weight), (1, 0.5), "the table is as it was");
}

#[test]
fn a_long_error_is_told_in_short() {
    let glbd = Glbd::start([""; 0]);
    let answer = glbd.control(&"y".repeat(4000));
    assert!(answer.starts_with("Error: 'yyyy") && answer.len() < 250 && answer.lines().count() == 1, "{answer}");
}

#[test]
fn its_own_listening_address_is_refused() {
    for everywhere in [false, true] {
        let builder = Glbd::builder();
        let glbd = if everywhere { builder.listen_everywhere() } else { builder }.start();
        let port = glbd.address().port();
        let mut own = vec![format!("127.0.0.1:{port}"), format!("127.0.0.1:{port}:2"), format!("localhost:{port}:1")];
        if everywhere {
            own.extend([format!("127.0.0.2:{port}"), format!("[::1]:{port}")]);
        }
        for destination in own {
            let answer = glbd.control(&destination);
            assert!(
                answer.starts_with("Error: ") && answer.ends_with("this daemon listens there itself\n"),
                "{answer}"
            );
        }
        assert_eq!(glbd.info().rows.len(), 0);
        // The same port of another machine is no loop.
        glbd.change(format!("192.0.2.1:{port}"));
    }
}

#[test]
fn a_mistyped_port_in_a_change_of_weight_adds_nothing() {
    let glbd = Glbd::start(["127.0.0.1:1:2"]);
    for line in
        ["weight 127.0.0.1:2:3", "weight 127.0.0.1:2 3", "weight no-such-name.invalid:1:3", "enable 127.0.0.1:2"]
    {
        let answer = glbd.control(line);
        assert!(answer.starts_with("Error: ") && answer.ends_with(": no such destination\n"), "{line}: {answer}");
    }
    assert_eq!(glbd.info().rows.len(), 1);
    assert_eq!(glbd.control("weight 127.0.0.1:1:3\nWeight 127.0.0.1:1 0.5"), "Ok\nOk\n");
    assert_eq!(glbd.info().rows[0].weight, 0.5);
}

#[test]
fn a_drained_destination_remembers_its_weight() {
    let glbd = Glbd::start(["127.0.0.1:1:2"]);
    let weight = || glbd.info().rows[0].weight;
    for drained in ["drain 127.0.0.1:1", "127.0.0.1:1:0", "weight 127.0.0.1:1:0"] {
        assert_eq!(glbd.control(&format!("{drained}\n{drained}")), "Ok\nOk\n");
        assert_eq!(weight(), 0.0);
        assert_eq!(glbd.control("enable 127.0.0.1:1"), "Ok\n");
        assert_eq!(weight(), 2.0, "{drained}");
    }
    // Where it takes clients already, nothing changes.
    assert_eq!(glbd.control("enable 127.0.0.1:1"), "Ok\n");
    assert_eq!(weight(), 2.0);
    glbd.change("127.0.0.1:1:-1");
    glbd.change("127.0.0.1:1:1");
    glbd.change("127.0.0.1:1:0");
    assert_eq!(glbd.control("enable 127.0.0.1:1"), "Ok\n");
    assert_eq!(weight(), 1.0, "what it was before it was removed is forgotten");
}

#[test]
fn the_weight_of_a_drained_destination_is_known_after_an_upgrade_and_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path().join("state").display().to_string();
    let daemon = Daemon::started(&["--user", "root", "--state", &state, "127.0.0.1:1:2"]);
    assert_eq!(daemon.control("drain 127.0.0.1:1"), "Ok\n");
    daemon.upgrade();
    assert_eq!(daemon.control("enable 127.0.0.1:1\ndrain 127.0.0.1:1"), "Ok\nOk\n");
    drop(daemon);
    let glbd = Glbd::builder().args(["--state", &state]).destinations(["127.0.0.1:1:2"]).start();
    assert_eq!(glbd.info().rows[0].weight, 0.0);
    assert_eq!(glbd.control("enable 127.0.0.1:1"), "Ok\n");
    assert_eq!(glbd.info().rows[0].weight, 2.0);
}
