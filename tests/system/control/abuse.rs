//! Clients of the control port who do not behave. Whatever they do, others are served, and memory stays bounded.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use super::conversation::{call, rest, say};
use crate::harness::{Glbd, Payload, Server, read_line, reset, wait_until, was_reset};

/// More than this the daemon must not grow by, whatever it is sent.
pub const BOUND: u64 = 8 << 20;

/// Longest line that is taken, in bytes.
const LONGEST: usize = 4096;

/// A table whose `getinfo` is of some length.
pub fn start() -> Glbd {
    Glbd::start((1..=200).map(|port| format!("127.0.0.1:{port}")))
}

/// Sends all of `bytes`; `false` once glbd has cut the connection off.
pub fn send(mut stream: &TcpStream, bytes: &[u8]) -> bool {
    match stream.write_all(bytes) {
        Ok(()) => true,
        Err(error) if was_reset(&error) => false,
        Err(error) => panic!("neither taken nor cut off: {error}"),
    }
}

/// Whether the conversation ends without an answer, by an end or a reset.
fn is_dropped_unanswered(mut stream: &TcpStream) -> bool {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if !was_reset(&error) => panic!("not dropped: {error}"),
        _ => answer.is_empty(),
    }
}

#[test]
fn a_hundred_idle_clients_do_not_keep_the_next_out() {
    let glbd = start();
    let descriptors = glbd.descriptors();
    let idle: Vec<TcpStream> = (0..100).map(|_| call(&glbd)).collect();
    assert_eq!(glbd.info().rows.len(), 200);
    assert!(glbd.descriptors() < descriptors + 100, "all of them are kept");
    let halfway: Vec<TcpStream> = (0..100).map(|_| call(&glbd)).collect();
    halfway.iter().for_each(|stream| say(stream, "getin"));
    assert_eq!(glbd.info().rows.len(), 200);
    drop((idle, halfway));
    assert_eq!(glbd.info().rows.len(), 200);
}

