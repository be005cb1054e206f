//! What the kernel tells of TCP connections.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;
use std::net::{SocketAddr, TcpStream};

/// One end of an IPv4 connection.
pub struct KernelsEnd {
    local: String,
    remote: String,
    state: String,
    inode: String,
    unread: String,
    /// Which timer runs for it.
    pub timer: u8,
    /// How many seconds it still runs.
    pub seconds_left: f64,
}

impl KernelsEnd {
    pub const NO_TIMER: u8 = 0;
    pub const KEEPALIVE_TIMER: u8 = 2;

    /// The other end of this connection.
    pub fn opposite(stream: &TcpStream) -> Option<Self> {
        let local = in_hex(stream.peer_addr().expect("an open connection"));
        let remote = in_hex(stream.local_addr().expect("an open connection"));
        all().find(|end| end.local == local && end.remote == remote)
    }

    /// Those in TIME_WAIT of connections that this address was connected to.
    pub fn in_time_wait_towards(address: SocketAddr) -> usize {
        let remote = in_hex(address);
        all().filter(|end| end.remote == remote && end.state == "06").count()
    }

    /// Connections to this address that are open at the end which opened them.
    pub fn established_towards(address: SocketAddr) -> usize {
        let remote = in_hex(address);
        all().filter(|end| end.remote == remote && end.state == "01").count()
    }

    /// Those in TIME_WAIT of connections that this address has accepted.
    pub fn in_time_wait_at(address: SocketAddr) -> usize {
        let local = in_hex(address);
        all().filter(|end| end.local == local && end.state == "06").count()
    }

    /// The ends in another network namespace, whose /proc/net/tcp this is, that have this address.
    pub fn at(address: SocketAddr, table: &str) -> Vec<Self> {
        let local = in_hex(address);
        listed_in(table).filter(|end| end.local == local).collect()
    }

    /// Whether its process has read all up to the end that the other end has sent.
    pub fn has_read_all(&self) -> bool {
        self.state != "01" && self.unread == "00000000"
    }

    /// Whether neither end has said that nothing more will come.
    pub fn is_open(&self) -> bool {
        self.state == "01"
    }

    /// Whether it has said that nothing more will come (FIN_WAIT1), and the other end has not got everything yet.
    pub fn is_ending(&self) -> bool {
        self.state == "04"
    }
}

/// Whether a process of this network namespace has a socket that listens for IPv4.
pub fn listens(pid: impl Display) -> bool {
    !listening_sockets_that(pid, |_| true).is_empty()
}

/// The sockets of a process of this network namespace that listen at an IPv4 address with this port, as the kernel numbers
/// them.
pub fn listening_sockets(pid: impl Display, port: u16) -> BTreeSet<String> {
    listening_sockets_that(pid, |end| end.local.ends_with(&format!(":{port:04X}")))
}

fn listening_sockets_that(pid: impl Display, are_meant: impl Fn(&KernelsEnd) -> bool) -> BTreeSet<String> {
    let listening = all().filter(|end| end.state == "0A" && are_meant(end));
    let listening: BTreeSet<String> = listening.map(|end| format!("socket:[{}]", end.inode)).collect();
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
    let open =
        descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()?.into_os_string().into_string().ok());
    open.filter(|socket| listening.contains(socket)).collect()
}

fn all() -> impl Iterator<Item = KernelsEnd> {
    listed_in(&fs::read_to_string("/proc/thread-self/net/tcp").expect("/proc"))
}

fn listed_in(table: &str) -> impl Iterator<Item = KernelsEnd> + use<> {
    let lines: Vec<_> = table
        .lines()
        .skip(1)
        .map(|line| {
            let field: Vec<_> = line.split_whitespace().collect();
            let (_, unread) = field[4].split_once(':').expect("bytes to send and to read");
            let (timer, left) = field[5].split_once(':').expect("a timer and its time");
            KernelsEnd {
                local: field[1].to_owned(),
                remote: field[2].to_owned(),
                state: field[3].to_owned(),
                inode: field[9].to_owned(),
                unread: unread.to_owned(),
                timer: timer.parse().expect("the number of a timer"),
                // In hundredths of a second, whatever the kernel counts by itself.
                seconds_left: u64::from_str_radix(left, 16).expect("the time of a timer") as f64 / 100.0,
            }
        })
        .collect();
    lines.into_iter()
}

/// An address as /proc/net/tcp has it.
fn in_hex(address: SocketAddr) -> String {
    let SocketAddr::V4(address) = address else { panic!("not an IPv4 address: {address}") };
    format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
}
