//! Members of a cluster that nobody has named.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;

use log::{debug, info, warn};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Common;
use crate::address::{Endpoint, Host, parse_destination};
use crate::resolve;
use crate::table::DestinationId;

/// What a discovered destination weighs.
const WEIGHT: f64 = 1.0;

/// Adds the members that a fit destination reports, those without a port at the destination's own.
pub(super) async fn take_in(common: &Common, id: DestinationId, port: u16, members: &[String]) {
    let mut addresses = HashSet::new();
    for member in members {
        match locate(common, member, port).await {
            Ok(address) => {
                addresses.insert(address);
            }
            // What a node says of itself may be anything; it is not the operator's doing.
            Err(reason) => debug!("member '{member}': {reason}"),
        }
    }
    for address in &addresses {
        add(common, *address);
    }
    common.fleet.borrow_mut().heard_of(id, addresses);
}

async fn locate(common: &Common, member: &str, port: u16) -> Result<SocketAddr, String> {
    let endpoint = parse_destination(member, Some(port)).map_err(|error| error.to_string())?.endpoint;
    match endpoint.host {
        Host::Address(address) => Ok(SocketAddr::new(address, endpoint.port)),
        Host::Name(_) => look_up(common, endpoint).await.map_err(|error| error.to_string()),
    }
}

/// The first address of a name, unless finding it takes longer than a probe may: the next probe comes here again.
async fn look_up(common: &Common, endpoint: Endpoint) -> io::Result<SocketAddr> {
    let (found, answer) = oneshot::channel();
    // Without anybody who waits for it the answer is of no use.
    common.resolver.resolve_later(endpoint, move |addresses| drop(found.send(addresses)))?;
    let late = || io::Error::new(io::ErrorKind::TimedOut, "its name takes too long to resolve");
    let addresses = timeout(common.options.timeout, answer).await.map_err(|_| late())?.map_err(|_| late())??;
    addresses.first().copied().ok_or_else(late)
}

fn add(common: &Common, address: SocketAddr) {
    if resolve::is_own_address(&common.own_addresses, address) {
        return;
    }
    match common.table.discover(&address.into(), address, WEIGHT) {
        Ok(true) => info!("destination {address} discovered"),
        Ok(false) => {}
        Err(error) => warn!("destination {address} discovered, but not added: {error}"),
    }
}
