//! A machine on which the package is installed, with two servers to balance over.

use std::fs;
use std::path::{Path, PathBuf};

use super::build::package;
use crate::harness::{Info, wait_until};
use crate::init_scripts::copy::{BEHIND, CHANGES};
use crate::init_scripts::machine::{Background, Machine, Outcome};

pub const SETTINGS: &str = "\
LISTEN_ADDR=8010
CONTROL_ADDR=127.0.0.1:8011
DEFAULT_TARGETS='127.0.0.2:8000'
";

/// Lists what is not as it was before the first command: new and changed files, and new directories. The package tools'
/// own records do not count, nor do the manual's index and adduser's lock.
const LIST_CHANGES: &str = r#"
cd "$0"
find . \( -path ./var/lib/dpkg -o -path ./var/log -o -path ./var/cache -o -path './etc/*-' -o -path ./etc/.pwd.lock \) \
    -prune -o -print |
while read -r file; do
    if [ -d "$file" ]; then
        [ -d "$1/$file" ] || echo "$file"
    else
        cmp -s "$file" "$1/$file" || echo "$file"
    fi
done
"#;

pub struct Host {
    pub machine: Machine,
    _servers: [Background; 2],
}

impl Host {
    /// A machine without the package, with servers named `one` and `two` at 127.0.0.2 and 127.0.0.3.
    pub fn new() -> Self {
        let machine = Machine::boot_from_copy();
        fs::copy(package(), machine.directory("/srv").join("glbd.deb")).expect("the package");
        let servers =
            [("127.0.0.2", "one"), ("127.0.0.3", "two")].map(|(address, name)| machine.serve(name, address, "8000"));
        Self { machine, _servers: servers }
    }

    /// A machine where the package is installed and serves.
    pub fn serving() -> Self {
        let host = Self::new();
        host.install();
        host.configure();
        host.machine.expect(&["service", "glbd", "start"]);
        host
    }

    /// Installs the package and returns what is said.
    pub fn install(&self) -> String {
        self.machine.expect(&["dpkg", "--install", "/srv/glbd.deb"])
    }

    /// Where a further package is to lie for [`Host::install_next`].
    pub fn next(&self) -> PathBuf {
        self.machine.directory("/srv").join("next.deb")
    }

    /// Installs the package that lies there.
    pub fn install_next(&self) -> String {
        self.machine.expect(&["dpkg", "--install", "/srv/next.deb"])
    }

    pub fn configure(&self) {
        let write = format!("cat >/etc/default/glbd <<'END'\n{SETTINGS}END");
        self.machine.expect(&["sh", "-c", &write]);
    }

    pub fn succeeds(&self, verb: &[&str]) -> String {
        self.machine.expect(&[&["service", "glbd"], verb].concat())
    }

    pub fn info(&self) -> Info {
        Info::parse(&self.succeeds(&["getinfo"]))
    }

    /// The process id in the pid file.
    pub fn pid(&self) -> String {
        let pid = fs::read_to_string(self.machine.directory("/run").join("glbd/glbd.pid"));
        pid.expect("the pid file").trim().to_owned()
    }

    /// The program that a process runs, as the kernel names it.
    pub fn program(&self, pid: &str) -> String {
        self.machine.expect(&["readlink", &format!("/proc/{pid}/exe")]).trim().to_owned()
    }

    pub fn user_exists(&self) -> bool {
        let Outcome { status, text } = self.machine.run(&["getent", "passwd", "glbd"]);
        assert!([Some(0), Some(2)].contains(&status), "{text}");
        status == Some(0)
    }

    pub fn has(&self, file: &str) -> bool {
        self.machine.run(&["test", "-e", file]).status == Some(0)
    }

    /// Everything that is different from before the package.
    pub fn changes(&self) -> Vec<String> {
        let listed = self.machine.expect(&["sh", "-c", LIST_CHANGES, CHANGES, BEHIND]);
        let elsewhere = ["/run", "/tmp"].map(|directory| names(&self.machine.directory(directory)));
        let elsewhere = elsewhere.into_iter().flatten().filter(|file| !file.ends_with("/run/adduser"));
        listed.lines().map(str::to_owned).chain(elsewhere).collect()
    }

    /// Waits until no glbd runs.
    pub fn wait_until_stopped(&self) {
        wait_until("no glbd runs", || self.machine.daemons().is_empty());
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory").flatten();
    entries.map(|entry| entry.path().display().to_string()).collect()
}
