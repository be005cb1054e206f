//! Accounts of all kinds, on a real MariaDB server: whether the watchdog can log in, and what it says if it cannot.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::harness::galera::SqlClient;
use crate::harness::mariadb::DatabaseServer;
use crate::harness::{Glbd, Server, wait_until};

/// A glbd that logs in at each check, with this option file.
fn checking(destination: &impl ToString, file: &Path, options: &str) -> Glbd {
    let watchdog = format!("galera:defaults-file={},login=1{options}", file.display());
    Glbd::builder()
        .args(["-w", &watchdog, "-i", "0.2", "--timeout", "5"])
        .destinations([destination.to_string()])
        .start()
}

fn wait_until_said(glbd: &Glbd, destination: &impl ToString, state: &str, reason: &str) {
    let what = format!("{} is {state}: {reason}", destination.to_string());
    wait_until(&what, || {
        let watch = glbd.watch();
        let row = watch.row(destination.to_string());
        row.state == state && row.reason.contains(reason)
    });
}

fn option_file(server: &DatabaseServer, user: &str, password: &str, more: &str) -> std::path::PathBuf {
    let file = server.path(&format!("{user}.cnf"));
    fs::write(&file, format!("[client]\nuser={user}\npassword='{password}'\n{more}")).expect("a file");
    file
}

#[test]
fn each_kind_of_account_is_let_in_or_told_apart() {
    let server = DatabaseServer::start(&[]);
    server.query(
        "INSTALL SONAME 'auth_ed25519'; INSTALL SONAME 'auth_pam';
        CREATE USER native IDENTIFIED BY 'secret'; CREATE USER signed IDENTIFIED VIA ed25519 USING PASSWORD('secret');
        CREATE USER encrypted IDENTIFIED BY 'secret' REQUIRE SSL;
        CREATE USER certified IDENTIFIED BY 'secret' REQUIRE X509;
        CREATE USER expired IDENTIFIED BY 'secret' PASSWORD EXPIRE;
        CREATE USER locked IDENTIFIED BY 'secret' ACCOUNT LOCK; CREATE USER asked IDENTIFIED VIA pam;
        CREATE USER rare IDENTIFIED BY 'secret' WITH MAX_QUERIES_PER_HOUR 1;
        CREATE USER single IDENTIFIED BY 'secret' WITH MAX_USER_CONNECTIONS 1",
    );
    let certificate = format!(
        "ssl-cert={}\nssl-key={}\nssl-ca={}\n",
        server.path("client.pem").display(),
        server.path("client.key").display(),
        server.path("ca.pem").display()
    );
    let cases = [
        ("native", "secret", "", "", "READY", ""),
        ("native", "secret", "", ",tls=off", "READY", ""),
        ("native", "wrong", "", "", "SPARE", "cannot log in: Access denied for user 'native'@'127.0.0.1'"),
        ("signed", "secret", "", "", "READY", ""),
        ("signed", "wrong", "", "", "SPARE", "Access denied"),
        ("encrypted", "secret", "", "", "READY", ""),
        ("encrypted", "secret", "", ",tls=off", "SPARE", "; without TLS (clients may still be served)"),
        ("certified", "secret", "", "", "SPARE", "; without a client certificate (clients may still be served)"),
        ("certified", "secret", certificate.as_str(), "", "READY", ""),
        ("certified", "secret", certificate.as_str(), ",tls=verify-ca", "READY", ""),
        ("expired", "secret", "", "", "SPARE", "(error 1820)"),
        ("locked", "secret", "", "", "SPARE", "(error 4151)"),
        ("asked", "secret", "", "", "SPARE", "the account's authentication plugin 'dialog' is not supported"),
        ("rare", "secret", "", "", "SPARE", "(error 1226)"),
        ("single", "secret", "", "", "READY", ""),
    ];
    for (user, password, more, options, state, reason) in cases {
        let glbd = checking(&server, &option_file(&server, user, password, more), options);
        wait_until_said(&glbd, &server, state, reason);
    }
}

