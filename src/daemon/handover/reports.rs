//! What an old process tells the one that has taken over, for as long as it has connections, and hears from it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{Channel, Message, Order, PORTION, State, Successor};
use crate::stats::{Stats, Totals};
use crate::table::Table;

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

struct Reporter {
    channel: Channel,
    table: Table,
    stats: Stats,
    ending: Arc<AtomicBool>,
    /// What the other process has heard.
    connections: BTreeMap<SocketAddr, usize>,
    totals: Totals,
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
        table: &Table,
        stats: &Stats,
        stop: impl Fn() + Send + 'static,
    ) -> io::Result<Reports> {
        let channel = successor.let_go();
        let ending = Arc::new(AtomicBool::new(false));
        let reporter = Reporter {
            channel,
            table: table.clone(),
            stats: stats.clone(),
            ending: Arc::clone(&ending),
            connections: state.connections.iter().copied().collect(),
            totals: state.stats.totals,
        };
        let thread = thread::Builder::new().name("reports".into()).spawn(move || reporter.run(stop))?;
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
    fn run(mut self, stop: impl Fn()) {
        while !self.ending.load(Ordering::SeqCst) {
            match self.channel.receive_within(INTERVAL) {
                Ok(Some((Message::Orders(orders), _))) => orders.into_iter().for_each(|it| self.obey(it, &stop)),
                Ok(Some(_)) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Whoever took over is gone, and this process not told to stop: the connections go on.
                Ok(None) | Err(_) => return self.table.follow_nobody(),
            }
            self.report();
        }
        self.report();
    }

    fn obey(&mut self, order: Order, stop: &impl Fn()) {
        match order {
            Order::Close(address) => self.table.close_sessions(address),
            Order::Move(from, to) => {
                self.table.rename(from, to);
                // The other process has done the same.
                if let Some(count) = self.connections.remove(&from) {
                    self.connections.insert(to, count);
                }
            }
            Order::Single(address) => self.table.follow_single(address),
            Order::Stop => stop(),
        }
    }

    /// Tells what has changed. What cannot be said now, since the other process does not listen, is said the next time.
    fn report(&mut self) {
        let now: BTreeMap<SocketAddr, usize> = self.table.own_connections().into_iter().collect();
        let addresses: BTreeSet<SocketAddr> = now.keys().chain(self.connections.keys()).copied().collect();
        let count = |of: &BTreeMap<SocketAddr, usize>, address| of.get(address).copied().unwrap_or(0);
        let changed = addresses.iter().filter(|address| count(&now, address) != count(&self.connections, address));
        let changed: Vec<_> = changed.map(|address| (*address, count(&now, address))).collect();
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
            self.connections.extend(portion.iter().copied());
        }
        self.connections.retain(|_, count| *count > 0);
    }
}
