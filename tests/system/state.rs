//! `--state`: what was changed at run time is there after a restart, and after a crash.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::harness::glbd::run;
use crate::harness::{
    Builder, Daemon, Glbd, Info, Server, connect_to, control, echoes, free_port, names_of, read_line, wait_until,
};

/// Weights by address.
type Table = BTreeMap<String, f64>;

/// A place for the state of several glbds, one after the other.
struct Kept {
    directory: TempDir,
}

impl Kept {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a directory") }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    fn glbd(&self) -> Builder {
        Glbd::builder().args(["--state", &self.path().display().to_string()])
    }

    fn start(&self, destinations: &[&str]) -> Glbd {
        self.glbd().destinations(destinations).start()
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).expect("the state")
    }
}

fn weights(info: &Info) -> Table {
    info.rows.iter().map(|row| (row.address.clone(), row.weight)).collect()
}

fn table(rows: &[(&str, f64)]) -> Table {
    rows.iter().map(|(address, weight)| ((*address).to_owned(), *weight)).collect()
}

#[test]
fn changes_are_there_after_a_restart() {
    let kept = Kept::new();
    let base = ["127.0.0.1:1", "127.0.0.1:2:2", "127.0.0.1:3"];
    let mut glbd = kept.start(&base);
    for change in ["127.0.0.1:1:0", "127.0.0.1:2:-1", "127.0.0.1:4:0.75", "127.0.0.1:5:1", "127.0.0.1:5:-1"] {
        assert_eq!(glbd.control(change).matches("Ok").count(), 1, "{change}");
    }
    let after = table(&[("127.0.0.1:1", 0.0), ("127.0.0.1:3", 1.0), ("127.0.0.1:4", 0.75)]);
    for signal in [Signal::SIGTERM, Signal::SIGKILL, Signal::SIGUSR1] {
        assert_eq!(weights(&glbd.info()), after);
        glbd.signal(signal);
        glbd.wait_exit();
        glbd = kept.start(&base);
    }
    assert_eq!(weights(&glbd.info()), after);
    let told = format!("changes of the last time were made again, as {} says: 127.0.0.1:", kept.path().display());
    glbd.wait_for_log(&told);
}

#[test]
fn the_command_line_is_the_base() {
    let kept = Kept::new();
    let glbd = kept.start(&["127.0.0.1:1", "127.0.0.1:2"]);
    glbd.change("127.0.0.1:2:0.5");
    drop(glbd);
    // Others than before, one of them with another weight.
    let glbd = kept.start(&["127.0.0.1:1:3", "127.0.0.1:2", "127.0.0.1:7"]);
    let expected = table(&[("127.0.0.1:1", 3.0), ("127.0.0.1:2", 0.5), ("127.0.0.1:7", 1.0)]);
    assert_eq!(weights(&glbd.info()), expected);
}

#[test]
fn what_a_reload_has_brought_is_not_kept_and_what_hands_have_changed_is() {
    let kept = Kept::new();
    let file = kept.directory.path().join("glbd.toml");
    let port = free_port();
    let write = |destinations: &[&str]| {
        let state = kept.path();
        let text = format!(
            "[process]\nuser = 'root'\nstate = {state:?}\n[pool.p]\ndestinations = {destinations:?}\n[service.s]\n"
        );
        fs::write(&file, format!("{text}listen = {port}\n")).expect("a file");
    };
    let daemon = Daemon::new();
    let start = || daemon.start(&["--config", &file.display().to_string()]);
    let restart = || {
        daemon.signal(Signal::SIGTERM);
        daemon.wait_until_gone();
        start();
    };
    write(&["127.0.0.1:1", "127.0.0.1:2"]);
    start();
    let empty = kept.text();
    write(&["127.0.0.1:3", "127.0.0.1:2", "127.0.0.1:1"]);
    assert!(daemon.control("reload").ends_with("Ok\n"));
    assert_eq!(kept.text(), empty);
    assert_eq!(daemon.control("127.0.0.1:2:0"), "Ok\n");
    // The next start has what the file says by then, in its order.
    write(&["127.0.0.1:3:5", "127.0.0.1:2", "127.0.0.1:1"]);
    restart();
    let rows = || daemon.info().rows.iter().map(|row| (row.address.clone(), row.weight)).collect::<Vec<_>>();
    let expected =
        |rows: &[(&str, f64)]| rows.iter().map(|(it, weight)| ((*it).to_owned(), *weight)).collect::<Vec<_>>();
    assert_eq!(rows(), expected(&[("127.0.0.1:3", 5.0), ("127.0.0.1:2", 0.0), ("127.0.0.1:1", 1.0)]));
    write(&["127.0.0.1:1", "127.0.0.1:2"]);
    restart();
    assert_eq!(rows(), expected(&[("127.0.0.1:1", 1.0), ("127.0.0.1:2", 0.0)]));
}

