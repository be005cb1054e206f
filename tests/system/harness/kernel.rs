//! What the kernel tells of TCP connections.

use std::fs;
use std::net::{SocketAddr, TcpStream};

/// One end of an IPv4 connection.
pub struct KernelsEnd {
    local: String,
    remote: String,
    state: String,
    /// Which timer runs for it.
    pub timer: u8,
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

    /// Those in TIME_WAIT of connections that this address has accepted.
    pub fn in_time_wait_at(address: SocketAddr) -> usize {
        let local = in_hex(address);
        all().filter(|end| end.local == local && end.state == "06").count()
    }

    /// Whether it has said that nothing more will come (FIN_WAIT1), and the other end has not got everything yet.
    pub fn is_ending(&self) -> bool {
        self.state == "04"
    }
}

fn all() -> impl Iterator<Item = KernelsEnd> {
    let table = fs::read_to_string("/proc/net/tcp").expect("/proc");
    let lines: Vec<_> = table
        .lines()
        .skip(1)
        .map(|line| {
            let field: Vec<_> = line.split_whitespace().collect();
            let (timer, _) = field[5].split_once(':').expect("a timer and its time");
            KernelsEnd {
                local: field[1].to_owned(),
                remote: field[2].to_owned(),
                state: field[3].to_owned(),
                timer: timer.parse().expect("the number of a timer"),
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
