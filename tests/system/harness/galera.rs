//! A real Galera cluster on loopback: three MariaDB nodes, and the `mariadb` client.

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{User, geteuid};
use tempfile::TempDir;

use super::mariadb::copy_system_tables;
use super::net::{PATIENCE, free_port, wait_until_within};

/// A node copies all data from another one before it serves, which takes seconds on a machine that is idle.
const PATIENCE_WITH_NODES: Duration = Duration::from_secs(300);

const PROVIDER: &str = "/usr/lib/galera/libgalera_smm.so";

/// Runs as the first process of a node's PID namespace: with it, the kernel ends all others, those of a state transfer
/// too. It ends with the server, or when the test that holds the other end of its stdin closes it, or dies.
const BOOT: &str = r#"
exec 3<&0
mariadbd "$@" 3<&- &
cat <&3 >/dev/null &
wait -n
"#;

/// Says which node one is connected to.
pub const NODE_NAME: &str = "SELECT @@wsrep_node_name";

/// Three nodes that hold the same data. User `root` has no password. Nothing is left of it when it is dropped.
pub struct Cluster {
    pub nodes: [Node; 3],
    /// The members that a new node asks to let it join.
    group: String,
    /// Removed after the nodes, which have ended by then.
    directory: TempDir,
    /// On a small machine, several clusters at a time take each other's nodes for dead.
    _turn: MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::new(());

impl Cluster {
    /// Starts a cluster without data once no other one runs, and returns when all nodes serve.
    pub fn start() -> Self {
        assert!(geteuid().is_root(), "only root may make namespaces");
        assert!(Path::new(PROVIDER).exists(), "{PROVIDER}, from Debian's package galera-4");
        Command::new("rsync").arg("--version").output().expect("rsync, from Debian's package rsync");
        // That another test has failed says nothing of this one.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let everybody_may_look = Permissions::from_mode(0o755);
        let directory = tempfile::Builder::new().permissions(everybody_may_look).tempdir().expect("a directory");

        let ports = [(); 3].map(|()| free_port());
        let group = ports.map(|port| format!("127.0.0.1:{port}")).join(",");
        let [first, second, third] =
            [1, 2, 3].map(|number| Node::set_up(directory.path(), number, ports[number - 1], &group));
        let mut cluster = Self { nodes: [first, second, third], group, directory, _turn: turn };
        let [first, second, third] = &mut cluster.nodes;
        first.install_system_tables();
        first.start_with(&["--wsrep-new-cluster"]);
        first.wait_until_synced(1);
        // They get the system tables from the first.
        second.start();
        third.start();
        cluster.wait_until_whole();
        cluster
    }

    /// A fourth node, which has joined when this returns. It must be dropped before the cluster.
    pub fn join_another(&self) -> Node {
        let mut node = Node::set_up(self.directory.path(), 4, free_port(), &self.group);
        node.start();
        node.wait_until_synced(4);
        node
    }

    /// Waits until all nodes serve, and have the same data.
    pub fn wait_until_whole(&mut self) {
        for node in &mut self.nodes {
            node.wait_until_synced(3);
        }
    }
}

/// One MariaDB server of a [`Cluster`]. Displays as the address where it serves clients.
pub struct Node {
    name: String,
    address: SocketAddr,
    directory: PathBuf,
    /// `None` before [`Node::start`] and after [`Node::kill`].
    process: Option<Child>,
}

impl Node {
    fn set_up(cluster: &Path, number: usize, group_port: u16, group: &str) -> Self {
        let name = format!("node{number}");
        let directory = cluster.join(&name);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let node = Self { name, address, directory, process: None };
        let mysql = User::from_name("mysql").expect("users").expect("user mysql, of Debian's package mariadb-server");
        for path in [&node.directory, &node.directory.join("data")] {
            fs::create_dir(path).expect("a directory");
            chown(path, Some(mysql.uid.as_raw()), None).expect("a directory of our own");
        }
        fs::write(node.settings(), node.configuration(group_port, group)).expect("the settings");
        node
    }

