//! Clients who flood the control port and read nothing, several at a time. Others are served meanwhile.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::abuse::{BOUND, send, start};
use super::conversation::call;
use crate::harness::{Glbd, Payload, reset, wait_until_within};

/// A flood that is answered goes on until the kernel has no more room for the answers.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends `first` and then `chunk` over and over, from four clients, who come again when they are cut off. Meanwhile
/// others must be served, and the flood goes on until each of the four was cut off so many times.
fn withstands(first: &str, chunk: &[u8], cuts: usize) {
    let glbd = &start();
    let before = glbd.resident_bytes();
    let done = &AtomicBool::new(false);
    let counts = [(); 4].map(|()| AtomicUsize::new(0));
    thread::scope(|scope| {
        let _done_at_the_end = Done(done);
        for count in &counts {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    flood_until_cut_off(glbd, first, chunk, done);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut served = 0;
        wait_until_within(PATIENCE, "every flood was cut off", || {
            assert_eq!(glbd.info().rows.len(), 200);
            assert!(glbd.resident_bytes() < before + BOUND, "{} bytes", glbd.resident_bytes());
            served += 1;
            served >= 20 && counts.iter().all(|count| count.load(Ordering::Relaxed) >= cuts)
        });
    });
    assert_eq!(glbd.info().rows.len(), 200);
}

fn flood_until_cut_off(glbd: &Glbd, first: &str, chunk: &[u8], done: &AtomicBool) {
    let stream = call(glbd);
    if send(&stream, first.as_bytes()) {
        while !done.load(Ordering::Relaxed) && send(&stream, chunk) {}
    }
    // What is left of it is not to keep the daemon busy.
    reset(stream);
}

/// However the test ends, the flood must, or the scope would wait for ever.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_flood_of_commands_is_cut_off() {
    withstands("", &b"getinfo\n".repeat(1000), 1);
}

#[test]
fn a_flood_at_a_prompt_is_cut_off() {
    withstands("prompt\n", &b"help\n".repeat(1000), 1);
}

#[test]
fn a_flood_without_line_ends_is_cut_off() {
    withstands("", &[b'x'; 100_000], 5);
}

#[test]
fn a_flood_after_quit_is_cut_off() {
    withstands("quit\n", &[b'x'; 1_000_000], 2);
}

#[test]
fn a_flood_of_binary_data_is_cut_off() {
    withstands("", &Payload::new(1, 100_000).to_vec(), 5);
}

/// Their answers are so short that it takes millions to fill the kernel's buffers: these are just obeyed.
#[test]
fn a_flood_of_changes_keeps_nobody_out() {
    withstands("", &b"127.0.0.1:1:1\n127.0.0.1:1:0\n".repeat(1000), 0);
}

#[test]
fn a_flood_of_errors_keeps_nobody_out() {
    withstands("", &b"a:b\n:\nx\n127.0.0.1:1:heavy\n".repeat(1000), 0);
}
