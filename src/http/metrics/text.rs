//! The two text formats: that of Prometheus, and OpenMetrics.

use std::fmt::{Display, Write};

/// How metrics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Format {
    /// Prometheus' own, version 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The one that a client accepts, by its `Accept` headers.
    pub(in crate::http) fn chosen_by<'a>(accepted: impl Iterator<Item = &'a str>) -> Format {
        let mut ranges = accepted.flat_map(|it| it.split(','));
        let is_meant = |range: &str| {
            let mut parts = range.split(';').map(|part| part.trim().to_ascii_lowercase());
            parts.next().is_some_and(|kind| kind == "application/openmetrics-text")
                && parts.all(|it| match it.split_once('=') {
                    Some(("version", version)) => version.starts_with("1."),
                    Some(("q", weight)) => weight.parse() != Ok(0.0),
                    _ => true,
                })
        };
        if ranges.any(is_meant) { Format::OpenMetrics } else { Format::Prometheus }
    }

    /// What it is called in a `Content-Type`.
    pub(in crate::http) fn kind(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Labels and their values.
pub(super) type Labels<'l> = &'l [(&'l str, &'l str)];

/// A page of metrics. Writing to its string cannot fail.
pub(super) struct Page {
    text: String,
    format: Format,
    /// The metric whose samples come now.
    name: String,
}

impl Page {
    pub(super) fn new(format: Format) -> Page {
        Page { text: String::new(), format, name: String::new() }
    }

    /// Begins a metric, whose samples follow. Of a counter, `name` lacks the `_total`.
    pub(super) fn metric(&mut self, name: &str, kind: Kind, help: &str) {
        let suffix = if kind == Kind::Counter { "_total" } else { "" };
        self.name = format!("glbd_{name}{suffix}");
        // OpenMetrics names a counter without it.
        let named = match self.format {
            Format::OpenMetrics => format!("glbd_{name}"),
            Format::Prometheus => self.name.clone(),
        };
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = writeln!(self.text, "# HELP {named} {help}\n# TYPE {named} {word}");
        let unit = ["seconds", "bytes"].into_iter().find(|unit| name.ends_with(&format!("_{unit}")));
        if let Some(unit) = unit.filter(|_| self.format == Format::OpenMetrics) {
            let _ = writeln!(self.text, "# UNIT {named} {unit}");
        }
    }

    /// A value of the metric.
    pub(super) fn sample(&mut self, labels: Labels, value: impl Display) {
        self.part("", labels, None, value);
    }

    /// A part of a histogram: of its name with this suffix, and with a bound.
    pub(super) fn part(&mut self, suffix: &str, labels: Labels, bound: Option<&str>, value: impl Display) {
        let _ = write!(self.text, "{}{suffix}", self.name);
        let mut before = '{';
        for (name, value) in labels.iter().copied().chain(bound.map(|bound| ("le", bound))) {
            let _ = write!(self.text, "{before}{name}=\"{}\"", escaped(value));
            before = ',';
        }
        let end = if before == ',' { "}" } else { "" };
        let _ = writeln!(self.text, "{end} {value}");
    }

    pub(super) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text += "# EOF\n";
        }
        self.text
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_what_the_client_accepts() {
        for (accepted, format) in [
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/plain;version=0.0.4", Format::Prometheus),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", Format::OpenMetrics),
            ("text/html, application/openmetrics-text; version=2.0.0", Format::Prometheus),
            ("application/openmetrics-text;q=0, text/plain", Format::Prometheus),
            ("application/openmetrics-text; q=0.000", Format::Prometheus),
        ] {
            assert_eq!(Format::chosen_by([accepted].into_iter()), format, "{accepted}");
        }
    }

    #[test]
    fn labels_are_escaped() {
        let mut page = Page::new(Format::OpenMetrics);
        page.metric("odd_bytes", Kind::Counter, "Odd.");
        page.sample(&[("name", "a\"b\\c\nd"), ("other", "")], 3);
        let text = "# HELP glbd_odd_bytes Odd.\n# TYPE glbd_odd_bytes counter\n# UNIT glbd_odd_bytes bytes\n\
            glbd_odd_bytes_total{name=\"a\\\"b\\\\c\\nd\",other=\"\"} 3\n# EOF\n";
        assert_eq!(page.finish(), text);
    }
}
