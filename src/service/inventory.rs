//! The pools and the services that there are, by name.

use std::sync::Arc;

use parking_lot::RwLock;

use super::{RetiredService, Service};
use crate::config::{MAIN, PoolConfig, ServiceConfig};
use crate::counters::Counters;
use crate::pool::{Pool, Rotation};

/// A pool, and what was asked for.
#[derive(Clone)]
pub struct PoolEntry {
    /// What was asked for: hands may have changed the destinations since.
    pub config: PoolConfig,
    /// The destinations.
    pub pool: Pool,
}

/// A service, and what was asked for.
#[derive(Clone)]
pub struct ServiceEntry {
    /// What was asked for.
    pub config: ServiceConfig,
    /// What its new connections have in common.
    pub service: Arc<Service>,
}

impl ServiceEntry {
    /// What picks its destinations.
    pub fn rotation(&self) -> &Rotation {
        &self.service.rotation
    }
}

/// All pools and services at one moment, in the order in which they were asked for.
#[derive(Clone, Default)]
pub struct Setup {
    /// Those with destinations.
    pub pools: Vec<PoolEntry>,
    /// Those with clients. Each takes destinations from one of the pools.
    pub services: Vec<ServiceEntry>,
    /// Pools that are no longer asked for, whose last connections have not ended.
    pub retired: Vec<PoolEntry>,
    /// Services that are no longer asked for, of which some may have connections.
    pub retired_services: Vec<RetiredService>,
}

impl Setup {
    /// Whether there is one pool and one service, which need not be named.
    pub fn is_plain(&self) -> bool {
        self.pools.len() == 1 && self.services.len() == 1
    }

    /// The pool of this name.
    pub fn pool(&self, name: &str) -> Option<&PoolEntry> {
        self.pools.iter().find(|it| &*it.config.name == name)
    }

    /// The pool of this name that is no longer asked for and still has connections.
    pub fn retired_pool(&self, name: &str) -> Option<&PoolEntry> {
        self.retired.iter().find(|it| &*it.config.name == name)
    }

    /// The pool that is meant where nobody says which: the only one, or that which is called `main`.
    pub fn pool_without_a_name(&self) -> Option<&PoolEntry> {
        if let [only] = &self.pools[..] { Some(only) } else { self.pool(MAIN) }
    }

    /// The service of this name.
    pub fn service(&self, name: &str) -> Option<&ServiceEntry> {
        self.services.iter().find(|it| &*it.config.name == name)
    }

    /// The service of this name that is no longer asked for and still has connections.
    pub fn retired_service(&self, name: &str) -> Option<&RetiredService> {
        self.retired_services.iter().find(|it| &*it.name == name && it.has_connections())
    }

    /// The services of which this process may have connections: those that are asked for, and those that are no longer.
    pub fn all_services(&self) -> impl Iterator<Item = Arc<Service>> {
        let asked_for = self.services.iter().map(|it| Arc::clone(&it.service));
        asked_for.chain(self.retired_services.iter().filter_map(RetiredService::service))
    }

    /// The one of [them](Setup::all_services) that has this name.
    pub fn any_service(&self, name: &str) -> Option<Arc<Service>> {
        self.all_services().find(|it| *it.name == *name)
    }

    /// What the connections of each service come to, by its name: of those that are asked for, and of those that are no
    /// longer.
    pub fn service_counters(&self) -> impl Iterator<Item = (&str, &Counters)> {
        let asked_for = self.services.iter().map(|it| (&*it.config.name, &it.service.counters));
        asked_for.chain(self.retired_services.iter().map(|it| (&*it.name, &it.counters)))
    }

    /// The one of [them](Setup::service_counters) that has this name.
    pub fn counters_of(&self, name: &str) -> Option<&Counters> {
        self.service_counters().find(|(it, _)| *it == name).map(|(_, counters)| counters)
    }

    /// The services that take destinations from a pool.
    pub fn services_of<'a>(&'a self, pool: &'a str) -> impl Iterator<Item = &'a ServiceEntry> {
        self.services.iter().filter(move |it| &*it.config.pool == pool)
    }

    /// The pools that have connections: those that are asked for, and those that are no longer.
    pub fn all_pools(&self) -> impl Iterator<Item = &PoolEntry> {
        self.pools.iter().chain(&self.retired)
    }

    /// Has log lines name the pools of destinations, if there are several, and the services of single destinations
    /// likewise.
    pub fn set_labels(&self) {
        let are_several = self.pools.len() > 1;
        self.pools.iter().for_each(|it| it.pool.set_label(it.config.name.clone(), are_several));
        let are_several = self.services.len() > 1;
        self.services.iter().for_each(|it| it.rotation().set_label(are_several.then(|| it.config.name.clone())));
    }

    /// Has services leave alone the single destinations of those that they avoid.
    pub fn avoid_writers(&self) {
        for PoolEntry { config, pool } in &self.pools {
            let writer = |it: &ServiceEntry| it.config.avoid.as_ref().and_then(|name| self.service(name));
            let services = self.services_of(&config.name);
            let writers = services.map(|it| (it.rotation(), writer(it).map(ServiceEntry::rotation)));
            pool.avoid(&writers.collect::<Vec<_>>());
        }
    }

    /// The single destinations are another process's business from now on.
    pub fn follow_successor(&self) {
        self.all_services().for_each(|it| it.rotation.follow_successor());
    }

    /// The process that has taken over is gone: clients wait for it no longer.
    pub fn follow_nobody(&self) {
        self.all_services().for_each(|it| it.rotation.follow_nobody());
    }

    /// The connections on all destinations together, those of other processes included.
    pub fn connections(&self) -> usize {
        self.all_pools().map(|it| it.pool.connections()).sum()
    }

    /// The connections of this process on all destinations together.
    pub fn own_connections(&self) -> usize {
        let own = self.all_pools().flat_map(|it| it.pool.own_connections());
        own.map(|(_, count)| count).sum()
    }
}

/// What there is now. All clones say the same.
#[derive(Clone, Default)]
pub struct Inventory(Arc<RwLock<Arc<Setup>>>);

impl Inventory {
    /// What there is at this moment.
    pub fn now(&self) -> Arc<Setup> {
        Arc::clone(&self.0.read())
    }

    /// From now on, there is this.
    pub fn set(&self, setup: Setup) {
        *self.0.write() = Arc::new(setup);
    }

    /// Forgets the services that are no longer asked for and have no connections any more. Returns what there is then.
    pub fn forget_ended(&self) -> Arc<Setup> {
        let mut setup = Setup::clone(&self.now());
        setup.retired_services.retain(RetiredService::has_connections);
        self.set(setup);
        self.now()
    }
}