#[test]
fn clients_go_where_the_state_says() {
    let kept = Kept::new();
    let servers = ["a", "b"].map(Server::named);
    let base = servers[0].to_string();
    let glbd = kept.start(&[&base]);
    glbd.change(&servers[1]);
    glbd.change(format!("{base}:0"));
    drop(glbd);
    let glbd = kept.start(&[&base]);
    assert_eq!(names_of(&[(); 4].map(|()| glbd.connect())), ["b"; 4]);
}

#[test]
fn what_is_changed_through_the_fifo_is_kept_too() {
    let kept = Kept::new();
    let glbd = kept.start(&[]);
    fs::write(glbd.fifo(), "127.0.0.1:1:0.5\n").expect("a FIFO");
    wait_until("it is kept", || kept.text().contains("127.0.0.1:1:0.5"));
}

#[test]
fn nothing_but_changes_is_written_and_a_refused_one_is_none() {
    let kept = Kept::new();
    let glbd = kept.start(&["127.0.0.1:1"]);
    let empty = kept.text();
    assert!(glbd.control("127.0.0.1:9:0").starts_with("Error"));
    glbd.change("127.0.0.1:1:1");
    assert_eq!(kept.text(), empty);
    glbd.change("127.0.0.1:1:2");
    assert_ne!(kept.text(), empty);
}

#[test]
fn a_damaged_file_is_told_kept_aside_and_not_used() {
    let kept = Kept::new();
    let glbd = kept.start(&["127.0.0.1:1"]);
    glbd.change("127.0.0.1:2:0.5");
    glbd.change("127.0.0.1:3:0.5");
    drop(glbd);
    let whole = kept.text();
    let half = whole[..whole.len() / 2].to_owned();
    for damaged in [half, whole.replace("127.0.0.1:2:0.5", "127.0.0.1:2:0.9"), String::new()] {
        fs::write(kept.path(), &damaged).expect("a file");
        let glbd = kept.start(&["127.0.0.1:1"]);
        assert_eq!(weights(&glbd.info()), table(&[("127.0.0.1:1", 1.0)]));
        glbd.wait_for_log("is damaged: ");
        let aside = kept.directory.path().join("state.damaged");
        assert_eq!(fs::read_to_string(&aside).expect("the damaged file"), damaged);
        // The next start has nothing to complain of.
        drop(glbd);
        assert!(!kept.start(&["127.0.0.1:1"]).log().contains("damaged"));
    }
}

