//! Scripts that answer for destinations, as GLB's users have them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::wait_until_judged;
use crate::harness::{Glbd, Server, echoes, free_port, names_of, read_line, wait_until};

/// Two destinations, a script for each, and the glbd that asks them.
struct Scripted {
    glbd: Glbd,
    servers: [Server; 2],
    /// Where the scripts may leave something, by which they are known as well.
    directory: TempDir,
}

impl Scripted {
    /// The script is given its own directory as `$directory`, and the port of its destination as `$port`. It may take a
    /// second to answer.
    fn start(script: &str) -> Self {
        Self::start_with("1", script)
    }

    /// A script that is waited for however busy the machine is.
    fn patient(script: &str) -> Self {
        Self::start_with("30", script)
    }

    fn start_with(timeout: &str, script: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let servers = ["a", "b"].map(Server::named);
        for (server, name) in servers.iter().zip(["a", "b"]) {
            fs::write(directory.path().join(format!("name-of-{}", server.address().port())), name).expect("a file");
        }
        let path = directory.path().join("script");
        let head = format!("#!/bin/sh\ndirectory='{}'\nport=${{1##*:}}\n", directory.path().display());
        fs::write(&path, head + script).expect("a file");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("our own file");
        let watchdog = format!("exec:{} -utest -ptest", path.display());
        let arguments = ["-w", &watchdog, "-i", "0.1", "--timeout", timeout];
        let glbd = Glbd::builder().args(arguments).destinations(&servers).start();
        Self { glbd, servers, directory }
    }

    fn wait_until_judged(&self, states: [&str; 2]) {
        self.servers.iter().zip(states).for_each(|(server, state)| wait_until_judged(&self.glbd, server, state));
    }

    fn reason(&self) -> String {
        self.glbd.watch().row(&self.servers[0]).reason.clone()
    }

    /// Processes that have to do with the scripts, those excepted that only wait to be reaped.
    fn processes(&self) -> Vec<String> {
        let glbd = self.glbd.pid().to_string();
        let all = fs::read_dir("/proc").expect("processes").flatten().map(|entry| entry.path());
        let ours = |process: &PathBuf| {
            let has = |file, text: &str| {
                let content = fs::read(process.join(file)).unwrap_or_default();
                content.windows(text.len()).any(|window| window == text.as_bytes())
            };
            let directory = self.directory.path().display().to_string();
            !process.ends_with(&glbd) && has("environ", &format!("GLBD_WATCHDOG={glbd}-")) || has("cmdline", &directory)
        };
        let name = |process: PathBuf| fs::read_to_string(process.join("comm")).unwrap_or_default().trim().to_owned();
        all.filter(ours).map(name).filter(|name| name != "glbd" && name != "glbd-janitor").collect()
    }

    /// However glbd ends, nothing of them is left.
    fn check_that_nothing_is_left(mut self, signal: Signal) {
        // One that has just failed may not have been replaced yet.
        wait_until("there are scripts to begin with", || !self.processes().is_empty());
        self.glbd.signal(signal);
        self.glbd.wait_exit();
        wait_until("nothing is left", || self.processes().is_empty());
    }
}

/// Answers with what is in a file.
const OBEDIENT: &str = r#"
while read -r request; do
    case $request in
    poll) cat "$directory/answer-$(cat "$directory/name-of-$port")" ;;
    quit) echo >>"$directory/has-quit"; exit ;;
    esac
done
"#;

#[test]
fn a_scripts_answers_are_verdicts() {
    let directory = |scripted: &Scripted, name: &str| scripted.directory.path().join(name);
    let scripted = Scripted::patient(OBEDIENT);
    let answer = |name: &str, text: &str| fs::write(directory(&scripted, name), text).expect("a file");
    answer("answer-a", "3 ignored:1\n");
    answer("answer-b", "2\n");
    scripted.wait_until_judged(["READY", "AVOID"]);
    assert_eq!(names_of(&[(); 4].map(|()| scripted.glbd.connect())), ["a"; 4]);
    answer("answer-a", "1\n");
    answer("answer-b", "3\n");
    scripted.wait_until_judged(["DOWN", "READY"]);
    assert_eq!(scripted.reason(), "the script says 1 (not ready)");
    answer("answer-a", "0\n");
    wait_until("that is heard of", || scripted.reason() == "the script says 0 (not found)");
    let quit = || fs::read_to_string(directory(&scripted, "has-quit")).map_or(0, |text| text.len());
    let before = quit();
    scripted.glbd.change(format!("{}:-1", scripted.servers[0]));
    wait_until("it was told to quit", || quit() == before + 1);
    scripted.check_that_nothing_is_left(Signal::SIGTERM);
}

