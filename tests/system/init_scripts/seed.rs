//! The widely copied init script of GLB's users, as it is: what it says must come true with glbd in GLB's place.

use super::machine::{Background, Client, Machine};
use crate::harness::{Info, Stats, wait_until};

const HOSTS: [(&str, &str); 4] =
    [("127.0.0.2", "djdb2"), ("127.0.0.3", "djdb3"), ("127.0.0.4", "divjobs3"), ("127.0.0.5", "divjobs4")];

/// A machine with the script's destinations, and one more that is not in its table.
struct Site {
    machine: Machine,
    _servers: Vec<Background>,
}

impl Site {
    fn new() -> Self {
        let machine = Machine::boot(&HOSTS);
        machine.copy("tests/system/seed/glbd-init.sh", "/etc/init.d");
        // Before it starts the daemon, the script waits until no connection is left in TIME_WAIT. That takes a minute
        // on a machine that keeps those connections.
        machine.expect(&["sysctl", "-q", "net.ipv4.tcp_max_tw_buckets=0"]);
        let servers = HOSTS
            .iter()
            .chain(&[("127.0.0.9", "spare")])
            .map(|(address, name)| machine.serve(name, address, "8000"))
            .collect();
        Self { machine, _servers: servers }
    }

    /// A site where the script has started glbd.
    fn started() -> Self {
        let site = Self::new();
        let said = site.succeeds(&["start"]);
        assert!(said.contains("glbd: started"), "{said}");
        site
    }

    fn script<'a>(&self, words: &[&'a str]) -> Vec<&'a str> {
        [&["bash", "/etc/init.d/glbd-init.sh"], words].concat()
    }

    fn succeeds(&self, words: &[&str]) -> String {
        self.machine.expect(&self.script(words))
    }

    /// Runs the script, which must exit as with `exit -1`.
    fn fails(&self, words: &[&str]) -> String {
        let outcome = self.machine.run(&self.script(words));
        assert_eq!(outcome.status, Some(255), "{words:?}: {}", outcome.text);
        outcome.text
    }

    /// The script looks for the old daemon in the moment after it has sent SIGTERM. On a machine with other work to do
    /// even a process that ends at once may not have got its turn by then, so it is given precedence.
    fn restart(&self) {
        for pid in self.machine.daemons() {
            self.machine.expect(&["chrt", "--all-tasks", "--rr", "--pid", "50", &pid]);
        }
        let outcome = self.machine.run(&self.script(&["restart"]));
        let mut said = outcome.text;
        assert!(said.contains("stopping... done."), "{said}");
        if said.contains("already running") {
            // Nor did that help.
            wait_until("the old daemon ends", || self.machine.daemons().is_empty());
            said = self.succeeds(&["start"]);
        } else {
            assert_eq!(outcome.status, Some(0), "{said}");
        }
        assert!(said.contains("glbd: started"), "{said}");
    }

    fn clients(&self, count: usize) -> Vec<Client> {
        let client = || self.machine.client().expect("a server");
        (0..count).map(|_| client()).collect()
    }
}

fn count(clients: &[Client], server: &str) -> usize {
    let of_server = |client: &&Client| client.server() == server;
    clients.iter().filter(of_server).count()
}

fn addresses(info: &Info) -> Vec<&str> {
    info.rows.iter().map(|row| row.address.as_str()).collect()
}

#[test]
fn the_seed_starts_a_daemon_that_balances_by_weight() {
    let site = Site::started();
    let clients = site.clients(13);
    let counts = HOSTS.map(|(_, name)| count(&clients, name));
    assert_eq!(counts, [3, 3, 3, 4], "weights 0.75, 0.75, 0.75 and 1");
}

#[test]
fn the_seed_does_not_start_a_second_daemon() {
    let site = Site::started();
    let daemons = site.machine.daemons();
    let said = site.fails(&["start"]);
    assert!(said.contains("already running"), "{said}");
    assert_eq!(site.machine.daemons(), daemons);
}

