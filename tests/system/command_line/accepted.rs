//! Options that are taken in every spelling, and do what they say.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::thread::available_parallelism;

use crate::harness::{Glbd, Server, SilentDestination, control, free_port, glbd, read_line, wait_until};

/// A glbd with these arguments behind its listening address, where options may stand as well.
fn start_with(arguments: &[&str]) -> Glbd {
    Glbd::builder().destinations(arguments).start()
}

/// Waits until glbd has so many worker threads, each of which names itself when it first runs.
fn wait_for_workers(glbd: &Glbd, count: usize) {
    let names = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", glbd.pid())).expect("glbd runs");
        tasks.map(|task| fs::read_to_string(task.expect("a task").path().join("comm")).expect("a name"))
    };
    let workers = || names().filter(|name| name.starts_with("worker")).count();
    wait_until(&format!("there are {count} workers"), || workers() == count);
}

#[test]
fn a_value_is_joined_separate_or_behind_an_equals_sign() {
    for spelling in
        [["-t3"].as_slice(), &["-t", "3"], &["--threads", "3"], &["--threads=3"], &["--thr", "3"], &["--thr=3"]]
    {
        wait_for_workers(&Glbd::builder().args(spelling).start(), 3);
    }
}

#[test]
fn there_is_a_worker_for_every_processor_unless_a_number_is_given() {
    let processors = available_parallelism().expect("a number of processors").get();
    wait_for_workers(&start_with(&[]), processors);
}

#[test]
fn options_may_follow_the_destinations() {
    let server = Server::named("a");
    let glbd = start_with(&["127.0.0.1:1:0", "-t3", &server.to_string(), "--max_conn", "7", "-r"]);
    wait_for_workers(&glbd, 3);
    let info = glbd.info();
    assert_eq!((info.max, info.rows.len()), (7, 2));
    assert!(info.rows[0].map.is_some(), "random has a map");
    assert_eq!(read_line(&glbd.connect()).expect("a name"), "a");
}

#[test]
fn of_an_option_given_twice_the_last_counts() {
    let glbd = start_with(&["-t", "1", "-m", "9", "--threads", "2", "--connections=8", "-v", "-v"]);
    wait_for_workers(&glbd, 2);
    assert_eq!(glbd.info().max, 8);
}

#[test]
fn the_most_connections_are_set_by_each_name() {
    for spelling in [
        ["-m7"].as_slice(),
        &["-m", "7"],
        &["--max_conn", "7"],
        &["--max-conn=7"],
        &["--max", "7"],
        &["--connections", "7"],
        &["--connections=7"],
    ] {
        assert_eq!(start_with(spelling).info().max, 7, "{spelling:?}");
    }
}

#[test]
fn switches_are_taken_by_each_name_and_joined() {
    let server = Server::named("a");
    for spelling in [
        ["-a", "-l", "-n", "-v", "-K", "-Y"].as_slice(),
        &["-lnvKTY"],
        &["--defer-accept", "--linger", "--nodelay", "--verbose", "--keepalive", "--top", "--synchronous"],
        &["--def", "--lin", "--nod", "--verb", "--keep", "--to", "--syn"],
        &["--keepa", "--k"],
        &["-lnvKt2", "-x", "0", "-L0"],
        &["-i0.5"],
        &["-i", "2"],
        &["--interval", "0.5", "--connect-timeout", "0.5", "--client-idle-timeout=60", "--server-idle-timeout", "0"],
        &["--int=.5"],
    ] {
        let glbd = Glbd::builder().args(spelling).destinations([&server]).start();
        let mut client = glbd.connect();
        // One that is to be accepted only once he has spoken, for instance.
        client.write_all(b"\n").expect("an open connection");
        assert_eq!(read_line(&client).expect("a name"), "a", "{spelling:?}");
    }
}

#[test]
fn a_verbose_log_tells_of_single_connections() {
    let server = Server::named("a");
    for option in ["-v", "--verbose"] {
        let glbd = Glbd::builder().arg(option).destinations([&server]).start();
        let client = glbd.connect();
        glbd.wait_for_log(&format!("client {}", client.local_addr().expect("an address")));
    }
    let quiet = Glbd::start([&server]);
    let client = quiet.connect();
    assert_eq!(read_line(&client).expect("a name"), "a");
    assert!(!quiet.log().contains(&client.local_addr().expect("an address").to_string()));
}

#[test]
fn the_control_socket_is_on_127_0_0_1_unless_a_host_is_given() {
    let port = free_port().to_string();
    for spelling in
        [["-c", &port].as_slice(), &[&format!("-c{port}")], &["--control", &port], &[&format!("--cont={port}")]]
    {
        let _glbd = Glbd::builder().control(false).args(spelling).start();
        let at = |ip: [u8; 4]| SocketAddr::from((ip, port.parse().expect("a port")));
        assert_eq!(control::ask(at([127, 0, 0, 1]), "version").expect("an answer"), "glbd 2.0.0\n", "{spelling:?}");
        assert!(TcpStream::connect(at([127, 0, 0, 2])).is_err(), "{spelling:?} listens on other addresses too");
    }
}

