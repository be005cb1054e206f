//! What an old process tells the one that has taken over, for as long as it has connections, and hears from it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::ledger::Told;
use super::sessions::answer;
use super::{Channel, Connections, Holder, Message, Order, PORTION, State, Successor, holders, own_connections};
use crate::address::PeerAddress;
use crate::service::Inventory;
use crate::sessions::SessionControl;
use crate::stats::{Stats, Totals};
use crate::supervise;
use crate::worker;

/// How often there is something to tell.
const INTERVAL: Duration = Duration::from_millis(200);
/// How long the end may wait for the last report. What is not reported by then is never counted.
const LAST_REPORT: Duration = Duration::from_millis(300);
/// The same for a process without connections: nothing waits for its end.
const LAST_REPORT_IF_IDLE: Duration = Duration::from_secs(10);

/// The thread that reports.
pub(in crate::daemon) struct Reports {
    ending: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

pub(super) struct Reporter {
    channel: Channel,
    inventory: Inventory,
    stats: Stats,
    workers: worker::Handle,
    ending: Arc<AtomicBool>,
    /// What the other process has heard.
    connections: BTreeMap<(Holder, PeerAddress), usize>,
    /// Those of which it may have heard before it moved a destination, or after: reported again, changed or not.
    uncertain: BTreeSet<(Holder, PeerAddress)>,
    totals: Totals,
    /// What it has heard of the counters.
    told: Told,
}

impl Reports {
    /// Lets go of the successor, which serves, and begins to report to it what has changed since `state`. `stop` is called
    /// when it says that this process is to stop.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub(in crate::daemon) fn start(
        successor: Successor,
        state: &State,
        inventory: &Inventory,
        (stats, workers): (&Stats, &worker::Handle),
        stop: impl Fn() + Send + 'static,
    ) -> io::Result<Reports> {
        let channel = successor.let_go();
        let ending = Arc::new(AtomicBool::new(false));
        let mut reporter =
            Reporter::new(channel, &state.connections, state.stats.totals, inventory, (stats, workers), &ending);
        reporter.told = Told::new(&state.ledger);
        let thread = supervise::spawn("reports", move || reporter.run(stop))?;
        Ok(Reports { ending, thread })
    }

    /// Reports for the last time, and waits for that; longer if this process `is_idle`, that is, has no connections.
    pub(in crate::daemon) fn finish(self, is_idle: bool) {
        let patience = if is_idle { LAST_REPORT_IF_IDLE } else { LAST_REPORT };
        self.ending.store(true, Ordering::SeqCst);
        let since = std::time::Instant::now();
        while !self.thread.is_finished() && since.elapsed() < patience {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Reporter {
    pub(super) fn new(
        channel: Channel,
        connections: &Connections,
        totals: Totals,
        inventory: &Inventory,
        (stats, workers): (&Stats, &worker::Handle),
        ending: &Arc<AtomicBool>,
    ) -> Reporter {
        Reporter {
            channel,
            inventory: inventory.clone(),
            stats: stats.clone(),
            workers: workers.clone(),
            ending: Arc::clone(ending),
            connections: keyed(connections.iter().cloned()),
            uncertain: BTreeSet::new(),
            totals,
            told: Told::default(),
        }
    }

    fn run(mut self, stop: impl Fn()) {
        while !self.ending.load(Ordering::SeqCst) {
            match self.hear_within(INTERVAL, &stop) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Whoever took over is gone, and this process not told to stop: the connections go on.
                Err(_) => return self.inventory.now().follow_nobody(),
            }
            self.report_counters();
            self.report();
        }
        self.report_counters();
        self.report();
    }

    /// Obeys what comes next in this time.
    ///
    /// # Errors
    /// `WouldBlock` when nothing comes, others when the other process is gone.
    pub(super) fn hear_within(&mut self, patience: Duration, stop: &impl Fn()) -> io::Result<()> {
        match self.channel.receive_within(patience)? {
            Some((Message::Find { number, filter }, _)) => answer(&self.channel, &self.workers, number, filter),
            Some((Message::Orders(orders), _)) => orders.into_iter().for_each(|it| self.obey(it, stop)),
            Some(_) => {}
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        Ok(())
    }

    fn obey(&mut self, order: Order, stop: &impl Fn()) {
        let setup = self.inventory.now();
        match order {
            Order::Close(Holder::Pool(name), address) => {
                let pools = setup.all_pools().filter(|it| *it.config.name == name);
                pools.for_each(|it| it.pool.close_sessions(address));
            }
            Order::Close(Holder::Service(name), address) => {
                setup.any_service(&name).iter().for_each(|it| it.rotation.close_own_sessions(address));
            }
            Order::Kick(ids) => self.workers.close(&ids),
            // None is sent: which destinations these have, the pool knows.
            Order::Close(Holder::Limits(_) | Holder::Source(_), _) => {}
            Order::Move(name, from, to) => {
                setup.pool(&name).into_iter().for_each(|it| it.pool.rename(from, to));
                let holders = holders(&setup, &name);
                self.uncertain.extend(holders.into_iter().flat_map(|holder| [(holder.clone(), from), (holder, to)]));
            }
            Order::Single(name, address) => {
                setup.any_service(&name).iter().for_each(|it| it.rotation.follow_single(address));
            }
            Order::Stop => stop(),
        }
    }

    /// Tells what has been counted. What cannot be said now is said the next time.
    fn report_counters(&mut self) {
        for portion in self.told.news(&self.inventory.now()) {
            if self.channel.send(&Message::Counted(portion.clone()), &[]).is_err() {
                return;
            }
            self.told.note(&portion);
        }
    }

    /// Tells what has changed. What cannot be said now, since the other process does not listen, is said the next time.
    pub(super) fn report(&mut self) {
        let now = keyed(own_connections(&self.inventory.now()).into_iter());
        let keys: BTreeSet<_> = now.keys().chain(self.connections.keys()).cloned().collect();
        let count = |of: &BTreeMap<_, usize>, key: &(Holder, PeerAddress)| of.get(key).copied().unwrap_or(0);
        let has_changed = |key: &&(Holder, PeerAddress)| count(&now, key) != count(&self.connections, key);
        let changed = keys.iter().filter(has_changed).chain(&self.uncertain).cloned().collect::<BTreeSet<_>>();
        let changed: Connections = changed
            .into_iter()
            .map(|key| {
                let count = count(&now, &key);
                (key.0, key.1, count)
            })
            .collect();
        let totals = self.stats.totals();
        if changed.is_empty() && totals == self.totals {
            return;
        }
        let portions = changed.chunks(PORTION).chain(changed.is_empty().then_some(&[][..]));
        for portion in portions {
            let traffic = Message::Traffic { connections: portion.to_vec(), counted: totals - self.totals };
            if self.channel.send(&traffic, &[]).is_err() {
                return;
            }
            self.totals = totals;
            for (holder, address, count) in portion {
                let key = (holder.clone(), *address);
                self.uncertain.remove(&key);
                self.connections.insert(key, *count);
            }
        }
        self.connections.retain(|_, count| *count > 0);
    }
}

/// The counts by holder and address. After an order to move a destination, two of them may have the same address: their
/// counts are added.
fn keyed(connections: impl Iterator<Item = (Holder, PeerAddress, usize)>) -> BTreeMap<(Holder, PeerAddress), usize> {
    let mut keyed = BTreeMap::new();
    connections.for_each(|(holder, address, count)| *keyed.entry((holder, address)).or_default() += count);
    keyed
}
