//! Everything about the daemon at one moment, as plain data: what the control port's JSON, the metrics and the page show.

mod model;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use parking_lot::RwLock;

use crate::address::PeerAddress;
use crate::config::{PolicyKind, Printed};
use crate::counters::{Cause, CheckResult, Count, HistogramKind, LimitReached, Totals};
use crate::pool::health::Verdict;
use crate::pool::{Account, DestinationStatus, Origin, Unresolved, weights_in_use};
use crate::service::{Inventory, PoolEntry, ServiceEntry, Setup};
use crate::stats::Stats;
use model::round;
pub use model::{
    Bucket, Checks, Connections, Connects, Destination, Ended, LastDay, Limited, Pool, Process, Seconds, Service,
    Spells, Status, Times, UnresolvedName,
};

static STARTED: OnceLock<SystemTime> = OnceLock::new();

/// When this process, or the first of those that it has taken over from, was started: the first call of this, or of
/// [`resume`], says so.
pub fn started() -> SystemTime {
    *STARTED.get_or_init(SystemTime::now)
}

/// The first of the processes before this one was started then.
pub fn resume(started: SystemTime) {
    // It has been said already where there was no process before this one.
    let _ = STARTED.set(started);
}

/// Where it all comes from. Cheap to clone.
#[derive(Clone)]
pub struct Source {
    /// The pools and services.
    pub inventory: Inventory,
    /// The counters of the process.
    pub stats: Stats,
    /// Most client connections.
    pub max_connections: usize,
    /// New clients wait in the backlog.
    pub paused: Arc<AtomicBool>,
    /// The configuration in force.
    pub configuration: Arc<RwLock<Printed>>,
}

impl Source {
    /// As it is now.
    pub fn now(&self) -> Status {
        let setup = self.inventory.now();
        let services: Vec<Service> = setup.services.iter().map(service).collect();
        let pools = setup.pools.iter().map(|entry| pool(entry, &setup, &services)).collect();
        Status { process: self.process(&setup), services, pools }
    }

    fn process(&self, setup: &Setup) -> Process {
        let totals = self.stats.totals();
        let now = SystemTime::now();
        Process {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            time: humantime::format_rfc3339_millis(now).to_string(),
            started: humantime::format_rfc3339_millis(started()).to_string(),
            uptime: round(now.duration_since(started()).unwrap_or_default().as_secs_f64()),
            connections: setup.connections(),
            own_connections: setup.own_connections(),
            max_connections: self.max_connections,
            paused: self.paused.load(Ordering::Relaxed),
            accepted: totals.connections,
            bytes_in: totals.from_clients,
            bytes_out: totals.to_clients,
        }
    }
}

fn service(entry: &ServiceEntry) -> Service {
    let ServiceEntry { config, service } = entry;
    let destinations = service.rotation.snapshot();
    let totals = service.counters.totals();
    let (now, highest) = service.counters.open_now();
    let writer = destinations.iter().find(|it| it.is_single).map(|it| it.address.to_string());
    let limit = config.limits.max_connections;
    Service {
        name: config.name.to_string(),
        pool: config.pool.to_string(),
        listen: config.listen.to_string(),
        policy: config.policy.to_string(),
        single: config.policy == PolicyKind::Single,
        writer,
        writer_since: service.rotation.single_since().map(|since| humantime::format_rfc3339_millis(since).to_string()),
        connections: Connections { now, highest, total: totals.get(Count::Connections) },
        max_connections: limit,
        queue: service.rotation.waiting(),
        ready: destinations.iter().any(takes_clients),
        full: service.limits.is_full(),
        bytes_in: totals.get(Count::BytesIn),
        bytes_out: totals.get(Count::BytesOut),
        connects: connects(&totals),
        ended: ended(&totals),
        limited: limited(&totals),
        times: times(&totals),
    }
}

fn pool(entry: &PoolEntry, setup: &Setup, services: &[Service]) -> Pool {
    let PoolEntry { config, pool } = entry;
    let own = services.iter().filter(|it| *it.pool == *config.name);
    let writers: Vec<&str> = own.filter_map(|it| it.writer.as_deref()).collect();
    let accounts = pool.accounts();
    let weights = weights_in_use(&accounts.iter().map(|account| &account.status).collect::<Vec<_>>());
    let mut shares = shares(setup, &config.name);
    let destinations = accounts.into_iter().zip(weights).map(|(account, weight_in_force)| {
        let shares = shares.remove(&account.status.address).unwrap_or_default();
        destination(account, &writers, weight_in_force, shares)
    });
    let destinations = destinations.collect();
    let totals = pool.totals();
    Pool {
        name: config.name.to_string(),
        watched: config.watchdog.is_some(),
        checks_note: pool.checks_note().map(|note| note.to_string()),
        max_connections: config.max_connections,
        destinations,
        unresolved: pool.unresolved().into_iter().map(unresolved).collect(),
        bytes_in: totals.get(Count::BytesIn),
        bytes_out: totals.get(Count::BytesOut),
        connects: connects(&totals),
    }
}

