//! From hosts as written to addresses to connect to or to listen on.
//!
//! A name may take the resolver many seconds, so nobody who serves others waits for it: [`Resolver`] asks from threads
//! of its own.

mod family;
mod one_socket;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, unbounded};
use log::warn;
use parking_lot::{Mutex, RwLock};

use crate::address::{Endpoint, Host, ListenAddress, PeerAddress, UnixPath, can_be_connected_to};
use crate::supervise;
use one_socket::lead_to_one_socket;

/// How often whoever waits for names looks whether that is still wanted.
const STEP: Duration = Duration::from_millis(50);
/// Most names that are being resolved at once for one purpose, and of one pool.
const MAX_LOOKUPS: usize = 16;

/// How long names are waited for where something else waits for them.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// An address to listen on: of those that a name has, the first of the [preferred](prefer_ipv6) kind.
///
/// # Errors
/// One that says why the name does not resolve. May take as long as the system's resolver does.
pub fn resolve(endpoint: &Endpoint) -> io::Result<SocketAddr> {
    let addresses = addresses_of(endpoint)?;
    let preferred = addresses.iter().find(|it| it.is_ipv6() == prefers_ipv6());
    preferred.or(addresses.first()).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Has the IPv6 addresses of names preferred from now on, not the IPv4 ones.
pub fn prefer_ipv6(preferred: bool) {
    PREFER_IPV6.store(preferred, Ordering::Relaxed);
}

/// Whether [`prefer_ipv6`] has said so.
pub fn prefers_ipv6() -> bool {
    PREFER_IPV6.load(Ordering::Relaxed)
}

static PREFER_IPV6: AtomicBool = AtomicBool::new(false);

/// Where this daemon listens: nothing that it may balance to. All clones say the same.
#[derive(Debug, Clone, Default)]
pub struct OwnAddresses(Arc<RwLock<Vec<PeerAddress>>>);

impl OwnAddresses {
    /// From now on it listens at these others.
    pub fn follow(&self, others: &OwnAddresses) {
        let addresses = others.0.read().clone();
        *self.0.write() = addresses;
    }

    /// Whether connecting to `destination` would reach one of its own listening sockets.
    pub fn include(&self, destination: PeerAddress) -> bool {
        is_own_address(&self.0.read(), destination)
    }
}

impl<A: Into<PeerAddress>> From<Vec<A>> for OwnAddresses {
    fn from(addresses: Vec<A>) -> OwnAddresses {
        OwnAddresses(Arc::new(RwLock::new(addresses.into_iter().map(Into::into).collect())))
    }
}

/// Says where this daemon listens: that something accepts there says nothing of a destination.
pub fn set_own_addresses(addresses: OwnAddresses) {
    *OWN_ADDRESSES.lock() = Some(addresses);
}

/// Returns true if this daemon was connected to at `destination`, by itself: the socket that was reached is bound to `bound`.
/// A path may have become one of its own since it was looked at, or lead elsewhere.
pub fn has_reached_itself(destination: UnixPath, bound: &Path) -> bool {
    let own = OWN_ADDRESSES.lock().clone().unwrap_or_default();
    let is_bound_there = own.0.read().iter().any(|own| own.file() == Some(bound));
    // Another container may have a socket of the same name.
    is_bound_there && own.include(PeerAddress::Unix(destination))
}

static OWN_ADDRESSES: Mutex<Option<OwnAddresses>> = Mutex::new(None);

/// All addresses of a destination, at least one. Of a name that has IPv4 and IPv6 addresses, these are those of one kind:
/// of that of the address that is to be `kept`, where it still has that; else of the [preferred](prefer_ipv6) one, unless
/// none of them accepts connections and one of the others does.
///
/// # Errors
/// One that says why the name does not resolve. May take as long as the system's resolver does.
pub fn resolve_every(endpoint: &Endpoint, kept: Option<PeerAddress>) -> io::Result<Vec<PeerAddress>> {
    if let Some(address) = endpoint.address() {
        return Ok(vec![address]);
    }
    let own = OWN_ADDRESSES.lock().clone().unwrap_or_default();
    let kept = kept.and_then(|kept| kept.inet());
    let chosen = family::choose(addresses_of(endpoint)?, prefers_ipv6(), &own, kept);
    Ok(chosen.into_iter().map(PeerAddress::from).collect())
}

/// All addresses of an endpoint of both kinds, at least one, each once.
fn addresses_of(endpoint: &Endpoint) -> io::Result<Vec<SocketAddr>> {
    let name = match &endpoint.host {
        Host::Address(address) => return Ok(vec![SocketAddr::new(*address, endpoint.port)]),
        Host::Name(name) => name.as_str(),
        Host::Unix(_) => return Err(io::Error::new(io::ErrorKind::InvalidInput, "a UNIX socket has no port")),
    };
    let found = (name, endpoint.port).to_socket_addrs()?.map(canonical);
    let (mut addresses, useless): (Vec<_>, Vec<_>) = found.partition(is_of_use);
    useless.iter().for_each(|address| tell_of_useless(endpoint, address.ip()));
    let mut seen = HashSet::new();
    addresses.retain(|address| seen.insert(*address));
    match addresses.is_empty() {
        true if useless.is_empty() => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
        true => {
            let reason = format!("the name has no address that can be connected to, only {}", useless[0].ip());
            Err(io::Error::new(io::ErrorKind::NotFound, reason))
        }
        false => Ok(addresses),
    }
}

/// An IPv4 address may be given as an IPv6 one that stands for it.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        // With its zone.
        IpAddr::V6(_) => address,
    }
}

