//! The configuration file: what it says holds, what is wrong with it is told, and an upgrade reads it again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use crate::harness::{Daemon, Launch, Server, echoes, glbd, wait_until};

/// A file for a daemon that serves these destinations, with further lines for the pool and the service.
fn text(daemon: &Daemon, destinations: &[&Server], pool: &str, service: &str) -> String {
    let destinations: Vec<String> = destinations.iter().map(|it| format!("\"{it}\"")).collect();
    let (destinations, address) = (destinations.join(", "), daemon.address());
    format!(
        "[process]\nthreads = 2\nuser = \"root\"\nlog = \"{}\"\n\n[pool.main]\ndestinations = [{destinations}]\n{pool}\n\n\
         [service.main]\nlisten = \"{address}\"\n{service}\n",
        log_of(daemon).display()
    )
}

fn log_of(daemon: &Daemon) -> PathBuf {
    daemon.directory().join("log")
}

fn file_of(daemon: &Daemon) -> PathBuf {
    daemon.directory().join("glbd.toml")
}

fn write(daemon: &Daemon, text: &str) -> String {
    fs::write(file_of(daemon), text).expect("a file");
    file_of(daemon).display().to_string()
}

fn log(daemon: &Daemon) -> String {
    fs::read_to_string(log_of(daemon)).expect("the log")
}

fn serves(daemon: &Daemon) -> bool {
    echoes(&daemon.connect())
}

#[test]
fn a_daemon_does_what_its_file_says() {
    let (daemon, servers) = (Daemon::new(), [Server::echo(), Server::echo()]);
    let text = text(&daemon, &[&servers[0], &servers[1]], "resolve = 0", "policy = \"round-robin\"");
    let file = write(&daemon, &text);
    daemon.start(&["--config", &file]);
    assert!((0..4).all(|_| serves(&daemon)));
    assert_eq!(servers.each_ref().map(Server::accepted), [2, 2]);
    wait_until("the log says so", || log(&daemon).contains("2 destinations, 2 threads, round robin"));
}

#[test]
fn what_stands_beside_the_file_on_the_command_line_wins() {
    let (daemon, server) = (Daemon::new(), Server::echo());
    let file = write(&daemon, &text(&daemon, &[&server], "", ""));
    daemon.start(&["--threads", "1", "--config", &file]);
    assert!(serves(&daemon));
    wait_until("the log says so", || log(&daemon).contains("1 destination, 1 thread,"));
}

#[test]
fn all_that_is_wrong_with_a_file_is_told_at_once_and_nothing_is_started() {
    let daemon = Daemon::new();
    let file = write(&daemon, "[pool.main]\nrise = 0\nfal = 3\n[service.main]\nlisten = 99999\n");
    let told = [
        "2:8: pool.main.rise: '0': 0 is not in 1..=1000000",
        "3:1: pool.main.fal: no such key; did you mean 'fall'?",
        "5:10: service.main.listen: '99999': '99999' is not a port (1 to 65535)",
    ];
    let stderr: String = told.iter().map(|line| format!("glbd: {file}:{line}\n")).collect();
    assert_eq!(daemon.launch(&["--config", &file]), Launch { status: Some(2), stderr: stderr.clone() });
    let checked = glbd::run(&["--check", "--config", &file]);
    assert_eq!((checked.status.code(), String::from_utf8_lossy(&checked.stderr).into_owned()), (Some(2), stderr));
    assert_eq!(daemon.files(), ["glbd.toml"]);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let daemon = Daemon::new();
    let directory = daemon.directory().display().to_string();
    for (file, told) in [
        (format!("{directory}/none"), "No such file or directory (os error 2)"),
        (directory.clone(), "Is a directory (os error 21)"),
        ("/dev/zero".to_owned(), "it has more than 1048576 bytes"),
    ] {
        let stderr = format!("glbd: {file}: {told}\n");
        assert_eq!(daemon.launch(&["--config", &file]), Launch { status: Some(2), stderr });
    }
    fs::write(file_of(&daemon), b"[process]\nuser = \"\xff\"\n").expect("a file");
    let file = file_of(&daemon).display().to_string();
    let stderr = format!("glbd: {file}: byte 19 is not UTF-8\n");
    assert_eq!(daemon.launch(&["--config", &file]), Launch { status: Some(2), stderr });
}

#[test]
fn what_belongs_into_the_file_is_refused_beside_it() {
    let (daemon, server) = (Daemon::new(), Server::echo());
    let file = write(&daemon, &text(&daemon, &[&server], "", ""));
    for (words, told) in [
        (&["--rise", "3"][..], "--rise: with --config, it stands in the file"),
        (&["8010"], "'8010': with --config, the addresses stand in the file"),
        (&["--single"], "--single: with --config, it stands in the file"),
    ] {
        let words = [&["--config", &file], words].concat();
        assert_eq!(daemon.launch(&words), Launch { status: Some(2), stderr: format!("glbd: {told}\n") });
    }
}

#[test]
fn a_file_in_order_is_told_to_be_so() {
    let (daemon, server) = (Daemon::new(), Server::echo());
    let file = write(&daemon, &text(&daemon, &[&server], "", ""));
    let checked = glbd::run(&["--check", "--config", &file]);
    let told = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert_eq!((checked.status.code(), told), (Some(0), format!("glbd: {file} is in order: 1 destination\n")));
}

