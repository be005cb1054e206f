//! Options of checks in a file, at a reload, and through an upgrade.

use std::fs;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::programs::redis_with_tls;
use super::{asking, wait_until_judged};
use crate::harness::watch::Watch;
use crate::harness::{Daemon, Server, free_port, glbd, sites, wait_until};
use crate::services::Site;

/// A server that greets with this while that is wanted, and with something else otherwise.
fn greeting(text: &'static str) -> (Server, Arc<AtomicBool>) {
    let is_well = Arc::new(AtomicBool::new(true));
    let well = Arc::clone(&is_well);
    let server = Server::serving(move |mut stream| {
        let said = if well.load(Ordering::SeqCst) { text } else { "go away\r\n" };
        stream.write_all(said.as_bytes()).ok();
        std::io::copy(&mut stream, &mut std::io::sink()).ok();
    });
    (server, is_well)
}

fn states(site: &Site) -> Vec<(String, String)> {
    let rows = Watch::parse(&site.daemon.control("getwatch")).rows;
    rows.into_iter().map(|row| (row.state, row.reason)).collect()
}

fn wait_for(site: &Site, state: &str, reason: &str) {
    let wanted = (state.to_owned(), reason.to_owned());
    wait_until(&format!("{wanted:?}"), || states(site) == [wanted.clone()]);
}

#[test]
fn a_destination_that_is_down_is_asked_as_often_as_that_says_and_as_otherwise_when_it_is_back() {
    let (port, [site]) = sites();
    let glbd = asking(port).args(["-i", "0.05", "--down-interval", "1"]).destinations([&site]).start();
    wait_until_judged(&glbd, &site, "READY");
    site.say(503);
    wait_until_judged(&glbd, &site, "DOWN");
    let before = site.asked().len();
    wait_until("it was asked some times", || site.asked().len() >= before + 3);
    let asked = site.asked();
    let pauses: Vec<Duration> = asked[before - 1..].windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses[1..].iter().all(|pause| *pause > Duration::from_millis(900)), "{pauses:?}");
    site.say(200);
    wait_until_judged(&glbd, &site, "READY");
    let before = site.asked().len();
    let since = std::time::Instant::now();
    wait_until("it was asked ten times", || site.asked().len() >= before + 10);
    assert!(since.elapsed() < Duration::from_secs(9), "{:?}", since.elapsed());
}

#[test]
fn a_table_in_a_file_says_the_same_as_the_text_and_both_are_printed_as_text() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("glbd.toml").display().to_string();
    let printed = |watchdog: &str| {
        fs::write(&file, format!("[pool.a]\n{watchdog}\n[service.s]\nlisten = 1\n")).expect("a file");
        let outcome = glbd::run(&["--print-config", "--config", &file]);
        assert!(outcome.status.success(), "{watchdog}: {}", String::from_utf8_lossy(&outcome.stderr));
        let text = String::from_utf8(outcome.stdout).expect("text");
        text.lines().find(|line| line.starts_with("watchdog = ")).expect("a watchdog").to_owned()
    };
    for (said, text) in [
        (
            r#"watchdog = { type = "tcp", steps = [{ send = "PING\r\n" }, { expect = "+PONG; or so" }] }"#,
            r"watchdog = 'tcp:;send=PING\r\n;expect=+PONG\; or so'",
        ),
        (
            r"watchdog = { type = 'tcp', port = 6380, tls = true, steps = [{ send-hex = '00' }, { send = 'a\r\n' }] }",
            r"watchdog = 'tcp:6380;send-hex=00;send=a\r\n;tls=yes'",
        ),
        ("watchdog = \"tcp:send=PING\\r\\n;expect=+PONG\"", r"watchdog = 'tcp:send=PING\r\n;expect=+PONG'"),
        (r"watchdog = 'tcp:send=PING\r\n;expect=+PONG'", r"watchdog = 'tcp:send=PING\r\n;expect=+PONG'"),
        (
            "[pool.a.watchdog]\ntype = 'https'\npath = '/a;b=1'\nport = 8443\nready = ['200-299', 301]\nheader = ['X: 1', 'Y: 2']\nbody = '''a\nb'''",
            r#"watchdog = 'https:8443/a;b=1;body=a\nb;header=X: 1;header=Y: 2;ready=200-299,301'"#,
        ),
        ("watchdog = { type = 'galera', donor = 'avoid', login = 3 }", "watchdog = \"galera:donor=avoid,login=3\""),
        ("watchdog = { type = 'exec', command = 'check -a b' }", "watchdog = \"exec:check -a b\""),
    ] {
        assert_eq!(printed(said), text, "{said}");
        assert_eq!(printed(text), text);
    }
}

