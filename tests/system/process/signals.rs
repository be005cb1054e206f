//! Signals that stop the daemon, and those that do not.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::slice;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use socket2::SockRef;

use crate::control::name_server::NameServer;
use crate::harness::glbd::PROGRAM;
use crate::harness::{
    Builder, Daemon, Glbd, KernelsEnd, Payload, Server, SilentDestination, Stage, connect_to, names_of, said_goodbye,
    wait_until,
};

/// Within this the daemon must stop.
const A_SECOND: Duration = Duration::from_secs(1);

/// It takes less at the first try, unless the machine is busy.
fn assert_within_a_second(measure: impl Fn() -> Duration) {
    let mut tries = Vec::new();
    while tries.last().is_none_or(|took| *took >= A_SECOND) {
        assert!(tries.len() < 5, "it took {tries:?}");
        tries.push(measure());
    }
}

/// A glbd in the foreground for which SIGINT means what it means at a terminal, also where tests run in the background.
fn at_a_terminal() -> Builder {
    Glbd::builder().wrapped_by(["env", "--default-signal=INT", "--default-signal=HUP"])
}

/// Sends the signal and waits for the end, which must be a success without anything left; returns how long that took.
fn stop(mut glbd: Glbd, signal: Signal) -> Duration {
    let begun = Instant::now();
    glbd.signal(signal);
    let status = glbd.wait_exit();
    let took = begun.elapsed();
    assert_eq!(status.code(), Some(0), "{signal}");
    assert!(!glbd.fifo().exists(), "{signal}");
    glbd.wait_for_log("INFO stopped");
    took
}

#[test]
fn sigterm_and_sigint_stop_it_within_a_second_with_status_0_and_nothing_left() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        assert_within_a_second(|| stop(at_a_terminal().start(), signal));
    }
}

#[test]
fn the_pid_file_is_gone_as_well() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("glbd.pid");
        let glbd = at_a_terminal().args(["--pidfile", &path.display().to_string()]).start();
        assert!(path.exists());
        stop(glbd, signal);
        assert!(!path.exists(), "{signal}");
    }
}

#[test]
fn open_connections_and_conversations_do_not_hold_it_up() {
    let server = Server::echo();
    let silent = SilentDestination::start();
    assert_within_a_second(|| {
        let glbd = at_a_terminal().args(["-t", "4"]).destinations([&server]).start();
        let clients: Vec<TcpStream> = (0..100).map(|_| glbd.connect()).collect();
        let busy = glbd.connect();
        wait_until("all are served", || glbd.info().row(&server).conns == 101);
        let mut at_a_prompt = connect_to(glbd.control_address()).expect("the control port accepts");
        at_a_prompt.write_all(b"prompt\n").expect("an open conversation");
        glbd.change(server.weighted(0.0));
        glbd.change(&silent);
        let connecting = glbd.connect();
        wait_until("one waits for a silent destination", || glbd.info().row(&silent).conns == 1);
        thread::scope(|scope| {
            scope.spawn(|| while (&busy).write_all(&[b'x'; 65536]).is_ok() {});
            scope.spawn(|| io::copy(&mut &busy, &mut io::sink()).ok());
            let took = stop(glbd, Signal::SIGTERM);
            clients.iter().chain([&connecting, &at_a_prompt]).for_each(|client| _ = said_goodbye(client));
            took
        })
    });
}

#[test]
fn what_it_cuts_short_does_not_look_complete_and_what_is_complete_is_not_cut_short() {
    let stage = Stage::start();
    let (client, server) = stage.pair();
    let (reader, mut writer) = stage.pair();
    // Most of it waits in the kernel, on the daemon's side.
    SockRef::from(&reader).set_recv_buffer_size(4096).expect("SO_RCVBUF");
    let download = Payload::new(1, 300_000);
    download.send(&writer).expect("an open connection");
    writer.shutdown(Shutdown::Write).expect("an open connection");
    wait_until("all of it and its end are passed on", || {
        KernelsEnd::opposite(&reader).is_some_and(|end| end.is_ending())
    });
    stop(stage.glbd, Signal::SIGTERM);
    assert!(!said_goodbye(&client) && !said_goodbye(&server));
    download.receive_to_end(&reader);
    assert!(writer.read(&mut [0]).is_err(), "what the reader might have said is cut short");
}

#[test]
fn a_name_server_that_does_not_answer_does_not_hold_it_up() {
    let names = NameServer::start();
    assert_within_a_second(|| {
        let glbd = Glbd::builder().wrapped_by(names.wrapper()).start();
        let asked = names.asked();
        let mut conversation = connect_to(glbd.control_address()).expect("the control port accepts");
        conversation.write_all(b"slow.example:1\n").expect("an open conversation");
        wait_until("the name server is asked", || names.asked() > asked);
        stop(glbd, Signal::SIGTERM)
    });
}

