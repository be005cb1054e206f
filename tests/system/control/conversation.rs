//! How commands may come, what answers them, and when the conversation ends.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use crate::harness::{Glbd, Info, connect_to, read_line};

/// A client of the control port.
pub fn call(glbd: &Glbd) -> TcpStream {
    let stream = connect_to(glbd.control_address()).expect("the control port accepts");
    // What is sent in pieces is to arrive in pieces.
    stream.set_nodelay(true).expect("TCP_NODELAY");
    stream
}

pub fn say(mut stream: &TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).expect("an open conversation");
}

/// Everything that comes until glbd ends the conversation.
pub fn rest(mut stream: &TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("a conversation that ends");
    text
}

/// Neither half-closes nor quits, as a netcat, and returns all that is answered.
fn talk(glbd: &Glbd, text: &str) -> String {
    let stream = call(glbd);
    say(&stream, text);
    rest(&stream)
}

#[test]
fn commands_are_known_by_their_beginning_without_regard_to_case() {
    let glbd = Glbd::start(["127.0.0.1:1"]);
    for command in ["getinfo", "GETINFO", "GetInfo", "getinformation", "getinfo  \t ", "getinfo please"] {
        assert_eq!(Info::parse(&talk(&glbd, &format!("{command}\n"))).rows.len(), 1, "{command:?}");
    }
    for command in ["getstat", "getstats", "GetStat", "getstatistics", "getstats \t"] {
        assert!(talk(&glbd, &format!("{command}\n")).starts_with("in: 0 out: 0 "), "{command:?}");
    }
}

#[test]
fn help_and_version_are_told() {
    let glbd = Glbd::start([""; 0]);
    for command in ["help", "HELP", "?"] {
        let help = talk(&glbd, &format!("{command}\n"));
        let changes = ["HOST:PORT:WEIGHT", "HOST:PORT:0", "HOST:PORT:-1", "writer HOST:PORT"];
        for told in ["getinfo", "getstats", "version", "prompt", "quit"].iter().chain(&changes) {
            assert!(help.contains(told), "{told} in:\n{help}");
        }
    }
    assert_eq!(talk(&glbd, "version\n"), "glbd 2.0.0\n");
}

#[test]
fn several_commands_in_one_packet_are_all_obeyed_in_their_order() {
    let glbd = Glbd::start([""; 0]);
    let said = talk(&glbd, "127.0.0.1:1\n127.0.0.1:2:2\nnonsense\n127.0.0.1:1:-1\nversion\ngetinfo\n");
    let rest = said.strip_prefix(
        "Ok\nOk\nError: 'nonsense' is neither a command nor HOST:PORT[:WEIGHT]; try help\nOk\nglbd 2.0.0\n",
    );
    let info = Info::parse(rest.unwrap_or_else(|| panic!("not the answers in their order:\n{said}")));
    assert_eq!((info.rows.len(), info.row("127.0.0.1:2").weight), (1, 2.0));
}

#[test]
fn a_command_in_several_packets_is_one_command() {
    let glbd = Glbd::start(["127.0.0.1:1:1"]);
    let stream = call(&glbd);
    // At a prompt there is no haste, on however busy a machine.
    for piece in ["pro", "mpt", "\n127.0", ".0.1:", "1:0.", "25", "\nget", "info\n", "vers", "ion\nqu", "it\n"] {
        say(&stream, piece);
        thread::sleep(Duration::from_millis(10));
    }
    let said = rest(&stream);
    let info = said.strip_prefix("> Ok\n> ").and_then(|it| it.strip_suffix("> glbd 2.0.0\n> "));
    let info = Info::parse(info.unwrap_or_else(|| panic!("not three answers:\n{said}")));
    assert_eq!(info.row("127.0.0.1:1").weight, 0.25);
}

