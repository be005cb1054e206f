//! The units under a systemd that has booted.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::machine::{Background, Client, Machine, Outcome};
use crate::harness::{Info, wait_until};

const SETTINGS: &str = "\
LISTEN_ADDR=8010
CONTROL_ADDR=127.0.0.1:8011
DEFAULT_TARGETS='127.0.0.2:8000 127.0.0.3:8000'
STATE_FILE=/var/lib/glbd/state
OTHER_OPTIONS=\"--connect-timeout '2'\"
";

/// A machine with the units, the script, settings for them, and servers named `one` and `two`.
struct Service {
    machine: Machine,
    _servers: [Background; 2],
}

impl Service {
    fn installed() -> Self {
        let machine = Machine::boot_systemd();
        let units = ["glbd.service", "glbd.socket", "glbd-control.socket", "sysusers.conf"];
        units.iter().for_each(|file| machine.copy(&format!("init/{file}"), "/srv"));
        machine.copy("init/glbd", "/etc/init.d");
        let install =
            "systemd-sysusers /srv/sysusers.conf && cp /srv/glbd* /etc/systemd/system/ && systemctl daemon-reload";
        machine.expect(&["sh", "-c", install]);
        let servers =
            [("127.0.0.2", "one"), ("127.0.0.3", "two")].map(|(address, name)| machine.serve(name, address, "8000"));
        let service = Self { machine, _servers: servers };
        service.configure(SETTINGS);
        service
    }

    fn started() -> Self {
        let service = Self::installed();
        service.systemctl("start");
        service
    }

    fn configure(&self, settings: &str) {
        fs::write(self.machine.directory("/etc/default").join("glbd"), settings).expect("the settings");
    }

    fn systemctl(&self, verb: &str) {
        let Outcome { status, text } = self.machine.run(&["systemctl", verb, "glbd.service"]);
        assert_eq!(status, Some(0), "{verb}: {text}\n{}", self.log());
    }

    fn script(&self, words: &[&str]) -> String {
        self.machine.expect(&[&["/etc/init.d/glbd"], words].concat())
    }

    fn property(&self, name: &str) -> String {
        let property = format!("--property={name}");
        let value = self.machine.expect(&["systemctl", "show", "glbd.service", &property, "--value"]);
        value.trim_end().to_owned()
    }

    fn main_pid(&self) -> String {
        self.property("MainPID")
    }

    fn pid_file(&self) -> String {
        self.machine.expect(&["cat", "/run/glbd/glbd.pid"]).trim_end().to_owned()
    }

    fn client(&self) -> Client {
        self.machine.client().unwrap_or_else(|| panic!("no server\n{}", self.log()))
    }

    fn log(&self) -> String {
        self.machine.run(&["journalctl", "--unit=glbd.service", "--output=short-precise"]).text
    }
}

#[test]
fn the_service_is_ready_when_systemctl_returns() {
    let service = Service::started();
    let _client = service.client();
    assert_eq!(service.property("ActiveState"), "active");
    assert_eq!(service.main_pid(), service.pid_file());
    let owner = service.machine.expect(&["ps", "-o", "user=,comm=", "-p", &service.main_pid()]);
    assert_eq!(owner.split_whitespace().collect::<Vec<_>>(), ["glbd", "glbd"]);
    let status = || service.property("StatusText");
    wait_until("the status text tells of the client", || status().contains("connections: 1"));
}

#[test]
fn what_was_changed_by_hand_survives_a_restart_of_the_service() {
    let service = Service::started();
    service.script(&["add", "127.0.0.4:8000:3"]);
    service.script(&["remove", "127.0.0.2:8000"]);
    service.systemctl("restart");
    let info = Info::parse(&service.script(&["getinfo"]));
    let rows = info.rows.iter().map(|row| (row.address.as_str(), row.weight));
    assert_eq!(rows.collect::<Vec<_>>(), [("127.0.0.3:8000", 1.0), ("127.0.0.4:8000", 3.0)]);
}

#[test]
fn what_it_may_do_is_enough_for_low_ports_and_for_scripts() {
    let service = Service::installed();
    let check = service.machine.directory("/srv").join("check");
    fs::write(&check, "#!/bin/sh\nwhile read -r line; do [ \"$line\" = quit ] || echo 3; done\n").expect("a script");
    fs::set_permissions(&check, fs::Permissions::from_mode(0o755)).expect("a script");
    service
        .configure(&SETTINGS.replace("8010", "80").replace("--connect-timeout", "--watchdog exec:/srv/check --fall"));
    for verb in ["start", "reload"] {
        service.systemctl(verb);
        let watch = || service.machine.expect(&["sh", "-c", "echo getwatch | nc 127.0.0.1 8011"]);
        wait_until("both are fit", || watch().matches("READY").count() == 2);
        assert!(service.machine.listens("127.0.0.1", "80"), "{}", service.log());
    }
}

