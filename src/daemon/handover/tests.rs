//! An old process and the one that has taken over, with nothing between them but their conversation, which is driven a
//! step at a time.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::listener::Listener;
use super::reports::Reporter;
use super::*;
use crate::address::{Endpoint, Host, PeerAddress};
use crate::config::Config;
use crate::daemon::prepared::empty_setup;
use crate::pool::{Lease, Rotation, Tried};
use crate::service::Inventory;
use crate::stats::Stats;
use crate::worker::{Limits, Workers};

const NAMES: u8 = 3;
const ADDRESSES: u16 = 5;

#[derive(Debug, Clone, Copy)]
enum Step {
    /// The old process connects a client that has waited.
    Connect,
    /// One of its connections ends.
    End(usize),
    /// A name is somewhere else from now on, for the new process.
    Move(u8, u16),
    /// The old process reports.
    Report,
    /// It reads an order.
    Hear,
    /// The new process notices what its table did.
    Notice,
    /// It sends orders.
    Tell,
    /// It reads reports.
    Listen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Connect),
        any::<usize>().prop_map(Step::End),
        (0..NAMES, 1..=ADDRESSES).prop_map(|(name, port)| Step::Move(name, port)),
        Just(Step::Report),
        Just(Step::Hear),
        Just(Step::Notice),
        Just(Step::Tell),
        Just(Step::Listen),
    ]
}

fn at(port: u16) -> PeerAddress {
    PeerAddress::from(([127, 0, 0, 1], port))
}

fn name(number: u8) -> Endpoint {
    Endpoint { host: Host::Name(format!("db{number}")), port: 3306 }
}

fn table() -> (Inventory, Rotation) {
    let config = Config::from_command_line(["glbd", "--random", "1"].map(str::to_owned)).expect("a configuration");
    let (inventory, setup) = (Inventory::default(), empty_setup(&config));
    let table = setup.services[0].rotation().clone();
    inventory.set(setup);
    for number in 0..NAMES {
        table.set(&name(number), at(u16::from(number) + 1), 1.0).expect("there is room");
    }
    (inventory, table)
}

struct Both {
    old: Rotation,
    leases: Vec<Lease>,
    reporter: Reporter,
    new: Rotation,
    listener: Listener,
    _predecessors: Predecessors,
}

impl Both {
    fn new(connections: usize) -> Both {
        let ((there, old), (here, new)) = (table(), table());
        let leases: Vec<Lease> = (0..connections).filter_map(|_| pick(&old)).collect();
        let stats = Stats::new(1);
        let state_connections = own_connections(&there.now());
        let (ours, theirs) = Channel::pair().expect("descriptors");
        theirs.never_wait().expect("a socket");
        let limits = Limits { connections: 100, pipes: 0 };
        let workers = Workers::new(0, limits, &stats).expect("no worker");
        let (workers, _) = workers.start(&[]).expect("no thread");
        let reporter = Reporter::new(
            theirs,
            &state_connections,
            stats.totals(),
            &there,
            (&stats, &workers),
            &Arc::new(AtomicBool::new(false)),
        );
        state_connections.iter().for_each(|(_, address, count)| new.set_elsewhere(*address, *count));
        let link = PredecessorLink::new(ours, None, &state_connections, &[]);
        let (listener, _predecessors) = Listener::new(vec![link], &here, &stats, &workers).expect("descriptors");
        Both { old, leases, reporter, new, listener, _predecessors }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Connect => self.leases.extend(pick(&self.old)),
            Step::End(_) if self.leases.is_empty() => {}
            Step::End(number) => drop(self.leases.swap_remove(number % self.leases.len())),
            Step::Move(number, port) => drop(self.new.follow(&name(number), &[at(port)], false)),
            Step::Report => self.reporter.report(),
            // Nothing may have been sent.
            Step::Hear => drop(self.reporter.hear_within(Duration::ZERO, &|| ())),
            Step::Notice => self.listener.obey_all(),
            Step::Tell => self.listener.tell(),
            Step::Listen => self.listener.listen(),
        }
    }

    /// What the new process counts.
    fn counted(&self) -> Vec<(PeerAddress, usize)> {
        let rows = self.new.snapshot().into_iter().filter(|it| it.connections > 0);
        let mut counts: Vec<_> = rows.map(|it| (it.address, it.connections)).collect();
        counts.sort();
        counts
    }
}

fn pick(table: &Rotation) -> Option<Lease> {
    table.pick([127, 0, 0, 1].into(), &mut Tried::default(), Instant::now()).leased()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_the_new_process_counts_is_what_the_old_one_has(
        connections in 0..6usize, steps in prop::collection::vec(step(), 0..40)
    ) {
        let mut both = Both::new(connections);
        steps.into_iter().for_each(|step| both.take(step));
        let last = [Step::Notice, Step::Tell, Step::Hear, Step::Hear, Step::Report, Step::Listen];
        (0..3).for_each(|_| last.into_iter().for_each(|step| both.take(step)));
        let mut own: HashMap<PeerAddress, usize> = HashMap::new();
        both.old.own_connections().into_iter().for_each(|(address, count)| *own.entry(address).or_default() += count);
        let is_there = |address: &PeerAddress| both.new.snapshot().iter().any(|it| it.address == *address);
        let mut own: Vec<_> = own.into_iter().filter(|(address, _)| is_there(address)).collect();
        own.sort();
        prop_assert_eq!(both.counted(), own);
        prop_assert_eq!(both.listener.clients(), both.leases.len());
    }

    #[test]
    fn nothing_is_left_of_an_old_process_that_was_killed(
        connections in 0..6usize, steps in prop::collection::vec(step(), 0..40)
    ) {
        let mut both = Both::new(connections);
        steps.into_iter().for_each(|step| both.take(step));
        let Both { reporter, mut listener, new, .. } = both;
        drop(reporter);
        // As far as the thread goes when no link is left.
        listener.listen();
        listener.obey_all();
        prop_assert_eq!(new.connections(), 0);
    }
}
