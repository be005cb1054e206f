//! Metrics, of the process, of each service, pool and destination.

mod text;

use std::time::SystemTime;

use crate::counters::{Cause, CheckResult, HistogramKind, LimitReached};
use crate::status::{Connects, Destination, Pool, Service, Status, Times, started};
pub(super) use text::Format;
use text::{Kind, Labels, Page};

/// The verdicts there are, as a label says them.
const VERDICTS: [&str; 5] = ["READY", "SPARE", "AVOID", "DOWN", "UNKNOWN"];

/// Everything, in this format.
pub(super) fn render(status: &Status, format: Format) -> String {
    let mut page = Page::new(format);
    process(&mut page, status);
    services(&mut page, status);
    pools(&mut page, status);
    destinations(&mut page, status);
    page.finish()
}

fn process(page: &mut Page, status: &Status) {
    let process = &status.process;
    let started = started().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    page.metric("build_info", Kind::Gauge, "The version of the program.");
    page.sample(&[("version", &process.version)], 1);
    page.metric(
        "start_time_seconds",
        Kind::Gauge,
        "When the first of the processes started that took over from each other.",
    );
    page.sample(&[], started);
    page.metric("connections", Kind::Gauge, "Client connections, those of older processes included.");
    page.sample(&[], process.connections);
    page.metric("own_connections", Kind::Gauge, "Client connections of this process.");
    page.sample(&[], process.own_connections);
    page.metric("connections_limit", Kind::Gauge, "Most client connections.");
    page.sample(&[], process.max_connections);
    page.metric("paused", Kind::Gauge, "Whether new clients wait until it goes on.");
    page.sample(&[], u8::from(process.paused));
    page.metric("accepted_connections", Kind::Counter, "Clients accepted.");
    page.sample(&[], process.accepted);
    page.metric("received_bytes", Kind::Counter, "Bytes received from clients.");
    page.sample(&[], process.bytes_in);
    page.metric("sent_bytes", Kind::Counter, "Bytes sent to clients.");
    page.sample(&[], process.bytes_out);
}

/// What is reported about several of a kind, under names that begin with what they are.
struct Each<'e, T> {
    page: &'e mut Page,
    /// `service`, `pool` or `destination`.
    what: &'static str,
    all: Vec<(Vec<(&'e str, &'e str)>, &'e T)>,
}

impl<T> Each<'_, T> {
    fn metric(&mut self, name: &str, kind: Kind, help: &str) {
        self.page.metric(&format!("{}_{name}", self.what), kind, help);
    }

    fn number(&mut self, name: &str, kind: Kind, help: &str, value: impl Fn(&T) -> f64) {
        self.some(name, kind, help, |it| Some(value(it)));
    }

    /// Counts, which are written exactly.
    fn count(&mut self, name: &str, help: &str, value: impl Fn(&T) -> u64) {
        self.metric(name, Kind::Counter, help);
        self.all.iter().for_each(|(labels, it)| self.page.sample(labels, value(it)));
    }

    /// Of those that have such a value.
    fn some(&mut self, name: &str, kind: Kind, help: &str, value: impl Fn(&T) -> Option<f64>) {
        self.metric(name, kind, help);
        for (labels, it) in &self.all {
            value(it).into_iter().for_each(|value| self.page.sample(labels, value));
        }
    }

    /// One value for each that a label may have.
    fn by(&mut self, name: &str, kind: Kind, help: &str, label: &str, values: impl Fn(&T) -> Vec<(&str, f64)>) {
        self.metric(name, kind, help);
        for (labels, it) in &self.all {
            for (key, value) in values(it) {
                self.page.sample(&with(labels, (label, key)), value);
            }
        }
    }

    fn connects(&mut self, of: impl Fn(&T) -> Connects) {
        self.count("connect_attempts", "Attempts to connect to destinations.", |it| of(it).tried);
        self.by("connect_failures", Kind::Counter, "Attempts that have failed, by reason.", "reason", |it| {
            let Connects { refused, timed_out, turned_down, failed, .. } = of(it);
            let all = [("refused", refused), ("timed-out", timed_out), ("turned-down", turned_down), ("other", failed)];
            all.map(|(reason, count)| (reason, count as f64)).to_vec()
        });
        self.count("redispatches", "Clients that went on to another destination after a failure.", |it| {
            of(it).redispatched
        });
    }

    /// Histograms of these kinds, also where nothing was measured.
    fn times(&mut self, kinds: &[HistogramKind], of: impl Fn(&T) -> &[Times]) {
        for kind in kinds {
            let help = match kind {
                HistogramKind::Connect => "From the attempt to connect until the destination serves.",
                HistogramKind::FirstByte => "From then until the first byte of the destination.",
                HistogramKind::Queue => "How long clients have waited for room on a destination.",
                HistogramKind::Duration => "From accepting a client until its connection has ended.",
                HistogramKind::Check => "How long checks have taken.",
            };
            let name = match kind {
                HistogramKind::Duration => "connection_duration_seconds".to_owned(),
                kind => format!("{}_duration_seconds", kind.name()),
            };
            self.metric(&name, Kind::Histogram, help);
            for (labels, it) in &self.all {
                histogram(self.page, labels, *kind, of(it).iter().find(|times| times.what == kind.name()));
            }
        }
    }
}

