//! A real Galera cluster, watched from the inside.

use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::galera::Sysbench;
use crate::harness::galera::{Cluster, NODE_NAME, Node, SqlClient, query};
use crate::harness::mariadb::DatabaseServer;
use crate::harness::watch::Watch;
use crate::harness::{Builder, Daemon, Glbd, copy_program, wait_until, wait_until_within};

/// How long state transfers and the cluster's own time-outs may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

const SYSBENCHES: usize = 3;

pub fn watching() -> Builder {
    Glbd::builder().args(["--threads", "2", "-w", "galera"])
}

/// What getwatch says of a destination: its state and the reason.
pub fn judged(glbd: &Glbd, node: &Node) -> (String, String) {
    let table = glbd.watch();
    let row = table.row(node.address());
    (row.state.clone(), row.reason.clone())
}

pub fn wait_until_judged(glbd: &Glbd, node: &Node, state: &str) {
    wait_until_within(PATIENCE, &format!("{node} is {state}"), || judged(glbd, node).0 == state);
}

/// Waits for the reason as well: one check that the machine held up may give another one for a moment.
pub fn wait_until_told(glbd: &Glbd, node: &Node, state: &str, reason: &str) {
    let what = format!("{node} is {state}: {reason}");
    wait_until_within(PATIENCE, &what, || judged(glbd, node) == (state.to_owned(), reason.to_owned()));
}

fn served_by(glbd: &Glbd) -> String {
    query(glbd.address(), NODE_NAME).expect("a node serves")
}

/// Comes, reads a table and goes.
fn visit(address: SocketAddr) -> Result<(), String> {
    // Not to wait for the others, as sysbench has to. SHOW is answered even by one that is not prepared.
    let set_up = "SET SESSION wsrep_sync_wait = 0; SHOW VARIABLES LIKE 'wsrep_node_name'";
    query(address, &format!("{set_up}; SELECT COUNT(*) FROM sbtest.sbtest1")).map(drop)
}

/// Whether a visitor was told so by this node.
fn says_it_is_not_prepared(node: &Node, complaint: &str) -> bool {
    complaint.starts_with(&format!("wsrep_node_name\t{}\n", node.name())) && complaint.contains("not yet prepared")
}

/// Whether a visitor was told so because glbd had no destination that is fit, or lost the one it had to that.
fn says_it_was_turned_away(complaint: &str) -> bool {
    complaint.contains("reading initial communication packet")
        || complaint.contains("Lost connection to server during query")
}

/// Whether sysbench says so, by the client library's error codes.
pub fn says_its_connection_was_lost(complaint: &str) -> bool {
    ["2006", "2013"].iter().any(|code| complaint.contains(code))
}

