//! What each command shows and changes.

use std::fs;
use std::io::Write;

use super::{bare, ctl, run};
use crate::harness::client::connect_from;
use crate::harness::{Glbd, Server, free_port, wait_until};
use crate::services::{Site, served};

/// The row of a table that begins so, without the blanks between its cells.
fn row(text: &str, beginning: &str) -> Vec<String> {
    let found = text.lines().find(|line| line.starts_with(beginning));
    found.unwrap_or_else(|| panic!("{beginning} in {text}")).split_whitespace().map(str::to_owned).collect()
}

#[test]
fn status_shows_services_and_destinations() {
    let (up, down) = (Server::echo(), free_port());
    let glbd = Glbd::builder()
        .args(["-w", "tcp", "--interval=0.2", "--fall=1", "--single"])
        .arg(format!("--service-max-connections={}", 50))
        .destinations([up.to_string(), format!("127.0.0.1:{down}:2")])
        .start();
    let control = glbd.control_address();
    wait_until("it is seen", || glbd.control("getwatch").contains("DOWN"));
    let client = served(glbd.address().port());
    wait_until("it is counted", || ctl(control, "status").text().contains("1/50"));
    let text = ctl(control, "status").text().to_owned();
    assert!(text.starts_with("glbd 2.0.0, process "), "{text}");
    let service = row(&text, "main");
    assert_eq!(service[..4], ["main", "main", &glbd.address().to_string(), "single"]);
    assert!(service[4].ends_with("/50"), "{text}");
    assert!(service.contains(&"ready".into()), "{text}");
    let good = row(&text, &up.to_string());
    assert_eq!([&good[1], &good[3], &good[4]], ["READY", "1", "1"]);
    assert!(row(&text, &up.to_string()).contains(&"writer".into()), "{text}");
    let bad = row(&text, &format!("127.0.0.1:{down}"));
    assert_eq!([&bad[1], &bad[3]], ["DOWN", "2"]);
    assert!(text.contains("Connection refused"), "{text}");
    assert!(!text.contains('\u{1b}'), "colours are for terminals: {text:?}");
    let all = ctl(control, "--json status").json().remove(0);
    assert_eq!(all["pools"][0]["destinations"][1]["verdict"], "DOWN");
    let destinations = &all["pools"][0]["destinations"];
    assert_eq!((&destinations[0]["shares"]["main"], &destinations[1]["shares"]), (&1.0.into(), &serde_json::json!({})));
    assert_eq!((&destinations[0]["weight_in_force"], &destinations[1]["weight_in_force"]), (&1.0.into(), &0.0.into()));
    let since = all["services"][0]["writer_since"].as_str().expect("there is a writer").to_owned();
    assert!(text.contains(since.split('.').next().expect("a time")), "{text}");
    let day = ctl(control, "history");
    assert_eq!(row(day.text(), &format!("127.0.0.1:{down}"))[1], "DOWN", "{day:?}");
    assert!(day.text().contains("Connection refused"), "{day:?}");
    for command in ["destinations", "stats"] {
        assert!(ctl(control, command).text().contains(&up.to_string()), "{command}");
        assert_eq!(ctl(control, &format!("{command} --json")).json()[0]["process"]["pid"], glbd.pid().as_raw());
    }
    let history = ctl(control, &format!("history 127.0.0.1:{down}"));
    assert!(history.text().starts_with(&format!("127.0.0.1:{down} is DOWN: Connection refused")), "{history:?}");
    assert_eq!(ctl(control, &format!("history 127.0.0.1:{down} --json")).json()[0]["down_count"], 1);
    drop(client);
}

