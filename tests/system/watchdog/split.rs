//! A Galera cluster both sides of which were made primary by hand.

use std::time::{Duration, Instant};

use super::galera::{judged, wait_until_judged, wait_until_told, watching};
use crate::harness::galera::{Cluster, SqlClient, query};
use crate::harness::wait_until;

/// How long two primary components must stand against each other before sessions are closed for it.
const SETTLED: Duration = Duration::from_secs(15);
const SMALLER: &str = "its primary component has 1 members, another one 2";

#[test]
fn the_smaller_of_two_primary_components_gets_no_clients_and_loses_those_that_it_has() {
    let cluster = Cluster::start();
    let [first, second, lone] = &cluster.nodes;
    let glbd = watching().destinations(&cluster.nodes).start();
    cluster.nodes.iter().for_each(|node| wait_until_judged(&glbd, node, "READY"));
    lone.query("SET GLOBAL wsrep_provider_options = 'gmcast.isolate=1'");
    wait_until_judged(&glbd, lone, "DOWN");
    wait_until_judged(&glbd, first, "READY");
    wait_until_judged(&glbd, second, "READY");
    let unaware = watching().destinations([lone]).start();
    lone.query("SET GLOBAL wsrep_provider_options = 'pc.bootstrap=1'");
    wait_until("both sides are primary", || {
        cluster.nodes.iter().all(|node| node.status("wsrep_cluster_status").as_deref() == Ok("Primary"))
    });
    let sizes = cluster.nodes.each_ref().map(|node| node.status("wsrep_cluster_size").expect("a size"));
    assert_eq!(sizes, ["2", "2", "1"]);

    wait_until_told(&glbd, lone, "DOWN", SMALLER);
    wait_until_judged(&unaware, lone, "READY");
    let mut session = SqlClient::connect(unaware.address());
    session.ask("SELECT 1").expect("an answer");
    [first, second].iter().for_each(|node| unaware.change(node));
    let begun = Instant::now();
    wait_until_told(&unaware, lone, "DOWN", SMALLER);
    assert!(begun.elapsed() >= SETTLED / 2, "Galera is given time to find out: {:?}", begun.elapsed());
    wait_until("its session is closed", || session.ask("SELECT 1").is_err());
    for glbd in [&glbd, &unaware] {
        for _ in 0..6 {
            query(glbd.address(), "SELECT 1").expect("the larger side serves");
        }
        assert_eq!(glbd.info().row(lone).conns, 0);
        [first, second].iter().for_each(|node| assert_eq!(judged(glbd, node).0, "READY"));
    }
    let log = glbd.log();
    assert_eq!(log.matches(&format!("destination {lone} READY")).count(), 1, "it did not come back:\n{log}");
}
