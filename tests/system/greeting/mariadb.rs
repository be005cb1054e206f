//! Real servers.

use crate::harness::Glbd;
use crate::harness::galera::{SqlClient, query};
use crate::harness::mariadb::DatabaseServer;

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
