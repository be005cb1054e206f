//! Wrong command lines: status 2 and one line that names what is wrong. What only fails at start has status 1.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Command, Output};

use crate::harness::glbd::PROGRAM;
use crate::harness::{free_port, with_mounted};

/// Stands for a listening address that could be served.
const HERE: &str = "127.0.0.1:8010";

/// Runs glbd, which must refuse with this status and one line, and returns the line. Were it to serve instead, it is
/// stopped after a while.
fn refuses(status: i32, arguments: &[&str]) -> String {
    refuses_by(&[], status, arguments)
}

/// [`refuses`] by another command, to which glbd's is appended.
fn refuses_by(wrapper: &[String], status: i32, arguments: &[&str]) -> String {
    let mut command = Command::new("timeout");
    let output: Output = command.arg("60").args(wrapper).arg(PROGRAM).args(arguments).output().expect("timeout");
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
    assert!(output.stdout.is_empty(), "{arguments:?} writes to stdout");
    assert!(said.starts_with("glbd: ") && said.ends_with('\n'), "{arguments:?}: {said:?}");
    assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
    said
}

#[test]
fn a_listening_address_is_required() {
    for words in [[""; 0].as_slice(), &["-b"], &["--threads", "2"]] {
        assert!(refuses(2, words).contains("LISTEN_ADDRESS"), "{words:?}");
    }
}

#[test]
fn two_things_cannot_be_kept_in_the_same_file() {
    for (one, other) in [("--fifo", "--pidfile"), ("--fifo", "--state"), ("--pidfile", "--state")] {
        let said = refuses(2, &[other, "/no/such/file", one, "/no/such/file", HERE]);
        assert_eq!(said, format!("glbd: {one} and {other} cannot be the same file, '/no/such/file'\n"));
        let said = refuses(2, &[other, "no/such/file", one, "./no/such/file", HERE]);
        assert!(said.contains(&format!("{one} and {other} cannot be the same file, '")), "{said}");
    }
}

#[test]
fn unknown_and_ambiguous_options_are_named() {
    for (words, named) in [
        (["--bogus"].as_slice(), "--bogus"),
        (&["--bogus=1"], "--bogus"),
        (&["-z"], "-z"),
        (&["-bz"], "-z"),
        (&["-t2z"], "2z"),
        (&["---threads", "2"], "---threads"),
        (&["-"], "'-'"),
        // control, connections, connect-timeout
        (&["--con", "5"], "--con"),
        // source, single, synchronous, server-idle-timeout
        (&["--s"], "--s"),
        (&["--threadss", "2"], "--threadss"),
    ] {
        let said = refuses(2, &[words, &[HERE]].concat());
        assert!(said.contains(named), "{words:?}: {said}");
    }
}

#[test]
fn options_without_their_value_are_named() {
    for (option, name) in [
        ("-c", "--control"),
        ("-f", "--fifo"),
        ("-i", "--interval"),
        ("-m", "--max_conn"),
        ("-t", "--threads"),
        ("-w", "--watchdog"),
        ("-x", "--extra"),
        ("-L", "--latency"),
        ("--connections", "--max_conn"),
        ("--thr", "--threads"),
        ("--connect-timeout", "--connect-timeout"),
        ("--client-idle-timeout", "--client-idle-timeout"),
        ("--server-idle-timeout", "--server-idle-timeout"),
        ("--greeting", "--greeting"),
        ("--user", "--user"),
        ("--pidfile", "--pidfile"),
    ] {
        let said = refuses(2, &[HERE, option]);
        assert!(said.contains(name) && said.contains("value"), "{option}: {said}");
    }
}

#[test]
fn values_for_switches_are_named() {
    for word in ["--daemon=yes", "--round=1", "--verbose=3", "--nodelay=no"] {
        let said = refuses(2, &[word, HERE]);
        let (option, value) = word.split_once('=').expect("both");
        assert!(said.contains(option) && said.contains(value), "{word}: {said}");
    }
}