/// Does something again and again, in threads of its own, and keeps what went wrong.
pub struct Load {
    done: Arc<AtomicBool>,
    succeeded: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(threads: usize, step: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Load {
        let (done, succeeded) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let step = Arc::new(step);
        let run = || {
            let (done, succeeded, step) = (Arc::clone(&done), Arc::clone(&succeeded), Arc::clone(&step));
            thread::spawn(move || {
                let mut complaints = Vec::new();
                while !done.load(Ordering::SeqCst) {
                    match step() {
                        Ok(()) => drop(succeeded.fetch_add(1, Ordering::SeqCst)),
                        Err(complaint) => complaints.push(complaint),
                    }
                }
                complaints
            })
        };
        let threads = (0..threads).map(|_| run()).collect();
        Load { done, succeeded, threads }
    }

    /// sysbench, by clients that are started again when they have lost their connection.
    pub fn of_sysbench(sysbench: Sysbench) -> Load {
        Load::start(SYSBENCHES, move || {
            // Two that change the same row at different nodes are Galera's to tell apart.
            let run = sysbench.start(&["--events=40", "--time=0", "--mysql-ignore-errors=1213,1205", "run"]);
            match run.outcome() {
                (true, _) => Ok(()),
                (false, said) => Err(said),
            }
        })
    }

    fn of_visitors(glbd: &Glbd) -> Load {
        let address = glbd.address();
        Load::start(1, move || visit(address))
    }

    pub fn succeeded(&self) -> usize {
        self.succeeded.load(Ordering::SeqCst)
    }

    /// What went wrong until now, when it ends.
    pub fn complaints(mut self) -> Vec<String> {
        self.done.store(true, Ordering::SeqCst);
        self.threads.drain(..).flat_map(|thread| thread.join().expect("a thread")).collect()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.done.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_node_that_is_killed_under_load_is_out_until_it_is_synced_again_and_no_client_sees_one_that_is_not_prepared() {
    let mut cluster = Cluster::start();
    let glbd = watching().destinations(&cluster.nodes).start();
    let sysbench = Load::of_sysbench(Sysbench::prepare(&glbd, &cluster));
    wait_until("all nodes are used", || glbd.info().rows.iter().all(|row| row.conns > 0));

    // On a busy machine, those that go on may lose each other, sometimes for less time than lies between two checks.
    let mut have_lost_each_other = false;
    for full_transfer in [false, true] {
        let [first, second, victim] = &mut cluster.nodes;
        victim.kill();
        let killed = Instant::now();
        let visitors = Load::of_visitors(&glbd);
        wait_until_judged(&glbd, victim, "DOWN");
        assert!(killed.elapsed() < Duration::from_secs(20), "DOWN after {:?}", killed.elapsed());
        wait_until("its clients are gone", || glbd.info().row(&*victim).conns == 0);
        wait_until("others are served", || visitors.succeeded() > 10);
        if full_transfer {
            victim.delete_data();
        }
        victim.start();
        wait_until_within(PATIENCE, "it is READY", || {
            let ready = judged(&glbd, victim).0 == "READY";
            if ready {
                assert_eq!(victim.status("wsrep_local_state_comment").as_deref(), Ok("Synced"));
            }
            ready
        });
        wait_until("it has clients again", || glbd.info().row(&*victim).conns > 0);
        let mut complaints = visitors.complaints();
        let alone: Vec<&Node> = [&*first, &*second].into_iter().filter(|node| node.has_been_alone()).collect();
        complaints.retain(|complaint| !alone.iter().any(|node| says_it_is_not_prepared(node, complaint)));
        // With both alone there is nobody who could serve.
        complaints.retain(|complaint| alone.len() < 2 || !says_it_was_turned_away(complaint));
        assert_eq!(complaints, [""; 0], "every new connection is served");
        have_lost_each_other |= !alone.is_empty();
        cluster.wait_until_whole();
    }
    let before = sysbench.succeeded();
    wait_until("sysbench works", || sysbench.succeeded() > before + 3);
    let complaints = sysbench.complaints();
    // What a killed node costs those that it was serving, once each: a lost connection.
    assert!(complaints.len() <= 2 * SYSBENCHES || have_lost_each_other, "{complaints:?}");
    for complaint in complaints {
        let is_expected = says_its_connection_was_lost(&complaint) && !complaint.contains("not yet prepared");
        // Its first statement waits with the nodes while these miss the killed one, which may take longer.
        let began_meanwhile = complaint.contains("Worker threads failed to initialize within 30 seconds");
        assert!(is_expected || began_meanwhile || have_lost_each_other, "{complaint}");
    }
}

#[test]
fn a_node_says_itself_whether_it_is_fit() {
    let cluster = Cluster::start();
    let glbd = watching().destinations(&cluster.nodes).start();
    let [_, _, node] = &cluster.nodes;
    a_node_cut_off_from_its_cluster_is_out_though_it_accepts(&glbd, node);
    a_desynced_node_keeps_its_clients_and_gets_no_new_ones(&glbd, node);
    a_node_that_catches_up_keeps_its_clients_and_serves_if_there_is_no_other(&glbd, &cluster);
    a_node_that_rejects_queries_is_out(&glbd, node);
    a_read_only_node_gets_no_new_clients(&glbd, node);
    the_writer_stays_with_a_node_that_works(&cluster);
    the_script_says_the_same(&cluster);
    the_watchdog_logs_in_as_its_option_file_says_and_does_not_get_the_host_blocked(&cluster);
    what_only_root_may_read_is_known_after_an_upgrade(&cluster);
    a_server_without_galera_does_not_count_among_nodes(&cluster);
    a_check_does_not_wait_until_a_node_has_caught_up(&glbd, &cluster);
}

fn a_server_without_galera_does_not_count_among_nodes(cluster: &Cluster) {
    let [first, second, _] = &cluster.nodes;
    let stranger = DatabaseServer::start(&[]);
    let destinations = [stranger.to_string(), first.to_string(), second.to_string()];
    let glbd = watching().destinations(&destinations).start();
    let judged = |glbd: &Glbd| {
        let table = glbd.watch();
        let row = table.row(&stranger);
        (row.state.clone(), row.reason.clone())
    };
    let out = ("DOWN".to_owned(), "it has no Galera, which other destinations have".to_owned());
    wait_until("the stranger is out", || judged(&glbd) == out);
    let lenient = Glbd::builder().args(["-w", "galera:require-galera=no"]).destinations(&destinations).start();
    wait_until("the stranger is in", || judged(&lenient).0 == "READY");
    let alone = watching().destinations([&stranger]).start();
    wait_until("alone, it serves", || judged(&alone).0 == "READY");
}

/// With `wsrep_sync_wait`, an answer waits until the node has applied all that the cluster has done.
fn a_check_does_not_wait_until_a_node_has_caught_up(glbd: &Glbd, cluster: &Cluster) {
    let [first, second, node] = &cluster.nodes;
    node.query("CREATE DATABASE IF NOT EXISTS lag; CREATE TABLE lag.t (id INT PRIMARY KEY) ENGINE=InnoDB");
    node.query("SET GLOBAL wsrep_sync_wait = 15");
    wait_until("the table is there", || first.query("SHOW TABLES FROM lag") == "t");
    // What the other nodes write waits behind this lock.
    let mut locking = SqlClient::connect(node.address());
    locking.ask("LOCK TABLES lag.t READ; SELECT 'locked'").expect("a lock");
    second.query("INSERT INTO lag.t VALUES (1)");
    let fresh = watching().destinations([node]).start();
    wait_until_judged(&fresh, node, "READY");
    let log = glbd.log().matches("DOWN").count();
    let since = Instant::now();
    wait_until("several checks are over", || since.elapsed() > Duration::from_secs(4));
    assert_eq!(judged(glbd, node).0, "READY");
    assert_eq!(glbd.log().matches("DOWN").count(), log, "{}", glbd.log());
    locking.ask("UNLOCK TABLES; SELECT 'unlocked'").expect("no lock");
    node.query("SET GLOBAL wsrep_sync_wait = 0; DROP DATABASE lag");
}

fn the_watchdog_logs_in_as_its_option_file_says_and_does_not_get_the_host_blocked(cluster: &Cluster) {
    let node = &cluster.nodes[1];
    node.query("SET GLOBAL max_connect_errors = 1; CREATE USER glbd@'%' IDENTIFIED BY 'sec ret'");
    let directory = tempfile::tempdir().expect("a directory");
    let watched_as = |password: &str| {
        let file = directory.path().join(password);
        fs::write(&file, format!("[client]\nuser = glbd\npassword = \"{password}\"\n")).expect("a file");
        let watchdog = format!("galera:defaults-file={}", file.display());
        Glbd::builder().args(["-w", &watchdog, "-i", "0.1", "--timeout", "10"]).destinations([node]).start()
    };
    let aborted = node.status("Aborted_connects");
    let knocking = Glbd::builder().args(["-w", "tcp", "-i", "0.05", "--timeout", "10"]).destinations([node]).start();
    let admitted = watched_as("sec ret");
    wait_until_judged(&admitted, node, "READY");
    wait_until_judged(&knocking, node, "READY");
    let probe = "SELECT id FROM information_schema.processlist WHERE user = 'glbd'";
    let connection = node.query(probe);
    node.query(&format!("KILL {connection}"));
    wait_until("it has logged in again", || {
        let now = node.query(probe);
        !now.is_empty() && now != connection
    });
    assert_eq!(judged(&admitted, node).0, "READY");
    assert!(!admitted.log().contains("DOWN") && !knocking.log().contains("DOWN"));
    assert_eq!(node.status("Aborted_connects"), aborted, "the server has nothing to count");

    let refused = watched_as("wrong");
    wait_until_judged(&refused, node, "SPARE");
    let reason = judged(&refused, node).1;
    assert!(reason.starts_with("cannot log in: Access denied for user 'glbd'"), "{reason}");
    query(node.address(), NODE_NAME).expect("the host is not blocked");
}

/// The user and the password are those of the test before.
fn what_only_root_may_read_is_known_after_an_upgrade(cluster: &Cluster) {
    let (node, daemon) = (&cluster.nodes[1], Daemon::new());
    fs::set_permissions(daemon.directory(), Permissions::from_mode(0o755)).expect("our own directory");
    let [program, file] = ["program", "probe.cnf"].map(|name| daemon.directory().join(name));
    copy_program(&program);
    fs::write(&file, "[client]\nuser = glbd\npassword = 'sec ret'\n").expect("a file");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("our own file");
    let exec = format!("exec '{}' \"$@\"", program.display());
    let watchdog = format!("galera:defaults-file={}", file.display());
    let launch = daemon.launch_by(&["sh", "-c", &exec], &["-w", &watchdog, "-i", "0.1", &node.address().to_string()]);
    assert_eq!(launch.status, Some(0), "{}", launch.stderr);
    let state = || Watch::parse(&daemon.control("getwatch")).row(node.address()).state.clone();
    wait_until("it is judged", || state() == "READY");
    let probe = "SELECT id FROM information_schema.processlist WHERE user = 'glbd'";
    let before = node.query(probe);
    daemon.upgrade();
    wait_until("the successor has logged in", || {
        let now = node.query(probe);
        !now.is_empty() && now != before
    });
    assert_eq!(state(), "READY");
}

fn the_script_says_the_same(cluster: &Cluster) {
    let [first, _, node] = &cluster.nodes;
    let script = format!("exec:{}/scripts/watch-mysql --no-defaults --user=root", env!("CARGO_MANIFEST_DIR"));
    let glbd = Glbd::builder().args(["-w", &script, "--timeout", "5", "-D"]).destinations([first]).start();
    wait_until_within(PATIENCE, "the members are there", || glbd.info().rows.len() == 3);
    wait_until_judged(&glbd, node, "READY");
    node.query("SET GLOBAL wsrep_desync = ON");
    wait_until_judged(&glbd, node, "AVOID");
    node.query("SET GLOBAL wsrep_desync = OFF; SET GLOBAL wsrep_reject_queries = ALL");
    wait_until_judged(&glbd, node, "DOWN");
    node.query("SET GLOBAL wsrep_reject_queries = NONE");
    wait_until_judged(&glbd, node, "READY");
}

/// Clients at all three nodes, and the one that is at this node.
fn clients_of(glbd: &Glbd, node: &Node) -> (Vec<SqlClient>, SqlClient) {
    let mut clients: Vec<_> = (0..3).map(|_| SqlClient::connect(glbd.address())).collect();
    let names: Vec<_> = clients.iter_mut().map(|client| client.ask(NODE_NAME).expect("a node's name")).collect();
    let place = names.iter().position(|name| name == node.name()).expect("one client at each node");
    let client = clients.remove(place);
    (clients, client)
}

fn a_node_cut_off_from_its_cluster_is_out_though_it_accepts(glbd: &Glbd, node: &Node) {
    let (mut others, mut client) = clients_of(glbd, node);
    node.query("SET GLOBAL wsrep_provider_options = 'gmcast.isolate=1'");
    wait_until_told(glbd, node, "DOWN", "wsrep_cluster_status is non-Primary");
    glbd.wait_for_log(&format!("destination {node} DOWN: wsrep_cluster_status is non-Primary"));
    wait_until_within(PATIENCE, "its connections are closed", || client.ask(NODE_NAME).is_err());
    TcpStream::connect(node.address()).expect("it accepts all the same");
    let complaint = visit(node.address()).expect_err("it is not to be used");
    assert!(says_it_is_not_prepared(node, &complaint), "{complaint}");
    for other in &mut others {
        other.ask(NODE_NAME).expect("the others' clients go on");
    }
    for _ in 0..6 {
        assert_ne!(served_by(glbd), node.name());
    }
    node.query("SET GLOBAL wsrep_provider_options = 'gmcast.isolate=0'");
    wait_until_judged(glbd, node, "READY");
    assert!(node.has_been_alone());
    drop(others);
    wait_until("it has clients again", || served_by(glbd) == node.name());
}

fn a_desynced_node_keeps_its_clients_and_gets_no_new_ones(glbd: &Glbd, node: &Node) {
    wait_until("nobody is connected", || glbd.info().total == 0);
    let (_others, mut client) = clients_of(glbd, node);
    node.query("SET GLOBAL wsrep_desync = ON");
    wait_until_told(glbd, node, "SPARE", "wsrep_local_state is Donor/Desynced");
    for _ in 0..6 {
        assert_ne!(served_by(glbd), node.name());
    }
    assert_eq!(client.ask(NODE_NAME).as_deref(), Ok(node.name()), "the old client goes on");
    node.query("SET GLOBAL wsrep_desync = OFF");
    wait_until_judged(glbd, node, "READY");
    assert_eq!(client.ask(NODE_NAME).as_deref(), Ok(node.name()));
}

/// As a donor does after a state transfer: its state is Joined until it has applied what was written meanwhile.
fn a_node_that_catches_up_keeps_its_clients_and_serves_if_there_is_no_other(glbd: &Glbd, cluster: &Cluster) {
    let [first, _, node] = &cluster.nodes;
    wait_until("nobody is connected", || glbd.info().total == 0);
    let (_others, mut client) = clients_of(glbd, node);
    let alone = watching().destinations([node]).start();
    wait_until_judged(&alone, node, "READY");
    let create = |table: &str| format!("CREATE TABLE lag.{table} (id INT PRIMARY KEY) ENGINE=InnoDB;");
    node.query(&format!("CREATE DATABASE lag; {} {}", create("before"), create("after")));
    wait_until("the tables are there", || first.query("SHOW TABLES FROM lag") == "after\nbefore");
    // What the other nodes write waits behind these locks. It is more than a node may lag behind to be called Synced, and
    // less than makes it hold up the others.
    node.query("SET GLOBAL wsrep_provider_options = 'gcs.fc_factor=0.1'");
    let [mut before, mut after] = ["before", "after"].map(|table| {
        let mut session = SqlClient::connect(node.address());
        session.ask(&format!("LOCK TABLES lag.{table} READ; SELECT 'locked'")).expect("a lock");
        session
    });
    let write = |table: &str| {
        first.query(&(0..10).map(|id| format!("INSERT INTO lag.{table} VALUES ({id});")).collect::<String>())
    };
    node.query("SET GLOBAL wsrep_desync = ON");
    write("before");
    let mut is_spare = |state: &str| {
        let reason = format!("wsrep_local_state is {state}");
        [glbd, &alone].iter().for_each(|glbd| wait_until_told(glbd, node, "SPARE", &reason));
        let since = Instant::now();
        wait_until("several checks are over", || since.elapsed() > Duration::from_secs(4));
        for _ in 0..6 {
            assert_ne!(served_by(glbd), node.name());
            assert_eq!(served_by(&alone), node.name());
        }
        assert_eq!(client.ask(NODE_NAME).as_deref(), Ok(node.name()), "the old client goes on");
    };
    is_spare("Donor/Desynced");
    // Its being joined comes between the two.
    node.query("SET GLOBAL wsrep_desync = OFF");
    write("after");
    before.ask("UNLOCK TABLES; SELECT 'unlocked'").expect("no lock");
    is_spare("Joined");
    after.ask("UNLOCK TABLES; SELECT 'unlocked'").expect("no lock");
    [glbd, &alone].iter().for_each(|glbd| wait_until_judged(glbd, node, "READY"));
    assert!(!alone.log().contains("DOWN"), "{}", alone.log());
    assert_eq!(client.ask(NODE_NAME).as_deref(), Ok(node.name()));
    node.query("DROP DATABASE lag; SET GLOBAL wsrep_provider_options = 'gcs.fc_factor=1.0'");
}

fn a_node_that_rejects_queries_is_out(glbd: &Glbd, node: &Node) {
    node.query("SET GLOBAL wsrep_reject_queries = ALL");
    wait_until_judged(glbd, node, "DOWN");
    for _ in 0..6 {
        assert_ne!(served_by(glbd), node.name());
    }
    node.query("SET GLOBAL wsrep_reject_queries = NONE");
    wait_until_judged(glbd, node, "READY");
}

fn a_read_only_node_gets_no_new_clients(glbd: &Glbd, node: &Node) {
    node.query("SET GLOBAL read_only = ON");
    wait_until_told(glbd, node, "AVOID", "read_only is ON");
    let lenient = Glbd::builder().args(["-w", "galera:read-only=ok"]).destinations([node]).start();
    wait_until_judged(&lenient, node, "READY");
    node.query("SET GLOBAL read_only = OFF");
    wait_until_judged(glbd, node, "READY");
}

fn the_writer_stays_with_a_node_that_works(cluster: &Cluster) {
    // The first would not be their writer if its first answer came too late on a busy machine.
    let options = ["--single", "--timeout", "10"];
    let glbds = [(); 2].map(|()| watching().args(options).destinations(&cluster.nodes).start());
    let [first, second, _] = &cluster.nodes;
    let all_at = |node: &Node| glbds.iter().all(|glbd| served_by(glbd) == node.name());
    wait_until("both have the first for their writer", || all_at(first));
    first.query("SET GLOBAL wsrep_desync = ON");
    glbds.iter().for_each(|glbd| wait_until_judged(glbd, first, "SPARE"));
    assert!(all_at(second), "both go over to the second");
    let mut client = SqlClient::connect(glbds[0].address());
    assert_eq!(client.ask(NODE_NAME).as_deref(), Ok(second.name()));
    first.query("SET GLOBAL wsrep_desync = OFF");
    glbds.iter().for_each(|glbd| wait_until_judged(glbd, first, "READY"));
    assert!(all_at(second), "both stay with the second");
    assert_eq!(client.ask(NODE_NAME).as_deref(), Ok(second.name()));
}

#[test]
fn members_are_discovered_and_those_that_have_left_for_good_go() {
    let cluster = Cluster::start();
    let [first, second, third] = &cluster.nodes;
    let glbd = watching().arg("-D").destinations([first]).start();
    let addresses = || glbd.info().rows.iter().map(|row| row.address.clone()).collect::<Vec<_>>();
    wait_until_within(PATIENCE, "all three are there", || addresses().len() == 3);
    [first, second, third].iter().for_each(|node| wait_until_judged(&glbd, node, "READY"));
    assert!([first, second, third].iter().all(|node| glbd.info().row(node).weight == 1.0));

    glbd.change(third.weighted(-1.0));
    let mut fourth = cluster.join_another();
    wait_until_within(PATIENCE, "the fourth is there", || addresses().contains(&fourth.to_string()));
    wait_until_judged(&glbd, &fourth, "READY");
    assert!(!addresses().contains(&third.to_string()), "what was removed by hand stays away: {:?}", addresses());

    fourth.kill();
    wait_until_within(PATIENCE, "it is gone", || !addresses().contains(&fourth.to_string()));
    assert_eq!(addresses(), [first.to_string(), second.to_string()]);
    glbd.change(third);
    wait_until_judged(&glbd, third, "READY");
}
