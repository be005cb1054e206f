//! A real Prometheus scrapes while wrk loads glbd, and a destination falls and returns: what it has counted agrees with
//! what wrk, the servers and the clock say.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Web;
use super::metrics::Prometheus;
use crate::harness::{Server, SilentDestination, connect_to, free_port, wait_until};
use crate::services::{Site, at};

/// Connections that wrk has at a time.
const CLIENTS: usize = 8;
/// Between two checks.
const INTERVAL: f64 = 0.2;

#[test]
fn prometheus_agrees_with_wrk_the_servers_and_the_clock() {
    agrees_for(Duration::from_secs(8));
}

#[test]
#[ignore = "takes five minutes"]
fn prometheus_agrees_with_wrk_the_servers_and_the_clock_for_five_minutes() {
    agrees_for(Duration::from_secs(300));
}

/// Answers one request, and counts it.
fn answer(mut stream: &TcpStream, count: &AtomicUsize) {
    let mut request = [0; 4096];
    // Checks send nothing.
    if stream.read(&mut request).is_ok_and(|length| length > 0) {
        count.fetch_add(1, Ordering::SeqCst);
        let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\n";
        // One that is gone is not interested any more.
        stream.write_all(format!("{head}yes").as_bytes()).ok();
    }
}

/// What wrk says at its end.
struct Report {
    requests: f64,
    per_second: f64,
    /// In seconds: half of the requests, and 99 of a hundred, took no longer.
    latency: [f64; 2],
}

impl Report {
    fn parse(text: &str) -> Report {
        let errors = text.lines().find_map(|line| line.trim().strip_prefix("Socket errors:")).unwrap_or_default();
        let errors = errors.split([' ', ',']).filter_map(|word| word.parse::<usize>().ok()).sum::<usize>();
        assert!(errors <= CLIENTS && !text.contains("Non-2xx"), "those that the kernel had accepted alone: {text}");
        let behind = |label: &str| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(label));
            line.unwrap_or_else(|| panic!("no {label} in {text}")).trim()
        };
        let requests = text.lines().find_map(|line| line.split_once(" requests in ")).expect("requests").0;
        Report {
            requests: requests.trim().parse().expect("a number"),
            per_second: behind("Requests/sec:").parse().expect("a number"),
            latency: ["50%", "99%"].map(|label| seconds(behind(label))),
        }
    }
}

/// A time such as `3.41ms`.
fn seconds(text: &str) -> f64 {
    let units = [("us", 1e-6), ("ms", 1e-3), ("m", 60.0), ("s", 1.0)];
    let found = units.iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, size)));
    let (number, size) = found.expect("a unit");
    number.parse::<f64>().expect("a number") * size
}

