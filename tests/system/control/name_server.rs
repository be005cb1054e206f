//! A name server that keeps those who ask waiting for as long as the test wants.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::{free_port, with_mounted};

/// Knows every name as 127.0.0.1, but for those that begin with `nowhere`, which do not exist.
pub struct NameServer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    settings: TempDir,
}

#[derive(Default)]
struct Shared {
    asked: AtomicUsize,
    answers: AtomicBool,
    stop: AtomicBool,
}

impl NameServer {
    /// A server that does not answer yet.
    pub fn start() -> Self {
        // Resolvers ask at port 53 only, so each server has an address of its own.
        let [high, low] = free_port().to_be_bytes();
        let address = Ipv4Addr::new(127, 53, high, low);
        let socket = UdpSocket::bind((address, 53)).expect("port 53, which takes root");
        socket.set_read_timeout(Some(Duration::from_millis(10))).expect("a timeout");
        let settings = tempfile::tempdir().expect("a temporary directory");
        let write = |name: &str, text: &str| fs::write(settings.path().join(name), text).expect("a file");
        write("resolv.conf", &format!("nameserver {address}\noptions timeout:30 attempts:5\n"));
        write("nsswitch.conf", "hosts: files dns\n");
        let shared = Arc::new(Shared::default());
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.serve(&socket)
        });
        Self { shared, thread: Some(thread), settings }
    }

    /// A command that runs the one appended to it with this name server.
    pub fn wrapper(&self) -> Vec<String> {
        let file = |name: &str| self.settings.path().join(name);
        let mounts: [(&Path, &str); 2] =
            [(&file("resolv.conf"), "/etc/resolv.conf"), (&file("nsswitch.conf"), "/etc/nsswitch.conf")];
        with_mounted(&mounts)
    }

    /// How many questions have come.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }

    /// Answers every question, those that came already too.
    pub fn answer(&self) {
        self.shared.answers.store(true, Ordering::SeqCst);
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.thread.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn serve(&self, socket: &UdpSocket) {
        let mut waiting: Vec<(Vec<u8>, SocketAddr)> = Vec::new();
        let mut buffer = [0; 512];
        while !self.stop.load(Ordering::SeqCst) {
            if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                waiting.push((buffer[..length].to_vec(), from));
                self.asked.fetch_add(1, Ordering::SeqCst);
            }
            if self.answers.load(Ordering::SeqCst) {
                for (question, from) in waiting.drain(..) {
                    // Who is gone needs no answer.
                    socket.send_to(&reply(&question), from).ok();
                }
            }
        }
    }
}

/// The answer to a question, both as RFC 1035 has them.
fn reply(question: &[u8]) -> Vec<u8> {
    const HEADER: usize = 12;
    const IPV4_ADDRESS: [u8; 2] = [0, 1];
    let name_ends = question[HEADER..].iter().position(|byte| *byte == 0).expect("a name") + HEADER + 1;
    let exists = !question[HEADER + 1..].starts_with(b"nowhere");
    let is_known = exists && question[name_ends..name_ends + 2] == IPV4_ADDRESS;

    let mut reply = question[..name_ends + 4].to_vec();
    let response = if exists { [0x81, 0x80] } else { [0x81, 0x83] };
    reply[2..4].copy_from_slice(&response);
    let counts = [0, 1, 0, u8::from(is_known), 0, 0, 0, 0];
    reply[4..HEADER].copy_from_slice(&counts);
    if is_known {
        let (name, class, time_to_live, length) = ([0xc0, 0x0c], [0, 1], [0, 0, 0, 60], [0, 4]);
        reply.extend([name, IPV4_ADDRESS, class].concat());
        reply.extend(time_to_live);
        reply.extend(length);
        reply.extend(Ipv4Addr::LOCALHOST.octets());
    }
    reply
}