fn with<'l>(labels: &[(&'l str, &'l str)], more: (&'l str, &'l str)) -> Vec<(&'l str, &'l str)> {
    labels.iter().copied().chain([more]).collect()
}

fn histogram(page: &mut Page, labels: Labels, kind: HistogramKind, times: Option<&Times>) {
    for (step, bound) in kind.bounds().iter().enumerate() {
        let count = times.and_then(|it| it.buckets.get(step)).map_or(0, |it| it.count);
        let bound = *bound as f64 / 1e6;
        // OpenMetrics has bounds look like floats.
        let bound = if bound.fract() == 0.0 { format!("{bound:.1}") } else { bound.to_string() };
        page.part("_bucket", labels, Some(&bound), count);
    }
    let count = times.map_or(0, |it| it.count);
    page.part("_bucket", labels, Some("+Inf"), count);
    page.part("_sum", labels, None, times.map_or(0.0, |it| it.sum));
    page.part("_count", labels, None, count);
}

fn services(page: &mut Page, status: &Status) {
    let all = status.services.iter().map(|it| (vec![("service", it.name.as_str()), ("pool", &it.pool)], it));
    let mut each = Each { page, what: "service", all: all.collect() };
    let flag = |flag: bool| f64::from(u8::from(flag));
    each.number("connections", Kind::Gauge, "Clients.", |it| it.connections.now as f64);
    each.number("connections_highest", Kind::Gauge, "Most clients at a time.", |it| it.connections.highest as f64);
    each.some(
        "connections_limit",
        Kind::Gauge,
        "Most clients that there may be, where that is limited.",
        |it: &Service| it.max_connections.map(|most| most as f64),
    );
    each.count("accepted_connections", "Clients accepted.", |it| it.connections.total);
    each.number("queued_clients", Kind::Gauge, "Clients that wait for room on a destination.", |it| it.queue as f64);
    each.count("queueings", "Clients that had to wait for room on a destination.", |it| it.connects.queued);
    each.number("ready", Kind::Gauge, "Whether a destination takes clients.", |it| flag(it.ready));
    each.number("full", Kind::Gauge, "Whether there are as many clients as there may be.", |it| flag(it.full));
    each.count("received_bytes", "Bytes received from clients.", |it| it.bytes_in);
    each.count("sent_bytes", "Bytes sent to clients.", |it| it.bytes_out);
    each.connects(|it| it.connects);
    each.by("ended_connections", Kind::Counter, "Connections that have ended, by cause.", "cause", |it| {
        let count = |cause: &Cause| it.ended.iter().find(|ended| ended.cause == cause.name()).map_or(0, |it| it.count);
        Cause::ALL.iter().map(|cause| (cause.name(), count(cause) as f64)).collect()
    });
    each.metric("limited", Kind::Counter, "Clients reset, and how often there was no room for the next one, by limit.");
    for (labels, it) in &each.all {
        for limit in LimitReached::ALL {
            let (name, effect) = (limit.name(), limit.effect());
            let found = it.limited.iter().find(|it| it.limit == name && it.effect == effect);
            let labels = with(&with(labels, ("limit", name)), ("effect", effect));
            each.page.sample(&labels, found.map_or(0, |it| it.count));
        }
    }
    let kinds = [HistogramKind::Connect, HistogramKind::FirstByte, HistogramKind::Queue, HistogramKind::Duration];
    each.times(&kinds, |it| &it.times);
}

