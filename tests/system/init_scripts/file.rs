//! init/glbd with a configuration file.

use std::fs;

use super::machine::Client;
use super::service::{SHELLS, Site};
use crate::harness::{glbd, wait_until};

const FILE: &str = "\
[process]
log = \"/etc/default/log\"
[pool.main]
destinations = [\"127.0.0.2:8000\"]
[service.main]
listen = 8010
";

/// A site whose settings name a file, with these further settings.
fn site(shell: &'static [&'static str], more: &str) -> Site {
    let site = Site::new(shell, &format!("CONFIG_FILE=/etc/default/glbd.toml\nOTHER_OPTIONS='--user root'\n{more}"));
    write(&site, FILE);
    site.succeeds(&["start"]);
    site
}

fn write(site: &Site, text: &str) {
    fs::write(site.machine.directory("/etc/default").join("glbd.toml"), text).expect("the file");
}

#[test]
fn a_reload_has_the_file_come_into_force_in_the_same_process() {
    for shell in SHELLS {
        let site = site(shell, "CONTROL_ADDR=127.0.0.1:8011\n");
        let (pid, mut clients) = (site.pid(), site.clients(2));
        assert_eq!(clients[0].server(), "one");
        write(&site, &FILE.replace("127.0.0.2", "127.0.0.3"));
        let said = site.succeeds(&["reload"]);
        assert!(said.starts_with("pool main: destination 127.0.0.3:8000 added with weight 1\n"), "{said}");
        assert!(said.ends_with("\nOk\n"), "{said}");
        assert_eq!(site.pid(), pid);
        assert!(clients.iter_mut().all(Client::is_served));
        assert_eq!(site.clients(1)[0].server(), "two");
    }
}

#[test]
fn a_file_that_is_wrong_fails_a_reload_and_changes_nothing() {
    for shell in SHELLS {
        let site = site(shell, "CONTROL_ADDR=127.0.0.1:8011\n");
        let pid = site.pid();
        write(&site, &FILE.replace("listen", "lisen"));
        let said = site.ends(&["reload"], 6);
        assert!(
            said.contains("/etc/default/glbd.toml:6:1: service.main.lisen: no such key; did you mean 'listen'?"),
            "{said}"
        );
        assert!(said.contains(&format!("not reloaded: process {pid} goes on as before")), "{said}");
        // What only the daemon finds out: somebody listens there.
        write(&site, &FILE.replace("8010", "\"127.0.0.3:8000\""));
        let said = site.ends(&["reload"], 1);
        assert!(said.starts_with("Error: cannot listen on 127.0.0.3:8000: "), "{said}");
        assert_eq!(site.clients(1)[0].server(), "one");
    }
}

#[test]
fn without_a_control_port_a_reload_is_a_signal() {
    let site = site(SHELLS[0], "");
    write(&site, &FILE.replace("127.0.0.2", "127.0.0.3"));
    let said = format!(
        "glbd: process {} reads /etc/default/glbd.toml again, see the system's log for what that comes to\n",
        site.pid()
    );
    assert_eq!(site.succeeds(&["reload"]), said);
    wait_until("new clients go where the file says", || site.clients(1)[0].server() == "two");
}

#[test]
fn an_address_beside_the_file_is_told_with_6() {
    let site = Site::new(SHELLS[0], "CONFIG_FILE=/etc/default/glbd.toml\nLISTEN_ADDR=8010\n");
    write(&site, FILE);
    let said = site.ends(&["start"], 6);
    assert!(said.contains("'8010': with --config, the addresses stand in the file"), "{said}");
}

#[test]
fn the_file_that_is_installed_is_in_order() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/init/glbd.toml");
    let checked = glbd::run(&["--check", "--config", file]);
    assert!(checked.status.success(), "{checked:?}");
    // And with all that it shows.
    let text = fs::read_to_string(file).expect("the file").replace("destinations = []\n", "");
    let is_example = |line: &str| line.starts_with('#') && (line.contains(" = ") || line.starts_with("#["));
    let shown: String = text
        .lines()
        .map(|line| if is_example(line) { &line[1..] } else { line })
        .fold(String::new(), |text, line| text + line + "\n");
    let directory = tempfile::tempdir().expect("a directory");
    let all = directory.path().join("glbd.toml");
    let shown = shown.replace("galera:defaults-file=/etc/glbd/watchdog.cnf", "galera").replace("/var/lib/glbd", "/tmp");
    fs::write(&all, &shown).expect("a file");
    let checked = glbd::run(&["--check", "--config", &all.display().to_string()]);
    assert!(checked.status.success(), "{checked:?}\n{shown}");
}