#[test]
fn destinations_are_changed_and_what_is_refused_is_said() {
    let (one, other) = (Server::echo(), Server::echo());
    let glbd = Glbd::start([&one]);
    let control = glbd.control_address();
    let weight = |server: &Server| glbd.info().row(server).weight;
    assert_eq!(ctl(control, &format!("add {other}:2.5")).text(), "");
    assert_eq!(weight(&other), 2.5);
    assert_eq!(ctl(control, &format!("weight {other} 4")).text(), "");
    assert_eq!(weight(&other), 4.0);
    assert_eq!(ctl(control, &format!("drain {other}")).text(), "");
    assert_eq!(weight(&other), 0.0);
    assert_eq!(ctl(control, &format!("enable {other} --json")).text(), "{\"lines\":[],\"ok\":true}\n");
    assert_eq!(weight(&other), 4.0);
    assert_eq!(ctl(control, &format!("remove {other}")).text(), "");
    assert_eq!(glbd.info().rows.len(), 1);

    for (command, status, reason) in [
        (format!("drain {other}"), 1, format!("{other}: no such destination\n")),
        (format!("history {other}"), 1, format!("{other}: no such destination\n")),
        (
            format!("writer {one}"),
            1,
            format!("{one}: there is no single destination to move: glbd runs without --single\n"),
        ),
        ("reload".into(), 1, "there is no configuration file: glbd runs without --config\n".into()),
        ("status --pool nosuch".into(), 1, "nosuch: no such pool\n".into()),
        ("status --service nosuch".into(), 1, "nosuch: no such service\n".into()),
        ("clients --pool main".into(), 2, "--pool says nothing to this command\n".into()),
        ("-c 1 status".into(), 2, "only top takes several daemons\n".into()),
        ("top".into(), 2, "top needs a terminal\n".into()),
    ] {
        assert_eq!(ctl(control, &command).refusal(status), reason, "{command}");
    }
    for command in
        ["", "nosuch", "add", "weight 127.0.0.1:1", "--timeout never status", "writer 127.0.0.1:1 --grace -1"]
    {
        assert_eq!(ctl(control, command).status, Some(2), "{command}");
    }
    let refused = ctl(control, "conns --service nosuch");
    assert_eq!(refused.refusal(1), "there is no service 'nosuch'; there are main\n");
    // Nothing can be put behind a command.
    let smuggled = run(bare().args(["-c", &control.to_string(), "drain", &format!("127.0.0.1:1\n{one}:0")]));
    assert_eq!((smuggled.status, weight(&one)), (Some(2), 1.0), "{smuggled:?}");
    let nobody = free_port();
    assert_eq!(ctl(nobody, "status").refusal(3), format!("127.0.0.1:{nobody}: Connection refused (os error 111)\n"));
    assert_eq!(run(&mut bare()).status, Some(2));
    assert!(run(bare().arg("--help")).text().contains("Exit status:"));
    assert!(run(bare().arg("--version")).text().starts_with("glbctl 2."));
}

#[test]
fn the_daemon_is_found_by_option_environment_and_socket_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let socket = format!("unix:{}", directory.path().join("control").display());
    let server = Server::echo();
    let queries = format!("127.0.0.1:{}", free_port());
    let glbd = Glbd::builder()
        .args(["--control", &socket, "--control", &format!("{queries},read-only")])
        .destinations([&server])
        .start();
    let control = glbd.control_address();
    let is_it = |text: &str| text.contains(&format!("process {},", glbd.pid()));
    for address in [control.to_string(), control.port().to_string(), socket.clone(), queries.clone()] {
        assert!(is_it(ctl(&address, "status").text()), "{address}");
        assert!(is_it(run(bare().env("GLB_CONTROL", &address).arg("status")).text()), "{address}");
    }
    assert_eq!(ctl(&socket, &format!("drain {server}")).text(), "");
    let refused = ctl(&queries, &format!("enable {server}"));
    assert!(!refused.refusal(1).is_empty(), "{refused:?}");
    assert_eq!(run(bare().env("GLB_CONTROL", "nonsense").arg("status")).status, Some(2));
    // What the option says counts.
    let both = run(bare().env("GLB_CONTROL", "127.0.0.1:1").args(["status", "-c", &socket]));
    assert!(is_it(both.text()), "{both:?}");
}

