//! Lines of the connection log.

use std::fmt::Display;
use std::time::SystemTime;

use super::{Ended, Style};
use crate::log::format::Fields;

/// A line about a connection, with its end. One that is text begins with the time only if it is to be `stamped`.
pub(super) fn ended(ended: &Ended, stamped: bool) -> String {
    let fields = begin(ended.style, ended.at)
        .text("service", &ended.service)
        .text("id", ended.id)
        .text("client", ended.client)
        .text_or_none("local", ended.local)
        .text_or_none("destination", ended.destination)
        .count("attempts", ended.attempts.into())
        .seconds("queue", ended.queue.seconds())
        .seconds("connect", ended.connect.seconds())
        .seconds("first_byte", ended.first_byte.seconds())
        .seconds("duration", ended.duration.seconds())
        .count("bytes_in", ended.bytes_in)
        .count("bytes_out", ended.bytes_out)
        .text("cause", ended.cause.name());
    finish(fields, ended.style, ended.at, stamped)
}

/// A line about lines that are missing, of this service or of any.
pub(super) fn left_out(
    style: Style,
    service: Option<&str>,
    (count, reason): (usize, impl Display),
    stamped: bool,
) -> String {
    let now = SystemTime::now();
    let fields = begin(style, now).text_or_none("service", service);
    finish(fields.count("left_out", count as u64).text("reason", reason), style, now, stamped)
}

fn begin(style: Style, at: SystemTime) -> Fields {
    match style {
        Style::Json => Fields::json().text("time", humantime::format_rfc3339_millis(at)),
        _ => Fields::logfmt(),
    }
}

fn finish(fields: Fields, style: Style, at: SystemTime, stamped: bool) -> String {
    match (style, fields.finish()) {
        (Style::Json, line) => line + "\n",
        (_, line) if stamped => format!("{} connection {line}\n", humantime::format_rfc3339_millis(at)),
        (_, line) => format!("connection {line}\n"),
    }
}
