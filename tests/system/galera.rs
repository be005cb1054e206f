//! A Galera cluster behind glbd, as its users have it.

use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::galera::{Cluster, NODE_NAME, Node, SqlClient, query};
use crate::harness::{Glbd, wait_until, wait_until_within};

#[test]
fn sixty_clients_are_spread_over_the_nodes_by_weight() {
    let cluster = Cluster::start();
    let weighted = [1.0, 2.0, 3.0].iter().zip(&cluster.nodes).map(|(&weight, node)| node.weighted(weight));
    let glbd = Glbd::builder().args(["--threads", "2"]).destinations(weighted).start();
    let mut clients: Vec<_> = (0..60).map(|_| SqlClient::connect(glbd.address())).collect();
    let served_by: Vec<_> = clients.iter_mut().map(name_of_node).collect();

    let info = glbd.info();
    let shown = cluster.nodes.each_ref().map(|node| info.row(node).conns);
    let found = cluster.nodes.each_ref().map(|node| served_by.iter().filter(|name| *name == node.name()).count());
    assert_eq!(shown, [10, 20, 30], "what getinfo says");
    assert_eq!(found, [10, 20, 30], "what the clients say: {served_by:?}");
    drop(clients);
    wait_until("all clients have left", || glbd.info().total == 0);
}

#[test]
fn a_killed_node_takes_only_its_own_clients_with_it_and_serves_again_when_it_is_back() {
    let mut cluster = Cluster::start();
    let glbd = Glbd::builder().args(["--threads", "2"]).destinations(&cluster.nodes).start();
    let mut clients: Vec<_> = (0..6).map(|_| SqlClient::connect(glbd.address())).collect();
    let served_by: Vec<_> = clients.iter_mut().map(name_of_node).collect();
    let [_, _, victim] = &mut cluster.nodes;
    victim.kill();

    for (client, node) in clients.iter_mut().zip(&served_by) {
        match client.ask(NODE_NAME) {
            Ok(name) => assert!(name == *node && name != victim.name(), "a client of {node} is served by {name}"),
            Err(error) => {
                assert_eq!(node, victim.name(), "{error}");
                // Lost, or gone away: it depends on when the client learns of it.
                assert!(error.contains("ERROR 2013") || error.contains("ERROR 2006"), "{error}");
            }
        }
    }
    for _ in 0..12 {
        let node = query(glbd.address(), NODE_NAME).expect("another node serves");
        assert_ne!(node, victim.name());
    }
    victim.start();
    cluster.wait_until_whole();
    let [_, _, victim] = &cluster.nodes;
    wait_until("the node has clients again", || query(glbd.address(), NODE_NAME).as_deref() == Ok(victim.name()));
}

/// The node at the other end.
fn name_of_node(client: &mut SqlClient) -> String {
    client.ask(NODE_NAME).expect("a node's name")
}

#[test]
fn sysbench_runs_a_minute_without_one_error_while_nodes_are_drained_removed_and_added_again() {
    let cluster = Cluster::start();
    let glbd = Glbd::builder().args(["--threads", "2"]).destinations(&cluster.nodes).start();
    let sysbench = Sysbench::prepare(&glbd, &cluster);
    let started = Instant::now();
    let mut run = sysbench.start(&["--threads=6", "--time=60", "run"]);
    wait_until("all nodes are used", || glbd.info().rows.iter().all(|row| row.conns > 0));
    // The rest of the minute is for a slow machine to finish the last round in.
    while started.elapsed() < Duration::from_secs(30) {
        for node in &cluster.nodes {
            take_out_and_back(&glbd, node);
        }
    }
    assert!(run.is_going_on(), "sysbench ended before the last change");

    let report = run.report();
    assert!(count(&report, "transactions:") > 0, "{report}");
    assert_eq!(count(&report, "ignored errors:"), 0, "{report}");
    assert_eq!(count(&report, "reconnects:"), 0, "{report}");
    wait_until("all clients have left", || glbd.info().total == 0);
}

/// What an administrator does around an upgrade: the node's clients are let go before it is removed.
fn take_out_and_back(glbd: &Glbd, node: &Node) {
    glbd.change(node.weighted(0.0));
    wait_until("the drained node's clients have left", || glbd.info().row(node).conns == 0);
    glbd.change(node.weighted(-1.0));
    assert_eq!(glbd.info().rows.len(), 2, "destinations without the removed one");

    wait_until("it has none of sysbench's connections", || sysbench_clients(node) == 0);
    // What follows counts from here on.
    glbd.stats();
    let mut created = 0;
    wait_until("ten clients have come to the others", || {
        created += glbd.stats().created;
        created >= 10
    });
    assert_eq!(sysbench_clients(node), 0, "clients at the removed node");

    glbd.change(node);
    wait_until("getinfo shows that it is used again", || glbd.info().row(node).conns > 0);
    wait_until("sysbench is there", || sysbench_clients(node) > 0);
}

