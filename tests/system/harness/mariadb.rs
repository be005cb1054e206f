//! One MariaDB server without Galera on loopback, for what concerns accounts and connections.

use std::fmt;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::galera::query;
use super::net::{free_port, wait_until_within};

const PATIENCE_WITH_SERVER: Duration = Duration::from_secs(120);

/// A server whose user `root` has no password, and which has a certificate. Displays as its address. Nothing is left of it
/// when it is dropped.
pub struct DatabaseServer {
    address: SocketAddr,
    process: Child,
    directory: TempDir,
}

impl DatabaseServer {
    /// Starts a server with these options, and returns when it serves.
    pub fn start(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        make_certificates(path);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let settings = path.join("my.cnf");
        fs::write(&settings, configuration(path, address.port())).expect("the settings");
        let defaults_file = format!("--defaults-file={}", settings.display());
        copy_system_tables(&path.join("data"));
        let log = File::create(path.join("log")).expect("a log");
        // The server runs as root: when a process changes its user, the kernel forgets which signal it is to get when its
        // parent dies.
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "mariadbd"])
            .arg(&defaults_file)
            .args(options)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn()
            .expect("setpriv, from Debian's package util-linux");
        let server = Self { address, process, directory };
        wait_until_within(PATIENCE_WITH_SERVER, "the server serves", || server.log().contains("ready for connections"));
        server
    }

    /// Where it serves clients.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Runs a statement as root; panics if it fails.
    pub fn query(&self, statement: &str) -> String {
        query(self.address, statement).unwrap_or_else(|error| panic!("{statement}: {error}"))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id()).expect("a process's number");
        kill(Pid::from_raw(pid), signal).expect("a child of this process");
    }

    /// A file in the server's directory: `ca.pem`, `client.pem` and `client.key` are there.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).expect("a log")
    }
}

fn configuration(directory: &Path, port: u16) -> String {
    let directory = directory.display();
    format!(
        "[mysqld]
        user = root
        datadir = {directory}/data
        tmpdir = {directory}
        socket = {directory}/socket
        pid-file = {directory}/pid
        bind-address = 127.0.0.1
        port = {port}
        skip-name-resolve
        innodb-buffer-pool-size = 16M
        innodb-log-file-size = 16M
        innodb-flush-log-at-trx-commit = 0
        log-warnings = 2
        ssl-ca = {directory}/ca.pem
        ssl-cert = {directory}/server.pem
        ssl-key = {directory}/server.key
        "
    )
}

/// Copies the tables that a server needs to start to its directory of data. User `root` has no password in them.
pub fn copy_system_tables(data: &Path) {
    static INSTALLED: LazyLock<PathBuf> = LazyLock::new(install_system_tables);
    let copied = Command::new("cp").arg("-R").arg(INSTALLED.join(".")).arg(data).status().expect("cp");
    assert!(copied.success(), "cp to {}: {copied}", data.display());
}

/// That takes many seconds, so what was installed stays for the next tests of the same version.
fn install_system_tables() -> PathBuf {
    let outcome = Command::new("mariadbd").arg("--version").output();
    let version = outcome.expect("mariadbd, from Debian's package mariadb-server").stdout;
    let version = String::from_utf8_lossy(&version).replace(|char: char| !char.is_ascii_alphanumeric(), "-");
    let builds = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let installed = builds.join(format!("system-tables-{version}"));
    if !installed.exists() {
        let directory = tempfile::tempdir_in(builds).expect("a directory");
        let data = directory.path().join("data");
        let outcome = Command::new("mariadb-install-db")
            .args(["--no-defaults", "--innodb-log-file-size=16M", "--user=root", "--skip-test-db"])
            .arg("--auth-root-authentication-method=normal")
            .arg(format!("--datadir={}", data.display()))
            .output()
            .expect("mariadb-install-db, from Debian's package mariadb-server");
        assert!(outcome.status.success(), "mariadb-install-db: {outcome:?}");
        // Unless another process of tests was faster.
        if let Err(error) = fs::rename(&data, &installed) {
            assert!(installed.exists(), "{}: {error}", installed.display());
        }
    }
    installed
}

/// An authority, and certificates that it has signed for server and client.
fn make_certificates(directory: &Path) {
    let script = "
        openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=ca -keyout ca.key -out ca.pem
        for name in server client; do
            openssl req -newkey rsa:2048 -nodes -subj /CN=$name -keyout $name.key -out $name.csr
            printf 'subjectAltName=DNS:%s.example\\n' $name >ext
            openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile ext -out $name.pem
        done";
    let outcome = Command::new("sh").args(["-euc", script]).current_dir(directory).output().expect("sh");
    assert!(outcome.status.success(), "openssl, from Debian's package openssl: {outcome:?}");
}

impl Drop for DatabaseServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.process.kill().ok();
        self.process.wait().ok();
        if thread::panicking() {
            eprintln!("--- the server said:\n{}\n---", self.log());
        }
    }
}

impl fmt::Display for DatabaseServer {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        self.address.fmt(formatter)
    }
}
