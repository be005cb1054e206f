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

/// A Prometheus that scrapes `web` once a second, until this is dropped.
pub(super) struct Prometheus {
    process: std::process::Child,
    address: std::net::SocketAddr,
    _directory: tempfile::TempDir,
}

impl Prometheus {
    pub(super) fn of(web: &Web) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], crate::harness::free_port()));
        let file = directory.path().join("prometheus.yml");
        let target = format!("static_configs: [{{targets: ['{}']}}]", web.0);
        let text = format!("global: {{scrape_interval: 1s}}\nscrape_configs:\n  - job_name: glbd\n    {target}\n");
        std::fs::write(&file, text).expect("a file");
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus, from Debian's package");
        Self { process, address, _directory: directory }
    }

    /// The value of an expression that has one.
    pub(super) fn value(&self, expression: &str) -> Option<f64> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let path = format!("/api/v1/query?query={encoded}");
        let answer = Web(self.address).try_to_ask("GET", &path, &[], "").ok()?;
        let answer: serde_json::Value = serde_json::from_str(&answer.body).ok()?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[test]
fn a_real_prometheus_counts_what_its_clients_know() {
    let server = Server::echo();
    let (glbd, web) = Web::of(&["--max_conn", "100"], &[&server]);
    let prometheus = Prometheus::of(&web);
    wait_until("it scrapes", || prometheus.value("up{job='glbd'}") == Some(1.0));
    for _ in 0..25 {
        assert!(echoes(&glbd.connect()));
    }
    let ended = "glbd_service_ended_connections_total{cause='client'}";
    wait_until("it has counted them", || prometheus.value(ended) == Some(25.0));
    assert_eq!(prometheus.value("glbd_service_accepted_connections_total"), Some(25.0));
    assert_eq!(prometheus.value("glbd_destination_established_connections_total"), Some(25.0));
    assert_eq!(prometheus.value("glbd_service_connect_duration_seconds_count"), Some(25.0));
    assert_eq!(prometheus.value("glbd_service_connect_duration_seconds_bucket{le='+Inf'}"), Some(25.0));
    assert_eq!(prometheus.value("sum(glbd_destination_connect_failures_total)"), Some(0.0));
    let length = "still there?\n".len() as f64;
    assert_eq!(prometheus.value("glbd_service_received_bytes_total"), Some(25.0 * length));
    assert_eq!(prometheus.value("glbd_connections_limit"), Some(100.0));
}
