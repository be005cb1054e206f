//! init/glbd: going on with another process, and giving up the ports while the open connections go on.

use super::machine::Client;
use super::service::{SETTINGS, SHELLS, Site};
use crate::harness::{wait_until, write_script};

const NOBODY: [&str; 4] = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"];

impl Site {
    /// What the script says after an upgrade, and the new process.
    fn upgrade(&self, verb: &str) -> (String, String) {
        let old = self.pid();
        let said = self.succeeds(&[verb]);
        let new = self.pid();
        assert_ne!(new, old, "{said}");
        let done = format!("glbd: upgraded, pid {new}; process {old} serves its open connections to their end\n");
        assert!(said.starts_with(&done), "{said}");
        (said[done.len()..].to_owned(), new)
    }
}

#[test]
fn an_upgrade_keeps_the_connections_and_the_table() {
    for shell in SHELLS {
        let site = Site::started(shell);
        site.succeeds(&["add", "127.0.0.4:8000:2"]);
        let mut clients = site.clients(4);
        for verb in ["upgrade", "reload"] {
            let (told, _) = site.upgrade(verb);
            assert_eq!(told, "", "{verb}");
            assert!(clients.iter_mut().all(Client::is_served), "{verb}");
            clients.extend(site.clients(4));
        }
        let info = site.machine.info();
        assert_eq!(info.row("127.0.0.4:8000").weight, 2.0);
        assert_eq!(info.total, clients.len());
    }
}

#[test]
fn status_tells_which_processes_serve_older_connections() {
    for shell in SHELLS {
        let site = Site::started(shell);
        let (old, client) = (site.pid(), site.clients(1));
        let (_, new) = site.upgrade("upgrade");
        let running = format!("glbd: running, pid {new}\n");
        let drains = format!("glbd: older connections are served to their end, pid {old}\n");
        let said = site.succeeds(&["status"]);
        assert!(said.starts_with(&(running.clone() + &drains)), "{said}");
        assert_eq!(site.run_by(&NOBODY, &["status"]).text, said, "what everybody may know");
        drop(client);
        wait_until("it is told no more", || site.succeeds(&["status"]).starts_with(&format!("{running}Router:")));
    }
}

#[test]
fn changed_settings_wait_for_a_restart_which_is_told() {
    const TOLD: &str = "glbd: the settings are not those of the start: changes wait for a restart\n";
    for shell in SHELLS {
        let site = Site::started(shell);
        site.configure(&format!("{SETTINGS}OTHER_OPTIONS=\"--random --linger\"\n"));
        assert_eq!(site.upgrade("reload").0, TOLD);
        assert!(site.machine.info().rows[0].map.is_none(), "not random yet");

        site.configure(&format!("{SETTINGS}OTHER_OPTIONS=\"--random '--linger'\"\n"));
        site.succeeds(&["restart"]);
        assert_eq!(site.upgrade("reload").0, "");
        assert!(site.machine.info().rows[0].map.is_some(), "random");
    }
}

#[test]
fn an_upgrade_in_vain_leaves_the_old_process_as_it_was() {
    let site = Site::started(SHELLS[0]);
    let (pid, mut clients) = (site.pid(), site.clients(1));
    site.machine.expect(&["mount", "--bind", "/bin/false", "/usr/sbin/glbd"]);
    let said = site.ends(&["upgrade"], 1);
    assert_eq!(said, format!("glbd: not upgraded: process {pid} goes on as before\n"));
    assert_eq!(site.pid(), pid);
    assert!(clients[0].is_served());
    clients.extend(site.clients(1));

    // One that finds nothing wrong with the settings, and ends all the same.
    let script = site.machine.directory("/etc/default").join("in-vain");
    write_script(&script, "#!/bin/sh\n[ \"$1\" = --check ]\n", 0o755);
    site.machine.expect(&["mount", "--bind", "/etc/default/in-vain", "/usr/sbin/glbd"]);
    let said = site.ends(&["upgrade"], 1);
    let told = format!("glbd: not upgraded: process {pid} goes on as before, see the system's log for the reason\n");
    assert_eq!(said, told);
    assert!(clients.iter_mut().all(Client::is_served));
    site.machine.expect(&["umount", "/usr/sbin/glbd"]);

    site.machine.expect(&["umount", "/usr/sbin/glbd"]);
    site.upgrade("upgrade");
    assert!(clients.iter_mut().all(Client::is_served));
}