#[test]
fn what_is_wrong_with_a_check_in_a_file_is_told_with_its_place() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("glbd.toml").display().to_string();
    let told = |lines: &str| {
        fs::write(&file, format!("[pool.a]\n{lines}\n[service.s]\nlisten = 1\n")).expect("a file");
        let outcome = glbd::run(&["--check", "--config", &file]);
        assert!(!outcome.status.success(), "{lines}");
        String::from_utf8(outcome.stderr).expect("text").replace(&file, "FILE")
    };
    for (lines, complaints) in [
        (
            "watchdog = { type = 'tcp', steps = [{ send = 'a' }, { expects = 'b' }, { expect-regex = '(' }], path = '/' }",
            vec![
                "FILE:2:53: pool.a.watchdog.steps: step 2: there is no 'expects'; there are send, send-hex, expect",
                "FILE:2:72: pool.a.watchdog.steps: step 3: tcp: expect-regex: '(' is not a regular expression: ",
                "FILE:2:104: pool.a.watchdog.path: no such key; there are port, steps, tls, ca, sni",
            ],
        ),
        (
            "watchdog = { port = 1 }",
            vec!["FILE:2:12: pool.a.watchdog: it has no 'type': tcp, http, https, galera or exec"],
        ),
        (
            "watchdog = { type = 'tcp', send = 'a' }",
            vec!["FILE:2:35: pool.a.watchdog.send: it stands in steps, as in steps ="],
        ),
        (
            "watchdog = { type = 'http', ready = 99, sni = '10.0.0.1' }",
            vec![
                "FILE:2:37: pool.a.watchdog.ready: http: '99' is not a status (200 to 599)",
                "FILE:2:47: pool.a.watchdog.sni: http: sni: '10.0.0.1' is not the name of a host",
            ],
        ),
        (
            "watchdog = { type = 'http', ready = 200, spare = '200-299' }",
            vec!["FILE:2:12: pool.a.watchdog: http: status 200 is in two lists"],
        ),
        ("watchdog = 'tcp:a'", vec!["FILE:2:12: pool.a.watchdog: 'tcp:a': tcp: 'a' is not a port (1 to 65535)"]),
        ("agent-interval = 2", vec!["FILE:2:18: pool.a.agent-interval needs an agent to ask: give agent as well"]),
        (
            "down-interval = 2",
            vec!["FILE:2:17: pool.a.down-interval needs checks of the destinations: give watchdog as well"],
        ),
        (
            "watchdog = 'exec:a'\ncheck-send-proxy = 2",
            vec!["FILE:3:20: pool.a.check-send-proxy: a script connects by itself"],
        ),
    ] {
        let told = told(lines);
        let told: Vec<&str> = told.lines().map(|line| line.trim_start_matches("glbd: ")).collect();
        assert_eq!(told.len(), complaints.len(), "{lines}: {told:?}");
        for (line, complaint) in told.iter().zip(&complaints) {
            assert!(line.starts_with(complaint), "{lines}: {line}");
        }
    }
}

#[test]
fn a_reload_has_destinations_checked_as_the_file_says_now() {
    let (site, (server, is_well), port) = (Site::new(), greeting("220 hello\r\n"), free_port());
    let write =
        |checks: &str| site.write(&[("a", &[&server], &format!("interval = 0.1\n{checks}"))], &[("s", port, "")]);
    let reload = |told: &str| assert_eq!(site.daemon.control("reload"), format!("pool a: {told}\nOk\n"));
    write("watchdog = 'tcp:expect-line=220'");
    site.start();
    wait_for(&site, "READY", "");
    write("watchdog = { type = 'tcp', steps = [{ expect-line = '+OK' }] }\ntimeout = 0.3");
    reload("destinations are checked otherwise");
    wait_for(&site, "DOWN", r"expected a line that begins with '+OK', got '220 hello\r\n'");
    // The same words in another form are the same.
    write("watchdog = 'tcp:;expect-line=+OK'\ntimeout = 0.3");
    assert_eq!(site.daemon.control("reload"), "Ok\n");
    write("watchdog = 'tcp:;expect-line=220'\ntimeout = 0.3\ndown-interval = 3600");
    reload("destinations are checked otherwise");
    wait_for(&site, "READY", "");
    is_well.store(false, Ordering::SeqCst);
    wait_for(&site, "DOWN", r"expected a line that begins with '220', got 'go away\r\n'");
    is_well.store(true, Ordering::SeqCst);
    write("watchdog = 'tcp:;expect-line=220'\ntimeout = 0.3\ndown-interval = 0.1");
    reload("destinations are checked otherwise");
    wait_for(&site, "READY", "");
}