#[test]
fn a_script_that_is_killed_with_its_destination_leaves_nothing_behind() {
    let scripted =
        Scripted::start("trap '' TERM\nsleep 1000 &\nwhile :; do read -r request && echo 3 || sleep 0.1; done");
    scripted.wait_until_judged(["READY", "READY"]);
    for server in &scripted.servers {
        scripted.glbd.change(format!("{server}:-1"));
    }
    wait_until("nothing is left", || scripted.processes().is_empty());
    assert_eq!(zombies_of(&scripted.glbd), 0);
}

fn zombies_of(glbd: &Glbd) -> usize {
    let children = Command::new("ps").args(["-o", "stat=", "--ppid", &glbd.pid().to_string()]).output();
    let children = String::from_utf8(children.expect("ps, from Debian's package procps").stdout).expect("text");
    children.lines().filter(|state| state.starts_with('Z')).count()
}

/// Does it with glbd being stopped, and being killed.
fn however_glbd_ends(script: &str, check: impl Fn(&Scripted)) {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let scripted = Scripted::start(script);
        check(&scripted);
        scripted.check_that_nothing_is_left(signal);
    }
}

#[test]
fn a_script_that_hangs_is_no_answer_and_is_replaced() {
    however_glbd_ends("read -r request; echo $$ >>\"$directory/started\"; sleep 1000", |scripted| {
        scripted.wait_until_judged(["DOWN", "DOWN"]);
        let started = || fs::read_to_string(scripted.directory.path().join("started")).unwrap_or_default();
        wait_until("it was started again", || started().lines().count() > 2);
    });
}

#[test]
fn a_script_that_dies_after_each_answer_is_asked_again_and_again() {
    let scripted = Scripted::patient("read -r request; echo $$ >>\"$directory/started\"; echo 3");
    scripted.wait_until_judged(["READY", "READY"]);
    let started = || fs::read_to_string(scripted.directory.path().join("started")).unwrap_or_default();
    wait_until("it was started ten times", || started().lines().count() > 20);
    scripted.wait_until_judged(["READY", "READY"]);
    assert!(!scripted.glbd.log().contains("DOWN"), "{}", scripted.glbd.log());
    assert!(zombies_of(&scripted.glbd) <= 2);
}

#[test]
fn a_script_that_ends_without_an_answer_is_started_again_after_a_while() {
    let scripted = Scripted::start("echo $$ >>\"$directory/started\"; exit 3");
    scripted.wait_until_judged(["DOWN", "DOWN"]);
    assert!(scripted.reason().starts_with("the script ended with status 3"), "{}", scripted.reason());
    let started = || fs::read_to_string(scripted.directory.path().join("started")).unwrap_or_default();
    wait_until("it was started again", || started().lines().count() >= 4);
    assert!(started().lines().count() <= 6, "there are pauses, and they grow: {}", started());
}

#[test]
fn a_script_that_prints_a_megabyte_is_no_answer() {
    let flood = "while read -r request; do head -c 1000000 /dev/zero | tr '\\0' x; done";
    however_glbd_ends(&format!("{flood}; sleep 1000"), |scripted| {
        let before = scripted.glbd.resident_bytes();
        scripted.wait_until_judged(["DOWN", "DOWN"]);
        assert!(scripted.reason().starts_with("the script says more than 65536 bytes"), "{}", scripted.reason());
        assert!(scripted.glbd.resident_bytes() < before + 4_000_000);
        wait_until("there is one again", || !scripted.processes().is_empty());
    });
}

#[test]
fn what_a_script_complains_of_is_logged_but_not_without_end() {
    let complaints = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo complaint $i >&2; done";
    let flood = "head -c 1000000 /dev/zero | tr '\\0' y >&2";
    let scripted =
        Scripted::start(&format!("{complaints}; {flood}; while read -r request; do echo 3; done; sleep 1000"));
    scripted.wait_until_judged(["READY", "READY"]);
    let logged = || scripted.glbd.log().matches(": complaint ").count();
    wait_until("the first complaints are logged", || logged() >= 5);
    let first = |server| scripted.glbd.log().contains(&format!("script of destination {server}: complaint 1\n"));
    assert!(scripted.servers.iter().any(first), "{}", scripted.glbd.log());
    // One more may come every ten seconds.
    assert!(logged() <= 8, "{}", scripted.glbd.log());
    assert!(scripted.glbd.log().lines().all(|line| line.len() < 400));
}

#[test]
fn a_script_that_ignores_sigterm_and_hides_its_children_does_not_outlive_glbd() {
    let script =
        "trap '' TERM HUP INT\nsetsid sleep 1000 &\nsleep 1000 &\nwhile read -r request; do echo 3; done; sleep 1000";
    however_glbd_ends(script, |scripted| {
        scripted.wait_until_judged(["READY", "READY"]);
        wait_until("its children are there", || {
            scripted.processes().iter().filter(|name| *name == "sleep").count() >= 4
        });
    });
}

