//! The listening sockets of a service at one of its addresses: one a worker.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use parking_lot::RwLock;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::beside::others_listen_at;
use super::listener::{Listener, path_of};
use super::transparent::set_transparent;
use crate::address::{PeerAddress, UnixPath};
use crate::config::{ConnectionOptions, DEFAULT_BACKLOG, KeepaliveProbes};
use crate::process::socket_file;
use crate::sys;

/// How long a client may be silent before it is reported all the same, with deferred accepting.
const DEFER_ACCEPT_SECONDS: i32 = 60;
/// How often it is tried to listen where another begins to in the same moment.
const TRIES: u32 = 10;

/// Opens `count` listening sockets that share `address`, or handles of one socket at a path. `[::]` serves IPv4 as well, and is IPv4's `0.0.0.0` on a
/// machine without IPv6. Sockets `beside` it, of this daemon, may listen at addresses that overlap this one.
///
/// # Errors
/// `EADDRINUSE` when another program, or another glbd, listens there; those of [`bind_to_device`]; and the others of
/// bind(2).
pub fn listen(
    address: PeerAddress,
    count: usize,
    options: &ConnectionOptions,
    beside: &[&Socket],
) -> io::Result<Vec<Listener>> {
    let address = match address {
        PeerAddress::Inet(address) => address,
        PeerAddress::Unix(path) => return listen_at_path(path, count, options),
    };
    let listen_at = |address| match beside {
        [] => listen_alone(address, count, options),
        _ => listen_beside(address, count, options, beside),
    };
    let sockets = match listen_at(address) {
        Err(error) if address.ip().is_unspecified() && lacks_ipv6(&error) => {
            listen_at(SocketAddr::from(([0, 0, 0, 0], address.port())))?
        }
        listening => listening?,
    };
    prefer_processors(&sockets);
    sockets.into_iter().map(Listener::from_socket).collect()
}

/// Listens at a path with one socket: SO_REUSEPORT is nothing for UNIX sockets. A file that an earlier process has left is
/// replaced.
fn listen_at_path(path: UnixPath, count: usize, options: &ConnectionOptions) -> io::Result<Vec<Listener>> {
    let socket = match path.file() {
        Some(file) => {
            let access = options.socket_access.resolve().map_err(io::Error::other)?;
            socket_file::listen(file, access, options.backlog)?
        }
        None => {
            let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
            socket.bind(&path.to_socket_address()?)?;
            socket.listen(options.backlog)?;
            socket
        }
    };
    (0..count.max(1)).map(|_| Listener::from_socket(socket.try_clone()?)).collect()
}

/// The kernel refuses both of two that begin to listen on a port in the same moment; then each tries again in its own
/// time. Whom somebody keeps from it who has listened before, learns that from bind(2).
fn listen_alone(address: SocketAddr, count: usize, options: &ConnectionOptions) -> io::Result<Vec<Socket>> {
    let mut tries = 1;
    loop {
        let first = new_socket(address, options)?;
        first.bind(&address.into())?;
        match listen_together(first, address, count, options) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && tries < TRIES => tries += 1,
            listening => return listening,
        }
        thread::sleep(Duration::from_millis(1 + u64::from(std::process::id()) % 16));
    }
}

/// Has the first socket listen without SO_REUSEPORT, which fails when anybody listens there: with the option set, two
/// daemons of one user would share the port without a word. It is set right after, so that our own others can join.
fn listen_together(
    first: Socket,
    address: SocketAddr,
    count: usize,
    options: &ConnectionOptions,
) -> io::Result<Vec<Socket>> {
    first.listen(options.backlog)?;
    first.set_reuse_port(true)?;
    let mut sockets = vec![first];
    for _ in 1..count {
        sockets.push(listen_with_others(address, options)?);
    }
    Ok(sockets)
}

/// Listens where other sockets of this daemon do, which have SO_REUSEPORT set and the same owner. As that lets in any
/// daemon of the same user, it is looked for others.
fn listen_beside(
    address: SocketAddr,
    count: usize,
    options: &ConnectionOptions,
    beside: &[&Socket],
) -> io::Result<Vec<Socket>> {
    if others_listen_at(address, beside)? {
        return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
    }
    (0..count).map(|_| listen_with_others(address, options)).collect()
}

