//! Servers of other makers that are checked, and their certificates.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::harness::{connect_to, free_port, wait_until};

/// A server, which is killed when this is dropped. Displays as its address.
pub struct Program {
    process: Child,
    pub address: SocketAddr,
    directory: TempDir,
}

impl Program {
    /// Starts a command that is made for an address and a directory in which there are certificates. It ends with the test.
    fn start(port: u16, command: impl FnOnce(SocketAddr, &Path) -> Vec<String>) -> Self {
        let (directory, address) =
            (tempfile::tempdir().expect("a directory"), SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        make_certificates(directory.path());
        let words = command(address, directory.path());
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).args(&words).current_dir(directory.path());
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let process = process.unwrap_or_else(|error| panic!("{words:?}: {error}"));
        let mut program = Self { process, address, directory };
        wait_until(&format!("{} listens, from Debian's package of that name", words[0]), || {
            assert!(program.process.try_wait().expect("a child").is_none(), "{words:?} has ended");
            connect_to(address).is_ok()
        });
        program
    }

    /// A file of the server: `ca.pem` is there, and `other.pem`, of an authority that has signed nothing.
    pub fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl std::fmt::Display for Program {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        self.address.fmt(formatter)
    }
}

/// Redis, from Debian's package redis-server, with these options.
pub fn redis(options: &[&str]) -> Program {
    Program::start(free_port(), |address, _| {
        let port = address.port().to_string();
        let fixed = ["redis-server", "--port", &port, "--bind", "127.0.0.1", "--save", "", "--protected-mode", "no"];
        fixed.iter().chain(options).map(|word| (*word).to_owned()).collect()
    })
}

/// Redis that speaks TLS only, with the certificate for `server.example`.
pub fn redis_with_tls() -> Program {
    Program::start(free_port(), |address, _| {
        let port = address.port().to_string();
        let words = ["redis-server", "--port", "0", "--tls-port", &port, "--bind", "127.0.0.1", "--save", ""];
        let tls = ["--tls-cert-file", "server.pem", "--tls-key-file", "server.key", "--tls-auth-clients", "no"];
        let more = ["--tls-ca-cert-file", "ca.pem"];
        [&words[..], &tls, &more].concat().into_iter().map(str::to_owned).collect()
    })
}

/// nginx, from Debian's package nginx, with this in its server, which listens at `ADDRESS`.
pub fn nginx(server: &str) -> Program {
    Program::start(free_port(), |address, directory| {
        let directory = directory.display();
        let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {directory}/{name};\n"))
            .concat();
        let text = format!(
            "daemon off; master_process off; user root; pid {directory}/pid; error_log {directory}/error.log;\n\
            events {{ }}\nhttp {{ access_log off; {paths} ssl_certificate {directory}/server.pem; \
            ssl_certificate_key {directory}/server.key;\nserver {{ {} }} }}\n",
            server.replace("ADDRESS", &address.to_string())
        );
        let file = format!("{directory}/nginx.conf");
        fs::write(&file, text).expect("a file");
        ["/usr/sbin/nginx", "-c", &file].map(str::to_owned).into()
    })
}

/// HAProxy, from Debian's package haproxy, with this section, which listens at `ADDRESS`.
pub fn haproxy(section: &str) -> Program {
    Program::start(free_port(), |address, directory| {
        let timeouts = "timeout connect 5s\n timeout client 60s\n timeout server 60s";
        let text = format!("defaults\n mode tcp\n {timeouts}\n{}\n", section.replace("ADDRESS", &address.to_string()));
        let file = directory.join("haproxy.cfg").display().to_string();
        fs::write(&file, text).expect("a file");
        ["haproxy", "-db", "-f", &file].map(str::to_owned).into()
    })
}

/// An authority, a certificate for `server.example` that it has signed, and another authority.
fn make_certificates(directory: &Path) {
    let script = "
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=ca -keyout ca.key -out ca.pem
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=ca -keyout o.key -out other.pem
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=server -keyout server.key -out server.csr
        echo subjectAltName=DNS:server.example >ext
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile ext -out server.pem";
    let outcome = Command::new("sh").args(["-euc", script]).current_dir(directory).output().expect("sh");
    assert!(outcome.status.success(), "openssl, from Debian's package openssl: {outcome:?}");
}
