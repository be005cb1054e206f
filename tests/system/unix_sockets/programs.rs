//! Real servers at UNIX sockets, checked and reached there.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::{UnixServer, directory, unix};
use crate::harness::galera::SqlClient;
use crate::harness::mariadb::DatabaseServer;
use crate::harness::{Glbd, echoes, free_port, wait_until, write_script};

/// Another program, which is killed when this is dropped.
pub struct Program(Child, TempDir, SocketAddr);

impl Program {
    /// Runs it with this configuration, in which `DIR` is its directory and `ADDRESS` a free port's. Its socket in the
    /// directory is called `socket`.
    fn start(configuration: &str, command: impl FnOnce(&Path) -> Command) -> Self {
        let directory = directory();
        let file = directory.path().join("configuration");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let text = configuration.replace("DIR", &directory.path().display().to_string());
        let text = text.replace("ADDRESS", &address.to_string());
        fs::write(&file, text).expect("a file");
        let mut command = command(&file);
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let program = Program(process.unwrap_or_else(|error| panic!("{command:?}: {error}")), directory, address);
        wait_until("it listens", || UnixStream::connect(program.1.path().join("socket")).is_ok());
        program
    }

    /// nginx, from Debian's package nginx, with this server at its socket.
    fn nginx(server: &str) -> Self {
        let text = format!(
            "daemon off; master_process off; user root; pid DIR/pid; error_log DIR/error.log; events {{ }}
            http {{ access_log DIR/access.log; server {{ {server} }} }}\n"
        );
        Program::start(&text, |file| {
            let mut command = Command::new("/usr/sbin/nginx");
            command.arg("-c").arg(file);
            command
        })
    }

    /// nginx, from Debian's packages nginx and libnginx-mod-stream, with this server of streams at its socket.
    pub fn nginx_stream(server: &str) -> Self {
        let text = format!(
            "load_module /usr/lib/nginx/modules/ngx_stream_module.so;
            daemon off; master_process off; user root; pid DIR/pid; error_log DIR/error.log; events {{ }}
            stream {{ server {{ {server} }} }}\n"
        );
        Program::start(&text, |file| {
            let mut command = Command::new("/usr/sbin/nginx");
            command.arg("-c").arg(file);
            command
        })
    }

    /// Where it listens for TCP.
    pub fn address(&self) -> SocketAddr {
        self.2
    }

    /// HAProxy, from Debian's package haproxy, with this section.
    pub fn haproxy(section: &str) -> Self {
        let timeouts = "timeout connect 5s\n timeout client 60s\n timeout server 60s\n";
        Program::start(&format!("defaults\n mode tcp\n {timeouts}\n{section}\n"), |file| {
            let mut command = Command::new("haproxy");
            command.arg("-db").arg("-f").arg(file);
            command
        })
    }

