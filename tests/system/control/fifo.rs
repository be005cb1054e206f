//! The control FIFO: commands without answers.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::thread;

use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::abuse::BOUND;
use super::name_server::NameServer;
use crate::harness::{Glbd, free_port, glbd, wait_until};

fn write(glbd: &Glbd, text: &str) {
    let mut fifo = OpenOptions::new().write(true).open(glbd.fifo()).expect("the FIFO");
    fifo.write_all(text.as_bytes()).expect("a daemon that reads");
}

/// Addresses and weights in the table.
fn table(glbd: &Glbd) -> Vec<(String, f64)> {
    glbd.info().rows.into_iter().map(|row| (row.address, row.weight)).collect()
}

/// Waits until the table has these addresses and weights.
fn wait_for_table(glbd: &Glbd, expected: &[(&str, f64)]) {
    let expected: Vec<_> = expected.iter().map(|(address, weight)| ((*address).to_owned(), *weight)).collect();
    wait_until(&format!("the table is {expected:?}"), || table(glbd) == expected);
}

#[test]
fn its_commands_are_obeyed() {
    let glbd = Glbd::start(["127.0.0.1:1"]);
    write(&glbd, "127.0.0.1:2:0.5\n");
    wait_for_table(&glbd, &[("127.0.0.1:1", 1.0), ("127.0.0.1:2", 0.5)]);
    write(&glbd, "127.0.0.1:1:0\n");
    wait_for_table(&glbd, &[("127.0.0.1:1", 0.0), ("127.0.0.1:2", 0.5)]);
    write(&glbd, "127.0.0.1:1:-1\n");
    wait_for_table(&glbd, &[("127.0.0.1:2", 0.5)]);
}

#[test]
fn it_needs_no_control_socket() {
    let glbd = Glbd::builder().control(false).start();
    write(&glbd, "127.0.0.1:2:0.5\n");
    glbd.wait_for_log("destination 127.0.0.1:2 added");
}

#[test]
fn it_never_gets_an_answer() {
    let glbd = Glbd::start([""; 0]);
    write(&glbd, "getinfo\nversion\nhelp\nprompt\n127.0.0.1:1\nnonsense\nquit\n127.0.0.1:2\n");
    wait_for_table(&glbd, &[("127.0.0.1:1", 1.0), ("127.0.0.1:2", 1.0)]);
    let mut fifo =
        OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(glbd.fifo()).expect("the FIFO");
    let unread = fifo.read(&mut [0]).expect_err("nothing was written to it");
    assert_eq!(unread.kind(), ErrorKind::WouldBlock);
}

#[test]
fn its_errors_are_in_the_log() {
    let glbd = Glbd::start([""; 0]);
    write(&glbd, "nonsense\n127.0.0.1:1:nan\n127.0.0.1:1:-1\n");
    glbd.wait_for_log("control FIFO: Error: 'nonsense' is neither a command nor HOST:PORT[:WEIGHT]");
    glbd.wait_for_log("control FIFO: Error: '127.0.0.1:1:nan': 'nan' is not a weight");
    glbd.wait_for_log("control FIFO: Error: 127.0.0.1:1: no such destination");
}

#[test]
fn several_commands_in_one_piece_are_all_obeyed() {
    let glbd = Glbd::start([""; 0]);
    write(&glbd, "127.0.0.1:1\r\n127.0.0.1:2\n\n127.0.0.1:3:3\n127.0.0.1:2:-1\n");
    wait_for_table(&glbd, &[("127.0.0.1:1", 1.0), ("127.0.0.1:3", 3.0)]);
}

#[test]
fn a_command_in_several_pieces_is_one_command() {
    // On a busy machine the pieces may come so slowly that the pause ends the command.
    let tries = || {
        let glbd = Glbd::start([""; 0]);
        for piece in ["127.0.0.", "1:4:", "4", "\n127.0.0.1:5:5\n127.", "0.0.1:6:6\n"] {
            write(&glbd, piece);
        }
        wait_until("the last is obeyed", || table(&glbd).last().is_some_and(|(_, weight)| *weight == 6.0));
        table(&glbd) == [4, 5, 6].map(|n| (format!("127.0.0.1:{n}"), f64::from(n)))
    };
    assert!((0..3).any(|_| tries()));
}

#[test]
fn a_line_without_its_end_is_obeyed() {
    let glbd = Glbd::start([""; 0]);
    write(&glbd, "127.0.0.1:1:0.5");
    wait_for_table(&glbd, &[("127.0.0.1:1", 0.5)]);
}

#[test]
fn a_line_that_is_too_long_is_ignored_and_no_other() {
    for length in [4097, 5000, 8192, 8193, 20_000, 60_000] {
        let glbd = Glbd::start([""; 0]);
        write(&glbd, &format!("127.0.0.1:1\n{}\n127.0.0.1:2\n", "x".repeat(length)));
        write(&glbd, "127.0.0.1:3\n");
        wait_for_table(&glbd, &[("127.0.0.1:1", 1.0), ("127.0.0.1:2", 1.0), ("127.0.0.1:3", 1.0)]);
        glbd.wait_for_log("longer than 4096 bytes");
    }
}

