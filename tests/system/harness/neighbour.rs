//! Another machine on the network of a test, as far as the network is concerned: a network namespace.

use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;

type Act = Box<dyn FnOnce() + Send>;

/// It is gone when this is dropped.
pub struct Neighbour {
    acts: Sender<Act>,
    thread: i32,
}

impl Neighbour {
    pub fn new() -> Self {
        let (acts, todo) = channel::<Act>();
        let (ready, is_ready) = channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace, which only root may make");
            ip("link set lo up");
            ready.send(gettid().as_raw()).expect("somebody waits");
            todo.into_iter().for_each(|act| act());
        });
        Self { acts, thread: is_ready.recv().expect("a network namespace") }
    }

    /// Lays a cable to it, whose ends are called `name` and have these addresses, such as 10.0.0.1/24.
    pub fn plug(&self, name: &'static str, here: &str, there: &'static str) {
        ip(&format!("link add {name} type veth peer name {name} netns {}", self.thread));
        ip(&format!("address add {here} dev {name}"));
        ip(&format!("link set {name} up"));
        self.inside(move || {
            ip(&format!("address add {there} dev {name}"));
            ip(&format!("link set {name} up"));
        });
    }

    /// Does something there. Sockets that are opened stay there.
    pub fn inside<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, outcome) = channel();
        let act = move || drop(done.send(act()));
        self.acts.send(Box::new(act)).expect("its thread runs");
        outcome.recv().expect("what is done there does not panic")
    }
}

/// Runs ip(8) in the network of this thread.
pub fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output().expect("ip, from Debian's package iproute2");
    assert!(output.status.success(), "ip {words}: {output:?}");
}