fn pools(page: &mut Page, status: &Status) {
    let all = status.pools.iter().map(|it| (vec![("pool", it.name.as_str())], it));
    let mut each = Each { page, what: "pool", all: all.collect() };
    each.number("destinations", Kind::Gauge, "Destinations.", |it: &Pool| it.destinations.len() as f64);
    each.number("unresolved_names", Kind::Gauge, "Names without an address.", |it| it.unresolved.len() as f64);
    each.count("received_bytes", "Bytes received from clients, those for former destinations included.", |it| {
        it.bytes_in
    });
    each.count("sent_bytes", "Bytes sent to clients, likewise.", |it| it.bytes_out);
    each.connects(|it| it.connects);
}

fn destinations(page: &mut Page, status: &Status) {
    let pairs = status.pools.iter().flat_map(|pool| pool.destinations.iter().map(move |it| (pool, it)));
    let all = pairs.map(|(pool, it)| (vec![("pool", pool.name.as_str()), ("destination", &it.address)], it));
    let mut each = Each { page, what: "destination", all: all.collect() };
    let flag = |flag: bool| f64::from(u8::from(flag));
    each.number("weight", Kind::Gauge, "The weight as configured.", |it| it.weight);
    each.number("effective_weight", Kind::Gauge, "The weight in force.", |it| it.weight_in_force);
    each.number("backup", Kind::Gauge, "Which backup it is; 0 is none.", |it| f64::from(it.backup));
    each.number("writer", Kind::Gauge, "Whether it is the single destination of a service.", |it| flag(it.writer));
    each.number("takes_clients", Kind::Gauge, "Whether it may get new clients.", |it| flag(it.takes_clients));
    each.by(
        "verdict",
        Kind::Gauge,
        "1 for the verdict that it has, 0 for the others.",
        "verdict",
        |it: &Destination| VERDICTS.map(|verdict| (verdict, flag(it.verdict == verdict))).to_vec(),
    );
    each.by("verdict_seconds", Kind::Counter, "How long each verdict has held.", "verdict", |it| {
        let held = it.seconds;
        VERDICTS.into_iter().zip([held.ready, held.spare, held.avoid, held.down, held.unknown]).collect()
    });
    each.some("verdict_since_timestamp_seconds", Kind::Gauge, "Since when it has its verdict.", |it| {
        let since = humantime::parse_rfc3339(it.since.as_deref()?).ok()?;
        Some(since.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs_f64())
    });
    each.count("verdict_changes", "How often the verdict has changed.", |it| it.change_count);
    each.count("downs", "How often it has become DOWN.", |it| it.down_count);
    each.number("check_latency_seconds", Kind::Gauge, "How long a check takes.", |it| it.latency);
    each.number("refusals", Kind::Gauge, "Clients that it has refused in a row.", |it| f64::from(it.refusals));
    each.number("connections", Kind::Gauge, "Connections, those of older processes included.", |it| {
        it.connections.now as f64
    });
    each.number("connections_highest", Kind::Gauge, "Most connections at a time.", |it| it.connections.highest as f64);
    each.count("established_connections", "Clients passed on to it.", |it| it.connections.total);
    each.count("received_bytes", "Bytes received from clients.", |it| it.bytes_in);
    each.count("sent_bytes", "Bytes sent to clients.", |it| it.bytes_out);
    each.connects(|it| it.connects);
    each.by("ended_connections", Kind::Counter, "Connections that have ended, by cause.", "cause", |it| {
        it.ended.iter().map(|ended| (ended.cause.as_str(), ended.count as f64)).collect()
    });
    each.by("checks", Kind::Counter, "Checks, by result.", "result", |it| {
        let count = |result: &str| it.checks.iter().find(|it| it.result == result).map_or(0, |it| it.count);
        CheckResult::ALL.iter().map(|result| (result.name(), count(result.name()) as f64)).collect()
    });
    let kinds = [HistogramKind::Connect, HistogramKind::FirstByte, HistogramKind::Duration, HistogramKind::Check];
    each.times(&kinds, |it| &it.times);
}