    /// Galera's timeouts are longer than its defaults, so that nodes do not take each other for dead while other tests use
    /// the processors. Each node has its own tmpdir, because a server removes the files of other servers from a shared
    /// tmpdir when it starts. The buffers are small, and a commit is not written to disk at once: the machine has other
    /// tests to run.
    fn configuration(&self, group_port: u16, group: &str) -> String {
        let (name, port, directory) = (&self.name, self.address.port(), self.directory.display());
        let (state_port, increment_port) = (free_port(), free_port());
        format!(
            "[mysqld]
            user = mysql
            datadir = {directory}/data
            tmpdir = {directory}
            socket = {directory}/socket
            pid-file = {directory}/pid
            bind-address = 127.0.0.1
            port = {port}
            skip-name-resolve
            binlog-format = ROW
            innodb-autoinc-lock-mode = 2
            innodb-buffer-pool-size = 32M
            innodb-log-file-size = 16M
            innodb-flush-log-at-trx-commit = 0
            wsrep-on = ON
            wsrep-provider = {PROVIDER}
            wsrep-cluster-address = gcomm://{group}
            wsrep-node-name = {name}
            wsrep-node-address = 127.0.0.1:{group_port}
            wsrep-node-incoming-address = 127.0.0.1:{port}
            wsrep-sst-method = rsync
            wsrep-sst-receive-address = 127.0.0.1:{state_port}
            wsrep-provider-options = base_port={group_port};gmcast.listen_addr=tcp://127.0.0.1:{group_port};\
            ist.recv_addr=127.0.0.1:{increment_port};gcache.size=16M;gcache.page_size=16M;\
            evs.suspect_timeout=PT15S;evs.inactive_timeout=PT30S;evs.install_timeout=PT30S;gmcast.peer_timeout=PT15S
            "
        )
    }

    fn settings(&self) -> PathBuf {
        self.directory.join("my.cnf")
    }

    fn defaults_file(&self) -> String {
        format!("--defaults-file={}", self.settings().display())
    }

    fn install_system_tables(&self) {
        let data = self.directory.join("data");
        copy_system_tables(&data);
        let owned = Command::new("chown").args(["-R", "mysql"]).arg(&data).status().expect("chown");
        assert!(owned.success(), "chown of {}: {owned}", data.display());
    }

    /// Starts the node again, which joins the others. [`Cluster::wait_until_whole`] tells when it serves.
    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    fn start_with(&mut self, options: &[&str]) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let log = File::create(self.log_file()).expect("a log");
        let process = Command::new("unshare")
            .args(["--pid", "--fork", "--mount-proc", "--", "bash", "-c", BOOT, "boot"])
            .arg(self.defaults_file())
            .args(options)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn()
            .expect("unshare, from Debian's package util-linux");
        self.process = Some(process);
    }

    /// Deletes all data of a node that does not run: when it is started again, it needs a full state transfer.
    pub fn delete_data(&self) {
        assert!(self.process.is_none(), "{} runs", self.name);
        let data = self.directory.join("data");
        for entry in fs::read_dir(&data).expect("a directory").flatten() {
            let path = entry.path();
            let deleted = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            deleted.expect("a file of our own");
        }
    }