#[test]
fn a_start_that_waits_for_a_name_server_can_be_interrupted() {
    let names = NameServer::start();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let place = Daemon::new();
        let asked = names.asked();
        let wrapper = [names.wrapper(), vec!["env".to_owned(), "--default-signal=INT".to_owned()]].concat();
        let mut command = Command::new(&wrapper[0]);
        command.args(&wrapper[1..]).arg(PROGRAM).arg("--fifo").arg(place.fifo());
        let mut glbd = command.args([&place.address().to_string(), "slow.example:1"]).spawn().expect("glbd starts");
        wait_until("the name server is asked", || names.asked() > asked);
        kill(Pid::from_raw(glbd.id() as i32), signal).expect("glbd runs");
        wait_until("it ends", || glbd.try_wait().expect("a child of this process").is_some());
        assert_eq!(place.files(), [""; 0], "{signal}");
    }
}

/// How long it takes from the signal until nothing is left.
fn time_to_stop(daemon: &Daemon, signal: Signal) -> Duration {
    let begun = Instant::now();
    daemon.signal(signal);
    daemon.wait_until_gone();
    let took = begun.elapsed();
    assert_eq!(daemon.files(), [""; 0], "{signal}");
    took
}

#[test]
fn in_the_background_it_stops_within_a_second_and_leaves_no_file_in_a_directory_that_is_closed_to_it() {
    let server = Server::named("a");
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        assert_within_a_second(|| {
            let daemon = Daemon::started(&[&server.to_string()]);
            let client = connect_to(daemon.address()).expect("a daemon that accepts");
            assert_eq!(names_of(slice::from_ref(&client)), ["a"]);
            assert_eq!(daemon.files(), ["glbd.fifo", "glbd.pid"]);
            let took = time_to_stop(&daemon, signal);
            said_goodbye(&client);
            took
        });
    }
}

#[test]
fn the_files_are_gone_before_the_daemon_is() {
    for _ in 0..10 {
        let daemon = Daemon::started(&[]);
        let pid = daemon.pid();
        daemon.signal(Signal::SIGTERM);
        while is_running(pid) {
            thread::yield_now();
        }
        assert_eq!(daemon.files(), [""; 0]);
    }
}

fn is_running(pid: Pid) -> bool {
    // Who has ended has no command line any more, even if nobody has asked how yet.
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| !words.is_empty())
}

#[test]
fn a_daemon_that_is_killed_leaves_no_files_either() {
    let daemon = Daemon::started(&[]);
    daemon.signal(Signal::SIGKILL);
    daemon.wait_until_gone();
    assert_eq!(daemon.files(), [""; 0]);
    daemon.start(&[]);
}

#[test]
fn what_is_sent_to_all_processes_of_its_name_stops_it_as_well() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let daemon = Daemon::started(&[]);
        for pid in daemon.processes() {
            // The janitor may have followed the daemon already.
            kill(pid, signal).ok();
        }
        daemon.wait_until_gone();
        assert_eq!(daemon.files(), [""; 0], "{signal}");
    }
}

#[test]
fn a_daemon_that_changed_its_user_in_the_foreground_leaves_no_files_however_it_ends() {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let pidfile = directory.path().join("glbd.pid");
        let glbd = Glbd::builder().args(["--user", "nobody", "--pidfile", &pidfile.display().to_string()]).start();
        assert!(pidfile.exists() && glbd.fifo().exists());
        glbd.signal(signal);
        wait_until("the files are gone", || !pidfile.exists() && !glbd.fifo().exists());
    }
}

#[test]
fn a_hang_up_stops_it_in_the_foreground_only() {
    stop(at_a_terminal().start(), Signal::SIGHUP);

    let daemon = Daemon::started(&[]);
    daemon.signal(Signal::SIGHUP);
    goes_on(|| daemon.control("version"));
    daemon.signal(Signal::SIGTERM);
    daemon.wait_until_gone();
}

/// For longer than it takes a daemon to stop, its control port answers.
fn goes_on(version: impl Fn() -> String) {
    for _ in 0..20 {
        assert_eq!(version(), "glbd 2.0.0\n");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_was_ignored_at_the_start_stays_ignored() {
    let ignored = ["sh", "-c", "trap '' HUP INT; exec \"$0\" \"$@\""];
    let glbd = Glbd::builder().wrapped_by(ignored).start();
    glbd.signal(Signal::SIGHUP);
    glbd.signal(Signal::SIGINT);
    goes_on(|| glbd.control("version"));
    stop(glbd, Signal::SIGTERM);
}