#[test]
fn a_command_in_several_packets_is_one_command_without_a_prompt_too() {
    let glbd = Glbd::start([""; 0]);
    // On a busy machine the packets may come so slowly that the pause ends the command.
    let tries = || {
        let stream = call(&glbd);
        for piece in ["vers", "ion\nver", "sion", "\n"] {
            say(&stream, piece);
            thread::sleep(Duration::from_millis(10));
        }
        rest(&stream) == "glbd 2.0.0\nglbd 2.0.0\n"
    };
    assert!((0..3).any(|_| tries()));
}

#[test]
fn lines_end_with_lf_or_crlf() {
    let glbd = Glbd::start([""; 0]);
    assert_eq!(talk(&glbd, "127.0.0.1:1\r\n127.0.0.1:2\nversion\r\n"), "Ok\nOk\nglbd 2.0.0\n");
    assert_eq!(glbd.info().rows.len(), 2);
}

#[test]
fn empty_lines_are_no_commands() {
    let glbd = Glbd::start([""; 0]);
    assert_eq!(talk(&glbd, "\n\r\n  \nversion\n\n"), "glbd 2.0.0\n");
}

#[test]
fn a_last_line_without_its_end_is_obeyed() {
    let glbd = Glbd::start([""; 0]);
    // At the silence that follows it.
    assert_eq!(talk(&glbd, "version"), "glbd 2.0.0\n");
    assert_eq!(talk(&glbd, "127.0.0.1:1\r\nversion\r"), "Ok\nglbd 2.0.0\n");
    // At the client's half-close.
    let stream = call(&glbd);
    say(&stream, "127.0.0.1:2\n127.0.0.1:3");
    stream.shutdown(Shutdown::Write).expect("an open conversation");
    assert_eq!(rest(&stream), "Ok\nOk\n");
    assert_eq!(glbd.info().rows.len(), 3);
}

#[test]
fn a_client_that_half_closes_gets_every_answer_and_the_end() {
    let glbd = Glbd::start(["127.0.0.1:1"]);
    let said = glbd.control(&"version\n".repeat(1000));
    assert_eq!(said, "glbd 2.0.0\n".repeat(1000));
}

#[test]
fn a_client_that_says_nothing_and_half_closes_gets_the_end() {
    let glbd = Glbd::start([""; 0]);
    let stream = call(&glbd);
    stream.shutdown(Shutdown::Write).expect("an open conversation");
    assert_eq!(rest(&stream), "");
}

#[test]
fn quit_ends_the_conversation() {
    let glbd = Glbd::start([""; 0]);
    for quit in ["quit", "QUIT", "exit"] {
        let stream = call(&glbd);
        say(&stream, &format!("version\n{quit}\n127.0.0.1:1\n"));
        assert_eq!(rest(&stream), "glbd 2.0.0\n");
    }
    assert_eq!(glbd.info().rows.len(), 0, "what follows quit is not obeyed");
}

#[test]
fn a_prompt_keeps_the_conversation_open() {
    let glbd = Glbd::start([""; 0]);
    let stream = call(&glbd);
    say(&stream, "prompt\n");
    for (command, answer) in [("version", "> glbd 2.0.0"), ("127.0.0.1:1", "> Ok"), ("127.0.0.1:1:-1", "> Ok")] {
        // A person takes longer than the quiet that ends other conversations.
        thread::sleep(Duration::from_millis(600));
        say(&stream, &format!("{command}\r\n"));
        assert_eq!(read_line(&stream).expect("an answer"), answer);
    }
    say(&stream, "nonsense\n");
    assert!(read_line(&stream).expect("an answer").starts_with("> Error: 'nonsense'"));
    say(&stream, "quit\n");
    assert_eq!(rest(&stream), "> ");
}

#[test]
fn every_answer_at_a_prompt_is_followed_by_a_prompt() {
    let glbd = Glbd::start([""; 0]);
    assert_eq!(glbd.control("prompt\nversion\n\n127.0.0.1:1\nquit"), "> glbd 2.0.0\n> > Ok\n> ");
}
