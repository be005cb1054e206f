//! Faults again and again on a Galera cluster under load. They take many minutes: `cargo test -- --ignored endurance`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use super::checker::checker;
use super::galera::{Load, says_its_connection_was_lost, wait_until_judged, watching};
use crate::galera::Sysbench;
use crate::harness::galera::{Cluster, NODE_NAME, Node, SqlClient};
use crate::harness::{Glbd, wait_until, wait_until_within};
use crate::writer::single_of;

const PATIENCE: Duration = Duration::from_secs(120);

/// A node is not to be silent because its machine is busy.
const PATIENT: [&str; 2] = ["--timeout", "10"];

fn wait_until_all_are_ready(glbd: &Glbd, cluster: &Cluster) {
    cluster.nodes.iter().for_each(|node| wait_until_judged(glbd, node, "READY"));
}

#[test]
#[ignore = "takes ten minutes"]
fn no_client_notices_that_the_checker_is_killed_fifty_times_or_hangs_for_half_a_minute() {
    let cluster = Cluster::start();
    let glbd = watching().args(PATIENT).destinations(&cluster.nodes).start();
    wait_until_all_are_ready(&glbd, &cluster);
    let sysbench = Load::of_sysbench(Sysbench::prepare(&glbd, &cluster));
    for _ in 0..50 {
        kill(checker(&glbd), Signal::SIGKILL).expect("it runs");
        let before = sysbench.succeeded();
        wait_until_within(PATIENCE, "sysbench works", || sysbench.succeeded() > before);
    }
    let hung = checker(&glbd);
    let begun = Instant::now();
    kill(hung, Signal::SIGSTOP).expect("it runs");
    wait_until_within(PATIENCE, "it is replaced, or half a minute is over", || {
        begun.elapsed() > Duration::from_secs(30) || kill(hung, None).is_err()
    });
    assert!(kill(hung, None).is_err(), "it is replaced");
    assert_eq!(sysbench.complaints(), [""; 0]);
    wait_until_all_are_ready(&glbd, &cluster);
    for state in ["DOWN", "AVOID", "SPARE"] {
        assert!(!glbd.log().contains(state), "{}", glbd.log());
    }
}

/// When a node was told to write by sysbench's clients, by the moments in its own log.
fn writes(node: &Node) -> Vec<String> {
    let rows = node.query(
        "SELECT event_time FROM mysql.general_log WHERE user_host LIKE 'sbtest%'
        AND argument REGEXP '^(INSERT|UPDATE|DELETE|COMMIT)'",
    );
    rows.lines().map(str::to_owned).collect()
}

#[test]
#[ignore = "takes minutes"]
fn twenty_moves_of_the_writer_under_load_and_no_two_nodes_write_in_the_same_moment() {
    let cluster = Cluster::start();
    let glbd = watching().args(PATIENT).args(["--single", "-i", "0.5"]).destinations(&cluster.nodes).start();
    wait_until_all_are_ready(&glbd, &cluster);
    let load = Sysbench::prepare(&glbd, &cluster);
    for node in &cluster.nodes {
        node.query("SET GLOBAL log_output = 'TABLE'; SET GLOBAL general_log = ON");
    }
    let sysbench = Load::of_sysbench(load);
    let [first, second, third] = &cluster.nodes;
    let mut current = first;
    for number in 0..20 {
        wait_until_within(PATIENCE, "it has written", || writes(current).len() > 20 * (1 + number / 3));
        let next = [second, third, first][number % 3];
        if number % 2 == 0 {
            assert_eq!(glbd.control(&format!("writer {next} 0.2")), "Ok\n");
        } else {
            // Of the two others, the one that was added first would be next.
            let other = cluster.nodes.iter().find(|node| node.name() != current.name() && node.name() != next.name());
            let unfit = [other, Some(current)].into_iter().flatten();
            for node in unfit.clone() {
                node.query("SET GLOBAL wsrep_desync = ON");
                wait_until_judged(&glbd, node, "SPARE");
            }
            unfit.for_each(|node| drop(node.query("SET GLOBAL wsrep_desync = OFF")));
            wait_until_all_are_ready(&glbd, &cluster);
        }
        wait_until("it has moved", || single_of(&glbd.info()) == Some(next.to_string()));
        current = next;
    }
    let complaints = sysbench.complaints();
    for complaint in &complaints {
        assert!(says_its_connection_was_lost(complaint), "an error that is no closed session: {complaint}");
    }
    let moments = cluster.nodes.iter().flat_map(|node| writes(node).into_iter().map(|moment| (moment, node.name())));
    let in_order: BTreeMap<_, _> = moments.collect();
    let names: Vec<_> = in_order.values().collect();
    let changes = names.windows(2).filter(|pair| pair[0] != pair[1]).count();
    println!("{} writes, {changes} changes of the writer, {} sessions closed", names.len(), complaints.len());
    assert_eq!(changes, 20, "writes on the former after the next one's first");
    assert_eq!(glbd.log().matches("single destination moved").count(), 20, "{}", glbd.log());
}

/// Keeps both processors busy until it is dropped.
struct Busy(Arc<AtomicBool>);

impl Busy {
    fn start() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        for _ in 0..2 {
            let over = Arc::clone(&over);
            thread::spawn(move || while !over.load(Ordering::Relaxed) {});
        }
        Self(over)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Answered by a node that is not Primary as well.
const STILL_THERE: &str = "SHOW VARIABLES LIKE 'wsrep_node_name'";

#[test]
#[ignore = "takes ten minutes"]
fn no_session_is_lost_on_nodes_that_stay_while_another_is_killed_and_rejoins_twenty_times() {
    let mut cluster = Cluster::start();
    let glbd = watching().args(PATIENT).destinations(&cluster.nodes).start();
    wait_until_all_are_ready(&glbd, &cluster);
    let mut sessions: Vec<_> = (0..9).map(|_| SqlClient::connect(glbd.address())).collect();
    let names: Vec<_> = sessions.iter_mut().map(|it| it.ask(NODE_NAME).expect("it is served")).collect();
    let _busy = Busy::start();
    for round in 1..=20 {
        let [.., victim] = &mut cluster.nodes;
        victim.kill();
        wait_until_judged(&glbd, victim, "DOWN");
        victim.start();
        wait_until_judged(&glbd, victim, "READY");
        cluster.wait_until_whole();
        for (session, name) in sessions.iter_mut().zip(&names).filter(|(_, name)| *name != cluster.nodes[2].name()) {
            let answer = session.ask(STILL_THERE);
            assert_eq!(answer, Ok(format!("wsrep_node_name\t{name}")), "round {round}:\n{}", glbd.log());
        }
    }
    let staying = cluster.nodes[..2].iter();
    let alone: Vec<_> = staying.filter(|node| node.has_been_alone()).map(Node::name).collect();
    println!("nodes that stayed and lost the others for a while: {alone:?}");
}
