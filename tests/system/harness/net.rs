//! Ports that nobody else takes, and waiting for conditions.

use std::env;
use std::fs::File;
use std::net::{Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener};
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};
use socket2::{Domain, Socket, Type};

use super::glbd::RUNNER;

/// How long a test waits for what it expects before it fails: far more than a loaded machine needs, and less than the
/// minute that the options of some tests have glbd wait where it must not.
pub const PATIENCE: Duration = Duration::from_secs(45);

/// Returns once `condition` holds; panics with `what` if it does not within [`PATIENCE`], or ten times that for a glbd
/// that valgrind or the like slows down.
pub fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    let slowness = if env::var_os(RUNNER).is_some() { 10 } else { 1 };
    wait_until_within(PATIENCE * slowness, what, condition);
}

/// [`wait_until`] for what may take longer, or must not take so long. The longer it takes, the less often it looks, and
/// leaves the processors to what it waits for.
pub fn wait_until_within(patience: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        let waited = begun.elapsed();
        assert!(waited < patience, "waited {patience:?} in vain until {what}");
        thread::sleep((waited / 20).clamp(Duration::from_millis(5), Duration::from_millis(50)));
    }
}

/// Runs a test in a network namespace of its own, which has a loopback interface and nothing else.
pub fn alone_in_a_network(test: impl FnOnce() + Send + 'static) {
    let alone = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace, which only root may make");
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.expect("ip, from Debian's package iproute2").success());
        test();
    });
    alone.join().expect("the test");
}

/// A TCP port that is free on all addresses and that no other test, here or in another test process, is given.
///
/// The ports lie below the range from which the kernel serves outgoing connections, or one of those could take a port
/// between this call and its use. glbd binds with SO_REUSEPORT, so two tests with one port would not fail but share
/// each other's clients: hence the reservation.
pub fn free_port() -> u16 {
    static RESERVED: Mutex<Option<Reservation>> = Mutex::new(None);
    // A test that panicked in here has not harmed the counter.
    let mut reserved = RESERVED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    loop {
        let next = reserved.as_mut().and_then(|block| block.ports.next());
        match next {
            Some(port) if is_free(port) => return port,
            Some(_) => {}
            // The full block stays reserved as long as the process lives, since its ports are in use.
            None => {
                std::mem::forget(reserved.replace(thread::spawn(Reservation::take).join().expect("a block of ports")))
            }
        }
    }
}

/// Tries by binding alone: a socket that listened would do so a little longer in a process that another test spawns at
/// this moment, and keep the caller from the port.
fn is_free(port: u16) -> bool {
    let probe = Socket::new(Domain::IPV6, Type::STREAM, None).expect("a socket");
    probe.set_reuse_address(true).expect("SO_REUSEADDR");
    probe.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into()).is_ok()
}

/// A block of ports that belongs to this process until it ends.
struct Reservation {
    ports: Range<u16>,
    /// A name in the kernel's abstract namespace: two processes cannot hold the same, and it goes away with its holder.
    _name: UnixListener,
}

impl Reservation {
    const PORTS: Range<u16> = 10_000..32_000;
    const SIZE: u16 = 100;

    /// In a thread of its own, which is where the other test processes are: names are a network namespace's.
    fn take() -> Self {
        let namespace = File::open("/proc/self/ns/net").expect("/proc");
        // Who may not do this cannot have gone elsewhere.
        let _ = setns(namespace, CloneFlags::CLONE_NEWNET);
        let blocks = (Self::PORTS.end - Self::PORTS.start) / Self::SIZE;
        // Processes that start together look in different places first; those that follow each other, too, so
        // that the last run's connections in TIME_WAIT are out of the way.
        let first = std::process::id() % u32::from(blocks);
        for step in 0..blocks {
            let block = (first as u16 + step) % blocks;
            let start = Self::PORTS.start + block * Self::SIZE;
            let name = UnixAddress::from_abstract_name(format!("glbd-test-ports-{start}")).expect("a short name");
            if let Ok(name) = UnixListener::bind_addr(&name) {
                return Self { ports: start..start + Self::SIZE, _name: name };
            }
        }
        panic!("all ports from {:?} are reserved by running tests", Self::PORTS);
    }
}
