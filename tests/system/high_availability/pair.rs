//! Two machines with glbd and keepalived, set up as docs/high-availability.md says, and three destinations.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::network::Network;
use crate::harness::{PATIENCE, Site, connect_to, read_line, wait_until, wait_until_within};
use crate::init_scripts::machine::{Background, Machine};

/// Where the clients connect to, on whichever machine it is.
pub const VIRTUAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);

const PORT: u16 = 3306;
const PAGE_PORT: u16 = 9200;
const SERVERS: [Ipv4Addr; 3] = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 3)];

/// How soon clients must be served again when a machine fails: four seconds, and what a loaded machine needs to start the
/// programs that notice it.
const BOUND: Duration = Duration::from_secs(10);

const SETTINGS: &str = "\
LISTEN_ADDR=3306
CONTROL_ADDR=127.0.0.1:8011
DEFAULT_TARGETS='10.0.0.1 10.0.0.2 10.0.0.3'
OTHER_OPTIONS='--single --watchdog http:9200'
";

const CONFIGURATION: &str = include_str!("../../../init/keepalived/keepalived.conf");

/// The pair, the destinations, and the network that connects them with the clients.
pub struct Pair {
    /// The one that has the virtual address at the beginning. It also has the higher one of the two own addresses, by
    /// which VRRP decides when nothing else does.
    pub first: Balancer,
    pub second: Balancer,
    pub sites: [Site; 3],
    pub network: Network,
}

impl Pair {
    /// A pair that serves.
    pub fn start() -> Self {
        let mut pair = Self::set_up();
        pair.first.start_keepalived();
        wait_until("the first one has the address", || pair.first.has_the_address());
        pair.second.start_keepalived();
        pair.wait_until_complete();
        pair
    }

    /// A pair both of whom were switched on at the same time. Whoever is quicker may have the address.
    pub fn start_at_once() -> Self {
        let mut pair = Self::set_up();
        pair.first.start_keepalived();
        pair.second.start_keepalived();
        pair.wait_until_complete();
        pair
    }

    fn set_up() -> Self {
        let network = Network::new(&SERVERS.map(|ip| format!("{ip}/24")));
        let sites = network.inside(|| SERVERS.map(|ip| Site::at(ip, PORT, PAGE_PORT)));
        let (higher, lower) = (Ipv4Addr::new(10, 0, 0, 11), Ipv4Addr::new(10, 0, 0, 10));
        let first = Balancer::start("first", higher, lower, &network);
        let second = Balancer::start("second", lower, higher, &network);
        Self { first, second, sites, network }
    }

    fn wait_until_complete(&self) {
        wait_until("both keep an eye on each other", || {
            self.balancers().iter().all(|balancer| balancer.logged("Entering BACKUP STATE") > 0)
        });
        wait_until("one has the address", || self.holders().len() == 1);
        wait_until("clients are served", || self.client(VIRTUAL).is_ok());
    }

    pub fn balancers(&self) -> [&Balancer; 2] {
        [&self.first, &self.second]
    }

    /// The names of those that have the virtual address.
    pub fn holders(&self) -> Vec<&'static str> {
        let holders = self.balancers().into_iter().filter(|balancer| balancer.has_the_address());
        holders.map(|balancer| balancer.name).collect()
    }

    /// A new client at this address: the name of the server it gets.
    pub fn client(&self, ip: Ipv4Addr) -> io::Result<String> {
        self.network.inside(|| greeting(ip, PATIENCE))
    }

    /// A client at the virtual address that stays.
    pub fn lasting_client(&self) -> TcpStream {
        let address = SocketAddr::from((VIRTUAL, PORT));
        self.network.inside(|| connect_to(address)).expect("one that has the address")
    }

    /// Waits until clients at the virtual address are served as they must be so soon after `begun`.
    pub fn wait_until_served_again(&self, begun: Instant) {
        // A client that has heard nothing by then begins anew, so that it does not miss when the address has moved.
        let served = || self.network.inside(|| greeting(VIRTUAL, Duration::from_millis(250))).is_ok();
        wait_until_within(BOUND.saturating_sub(begun.elapsed()), "clients are served again", served);
    }

    /// Does something while clients come one after the other, all of whom must be served.
    pub fn while_all_clients_are_served(&self, act: impl FnOnce()) {
        let (over, served) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                self.network.inside(|| {
                    while !over.load(Ordering::SeqCst) {
                        greeting(VIRTUAL, PATIENCE).expect("a client is served");
                        served.store(true, Ordering::SeqCst);
                        thread::sleep(Duration::from_millis(20));
                    }
                });
            });
            let _guard = End(&over);
            act();
        });
        assert!(served.load(Ordering::SeqCst), "no client came");
    }
}

