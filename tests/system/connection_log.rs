//! The connection log: what has become of each connection.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{
    Glbd, Server, SilentDestination, connect_to, echoes, free_port, glbd, read_line, reset, wait_until,
};
use crate::services::{Site, at, served};

/// The lines of a file, which may not be there yet.
fn lines(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// The objects that a log in JSON has, once there are so many.
fn objects(file: &Path, count: usize) -> Vec<Value> {
    wait_until("the lines are there", || lines(file).len() >= count);
    lines(file).iter().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
}

fn causes(objects: &[Value]) -> Vec<&str> {
    objects.iter().map(|it| it["cause"].as_str().expect("a cause")).collect()
}

/// A glbd that logs its connections in JSON, and where.
fn logging(options: &[&str], destinations: &[String]) -> (Glbd, std::path::PathBuf, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("connections");
    let builder = Glbd::builder().args(["--threads=2", "--connection-log=json", "--connection-log-file"]);
    let glbd = builder.arg(file.display()).args(options).destinations(destinations).start();
    (glbd, file, directory)
}

#[test]
fn a_line_agrees_with_what_client_and_server_know() {
    let peers = Arc::new(Mutex::new(Vec::<SocketAddr>::new()));
    let seen = Arc::clone(&peers);
    let server = Server::serving(move |mut stream| {
        seen.lock().expect("peers").push(stream.peer_addr().expect("a client"));
        let mut said = [0; 5];
        let _ = stream.read_exact(&mut said).and_then(|()| stream.write_all(b"an answer"));
    });
    let (glbd, file, _directory) = logging(&[], &[server.to_string()]);
    let mut client = glbd.connect();
    let own = client.local_addr().expect("an address").to_string();
    client.write_all(b"hello").expect("glbd takes it");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an answer");
    drop(client);
    let all = objects(&file, 1);
    let [line] = &all[..] else { panic!("one line: {all:?}") };
    assert_eq!((&line["service"], &line["client"]), (&"main".into(), &own.into()));
    assert_eq!(line["destination"], server.to_string());
    assert_eq!(line["local"], peers.lock().expect("peers")[0].to_string(), "as the server sees it");
    assert_eq!((&line["bytes_in"], &line["bytes_out"], &line["attempts"]), (&5.into(), &9.into(), &1.into()));
    assert_eq!((&line["cause"], &line["queue"]), (&"server".into(), &Value::Null));
    let took = |key: &str| line[key].as_f64().unwrap_or_else(|| panic!("{key} of {line}"));
    assert!(took("connect") + took("first_byte") <= took("duration") + 0.001, "{line}");
    assert!(line["id"].as_str().is_some_and(|id| id.starts_with(&format!("{}.", glbd.pid()))), "{line}");
    let time = line["time"].as_str().expect("a time");
    assert!(time.len() == "2026-01-01T00:00:00.000Z".len() && time.ends_with('Z'), "{time}");
}

#[test]
fn each_way_to_end_has_its_cause() {
    let server = Server::echo();
    let (glbd, file, _directory) = logging(&["--client-idle-timeout=0.3"], &[server.to_string()]);
    let client = glbd.connect();
    assert!(echoes(&client));
    reset(client);
    assert_eq!(causes(&objects(&file, 1)), ["client-reset"]);
    let client = glbd.connect();
    assert!(echoes(&client));
    assert_eq!(causes(&objects(&file, 2))[1], "idle");
    drop(client);
    let client = glbd.connect();
    assert!(echoes(&client));
    glbd.control("kick client=127.0.0.1");
    assert_eq!(causes(&objects(&file, 3))[2], "kicked");
    drop(client);
    let client = glbd.connect();
    assert!(echoes(&client));
    glbd.change(server.weighted(-1.0));
    assert_eq!(causes(&objects(&file, 4))[3], "destination-closed");
    drop(client);
    let mut client = glbd.connect();
    let _ = client.read(&mut [0]);
    let line = objects(&file, 5).remove(4);
    assert_eq!(
        (&line["cause"], &line["destination"], &line["local"]),
        (&"no-destination".into(), &Value::Null, &Value::Null)
    );
}

#[test]
fn attempts_in_vain_and_the_wait_for_room_are_told() {
    let dead = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let server = Server::echo();
    let options = ["--destination-max-connections=1", "--queue-timeout=0.5"];
    let (glbd, file, _directory) = logging(&options, &[format!("{dead}:1000"), server.to_string()]);
    let first = glbd.connect();
    assert!(echoes(&first));
    let mut second = glbd.connect();
    let _ = second.read(&mut [0]);
    let line = objects(&file, 1).remove(0);
    assert_eq!(line["cause"], "no-room");
    assert!(line["queue"].as_f64().is_some_and(|waited| (0.4..5.0).contains(&waited)), "{line}");
    drop(first);
    let line = objects(&file, 2).remove(1);
    assert_eq!((&line["cause"], &line["attempts"]), (&"client".into(), &2.into()), "{line}");
}

#[test]
fn who_never_gets_an_answer_has_no_times() {
    let silent = SilentDestination::start();
    let (glbd, file, _directory) = logging(&["--connect-timeout=0.2"], &[silent.to_string()]);
    let mut client = glbd.connect();
    let _ = client.read(&mut [0]);
    let line = objects(&file, 1).remove(0);
    assert_eq!((&line["connect"], &line["first_byte"]), (&Value::Null, &Value::Null), "{line}");
    assert_eq!(line["cause"], "no-destination");
}

#[test]
fn without_a_file_lines_are_among_those_of_the_log_and_none_are_there_unless_asked_for() {
    let server = Server::echo();
    let glbd = Glbd::start([&server]);
    drop(served(glbd.address().port()));
    wait_until("it is over", || server.open() == 0);
    assert_eq!(glbd.control("connlog"), "main off\n");
    assert_eq!(glbd.control("connlog text"), "Ok\n");
    assert_eq!(glbd.control("connlog"), "main text\n");
    drop(served(glbd.address().port()));
    glbd.wait_for_log(" cause=client\n");
    let log = glbd.log();
    assert_eq!(log.matches("connection service=main id=").count(), 1, "{log}");
    assert!(log.contains("service main: connection log text, by "), "{log}");
    assert!(log.contains(&format!(" destination={server} attempts=1 queue=- connect=0.")), "{log}");
    let events = glbd.control("getevents");
    assert!(!events.contains("cause=client"), "what happens to single connections is no event: {events}");
}

#[test]
fn a_service_is_switched_by_its_name_also_for_connections_that_there_are() {
    let (site, server, ports) = (Site::new(), Server::echo(), [free_port(), free_port()]);
    let file = site.daemon.directory().join("connections");
    let write = |more: &str| {
        site.write(&[("a", &[&server], "")], &[("s", ports[0], more), ("t", ports[1], "")]);
        let text = fs::read_to_string(&site.file).expect("the file");
        let place = format!("[process]\nconnection-log-file = \"{}\"", file.display());
        fs::write(&site.file, text.replacen("[process]", &place, 1)).expect("the file");
    };
    write("");
    site.start();
    let clients = ports.map(served);
    let control = |line: &str| site.daemon.control(line);
    assert_eq!(control("connlog nosuch text"), "Error: there is no service 'nosuch'; there are s, t\n");
    assert!(control("connlog s loud").starts_with("Error: 'connlog s loud': expected connlog [SERVICE] off|text|json"));
    assert_eq!((control("connlog s text"), control("connlog")), ("Ok\n".to_owned(), "s text\nt off\n".to_owned()));
    drop(clients);
    wait_until("one has its line", || lines(&file).len() == 1);
    assert!(lines(&file)[0].contains("Z connection service=s id="), "{:?}", lines(&file));
    // What hands have switched stays, unless the file says something else of it than before.
    write("retries = 7");
    assert!(control("reload").ends_with("Ok\n"));
    assert_eq!(control("connlog"), "s text\nt off\n");
    site.daemon.upgrade();
    assert_eq!(control("connlog"), "s text\nt off\n");
    write("connection-log = \"json\"");
    assert!(control("reload").ends_with("Ok\n"));
    assert_eq!(control("connlog"), "s json\nt off\n");
    drop(served(ports[0]));
    wait_until("another has", || lines(&file).len() == 2);
    assert!(lines(&file)[1].starts_with("{\"time\":"), "{:?}", lines(&file));
}

#[test]
fn who_may_change_nothing_may_only_ask() {
    let port = free_port();
    let control = format!("127.0.0.1:{port},read-only");
    let glbd = Glbd::builder().args(["--control", &control]).destinations([Server::echo()]).start();
    let ask = |line: &str| {
        let mut client = connect_to(at(port)).expect("glbd accepts");
        client.write_all(format!("{line}\n").as_bytes()).expect("it is sent");
        client.shutdown(Shutdown::Write).expect("it is sent");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an answer");
        answer
    };
    assert_eq!(ask("connlog"), "main off\n");
    assert!(ask("getconfig").starts_with("Error: the configuration is not shown here"), "{}", ask("getconfig"));
    assert!(glbd.control("getconfig").starts_with("[process]\n"), "{}", glbd.control("getconfig"));
    assert!(ask("connlog json").starts_with("Error: nothing can be changed here"), "{}", ask("connlog json"));
    assert_eq!(glbd.control("connlog"), "main off\n");
}

#[test]
fn a_file_that_is_renamed_or_removed_is_made_anew_by_old_processes_as_well() {
    let (site, server, port) = (Site::new(), Server::echo(), free_port());
    let (file, old) = (site.daemon.directory().join("connections"), site.daemon.directory().join("connections.1"));
    site.write(&[("a", &[&server], "")], &[("s", port, "connection-log = \"text\"")]);
    let text = fs::read_to_string(&site.file).expect("the file");
    let place = format!("[process]\nconnection-log-file = \"{}\"", file.display());
    fs::write(&site.file, text.replacen("[process]", &place, 1)).expect("the file");
    site.start();
    let long = served(port);
    drop(served(port));
    wait_until("it has a line", || lines(&file).len() == 1);
    site.daemon.upgrade();
    fs::rename(&file, &old).expect("the file");
    drop(served(port));
    wait_until("the new process makes it anew", || lines(&file).len() == 1);
    fs::remove_file(&file).expect("the file");
    drop(long);
    wait_until("so does the old one", || lines(&file).len() == 1);
    assert_eq!(lines(&old).len(), 1);
}

#[test]
fn a_full_disk_costs_lines_and_nothing_else() {
    let server = Server::echo();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("connections");
    // A file may be no longer than that.
    let limited = ["sh", "-c", "ulimit -f 1; exec \"$0\" \"$@\""];
    let glbd = Glbd::builder().wrapped_by(limited).args(["--connection-log=text", "--connection-log-file"]);
    let glbd = glbd.arg(file.display()).destinations([&server]).start();
    wait_until("the file is full", || {
        drop(served(glbd.address().port()));
        glbd.log().contains("cannot be written: File too large")
    });
    let written = fs::read_to_string(&file).expect("the log");
    assert!(written.ends_with('\n') && written.lines().all(|line| line.contains(" cause=")), "whole lines: {written}");
    wait_until("there is room again", || {
        let _ = fs::remove_file(&file);
        drop(served(glbd.address().port()));
        glbd.log().contains("can be written again")
    });
}

#[test]
fn a_daemon_that_ends_while_the_disk_is_full_says_how_many_lines_are_missing() {
    let server = Server::echo();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("connections");
    let limited = ["sh", "-c", "ulimit -f 1; exec \"$0\" \"$@\""];
    let glbd = Glbd::builder().wrapped_by(limited).args(["--connection-log=text", "--connection-log-file"]);
    let mut glbd = glbd.arg(file.display()).destinations([&server]).start();
    let mut count = 0;
    wait_until("the file is full", || {
        drop(served(glbd.address().port()));
        count += 1;
        glbd.log().contains("cannot be written: File too large")
    });
    wait_until("all have ended", || glbd.info().total == 0);
    glbd.signal(Signal::SIGTERM);
    assert!(glbd.wait_exit().success());
    let missing = count - lines(&file).len();
    let told = format!("WARN the connection log {} could not be written to the end; {missing} lines", file.display());
    assert_eq!(glbd.log().matches(&told).count(), 1, "{missing} of {count}: {}", glbd.log());
}

#[test]
fn more_lines_than_a_service_may_have_are_counted() {
    let server = Server::echo();
    let (glbd, file, _directory) = logging(&["--connection-log-rate=20"], &[server.to_string()]);
    (0..200).for_each(|_| drop(served(glbd.address().port())));
    let sum = || {
        let all = lines(&file).iter().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<Value>>();
        let left_out: u64 = all.iter().filter_map(|it| it["left_out"].as_u64()).sum();
        (left_out, left_out + all.iter().filter(|it| it["cause"] == "client").count() as u64)
    };
    wait_until("all are accounted for", || sum().1 == 200);
    assert!(sum().0 > 0);
    let text = fs::read_to_string(&file).expect("the log");
    assert!(text.contains("\"service\":\"main\",\"left_out\":"), "{text}");
    assert!(text.contains("\"reason\":\"more than 20 a second\"}"), "{text}");
}

#[test]
fn connections_that_end_with_the_daemon_have_their_lines() {
    let server = Server::echo();
    let (mut glbd, file, _directory) = logging(&[], &[server.to_string()]);
    let clients: Vec<TcpStream> = (0..200).map(|_| served(glbd.address().port())).collect();
    glbd.signal(Signal::SIGTERM);
    assert!(glbd.wait_exit().success());
    assert_eq!(objects(&file, 0).len(), clients.len());
}

#[test]
fn what_was_left_out_is_told_when_the_daemon_stops() {
    let server = Server::echo();
    let (mut glbd, file, _directory) = logging(&["--connection-log-rate=2"], &[server.to_string()]);
    (0..10).for_each(|_| drop(served(glbd.address().port())));
    wait_until("some are written", || lines(&file).len() >= 2);
    wait_until("all have ended", || glbd.info().total == 0);
    glbd.signal(Signal::SIGTERM);
    assert!(glbd.wait_exit().success());
    let all = objects(&file, 0);
    let left_out: u64 = all.iter().filter_map(|it| it["left_out"].as_u64()).sum();
    assert_eq!(left_out + all.iter().filter(|it| it["cause"] == "client").count() as u64, 10, "{all:?}");
}

#[test]
fn a_place_that_cannot_be_had_is_told_once_and_when_it_is_over() {
    let server = Server::echo();
    let (glbd, file, directory) = logging(&[], &[server.to_string()]);
    let old = directory.path().join("old");
    fs::rename(&file, &old).expect("the file");
    fs::create_dir(&file).expect("a directory");
    for count in 1..=5 {
        drop(served(glbd.address().port()));
        wait_until("it goes to the old file", || lines(&old).len() == count);
    }
    let told = |text: &str| glbd.log().matches(text).count();
    assert_eq!((told("cannot be made anew"), told("could be made anew"), told("can be written again")), (1, 0, 0));
    fs::remove_dir(&file).expect("the directory");
    drop(served(glbd.address().port()));
    wait_until("it is over", || lines(&file).len() == 1 && told("could be made anew") == 1);
}

#[test]
fn behind_a_proxy_the_client_is_the_proxys() {
    let server = Server::named("one");
    let (glbd, file, _directory) = logging(&["--accept-proxy=127.0.0.1"], &[server.to_string()]);
    let mut client = glbd.connect();
    client.write_all(b"PROXY TCP4 203.0.113.7 203.0.113.1 5555 3306\r\n").expect("glbd takes it");
    assert_eq!(read_line(&client).expect("a name"), "one");
    drop(client);
    assert_eq!(objects(&file, 1)[0]["client"], "203.0.113.7:5555");
    let echo = Server::echo();
    glbd.change(server.weighted(0.0));
    glbd.change(&echo);
    let mut client = glbd.connect();
    client.write_all(b"PROXY TCP4 203.0.113.7 203.0.113.1 5555 3306\r\nhello").expect("glbd takes it");
    client.read_exact(&mut [0; 5]).expect("the echo");
    drop(client);
    let line = objects(&file, 2).remove(1);
    assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&5.into(), &5.into()), "what stands behind the header counts");
    let mut client = glbd.connect();
    client.write_all(b"PROXY nonsense\r\n").expect("glbd takes it");
    let _ = client.read(&mut [0]);
    assert_eq!(causes(&objects(&file, 3))[2], "header");
}

#[test]
fn a_place_that_cannot_be_written_is_refused_at_the_start() {
    let listen = format!("127.0.0.1:{}", free_port());
    for (place, reason) in
        [("/nowhere/connections", "No such file or directory"), ("/dev/null", "it is no ordinary file")]
    {
        let output = glbd::run(&["--fifo=none", "--connection-log-file", place, &listen]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(place) && told.contains(reason), "{told}");
    }
}
