//! Other programs on either side: nginx and HAProxy.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::harness::galera::SqlClient;
use crate::harness::mariadb::DatabaseServer;
use crate::harness::{Glbd, Server, Stage, connect_to, free_port, read_line, wait_until};

use super::mariadb::WHO_AM_I;
use super::{read_exactly, version_1};

/// Another program, which is killed when this is dropped.
pub struct Program {
    process: Child,
    pub address: SocketAddr,
    _directory: TempDir,
}

impl Program {
    /// Starts it with a configuration that is made for its address and its directory.
    fn start(
        ip: IpAddr,
        configuration: impl FnOnce(SocketAddr, &Path) -> String,
        command: impl FnOnce(&Path) -> Command,
    ) -> Program {
        let (directory, address) = (tempfile::tempdir().expect("a directory"), SocketAddr::new(ip, free_port()));
        let file = directory.path().join("configuration");
        fs::write(&file, configuration(address, directory.path())).expect("a file");
        let mut command = command(&file);
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let process = process.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let program = Program { process, address, _directory: directory };
        wait_until("the other program listens", || connect_to(address).is_ok());
        program
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// HAProxy, from Debian's package haproxy, with this section, in which `ADDRESS` is where it listens.
pub fn haproxy(ip: IpAddr, section: &str) -> Program {
    let configuration = |address: SocketAddr, _: &Path| {
        let timeouts = "timeout connect 5s\n timeout client 60s\n timeout server 60s\n";
        format!("defaults\n mode tcp\n {timeouts}\n{}\n", section.replace("ADDRESS", &address.to_string()))
    };
    Program::start(ip, configuration, |file| {
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(file);
        command
    })
}

/// nginx, from Debian's packages nginx and libnginx-mod-stream, with this, in which `ADDRESS` is where it listens.
pub fn nginx(section: &str) -> Program {
    let configuration = |address: SocketAddr, directory: &Path| {
        let directory = directory.display();
        format!(
            "load_module /usr/lib/nginx/modules/ngx_stream_module.so;
            daemon off; master_process off; user root; pid {directory}/pid; error_log {directory}/error.log;
            events {{ }}
            {}\n",
            section.replace("ADDRESS", &address.to_string())
        )
    };
    Program::start(Ipv4Addr::LOCALHOST.into(), configuration, |file| {
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-c").arg(file);
        command
    })
}

/// Servers that expect a header, and answer a request for a page with what it says.
fn servers() -> [Program; 2] {
    let haproxy = haproxy(
        Ipv4Addr::LOCALHOST.into(),
        "frontend f\n mode http\n bind ADDRESS accept-proxy\n http-request return status 200 content-type text/plain \
         lf-string \"%[src] %[src_port] %[dst] %[dst_port]\"",
    );
    let nginx = nginx(
        "http { access_log off; server { listen ADDRESS proxy_protocol; location / { return 200 \
         \"$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr $proxy_protocol_server_port\"; } } }",
    );
    [haproxy, nginx]
}

#[test]
fn nginx_and_haproxy_behind_it_read_what_it_sends() {
    for server in servers() {
        for version in ["1", "2"] {
            let glbd = Glbd::builder().args(["--send-proxy", version]).destinations([server.address]).start();
            let mut client = glbd.connect();
            client.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("an open connection");
            let mut page = String::new();
            client.read_to_string(&mut page).expect("a page");
            let (source, destination) = (client.local_addr().expect("an address"), glbd.address());
            let (from, to) = (source.port(), destination.port());
            let expected = format!("{} {from} {} {to}", source.ip(), destination.ip());
            assert!(page.ends_with(&format!("\r\n\r\n{expected}")), "version {version}, not {expected}: {page}");
        }
    }
}

#[test]
fn it_reads_what_nginx_and_haproxy_in_front_of_it_send() {
    let stage = Stage::start_with(Glbd::builder().args(["--accept-proxy", "127.0.0.1", "--send-proxy", "1"]));
    let behind = stage.glbd.address();
    let haproxy_with = |option: &str| {
        haproxy(Ipv4Addr::LOCALHOST.into(), &format!("listen l\n bind ADDRESS\n server s {behind} {option}"))
    };
    let nginx = || nginx(&format!("stream {{ server {{ listen ADDRESS; proxy_protocol on; proxy_pass {behind}; }} }}"));
    let fronts: [&dyn Fn() -> Program; 3] = [&|| haproxy_with("send-proxy"), &|| haproxy_with("send-proxy-v2"), &nginx];
    for start in fronts {
        let front = start();
        // Its readiness was tried by connecting, which may have come through to here.
        let mut client = connect_to(front.address).expect("it listens");
        client.write_all(b"hello\n").expect("an open connection");
        let expected = version_1(client.local_addr().expect("an address"), front.address);
        let server = loop {
            let server = stage.accept();
            let mut bytes = vec![0; expected.len()];
            match server.peek(&mut bytes) {
                Ok(count) if bytes[..count] == expected[..count] && count > 0 => break server,
                _ => {}
            }
        };
        read_exactly(&server, &[&expected[..], b"hello\n"].concat());
        (&server).write_all(b"good morning\n").expect("an open connection");
        assert_eq!(read_line(&client).expect("a line"), "good morning");
    }
    assert!(!stage.glbd.log().contains("PROXY header"), "{}", stage.glbd.log());
}

/// HAProxy's checks connect for nobody: version 1 says UNKNOWN, version 2 LOCAL, and then they end.
#[test]
fn haproxys_checks_are_no_trouble() {
    let server = Server::echo();
    let glbd = Glbd::builder().args(["--accept-proxy", "127.0.0.1"]).destinations([&server]).start();
    for option in ["send-proxy", "send-proxy-v2"] {
        let section = format!("listen l\n bind ADDRESS\n server s {} {option} check inter 50ms", glbd.address());
        let _haproxy = haproxy(Ipv4Addr::LOCALHOST.into(), &section);
        let mut checks = 0;
        wait_until("it was checked often", || {
            checks += glbd.stats().created;
            checks > 10
        });
    }
    wait_until("nothing is left", || glbd.info().total == 0);
    assert!(!glbd.log().contains("PROXY header"), "{}", glbd.log());
}

/// HAProxy is connected to over IPv6, all others over IPv4.
#[test]
fn through_haproxy_and_glbd_mariadb_knows_the_client() {
    let server = DatabaseServer::start(&["--proxy-protocol-networks=127.0.0.1"]);
    let glbd = Glbd::builder()
        .args(["--accept-proxy", "127.0.0.1", "--send-proxy", "2", "--greeting", "mysql"])
        .destinations([server.address()])
        .start();
    let section = format!("listen l\n bind ADDRESS\n server s {} send-proxy-v2", glbd.address());
    let haproxy = haproxy(Ipv6Addr::LOCALHOST.into(), &section);
    let host = SqlClient::connect(haproxy.address).ask(WHO_AM_I).expect("an answer");
    assert!(host.starts_with("::1:"), "{host}");
}