#[test]
fn a_state_that_cannot_be_written_keeps_it_from_starting() {
    let output = run(&["--state", "/no/such/directory/state", "--fifo", "/no/such/fifo", "127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("glbd: ") && said.lines().count() == 1, "{said}");

    let kept = Kept::new();
    fs::create_dir(kept.path()).expect("a directory");
    let fifo = kept.directory.path().join("fifo").display().to_string();
    let address = format!("127.0.0.1:{}", crate::harness::free_port());
    let output = run(&["--state", &kept.path().display().to_string(), "--fifo", &fifo, &address]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("state") && said.contains(&kept.path().display().to_string()), "{said}");
    assert!(!Path::new(&fifo).exists());
}

/// It must not start with this as its state, and say why.
fn cannot_be_read(kept: &Kept, path: &str, reason: &str) {
    let fifo = kept.directory.path().join("fifo").display().to_string();
    let address = format!("127.0.0.1:{}", crate::harness::free_port());
    let output = run(&["--state", path, "--fifo", &fifo, &address]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said, format!("glbd: cannot read the state from {path}: {reason}\n"));
}

/// Such as zeros, which some file systems leave after a power cut.
#[test]
fn a_file_of_something_else_is_set_aside_and_clients_are_served() {
    let server = Server::named("a");
    let kept = Kept::new();
    for text in [&b"LISTEN_ADDR=3306\n"[..], b"root:x:0:0", b"\xff\0", b"# glbd settings", &[0; 4096], b"\0"] {
        fs::write(kept.path(), text).expect("a file");
        let glbd = kept.start(&[&server.to_string()]);
        let reason = if text.iter().all(|byte| *byte == 0) { "it consists of zeros" } else { "it is not a state file" };
        glbd.wait_for_log(&format!("{} is damaged: {reason}", kept.path().display()));
        assert_eq!(read_line(&glbd.connect()).expect("a name"), "a");
        let aside = kept.directory.path().join("state.damaged");
        assert_eq!(fs::read(aside).expect("the file"), text);
    }
}

#[test]
fn two_daemons_do_not_keep_their_state_in_one_file() {
    let kept = Kept::new();
    let path = kept.path().display().to_string();
    let reason = "another glbd keeps its state there";
    let glbd = kept.start(&["127.0.0.1:1"]);
    cannot_be_read(&kept, &path, reason);
    // Also when the file is another one by now.
    glbd.change("127.0.0.1:2:0.5");
    cannot_be_read(&kept, &path, reason);
    // One that is killed leaves it, and so does one that drains.
    glbd.signal(Signal::SIGKILL);
    let server = Server::named("a");
    let draining = kept.start(&[&server.to_string()]);
    let client = draining.connect();
    assert_eq!(read_line(&client).expect("a name"), "a");
    draining.signal(Signal::SIGUSR1);
    let next = kept.start(&[&server.to_string()]);
    assert!(echoes(&client));
    next.change("127.0.0.1:3:0.5");
    drop((draining, next));
    assert!(kept.text().contains("127.0.0.1:3:0.5"));
}

#[test]
fn after_an_upgrade_the_file_is_the_new_process_s() {
    let kept = Kept::new();
    let path = kept.path().display().to_string();
    let daemon = Daemon::started(&["--user", "root", "--state", &path, "127.0.0.1:1"]);
    let client = daemon.connect();
    daemon.upgrade();
    cannot_be_read(&kept, &path, "another glbd keeps its state there");
    assert_eq!(daemon.control("127.0.0.1:2:0.5"), "Ok\n");
    assert!(kept.text().contains("127.0.0.1:2:0.5"));
    drop(client);
    daemon.upgrade();
    cannot_be_read(&kept, &path, "another glbd keeps its state there");
    assert_eq!(daemon.control("127.0.0.1:3:0.5"), "Ok\n");
}

/// Nobody else is to read or write it, whatever mask the daemon is started with, nor to have it written elsewhere.
#[test]
fn the_file_is_its_owner_s_only_and_no_link_leads_it_astray() {
    let kept = Kept::new();
    let victim = kept.directory.path().join("victim");
    fs::write(&victim, "precious").expect("a file");
    std::os::unix::fs::symlink(&victim, kept.directory.path().join("state.new")).expect("a link");
    let glbd =
        kept.glbd().wrapped_by(["sh", "-c", "umask 0; exec \"$0\" \"$@\""]).destinations(["127.0.0.1:1"]).start();
    glbd.change("127.0.0.1:2:0.5");
    assert_eq!(fs::read_to_string(&victim).expect("the file"), "precious");
    let mode = |path: &Path| fs::symlink_metadata(path).expect("a file").permissions().mode() & 0o7777;
    assert_eq!(mode(&kept.path()), 0o600);
    assert_eq!(mode(glbd.fifo().as_ref()), 0o600);
}

#[test]
fn what_is_no_ordinary_file_is_left_alone() {
    let kept = Kept::new();
    nix::unistd::mkfifo(&kept.path(), nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    for path in ["/dev/null".to_owned(), kept.path().display().to_string()] {
        cannot_be_read(&kept, &path, "it is no ordinary file");
    }
}

#[test]
fn a_link_goes_on_leading_to_the_state() {
    let kept = Kept::new();
    let real = kept.directory.path().join("real");
    kept.start(&[]).change("127.0.0.1:1:0.5");
    fs::rename(kept.path(), &real).and_then(|()| std::os::unix::fs::symlink(&real, kept.path())).expect("a link");
    kept.start(&[]).change("127.0.0.1:2:0.5");
    assert!(fs::symlink_metadata(kept.path()).expect("a link").is_symlink());
    assert!(fs::read_to_string(&real).expect("the state").contains("127.0.0.1:2:0.5"));
}

#[test]
fn who_drains_changes_nothing_any_more() {
    let kept = Kept::new();
    let server = Server::named("a");
    let old = kept.start(&[&server.to_string()]);
    let client = old.connect();
    assert_eq!(names_of(&[client.try_clone().expect("a client")]), ["a"]);
    let mut person = connect_to(old.control_address()).expect("a control port");
    person.write_all(b"prompt\n").expect("an open conversation");
    assert_eq!(person.read(&mut [0; 100]).expect("a prompt"), 2);
    old.signal(Signal::SIGUSR1);
    old.wait_for_log("no new connections");
    let before = kept.text();
    person.write_all(b"127.0.0.1:1:0.5\nquit\n").expect("an open conversation");
    let mut answer = String::new();
    person.read_to_string(&mut answer).expect("text");
    assert!(answer.starts_with("Error: 127.0.0.1:1: this glbd takes no changes any more"), "{answer}");
    assert_eq!(kept.text(), before);
}

#[test]
fn a_change_that_cannot_be_kept_is_in_force_and_told_not_to_last() {
    let kept = Kept::new();
    let glbd = kept.start(&["127.0.0.1:1"]);
    fs::remove_file(kept.path()).expect("the state");
    // Nothing can be renamed to it now.
    fs::create_dir(kept.path()).expect("a directory");
    for weight in ["0", "2"] {
        let answer = glbd.control(&format!("127.0.0.1:1:{weight}"));
        assert!(answer.starts_with("Error: 127.0.0.1:1: done, but a restart will undo it: "), "{answer}");
    }
    assert_eq!(weights(&glbd.info()), table(&[("127.0.0.1:1", 2.0)]));
    fs::remove_dir(kept.path()).expect("the directory");
    glbd.change("127.0.0.1:1:3");
    glbd.wait_for_log("changed from weight 2 to 3");
    glbd.wait_for_log(&format!("INFO {} could be written again: a restart undoes nothing", kept.path().display()));
    assert_eq!(glbd.log().matches("a restart will undo").count(), 1, "once, not a thousand times");
}

#[test]
fn a_name_is_kept_as_a_name() {
    let kept = Kept::new();
    let glbd = kept.start(&[]);
    glbd.change("localhost:3306:0.5");
    assert!(kept.text().contains("localhost:3306:0.5 127.0.0.1:3306\n"), "{}", kept.text());
    drop(glbd);
    let glbd = kept.start(&[]);
    assert_eq!(weights(&glbd.info()), table(&[("127.0.0.1:3306", 0.5)]));
    glbd.change("localhost:3306:-1");
}

#[test]
fn killed_in_the_midst_of_changes_it_comes_back_with_the_last_that_was_answered_or_the_one_in_flight() {
    const ROUNDS: usize = 50;
    // Each is on the disk before it is answered, which takes some disks long.
    const CHANGES: usize = 100;
    let kept = Kept::new();
    let mut expected = Table::new();
    let mut glbd = kept.start(&[]);
    for round in 0..ROUNDS {
        let (state, answered) = (Mutex::new((expected.clone(), None)), AtomicUsize::new(0));
        let kill_after = (round * 7919) % CHANGES;
        let (address, pid, over) = (glbd.control_address(), glbd.pid(), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                change_in_one_conversation(address, round, CHANGES, &state, &answered);
                over.store(true, Ordering::SeqCst);
            });
            while answered.load(Ordering::SeqCst) < kill_after && !over.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_micros(100));
            }
            kill(Pid::from_raw(pid.as_raw()), Signal::SIGKILL).expect("it runs");
        });
        assert!(answered.load(Ordering::SeqCst) >= kill_after.min(CHANGES));
        glbd.wait_exit();
        drop(glbd);
        glbd = kept.start(&[]);
        assert!(!glbd.log().contains("damaged"), "{}", glbd.log());
        let found = weights(&glbd.info());
        let (last, in_flight) = state.into_inner().expect("no panic");
        assert!(found == last || Some(&found) == in_flight.as_ref(), "round {round}: {found:?}\nlast: {last:?}");
        expected = found;
    }
}