    /// Where it serves clients.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends the node as a power failure would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // What the first process waits for. It cannot end before all others are gone.
            drop(process.stdin.take());
            process.wait().expect("a child of this process");
        }
    }

    fn wait_until_synced(&mut self, size: usize) {
        let what = format!("{} is in a cluster of {size}", self.name);
        wait_until_within(PATIENCE_WITH_NODES, &what, || {
            let process = self.process.as_mut().expect("a node that was started");
            let ended = process.try_wait().expect("a child of this process");
            assert!(ended.is_none(), "{} ended by itself", self.name);
            // To ask is dear, so the log tells when it is worth it.
            self.log().contains("ready for connections")
                && self.status("wsrep_local_state_comment").is_ok_and(|state| state == "Synced")
                && self.status("wsrep_cluster_size").is_ok_and(|found| found == size.to_string())
        });
    }

    /// What [`NODE_NAME`] answers.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The destination with a weight, as it is written on glbd's command line and to its control port.
    pub fn weighted(&self, weight: f64) -> String {
        format!("{self}:{weight}")
    }

    /// Runs a statement on this node; panics if it fails.
    pub fn query(&self, statement: &str) -> String {
        query(self.address, statement).unwrap_or_else(|error| panic!("{statement} on {}: {error}", self.name))
    }

    /// A variable of `SHOW GLOBAL STATUS`; an error is what the client says.
    pub fn status(&self, variable: &str) -> Result<String, String> {
        let from = "information_schema.global_status";
        query(self.address, &format!("SELECT variable_value FROM {from} WHERE variable_name = '{variable}'"))
    }

    /// Whether it has lost the others for a while. Galera cannot say beforehand that it will.
    pub fn has_been_alone(&self) -> bool {
        self.log().contains("Server status change synced -> connected")
    }

    fn log_file(&self) -> PathBuf {
        self.directory.join("log")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log_file()).expect("a log")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() && self.log_file().exists() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(30)..];
            eprintln!("--- {} said in the end:\n{}\n---", self.name, last.join("\n"));
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        self.address.fmt(formatter)
    }
}

/// Runs a statement by a `mariadb` client of its own, connected to a node or to the glbd in front of it. Rows are lines;
/// an error is what the client says, behind the rows that came before.
pub fn query(address: SocketAddr, statement: &str) -> Result<String, String> {
    let client =
        Command::new("timeout").args(["120", "mariadb"]).args(options(address)).args(["--execute", statement]).output();
    let outcome = client.expect("timeout, from Debian's package coreutils");
    assert_ne!(outcome.status.code(), Some(127), "mariadb, from Debian's package mariadb-client");
    let text = |bytes| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if outcome.status.success() {
        Ok(text(&outcome.stdout))
    } else {
        Err(text(&[outcome.stdout, outcome.stderr].concat()))
    }
}

fn options(address: SocketAddr) -> Vec<String> {
    let words = format!(
        "--no-defaults --protocol=tcp --host={} --port={} --user=root --batch --skip-column-names",
        address.ip(),
        address.port()
    );
    words.split(' ').map(str::to_owned).collect()
}

/// A `mariadb` client that stays connected, as one at a terminal does. It is killed when this is dropped.
pub struct SqlClient {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    errors: ChildStderr,
}

impl SqlClient {
    /// Starts the client, and does not wait until it is connected.
    pub fn connect(address: SocketAddr) -> Self {
        let mut process = Command::new("mariadb")
            .args(options(address))
            .args(["--unbuffered", "--skip-reconnect"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("mariadb, from Debian's package mariadb-client");
        let input = process.stdin.take().expect("a pipe");
        let output = BufReader::new(process.stdout.take().expect("a pipe"));
        let errors = process.stderr.take().expect("a pipe");
        Self { process, input, output, errors }
    }

    /// The one line that a statement answers, or what the client says when it fails and ends.
    pub fn ask(&mut self, statement: &str) -> Result<String, String> {
        // A client that has ended already still has to say why.
        writeln!(self.input, "{statement};").ok();
        let patience = PollTimeout::try_from(PATIENCE).expect("less than a month");
        let readable = poll(&mut [PollFd::new(self.output.get_ref().as_fd(), PollFlags::POLLIN)], patience);
        assert_ne!(readable.expect("poll"), 0, "the mariadb client says nothing for {PATIENCE:?}");
        let mut text = String::new();
        if self.output.read_line(&mut text).expect("text") > 0 {
            return Ok(text.trim_end().to_owned());
        }
        self.errors.read_to_string(&mut text).expect("text");
        Err(text)
    }
}

impl Drop for SqlClient {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
