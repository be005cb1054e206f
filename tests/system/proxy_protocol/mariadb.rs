//! A real server that is told who its clients are.

use std::net::Ipv6Addr;

use crate::harness::Glbd;
use crate::harness::galera::SqlClient;
use crate::harness::mariadb::DatabaseServer;

pub const WHO_AM_I: &str = "SELECT host FROM information_schema.processlist WHERE id = CONNECTION_ID()";

/// glbd is connected to over IPv6, and connects over IPv4: what the server says tells the two apart.
#[test]
fn the_servers_list_of_processes_has_the_clients_address() {
    let server = DatabaseServer::start(&["--proxy-protocol-networks=127.0.0.1"]);
    for version in ["1", "2"] {
        for greeting in ["mysql", "none"] {
            let glbd = Glbd::builder()
                .listen_on(Ipv6Addr::LOCALHOST)
                .args(["--send-proxy", version, "--greeting", greeting, "-w", "mysql:require-galera=no"])
                .destinations([server.address()])
                .start();
            let mut client = SqlClient::connect(glbd.address());
            let host = client.ask(WHO_AM_I).unwrap_or_else(|error| panic!("{version} {greeting}: {error}"));
            assert!(host.starts_with("::1:"), "version {version}, greeting {greeting}: {host}");
        }
    }
}