fn listen_with_others(address: SocketAddr, options: &ConnectionOptions) -> io::Result<Socket> {
    let socket = new_socket(address, options)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(options.backlog)?;
    Ok(socket)
}

/// Serves on sockets that others have opened: `count` handles of them, or as many as there are sockets. Of those that are
/// `borrowed` from a service manager, only what `options` ask for is changed.
///
/// # Errors
/// `EINVAL` for one that does not listen for TCP or UNIX stream connections; and those of dup(2) and setsockopt(2).
pub fn adopt(
    sockets: &[&Socket],
    borrowed: bool,
    count: usize,
    options: &ConnectionOptions,
) -> io::Result<Vec<Listener>> {
    for socket in sockets {
        let is_unix = path_of(socket)?.is_some();
        if !socket.is_listener()? || (!is_unix && socket.protocol()? != Some(Protocol::TCP)) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        renew(socket, borrowed, options)?;
        socket.set_nonblocking(true)?;
    }
    if sockets.len() > 1 {
        // They may be those of workers that were bound otherwise.
        prefer_processors(sockets.iter().copied());
    }
    let handles = sockets.iter().cycle().take(count.max(sockets.len()));
    handles.map(|socket| Listener::from_socket(socket.try_clone()?)).collect()
}

/// The processors that workers are bound to, in turns; none: they are not.
static PROCESSORS: RwLock<Vec<usize>> = RwLock::new(Vec::new());

/// Has listening sockets prefer the clients of the processors that the workers are bound to which they are dealt out to.
pub fn workers_are_bound_to(processors: &[usize]) {
    *PROCESSORS.write() = processors.to_owned();
}

/// Has a listening socket, and the connections that it accepts from now on, follow other options. Of a UNIX socket, that is
/// who may connect; a file that another process has put in its place stays as it is.
///
/// # Errors
/// Those of setsockopt(2), listen(2) and [`bind_to_device`]; and of chown(2) and chmod(2).
pub fn renew(socket: &Socket, borrowed: bool, options: &ConnectionOptions) -> io::Result<()> {
    if let Some(path) = path_of(socket)? {
        return renew_at_path(socket, path, borrowed, options);
    }
    prepare(socket, options)?;
    forget_keepalive(socket, options)?;
    if !borrowed || options.interface.is_some() {
        bind_to_device(socket, options.interface.as_deref())?;
    }
    if !borrowed || options.transparent {
        let is_ipv6 = socket.domain()? == Domain::IPV6;
        let is_set = if is_ipv6 { socket.ip_transparent_v6()? } else { socket.ip_transparent_v4()? };
        if is_set != options.transparent {
            set_transparent(socket, is_ipv6, options.transparent)?;
        }
    }
    if !borrowed {
        // It may have been set for options before these.
        sys::set_defer_accept(socket, if options.defer_accept { DEFER_ACCEPT_SECONDS } else { 0 })?;
    }
    if !borrowed || options.backlog != DEFAULT_BACKLOG {
        socket.listen(options.backlog)?;
    }
    Ok(())
}

fn renew_at_path(socket: &Socket, path: UnixPath, borrowed: bool, options: &ConnectionOptions) -> io::Result<()> {
    if borrowed {
        return Ok(());
    }
    if let Some(file) = path.file().filter(|file| !socket_file::is_replaced(file)) {
        match socket_file::set_access(file, options.socket_access.resolve().map_err(io::Error::other)?) {
            // It is gone, which is no reason to give up those who are connected.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            result => result?,
        }
    }
    socket.listen(options.backlog)
}

/// Has a listening socket accept only clients that come in through this interface, or through any.
///
/// # Errors
/// One that names the interface: `ENODEV` where there is none, `EPERM` without CAP_NET_RAW for a socket that has another.
pub fn bind_to_device(socket: &Socket, interface: Option<&str>) -> io::Result<()> {
    let name = interface.map(str::as_bytes);
    // Of a device that is gone there is no name.
    if socket.device().is_ok_and(|device| device.as_deref() == name) {
        return Ok(());
    }
    socket.bind_device(name).map_err(|error| interface_trouble(interface, &error))
}

/// Looks whether there is a network interface of this name.
///
/// # Errors
/// One that names it.
pub fn find_interface(name: &str) -> io::Result<()> {
    if_nametoindex(name).map_err(|error| interface_trouble(Some(name), &error.into())).map(drop)
}