/// Adds, changes, drains and removes, one at a time, and notes what the table is after each answer, and may be before.
fn change_in_one_conversation(
    address: SocketAddr,
    round: usize,
    changes: usize,
    state: &Mutex<(Table, Option<Table>)>,
    answered: &AtomicUsize,
) {
    let Ok(stream) = connect_to(address) else { return };
    let mut answers = BufReader::new(&stream);
    // Without a prompt, a pause that a busy machine makes here would end the conversation.
    if (&stream).write_all(b"prompt\n").is_err() {
        return;
    }
    for number in 0..changes {
        let (table, _) = state.lock().expect("no panic").clone();
        let destination = SocketAddr::from((Ipv4Addr::LOCALHOST, (1 + (number * 31 + round) % 40) as u16)).to_string();
        let weight =
            if number % 3 == 2 && table.contains_key(&destination) { -1.0 } else { 0.125 * (number % 50 + 1) as f64 };
        let mut next = table.clone();
        match weight {
            weight if weight < 0.0 => drop(next.remove(&destination)),
            weight => drop(next.insert(destination.clone(), weight)),
        }
        state.lock().expect("no panic").1 = Some(next.clone());
        let mut answer = String::new();
        let asked = (&stream).write_all(format!("{destination}:{weight}\n").as_bytes());
        if asked.is_err() || answers.read_line(&mut answer).is_err() || !answer.ends_with('\n') {
            return;
        }
        assert_eq!(answer, "> Ok\n", "{destination}:{weight}");
        *state.lock().expect("no panic") = (next, None);
        answered.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_conversation_goes_on_however_slow_the_disk_is() {
    let slow = "#include <unistd.h>\nint fsync(int file) { return usleep(250000); }\n";
    let kept = Kept::new();
    let (source, library) = (kept.directory.path().join("slow.c"), kept.directory.path().join("slow.so"));
    fs::write(&source, slow).expect("a source");
    let mut compile = Command::new("cc");
    let compiled = compile.args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
    assert!(compiled.expect("cc, of the package gcc").success());
    let preload = format!("LD_PRELOAD={}", library.display());
    let glbd = kept.glbd().wrapped_by(["env", &preload]).start();
    let mut weights = 1..;
    wait_until("three commands are answered in one conversation", || {
        let stream = connect_to(glbd.control_address()).expect("a control port");
        weights.by_ref().take(3).all(|weight| {
            let before = Instant::now();
            // It has ended when this test was held up between an answer and the next command.
            let said = (&stream).write_all(format!("127.0.0.1:1:{weight}\n").as_bytes());
            let answered = said.is_ok() && read_line(&stream).is_ok_and(|answer| answer == "Ok");
            assert!(!answered || before.elapsed() >= Duration::from_millis(500), "both files are synced, slowly");
            answered
        })
    });
}

#[test]
fn answers_come_only_when_the_change_is_kept() {
    let kept = Kept::new();
    let glbd = kept.start(&[]);
    for number in 1..=50 {
        let destination = format!("127.0.0.1:{number}:0.5");
        assert_eq!(control::ask(glbd.control_address(), &destination).expect("an answer"), "Ok\n");
        assert!(kept.text().contains(&destination));
    }
}
