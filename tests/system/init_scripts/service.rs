//! init/glbd: every verb under each of the small shells, its exit codes, and what it leaves behind.

use std::fs;

use super::machine::{Background, Client, Machine, Outcome};
use crate::harness::{Info, Stats};

pub const SHELLS: [&[&str]; 2] = [&["dash"], &["busybox", "sh"]];

pub const SETTINGS: &str = "\
LISTEN_ADDR=8010
CONTROL_ADDR=127.0.0.1:8011
DEFAULT_TARGETS='127.0.0.2:8000 127.0.0.3:8000'
";

/// A machine with the script, settings for it, and servers named `one`, `two` and `three` at 127.0.0.2 to 127.0.0.4.
pub struct Site {
    pub machine: Machine,
    shell: &'static [&'static str],
    _servers: Vec<Background>,
}

impl Site {
    pub fn new(shell: &'static [&'static str], settings: &str) -> Self {
        let machine = Machine::boot(&[]);
        machine.copy("init/glbd", "/etc/init.d");
        let servers = [("127.0.0.2", "one"), ("127.0.0.3", "two"), ("127.0.0.4", "three")]
            .map(|(address, name)| machine.serve(name, address, "8000"));
        let site = Self { machine, shell, _servers: servers.into() };
        site.configure(settings);
        site
    }

    /// A site where the script has started glbd.
    pub fn started(shell: &'static [&'static str]) -> Self {
        let site = Self::new(shell, SETTINGS);
        site.succeeds(&["start"]);
        site
    }

    pub fn configure(&self, settings: &str) {
        let file = self.machine.directory("/etc/default").join("glbd");
        fs::write(file, settings).expect("the settings");
    }

    pub fn run(&self, words: &[&str]) -> Outcome {
        self.run_by(&[], words)
    }

    /// Runs the script by a command such as `setpriv`.
    pub fn run_by(&self, prefix: &[&str], words: &[&str]) -> Outcome {
        let script: &[&str] = &["/etc/init.d/glbd"];
        self.machine.run(&[prefix, self.shell, script, words].concat())
    }

    pub fn succeeds(&self, words: &[&str]) -> String {
        self.ends(words, 0)
    }

    /// Runs the script, which must exit with this status; returns what it said.
    pub fn ends(&self, words: &[&str], status: i32) -> String {
        let Outcome { status: actual, text } = self.run(words);
        assert_eq!(actual, Some(status), "{:?} {words:?}: {text}", self.shell);
        text
    }

    pub fn pid(&self) -> String {
        let pid = fs::read_to_string(self.machine.directory("/run").join("glbd/glbd.pid"));
        pid.expect("the pid file").trim().to_owned()
    }

    /// Names of the files in /run/glbd, where everything of the service is.
    pub fn remains(&self) -> Vec<String> {
        let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
        fs::read_dir(self.machine.directory("/run").join("glbd"))
            .expect("/run/glbd")
            .map(|entry| name(entry).into_string().expect("a plain name"))
            .collect()
    }

    pub fn clients(&self, count: usize) -> Vec<Client> {
        let client = || self.machine.client().expect("a server");
        (0..count).map(|_| client()).collect()
    }
}

fn servers(clients: &[Client]) -> Vec<&str> {
    clients.iter().map(Client::server).collect()
}

#[test]
fn start_serves_as_the_settings_say() {
    for shell in SHELLS {
        let settings = format!("{SETTINGS}MAX_CONN=77\nTHREADS=3\nOTHER_OPTIONS=\"--random --user 'nobody'\"\n");
        let site = Site::new(shell, &settings);
        let said = site.succeeds(&["start"]);
        assert_eq!(said, format!("glbd: started, pid {}\n", site.pid()));
        assert!(["one", "two"].contains(&site.clients(1)[0].server()));
        let info = Info::parse(&site.succeeds(&["getinfo"]));
        assert_eq!(info.max, 77);
        assert!(info.rows[0].map.is_some(), "random has a map");
        let owner = site.machine.expect(&["ps", "-o", "user=", "-p", &site.pid()]);
        assert_eq!(owner.trim(), "nobody");
    }
}