fn interface_trouble(interface: Option<&str>, error: &io::Error) -> io::Error {
    let which = interface.map_or("all interfaces".to_owned(), |name| format!("interface {name}"));
    io::Error::new(error.kind(), format!("{which}: {error}"))
}

/// Has each socket given the clients whose packets arrive on one processor, which then stay where their data is. The
/// workers are woken from there, and so drawn to them, unless they are [bound](workers_are_bound_to) to them anyway.
fn prefer_processors<'s>(sockets: impl IntoIterator<Item = &'s Socket>) {
    let bound = PROCESSORS.read().clone();
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    let usable = || (0..CpuSet::count()).filter(|processor| allowed.is_set(*processor).unwrap_or(false)).collect();
    let processors: Vec<usize> = if bound.is_empty() { usable() } else { bound };
    for (socket, processor) in sockets.into_iter().zip(processors.into_iter().cycle()) {
        // Without it, clients are spread by chance.
        let _ = socket.set_cpu_affinity(processor);
    }
}

/// A socket with everything set that the sockets it accepts are to inherit, which saves setting it one by one.
fn new_socket(address: SocketAddr, options: &ConnectionOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // What lingers in TIME_WAIT does not keep a new daemon from the port.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    bind_to_device(&socket, options.interface.as_deref())?;
    if options.transparent {
        set_transparent(&socket, address.is_ipv6(), true)?;
    }
    prepare(&socket, options)?;
    Ok(socket)
}

/// Sets what the sockets that it accepts are to inherit.
fn prepare(socket: &Socket, options: &ConnectionOptions) -> io::Result<()> {
    socket.set_tcp_nodelay(options.nodelay)?;
    // Clients that vanish without a word would hold a connection to a destination for ever.
    keep_alive(&SockRef::from(socket), options)?;
    socket.set_tcp_user_timeout(options.tcp_user_timeout)?;
    if options.defer_accept {
        sys::set_defer_accept(socket, DEFER_ACCEPT_SECONDS)?;
    }
    Ok(())
}

/// Has a silent peer probed for being alive.
///
/// # Errors
/// Those of setsockopt(2).
pub fn keep_alive(socket: &SockRef, options: &ConnectionOptions) -> io::Result<()> {
    let KeepaliveProbes { time, interval, count } = options.keepalive_probes;
    let mut probes = TcpKeepalive::new();
    if let Some(time) = time {
        probes = probes.with_time(time);
    }
    if let Some(interval) = interval {
        probes = probes.with_interval(interval);
    }
    if let Some(count) = count {
        probes = probes.with_retries(count);
    }
    socket.set_tcp_keepalive(&probes)
}

/// Has a socket follow the system's settings again where the options do not say how a silent peer is probed: they may have
/// when the socket was set up.
fn forget_keepalive(socket: &Socket, options: &ConnectionOptions) -> io::Result<()> {
    let KeepaliveProbes { time, interval, count } = options.keepalive_probes;
    let mut probes = TcpKeepalive::new();
    if time.is_none() {
        probes = probes.with_time(Duration::from_secs(system_keepalive("time", 7200)));
    }
    if interval.is_none() {
        probes = probes.with_interval(Duration::from_secs(system_keepalive("intvl", 75)));
    }
    if count.is_none() {
        probes = probes.with_retries(system_keepalive("probes", 9) as u32);
    }
    socket.set_tcp_keepalive(&probes)
}

/// The system's setting, or what Linux begins with where it cannot be read.
fn system_keepalive(what: &str, usual: u64) -> u64 {
    let setting = std::fs::read_to_string(format!("/proc/sys/net/ipv4/tcp_keepalive_{what}"));
    setting.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(usual)
}

fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// Listening on every address instead would open the service to machines that it is not meant for.
    #[test]
    fn at_an_address_that_this_machine_does_not_have_it_listens_nowhere() {
        let words = ["glbd", "1"].map(str::to_owned);
        let mut config = Config::from_command_line(words).expect("a command line");
        let options = config.services.remove(0).connections;
        // For documentation (RFC 5737, RFC 3849): nobody has them.
        for address in ["192.0.2.1:0", "[2001:db8::1]:0"] {
            assert!(listen(address.parse().expect("an address"), 1, &options, &[]).is_err(), "{address}");
        }
    }
}