fn sysbench_clients(node: &Node) -> usize {
    let counted = node.query("SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'sbtest'");
    counted.parse().expect("a number")
}

/// sysbench's oltp_read_write by clients that come and go. As it is, it keeps its connections until the end, so that no
/// node would ever be drained. And each client has rows of its own: when two change the same one at different nodes,
/// Galera rolls one of them back, with a load balancer in front or without.
const COME_AND_GO: &str = "
require('oltp_read_write')

local transaction, left = event, 10
function event()
   transaction()
   left = left - 1
   if left == 0 then
      thread_done()
      thread_init()
      left = 10
   end
end

function sysbench.rand.default(_, rows)
   local share = math.floor(rows / sysbench.opt.threads)
   local first = sysbench.tid * share + 1
   return sysbench.rand.uniform(first, first + share - 1)
end
";

/// A sysbench that works through glbd.
pub struct Sysbench {
    script: PathBuf,
    address: SocketAddr,
}

impl Sysbench {
    const ROWS: u32 = 50_000;

    /// Returns when its table is on all nodes.
    pub fn prepare(glbd: &Glbd, cluster: &Cluster) -> Self {
        Self::prepare_at(glbd.address(), glbd.directory(), cluster)
    }

    /// The same through this address, with its script in this directory.
    pub fn prepare_at(address: SocketAddr, directory: &Path, cluster: &Cluster) -> Self {
        let script = directory.join("come_and_go.lua");
        fs::write(&script, COME_AND_GO).expect("a script");
        let sysbench = Self { script, address };
        cluster.nodes[0].query("CREATE DATABASE sbtest; CREATE USER sbtest; GRANT ALL ON sbtest.* TO sbtest");
        for node in &cluster.nodes {
            // A client that comes back at another node finds there what it has written.
            node.query("SET GLOBAL wsrep_sync_wait = 1");
        }
        sysbench.start(&["prepare"]).report();
        for node in &cluster.nodes {
            assert_eq!(node.query("SELECT COUNT(*) FROM sbtest.sbtest1"), Self::ROWS.to_string());
        }
        sysbench
    }

    pub fn start(&self, arguments: &[&str]) -> Run {
        self.start_as("sbtest", self.address, arguments)
    }

    /// The same by another user, and through another address.
    pub fn start_as(&self, user: &str, address: SocketAddr, arguments: &[&str]) -> Run {
        let process = Command::new("sysbench")
            .arg(&self.script)
            .args(["--mysql-host=127.0.0.1", &format!("--mysql-port={}", address.port())])
            .arg(format!("--mysql-user={user}"))
            .arg(format!("--table-size={}", Self::ROWS))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sysbench, from Debian's package sysbench");
        Run { process }
    }
}

/// sysbench at work. It is killed when this is dropped.
pub struct Run {
    process: Child,
}

impl Run {
    fn is_going_on(&mut self) -> bool {
        self.process.try_wait().expect("a child of this process").is_none()
    }

    /// Whether it got through, and everything that it said.
    pub fn outcome(mut self) -> (bool, String) {
        let said = self.said().concat();
        (self.process.wait().expect("a child of this process").success(), said)
    }

    /// What it reports in the end; panics if it has anything to complain of.
    fn report(mut self) -> String {
        wait_until_within(Duration::from_secs(300), "sysbench ends", || !self.is_going_on());
        let status = self.process.wait().expect("a child of this process");
        let [report, complaints] = self.said();
        assert!(status.success(), "sysbench: {status}\n{complaints}\n{report}");
        assert_eq!(complaints, "", "complaints of sysbench");
        for word in ["FATAL", "ALERT", "WARNING"] {
            assert!(!report.contains(word), "{word} in sysbench's report:\n{report}");
        }
        report
    }

    /// What it wrote to stdout and to stderr until it ended; nothing if that has been asked for before.
    fn said(&mut self) -> [String; 2] {
        let mut said = [String::new(), String::new()];
        let [report, complaints] = &mut said;
        if let (Some(mut stdout), Some(mut stderr)) = (self.process.stdout.take(), self.process.stderr.take()) {
            stdout.read_to_string(report).expect("text");
            stderr.read_to_string(complaints).expect("text");
        }
        said
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.process.kill().ok();
        self.process.wait().ok();
        if thread::panicking() {
            eprintln!("--- sysbench said:\n{}---", self.said().concat());
        }
    }
}

/// The number behind this label in sysbench's report.
fn count(report: &str, label: &str) -> u64 {
    let number = report.lines().find_map(|line| line.trim().strip_prefix(label)?.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {label:?} in:\n{report}"))
}