#[test]
fn start_leaves_a_running_daemon_alone() {
    for shell in SHELLS {
        let site = Site::started(shell);
        let pid = site.pid();
        let said = site.succeeds(&["start"]);
        assert_eq!(said, format!("glbd: already running, pid {pid}\n"));
        assert_eq!(site.pid(), pid);
    }
}

#[test]
fn status_tells_the_process_and_the_table() {
    for shell in SHELLS {
        let site = Site::started(shell);
        let _clients = site.clients(4);
        let said = site.succeeds(&["status"]);
        let (process, table) = said.split_once('\n').expect("two parts");
        assert_eq!(process, format!("glbd: running, pid {}", site.pid()));
        assert_eq!(Info::parse(table).total, 4);
        let stats = Stats::parse(&site.succeeds(&["getstats"]));
        assert_eq!((stats.created, stats.open), (4, 4));
    }
}

#[test]
fn stop_ends_the_daemon_and_its_connections() {
    for shell in SHELLS {
        let site = Site::started(shell);
        let mut clients = site.clients(2);
        assert_eq!(site.succeeds(&["stop"]), "glbd: stopped\n");
        clients.iter_mut().for_each(Client::wait_until_closed);
        assert_eq!(site.machine.daemons(), [""; 0]);
        assert_eq!(site.remains(), [""; 0]);
        assert!(site.machine.client().is_none());
        assert_eq!(site.succeeds(&["stop"]), "glbd: not running\n");
    }
}

#[test]
fn restart_serves_again_at_once_on_the_same_port() {
    for shell in SHELLS {
        let site = Site::started(shell);
        for verb in ["restart", "force-reload"] {
            let old = site.pid();
            let mut clients = site.clients(2);
            let said = site.succeeds(&[verb]);
            assert_ne!(site.pid(), old);
            assert_eq!(said, format!("glbd: stopped\nglbd: started, pid {}\n", site.pid()));
            clients.iter_mut().for_each(Client::wait_until_closed);
            assert!(site.machine.client().is_some());
        }
    }
}

#[test]
fn restart_keeps_a_daemon_whose_settings_were_lost() {
    let site = Site::started(SHELLS[0]);
    let pid = site.pid();
    site.configure("");
    site.ends(&["restart"], 6);
    assert!(site.machine.daemons().contains(&pid));
    assert!(site.machine.client().is_some());
}

/// One letter too many must not end a service that works.
#[test]
fn restart_and_upgrade_keep_a_daemon_whose_settings_are_wrong_and_configtest_says_what_is() {
    for shell in SHELLS {
        let site = Site::started(shell);
        let (pid, mut clients) = (site.pid(), site.clients(1));
        let said = site.succeeds(&["configtest"]);
        assert!(said.ends_with("glbd: the command line is in order: 2 destinations\n"), "{said}");
        for (wrong, named, status) in [
            ("THREADS=many", "'many'", 6),
            ("OTHER_OPTIONS=\"--policy\"", "--policy", 6),
            ("OTHER_OPTIONS=\"--user 'nobody\"", "quoted wrongly", 6),
            ("DEFAULT_TARGETS=127.0.0.1:99999", "99999", 6),
            ("OTHER_OPTIONS='--user no-such-user'", "no-such-user", 1),
            ("OTHER_OPTIONS='-w galera:defaults-file=/no/such/file'", "/no/such/file", 1),
            ("STATE_FILE=/dev/null", "/dev/null", 1),
            ("OTHER_OPTIONS=--strict-names\nDEFAULT_TARGETS=no-such-name.invalid:1", "no-such-name.invalid:1", 1),
        ] {
            site.configure(&format!("{SETTINGS}{wrong}\n"));
            for verb in ["configtest", "restart", "force-reload", "upgrade", "reload"] {
                let said = site.ends(&[verb], status);
                assert!(said.contains(named), "{verb}: {said}");
            }
            assert_eq!(site.pid(), pid, "{wrong}");
            assert!(clients.iter_mut().all(Client::is_served), "{wrong}");
        }
        site.configure(SETTINGS);
        site.succeeds(&["restart"]);
    }
}

