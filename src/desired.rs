//! What is asked for, and what has to be done so that it is: pure code, which changes nothing.

use std::collections::BTreeMap;

use crate::address::{DestinationSpec, Endpoint};
use crate::config::{Config, ControlAddress, Name, PoolConfig, ServiceConfig};

/// From the destinations that were asked for to those that are asked for now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DestinationsChange {
    /// These are new.
    pub added: Vec<DestinationSpec>,
    /// These are asked for no longer.
    pub dropped: Vec<Endpoint>,
    /// These were asked for with another weight.
    pub reweighted: Vec<DestinationSpec>,
}

impl DestinationsChange {
    /// What has changed between two lists. Of a destination that is given more than once, the last weight counts.
    pub fn between(before: &[DestinationSpec], now: &[DestinationSpec]) -> DestinationsChange {
        let weights = |specs: &[DestinationSpec]| -> BTreeMap<String, f64> {
            specs.iter().map(|spec| (spec.endpoint.to_string(), spec.weight)).collect()
        };
        let (old, new) = (weights(before), weights(now));
        let mut change = DestinationsChange::default();
        for spec in now {
            let key = spec.endpoint.to_string();
            let last = DestinationSpec { weight: new.get(&key).copied().unwrap_or(spec.weight), ..spec.clone() };
            let list = match old.get(&key) {
                None => &mut change.added,
                Some(weight) if *weight != last.weight => &mut change.reweighted,
                Some(_) => continue,
            };
            if !list.contains(&last) {
                list.push(last);
            }
        }
        for DestinationSpec { endpoint, .. } in before {
            if !new.contains_key(&endpoint.to_string()) && !change.dropped.contains(endpoint) {
                change.dropped.push(endpoint.clone());
            }
        }
        change
    }

    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.dropped.is_empty() && self.reweighted.is_empty()
    }
}

