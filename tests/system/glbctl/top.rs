//! `glbctl top` on a real terminal, and what it leaves behind on it.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use nix::fcntl::OFlag;
use nix::pty::{Winsize, grantpt, openpty, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::{Pid, ttyname};

use super::{CTL, ctl};
use crate::harness::{Glbd, PATIENCE, Server, echoes, free_port, proc, wait_until};

/// A terminal with a program on it.
struct Screen {
    child: Child,
    parser: Arc<Mutex<vt100::Parser>>,
    /// Everything that was written on it.
    written: Arc<Mutex<Vec<u8>>>,
    keyboard: File,
    terminal: File,
    before: Termios,
}

impl Screen {
    /// glbctl with these arguments, as a shell would start it.
    fn start(arguments: &[String], environment: &[(&str, &str)]) -> Self {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).expect("a pseudo-terminal");
        let (master, terminal) = (File::from(pty.master), File::from(pty.slave));
        let before = tcgetattr(&terminal).expect("a terminal");
        let end = || Stdio::from(terminal.try_clone().expect("a terminal"));
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(CTL).args(arguments).stdin(end()).stdout(end()).stderr(end());
        command.env_remove("GLB_CONTROL").env_remove("NO_COLOR").env("TERM", "xterm-256color");
        command.envs(environment.iter().copied());
        let child = command.spawn().expect("setsid, from Debian's package util-linux");
        let parser = Arc::new(Mutex::new(vt100::Parser::new(24, 80, 0)));
        let written = Arc::new(Mutex::new(Vec::new()));
        let (seen, all) = (Arc::clone(&parser), Arc::clone(&written));
        let mut output = master.try_clone().expect("a terminal");
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                seen.lock().expect("a screen").process(&buffer[..count]);
                all.lock().expect("bytes").extend_from_slice(&buffer[..count]);
            }
        });
        Self { child, parser, written, keyboard: master, terminal, before }
    }

    fn text(&self) -> String {
        self.parser.lock().expect("a screen").screen().contents()
    }

    /// Whether the program has the terminal, or whoever had it before.
    fn is_taken(&self) -> bool {
        self.parser.lock().expect("a screen").screen().alternate_screen()
    }

    fn is_coloured(&self) -> bool {
        let parser = self.parser.lock().expect("a screen");
        let (rows, columns) = parser.screen().size();
        let places = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        let cells = places.filter_map(|(row, column)| parser.screen().cell(row, column));
        cells.into_iter().any(|cell| cell.fgcolor() != vt100::Color::Default || cell.bgcolor() != vt100::Color::Default)
    }

    fn is_as_before(&self) -> bool {
        let now = tcgetattr(&self.terminal).expect("a terminal");
        now.local_flags == self.before.local_flags && now.input_flags == self.before.input_flags && !self.is_taken()
    }

    fn shows(&self, text: &str) {
        let begun = std::time::Instant::now();
        while !self.text().contains(text) {
            assert!(begun.elapsed() < PATIENCE, "no {text:?} on\n{}", self.text());
            thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    fn press(&self, keys: &str) {
        (&self.keyboard).write_all(keys.as_bytes()).expect("a terminal");
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("glbctl runs");
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    fn end(&mut self) -> ExitStatus {
        self.child.wait().expect("glbctl")
    }

    fn resize(&self, columns: u16, rows: u16) {
        self.parser.lock().expect("a screen").screen_mut().set_size(rows, columns);
        let name = ttyname(&self.terminal).expect("its name");
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let status = Command::new("stty").arg("-F").arg(name).args(["columns", &columns, "rows", &rows]).status();
        assert!(status.expect("stty, from Debian's package coreutils").success());
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn top(daemons: &[&Glbd]) -> Screen {
    let control = |glbd: &&Glbd| format!("--control={}", glbd.control_address());
    let arguments: Vec<String> = daemons.iter().map(control).chain(["top".into(), "--interval=0.2".into()]).collect();
    Screen::start(&arguments, &[])
}

#[test]
fn everything_is_shown_and_changed_by_key_after_a_question() {
    let servers = [Server::echo(), Server::echo()];
    let glbd = Glbd::builder().args(["-w", "tcp", "--single"]).destinations(&servers).start();
    wait_until("there is a writer", || glbd.info().row(&servers[0]).is_single);
    let mut screen = top(&[&glbd]);
    for text in [&format!("*{}", servers[0]), "READY", "main", "ready", "serving on", "?:help"] {
        screen.shows(text);
    }
    assert!(screen.is_coloured());
    let weight = |server: &Server| glbd.info().row(server).weight;
    screen.press("\u{1b}[Bd");
    screen.shows(&format!("drain {}?", servers[1]));
    screen.press("n");
    screen.shows("nothing was done");
    assert_eq!(weight(&servers[1]), 1.0);
    screen.press("dy");
    wait_until("it is drained", || weight(&servers[1]) == 0.0);
    screen.shows("drained");
    screen.press("ny");
    wait_until("it is enabled", || weight(&servers[1]) == 1.0);
    screen.press("w0.5\r");
    screen.shows(&format!("give {} the weight 0.5?", servers[1]));
    screen.press("y");
    wait_until("it weighs less", || weight(&servers[1]) == 0.5);
    screen.press("Wy");
    wait_until("it is the writer", || glbd.info().row(&servers[1]).is_single);
    screen.shows(&format!("*{}", servers[1]));
    let client = glbd.connect();
    assert!(echoes(&client));
    screen.press("c");
    screen.shows("127.0.0.1 ");
    screen.press("K");
    screen.shows("close the connections of client 127.0.0.1?");
    screen.press("y");
    wait_until("the client is let go", || glbd.info().total == 0);
    screen.press("e/nothing like it\r");
    wait_until("it is filtered", || !screen.text().contains(&servers[0].to_string()));
    screen.press("?");
    screen.shows("any key closes this");
    screen.press("qq");
    assert_eq!(screen.end().code(), Some(0));
    wait_until("the terminal is as before", || screen.is_as_before());
}

#[test]
fn the_terminal_is_given_back_by_signals_and_taken_again() {
    let glbd = Glbd::start([Server::echo().address()]);
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
        let mut screen = top(&[&glbd]);
        screen.shows("glbd 2.0.0");
        assert!(screen.is_taken() && !screen.is_as_before());
        screen.signal(signal);
        assert_eq!(screen.end().code(), Some(0), "{signal}");
        wait_until("the terminal is as before", || screen.is_as_before());
    }
    let mut screen = top(&[&glbd]);
    screen.shows("glbd 2.0.0");
    for by_key in [false, true] {
        if by_key {
            screen.press("\u{1a}");
        } else {
            screen.signal(Signal::SIGTSTP);
        }
        wait_until("it is stopped", || proc::is_stopped(screen.pid()));
        wait_until("the terminal is as before", || screen.is_as_before());
        screen.signal(Signal::SIGCONT);
        wait_until("it has the terminal again", || screen.is_taken());
        screen.shows("glbd 2.0.0");
    }
    screen.press("q");
    assert_eq!(screen.end().code(), Some(0));
    wait_until("the terminal is as before", || screen.is_as_before());
}

#[test]
fn the_terminal_is_given_back_by_a_panic_too_and_shows_it() {
    let glbd = Glbd::start([Server::echo().address()]);
    let arguments = ["-c", &glbd.control_address().to_string(), "top"].map(str::to_owned);
    let mut screen = Screen::start(&arguments, &[("GLBCTL_PANIC", "1")]);
    assert_eq!(screen.end().code(), Some(101));
    screen.shows("GLBCTL_PANIC asks for it");
    wait_until("the terminal is as before", || screen.is_as_before());
}

#[test]
fn daemons_stand_side_by_side_go_away_and_come_back_on_any_size() {
    let server = Server::echo();
    let port = free_port();
    let one = Glbd::start([&server]);
    let control = format!("127.0.0.1:{}", free_port());
    let start = || Glbd::builder().listen_on_port(port).args(["--control", &control]).destinations([&server]).start();
    let other = start();
    let arguments = ["-c", &one.control_address().to_string(), "-c", &control, "top", "--interval=0.2"];
    let mut screen = Screen::start(&arguments.map(str::to_owned), &[("NO_COLOR", "1")]);
    screen.shows("daemon 1 of 2");
    let panes =
        || screen.text().lines().find(|line| line.contains("glbd 2.0.0")).map(|it| it.matches("glbd 2.0.0").count());
    wait_until("both are seen", || panes() == Some(2));
    drop(other);
    screen.shows("AWAY for");
    assert!(!screen.is_coloured(), "NO_COLOR is heeded");
    let _back = start();
    wait_until("it is back", || !screen.text().contains("AWAY"));
    screen.resize(50, 12);
    wait_until("there is room for one", || panes() == Some(1));
    screen.press("\u{1b}[C");
    // crossterm may not see a key that comes in the moment of a resize before it sees the next one.
    let key_arrives = |what: &str, has_arrived: &mut dyn FnMut() -> bool| {
        wait_until(what, || {
            screen.press("e");
            has_arrived()
        });
    };
    key_arrives("the other one is chosen", &mut || screen.text().contains("daemon 2 of 2"));
    screen.resize(160, 40);
    wait_until("there is room for both", || panes() == Some(2));
    screen.resize(3, 2);
    screen.resize(80, 24);
    wait_until("it is drawn again", || panes() == Some(2));
    screen.press("\u{3}");
    let stat = format!("/proc/{}/stat", screen.pid());
    key_arrives("it ends", &mut || fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z ")));
    assert_eq!(screen.end().code(), Some(0));
}

#[test]
fn tables_are_coloured_on_a_terminal_unless_somebody_minds() {
    let glbd = Glbd::start([Server::echo().address()]);
    let control = format!("--control={}", glbd.control_address());
    assert!(!ctl(glbd.control_address(), "status").text().contains('\u{1b}'));
    for (environment, is_coloured) in [(&[][..], true), (&[("NO_COLOR", "1")], false), (&[("TERM", "dumb")], false)] {
        let mut screen = Screen::start(&[control.clone(), "status".into()], environment);
        assert_eq!(screen.end().code(), Some(0));
        screen.shows("READY");
        let written = screen.written.lock().expect("bytes").clone();
        assert_eq!(written.contains(&0x1b), is_coloured, "{environment:?}");
    }
}

#[test]
fn a_view_whose_terminal_is_gone_ends_even_if_no_signal_says_so() {
    let glbd = Glbd::start([&Server::echo()]);
    // Nobody else may hold it open, as processes would that are started meanwhile and inherit it.
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let mut master = posix_openpt(flags).expect("a pseudo-terminal");
    grantpt(&master).and_then(|()| unlockpt(&master)).expect("a pseudo-terminal");
    let name = ptsname_r(&master).expect("its name");
    let terminal = OpenOptions::new().read(true).write(true).custom_flags(flags.bits()).open(name).expect("a terminal");
    let end = || Stdio::from(terminal.try_clone().expect("a terminal"));
    // A session of its own, to which the terminal does not belong.
    let mut command = Command::new("setsid");
    command.arg(CTL).args(["-c", &glbd.control_address().to_string(), "top"]);
    command.stdin(end()).stdout(end()).stderr(Stdio::null()).env("TERM", "xterm-256color");
    let mut child = command.spawn().expect("setsid, from Debian's package util-linux");
    drop((command, terminal));
    assert!(master.read(&mut [0; 64]).expect("it draws") > 0);
    drop(master);
    wait_until("glbctl ends", || child.try_wait().expect("glbctl").is_some());
}
