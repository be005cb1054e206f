//! The same in JSON, for programs.

use serde_json::Value;

use crate::harness::{Glbd, Server, echoes, free_port, wait_until};
use crate::services::{Site, served};

fn json(answer: &str) -> Value {
    assert_eq!(answer.lines().count(), 1, "{answer}");
    serde_json::from_str(answer).expect("JSON")
}

#[test]
fn everything_is_one_object_and_says_what_the_text_says() {
    let servers = [Server::echo(), Server::echo()];
    let glbd = Glbd::builder().args(["--single", "--backups"]).arg(&servers[1]).destinations([&servers[0]]).start();
    let client = glbd.connect();
    assert!(echoes(&client));
    let (info, all) = (glbd.info(), json(&glbd.control("getinfo json")));
    assert_eq!(all["process"]["connections"], info.total);
    assert_eq!(all["process"]["max_connections"], info.max);
    assert_eq!(all["process"]["pid"].as_i64(), Some(i64::from(glbd.pid().as_raw())));
    let service = &all["services"][0];
    assert_eq!((&service["name"], &service["policy"]), (&Value::from("main"), &Value::from("single")));
    assert_eq!((&service["writer"], &service["ready"]), (&Value::from(servers[0].to_string()), &Value::from(true)));
    for (row, destination) in info.rows.iter().zip(all["pools"][0]["destinations"].as_array().expect("a list")) {
        assert_eq!(destination["address"], row.address);
        assert_eq!(destination["connections"]["now"], row.conns);
        assert_eq!(destination["writer"], row.is_single);
        assert_eq!(destination["backup"], i32::from(row.address == servers[1].to_string()));
    }
    let pools = json(&glbd.control("GETWATCH json"));
    assert_eq!((&pools[0]["name"], &pools[0]["connects"]), (&all["pools"][0]["name"], &all["pools"][0]["connects"]));
}

#[test]
fn what_is_read_in_json_is_reset_for_nobody() {
    let glbd = Glbd::start([Server::echo().address()]);
    let before = json(&glbd.control("getstats json"));
    drop(glbd.connect());
    wait_until("it is counted", || json(&glbd.control("getstats json"))["accepted"] == 1);
    assert_eq!(before["accepted"], 0);
    assert_eq!(json(&glbd.control("getstats json"))["accepted"], 1);
    assert_eq!(glbd.stats().created, 1, "getstats counts from its own last time");
    assert_eq!(json(&glbd.control("getstats json"))["accepted"], 1);
}

#[test]
fn each_service_and_pool_is_there_by_its_name() {
    let (site, servers, ports) = (Site::new(), [Server::echo(), Server::echo()], [free_port(), free_port()]);
    site.write(
        &[("one", &[&servers[0]], ""), ("other", &[&servers[1]], "")],
        &[("a", ports[0], "pool = 'one'"), ("b", ports[1], "pool = 'other'\nmax-connections = 1")],
    );
    site.start();
    let _client = served(ports[1]);
    let all = json(&site.daemon.control("getinfo json"));
    let names = |list: &Value| -> Vec<String> {
        list.as_array().expect("a list").iter().map(|it| it["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(
        (names(&all["services"]), names(&all["pools"])),
        (vec!["a".into(), "b".into()], vec!["one".into(), "other".into()])
    );
    assert_eq!(all["services"][1]["pool"], "other");
}