fn is_of_use(address: &SocketAddr) -> bool {
    let lacks_zone = matches!(address, SocketAddr::V6(it) if it.ip().is_unicast_link_local() && it.scope_id() == 0);
    can_be_connected_to(address.ip()) && !lacks_zone
}

/// Tells once that an address of a name is passed over, which is looked up again and again.
fn tell_of_useless(endpoint: &Endpoint, address: IpAddr) {
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    /// More of them are not told.
    const MOST: usize = 1000;
    let mut told = TOLD.lock();
    let what = format!("{endpoint}: its address {address} is passed over, since nothing can be connected to it");
    if told.len() < MOST && told.insert(what.clone()) {
        warn!("destination {what}");
    }
}

/// Why a name does not resolve, for a log line or an answer.
pub fn in_one_line(error: &io::Error) -> String {
    error.to_string().replace('\n', " ")
}

/// What to listen on; `[::]` stands for all interfaces, IPv4's as well.
///
/// # Errors
/// Those of [`resolve`].
pub fn resolve_listen_address(address: &ListenAddress) -> io::Result<PeerAddress> {
    match &address.host {
        None => Ok((Ipv6Addr::UNSPECIFIED, address.port).into()),
        Some(Host::Unix(path)) => Ok(PeerAddress::Unix(*path)),
        Some(host) => resolve(&Endpoint { host: host.clone(), port: address.port }).map(PeerAddress::from),
    }
}

fn is_own_address(listening: &[PeerAddress], destination: PeerAddress) -> bool {
    let Some(destination) = destination.inet() else {
        let is_it = |own: &Path| destination.file().is_some_and(|file| lead_to_one_socket(file, own));
        return listening.contains(&destination) || listening.iter().filter_map(PeerAddress::file).any(is_it);
    };
    listening.iter().filter_map(PeerAddress::inet).any(|own| {
        let any = own.ip().is_unspecified() && (own.is_ipv6() || destination.is_ipv4());
        // The kernel is asked last: there may be a hundred services and a thousand destinations.
        own.port() == destination.port() && (own.ip() == destination.ip() || (any && is_local(destination.ip())))
    })
}

/// Whether an address is one of this machine's. The kernel talks to a local address from that address itself; asking
/// for the route sends nothing. (Trying to bind it would not do: where net.ipv4.ip_nonlocal_bind is set, as on
/// machines that share a virtual address, every address can be bound.)
fn is_local(address: IpAddr) -> bool {
    if address.is_loopback() {
        return true;
    }
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let route = UdpSocket::bind((any, 0)).and_then(|socket| {
        // The port does not matter to the route.
        socket.connect((address, 9))?;
        socket.local_addr()
    });
    route.is_ok_and(|local| local.ip() == address)
}