    fn destination(&self) -> String {
        unix(&self.1.path().join("socket"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn page(glbd: &Glbd, path: &str) -> String {
    let mut client = glbd.connect();
    client.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).expect("an open connection");
    let mut page = String::new();
    client.read_to_string(&mut page).expect("a page");
    page
}

fn is_ready(glbd: &Glbd, destination: &str) -> bool {
    glbd.watch().row(destination).state == "READY"
}

#[test]
fn a_database_is_checked_and_served_through_its_own_socket_file() {
    let server = DatabaseServer::start(&[]);
    let destination = unix(&server.path("socket"));
    server.query("CREATE USER probe@localhost IDENTIFIED BY 'secret'");
    let directory = directory();
    let options = directory.path().join("probe.cnf");
    fs::write(&options, "[client]\nuser = probe\npassword = secret\n").expect("a file");
    let watchdog = format!("galera:defaults-file={}", options.display());
    let glbd = Glbd::builder().args(["-w", &watchdog, "--interval", "0.2"]).destinations([&destination]).start();
    wait_until("it is READY", || is_ready(&glbd, &destination));
    // The user is only one of localhost, which is what a server takes clients of its socket for.
    let mut client = SqlClient::connect(glbd.address());
    assert_eq!(client.ask("SELECT USER()").expect("an answer"), "root@localhost");
    server.query("SET GLOBAL read_only = ON");
    wait_until("it takes no new clients", || glbd.watch().row(&destination).state == "AVOID");
    server.query("SET GLOBAL read_only = OFF");
    wait_until("it is READY again", || is_ready(&glbd, &destination));
    server.query("ALTER USER probe@localhost IDENTIFIED BY 'another'");
    wait_until("a login is tried, and refused", || glbd.watch().row(&destination).state == "SPARE");
    server.query("ALTER USER probe@localhost IDENTIFIED BY 'secret'");
    wait_until("it is READY again", || is_ready(&glbd, &destination));
    server.signal(Signal::SIGKILL);
    wait_until("it is DOWN", || glbd.watch().row(&destination).state == "DOWN");
    assert!(!server.log().contains("Aborted connection"), "no check was noticed: {}", server.log());
}

#[test]
fn with_a_port_a_database_at_a_unix_socket_is_asked_at_this_machines() {
    let server = DatabaseServer::start(&[]);
    let destination = unix(&server.path("socket"));
    let directory = directory();
    let options = directory.path().join("probe.cnf");
    fs::write(&options, "[client]\nuser = root\n").expect("a file");
    let watchdog = format!("mysql:defaults-file={},port={}", options.display(), server.address().port());
    let glbd = Glbd::builder().args(["-w", &watchdog, "--interval", "0.2"]).destinations([&destination]).start();
    wait_until("it is READY", || is_ready(&glbd, &destination));
    let connections = server.query("SELECT HOST FROM information_schema.PROCESSLIST WHERE HOST LIKE '127.0.0.1:%'");
    assert!(connections.lines().count() >= 2, "the probe's and this one: {connections}");
}

#[test]
fn nginx_is_checked_and_served_through_its_socket() {
    let nginx = Program::nginx("listen unix:DIR/socket; root DIR; location /hello { return 200 \"hello\\n\"; }");
    let destination = nginx.destination();
    let check = nginx.1.path().join("check");
    let glbd = Glbd::builder().args(["-w", "http:/check", "--interval", "0.2"]).destinations([&destination]).start();
    wait_until("it is asked", || glbd.watch().row(&destination).reason == "HTTP status 404");
    fs::write(&check, "in order").expect("a file");
    wait_until("it is READY", || is_ready(&glbd, &destination));
    assert!(page(&glbd, "/hello").ends_with("\r\n\r\nhello\n"));
    let log = fs::read_to_string(nginx.1.path().join("access.log")).expect("a log");
    assert!(log.contains("\"GET /check HTTP/1.1\" 200"), "{log}");
    fs::remove_file(check).expect("a file");
    wait_until("it is DOWN", || glbd.watch().row(&destination).state == "DOWN");
}

#[test]
fn haproxy_at_a_unix_socket_reads_the_clients_address_in_both_versions_of_the_header() {
    let haproxy = Program::haproxy(
        "frontend f\n mode http\n bind unix@DIR/socket accept-proxy\n http-request return status 200 content-type \
         text/plain lf-string \"%[src] %[src_port] %[dst] %[dst_port]\"",
    );
    for version in ["1", "2"] {
        let glbd = Glbd::builder().args(["--send-proxy", version]).destinations([haproxy.destination()]).start();
        let mut client = glbd.connect();
        client.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("an open connection");
        let mut page = String::new();
        client.read_to_string(&mut page).expect("a page");
        let (source, destination) = (client.local_addr().expect("an address"), glbd.address());
        let expected = format!("{} {} {} {}", source.ip(), source.port(), destination.ip(), destination.port());
        assert!(page.ends_with(&format!("\r\n\r\n{expected}")), "version {version}, not {expected}: {page}");
    }
}

/// The server at the other end of HAProxy is one of ours, so that both pass on ends and bytes.
#[test]
fn through_haproxys_unix_socket_a_connection_goes_on_both_ways() {
    let directory = directory();
    let server = UnixServer::echo(directory.path().join("server"));
    let path = directory.path().join("server").display().to_string();
    let haproxy = Program::haproxy(&format!("listen l\n bind unix@DIR/socket\n server s unix@{path}"));
    let glbd = Glbd::start([haproxy.destination()]);
    assert!(echoes(&glbd.connect()));
    assert!(server.accepted() > 0);
}

#[test]
fn a_script_gets_the_path_as_its_address_and_a_connect_is_a_check_as_well() {
    let directory = directory();
    let server = UnixServer::echo(directory.path().join("server"));
    let (script, asked) = (directory.path().join("script"), directory.path().join("asked"));
    let text = format!("#!/bin/sh\necho \"$1\" >{}\nwhile read -r poll; do echo 3; done\n", asked.display());
    write_script(&script, &text, 0o755);
    let watchdog = format!("exec:{}", script.display());
    let glbd = Glbd::builder().args(["-w", &watchdog, "--interval", "0.2"]).destinations([&server]).start();
    wait_until("it is READY", || is_ready(&glbd, &server.to_string()));
    assert_eq!(fs::read_to_string(asked).expect("a file"), format!("{server}\n"));

    let nobody = unix(&directory.path().join("nobody"));
    let glbd = Glbd::builder()
        .args(["-w", "tcp", "--interval", "0.2"])
        .destinations([server.to_string(), nobody.clone()])
        .start();
    wait_until("it is READY", || is_ready(&glbd, &server.to_string()));
    wait_until("nobody is DOWN", || glbd.watch().row(&nobody).state == "DOWN");
    assert_eq!(glbd.watch().row(&nobody).reason, "No such file or directory (os error 2)");
}
