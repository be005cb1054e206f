//! Which of a name's addresses are used, where it has IPv4 and IPv6 ones: one machine mostly has both, so only those of
//! one kind are. A server may listen on one kind alone, as MariaDB does on IPv4 with `bind-address=0.0.0.0`.

use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use super::OwnAddresses;
use crate::supervise;

/// How long an address may take to accept a connection that is only made to see whether it does.
const PATIENCE: Duration = Duration::from_millis(300);
/// Most addresses of one kind that are connected to.
const MOST: usize = 4;

/// The addresses of one kind: those that `kept` is among or, without it, the preferred ones, unless none of them accepts a
/// connection and one of the others does. Connects only to the addresses of a name that has both kinds.
pub(super) fn choose(
    addresses: Vec<SocketAddr>,
    prefers_ipv6: bool,
    own: &OwnAddresses,
    kept: Option<SocketAddr>,
) -> Vec<SocketAddr> {
    let (preferred, others): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|it| it.is_ipv6() == prefers_ipv6);
    if preferred.is_empty() || others.is_empty() {
        return if preferred.is_empty() { others } else { preferred };
    }
    match kept {
        Some(kept) if preferred.contains(&kept) => preferred,
        Some(kept) if others.contains(&kept) => others,
        _ if !accepts(&preferred, own) && accepts(&others, own) => others,
        _ => preferred,
    }
}

/// Tries all of them at once, but for those at which this daemon listens itself.
fn accepts(addresses: &[SocketAddr], own: &OwnAddresses) -> bool {
    let others = addresses.iter().filter(|address| !own.include((**address).into())).take(MOST);
    thread::scope(|scope| {
        let connect = |address| {
            let connect = move || TcpStream::connect_timeout(address, PATIENCE).is_ok();
            supervise::spawn_scoped(scope, "resolver", connect).ok()
        };
        let attempts: Vec<_> = others.filter_map(connect).collect();
        attempts.into_iter().any(|attempt| attempt.join().unwrap_or(false))
    })
}