#[test]
fn the_control_socket_is_on_the_host_that_is_given() {
    let port = free_port();
    for host in ["127.0.0.3", "[::1]", "localhost"] {
        let _glbd = Glbd::builder().control(false).arg(format!("--control={host}:{port}")).start();
        let address = format!("{host}:{port}").replace("localhost", "127.0.0.1").parse().expect("an address");
        assert_eq!(control::ask(address, "version").expect("an answer"), "glbd 2.0.0\n", "{host}");
    }
}

#[test]
fn no_control_socket_is_opened_unless_asked_for() {
    let glbd = Glbd::builder().control(false).args(["-t", "2"]).start();
    assert_eq!(listening_sockets(&glbd), 2, "one for each worker");
    let with_control = Glbd::builder().args(["-t", "2"]).start();
    assert_eq!(listening_sockets(&with_control), 3);
}

/// How many listening TCP sockets the process has.
fn listening_sockets(glbd: &Glbd) -> usize {
    const LISTEN: &str = "0A";
    let proc = format!("/proc/{}", glbd.pid());
    let read = |table: &str| fs::read_to_string(format!("{proc}/net/{table}")).expect("glbd runs");
    let tables = read("tcp") + &read("tcp6");
    let listening = tables.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).filter(|it| it[3] == LISTEN);
    let sockets: Vec<String> = listening.map(|it| format!("socket:[{}]", it[9])).collect();
    let descriptors = fs::read_dir(format!("{proc}/fd")).expect("glbd runs");
    // One socket may have several descriptors.
    let held: HashSet<_> = descriptors.filter_map(|it| fs::read_link(it.ok()?.path()).ok()).collect();
    sockets.iter().filter(|socket| held.contains(Path::new(socket))).count()
}

#[test]
fn the_fifo_is_where_it_is_asked_for() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("a fifo");
    let text = path.display();
    for spelling in [vec![format!("-f{text}")], vec!["-f".to_owned(), text.to_string()], vec![format!("--fifo={text}")]]
    {
        let glbd = Glbd::builder().args(&spelling).start();
        assert!(fs::metadata(&path).expect("a file").file_type().is_fifo(), "{spelling:?}");
        drop(glbd);
        fs::remove_file(&path).expect("what a killed daemon leaves");
    }
}

#[test]
fn port_and_weight_of_a_destination_have_defaults() {
    let glbd = start_with(&["127.0.0.2", "127.0.0.2:1", "127.0.0.2:2:0.25", "[::1]:3:4"]);
    let port = glbd.address().port();
    let rows: Vec<_> = glbd.info().rows.into_iter().map(|row| (row.address, row.weight)).collect();
    let expected =
        [(format!("127.0.0.2:{port}").as_str(), 1.0), ("127.0.0.2:1", 1.0), ("127.0.0.2:2", 0.25), ("[::1]:3", 4.0)]
            .map(|(address, weight)| (address.to_owned(), weight));
    assert_eq!(rows, expected);
}

#[test]
fn one_argument_may_hold_several_destinations() {
    let glbd = start_with(&["127.0.0.2:1:0.5 127.0.0.2:2", "", "127.0.0.2:3"]);
    let addresses: Vec<_> = glbd.info().rows.into_iter().map(|row| row.address).collect();
    assert_eq!(addresses, ["127.0.0.2:1", "127.0.0.2:2", "127.0.0.2:3"]);
}

#[test]
fn a_destination_has_five_seconds_to_accept_unless_another_time_is_given() {
    let silent = SilentDestination::start();
    for (options, time) in
        [([""; 0].as_slice(), "5 s"), (&["--connect-timeout", "0.5"], "0.5 s"), (&["--connect-t=1"], "1 s")]
    {
        let glbd = Glbd::builder().args(options).destinations([&silent]).start();
        let _client = glbd.connect();
        glbd.wait_for_log(&format!("{silent} cannot be reached: no answer within {time}"));
    }
}

#[test]
fn what_needs_checks_says_so_when_there_are_none() {
    for (words, option) in [
        (["-x", "1.5"].as_slice(), "--extra"),
        (&["-x1"], "--extra"),
        (&["--extra=0.1"], "--extra"),
        (&["-D"], "--discover"),
        (&["-bD"], "--discover"),
        (&["--discover"], "--discover"),
        (&["-L", "3"], "--latency"),
        (&["--latency", "10"], "--latency"),
        (&["--timeout", "1"], "--timeout"),
        (&["--slow-start", "1"], "--slow-start"),
        (&["--keep-sessions"], "--keep-sessions"),
    ] {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())).to_string();
        let output = glbd::run(&[words, &[&address]].concat());
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        let said = String::from_utf8(output.stderr).expect("text");
        assert_eq!(said, format!("glbd: {option} needs checks of the destinations: give --watchdog as well\n"));
    }
}

#[test]
fn checks_are_asked_for_in_many_ways() {
    for words in [["-w", "exec:true"].as_slice(), &["--watchdog", "exec:true -utest"], &["--watch=tcp"], &["-whttp:/"]]
    {
        let glbd = Glbd::builder().args(words).args(["-x1", "-DL3", "--rise=1", "--fall", "9"]).start();
        assert_eq!(glbd.watch().rows.len(), 0);
    }
}
