//! The package is installed, used, removed and purged.

use super::host::Host;
use crate::init_scripts::machine::Client;

#[test]
fn a_fresh_install_says_what_to_set_and_starts_nothing() {
    let host = Host::new();
    let said = host.install();
    assert!(said.contains("set LISTEN_ADDR in /etc/default/glbd"), "{said}");
    assert_eq!(host.machine.daemons(), [""; 0]);
    assert!(host.user_exists());
    let owner = host.machine.expect(&["stat", "--format=%U:%G", "/var/lib/glbd"]);
    assert_eq!(owner, "glbd:glbd\n");
    assert!(host.has("/etc/rc2.d/S01glbd"), "it is started when the machine is");
    assert!(host.has("/etc/systemd/system/multi-user.target.wants/glbd.service"), "under systemd as well");
}

#[test]
fn the_service_of_the_package_serves_as_its_own_user() {
    let host = Host::serving();
    assert_eq!(host.machine.client().expect("a server").server(), "one");
    let user = host.machine.expect(&["ps", "-o", "user=", "-p", &host.pid()]);
    assert_eq!(user.trim(), "glbd");
    assert_eq!(host.program(&host.pid()), "/usr/sbin/glbd");
}

#[test]
fn a_removed_package_keeps_the_settings_and_serves_again_once_installed() {
    let host = Host::serving();
    let mut client = host.machine.client().expect("a server");
    host.machine.expect(&["dpkg", "--remove", "glbd"]);
    client.wait_until_closed();
    host.wait_until_stopped();
    assert!(!host.has("/usr/sbin/glbd"));
    assert!(!host.has("/run/glbd"));
    assert!(host.has("/etc/default/glbd"));

    host.install();
    assert!(host.machine.client().as_mut().is_some_and(Client::is_served));
}

#[test]
fn a_purged_package_leaves_nothing() {
    let host = Host::new();
    let before = host.changes();
    host.install();
    host.configure();
    host.succeeds(&["start"]);
    host.machine.expect(&["touch", "/var/lib/glbd/state"]);
    assert_ne!(host.changes(), before);
    host.machine.expect(&["dpkg", "--purge", "glbd"]);
    host.wait_until_stopped();
    assert_eq!(host.changes(), before);
    assert!(!host.user_exists());
}

#[test]
fn what_was_never_started_is_purged_without_a_trace_too() {
    let host = Host::new();
    let before = host.changes();
    host.install();
    host.machine.expect(&["dpkg", "--remove", "glbd"]);
    host.machine.expect(&["dpkg", "--purge", "glbd"]);
    assert_eq!(host.changes(), before);
}

#[test]
fn a_user_that_was_there_before_the_package_stays() {
    let host = Host::new();
    host.machine.expect(&["useradd", "--system", "glbd"]);
    host.install();
    host.machine.expect(&["dpkg", "--purge", "glbd"]);
    assert!(host.user_exists());
}

#[test]
fn a_user_that_owns_something_stays_and_this_is_told() {
    let host = Host::new();
    host.install();
    host.machine.expect(&["install", "-D", "--group=glbd", "/dev/null", "/etc/glbd/probe.cnf"]);
    let said = host.machine.expect(&["dpkg", "--purge", "glbd"]);
    assert!(said.contains("/etc/glbd/probe.cnf"), "{said}");
    assert!(host.user_exists());
}

#[test]
fn a_wrong_setting_does_not_keep_the_package_from_being_installed() {
    let host = Host::new();
    host.install();
    host.machine.expect(&["sh", "-c", "echo LISTEN_ADDR=nowhere >>/etc/default/glbd"]);
    let said = host.install();
    assert!(said.contains("nowhere"), "{said}");
    assert_eq!(host.machine.daemons(), [""; 0]);
    host.machine.expect(&["dpkg", "--purge", "glbd"]);
}
