//! Real servers.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::galera::{SqlClient, query};
use crate::harness::mariadb::DatabaseServer;
use crate::harness::{Glbd, wait_until};

#[test]
fn sixty_clients_at_once_are_served_although_the_first_server_is_full() {
    // On a busy machine, sixty logins at once may take longer than the 10 s that MariaDB allows for one.
    let patient = "--connect-timeout=600";
    let (small, large) = (
        DatabaseServer::start(&["--max-connections=10", patient]),
        DatabaseServer::start(&["--max-connections=200", patient]),
    );
    let mut first: Vec<_> = (0..10).map(|_| SqlClient::connect(small.address())).collect();
    for client in &mut first {
        assert_eq!(client.ask("SELECT 1").as_deref(), Ok("1"));
    }
    // One more is let in as long as it has the right to help.
    let mut helper = SqlClient::connect(small.address());
    assert_eq!(helper.ask("SELECT 1").as_deref(), Ok("1"));
    let error = query(small.address(), "SELECT 1").expect_err("the first server is full");
    assert!(error.contains("1040"), "{error}");
    let glbd = Glbd::builder()
        .args(["--greeting", "mysql", "--threads", "2", "--connect-timeout", "60"])
        .destinations([small.address(), large.address()])
        .start();
    let mut clients: Vec<_> = (0..60).map(|_| SqlClient::connect(glbd.address())).collect();
    let errors: Vec<_> = clients.iter_mut().filter_map(|client| client.ask("SELECT @@port").err()).collect();
    assert!(errors.is_empty(), "{} of 60 clients: {errors:?}", errors.len());
    assert_eq!(glbd.info().row(large.address()).conns, 60);
    glbd.wait_for_log(&format!("destination {} refuses clients: error 1040: Too many connections", small.address()));
}

/// A server for ten, in which nobody but root has the right to help.
fn small_server() -> DatabaseServer {
    let server = DatabaseServer::start(&["--max-connections=10", "--connect-timeout=600"]);
    server.query("CREATE USER app");
    server
}

/// What a client without rights is answered, who comes and goes.
fn visit(glbd: &Glbd) -> Result<String, String> {
    let options = ["--no-defaults", "--protocol=tcp", "--user=app", "--skip-ssl", "--batch", "--skip-column-names"];
    let address = [format!("--host={}", glbd.address().ip()), format!("--port={}", glbd.address().port())];
    let outcome = Command::new("mariadb").args(options).args(address).args(["--execute", "SELECT @@port"]).output();
    let outcome = outcome.expect("mariadb, from Debian's package mariadb-client");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if outcome.status.success() { Ok(text(&outcome.stdout)) } else { Err(text(&outcome.stderr)) }
}

/// The place beyond `max_connections` is for those who may help: everybody is greeted there, and others are refused only
/// when they have said who they are.
#[test]
fn a_server_that_refuses_a_client_only_after_its_login_is_avoided_from_the_next_one_on() {
    let (small, large) = (small_server(), DatabaseServer::start(&[]));
    large.query("CREATE USER app");
    let mut held: Vec<_> = (0..10).map(|_| SqlClient::connect(small.address())).collect();
    for client in &mut held {
        assert_eq!(client.ask("SELECT 1").as_deref(), Ok("1"));
    }
    let glbd = Glbd::builder()
        .args(["--greeting", "mysql", "--threads", "1", "-i", "600"])
        .destinations([small.address(), large.address()])
        .start();
    let answers: Vec<_> = (0..20).map(|_| visit(&glbd)).collect();
    let errors: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert_eq!(errors.len(), 1, "{answers:?}");
    assert!(errors[0].contains("1040"), "{errors:?}");
    let told = format!("destination {} refuses clients: error 1040: Too many connections", small.address());
    glbd.wait_for_log(&told);
    assert_eq!(glbd.log().matches(&told).count(), 1);
    let table = glbd.control("getwatch");
    assert!(table.contains("refuses clients: error 1040"), "{table}");
}

#[test]
fn a_full_server_gets_no_clients_although_it_still_greets_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("monitor.cnf");
    fs::write(&file, "[client]\nuser=app\n").expect("a file");
    let (small, large) = (small_server(), DatabaseServer::start(&[]));
    large.query("CREATE USER app");
    // Only the kept connection is left to find it out.
    let watchdog = format!("galera:defaults-file={},login=1000000", file.display());
    let glbd = Glbd::builder()
        .args(["--threads", "1", "-w", &watchdog, "-i", "0.2", "--timeout", "10"])
        .destinations([small.address(), large.address()])
        .start();
    let state = |state: &str| glbd.watch().row(small.address()).state == state;
    wait_until("it is READY", || state("READY"));
    let mut held: Vec<_> = (0..8).map(|_| SqlClient::connect(small.address())).collect();
    for client in &mut held {
        assert_eq!(client.ask("SELECT 1").as_deref(), Ok("1"));
    }
    // Nine with the check's own: there is room for one.
    let since = Instant::now();
    wait_until("several checks are over", || since.elapsed() > Duration::from_secs(2));
    assert!(state("READY"), "{}", glbd.control("getwatch"));
    held.push(SqlClient::connect(small.address()));
    assert_eq!(held[8].ask("SELECT 1").as_deref(), Ok("1"));
    wait_until("it is full", || state("AVOID"));
    assert_eq!(glbd.watch().row(small.address()).reason, "Too many connections: max_connections is 10");
    for _ in 0..20 {
        assert_eq!(visit(&glbd), Ok(large.address().port().to_string()));
    }
    held.pop();
    wait_until("there is room again", || state("READY"));
    assert!(held.iter_mut().all(|client| client.ask("SELECT 1").as_deref() == Ok("1")));
}