#[test]
fn restart_starts_what_is_not_running() {
    let site = Site::new(SHELLS[0], SETTINGS);
    site.succeeds(&["restart"]);
    assert!(site.machine.client().is_some());
}

#[test]
fn an_added_destination_gets_clients() {
    for shell in SHELLS {
        let site = Site::started(shell);
        let _earlier = site.clients(4);
        let said = site.succeeds(&["add", "127.0.0.4:8000:2"]);
        assert_eq!(said, "glbd: added 127.0.0.4:8000:2\n");
        assert_eq!(servers(&site.clients(4)), ["three"; 4]);
    }
}

#[test]
fn a_drained_destination_keeps_its_clients_and_gets_no_new_ones() {
    for shell in SHELLS {
        let site = Site::started(shell);
        let mut earlier = site.clients(4);
        let said = site.succeeds(&["drain", "127.0.0.2:8000"]);
        assert_eq!(said, "glbd: draining 127.0.0.2:8000\n");
        assert_eq!(servers(&site.clients(6)), ["two"; 6]);
        assert!(earlier.iter_mut().all(Client::is_served));
        assert_eq!(site.machine.info().row("127.0.0.2:8000").conns, 2);
    }
}

#[test]
fn a_removed_destination_loses_its_clients() {
    for shell in SHELLS {
        let site = Site::started(shell);
        let mut clients = site.clients(4);
        let said = site.succeeds(&["remove", "127.0.0.2:8000"]);
        assert_eq!(said, "glbd: removed 127.0.0.2:8000\n");
        for client in &mut clients {
            match client.server() {
                "one" => client.wait_until_closed(),
                _ => assert!(client.is_served()),
            }
        }
        let info = site.machine.info();
        assert_eq!((info.rows.len(), info.total), (1, 2));
    }
}

#[test]
fn a_refused_change_is_told_with_the_reason() {
    for shell in SHELLS {
        let site = Site::started(shell);
        let said = site.ends(&["add", "127.0.0.4:8000:heavy"], 1);
        assert!(said.starts_with("glbd: ") && said.contains("heavy"), "{said}");
        for verb in ["drain", "remove"] {
            let said = site.ends(&[verb, "127.0.0.4:8000"], 1);
            assert!(said.contains("127.0.0.4:8000"), "{verb}: {said}");
        }
        assert_eq!(site.machine.info().rows.len(), 2);
    }
}

#[test]
fn destinations_and_the_control_port_may_be_ipv6() {
    for shell in SHELLS {
        let settings = "LISTEN_ADDR=[::1]:8010\nCONTROL_ADDR=[::1]:8011\nDEFAULT_TARGETS='[::1]:8000 [::1]:8001:2'\n";
        let site = Site::new(shell, settings);
        site.succeeds(&["start"]);
        site.succeeds(&["add", "[::1]:8002:3"]);
        site.succeeds(&["drain", "[::1]:8001"]);
        site.succeeds(&["remove", "[::1]:8000"]);
        let info = Info::parse(&site.succeeds(&["getinfo"]));
        let weights = info.rows.iter().map(|row| (row.address.as_str(), row.weight));
        assert_eq!(weights.collect::<Vec<_>>(), [("[::1]:8001", 0.0), ("[::1]:8002", 3.0)]);
    }
}

#[test]
fn every_netcat_reaches_the_control_port() {
    for shell in SHELLS {
        let site = Site::started(shell);
        for netcat in ["nc.openbsd", "nc.traditional", "ncat", "busybox"] {
            let program = format!("/bin/{netcat}");
            site.machine.expect(&["mount", "--bind", &program, "/etc/alternatives/nc"]);
            site.succeeds(&["add", "127.0.0.4:8000"]);
            assert_eq!(Info::parse(&site.succeeds(&["getinfo"])).rows.len(), 3, "{netcat}");
            site.succeeds(&["remove", "127.0.0.4:8000"]);
            site.machine.expect(&["umount", "/etc/alternatives/nc"]);
        }
    }
}