#[test]
fn a_server_that_requires_tls_is_ready_with_it_and_spare_without() {
    let server = DatabaseServer::start(&["--require-secure-transport=ON"]);
    let file = server.path("root.cnf");
    fs::write(&file, "[client]\nuser=root\n").expect("a file");
    wait_until_said(&checking(&server, &file, ""), &server, "READY", "");
    wait_until_said(
        &checking(&server, &file, ",tls=off"),
        &server,
        "SPARE",
        "without TLS (clients may still be served)",
    );
}

#[test]
fn a_password_that_is_rotated_is_no_outage() {
    let server = DatabaseServer::start(&[]);
    server.query("CREATE USER monitor IDENTIFIED BY 'old'");
    let file = option_file(&server, "monitor", "old", "");
    let mut glbd = checking(&server, &file, "");
    wait_until_said(&glbd, &server, "READY", "");
    server.query("SET PASSWORD FOR monitor = PASSWORD('new')");
    wait_until_said(&glbd, &server, "SPARE", "cannot log in: Access denied");
    option_file(&server, "monitor", "new", "");
    wait_until_said(&glbd, &server, "READY", "");
    fs::write(&file, "[client\n").expect("a file");
    wait_until("the broken file is logged", || glbd.log().contains("line 1: '[' without ']'"));
    wait_until_said(&glbd, &server, "READY", "");
    glbd.signal(Signal::SIGTERM);
    glbd.wait_exit();
    let aborted =
        server.log().lines().filter(|line| line.contains("Aborted") && !line.contains("Access denied")).count();
    assert_eq!(aborted, 0, "{}", server.log());
}

#[test]
fn a_server_that_is_full_is_avoided_though_the_watchdog_is_in() {
    let server = DatabaseServer::start(&["--max-connections=10"]);
    server.query("CREATE USER monitor IDENTIFIED BY 'secret'");
    let glbd = checking(&server, &option_file(&server, "monitor", "secret", ""), "");
    wait_until_said(&glbd, &server, "READY", "");
    // root has a connection beyond the ten.
    let mut clients: Vec<SqlClient> = (0..11).map(|_| SqlClient::connect(server.address())).collect();
    wait_until_said(&glbd, &server, "AVOID", "Too many connections (error 1040)");
    clients.clear();
    wait_until_said(&glbd, &server, "READY", "");
}

/// A server that sends these packets, each after it has received something.
fn scripted(packets: Vec<Vec<u8>>) -> Server {
    Server::serving(move |mut stream: &TcpStream| {
        for packet in &packets {
            if stream.write_all(packet).is_err() || !stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {
                return;
            }
        }
    })
}

fn packet(sequence: u8, contents: &[u8]) -> Vec<u8> {
    [&[contents.len() as u8, 0, 0, sequence], contents].concat()
}

fn greeting() -> Vec<u8> {
    let head = b"\x0a8.0.36\0\x01\0\0\0abcdefgh\0\x01\x82\x21\x02\0\x08\0\x15\0\0\0\0\0\0\0\0\0\0ijklmnopqrst\0";
    packet(0, &[head.as_slice(), b"caching_sha2_password\0"].concat())
}

/// What MariaDB cannot be made to do on loopback.
#[test]
fn what_other_servers_do_is_told_and_hurts_nothing() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), "[client]\nuser=monitor\npassword=secret\n").expect("a file");
    let more = packet(2, &[1, 4]);
    for (packets, state, reason) in [
        (
            vec![packet(0, b"\xff\x69\x04Host '10.0.0.1' is blocked")],
            "AVOID",
            "Host '10.0.0.1' is blocked (error 1129)",
        ),
        (vec![greeting(), packet(2, b"\xfeparsec\0abc\0")], "SPARE", "plugin 'parsec' is not supported"),
        (vec![greeting(), more.clone(), packet(4, b"\x01not PEM")], "DOWN", "a public key that is not RSA in PEM"),
        (vec![greeting(), more, packet(4, b"\x01")], "DOWN", "a public key that is not RSA in PEM"),
        (vec![greeting(), packet(2, b"\xfecaching_sha2_password\0")], "DOWN", "a challenge of 0 bytes"),
    ] {
        let server = scripted(packets);
        let glbd = checking(&server, file.path(), "");
        wait_until_said(&glbd, &server, state, reason);
        assert!(!glbd.log().contains("panicked"), "{}", glbd.log());
    }
}