#[test]
fn a_reload_and_an_upgrade_read_the_authorities_again() {
    let server = redis_with_tls();
    let (site, port, file) = (Site::new(), free_port(), server.path("used.pem"));
    let write = |user: &str| {
        let log = site.daemon.directory().join("log");
        let text = format!(
            "[process]\nuser = '{user}'\nlog = '{}'\n[pool.a]\ndestinations = ['{server}']\ninterval = 0.1\ntimeout = 5\n\
            [pool.a.watchdog]\ntype = 'tcp'\nca = '{file}'\nsteps = [{{ send = \"PING\\r\\n\" }}, {{ expect = '+PONG' }}]\n\
            [service.s]\nlisten = '127.0.0.1:{port}'\n",
            log.display()
        );
        fs::write(&site.file, text).expect("a file");
    };
    fs::copy(server.path("ca.pem"), &file).expect("a file");
    write("root");
    site.start();
    wait_for(&site, "READY", "");
    fs::copy(server.path("other.pem"), &file).expect("a file");
    assert_eq!(site.daemon.control("reload"), "pool a: its checks log in otherwise\nOk\n");
    wait_until("it is DOWN", || states(&site)[0].0 == "DOWN");
    fs::write(&file, "nothing").expect("a file");
    let answer = site.daemon.control("reload");
    assert!(answer.contains(&format!("{file}: no certificate in PEM")), "{answer}");
    fs::copy(server.path("ca.pem"), &file).expect("a file");
    assert_eq!(site.daemon.control("reload"), "pool a: its checks log in otherwise\nOk\n");
    wait_for(&site, "READY", "");
    site.daemon.upgrade();
    wait_for(&site, "READY", "");
}

/// An agent at a port of 127.0.0.1.
fn agent(port: u16) -> (Server, Arc<Mutex<&'static str>>) {
    let line = Arc::new(Mutex::new("down # by its agent"));
    let says = Arc::clone(&line);
    let agent = Server::at(([127, 0, 0, 1], port).into(), move |mut stream| {
        stream.write_all(says.lock().expect("no panic").as_bytes()).ok();
    });
    (agent, line)
}

#[test]
fn an_agent_comes_and_goes_with_a_reload_and_its_word_with_it() {
    let (site, server, port, agent_port) = (Site::new(), Server::echo(), free_port(), free_port());
    let (_agent, line) = agent(agent_port);
    let write = |more: &str| {
        site.write(&[("a", &[&server], &format!("interval = 0.1\nwatchdog = 'tcp'\n{more}"))], &[("s", port, "")]);
    };
    write("");
    site.start();
    wait_for(&site, "READY", "");
    for _ in 0..2 {
        write(&format!("agent = {agent_port}\nagent-interval = 0.1"));
        assert_eq!(site.daemon.control("reload"), "pool a: destinations are checked otherwise\nOk\n");
        wait_for(&site, "DOWN", "agent: down: by its agent");
        write("");
        assert_eq!(site.daemon.control("reload"), "pool a: destinations are checked otherwise\nOk\n");
        wait_for(&site, "READY", "");
    }
    *line.lock().expect("no panic") = "25%";
    write(&format!("agent = {agent_port}"));
    site.daemon.control("reload");
    let weight = || Watch::parse(&site.daemon.control("getwatch")).rows[0].weight_in_force;
    wait_until("a quarter is in force", || weight() == 0.25);
    write("");
    site.daemon.control("reload");
    wait_until("all of it is in force again", || weight() == 1.0);
}

#[test]
fn what_an_agent_has_said_holds_through_upgrades_though_it_is_silent_by_then() {
    let (server, agent_port) = (Server::echo(), free_port());
    for (said, state, reason, weight) in [
        ("down # by its agent", "DOWN", "agent: down: by its agent", 1.0),
        ("drain 50%", "AVOID", "agent: drain", 0.5),
        ("up 50%", "READY", "", 0.5),
    ] {
        let (mut agent, line) = agent(agent_port);
        *line.lock().expect("no panic") = said;
        let number = agent_port.to_string();
        let arguments = ["--user", "root", "-w", "tcp", "-i", "0.1", "--slow-start", "1", "--agent", &number];
        let daemon = Daemon::started(&[&arguments[..], &[&server.to_string()]].concat());
        let seen = || {
            let row = Watch::parse(&daemon.control("getwatch")).rows.remove(0);
            let in_force = if row.state == "READY" { row.weight_in_force } else { weight };
            (row.state, row.reason, in_force)
        };
        let expected = (state.to_owned(), reason.to_owned(), weight);
        wait_until(said, || seen() == expected);
        agent.stop();
        for _ in 0..2 {
            let before = server.accepted();
            daemon.upgrade();
            // A check that is noticed by nobody leaves no trace; several intervals do.
            let since = std::time::Instant::now();
            wait_until("some checks were made", || since.elapsed() > Duration::from_millis(600));
            assert_eq!((seen(), server.accepted()), (expected.clone(), before), "{said}");
        }
    }
}