/// What each destination of a pool gets of the new clients of each of its services.
fn shares(setup: &Setup, pool: &str) -> HashMap<PeerAddress, BTreeMap<String, f64>> {
    let mut shares: HashMap<PeerAddress, BTreeMap<String, f64>> = HashMap::new();
    for ServiceEntry { config, service } in setup.services.iter().filter(|it| *it.config.pool == *pool) {
        for (address, share) in service.rotation.shares() {
            shares.entry(address).or_default().insert(config.name.to_string(), round(share));
        }
    }
    shares
}

fn destination(account: Account, writers: &[&str], weight_in_force: f64, shares: BTreeMap<String, f64>) -> Destination {
    let Account { status: it, counters, counts: (down_count, change_count), held, last_day } = account;
    let totals = counters.totals();
    let address = it.address.to_string();
    Destination {
        names: it.wanted_as.iter().map(ToString::to_string).collect(),
        writer: writers.contains(&&*address),
        address,
        weight: it.weight,
        weight_in_force,
        shares,
        backup: it.backup,
        discovered: it.origin == Origin::Discovered,
        leaving: it.is_leaving,
        verdict: it.health.verdict.map_or_else(|| "UNKNOWN".to_owned(), |verdict| verdict.to_string()),
        takes_clients: takes_clients(&it),
        reason: it.health.reason.to_string(),
        since: it.health.since.map(|since| humantime::format_rfc3339_millis(since).to_string()),
        latency: round(it.health.latency.as_secs_f64()),
        refusals: it.refusals.as_ref().map_or(0, |it| it.count),
        refusal: it.refusals.as_ref().map(|it| it.reason.to_string()),
        connections: Connections { now: it.connections, highest: it.highest, total: totals.get(Count::Connections) },
        max_connections: it.limit,
        bytes_in: totals.get(Count::BytesIn),
        bytes_out: totals.get(Count::BytesOut),
        connects: connects(&totals),
        ended: ended(&totals),
        checks: checks(&totals),
        times: times(&totals),
        down_count,
        change_count,
        seconds: Seconds::of(held),
        last_day: LastDay::of(last_day),
    }
}

fn takes_clients(it: &DestinationStatus) -> bool {
    it.weight_in_force > 0.0 && it.health.verdict >= Some(Verdict::Spare)
}

fn unresolved(it: Unresolved) -> UnresolvedName {
    UnresolvedName { name: it.endpoint.to_string(), weight: it.weight, reason: it.reason.to_string() }
}

fn connects(totals: &Totals) -> Connects {
    Connects {
        tried: totals.get(Count::Connects),
        refused: totals.get(Count::ConnectsRefused),
        timed_out: totals.get(Count::ConnectsTimedOut),
        turned_down: totals.get(Count::ConnectsTurnedDown),
        failed: totals.get(Count::ConnectsFailed),
        redispatched: totals.get(Count::Redispatches),
        queued: totals.get(Count::Queued),
    }
}

fn ended(totals: &Totals) -> Vec<Ended> {
    let ended = |cause: Cause| Ended { cause: cause.name().to_owned(), count: totals.ended(cause) };
    Cause::ALL.into_iter().map(ended).filter(|it| it.count > 0).collect()
}

fn limited(totals: &Totals) -> Vec<Limited> {
    let limited = |limit: LimitReached| Limited {
        limit: limit.name().to_owned(),
        effect: limit.effect().to_owned(),
        count: totals.limited(limit),
    };
    LimitReached::ALL.into_iter().map(limited).filter(|it| it.count > 0).collect()
}

fn checks(totals: &Totals) -> Vec<Checks> {
    let checks = |result: CheckResult| Checks { result: result.name().to_owned(), count: totals.checks(result) };
    CheckResult::ALL.into_iter().map(checks).filter(|it| it.count > 0).collect()
}

fn times(totals: &Totals) -> Vec<Times> {
    let times = |kind: HistogramKind| {
        let histogram = totals.times(kind);
        let quantile = |share| histogram.quantile(kind, share).map(|time| round(time.as_secs_f64()));
        let bounds = kind.bounds().iter().map(|micros| *micros as f64 / 1e6);
        let buckets = bounds.zip(histogram.cumulative()).map(|(bound, count)| Bucket { bound, count });
        Times {
            what: kind.name().to_owned(),
            count: histogram.count(),
            sum: round(histogram.sum().as_secs_f64()),
            p50: quantile(0.5),
            p99: quantile(0.99),
            buckets: buckets.collect(),
        }
    };
    HistogramKind::ALL.into_iter().map(times).filter(|it| it.count > 0).collect()
}