#[test]
fn many_writers_are_all_obeyed() {
    let glbd = Glbd::start([""; 0]);
    thread::scope(|scope| {
        for writer in 1..=8 {
            let glbd = &glbd;
            scope.spawn(move || (1..=50).for_each(|port| write(glbd, &format!("127.0.0.{writer}:{port}:0.5\n"))));
        }
    });
    wait_until("all are there", || table(&glbd).len() == 400);
    assert!(table(&glbd).iter().all(|(_, weight)| *weight == 0.5));
}

#[test]
fn a_flood_through_it_keeps_nobody_out() {
    let glbd = Glbd::start(["127.0.0.1:1"]);
    let before = glbd.resident_bytes();
    for flood in ["yes getinfo", "yes nonsense", "cat /dev/zero", "yes 127.0.0.1:1:2"] {
        let mut command = Command::new("sh");
        let command = command.args(["-c", &format!("exec {flood} >\"$0\"")]).arg(glbd.fifo());
        // Were it to go on after a failed test, it would end with the FIFO's reader.
        let mut flooding = command.spawn().expect("sh, from Debian's package dash");
        for _ in 0..20 {
            assert_eq!(glbd.info().rows.len(), 1, "{flood}");
        }
        assert!(glbd.resident_bytes() < before + BOUND, "{flood}: {} bytes", glbd.resident_bytes());
        flooding.kill().expect("it floods");
        flooding.wait().expect("its end");
    }
}

#[test]
fn names_are_resolved_one_after_the_other() {
    let names = NameServer::start();
    let glbd = Glbd::builder().wrapped_by(names.wrapper()).start();
    write(&glbd, "slow.example:1\n127.0.0.1:1:2\nnowhere.example:1\n127.0.0.1:2\n");
    wait_until("the name server is asked", || names.asked() > 0);
    assert_eq!(table(&glbd).len(), 0);
    names.answer();
    wait_for_table(&glbd, &[("127.0.0.1:1", 2.0), ("127.0.0.1:2", 1.0)]);
    glbd.wait_for_log("control FIFO: Error: nowhere.example:1: ");
}

#[test]
fn only_its_owner_may_write_to_it_and_it_goes_with_the_daemon() {
    for signal in [Signal::SIGTERM, Signal::SIGUSR1] {
        let mut glbd = Glbd::builder().wrapped_by(["sh", "-c", "umask 0; exec \"$0\" \"$@\""]).start();
        let metadata = fs::metadata(glbd.fifo()).expect("the FIFO");
        assert!(metadata.file_type().is_fifo());
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
        glbd.signal(signal);
        assert_eq!(glbd.wait_exit().code(), Some(0), "{signal}");
        assert!(!glbd.fifo().exists(), "{signal}");
    }
}

/// Puts something where the FIFO is to be.
type Maker = fn(&Path);

#[test]
fn a_path_where_something_is_already_is_refused_and_left_alone() {
    let makers: [(&str, Maker); 5] = [
        ("file", |path| fs::write(path, "precious").expect("a file")),
        ("directory", |path| fs::create_dir(path).expect("a directory")),
        ("fifo", |path| mkfifo(path, Mode::S_IRWXU).expect("a FIFO")),
        ("dangling link", |path| symlink("/nonexistent", path).expect("a link")),
        ("link to a file", |path| symlink("/etc/passwd", path).expect("a link")),
    ];
    for (name, make) in makers {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join(name);
        make(&path);
        let before = fs::symlink_metadata(&path).expect("what was made");
        // One that nobody reads was left by a daemon that was killed.
        let _reader = (name == "fifo").then(|| OpenOptions::new().read(true).write(true).open(&path).expect("a FIFO"));
        let address = format!("127.0.0.1:{}", free_port());
        let output = glbd::run(&["--fifo", &path.display().to_string(), &address]);
        let said = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        assert!(said.starts_with("glbd: ") && said.contains(&path.display().to_string()), "{name}: {said}");
        assert_eq!(said.lines().count(), 1, "{name}: {said}");
        let after = fs::symlink_metadata(&path).expect("what was made");
        assert_eq!((after.file_type(), after.len()), (before.file_type(), before.len()), "{name}");
    }
}

#[test]
fn a_path_that_cannot_be_is_refused() {
    let address = format!("127.0.0.1:{}", free_port());
    for path in ["/nonexistent/glbd.fifo", "/etc/passwd/glbd.fifo", "/proc/glbd.fifo"] {
        let output = glbd::run(&["--fifo", path, &address]);
        let said = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(1), "{path}: {said}");
        assert!(said.contains(path) && said.lines().count() == 1, "{path}: {said}");
    }
}