/// One thing that has to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Task<'c> {
    /// This pool is new.
    AddPool(&'c PoolConfig),
    /// This pool is asked for otherwise than before.
    ChangePool(&'c PoolConfig, PoolChange),
    /// Nobody asks for this pool any more.
    DropPool(&'c Name),
    /// This service is new.
    AddService(&'c ServiceConfig),
    /// This service is asked for otherwise than before.
    ChangeService(&'c ServiceConfig, ServiceChange),
    /// Nobody asks for this service any more.
    DropService(&'c Name),
    /// This control address is new.
    OpenControl(&'c ControlAddress),
    /// The first of these control addresses has the options of the second from now on.
    ChangeControl(&'c ControlAddress, &'c ControlAddress),
    /// Nobody asks for this control address any more.
    DropControl(&'c ControlAddress),
    /// What the process has for this key of the file is another, and so it stays until then.
    Wait(&'static str, Until),
}

/// What is different about a pool.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PoolChange {
    /// The destinations.
    pub destinations: DestinationsChange,
    /// Which of them are backups.
    pub backups: bool,
    /// How many connections each may have, and how many clients wait for room.
    pub room: bool,
    /// How they are checked, or how long they are avoided.
    pub checks: bool,
    /// How their names are resolved.
    pub names: bool,
}

/// What is different about a service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServiceChange {
    /// Where it listens.
    pub listening: bool,
    /// Which pool it takes destinations from.
    pub pool: bool,
    /// How it chooses from them.
    pub choosing: bool,
    /// How connections are treated.
    pub connections: bool,
    /// Which clients may connect, and how many.
    pub limits: bool,
}

/// What it takes for a change to come into force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Another process that takes over.
    Upgrade,
    /// A start.
    Restart,
}

/// What has to be done so that what is `wanted` is there, where there is what was asked for `before`.
pub fn difference<'c>(before: &'c Config, wanted: &'c Config) -> Vec<Task<'c>> {
    let mut tasks = Vec::new();
    for pool in &wanted.pools {
        match before.pools.iter().find(|it| it.name == pool.name) {
            None => tasks.push(Task::AddPool(pool)),
            Some(old) => tasks.extend(pool_change(old, pool).map(|change| Task::ChangePool(pool, change))),
        }
    }
    for service in &wanted.services {
        match before.services.iter().find(|it| it.name == service.name) {
            None => tasks.push(Task::AddService(service)),
            Some(old) => {
                let change = service_change((before, old), (wanted, service));
                tasks.extend(change.map(|change| Task::ChangeService(service, change)));
            }
        }
    }
    let dropped = before.services.iter().filter(|old| wanted.services.iter().all(|it| it.name != old.name));
    tasks.extend(dropped.map(|it| Task::DropService(&it.name)));
    let dropped = before.pools.iter().filter(|old| wanted.pools.iter().all(|it| it.name != old.name));
    tasks.extend(dropped.map(|it| Task::DropPool(&it.name)));
    tasks.extend(control_changes(&before.control, &wanted.control));
    tasks.extend(process_changes(before, wanted));
    tasks
}

fn pool_change(before: &PoolConfig, now: &PoolConfig) -> Option<PoolChange> {
    let change = PoolChange {
        destinations: DestinationsChange::between(&before.destinations, &now.destinations),
        backups: before.backups != now.backups,
        room: (before.max_connections, before.ramp, before.max_queue) != (now.max_connections, now.ramp, now.max_queue),
        checks: (before.interval, before.recheck_after, &before.watchdog)
            != (now.interval, now.recheck_after, &now.watchdog),
        names: (before.resolve, before.resolve_all) != (now.resolve, now.resolve_all),
    };
    (change != PoolChange::default()).then_some(change)
}

fn service_change(
    (before, old): (&Config, &ServiceConfig),
    (wanted, new): (&Config, &ServiceConfig),
) -> Option<ServiceChange> {
    let shutdown_sessions = |config: &Config, service| {
        let options = config.pool_of(service).watchdog.as_ref();
        options.map(|options| options.shutdown_sessions).unwrap_or_default()
    };
    let change = ServiceChange {
        listening: old.listen != new.listen,
        pool: old.pool != new.pool,
        choosing: (old.policy, old.top, &old.avoid, shutdown_sessions(before, old))
            != (new.policy, new.top, &new.avoid, shutdown_sessions(wanted, new)),
        connections: old.connections != new.connections,
        limits: old.limits != new.limits,
    };
    (change != ServiceChange::default()).then_some(change)
}

fn control_changes<'c>(before: &'c [ControlAddress], wanted: &'c [ControlAddress]) -> Vec<Task<'c>> {
    let at_place = |all: &'c [ControlAddress], of: &ControlAddress| all.iter().find(|it| it.is_at_place_of(of));
    let opened_or_changed = wanted.iter().filter_map(|address| match at_place(before, address) {
        None => Some(Task::OpenControl(address)),
        Some(old) if old != address => Some(Task::ChangeControl(old, address)),
        Some(_) => None,
    });
    let dropped = before.iter().filter(|old| at_place(wanted, old).is_none()).map(Task::DropControl);
    opened_or_changed.chain(dropped).collect()
}

/// A key of the file whose value a process keeps.
struct Kept {
    key: &'static str,
    until: Until,
    /// The value, to compare and to hand over.
    value: fn(&Config) -> String,
    /// Copies the value from one configuration to another.
    copy: fn(&Config, &mut Config),
}

macro_rules! kept {
    ($key:literal, $field:ident, $until:ident) => {
        kept!($key, $field, $until, |config| format!("{:?}", config.$field))
    };
    ($key:literal, $field:ident, $until:ident, $value:expr) => {
        Kept { key: $key, until: Until::$until, value: $value, copy: |from, to| to.$field.clone_from(&from.$field) }
    };
}

/// All that a process keeps for as long as it lives, and what another one that takes over from it keeps as well.
const KEPT: [Kept; 10] = [
    kept!("threads", threads, Upgrade),
    kept!("cpu-affinity", cpus, Upgrade),
    kept!("max-connections", max_connections, Upgrade),
    kept!("state", state, Upgrade),
    kept!("log", log, Upgrade),
    kept!("connection-log-file", connection_log, Upgrade),
    kept!("fifo", fifo, Restart),
    kept!("daemon", daemon, Restart),
    kept!("user", user, Restart),
    kept!("pidfile", pidfile, Restart),
];

fn process_changes<'c>(before: &Config, now: &Config) -> impl Iterator<Item = Task<'c>> + use<'c> {
    let differs = |it: &&Kept| (it.value)(before) != (it.value)(now);
    let waits: Vec<Task<'c>> = KEPT.iter().filter(differs).map(|it| Task::Wait(it.key, it.until)).collect();
    waits.into_iter()
}

/// What is in force in a process that began with `before`, once `wanted` is as far as that goes without another process.
pub fn in_force(before: &Config, mut wanted: Config) -> Config {
    for it in &KEPT {
        (it.copy)(before, &mut wanted);
        wanted.printed.keep(it.key, &before.printed);
    }
    wanted
}

/// What stays as it is when another process takes over, by its key.
pub fn lasting(config: &Config) -> Vec<(String, String)> {
    let lasting = KEPT.iter().filter(|it| it.until == Until::Restart);
    lasting.map(|it| (it.key.to_owned(), (it.value)(config))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::address::parse_destination;

    const FILE: &str = "[process]\nthreads = 2\n[pool.a]\ndestinations = ['10.0.0.1:1', '10.0.0.2:1:2']\nwatchdog = 'tcp'\n\
        [pool.b]\n[service.w]\npool = 'a'\nlisten = 1\n[service.r]\npool = 'a'\nlisten = 2\n\
        [service.q]\npool = 'b'\nlisten = 3\n";

    fn config(text: &str) -> Config {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("a file");
        let words = ["glbd", "--config", file.path().to_str().expect("text")].map(str::to_owned);
        Config::from_command_line(words).expect("a file without a fault")
    }

    fn specs(texts: &[&str]) -> Vec<DestinationSpec> {
        texts.iter().map(|text| parse_destination(text, None).expect("a destination")).collect()
    }

    /// The tasks when these words of the file are others.
    fn after(words: &str, others: &str) -> Vec<String> {
        assert!(FILE.contains(words), "{words}");
        let (before, wanted) = (config(FILE), config(&FILE.replacen(words, others, 1)));
        let print = |task: &Task| match task {
            Task::AddPool(pool) => format!("add pool {}", pool.name),
            Task::ChangePool(pool, change) => format!("change pool {}: {change:?}", pool.name),
            Task::AddService(service) => format!("add service {}", service.name),
            Task::ChangeService(service, change) => format!("change service {}: {change:?}", service.name),
            other => format!("{other:?}"),
        };
        difference(&before, &wanted).iter().map(print).collect()
    }

    #[test]
    fn what_has_not_changed_is_left_alone() {
        assert_eq!(after("threads", "threads"), [""; 0]);
    }

    #[test]
    fn each_change_is_told_apart() {
        let change = |of: &str, what: &str| format!("change {of}: {what}");
        let service = |name: &str, field: &str| {
            let fields = ["listening", "pool", "choosing", "connections", "limits"];
            let fields = fields.map(|it| format!("{it}: {}", it == field));
            change(&format!("service {name}"), &format!("ServiceChange {{ {} }}", fields.join(", ")))
        };
        assert_eq!(after("listen = 2", "listen = 4"), [service("r", "listening")]);
        assert_eq!(after("listen = 2", "listen = 2\ntop = true"), [service("r", "choosing")]);
        assert_eq!(after("listen = 2", "listen = 2\nretries = 9"), [service("r", "connections")]);
        assert_eq!(after("listen = 2", "listen = 2\nmax-connections = 9"), [service("r", "limits")]);
        assert_eq!(
            after("pool = 'b'\nlisten = 3", "pool = 'a'\nlisten = 3\n[service.n]\npool = 'b'\nlisten = 5"),
            [service("q", "pool"), "add service n".to_owned()]
        );
        assert_eq!(
            after("threads = 2", "threads = 3\nuser = 'x'"),
            ["Wait(\"threads\", Upgrade)", "Wait(\"user\", Restart)"]
        );
        let (from, to) = ("threads = 2", "threads = 2\ncontrol = [9, 'unix:/a']");
        let found = after(from, to).concat();
        assert!(found.starts_with("OpenControl(") && found.matches("Control(").count() == 2, "{found}");
        let (before, wanted) = (
            config(&FILE.replacen(from, to, 1)),
            config(&FILE.replacen(from, "threads = 2\ncontrol = '9,read-only'", 1)),
        );
        let found = difference(&before, &wanted);
        assert!(matches!(found[..], [Task::ChangeControl(..), Task::DropControl(_)]), "{found:?}");
        let found = after("watchdog = 'tcp'", "watchdog = 'tcp'\nshutdown-sessions = 'never'");
        assert_eq!(found.len(), 3, "the pool's checks, and what both services do when their writer moves: {found:?}");
        assert_eq!(found[1..], [service("w", "choosing"), service("r", "choosing")]);
    }

    #[test]
    fn the_last_weight_of_a_destination_counts() {
        let (before, now) = (specs(&["a:1:2", "b:1", "c:1"]), specs(&["b:1:3", "a:1", "a:1:2", "d:1", "d:1:7"]));
        let change = DestinationsChange::between(&before, &now);
        assert_eq!(change.added, specs(&["d:1:7"]));
        assert_eq!(change.dropped, [specs(&["c:1"])[0].endpoint.clone()]);
        assert_eq!(change.reweighted, specs(&["b:1:3"]));
    }

    #[test]
    fn what_a_process_keeps_is_as_before_and_all_else_as_wanted() {
        let before = config(&FILE.replacen("threads = 2", "threads = 2\nuser = 'x'\nfifo = '/a'", 1));
        let wanted = FILE.replacen("threads = 2", "threads = 3\nuser = 'y'\nfifo = '/a'\nverbose = true", 1);
        let wanted = config(&wanted.replacen("listen = 2", "listen = 4", 1));
        let waits = |before: &Config, wanted: &Config| {
            let waits = difference(before, wanted).into_iter();
            waits.filter(|task| matches!(task, Task::Wait(..))).map(|task| format!("{task:?}")).collect::<Vec<_>>()
        };
        assert_eq!(waits(&before, &wanted), ["Wait(\"threads\", Upgrade)", "Wait(\"user\", Restart)"]);
        let now = in_force(&before, wanted.clone());
        assert_eq!(waits(&before, &now), [""; 0]);
        assert_eq!((now.threads, now.user.as_deref(), now.verbose), (2, Some("x"), true));
        assert_eq!(now.services, wanted.services);
        // What an upgrade brings is nothing that the next process keeps.
        let (old, new) = (lasting(&before), lasting(&wanted));
        let differ: Vec<&str> = old.iter().zip(&new).filter(|(old, new)| old != new).map(|(old, _)| &*old.0).collect();
        assert_eq!(differ, ["user"]);
    }

    fn list() -> impl Strategy<Value = Vec<DestinationSpec>> {
        let one = (1u16..6, 0u8..3).prop_map(|(port, weight)| specs(&[&format!("h:{port}:{weight}")]).remove(0));
        prop::collection::vec(one, 0..8)
    }

    proptest! {
        #[test]
        fn whatever_the_lists_are_the_change_makes_one_of_the_other(before in list(), now in list()) {
            let weights = |specs: &[DestinationSpec]| -> BTreeMap<u16, f64> {
                specs.iter().map(|spec| (spec.endpoint.port, spec.weight)).collect()
            };
            let change = DestinationsChange::between(&before, &now);
            let mut made = weights(&before);
            for endpoint in &change.dropped {
                prop_assert!(made.remove(&endpoint.port).is_some());
            }
            for spec in &change.reweighted {
                prop_assert!(made.insert(spec.endpoint.port, spec.weight).is_some());
            }
            for spec in &change.added {
                prop_assert!(made.insert(spec.endpoint.port, spec.weight).is_none());
            }
            prop_assert_eq!(made, weights(&now));
        }
    }
}
