//! init/glbd: who the daemon runs as, and what that user must be able to write.

use std::fs;

use super::machine::Client;
use super::service::{SETTINGS, SHELLS, Site};
use crate::harness::wait_until;

impl Site {
    /// Has the machine's users be those of this one, with user `glbd` or without.
    fn know_user_glbd(&self, known: bool) {
        for (name, entry) in [("passwd", "glbd:x:900:900::/:/bin/sh\n"), ("group", "glbd:x:900:\n")] {
            let over = format!("/etc/{name}");
            let entries = fs::read_to_string(&over).expect("the users");
            let others = entries.lines().filter(|line| !line.starts_with("glbd:"));
            let mut entries: String = others.map(|line| format!("{line}\n")).collect();
            if known {
                entries += entry;
            }
            fs::write(self.machine.directory("/srv").join(name), entries).expect("a file");
            self.machine.expect(&["mount", "--bind", &format!("/srv/{name}"), &over]);
        }
    }

    fn user(&self) -> String {
        let names = self.machine.expect(&["ps", "-o", "user=,group=", "-p", &self.pid()]);
        names.split_whitespace().collect::<Vec<_>>().join(":")
    }

    fn owner(&self, path: &str) -> String {
        self.machine.expect(&["stat", "--format=%U:%G", path]).trim().to_owned()
    }
}

#[test]
fn it_runs_as_glbd_where_that_user_is_known() {
    for shell in SHELLS {
        let site = Site::new(shell, SETTINGS);
        site.know_user_glbd(true);
        site.succeeds(&["start"]);
        assert_eq!(site.user(), "glbd:glbd");
        site.succeeds(&["upgrade"]);
        assert_eq!(site.user(), "glbd:glbd");

        site.machine.expect(&["sh", "-c", "echo 127.0.0.4:8000:5 >/run/glbd/glbd.fifo"]);
        wait_until("the FIFO is heeded", || site.machine.info().rows.len() == 3);
        let mut clients: Vec<Client> = site.machine.client().into_iter().collect();
        assert!(clients[0].is_served());
        assert_eq!(site.succeeds(&["stop"]), "glbd: stopped\n");
        assert_eq!(site.remains(), [""; 0]);
    }
}

#[test]
fn it_runs_as_daemon_where_there_is_no_user_glbd() {
    for shell in SHELLS {
        let site = Site::new(shell, SETTINGS);
        site.know_user_glbd(false);
        site.succeeds(&["start"]);
        assert_eq!(site.user(), "daemon:daemon");
    }
}

#[test]
fn the_settings_may_say_another_user() {
    for shell in SHELLS {
        let site = Site::new(shell, &format!("{SETTINGS}OTHER_OPTIONS='--user nobody'\n"));
        site.know_user_glbd(true);
        site.succeeds(&["start"]);
        assert_eq!(site.user(), "nobody:nogroup");
    }
}

#[test]
fn what_was_changed_by_hand_survives_a_restart_with_a_state_file() {
    for shell in SHELLS {
        for (known, owner) in [(true, "glbd:glbd"), (false, "daemon:daemon")] {
            let site = Site::new(shell, &format!("{SETTINGS}STATE_FILE=/srv/lib/glbd/state\n"));
            site.know_user_glbd(known);
            site.succeeds(&["start"]);
            assert_eq!(site.owner("/srv/lib/glbd"), owner);
            assert_eq!(site.owner("/srv/lib"), "root:root");
            site.succeeds(&["add", "127.0.0.4:8000:2.5"]);
            site.succeeds(&["remove", "127.0.0.2:8000"]);
            for verb in ["restart", "upgrade"] {
                site.succeeds(&[verb]);
                let info = site.machine.info();
                assert_eq!(info.row("127.0.0.4:8000").weight, 2.5, "{verb}");
                assert_eq!(info.rows.len(), 2, "{verb}");
            }
        }
    }
}

#[test]
fn a_directory_for_the_state_that_was_there_is_left_alone() {
    for shell in SHELLS {
        let site = Site::new(shell, &format!("{SETTINGS}STATE_FILE=/srv/state/glbd\n"));
        site.know_user_glbd(true);
        site.machine.expect(&["mkdir", "/srv/state"]);
        let said = site.ends(&["start"], 1);
        assert!(said.contains("/srv/state/glbd as user 'glbd': Permission denied"), "{said}");
        assert_eq!(site.owner("/srv/state"), "root:root");
        assert_eq!(site.remains(), [""; 0]);

        site.machine.expect(&["chown", "glbd:", "/srv/state"]);
        site.succeeds(&["start"]);
    }
}
