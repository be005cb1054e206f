//! Two machines with one virtual address under keepalived, by the files in init/keepalived: one takes over from the
//! other within four seconds, and nobody notices when the other comes back.

mod check;
pub mod network;
mod pair;

use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{said_goodbye, wait_until};
use pair::{Pair, VIRTUAL};

const MASTER: &str = "Entering MASTER STATE";
const BACKUP: &str = "Entering BACKUP STATE";
/// A script took too long.
const STARVED: &str = "timed_out";
const UNFIT: &str = "Changing effective priority from 200 to 190";
const FIT: &str = "Changing effective priority from 190 to 200";

/// Does something with two machines; again, with others, if it fails where keepalived did not get its turn in time, on a
/// machine that has other work to do: then it shows nothing.
fn on_a_pair(start: impl Fn() -> Pair, act: impl Fn(&Pair)) {
    for left in (0..5).rev() {
        let (stalls, pair) = (Stalls::watch(), start());
        let Err(failure) = panic::catch_unwind(AssertUnwindSafe(|| act(&pair))) else { return };
        let starved = pair.balancers().iter().any(|balancer| balancer.logged(STARVED) > 0) || stalls.are_long();
        if left == 0 || !starved {
            panic::resume_unwind(failure);
        }
        eprintln!("--- again, since keepalived or its scripts were not run in time");
    }
}

/// Whether this machine has left processes waiting, which keepalived takes for the other machine's end. It is watched until
/// this is dropped.
struct Stalls(Arc<AtomicBool>);

impl Stalls {
    fn watch() -> Self {
        // keepalived bears with 1.3 s beyond the second between two messages, of sender and receiver together.
        const LONG: Duration = Duration::from_millis(600);
        let stalls = Self(Arc::default());
        let watched = Arc::downgrade(&stalls.0);
        thread::spawn(move || {
            while let Some(are_long) = watched.upgrade() {
                let before = Instant::now();
                thread::sleep(Duration::from_millis(20));
                are_long.fetch_or(before.elapsed() > LONG, Ordering::Relaxed);
            }
        });
        stalls
    }

    fn are_long(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Brings the first machine, from which the second has taken over, back: all clients are served meanwhile, and the
/// address stays where it is.
fn assert_that_it_comes_back_unnoticed(pair: &Pair, bring_back: impl FnOnce()) {
    let earlier = pair.first.logged(BACKUP);
    pair.while_all_clients_are_served(|| {
        bring_back();
        pair.first.wait_for(BACKUP, earlier);
        // It would take the address if it heard nothing from the other one for 2.3 seconds, and begin a delay before it
        // did so if it heard of a lower priority.
        thread::sleep(Duration::from_secs(4));
    });
    assert_eq!(pair.holders(), ["second"]);
    assert_eq!((pair.first.logged(MASTER), pair.second.logged(MASTER)), (1, 1));
    assert_eq!((pair.first.logged("preempt delay"), pair.second.logged(BACKUP)), (0, 1));
}

#[test]
fn one_of_two_machines_has_the_address_and_both_pick_the_same_writer() {
    on_a_pair(Pair::start_at_once, |pair| {
        assert_eq!(pair.holders().len(), 1);
        // None in the moment in which a destination falls, which closes its connections.
        let writers = || [VIRTUAL, pair.first.ip, pair.second.ip].map(|ip| pair.client(ip).ok());
        let all = |name: &str| [(); 3].map(|()| Some(name.to_owned()));
        assert_eq!(writers(), all("1"));

        pair.sites[0].say(503);
        wait_until("both have gone on to the second", || writers() == all("2"));

        pair.sites[0].say(200);
        for balancer in pair.balancers() {
            let watch = || balancer.machine.expect(&["sh", "-c", "echo getwatch | nc 127.0.0.1 8011"]);
            wait_until("the first is fit again", || watch().matches("READY").count() == 3);
        }
        assert_eq!(writers(), all("2"), "the first does not take the clients back");
    });
}

#[test]
fn a_machine_whose_glbd_is_killed_is_replaced_and_comes_back_unnoticed() {
    on_a_pair(Pair::start, |pair| {
        assert_eq!(pair.client(VIRTUAL).expect("a server"), "1");
        let begun = Instant::now();
        pair.first.kill_glbd();
        pair.wait_until_served_again(begun);
        assert_eq!(pair.holders(), ["second"]);
        assert_eq!(pair.client(VIRTUAL).expect("a server"), "1", "the same writer");
        assert_that_it_comes_back_unnoticed(pair, || pair.first.start_glbd());
    });
}

#[test]
fn a_machine_without_a_link_is_replaced_and_comes_back_unnoticed() {
    on_a_pair(Pair::start, |pair| {
        let mut client = pair.lasting_client();
        let begun = Instant::now();
        pair.network.pull(pair.first.name);
        pair.wait_until_served_again(begun);
        assert_eq!(pair.holders(), ["second"]);
        assert!(client.write_all(b"still there?\n").is_ok() && !said_goodbye(&client), "an old client is reset");
        assert_that_it_comes_back_unnoticed(pair, || pair.network.put_back(pair.first.name));
    });
}

/// The one that is cut off cannot tell that from a failure of the other, and keeps the address. When they meet again, it
/// must have the lower priority: it has had no fit destination meanwhile.
#[test]
fn a_machine_that_is_cut_off_unaware_is_replaced_and_comes_back_unnoticed() {
    on_a_pair(Pair::start, |pair| {
        let begun = Instant::now();
        pair.network.isolate(pair.first.name);
        pair.wait_until_served_again(begun);
        assert!(pair.second.has_the_address());
        pair.first.wait_for(UNFIT, 0);
        assert_that_it_comes_back_unnoticed(pair, || pair.network.join(pair.first.name));
    });
}

#[test]
fn a_machine_without_a_fit_destination_is_replaced_if_the_other_one_has_one() {
    on_a_pair(Pair::start, |pair| {
        pair.sites.iter().for_each(|site| pair.first.change(&format!("{site}:0")));
        wait_until("the second has the address", || pair.holders() == ["second"]);
        assert_eq!(pair.second.logged("start preempt delay"), 1, "time for the second to find the same");
        assert!(pair.client(VIRTUAL).is_ok());

        pair.while_all_clients_are_served(|| {
            pair.sites.iter().for_each(|site| pair.first.change(&format!("{site}:1")));
            pair.first.wait_for(FIT, 0);
        });
        assert_eq!(pair.holders(), ["second"]);
    });
}

#[test]
fn the_address_stays_where_it_is_while_neither_machine_has_a_fit_destination() {
    on_a_pair(Pair::start, |pair| {
        for (status, change) in [(503, UNFIT), (200, FIT)] {
            pair.sites.iter().for_each(|site| site.say(status));
            pair.balancers().iter().for_each(|balancer| balancer.wait_for(change, 0));
            assert_eq!(pair.client(VIRTUAL).is_ok(), status == 200, "clients at status {status}");
        }
        assert_eq!(pair.holders(), ["first"]);
        assert_eq!((pair.first.logged(MASTER), pair.second.logged(MASTER)), (1, 0));
    });
}
