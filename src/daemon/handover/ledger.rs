//! What services and destinations have come to, by name: so that counters go on where they were in another process.

use std::collections::{HashMap, HashSet};

use super::{Holder, NOWHERE};
use crate::address::PeerAddress;
use crate::counters::{Counters, Totals};
use crate::pool::Account;
use crate::service::Setup;

/// What each service, and each destination of each pool, has come to, where that is anything.
pub(in crate::daemon) type Ledger = Vec<(Holder, PeerAddress, Totals)>;

/// The most connections at a time of each.
pub(in crate::daemon) type Highest = Vec<(Holder, PeerAddress, usize)>;

/// Most entries of one message.
const PORTION: usize = 40;

fn counters(setup: &Setup) -> Vec<(Holder, PeerAddress, Counters, usize)> {
    let services = setup.service_counters().map(|(name, counters)| {
        let (_, highest) = counters.open_now();
        (Holder::Service(name.to_owned()), NOWHERE, counters.clone(), highest)
    });
    let mut all: Vec<_> = services.collect();
    for entry in setup.all_pools() {
        let holder = || Holder::Pool(entry.config.name.to_string());
        let of = |Account { status, counters, .. }: Account| (holder(), status.address, counters, status.highest);
        all.extend(entry.pool.accounts().into_iter().map(of));
        all.push((Holder::Pool(entry.config.name.to_string()), NOWHERE, Counters::of(entry.pool.gone()), 0));
    }
    all
}

/// What there is to hand over.
pub(in crate::daemon) fn ledger(setup: &Setup) -> (Ledger, Highest) {
    let all = counters(setup);
    let highest = all.iter().filter(|(.., highest)| *highest > 0);
    let highest = highest.map(|(holder, address, _, highest)| (holder.clone(), *address, *highest)).collect();
    let totals = all.into_iter().map(|(holder, address, counters, _)| (holder, address, counters.totals()));
    (totals.filter(|(.., totals)| !totals.is_empty()).collect(), highest)
}

/// Goes on with what another process has handed over, or has counted since.
pub(in crate::daemon) fn enter(setup: &Setup, ledger: &Ledger) {
    for (holder, address, totals) in ledger {
        match holder {
            Holder::Service(name) => setup.counters_of(name).into_iter().for_each(|it| it.add(totals)),
            Holder::Pool(name) => {
                let pools = setup.all_pools().filter(|it| *it.config.name == **name);
                pools.for_each(|it| it.pool.count_elsewhere(*address, totals));
            }
            Holder::Limits(_) | Holder::Source(_) => {}
        }
    }
}

/// Takes over the most connections that there were at a time.
pub(in crate::daemon) fn enter_highest(setup: &Setup, highest: &Highest) {
    for (holder, address, highest) in highest {
        match holder {
            Holder::Service(name) => setup.counters_of(name).into_iter().for_each(|it| it.were_open(*highest)),
            Holder::Pool(name) => {
                setup.pool(name).into_iter().for_each(|it| it.pool.were_open(*address, *highest));
            }
            Holder::Limits(_) | Holder::Source(_) => {}
        }
    }
}

/// What another process has been told of it.
#[derive(Default)]
pub(super) struct Told(HashMap<(Holder, PeerAddress), Totals>);

impl Told {
    pub(super) fn new(ledger: &Ledger) -> Told {
        Told(ledger.iter().map(|(holder, address, totals)| ((holder.clone(), *address), totals.clone())).collect())
    }

    /// What has been counted since, in portions that fit into a message. To be [noted](Told::note) once it was said.
    pub(super) fn news(&self, setup: &Setup) -> Vec<Ledger> {
        let now = ledger(setup).0;
        let present: HashSet<_> = now.iter().map(|(holder, address, _)| (holder.clone(), *address)).collect();
        let mut news = Ledger::new();
        for (holder, address, totals) in now {
            let key = (holder, address);
            let mut before = self.0.get(&key).cloned().unwrap_or_default();
            if address == NOWHERE {
                // What was told of a destination that has gone since is among what those have come to that are gone.
                let has_gone = |of: &&(Holder, PeerAddress)| of.0 == key.0 && !present.contains(*of);
                self.0.keys().filter(has_gone).for_each(|of| before += &self.0[of]);
            }
            if before != totals {
                news.push((key.0, key.1, &totals - &before));
            }
        }
        news.chunks(PORTION).map(<[_]>::to_vec).collect()
    }

    pub(super) fn note(&mut self, said: &Ledger) {
        for (holder, address, more) in said {
            *self.0.entry((holder.clone(), *address)).or_default() += more;
        }
    }
}