/// Lets the clients end even if the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The line that a server greets a new client with, for which each step may take so long.
fn greeting(ip: Ipv4Addr, patience: Duration) -> io::Result<String> {
    let client = TcpStream::connect_timeout(&SocketAddr::from((ip, PORT)), patience)?;
    client.set_read_timeout(Some(patience))?;
    match read_line(&client)? {
        line if line.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
        line => Ok(line),
    }
}

/// One of the two machines.
pub struct Balancer {
    pub name: &'static str,
    /// Its own address.
    pub ip: Ipv4Addr,
    pub machine: Machine,
    keepalived: Option<Background>,
}

impl Balancer {
    fn start(name: &'static str, ip: Ipv4Addr, other: Ipv4Addr, network: &Network) -> Self {
        let keepalived = Path::new("/etc/keepalived");
        assert!(keepalived.exists(), "{keepalived:?}, from Debian's package keepalived");
        let machine = Machine::boot(&[]);
        network.plug(name, &machine, "lan", &format!("{ip}/24"));

        machine.copy("init/glbd", "/etc/init.d");
        fs::write(machine.directory("/etc/default").join("glbd"), SETTINGS).expect("the settings");
        machine.copy("init/keepalived/check-glbd", "/srv");
        let configuration = edited(CONFIGURATION, ["lan", &VIRTUAL.to_string(), &other.to_string()]);
        fs::write(machine.directory("/srv").join("keepalived.conf"), configuration).expect("the configuration");
        machine.expect(&["mount", "--bind", "/srv", "/etc/keepalived"]);

        let balancer = Self { name, ip, machine, keepalived: None };
        balancer.start_glbd();
        balancer
    }

    fn start_keepalived(&mut self) {
        let logged = "exec keepalived --dont-fork --log-console --log-detail >/run/log 2>&1";
        self.keepalived = Some(self.machine.background(&["sh", "-c", logged]));
    }

    /// As after a reboot.
    pub fn start_glbd(&self) {
        self.machine.expect(&["dash", "/etc/init.d/glbd", "start"]);
    }

    /// Ends glbd without a chance to say a word.
    pub fn kill_glbd(&self) {
        let pid = fs::read_to_string(self.machine.directory("/run").join("glbd/glbd.pid")).expect("the pid file");
        self.machine.expect(&["kill", "-KILL", pid.trim()]);
    }

    /// Asks glbd for a change of its table.
    pub fn change(&self, destination: &str) {
        let answer = self.machine.expect(&["sh", "-c", &format!("echo {destination} | nc 127.0.0.1 8011")]);
        assert_eq!(answer, "Ok\n", "answer to {destination:?}");
    }

    pub fn has_the_address(&self) -> bool {
        let found = self.machine.expect(&["ip", "-oneline", "address", "show", "to", &VIRTUAL.to_string()]);
        !found.is_empty()
    }

    /// How often keepalived has logged this.
    pub fn logged(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }

    /// Waits until keepalived has logged this more often than it had.
    pub fn wait_for(&self, text: &str, earlier: usize) {
        wait_until(&format!("{} logs {text:?}", self.name), || self.logged(text) > earlier);
    }

    fn log(&self) -> String {
        // It may not have begun yet.
        fs::read_to_string(self.machine.directory("/run").join("log")).unwrap_or_default()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- keepalived on {} said:\n{}---", self.name, self.log());
        }
    }
}

/// The shipped configuration with these values in the lines that are marked.
fn edited(configuration: &str, values: [&str; 3]) -> String {
    let mut values = values.into_iter();
    let mut edit = |line: &str| match line.split_once("# EDIT") {
        Some((setting, _)) => {
            let (_, shipped) = setting.trim().rsplit_once(' ').unwrap_or(("", setting.trim()));
            setting.replace(shipped, values.next().expect("no more than three lines to edit"))
        }
        None => line.to_owned(),
    };
    let lines: Vec<_> = configuration.lines().map(&mut edit).collect();
    assert_eq!(values.next(), None, "three lines to edit");
    lines.join("\n")
}