/// The addresses of several endpoints, as [`resolve_every`] finds them: all of them asked for at once, and waited for
/// together, for no longer than `patience` where there is one, and not once `give_up` returns true.
///
/// # Errors
/// When there are names, and no thread can be started to look them up.
pub fn resolve_all(
    endpoints: Vec<Endpoint>,
    patience: Option<Duration>,
    give_up: &mut dyn FnMut() -> bool,
) -> io::Result<HashMap<Endpoint, io::Result<Vec<PeerAddress>>>> {
    let (mut missing, mut found) = (HashSet::new(), HashMap::new());
    let (todo, next) = unbounded();
    for endpoint in endpoints {
        match endpoint.host {
            Host::Address(_) | Host::Unix(_) => drop(found.insert(endpoint.clone(), resolve_every(&endpoint, None))),
            Host::Name(_) if missing.insert(endpoint.clone()) => drop(todo.send(endpoint)),
            Host::Name(_) => {}
        }
    }
    drop(todo);
    let (done, answers) = unbounded();
    for started in 0..missing.len().min(MAX_LOOKUPS) {
        let (next, done) = (next.clone(), done.clone());
        // Who has waited for long enough needs no answer.
        let ask =
            move || next.iter().try_for_each(|it: Endpoint| done.send((resolve_every(&it, None), it))).unwrap_or(());
        match supervise::spawn("resolver", ask) {
            // Those that there are look up the names of all.
            Err(_) if started > 0 => break,
            spawned => drop(spawned?),
        }
    }
    drop((next, done));
    let deadline = patience.map(|patience| Instant::now() + patience);
    while !missing.is_empty() && !give_up() && deadline.is_none_or(|deadline| Instant::now() < deadline) {
        match answers.recv_timeout(STEP) {
            Ok((addresses, endpoint)) => {
                missing.remove(&endpoint);
                found.insert(endpoint, addresses);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let late = || match patience {
        Some(patience) => format!("it has not resolved within {} s", patience.as_secs_f64()),
        None => "it has not resolved".to_owned(),
    };
    found.extend(missing.into_iter().map(|it| (it, Err(io::Error::other(late())))));
    Ok(found)
}

/// Looks up a name, as [`resolve_every`] does.
pub type LookUp = fn(&Endpoint, Option<PeerAddress>) -> io::Result<Vec<PeerAddress>>;

/// Resolves names without anybody waiting. All clones share one limit.
#[derive(Clone)]
pub struct Resolver {
    running: Arc<AtomicUsize>,
    most: usize,
    look_up: LookUp,
}

impl Default for Resolver {
    fn default() -> Resolver {
        Resolver::new(MAX_LOOKUPS, resolve_every)
    }
}

impl Resolver {
    /// Looks up so many names at once, at most.
    fn new(most: usize, look_up: LookUp) -> Resolver {
        Resolver { running: Arc::default(), most, look_up }
    }

    /// One whose limit several pools share: see [`has_room_for`](Resolver::has_room_for).
    pub fn for_pools(look_up: LookUp) -> Resolver {
        Resolver::new(2 * MAX_LOOKUPS, look_up)
    }

    /// How many more names may be looked up now.
    pub fn free(&self) -> usize {
        self.most.saturating_sub(self.running.load(Ordering::Relaxed))
    }

    /// Whether a pool with so many lookups under way may begin another one. Each pool leaves as many lookups free as it has
    /// under way, so that names that all hang do not keep those of another pool from being looked up.
    pub fn has_room_for(&self, running: usize) -> bool {
        running < self.free().min(MAX_LOOKUPS)
    }

    /// Calls `done` with what the lookup finds, from another thread.
    ///
    /// # Errors
    /// When too many names are being resolved already, or no thread can be started; `done` is not called then.
    pub fn resolve_later(
        &self,
        endpoint: Endpoint,
        kept: Option<PeerAddress>,
        done: impl FnOnce(io::Result<Vec<PeerAddress>>) + Send + 'static,
    ) -> io::Result<()> {
        let lookup = Lookup::begin(&self.running, self.most)?;
        let look_up = self.look_up;
        supervise::spawn("resolver", move || {
            let answer = look_up(&endpoint, kept);
            drop(lookup);
            done(answer);
        })?;
        Ok(())
    }
}

/// Counts as running until it is dropped.
struct Lookup(Arc<AtomicUsize>);

impl Lookup {
    fn begin(running: &Arc<AtomicUsize>, most: usize) -> io::Result<Lookup> {
        let lookup = Lookup(Arc::clone(running));
        if running.fetch_add(1, Ordering::Relaxed) >= most {
            return Err(io::Error::other("too many names are being resolved, try again"));
        }
        Ok(lookup)
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_own_address_is_told_from_others() {
        let own = |listening: &str, destination: &str| {
            let parse = |text: &str| text.parse().expect("an address");
            is_own_address(&[parse(listening)], parse(destination))
        };
        assert!(own("127.0.0.1:8010", "127.0.0.1:8010"));
        assert!(own("0.0.0.0:8010", "127.0.0.1:8010"));
        assert!(own("[::]:8010", "127.0.0.2:8010"));
        assert!(own("[::]:8010", "[::1]:8010"));
        assert!(!own("0.0.0.0:8010", "[::1]:8010"));
        assert!(!own("127.0.0.1:8010", "127.0.0.1:8011"));
        assert!(!own("127.0.0.1:8010", "127.0.0.2:8010"));
        assert!(!own("[::]:8010", "192.0.2.1:8010"));
        assert!(own("unix:/run/glbd.sock", "unix:/run/glbd.sock"));
        assert!(!own("unix:/run/glbd.sock", "unix:/run/other.sock"));
        assert!(!own("0.0.0.0:8010", "unix:/run/glbd.sock"));
    }
}
