//! Connections and clients: how they are asked for, and shown.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};

use super::ctl;
use crate::harness::{Daemon, Glbd, Server, connect_from, echoes, wait_until};

/// A daemon that answers each command by what `answer` says, and what it was asked.
fn pretend(answer: fn(&str) -> String) -> (Server, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let server = Server::serving(move |mut stream: &TcpStream| {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let answer = match line.as_str() {
                "quit" => return,
                "version" => "glbd 2.0.0\n".to_owned(),
                command => {
                    log.lock().expect("commands").push(command.to_owned());
                    answer(command)
                }
            };
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    (server, asked)
}

#[test]
fn connections_are_asked_for_as_said_and_shown_in_a_table() {
    let (daemon, asked) = pretend(|_| {
        "{\"id\":\"7.0.3\",\"service\":\"main\",\"client\":\"10.0.0.9:40000\",\"via\":null,\"local\":\"10.0.0.5:51234\",\
         \"destination\":\"10.0.0.1:3306\",\"state\":\"connected\",\"age\":12.3,\"idle\":0.5,\"bytes_in\":1,\
         \"bytes_out\":2000,\"attempts\":1}\n"
            .into()
    });
    let text = ctl(
        &daemon,
        "conns --service main --client 10.0.0.0/8 --dest 10.0.0.1:3306 --older 5 --idle 1 --sort age --limit 9",
    );
    let expected = "\
        ID     SERVICE  CLIENT          LOCAL           DESTINATION    STATE      AGE  IDLE   IN     OUT  ATTEMPTS\n\
        7.0.3  main     10.0.0.9:40000  10.0.0.5:51234  10.0.0.1:3306  connected  12s  0.5s  1 B  2.0 kB         1\n";
    assert_eq!(text.text(), expected);
    assert_eq!(
        asked.lock().expect("commands").remove(0),
        "getconns main client=10.0.0.0/8 dest=10.0.0.1:3306 older=5 idle=1 sort=age limit=9 json"
    );
    assert_eq!(ctl(&daemon, "conns --json").json()[0]["local"], "10.0.0.5:51234");
    assert_eq!(asked.lock().expect("commands").remove(0), "getconns json");
    for command in ["conns --sort size", "conns --client", "conns --limit x"] {
        assert_eq!(ctl(&daemon, command).status, Some(2), "{command}");
    }
}

#[test]
fn clients_with_the_most_connections_come_first() {
    let (daemon, _) = pretend(|_| {
        "{\"client\":\"10.0.0.9\",\"connections\":3,\"bytes_in\":0,\"bytes_out\":0}\n\
         {\"client\":\"10.0.0.7\",\"connections\":44,\"bytes_in\":5,\"bytes_out\":6}\n"
            .into()
    });
    let text = ctl(&daemon, "clients");
    assert_eq!(text.text(), "CLIENT    CONNS   IN  OUT\n10.0.0.7     44  5 B  6 B\n10.0.0.9      3  0 B  0 B\n");
    let first = ctl(&daemon, "clients --json --limit 1").json();
    assert_eq!((first.len(), first[0]["client"].as_str()), (1, Some("10.0.0.7")));
    let (empty, _) = pretend(|_| String::new());
    assert_eq!((ctl(&empty, "clients").text(), ctl(&empty, "conns").text()), ("no clients\n", "no connections\n"));
}

#[test]
fn connections_are_closed_as_said() {
    let (daemon, asked) = pretend(|command| match command.contains("nosuch") {
        true => "Error: nosuch: no such connection\n".into(),
        false => "2 connections\nOk\n".into(),
    });
    assert_eq!(ctl(&daemon, "kick dest=10.0.0.1:3306").text(), "2 connections\n");
    assert_eq!(
        ctl(&daemon, "kick client=10.0.0.9 --pace 50 --json").text(),
        "{\"lines\":[\"2 connections\"],\"ok\":true}\n"
    );
    assert_eq!(ctl(&daemon, "kick nosuch").refusal(1), "nosuch: no such connection\n");
    assert_eq!(
        *asked.lock().expect("commands"),
        ["kick dest=10.0.0.1:3306", "kick client=10.0.0.9 pace=50", "kick nosuch"]
    );
    assert_eq!(ctl(&daemon, "kick").status, Some(2));
}

#[test]
fn who_is_connected_where_is_shown_and_ended() {
    let servers = [Server::echo(), Server::echo()];
    let glbd = Glbd::start(&servers);
    let control = glbd.control_address();
    let from = |last| connect_from([127, 0, 0, last], glbd.address()).expect("glbd accepts");
    let clients = [from(1), from(9), from(9), from(9)];
    assert!(clients.iter().all(echoes));
    wait_until("all are listed", || ctl(control, "conns --json").json().len() == 4);
    let text = ctl(control, &format!("conns --client {}", clients[0].local_addr().expect("an address").ip()));
    let row = text.text().lines().nth(1).expect("a row").to_owned();
    assert!(row.contains(&clients[0].local_addr().expect("an address").to_string()), "{text:?}");
    assert!(row.contains("main") && row.contains("connected"), "{text:?}");
    let first = ctl(control, "clients --limit 1");
    assert!(first.text().lines().nth(1).is_some_and(|it| it.starts_with("127.0.0.9      3 ")), "{first:?}");
    assert_eq!(ctl(control, "conns --dest 127.0.0.1:1").text(), "no connections\n");
    let kicked = ctl(control, "kick client=127.0.0.9");
    assert!(kicked.text().starts_with("3 connections"), "{kicked:?}");
    wait_until("they are closed", || ctl(control, "conns --json").json().len() == 1);
    let id = ctl(control, "conns --json").json()[0]["id"].as_str().expect("an ID").to_owned();
    ctl(control, &format!("kick {id} --pace 5")).text();
    wait_until("the last one is", || ctl(control, "clients").text() == "no clients\n");
    assert_eq!(ctl(control, &format!("kick {id}")).refusal(1), format!("{id}: no such connection\n"));
    assert!(!ctl(control, "kick client=nonsense").refusal(1).is_empty());
}

#[test]
fn what_an_older_process_does_not_answer_is_shown_without_it_and_not_taken_for_done() {
    let server = Server::echo();
    let daemon = Daemon::started(&[&server.to_string()]);
    let control = daemon.control_address();
    let connect = |last| connect_from([127, 0, 0, last], daemon.address()).expect("glbd accepts");
    let (old, older) = ([connect(2), connect(2)], daemon.pid());
    assert!(old.iter().all(echoes));
    daemon.upgrade();
    let new = connect(3);
    assert!(echoes(&new));
    kill(older, Signal::SIGSTOP).expect("it runs");
    let reason = format!("glbctl: process {older} does not answer, and has 2 connections\n");
    let told = |command: &str| {
        let outcome = ctl(control, command);
        assert_eq!((outcome.status, &outcome.stderr), (Some(3), &reason), "{command}: {outcome:?}");
        outcome.stdout
    };
    for command in ["conns", "clients"] {
        let text = told(command);
        assert!(text.lines().count() == 2 && text.contains("127.0.0.3"), "{text}");
        let json = told(&format!("{command} --json"));
        assert!(json.ends_with(&format!("{{\"missing\":{{\"connections\":2,\"process\":{older}}}}}\n")), "{json}");
        assert_eq!(json.lines().count(), 2, "{json}");
    }
    assert_eq!(told("kick client=127.0.0.2"), "0 connections closed\n");
    let missing = reason.trim_end().replace("glbctl: ", "Missing: ");
    let lines = format!("[\"0 connections closed\",\"{missing}\"]");
    assert_eq!(told("kick client=127.0.0.2 --json"), format!("{{\"lines\":{lines},\"ok\":false}}\n"));
    assert_eq!(told("kick client=127.0.0.3"), "1 connection closed\n");
    kill(older, Signal::SIGCONT).expect("it is there");
    wait_until("it answers again", || ctl(control, "conns").status == Some(0));
    assert_eq!(ctl(control, "kick client=127.0.0.2").text(), "2 connections closed\n");
}