fn agrees_for(time: Duration) {
    let counts = [0; 3].map(|_| Arc::new(AtomicUsize::new(0)));
    let mut servers = counts.each_ref().map(|count| {
        let count = Arc::clone(count);
        Server::serving(move |stream| answer(stream, &count))
    });
    let options = ["-w", "tcp", "--interval", &INTERVAL.to_string(), "--fall", "1", "--rise", "1"];
    let (glbd, web) = Web::of(&options, &servers.each_ref());
    let prometheus = Prometheus::of(&web);
    let value = |expression: &str| prometheus.value(expression).unwrap_or_else(|| panic!("no {expression}"));
    wait_until("it scrapes", || prometheus.value("sum(glbd_destination_verdict{verdict='READY'})") == Some(3.0));

    let wrk = Command::new("wrk")
        .args(["--threads=1", "--latency", "--timeout=60s", "--header=Connection: close"])
        .arg(format!("--connections={CLIENTS}"))
        .arg(format!("--duration={}s", time.as_secs()))
        .arg(format!("http://{}/", glbd.address()))
        .stdout(Stdio::piped())
        .spawn()
        .expect("wrk, from Debian's package");
    thread::sleep(time / 4);
    servers[2].stop_listening();
    let fallen = Instant::now();
    thread::sleep(time / 4);
    servers[2].start();
    let out = fallen.elapsed().as_secs_f64();
    let output = wrk.wait_with_output().expect("it ends");
    let report = Report::parse(&String::from_utf8_lossy(&output.stdout));

    let served = || counts.each_ref().map(|count| count.load(Ordering::SeqCst) as f64);
    wait_until("all is over and counted", || {
        prometheus.value("glbd_connections") == Some(0.0)
            && prometheus.value("sum(glbd_destination_established_connections_total)") >= Some(served().iter().sum())
    });
    let served = served();
    let all: f64 = served.iter().sum();
    println!("what{:>44}{:>14}", "known", "Prometheus");
    let compare = |what: &str, known: f64, found: f64, tolerance: f64| {
        println!("{what:<34}{known:>14.4}{found:>14.4}");
        assert!((known - found).abs() <= tolerance, "{what}: known {known}, found {found}");
    };
    // wrk leaves in the middle of its last requests, and some are in the backlog when a server falls.
    let left = 2.0 * CLIENTS as f64;
    compare("requests of wrk, clients", report.requests, value("glbd_service_accepted_connections_total"), left);
    for (server, served) in servers.iter().zip(served) {
        let of = format!("{{destination='{server}'}}");
        let found = value(&format!("glbd_destination_established_connections_total{of}"));
        compare(&format!("clients of {server}"), served, found, left);
        let window = time.as_secs() / 2;
        let rate = value(&format!(
            "max_over_time(rate(glbd_destination_established_connections_total{of}[4s])[{window}s:1s])"
        ));
        assert!(rate > 0.0, "{server} has had clients: {rate}");
    }
    let range = time.as_secs();
    let rate = format!("sum(increase(glbd_destination_established_connections_total[{}s])) / {range}", range + 5);
    compare("clients a second", report.per_second, value(&rate), report.per_second * 0.1);

    // Whoever met a closed port went on to another destination: wrk has seen no error.
    let attempts = value("sum(glbd_destination_connect_attempts_total)");
    let refused = value("sum(glbd_destination_connect_failures_total{reason='refused'})");
    compare("attempts that nobody has taken", attempts - all, refused, left);
    compare("other failures", 0.0, value("sum(glbd_destination_connect_failures_total{reason!='refused'})"), 0.0);
    assert_eq!(value("sum(glbd_service_ended_connections_total{cause='no-destination'}) or vector(0)"), 0.0);

    let of = format!("{{destination='{}',verdict!='READY'}}", servers[2]);
    compare(
        "seconds not READY",
        out,
        value(&format!("sum(glbd_destination_verdict_seconds_total{of})")),
        1.0 + INTERVAL,
    );
    compare("times DOWN", 1.0, value(&format!("glbd_destination_downs_total{{destination='{}'}}", servers[2])), 0.0);

    // To connect is a part of what wrk waits for. Quantiles lie somewhere in the histogram's steps.
    for (share, latency) in [0.5, 0.99].into_iter().zip(report.latency) {
        let found = value(&format!("histogram_quantile({share}, glbd_service_connect_duration_seconds_bucket)"));
        println!("connect p{:<25}< {latency:>14.6}{found:>14.6}", share * 100.0);
        assert!(0.0 < found && found < (2.5 * latency).max(0.001), "p{share}: {found} s of {latency} s");
    }
}

/// How long it took until something was heard through a port of glbd, in seconds; `None` where nothing was.
fn heard_after(port: u16) -> Option<f64> {
    let begun = Instant::now();
    let mut client = connect_to(at(port)).expect("glbd accepts");
    client.read(&mut [0; 16]).is_ok_and(|length| length > 0).then(|| begun.elapsed().as_secs_f64())
}

