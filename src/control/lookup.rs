//! Which pool or service a command means.

use super::command::Target;
use crate::address::Endpoint;
use crate::config::PolicyKind;
use crate::pool::Pool;
use crate::service::{PoolEntry, ServiceEntry, Setup};
use crate::sessions::SessionFilter;

/// The port that destinations are at which are named without one: where clients connect, if that is one port for all.
pub(super) fn usual_port(setup: &Setup) -> Option<u16> {
    let mut ports = setup.services.iter().flat_map(|it| it.config.listen.ports());
    let first = ports.next()?;
    ports.all(|port| port == first).then_some(first)
}

/// The pool that a destination is in, or is to be in.
///
/// # Errors
/// What has to be said to find it.
pub(super) fn pool_of<'s>(setup: &'s Setup, target: &Target) -> Result<&'s PoolEntry, String> {
    let all = || names(setup.pools.iter().map(|it| &*it.config.name));
    if let Some(name) = &target.of {
        return setup.pool(name).ok_or_else(|| no_pool(setup, name));
    }
    if let [only] = &setup.pools[..] {
        return Ok(only);
    }
    let endpoint = &target.spec.endpoint;
    let having: Vec<&PoolEntry> = setup.pools.iter().filter(|it| has(&it.pool, endpoint)).collect();
    match having[..] {
        [only] => Ok(only),
        [] => Err(format!("say which pool, as in {}/{endpoint}; there are {}", setup.pools[0].config.name, all())),
        [first, ..] => {
            let name = &first.config.name;
            let all = names(having.iter().map(|it| &*it.config.name));
            Err(format!("it is in several pools, {all}: say which, as in {name}/{endpoint}"))
        }
    }
}

/// The service whose single destination is meant, by its own name or by that of its pool.
///
/// # Errors
/// What has to be said to find it.
pub(super) fn service_of<'s>(setup: &'s Setup, target: &Target) -> Result<&'s ServiceEntry, String> {
    let is_single = |it: &&ServiceEntry| it.config.policy == PolicyKind::Single;
    let is_meant = |it: &&ServiceEntry| target.of.as_ref().is_none_or(|name| **name == *it.config.pool);
    if let Some(service) = target.of.as_ref().and_then(|name| setup.service(name)) {
        return Ok(service);
    }
    let meant: Vec<&ServiceEntry> = setup.services.iter().filter(is_meant).collect();
    let single: Vec<&ServiceEntry> = meant.iter().copied().filter(is_single).collect();
    match (&meant[..], &single[..]) {
        ([only], _) | (_, [only]) => Ok(only),
        ([], _) => Err(no_service(setup, target.of.as_deref().unwrap_or_default())),
        (_, []) => Err("there is no single destination to move: no service has the policy 'single'".to_owned()),
        (_, several) => {
            let (name, endpoint) = (&several[0].config.name, &target.spec.endpoint);
            let all = names(several.iter().map(|it| &*it.config.name));
            Err(format!("several services have a single destination, {all}: say which, as in {name}/{endpoint}"))
        }
    }
}

/// The services that are meant: that of this name, or all.
///
/// # Errors
/// That there is no such service, and which there are.
pub(super) fn services_called<'s>(setup: &'s Setup, name: Option<&str>) -> Result<Vec<&'s ServiceEntry>, String> {
    let Some(name) = name else { return Ok(setup.services.iter().collect()) };
    setup.service(name).map(|it| vec![it]).ok_or_else(|| no_service(setup, name))
}

/// Why no connection was found that is meant: there is no service or pool of this name. One that is no longer asked for is
/// known by its connections.
pub(super) fn unknown_name(setup: &Setup, filter: &SessionFilter) -> Option<String> {
    let pool = filter.pool.as_ref().filter(|name| setup.pool(name).is_none());
    services_called(setup, filter.service.as_deref()).err().or_else(|| pool.map(|name| no_pool(setup, name)))
}

fn no_pool(setup: &Setup, name: &str) -> String {
    format!("there is no pool '{name}'; there are {}", names(setup.pools.iter().map(|it| &*it.config.name)))
}

fn no_service(setup: &Setup, name: &str) -> String {
    format!("there is no service '{name}'; there are {}", names(setup.services.iter().map(|it| &*it.config.name)))
}

fn has(pool: &Pool, endpoint: &Endpoint) -> bool {
    match endpoint.address() {
        Some(address) => pool.has(address),
        None => pool.is_unresolved(endpoint) || !pool.addresses_of(endpoint).is_empty(),
    }
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<&str>>().join(", ")
}