#[test]
fn wrong_values_are_named_with_their_option() {
    for (option, values) in [
        ("--threads", ["0", "-1", "1.5", "many", "2x", " 2", "99999999999999999999", ""].as_slice()),
        ("--max_conn", &["0", "-1", "1e3", "many", ""]),
        ("--interval", &["0", "-1", "x", "nan", "inf", "1,5", "1s", ""]),
        ("--connect-timeout", &["0", "-1", "soon", "nan", "inf", ""]),
        ("--greeting", &["postgres", "MySQL", "mysql,none", ""]),
        ("--client-idle-timeout", &["-1", "never", "1e99", ""]),
        ("--server-idle-timeout", &["-1", "never", "infinity", ""]),
        ("--control", &["0", "65536", "localhost", "127.0.0.1", "127.0.0.1:", "::1:8011", "[::1]", "1.2.3:8011", ""]),
        (
            "--watchdog",
            &[
                "exec",
                "exec:",
                "mysql:check",
                "",
                "tcp:0",
                "tcp:a",
                "http:0",
                "http:a",
                "galera:password=x",
                "galera:donor=x",
            ],
        ),
        ("--extra", &["-1", "x", "nan", ""]),
        ("--latency", &["-1", "1.5", "x", ""]),
        ("--fifo", &[""]),
        ("--pidfile", &[""]),
    ] {
        for value in values {
            for words in [[&format!("{option}={value}"), HERE].as_slice(), &[option, value, HERE]] {
                let said = refuses(2, words);
                assert!(said.contains(option) && said.contains(&format!("'{value}'")), "{words:?}: {said}");
            }
        }
    }
}

#[test]
fn wrong_listening_addresses_are_named() {
    for address in [
        "",
        "0",
        "65536",
        "99999",
        "8010x",
        "80 10",
        ":8010",
        "8010:",
        "8010:8011",
        "localhost",
        "localhost:http",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:0",
        "256.0.0.1:8010",
        "127.1:8010",
        "::1",
        "::1:8010",
        "[::1]",
        "[::1",
        "[::1]8010",
        "[::1]:0",
        "[localhost]:70000",
        "a/b:8010",
    ] {
        let said = refuses(2, &[address, "127.0.0.1:1"]);
        assert!(said.contains(&format!("'{address}'")), "{address:?}: {said}");
    }
}

#[test]
fn wrong_destinations_are_named() {
    for destination in [
        ":3306",
        "a:",
        "a:0",
        "a:65536",
        "a:http",
        "a:+1",
        "a:-1",
        "a:1:",
        "a:1:x",
        "a:1:nan",
        "a:1:inf",
        "a:1:-inf",
        "a:1:1e99",
        "a:1:1e-99",
        "a:1:1:1",
        "a:1:1,5",
        "::1",
        "::1:3306",
        "[::1",
        "[::1]3306",
        "[::1]:0",
        "[::1]:1:x",
        "10.0.0.256:1",
        "127.1:1",
        "1234:1",
        "0.0.0.0:1",
        "[::]:1",
        "a!:1",
        "a/b:1",
        ".:1",
        "a@b:1",
    ] {
        let said = refuses(2, &[HERE, "127.0.0.1:1", destination, "127.0.0.1:2"]);
        assert!(said.contains(&format!("destination '{destination}'")), "{destination}: {said}");
    }
}

#[test]
fn a_weight_below_zero_makes_no_sense_at_the_start() {
    for weight in ["-1", "-0.5", "-1e9"] {
        let destination = format!("127.0.0.1:1:{weight}");
        assert!(refuses(2, &[HERE, &destination]).contains(&destination));
    }
}

#[test]
fn of_several_destinations_in_one_argument_the_wrong_one_is_named() {
    assert!(refuses(2, &[HERE, "127.0.0.1:1 127.0.0.1:x 127.0.0.1:2"]).contains("destination '127.0.0.1:x'"));
}