#[test]
fn the_seed_shows_table_and_counters() {
    let site = Site::started();
    let clients = site.clients(5);
    for verb in ["status", "getinfo"] {
        let info = Info::parse(&site.succeeds(&[verb]));
        let expected = ["127.0.0.2:8000", "127.0.0.3:8000", "127.0.0.4:8000", "127.0.0.5:8000"];
        assert_eq!(addresses(&info), expected, "{verb}");
        assert_eq!(info.total, clients.len(), "{verb}");
    }
    let stats = Stats::parse(&site.succeeds(&["getstats"]));
    assert_eq!((stats.created, stats.open), (5, 5));
}

#[test]
fn the_seed_adds_a_destination_that_gets_clients() {
    let site = Site::started();
    let _earlier = site.clients(13);
    let said = site.succeeds(&["add", "127.0.0.9:8000:1"]);
    assert!(said.contains("added '127.0.0.9:8000:1' successfully"), "{said}");
    // The others have four connections per weight.
    assert_eq!(count(&site.clients(4), "spare"), 4);
}

#[test]
fn the_seed_removes_a_destination_and_its_connections() {
    let site = Site::started();
    let mut clients = site.clients(8);
    let said = site.succeeds(&["remove", "djdb2:8000"]);
    assert!(said.contains("removed 'djdb2:8000' successfully"), "{said}");
    for client in &mut clients {
        match client.server() {
            "djdb2" => client.wait_until_closed(),
            _ => assert!(client.is_served(), "a client of {}", client.server()),
        }
    }
    let info = site.machine.info();
    assert_eq!(addresses(&info), ["127.0.0.3:8000", "127.0.0.4:8000", "127.0.0.5:8000"]);
    assert_eq!(info.total, 8 - count(&clients, "djdb2"));
    assert_eq!(count(&site.clients(8), "djdb2"), 0);
}

#[test]
fn the_seed_says_which_change_was_refused() {
    let site = Site::started();
    let said = site.fails(&["add", "127.0.0.9:8000:heavy"]);
    assert!(said.contains("failed to add target '127.0.0.9:8000:heavy'"), "{said}");
    let said = site.fails(&["remove", "127.0.0.9:8000"]);
    assert!(said.contains("failed to remove target '127.0.0.9:8000'"), "{said}");
    assert_eq!(site.machine.info().rows.len(), 4);
}

#[test]
fn the_seed_restarts_with_the_table_of_the_start() {
    let site = Site::started();
    let old = site.machine.daemons();
    let mut clients = site.clients(2);
    site.succeeds(&["remove", "djdb2:8000"]);

    site.restart();
    clients.iter_mut().for_each(Client::wait_until_closed);
    let new = site.machine.daemons();
    assert!(!new.is_empty() && new.iter().all(|pid| !old.contains(pid)), "{old:?}, {new:?}");
    assert_eq!(site.machine.info().rows.len(), 4);
    assert!(site.machine.client().is_some());
}

#[test]
fn the_seed_restarts_ten_times_in_a_row() {
    let site = Site::started();
    for _ in 0..10 {
        site.restart();
        assert!(site.machine.client().is_some());
    }
}

#[test]
fn the_seed_stops_the_daemon_which_leaves_nothing_behind() {
    let site = Site::started();
    let mut clients = site.clients(2);
    let said = site.succeeds(&["stop"]);
    assert!(said.contains("stopping... done."), "{said}");
    clients.iter_mut().for_each(Client::wait_until_closed);
    wait_until("glbd is gone", || site.machine.daemons().is_empty());
    let left = std::fs::read_dir(site.machine.directory("/tmp")).expect("/tmp");
    assert_eq!(left.count(), 0, "files in /tmp");
    assert!(site.machine.client().is_none());

    let said = site.fails(&["status"]);
    assert!(said.contains("failed to query 'getinfo'"), "{said}");
    let said = site.succeeds(&["stop"]);
    assert!(said.contains("stopping... failed."), "{said}");
}
