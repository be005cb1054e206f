//! The package is upgraded while it serves.

use std::fs;

use super::build::next_version;
use super::host::Host;
use crate::harness::wait_until;
use crate::init_scripts::machine::{Client, Machine};

/// Clients that come one after the other, each of which has to be served, until /tmp/enough is there. Prints how many
/// came, and ends with the first that was not served.
const CLIENTS: &str = r#"
count=0
while [ ! -e /tmp/enough ]; do
    exec 3<>/dev/tcp/127.0.0.1/8010 || exit 1
    echo hello >&3
    read -r -t 20 server <&3 && read -r -t 20 answer <&3 || exit 1
    exec 3>&-
    [ "$answer" = hello ] || exit 1
    count=$((count + 1))
    echo "$count" >/tmp/count
done
echo "$count"
"#;

fn clients_served(machine: &Machine) -> u32 {
    let count = fs::read_to_string(machine.directory("/tmp").join("count")).unwrap_or_default();
    count.trim().parse().unwrap_or(0)
}

#[test]
fn an_upgrade_loses_no_connection_and_keeps_the_table() {
    let host = Host::serving();
    next_version(&host.next(), "");
    host.succeeds(&["add", "127.0.0.3:8000:0.25"]);
    let mut long_lived = host.machine.client().expect("a server");
    let old = host.pid();
    let mut clients = host.machine.background(&["bash", "-c", CLIENTS]);
    wait_until("clients come", || clients_served(&host.machine) > 10);

    let said = host.install_next();
    let new = host.pid();
    assert_ne!(new, old, "{said}");
    assert_eq!(host.program(&new), "/usr/sbin/glbd");
    let before = clients_served(&host.machine);
    wait_until("clients go on coming", || clients_served(&host.machine) > before + 10);
    fs::write(host.machine.directory("/tmp").join("enough"), "").expect("a file");
    assert_eq!(clients.wait(), Some(0), "a client was not served after {}", clients_served(&host.machine));

    assert!(long_lived.is_served());
    let info = host.info();
    assert_eq!(info.row("127.0.0.3:8000").weight, 0.25);
    wait_until("only the long connection is counted", || host.info().total == 1);
    drop(long_lived);
    wait_until("the old process has ended", || !host.machine.daemons().contains(&old));
    assert!(host.machine.client().is_some());
}

#[test]
fn a_new_version_that_does_not_start_leaves_the_old_one_serving_until_one_does() {
    let host = Host::serving();
    next_version(&host.next(), "printf '#!/bin/sh\\nexit 1\\n' >usr/sbin/glbd");
    let mut long_lived = host.machine.client().expect("a server");
    let old = host.pid();
    let said = host.install_next();
    assert!(said.contains("the old version goes on serving"), "{said}");
    assert_eq!(host.pid(), old);
    assert!(long_lived.is_served());
    assert!(host.machine.client().as_mut().is_some_and(Client::is_served));

    let said = host.install();
    assert_ne!(host.pid(), old, "{said}");
    assert!(long_lived.is_served());
}

#[test]
fn a_removed_package_ends_the_old_version_that_still_serves_a_connection_too() {
    let host = Host::serving();
    next_version(&host.next(), "");
    let mut long_lived = host.machine.client().expect("a server");
    let old = host.pid();
    let said = host.install_next();
    assert_ne!(host.pid(), old, "{said}");
    assert!(long_lived.is_served());
    host.machine.expect(&["dpkg", "--purge", "glbd"]);
    long_lived.wait_until_closed();
    host.wait_until_stopped();
    assert!(!host.user_exists());
}

#[test]
fn an_upgrade_of_what_is_not_configured_starts_nothing() {
    let host = Host::new();
    host.install();
    next_version(&host.next(), "");
    host.install_next();
    assert_eq!(host.machine.daemons(), [""; 0]);
}
