//! `/metrics`, as Prometheus itself reads them.

use std::io::Write;
use std::process::{Command, Stdio};

use super::Web;
use crate::harness::{Server, echoes, wait_until};

/// Runs promtool with this as its input; panics unless it is silent.
fn promtool(arguments: &[&str], input: &str) {
    let command = Command::new("promtool").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = command.expect("promtool, from Debian's package prometheus");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}{}\n{input}", output.status);
}

fn value(metrics: &str, sample: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn prometheus_has_nothing_to_say_against_them() {
    let (servers, down) = ([Server::echo(), Server::echo()], Server::echo());
    let (glbd, web) = Web::of(&["--single"], &[&servers[0], &servers[1], &down]);
    assert!(echoes(&glbd.connect()));
    let answer = web.get("/metrics");
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    promtool(&["check", "metrics"], &answer.body);
    let of = format!("{{pool=\"main\",destination=\"{}\"", servers[0]);
    assert_eq!(value(&answer.body, &format!("glbd_destination_writer{of}}}")), Some(1.0));
    assert_eq!(value(&answer.body, &format!("glbd_destination_verdict{of},verdict=\"READY\"}}")), Some(1.0));
    assert_eq!(value(&answer.body, &format!("glbd_destination_verdict{of},verdict=\"DOWN\"}}")), Some(0.0));
}

#[test]
fn counters_say_what_has_happened() {
    let server = Server::echo();
    let (glbd, web) = Web::of(&[], &[&server]);
    let client = glbd.connect();
    assert!(echoes(&client));
    let metrics = web.get("/metrics").body;
    assert_eq!(value(&metrics, "glbd_connections"), Some(1.0));
    assert_eq!(value(&metrics, "glbd_accepted_connections_total"), Some(1.0));
    assert!(value(&metrics, "glbd_start_time_seconds").is_some_and(|it| it > 1e9));
    drop(client);
    wait_until("it is seen to be gone", || value(&web.get("/metrics").body, "glbd_connections") == Some(0.0));
    let metrics = web.get("/metrics").body;
    assert_eq!(value(&metrics, "glbd_accepted_connections_total"), Some(1.0));
    assert!(value(&metrics, "glbd_received_bytes_total").is_some_and(|it| it > 0.0), "{metrics}");
}

#[test]
fn who_asks_for_openmetrics_gets_them() {
    let server = Server::echo();
    let (_glbd, web) = Web::of(&[], &[&server]);
    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    let answer = web.ask("GET", "/metrics", &[accept], "");
    assert!(answer.head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{}", answer.head);
    assert!(answer.body.ends_with("# EOF\n"), "{}", answer.body);
    assert!(answer.body.contains("# TYPE glbd_accepted_connections counter\n"));
    assert!(answer.body.contains("\nglbd_accepted_connections_total 0\n"));
    assert!(answer.body.contains("# UNIT glbd_received_bytes bytes\n"));
}

#[test]
fn each_alert_fires_once_and_none_without_a_reason() {
    let project = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let alerts = project.join("docs/alerts.yml").display().to_string();
    let cases = std::fs::read_to_string(project.join("tests/system/http/alerts.yml")).expect("the cases");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("cases.yml").display().to_string();
    std::fs::write(&file, cases.replace("[ALERTS]", &format!("[{alerts}]"))).expect("a file");
    for arguments in [["check", "rules", &alerts], ["test", "rules", &file]] {
        let output =
            Command::new("promtool").args(arguments).output().expect("promtool, from Debian's package prometheus");
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn dashboard_and_alerts_use_metrics_that_there_are() {
    let server = Server::echo();
    let (_glbd, web) = Web::of(&[], &[&server]);
    let metrics = web.get("/metrics").body;
    let project = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut used = 0;
    for file in ["docs/grafana.json", "docs/alerts.yml", "docs/monitoring.md"] {
        let text = std::fs::read_to_string(project.join(file)).expect("a file");
        let in_name = |letter: char| letter.is_ascii_lowercase() || letter == '_';
        for name in text.split(|letter| !in_name(letter)).filter(|name| name.starts_with("glbd_") && name.len() > 5) {
            let is_there = [' ', '{'].iter().any(|end| metrics.contains(&format!("\n{name}{end}")))
                || metrics.contains(&format!("# TYPE {name} "));
            assert!(is_there, "{file} has {name}");
            used += 1;
        }
    }
    assert!(used > 50, "the names were found: {used}");
    let dashboard = std::fs::read_to_string(project.join("docs/grafana.json")).expect("a file");
    let _: serde_json::Value = serde_json::from_str(&dashboard).expect("JSON");
}
