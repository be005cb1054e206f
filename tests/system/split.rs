//! A writer and a reader over one Galera cluster, in one daemon.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use crate::galera::Sysbench;
use crate::harness::galera::{Cluster, NODE_NAME, Node, query};
use crate::harness::{Daemon, free_port, wait_until, wait_until_within};

struct Split {
    daemon: Daemon,
    writer: SocketAddr,
    reader: SocketAddr,
}

impl Split {
    fn start(cluster: &Cluster) -> Self {
        let daemon = Daemon::new();
        let [writer, reader] = [0; 2].map(|_| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let nodes: Vec<String> = cluster.nodes.iter().map(|node| format!("\"{node}\"")).collect();
        let (nodes, log) = (nodes.join(", "), daemon.directory().join("log"));
        let text = format!(
            "[process]\nthreads = 2\nuser = \"root\"\nlog = \"{}\"\n\
             [pool.galera]\ndestinations = [{nodes}]\nwatchdog = \"galera\"\ninterval = 0.5\n\
             [service.writer]\nlisten = \"{writer}\"\npolicy = \"single\"\n\
             [service.reader]\nlisten = \"{reader}\"\navoid = \"writer\"\n",
            log.display()
        );
        let file = daemon.directory().join("glbd.toml");
        fs::write(&file, text).expect("a file");
        daemon.start(&["--config", &file.display().to_string()]);
        Self { daemon, writer, reader }
    }

    fn writes_to(&self) -> Result<String, String> {
        query(self.writer, NODE_NAME)
    }

    fn writers_node<'c>(&self, cluster: &'c Cluster) -> &'c Node {
        let name = self.writes_to().expect("there is a writer");
        cluster.nodes.iter().find(|node| node.name() == name).expect("one of them")
    }

    /// The nodes that readers get, in many tries.
    fn reads_from(&self) -> Vec<String> {
        let mut names: Vec<String> = (0..8).filter_map(|_| query(self.reader, NODE_NAME).ok()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Which clients of sysbench write there, or read.
fn clients(node: &Node, user: &str) -> usize {
    let counted = node.query(&format!("SELECT COUNT(*) FROM information_schema.processlist WHERE user = '{user}'"));
    counted.parse().expect("a number")
}

#[test]
fn writes_go_to_one_node_and_reads_to_the_others_while_nodes_are_drained_moved_and_killed() {
    let mut cluster = Cluster::start();
    let split = Split::start(&cluster);
    let others = |split: &Split, cluster: &Cluster| {
        let writer = split.writes_to().expect("there is a writer");
        let all = cluster.nodes.iter().map(|node| node.name().to_owned());
        all.filter(|name| *name != writer).collect::<Vec<_>>()
    };
    assert_eq!(split.reads_from(), others(&split, &cluster));

    let sysbench = Sysbench::prepare_at(split.writer, split.daemon.directory(), &cluster);
    let writing = sysbench.start(&["--threads=2", "--time=60", "--mysql-ignore-errors=all", "run"]);
    cluster.nodes[0].query("CREATE USER reader; GRANT ALL ON sbtest.* TO reader");
    let reading = sysbench.start_as(
        "reader",
        split.reader,
        &[
            "--threads=4",
            "--time=60",
            "--skip-trx=on",
            "--mysql-ignore-errors=all",
            "--range-selects=off",
            "--delete-inserts=0",
            "--index-updates=0",
            "--non-index-updates=0",
            "run",
        ],
    );
    wait_until("both are at work", || {
        let writer = split.writers_node(&cluster);
        clients(writer, "sbtest") > 0 && cluster.nodes.iter().map(|node| clients(node, "reader")).sum::<usize>() > 0
    });
    let apart = |cluster: &Cluster| {
        let writer = split.writers_node(cluster);
        let elsewhere: usize =
            cluster.nodes.iter().filter(|node| node.name() != writer.name()).map(|node| clients(node, "sbtest")).sum();
        (clients(writer, "reader"), elsewhere)
    };
    wait_until("reads and writes are apart", || apart(&cluster) == (0, 0));

    // By hand: the writer moves to a reader's node, and the readers make room.
    let target = others(&split, &cluster)[0].clone();
    let target = cluster.nodes.iter().find(|node| node.name() == target).expect("one of them").to_string();
    assert_eq!(split.daemon.control(&format!("writer {target} 0")), "Ok\n");
    assert_eq!(split.writers_node(&cluster).to_string(), target);
    wait_until("reads and writes are apart", || apart(&cluster) == (0, 0));

    // Drained: it moves on.
    assert_eq!(split.daemon.control(&format!("galera/{target}:0")), "Ok\n");
    wait_until("it is elsewhere", || {
        split
            .writes_to()
            .is_ok_and(|name| cluster.nodes.iter().any(|node| node.name() == name && node.to_string() != target))
    });
    assert_eq!(split.daemon.control(&format!("enable {target}")), "Ok\n");
    wait_until("reads and writes are apart", || apart(&cluster) == (0, 0));

    // Killed: writes go on at another node.
    let name = split.writes_to().expect("there is a writer");
    let victim = cluster.nodes.iter().position(|node| node.name() == name).expect("one of them");
    cluster.nodes[victim].kill();
    wait_until("writes go on", || split.writes_to().is_ok_and(|now| now != name));
    wait_until("reads go on", || !split.reads_from().is_empty());
    cluster.nodes[victim].start();
    cluster.wait_until_whole();
    wait_until_within(Duration::from_secs(60), "all is as at first", || split.reads_from() == others(&split, &cluster));
    drop((writing, reading));

    // One check for each node, however many services there are: the watchdog stays logged in.
    for node in &cluster.nodes {
        let others =
            "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'root' AND id <> CONNECTION_ID()";
        wait_until("the watchdog alone is logged in", || node.query(others) == "1");
    }
}