#[test]
fn a_printed_configuration_starts_the_same_daemon() {
    let (daemon, servers) = (Daemon::new(), [Server::echo(), Server::echo()]);
    let [first, second] = servers.each_ref().map(ToString::to_string);
    let (address, log_file) = (daemon.address().to_string(), log_of(&daemon).display().to_string());
    let words = ["--round", "-t", "2", "--user", "root", "--log", &log_file, &address, &first, &second];
    let printed = glbd::run(&[&["--print-config"], &words[..]].concat());
    assert!(printed.status.success());
    let file = write(&daemon, &String::from_utf8(printed.stdout).expect("text"));
    daemon.start(&["--config", &file]);
    assert!((0..4).all(|_| serves(&daemon)));
    assert_eq!(servers.each_ref().map(Server::accepted), [2, 2]);
}

/// The process that takes over is started long after the directory has been left where the name of the file was meant.
#[test]
fn an_upgrade_reads_a_file_again_that_was_named_in_the_working_directory() {
    let (daemon, servers) = (Daemon::new(), [Server::echo(), Server::echo()]);
    let both = [&servers[0], &servers[1]];
    write(&daemon, &text(&daemon, &both, "", "policy = \"round-robin\""));
    let mut command = daemon.command_by(&[], &["--config", "glbd.toml"]);
    assert!(command.current_dir(daemon.directory()).status().expect("the program").success());
    wait_until("it serves", || serves(&daemon));
    write(&daemon, &text(&daemon, &both, "", "policy = \"single\""));
    daemon.upgrade();
    let before = servers.each_ref().map(Server::accepted);
    assert!((0..4).all(|_| serves(&daemon)));
    let after = servers.each_ref().map(Server::accepted);
    assert!(after[0] == before[0] || after[1] == before[1], "all went to one: {before:?} {after:?}");
    let directory = fs::read_link(daemon.proc("cwd")).expect("a process");
    assert_eq!(directory, Path::new("/"));
}

#[test]
fn a_daemon_whose_file_is_wrong_is_not_upgraded_and_goes_on() {
    let (daemon, server) = (Daemon::new(), Server::echo());
    let good = text(&daemon, &[&server], "", "");
    let file = write(&daemon, &good);
    daemon.start(&["--config", &file]);
    let (client, pid) = (daemon.connect(), daemon.pid());
    assert!(echoes(&client));
    write(&daemon, &good.replace("threads = 2", "threads = 0"));
    daemon.signal(Signal::SIGUSR2);
    wait_until("the log says why", || log(&daemon).contains("this process goes on as before"));
    assert!(log(&daemon).contains("2:11: process.threads: '0': not a number from 1 to 1024"), "{}", log(&daemon));
    assert!(echoes(&client) && serves(&daemon));
    assert_eq!(daemon.pid(), pid);
    write(&daemon, &good);
    daemon.upgrade();
    assert!(echoes(&client) && serves(&daemon));
}

#[test]
fn an_upgrade_says_what_in_the_file_takes_a_restart() {
    let (daemon, server) = (Daemon::new(), Server::echo());
    let file = write(&daemon, &text(&daemon, &[&server], "", ""));
    daemon.start(&["--config", &file]);
    write(&daemon, &text(&daemon, &[&server], "", "").replace("user = \"root\"", "user = \"daemon\""));
    for upgrades in 1..=2 {
        daemon.upgrade();
        let line = format!("WARN {file}: another 'user' than before takes effect at a restart");
        wait_until("it is said each time", || log(&daemon).matches(&line).count() == upgrades);
        assert_eq!(log(&daemon).matches("takes effect at a restart").count(), upgrades, "{}", log(&daemon));
    }
}

#[test]
fn an_upgrade_has_destinations_and_threads_follow_the_file_and_keeps_what_hands_have_changed() {
    let (daemon, servers) = (Daemon::new(), [0; 4].map(|_| Server::echo()));
    let [first, second, third, by_hand] = servers.each_ref();
    let file = write(&daemon, &text(&daemon, &[first, second, third], "", "policy = \"round-robin\""));
    daemon.start(&["--config", &file]);
    assert_eq!(daemon.control(&format!("{by_hand}:5")), "Ok\n");
    assert_eq!(daemon.control(&format!("{second}:0")), "Ok\n");
    let sessions: Vec<_> = (0..8).map(|_| daemon.connect()).collect();
    assert!(sessions.iter().all(echoes));
    let others = text(&daemon, &[second, third], "", "policy = \"round-robin\"");
    let others =
        others.replace(&format!("\"{third}\""), &format!("\"{third}:2\"")).replace("threads = 2", "threads = 3");
    write(&daemon, &others);
    daemon.upgrade();
    let weights = |daemon: &Daemon| {
        daemon.info().rows.iter().map(|row| (row.address.to_string(), row.weight)).collect::<Vec<_>>()
    };
    let expected = [(first, 0.0), (second, 0.0), (third, 2.0), (by_hand, 5.0)];
    assert_eq!(weights(&daemon), expected.map(|(server, weight)| (server.to_string(), weight)));
    wait_until("the log says so", || log(&daemon).contains("4 destinations, 3 threads, round robin"));
    assert!(!log(&daemon).contains("takes effect at a restart"), "{}", log(&daemon));
    assert!(sessions.iter().all(echoes), "of the one that was dropped as well");
    drop(sessions);
    wait_until("it goes with its last connection", || weights(&daemon).len() == 3);
    assert!(log(&daemon).contains(&format!("destination {first} removed: it is not asked for any more")));
}

#[test]
fn help_and_version_need_no_file() {
    let output = Command::new(&glbd::program()[0]).args(["--config", "/none", "--version"]).output();
    assert!(output.expect("the program").status.success());
}