#[test]
fn what_contains_line_breaks_is_told_in_one_line() {
    refuses(2, &["80\n10\n\n1"]);
    refuses(2, &["--threads", "two\n\nthree", HERE]);
    refuses(2, &[HERE, "a\nb!:1"]);
    refuses(1, &["--user", "no\nbody", &free_address()]);
}

#[test]
fn names_that_do_not_resolve_are_named_with_status_1() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let switch = directory.path().join("nsswitch.conf");
    // Nobody needs to be asked, so the answer does not depend on a network.
    fs::write(&switch, "hosts: files\n").expect("a file");
    let offline = with_mounted(&[(&switch, "/etc/nsswitch.conf")]);
    let address = free_address();
    for (words, named) in [
        ([address.as_str(), "127.0.0.1:1", "nowhere.example:3306"].as_slice(), "nowhere.example:3306"),
        (&[address.as_str(), "nowhere.example"], "nowhere.example"),
        (&["nowhere.example:8010"], "nowhere.example:8010"),
        (&["--control", "nowhere.example:8011", &address], "nowhere.example:8011"),
    ] {
        let fifo = directory.path().join("fifo");
        let fifo = format!("--fifo={}", fifo.display());
        let said = refuses_by(&offline, 1, &[&[fifo.as_str(), "--strict-names"], words].concat());
        assert!(said.contains(named), "{words:?}: {said}");
    }
}

fn free_address() -> String {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())).to_string()
}

#[test]
fn its_own_listening_address_is_no_destination() {
    let port = free_port();
    for (listen, destination) in [
        (format!("127.0.0.1:{port}"), "127.0.0.1".to_owned()),
        (format!("127.0.0.1:{port}"), format!("127.0.0.1:{port}:0.5")),
        (format!("127.0.0.1:{port}"), format!("localhost:{port}")),
        (format!("localhost:{port}"), format!("127.0.0.1:{port}")),
        (format!("{port}"), format!("127.0.0.1:{port}")),
        (format!("{port}"), format!("127.1.2.3:{port}")),
        (format!("{port}"), format!("[::1]:{port}")),
        (format!("0.0.0.0:{port}"), format!("localhost:{port}")),
        (format!("[::1]:{port}"), format!("[::1]:{port}")),
    ] {
        let said = refuses(1, &[&listen, "127.0.0.1:1", &destination]);
        let host = destination.split([':', ']']).next().expect("a host");
        assert!(said.contains(host) && said.contains("itself"), "{listen} {destination}: {said}");
    }
}

#[test]
fn ports_in_use_are_named_with_status_1() {
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let taken = other.local_addr().expect("an address").to_string();
    assert!(refuses(1, &[&taken]).contains(&taken));
    let everywhere = taken.replace("127.0.0.1:", "");
    assert!(refuses(1, &[&everywhere]).contains(&everywhere));
    assert!(refuses(1, &["--control", &taken, &free_address()]).contains(&taken));
    assert!(refuses(1, &["--control", &everywhere, &free_address()]).contains(&everywhere));
}

#[test]
fn one_port_for_two_purposes_is_found_before_anything_is_opened() {
    let own = free_address();
    let everywhere = own.replace("127.0.0.1:", "");
    for port in [&own, &everywhere] {
        let told = format!("glbd: --control: a service listens at {own} already\n");
        assert_eq!(refuses(2, &["--control", port, &own]), told);
        assert_eq!(refuses(2, &["--check", "--control", &own, port]), told, "{port}");
        assert!(refuses(2, &["--http", port, &own]).contains("--http: a service listens at "));
    }
    assert!(refuses(2, &["--control", &own, "--http", &own, HERE]).contains("is a control address"));
}

#[test]
fn users_and_groups_that_there_are_not_are_named_with_status_1() {
    for (user, named) in [("no-such-user", "no-such-user"), ("daemon:no-such-group", "no-such-group"), ("", "''")] {
        let said = refuses(1, &["--user", user, &free_address()]);
        assert!(said.contains(named), "{user}: {said}");
    }
}