#[test]
fn scripts_and_clients_are_let_be_until_a_drain_has_ended_and_nothing_is_left_then() {
    let note = |what: &str| format!("echo >>\"$directory/{what}\"");
    let (started, asked) = (note("started"), note("asked"));
    let hides = "trap '' TERM\nsetsid sleep 1000 &\n";
    let mut scripted = Scripted::patient(&format!("{hides}{started}; while read -r request; do {asked}; echo 3; done"));
    scripted.wait_until_judged(["READY", "READY"]);
    let client = scripted.glbd.connect();
    let name = read_line(&client).expect("a name");
    let count = |what: &str| fs::read(scripted.directory.path().join(what)).map_or(0, |text| text.len());
    let before = count("asked");
    scripted.glbd.signal(Signal::SIGUSR1);
    wait_until("they are asked for another second", || count("asked") > before + 20);
    assert_eq!(count("started"), 2, "none was started again");
    assert!(echoes(&client), "the client of {name} goes on");
    drop(client);
    scripted.glbd.wait_exit();
    wait_until("nothing is left", || scripted.processes().is_empty());
}

#[test]
fn a_script_that_talks_nonsense_is_no_answer() {
    let scripted = Scripted::start("while read -r request; do echo all is well; done; sleep 1000");
    scripted.wait_until_judged(["DOWN", "DOWN"]);
    assert!(scripted.reason().contains("the script answers 'all is well'"), "{}", scripted.reason());
}

#[test]
fn what_a_script_says_unasked_is_not_taken_for_an_answer() {
    let scripted =
        Scripted::patient("while read -r request; do echo 3; echo 1; echo >>\"$directory/asked\"; done; sleep 1000");
    scripted.wait_until_judged(["READY", "READY"]);
    let asked = || fs::read(scripted.directory.path().join("asked")).map_or(0, |text| text.len());
    wait_until("it was asked often", || asked() > 20);
    assert!(!scripted.glbd.log().contains("DOWN"), "{}", scripted.glbd.log());
}

/// A web server as everybody has it.
struct Nginx {
    process: Child,
    port: u16,
    directory: TempDir,
}

impl Nginx {
    fn start() -> Self {
        let (directory, port) = (tempfile::tempdir().expect("a directory"), free_port());
        let path = directory.path().display();
        let configuration = format!(
            "daemon off; master_process off; user root; pid {path}/pid; error_log {path}/error.log;
            events {{ }}
            http {{ access_log off; server {{ listen 127.0.0.1:{port}; root {path}/pages; }} }}"
        );
        fs::create_dir(directory.path().join("pages")).expect("a directory");
        fs::write(directory.path().join("nginx.conf"), configuration).expect("a file");
        let process = Command::new("/usr/sbin/nginx")
            .arg("-c")
            .arg(directory.path().join("nginx.conf"))
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx, from Debian's package nginx");
        Self { process, port, directory }
    }

    fn page(&self) -> PathBuf {
        self.directory.path().join("pages/fit")
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[test]
fn the_script_for_web_servers_and_the_built_in_check_agree_on_nginx() {
    let mut nginx = Nginx::start();
    fs::write(nginx.page(), "yes\n").expect("a file");
    let destination = format!("127.0.0.1:{}", nginx.port);
    let script = format!("exec:{}/scripts/watch-http /fit", env!("CARGO_MANIFEST_DIR"));
    let glbds = [script.as_str(), "http:/fit"].map(|watchdog| {
        Glbd::builder().args(["-w", watchdog, "-i", "0.1", "--timeout", "5"]).destinations([&destination]).start()
    });
    glbds.iter().for_each(|glbd| wait_until_judged(glbd, &destination, "READY"));
    fs::remove_file(nginx.page()).expect("our own file");
    glbds.iter().for_each(|glbd| wait_until_judged(glbd, &destination, "DOWN"));
    let reasons = glbds.each_ref().map(|glbd| glbd.watch().row(&destination).reason.clone());
    assert_eq!(reasons, ["the script says 1 (not ready)", "HTTP status 404"]);
    fs::write(nginx.page(), "yes\n").expect("a file");
    glbds.iter().for_each(|glbd| wait_until_judged(glbd, &destination, "READY"));
    nginx.process.kill().expect("our own child");
    glbds.iter().for_each(|glbd| wait_until_judged(glbd, &destination, "DOWN"));
}

/// glbd raises its own limit of open files, and some programs close each number below the limit when they start another.
#[test]
fn a_script_has_the_usual_limits() {
    let answer = "while read -r request; do echo \"3 - files $(ulimit -n) data $(ulimit -d)\"; done\n";
    let scripted = Scripted::patient(answer);
    scripted.wait_until_judged(["READY", "READY"]);
    for server in &scripted.servers {
        let reason = || scripted.glbd.watch().row(server).reason.clone();
        assert_eq!(reason(), "files 1024 data unlimited");
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", scripted.glbd.pid())).expect("glbd runs");
    assert!(!limits.contains("Max open files            1024 "), "{limits}");
}
