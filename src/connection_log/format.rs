//! Lines of the connection log.

use std::fmt::{Display, Write};
use std::time::SystemTime;

use super::{Ended, Style};
use crate::address::PeerAddress;
use crate::log::format::Fields;
use crate::sessions::SessionId;

/// Adds a line about a connection, with its end. One that is text begins with the time only if it is to be `stamped`.
pub(super) fn ended(text: String, ended: &Ended, stamped: bool) -> String {
    let SessionId { process, worker, slot, generation } = ended.id;
    let fields = begin(text, ended.style, ended.at, stamped)
        .text("service", &ended.service)
        .numbers("id", [(process, "."), (worker, "-"), (slot, "-"), (generation, "")]);
    let fields = address(fields, "client", Some(ended.client));
    let fields = address(fields, "local", ended.local.map(PeerAddress::Inet));
    let fields = address(fields, "destination", ended.destination)
        .count("attempts", ended.attempts.into())
        .seconds("queue", ended.queue.seconds())
        .seconds("connect", ended.connect.seconds())
        .seconds("first_byte", ended.first_byte.seconds())
        .seconds("duration", ended.duration.seconds())
        .count("bytes_in", ended.bytes_in)
        .count("bytes_out", ended.bytes_out)
        .text("cause", ended.cause.name());
    fields.finish() + "\n"
}

fn address(fields: Fields, key: &str, address: Option<PeerAddress>) -> Fields {
    match address {
        Some(PeerAddress::Inet(address)) => fields.address(key, address),
        Some(PeerAddress::Unix(path)) => fields.text(key, PeerAddress::Unix(path)),
        None => fields.none(key),
    }
}

/// Adds a line about lines that are missing, of this service or of any.
pub(super) fn left_out(
    text: String,
    style: Style,
    service: Option<&str>,
    (count, reason): (usize, impl Display),
    stamped: bool,
) -> String {
    let fields = begin(text, style, SystemTime::now(), stamped).text_or_none("service", service);
    fields.count("left_out", count as u64).text("reason", reason).finish() + "\n"
}

fn begin(mut text: String, style: Style, at: SystemTime, stamped: bool) -> Fields {
    let time = humantime::format_rfc3339_millis(at);
    if style == Style::Json {
        return Fields::behind(text, true).text("time", time);
    }
    if stamped {
        // Writing to a string cannot fail.
        let _ = write!(text, "{time} ");
    }
    text += "connection ";
    Fields::behind(text, false)
}