#[test]
fn what_cannot_be_upgraded_or_drained_is_told_with_the_usual_exit_codes() {
    for shell in SHELLS {
        let site = Site::new(shell, SETTINGS);
        for words in [&["upgrade"][..], &["reload"], &["drain", "all"]] {
            assert_eq!(site.ends(words, 7), "glbd: not running\n", "{words:?}");
            assert_eq!(site.run_by(&NOBODY, words).status, Some(4), "{words:?}");
            assert!(site.ends(&[words, &["now"]].concat(), 2).starts_with("Usage: "), "{words:?}");
        }
        site.succeeds(&["start"]);
        let pid = site.pid();
        site.machine.expect(&["mount", "--bind", "/etc/hosts", "/usr/sbin/glbd"]);
        let said = site.ends(&["upgrade"], 5);
        assert!(said.contains("not installed"), "{said}");
        assert_eq!(site.pid(), pid);
    }
}

#[test]
fn drain_all_gives_up_the_port_and_serves_the_open_connections() {
    for shell in SHELLS {
        let site = Site::started(shell);
        let (old, mut clients) = (site.pid(), site.clients(2));
        let said = site.succeeds(&["drain", "all"]);
        let told =
            format!("no new connections any more; process {old} serves the open ones to their end, and then stops");
        assert_eq!(said, format!("glbd: {told}\n"));
        let drains = format!("glbd: older connections are served to their end, pid {old}\n");
        assert_eq!(site.ends(&["status"], 3), format!("glbd: not running\n{drains}"));
        assert!(clients.iter_mut().all(Client::is_served));
        wait_until("the port is given up", || site.machine.client().is_none());

        site.succeeds(&["start"]);
        assert!(site.machine.client().is_some());
        assert!(clients.iter_mut().all(Client::is_served));
        clients.clear();
        wait_until("the drained one has ended", || !site.machine.daemons().contains(&old));
    }
}

#[test]
fn stop_ends_the_processes_that_serve_older_connections_too() {
    for shell in SHELLS {
        let site = Site::started(shell);
        let mut clients = site.clients(1);
        site.upgrade("upgrade");
        clients.extend(site.clients(1));
        site.succeeds(&["drain", "all"]);
        site.succeeds(&["start"]);
        clients.extend(site.clients(1));
        assert_eq!(site.succeeds(&["stop"]), "glbd: stopped\n");
        clients.iter_mut().for_each(Client::wait_until_closed);
        assert_eq!(site.machine.daemons(), [""; 0]);
        assert_eq!(site.remains(), [""; 0]);

        site.succeeds(&["start"]);
        let mut client = site.clients(1);
        site.succeeds(&["drain", "all"]);
        assert_eq!(site.succeeds(&["stop"]), "glbd: stopped\n");
        client[0].wait_until_closed();
        assert_eq!(site.succeeds(&["stop"]), "glbd: not running\n");
    }
}

#[test]
fn stop_leaves_a_glbd_alone_that_is_not_the_services() {
    let site = Site::started(SHELLS[0]);
    site.machine.expect(&["/usr/sbin/glbd", "--daemon", "--pidfile", "/tmp/other.pid", "8020", "127.0.0.2:8000"]);
    assert_eq!(site.succeeds(&["stop"]), "glbd: stopped\n");
    assert!(site.machine.listens("127.0.0.1", "8020"));
}
