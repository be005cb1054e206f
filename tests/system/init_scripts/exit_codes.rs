//! init/glbd: the exit codes of the Linux Standard Base, and what it says and does when something is amiss.

use std::fs;

use super::service::{SETTINGS, SHELLS, Site};
use crate::harness::wait_until;

#[test]
fn status_of_what_is_not_running_is_3() {
    for shell in SHELLS {
        let site = Site::new(shell, SETTINGS);
        assert_eq!(site.ends(&["status"], 3), "glbd: not running\n");
    }
}

#[test]
fn a_daemon_that_was_killed_is_told_and_started_again() {
    for shell in SHELLS {
        let site = Site::started(shell);
        // The one who tidies up after the daemon first.
        let daemons = site.machine.daemons();
        let (daemon, others): (Vec<_>, Vec<_>) = daemons.iter().map(String::as_str).partition(|pid| *pid == site.pid());
        site.machine.expect(&[&["kill", "-KILL"], &others[..], &daemon[..]].concat());
        wait_until("they are gone", || site.machine.daemons().is_empty());
        let said = site.ends(&["status"], 1);
        assert!(said.contains("dead"), "{said}");
        site.ends(&["getinfo"], 7);
        site.succeeds(&["start"]);
        assert!(site.machine.client().is_some());
    }
}

#[test]
fn a_pid_file_with_another_programs_process_is_not_taken_for_the_daemon() {
    for shell in SHELLS {
        let site = Site::new(shell, SETTINGS);
        let directory = site.machine.directory("/run").join("glbd");
        fs::create_dir(&directory).expect("a directory");
        fs::write(directory.join("glbd.pid"), "1\n").expect("a pid file");
        site.ends(&["status"], 1);
        site.succeeds(&["stop"]);
        site.ends(&["status"], 3);
    }
}

#[test]
fn wrong_arguments_are_answered_with_the_usage_and_2() {
    for shell in SHELLS {
        let site = Site::new(shell, SETTINGS);
        let wrong: [&[&str]; 8] = [
            &[],
            &["frobnicate"],
            &["start", "now"],
            &["add"],
            &["add", "getinfo"],
            &["remove"],
            &["remove", "127.0.0.2"],
            &["drain", "127.0.0.2:8000", "127.0.0.3:8000"],
        ];
        for words in wrong {
            let said = site.ends(words, 2);
            assert!(said.starts_with("Usage: "), "{words:?}: {said}");
        }
        assert_eq!(site.machine.daemons(), [""; 0]);
    }
}

#[test]
fn a_start_in_vain_tells_the_reason_and_leaves_nothing_behind() {
    for shell in SHELLS {
        let site = Site::new(shell, SETTINGS);
        let _other = site.machine.serve("other", "127.0.0.1", "8010");
        let said = site.ends(&["start"], 1);
        assert!(said.contains("8010") && said.contains("in use"), "{said}");
        assert!(said.ends_with("glbd: not started\n"), "{said}");
        assert_eq!(site.remains(), [""; 0]);
        wait_until("the failed daemon has ended", || site.machine.daemons().is_empty());
        site.ends(&["status"], 3);
    }
}

#[test]
fn a_port_of_another_glbd_is_in_use_too() {
    let site = Site::new(SHELLS[0], SETTINGS);
    site.machine.expect(&["/usr/sbin/glbd", "--daemon", "8010", "127.0.0.2:8000"]);
    let said = site.ends(&["start"], 1);
    assert!(said.contains("8010") && said.contains("in use"), "{said}");
    assert_eq!(site.remains(), [""; 0]);
}

#[test]
fn what_is_not_configured_is_named_with_6() {
    for shell in SHELLS {
        let site = Site::new(shell, "");
        for verb in ["start", "restart"] {
            let said = site.ends(&[verb], 6);
            assert!(said.contains("LISTEN_ADDR in /etc/default/glbd"), "{said}");
        }
        let said = site.ends(&["getinfo"], 6);
        assert!(said.contains("CONTROL_ADDR in /etc/default/glbd"), "{said}");
    }
}

#[test]
fn a_wrong_setting_is_named_with_6() {
    for shell in SHELLS {
        let site = Site::new(shell, &format!("{SETTINGS}THREADS=many\n"));
        let said = site.ends(&["start"], 6);
        assert!(said.contains("many"), "{said}");
        assert!(said.contains("see /etc/default/glbd"), "{said}");

        site.configure(&format!("{SETTINGS}OTHER_OPTIONS=\"--user 'nobody\"\n"));
        let said = site.ends(&["start"], 6);
        assert!(said.contains("OTHER_OPTIONS"), "{said}");
    }
}

#[test]
fn only_root_starts_and_stops_but_everyone_may_ask() {
    let nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"];
    for shell in SHELLS {
        let site = Site::started(shell);
        for verb in ["stop", "restart"] {
            assert_eq!(site.run_by(&nobody, &[verb]).status, Some(4), "{verb}");
        }
        assert_eq!(site.run_by(&nobody, &["status"]).status, Some(0));
        site.succeeds(&["stop"]);
        assert_eq!(site.run_by(&nobody, &["start"]).status, Some(4));
    }
}

#[test]
fn a_start_without_the_program_is_answered_with_5() {
    for shell in SHELLS {
        let site = Site::new(shell, SETTINGS);
        site.machine.expect(&["umount", "/usr/sbin/glbd"]);
        let said = site.ends(&["start"], 5);
        assert!(said.contains("/usr/local/sbin/glbd"), "{said}");
    }
}

#[test]
fn a_daemon_that_hangs_is_told_and_killed() {
    let site = Site::started(SHELLS[0]);
    let pid = site.pid();
    site.machine.expect(&["kill", "-STOP", &pid]);
    let all_stopped = format!("! grep -h ^State: /proc/{pid}/task/*/status | grep -qv stopped");
    wait_until("all its threads stand still", || site.machine.run(&["sh", "-c", &all_stopped]).status == Some(0));
    let said = site.ends(&["status"], 4);
    assert!(said.contains("no answer from the control port"), "{said}");
    let said = site.succeeds(&["stop"]);
    assert!(said.contains("killing it"), "{said}");
    wait_until("nothing of it is left", || site.machine.daemons().is_empty());
    assert_eq!(site.remains(), [""; 0]);
}