/// Each of them is never silent for long, and never says anything.
#[test]
fn clients_that_drip_keep_nobody_out_and_are_ended() {
    let glbd = start();
    for dripped in ["getinfo getinfo getinfo getinfo", "\n"] {
        let mut dripping: Vec<TcpStream> = (0..100).map(|_| call(&glbd)).collect();
        let letters = dripped.bytes().cycle().take(dripped.len().max(30));
        for (count, letter) in letters.enumerate() {
            dripping.retain(|stream| send(stream, &[letter]));
            if count % 5 == 0 {
                assert_eq!(glbd.info().rows.len(), 200);
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
    // One alone would go on for as long as it likes.
    let stream = call(&glbd);
    let since = std::time::Instant::now();
    while send(&stream, b"1") && since.elapsed() < Duration::from_secs(15) {
        thread::sleep(Duration::from_millis(100));
    }
    assert!(since.elapsed() < Duration::from_secs(15), "it goes on");
}

/// What has come of it may be a command that nobody has meant.
#[test]
fn a_line_that_takes_too_long_is_not_obeyed() {
    let glbd = start();
    let stream = call(&glbd);
    for letter in b"127.0.0.1:201:1                            " {
        if !send(&stream, &[*letter]) {
            break;
        }
        thread::sleep(Duration::from_millis(150));
    }
    assert_eq!(read_line(&stream).expect("an answer"), "Error: a line took longer than 5 s");
    assert_eq!(glbd.info().rows.len(), 200);
}

#[test]
fn a_hundred_clients_at_a_prompt_do_not_keep_the_next_out() {
    let glbd = start();
    let served = |_| {
        let stream = call(&glbd);
        say(&stream, "prompt\nversion\n");
        assert_eq!(read_line(&stream).expect("an answer"), "> glbd 2.0.0");
        stream
    };
    let prompts: Vec<TcpStream> = (0..100).map(served).collect();
    assert_eq!(glbd.info().rows.len(), 200);
    let latest = prompts.last().expect("a hundred");
    say(latest, "version\n");
    assert_eq!(read_line(latest).expect("an answer"), "> glbd 2.0.0", "the latest had to make room");
}

#[test]
fn idle_clients_take_no_descriptors_from_those_who_are_balanced() {
    let server = Server::named("a");
    let glbd = Glbd::builder()
        .wrapped_by(["sh", "-c", "ulimit -n 64; exec \"$0\" \"$@\""])
        .args(["-t", "2"])
        .destinations([&server])
        .start();
    let _idle: Vec<TcpStream> = (0..100).map(|_| call(&glbd)).collect();
    let _clients: Vec<TcpStream> = (0..8)
        .map(|_| {
            let client = glbd.connect();
            assert_eq!(read_line(&client).expect("a name"), "a");
            client
        })
        .collect();
    assert_eq!(glbd.info().total, 8);
}

#[test]
fn a_line_of_four_kilobytes_is_answered_and_a_longer_one_is_dropped() {
    let glbd = Glbd::start([""; 0]);
    let stream = call(&glbd);
    say(&stream, &format!("{}\nversion\n", "x".repeat(LONGEST)));
    let said = rest(&stream);
    assert!(said.starts_with("Error: 'xxx") && said.ends_with("\nglbd 2.0.0\n"), "{said}");
    for length in [LONGEST + 1, LONGEST + 2, 2 * LONGEST, 10 * LONGEST] {
        for end in ["", "\n127.0.0.1:1:1\nversion\n"] {
            let stream = call(&glbd);
            // It may be cut off before it has said everything.
            send(&stream, format!("{}{end}", "x".repeat(length)).as_bytes());
            assert!(is_dropped_unanswered(&stream), "{length} bytes");
        }
    }
    assert_eq!(glbd.info().rows.len(), 0, "what follows too long a line is not obeyed");
}

#[test]
fn a_client_that_never_reads_is_cut_off() {
    let glbd = start();
    let descriptors = glbd.descriptors();
    let before = glbd.resident_bytes();
    let greedy = call(&glbd);
    // Answers of 10 kB each: far more than the kernel keeps for both ends.
    thread::scope(|scope| {
        let asking = scope.spawn(|| while send(&greedy, b"getinfo\n") {});
        while !asking.is_finished() {
            assert_eq!(glbd.info().rows.len(), 200);
            assert!(glbd.resident_bytes() < before + BOUND, "{} bytes", glbd.resident_bytes());
        }
    });
    wait_until("its descriptor is free", || glbd.descriptors() == descriptors);
}

#[test]
fn a_client_that_neither_reads_nor_says_anything_more_is_cut_off() {
    let glbd = start();
    let descriptors = glbd.descriptors();
    let silent = call(&glbd);
    say(&silent, &"getinfo\n".repeat(2000));
    wait_until("it is being answered", || glbd.descriptors() > descriptors);
    // It is cut off with answers left, or this would be all that it asked for.
    wait_until("its descriptor is free", || glbd.descriptors() == descriptors);
    let mut answers = String::new();
    (&silent).read_to_string(&mut answers).ok();
    assert!(answers.matches("Router:").count() < 2000);
}

#[test]
fn a_client_that_reads_slowly_gets_every_answer() {
    let glbd = start();
    let slow = call(&glbd);
    say(&slow, &"getinfo\n".repeat(1500));
    slow.shutdown(Shutdown::Write).expect("an open conversation");
    let mut answers = Vec::new();
    let mut piece = vec![0; 256 << 10];
    while let count = (&slow).read(&mut piece).expect("an open conversation")
        && count > 0
    {
        answers.extend_from_slice(&piece[..count]);
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(String::from_utf8(answers).expect("text").matches("Destinations: 200").count(), 1500);
}

#[test]
fn thousands_of_conversations_that_break_off_leave_nothing_behind() {
    let glbd = start();
    let descriptors = glbd.descriptors();
    for round in 0..500 {
        let [says_nothing, breaks_off, reads_nothing, at_a_prompt] = [(); 4].map(|()| call(&glbd));
        say(&breaks_off, "127.0.0.1:30");
        say(&reads_nothing, "getinfo\n");
        say(&at_a_prompt, "prompt\ngetinfo\n");
        if round % 2 == 0 {
            [says_nothing, breaks_off, reads_nothing, at_a_prompt].into_iter().for_each(reset);
        }
    }
    wait_until("all descriptors are free", || glbd.descriptors() == descriptors);
    // What broke off by a clean end is a last line without its end, and asks for a port without a weight.
    let addresses: Vec<_> = glbd.info().rows.into_iter().map(|row| row.address).collect();
    assert!(addresses.len() == 200 && addresses.contains(&"127.0.0.1:30".to_owned()), "{addresses:?}");
}

#[test]
fn binary_garbage_is_dropped_and_nothing_in_it_is_obeyed() {
    let glbd = start();
    for seed in 0..50 {
        let mut garbage = Payload::new(seed, 300).to_vec();
        garbage.retain(|byte| *byte != b'\n');
        garbage.extend_from_slice(b"\x00\n127.0.0.1:999:1\n");
        let stream = call(&glbd);
        send(&stream, &garbage);
        assert!(is_dropped_unanswered(&stream), "seed {seed}");
    }
    for garbage in [
        b"\0\n127.0.0.1:999:1\n".as_slice(),
        b"getinfo\0\n127.0.0.1:999:1\n",
        b"\xff\xfe\n127.0.0.1:999:1\n",
        b"\x1b[A\n127.0.0.1:999:1\n",
    ] {
        let stream = call(&glbd);
        send(&stream, garbage);
        assert!(is_dropped_unanswered(&stream), "{garbage:?}");
    }
    assert_eq!(glbd.info().rows.len(), 200);
}