#[test]
fn pools_and_services_are_named_where_there_are_several() {
    let (site, servers, ports) = (Site::new(), [Server::echo(), Server::echo()], [free_port(), free_port()]);
    site.write(
        &[("one", &[&servers[0], &servers[1]], ""), ("other", &[&servers[1]], "")],
        &[("a", ports[0], "pool = 'one'\npolicy = 'single'"), ("b", ports[1], "pool = 'other'")],
    );
    site.start();
    let control = site.daemon.control_address();
    let all = ctl(control, "status").text().to_owned();
    assert_eq!(all.lines().filter(|line| line.contains(&servers[1].to_string())).count(), 2, "{all}");
    let one = ctl(control, "status --service b").text().to_owned();
    assert!(!one.contains(&servers[0].to_string()) && !one.contains("\na "), "{one}");
    let json = ctl(control, "status --json --pool one").json().remove(0);
    assert_eq!((json["services"][0]["name"].as_str(), json["pools"].as_array().map(Vec::len)), (Some("a"), Some(1)));
    let ambiguous = ctl(control, &format!("drain {}", servers[1]));
    assert!(ambiguous.refusal(1).contains("say which"), "{ambiguous:?}");
    assert_eq!(ctl(control, &format!("drain {} --pool other --wait", servers[1])).text(), "");
    assert_eq!(ctl(control, &format!("drain one/{} --wait", servers[1])).text(), "");
    assert_eq!(ctl(control, &format!("enable one/{}", servers[1])).text(), "");
    assert_eq!(ctl(control, &format!("writer {} --service a --grace 0", servers[1])).text(), "");
    let json = ctl(control, "status --json --service a").json().remove(0);
    assert_eq!(json["services"][0]["writer"], servers[1].to_string());
}

#[test]
fn files_are_checked_and_read_again() {
    let (site, server, port) = (Site::new(), Server::echo(), free_port());
    site.write(&[("p", &[&server], "")], &[("s", port, "")]);
    site.start();
    let control = site.daemon.control_address();
    assert_eq!(run(bare().args(["check", &site.file])).status, Some(0));
    site.write(&[("p", &[&server], "")], &[("s", port, "retries = 9")]);
    assert_eq!(ctl(control, "reload").text(), "service s: connections have other options\n");
    assert_eq!(ctl(control, "--json reload").json()[0]["ok"], true);
    fs::write(&site.file, "[pool.p]\nnonsense = 1\n").expect("a file");
    let wrong = run(bare().args(["check", &site.file]));
    assert!(wrong.refusal(1).contains("nonsense"), "{wrong:?}");
    let refused = ctl(control, "reload");
    assert!(refused.refusal(1).contains("nonsense"), "{refused:?}");
    assert_eq!(run(bare().args(["check", "/nonexistent"])).status, Some(1));
}

#[test]
fn clients_that_a_rule_or_a_limit_has_reset_are_turned_away_and_counted_once() {
    let server = Server::echo();
    for (options, first_bytes) in
        [(&[][..], ""), (&["--accept-proxy=127.0.0.0/8"], "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n")]
    {
        let limits = ["--deny=127.0.0.2,192.0.2.0/24", "--max-connections-per-source=1"];
        let glbd = Glbd::builder().args(limits).args(options).destinations([&server]).start();
        let turned_away = || {
            let text = ctl(glbd.control_address(), "status").text().to_owned();
            let (title, row) = (text.lines().nth(2), text.lines().nth(3));
            let end = title.and_then(|it| it.find("TURNED AWAY")).expect("the column") + "TURNED AWAY".len();
            row.and_then(|row| row[..end].split_whitespace().last()).expect("a count").to_owned()
        };
        assert_eq!(turned_away(), "0");
        let connect = |source| {
            // It may have been reset already.
            let mut client = connect_from(source, glbd.address()).ok()?;
            client.write_all(first_bytes.as_bytes()).ok().map(|()| client)
        };
        let denied = connect([127, 0, 0, 2]);
        wait_until("it is counted", || turned_away() == "1");
        let limited = first_bytes.is_empty().then(|| [connect([127, 0, 0, 3]), connect([127, 0, 0, 3])]);
        let count = if limited.is_some() { "2" } else { "1" };
        wait_until("those above the limit are as well", || turned_away() == count);
        drop((denied, limited));
    }
}