#[test]
fn a_reload_is_a_hot_upgrade_that_systemd_follows() {
    let service = Service::started();
    let mut clients = vec![service.client()];
    let mut pids = vec![service.main_pid()];
    for _ in 0..3 {
        service.systemctl("reload");
        assert_eq!(service.main_pid(), service.pid_file());
        assert_eq!(service.property("ActiveState"), "active", "{}", service.log());
        assert!(!pids.contains(&service.main_pid()), "{pids:?}");
        pids.push(service.main_pid());
        clients.push(service.client());
        assert!(clients.iter_mut().all(Client::is_served));
    }

    service.systemctl("stop");
    clients.iter_mut().for_each(Client::wait_until_closed);
    assert_eq!(service.machine.daemons(), [""; 0]);
    assert_eq!(service.property("Result"), "success");
    assert_eq!(service.machine.run(&["test", "-e", "/run/glbd"]).status, Some(1));
}

#[test]
fn the_scripts_upgrade_works_under_systemd_and_tells_of_changed_settings() {
    let service = Service::started();
    let old = service.main_pid();
    let said = service.script(&["upgrade"]);
    let new = service.pid_file();
    assert_ne!(new, old);
    assert_eq!(said, format!("glbd: upgraded, pid {new}; process {old} serves its open connections to their end\n"));
    wait_until("systemd follows", || service.main_pid() == new);
    service.configure(&format!("{SETTINGS}THREADS=2\n"));
    let said = service.script(&["reload"]);
    assert!(said.ends_with("changes wait for a restart\n"), "{said}");
    service.systemctl("restart");
    let said = service.script(&["reload"]);
    assert!(!said.contains("restart"), "{said}");
}

#[test]
fn a_reload_in_vain_fails_and_the_service_goes_on() {
    let service = Service::started();
    let mut client = service.client();
    let pid = service.main_pid();
    service.machine.expect(&["sh", "-c", "mv /usr/sbin/glbd /usr/sbin/glbd.good; cp /bin/false /usr/sbin/glbd"]);
    assert_eq!(service.machine.run(&["systemctl", "reload", "glbd"]).status, Some(1));
    assert_eq!((service.main_pid(), service.property("ActiveState")), (pid.clone(), "active".to_owned()));
    assert!(client.is_served());
    service.client();
    assert!(service.log().contains("not upgraded: "), "{}", service.log());

    service.machine.expect(&["mv", "/usr/sbin/glbd.good", "/usr/sbin/glbd"]);
    service.systemctl("reload");
    assert_ne!(service.main_pid(), pid);
}

#[test]
fn a_reload_tells_of_changed_settings_and_fails_if_they_are_wrong() {
    const TOLD: &str = "the settings are not those of the start: changes wait for a restart";
    let service = Service::started();
    let mut client = service.client();
    service.systemctl("reload");
    assert!(!service.log().contains(TOLD), "{}", service.log());
    service.configure(&format!("{SETTINGS}THREADS=2\n"));
    service.systemctl("reload");
    wait_until("it is told", || service.log().contains(TOLD));

    let pid = service.main_pid();
    service.configure(&format!("{SETTINGS}THREADS=many\n"));
    assert_eq!(service.machine.run(&["systemctl", "reload", "glbd"]).status, Some(1));
    wait_until("it is told", || service.log().contains("'many' for '--threads"));
    assert_eq!((service.main_pid(), service.property("ActiveState")), (pid, "active".to_owned()));
    assert!(client.is_served());
    service.client();
}

#[test]
fn a_crash_after_an_upgrade_is_noticed() {
    let service = Service::started();
    // The old process lives as long as this.
    let _client = service.client();
    service.systemctl("reload");
    let pid = service.main_pid();
    service.machine.expect(&["kill", "-KILL", &pid]);
    wait_until("systemd has started it again", || ![&pid, "0"].contains(&service.main_pid().as_str()));
    wait_until("it serves", || service.machine.client().is_some());
}

#[test]
fn clients_wait_at_systemds_sockets_while_the_service_is_not_there() {
    let service = Service::installed();
    let port = "mkdir /etc/systemd/system/glbd.socket.d; \
        printf '[Socket]\nListenStream=\nListenStream=8010\n' >/etc/systemd/system/glbd.socket.d/port.conf; \
        systemctl daemon-reload; systemctl enable --now glbd.socket glbd-control.socket";
    service.machine.expect(&["sh", "-c", port]);
    assert_eq!(service.property("ActiveState"), "inactive");
    service.client();
    assert_eq!(service.property("ActiveState"), "active");
    assert_eq!(Info::parse(&service.script(&["getinfo"])).rows.len(), 2);
    for verb in ["restart", "reload", "stop", "restart", "reload"] {
        service.systemctl(verb);
        service.client();
    }
    service.systemctl("stop");
    // The control port starts it as well.
    assert_eq!(service.machine.info().rows.len(), 2);
}