/// Each way in which a connect fails, so often, and connects that are quick or take a second.
#[test]
fn failures_by_reason_and_times_of_connects_are_those_that_clients_have_met() {
    let (site, web, ports) = (Site::new(), Web::new(), [0; 5].map(|_| free_port()));
    let [refused, timed_out, turned_down, other, slow] = ports;
    let (closed, silent, mute, full) = (
        at(free_port()),
        SilentDestination::start(),
        Server::serving(|_| {}),
        [0; 4].map(|_| SilentDestination::start()),
    );
    // Who connects to a socket of another kind hears of neither a port nor a time.
    let wrong = site.daemon.directory().join("datagrams");
    let _wrong = UnixDatagram::bind(&wrong).expect("a socket");
    let mut text = format!("[process]\nuser = \"root\"\nhttp = \"{}\"\n", web.0);
    let kinds = [
        ("refused", refused, closed.to_string(), ""),
        ("timed-out", timed_out, silent.to_string(), "connect-timeout = 0.3\n"),
        ("turned-down", turned_down, mute.to_string(), "greeting = \"mysql\"\n"),
        ("other", other, format!("unix:{}", wrong.display()), ""),
        ("slow", slow, full.each_ref().map(ToString::to_string).join("\", \""), ""),
    ];
    for (name, port, destination, more) in kinds {
        text += &format!("[pool.{name}]\ndestinations = [\"{destination}\"]\n");
        text += &format!("[service.{name}]\npool = \"{name}\"\nlisten = \"127.0.0.1:{port}\"\n{more}");
    }
    fs::write(&site.file, text).expect("a file");
    site.start();
    let prometheus = Prometheus::of(&web);

    let known =
        [("refused", refused, 23), ("timed-out", timed_out, 4), ("turned-down", turned_down, 17), ("other", other, 11)];
    for (_, port, count) in known {
        assert!((0..count).all(|_| heard_after(port).is_none()));
    }
    // One for each destination. Their first packets are dropped, and sent again after a second.
    let late: Vec<_> = (0..4).map(|_| thread::spawn(move || heard_after(slow))).collect();
    thread::sleep(Duration::from_millis(300));
    full.into_iter().for_each(|it| it.accept(|mut stream| drop(stream.write_all(b"welcome"))));
    let mut times: Vec<f64> = late.into_iter().map(|it| it.join().expect("a client").expect("a welcome")).collect();
    assert!(times.iter().all(|time| *time >= 1.0), "{times:?}");
    times.extend((0..60).map(|_| heard_after(slow).expect("a welcome")));
    times.sort_by(f64::total_cmp);

    let all = |reason: &str| format!("glbd_destination_connect_failures_total{reason}");
    let connects = "glbd_service_connect_duration_seconds";
    wait_until("all is scraped", || {
        prometheus.value(&format!("{connects}_count{{service='slow'}}")) == Some(times.len() as f64)
    });
    let value = |expression: &str| prometheus.value(expression).unwrap_or_else(|| panic!("no {expression}"));
    for (name, _, count) in known {
        let found = value(&all(&format!("{{pool='{name}',reason='{name}'}}")));
        assert_eq!(found, f64::from(count), "{name}");
        assert_eq!(value(&format!("sum({})", all(&format!("{{pool='{name}'}}")))), found, "and for no other reason");
    }
    assert_eq!(value(&format!("sum({})", all("{pool='slow'}"))), 0.0);
    // In the same steps of the histogram as the clients' own times, and as long in all.
    let steps =
        [0.0, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
    for share in [0.5, 0.99] {
        let known = times[(times.len() as f64 * share) as usize];
        let found = value(&format!("histogram_quantile({share}, {connects}_bucket{{service='slow'}})"));
        let above = steps.iter().copied().find(|step| *step >= known).expect("a step");
        assert!(found <= above, "p{share}: {known} s known, {found} s found");
        assert!(share < 0.9 || found >= 1.0, "p{share}: {known} s known, {found} s found");
    }
    let (known, found) = (times.iter().sum::<f64>(), value(&format!("{connects}_sum{{service='slow'}}")));
    assert!(found >= 4.0 && found <= known, "clients have waited for {known} s, connects taken {found} s");
}
