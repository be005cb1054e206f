//! What has happened: `getevents`, `gethistory` and `watch`.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::log::events::{self, Event, EventKind};
use crate::pool::health::{Health, Verdict};
use crate::pool::{Held, History, Tallies, VerdictChange};

const USAGE: &str = "getevents [since=TIME|AGE|NUMBER] [kind=KIND] [limit=N] [json]";

/// Which events are asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct EventQuery {
    since: Since,
    kind: Option<EventKind>,
    limit: usize,
    json: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Since {
    Number(u64),
    Time(SystemTime),
    Ago(Duration),
}

impl Default for EventQuery {
    /// All of them, as text.
    fn default() -> EventQuery {
        EventQuery { since: Since::Number(0), kind: None, limit: usize::MAX, json: false }
    }
}

impl EventQuery {
    /// Reads what stands behind `getevents`.
    ///
    /// # Errors
    /// What was not understood, and what is.
    pub(super) fn parse(words: &[&str]) -> Result<EventQuery, String> {
        let mut query = EventQuery::default();
        for word in words {
            match word.split_once('=') {
                None if word.eq_ignore_ascii_case("json") => query.json = true,
                Some(("since", text)) => query.since = parse_since(text)?,
                Some(("kind", text)) => query.kind = Some(parse_kind(text)?),
                Some(("limit", text)) => {
                    query.limit = text.parse().map_err(|_| format!("'{text}' is not a number"))?;
                }
                _ => return Err(format!("expected {USAGE}")),
            }
        }
        Ok(query)
    }

    /// The events, a line for each.
    pub(super) fn answer(&self) -> String {
        let after = |event: &Event| match self.since {
            Since::Number(number) => event.number > number,
            Since::Time(time) => event.at >= time,
            Since::Ago(age) => event.at.elapsed().map_or(true, |elapsed| elapsed <= age),
        };
        let fits = |event: &Event| after(event) && self.kind.is_none_or(|kind| kind == event.kind);
        let found: Vec<Event> = events::changes().into_iter().filter(fits).collect();
        let left_out = found.len().saturating_sub(self.limit);
        found[left_out..].iter().map(|event| line(event, self.json)).collect()
    }
}

/// Reads a time of RFC 3339: in UTC, or so far from it.
fn parse_time(text: &str) -> Option<SystemTime> {
    let text = text.to_ascii_uppercase();
    let (time, offset) = text.split_at_checked(text.len().checked_sub("+00:00".len())?)?;
    let (sign, offset) = offset.split_at_checked(1)?;
    if !["+", "-"].contains(&sign) {
        return humantime::parse_rfc3339(&text).ok();
    }
    let time = humantime::parse_rfc3339(&format!("{time}Z")).ok()?;
    let (hours, minutes) = offset.split_once(':')?;
    let number = |digits: &str| digits.parse::<u64>().ok().filter(|_| digits.len() == 2);
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let offset = Duration::from_secs(60 * (60 * hours + minutes));
    let time = if sign == "+" { time.checked_sub(offset) } else { time.checked_add(offset) };
    time.filter(|_| hours < 24 && minutes < 60)
}

fn parse_since(text: &str) -> Result<Since, String> {
    let since = text.parse().map(Since::Number).ok();
    let since = since.or_else(|| parse_time(text).map(Since::Time));
    let since = since.or_else(|| humantime::parse_duration(text).map(Since::Ago).ok());
    since.ok_or_else(|| format!("'{text}' is neither a time (2026-11-27T08:00:00Z), nor an age (90m), nor a number"))
}

fn parse_kind(text: &str) -> Result<EventKind, String> {
    let found = EventKind::ALL.into_iter().find(|kind| kind.to_string() == text.to_ascii_lowercase());
    let kinds = || EventKind::ALL.map(|kind| kind.to_string()).join(", ");
    found.ok_or_else(|| format!("'{text}' is not one of {}", kinds()))
}

/// An event as `getevents` and `watch` show it.
pub fn line(event: &Event, json: bool) -> String {
    let at = humantime::format_rfc3339_millis(event.at);
    let Event { number, kind, level, text, .. } = event;
    match json {
        true => json_line(&serde_json::json!({
            "number": number, "time": at.to_string(), "kind": kind, "level": &**level, "text": &**text
        })),
        false => format!("{number} {at} {kind} {text}\n"),
    }
}

/// What a watcher that is too slow, or was away, is sent in place of so many events.
pub fn missed_line(missed: u64, json: bool) -> String {
    match json {
        true => json_line(&serde_json::json!({ "missed": missed })),
        false => format!("({missed} events were missed)\n"),
    }
}

fn json_line(value: &impl Serialize) -> String {
    // Plain data always can be written.
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

/// What has become of a destination's verdict, as `gethistory` answers it.
pub(super) fn history(name: &str, history: &History, health: &Health, json: bool) -> String {
    let (falls, changes) = history.counts();
    let held = history.held(health.verdict);
    let now = SystemTime::now();
    let spells = spells(history, now);
    if json {
        let entries = spells.iter().map(|spell| {
            let VerdictChange { at, verdict, reason } = spell.change;
            serde_json::json!({
                "time": humantime::format_rfc3339_millis(*at).to_string(), "verdict": verdict.to_string(),
                "reason": &**reason, "seconds": seconds(spell.lasted)
            })
        });
        let entries: Vec<_> = entries.collect();
        return json_line(&serde_json::json!({
            "destination": name, "verdict": verdict_name(health), "reason": &*health.reason, "down_count": falls,
            "change_count": changes, "seconds": seconds_by_verdict(held), "last_day": by_verdict(history.last_day(now)),
            "changes": entries
        }));
    }
    let mut text = format!("History: {name}, {}", verdict_name(health));
    // Writing to a string cannot fail.
    let _ = match health.reason.is_empty() {
        true => writeln!(text),
        false => writeln!(text, ": {}", health.reason),
    };
    let day = history.last_day(now);
    let told = [Verdict::Down, Verdict::Avoid, Verdict::Spare]
        .map(|verdict| format!("{verdict} {} times, {:.0} s", day[verdict].count, day[verdict].held.as_secs_f64()));
    let _ = writeln!(text, "In the last 24 h: {}", told.join("; "));
    let Held { ready, spare, avoid, down, .. } = held;
    let [ready, spare, avoid, down] = [ready, spare, avoid, down].map(|held| held.as_secs_f64());
    let _ = writeln!(
        text,
        "In all: READY {ready:.0} s, SPARE {spare:.0} s, AVOID {avoid:.0} s, DOWN {down:.0} s; DOWN {falls} times"
    );
    for spell in &spells {
        let VerdictChange { at, verdict, reason } = spell.change;
        let at = humantime::format_rfc3339_seconds(*at);
        let line = format!("{at} {verdict:>5} for {:>8.1} s  {reason}", spell.lasted.as_secs_f64());
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if changes > spells.len() as u64 {
        let _ = writeln!(text, "(and {} changes before these)", changes - spells.len() as u64);
    }
    text
}

fn verdict_name(health: &Health) -> String {
    health.verdict.map_or_else(|| "UNKNOWN".to_owned(), |verdict| verdict.to_string())
}

/// A verdict, and how long it held.
struct Spell<'h> {
    change: &'h VerdictChange,
    lasted: Duration,
}

fn spells(history: &History, now: SystemTime) -> Vec<Spell<'_>> {
    let starts = history.changes().map(|change| change.at).skip(1).chain([now]);
    let spell = |(change, until): (_, SystemTime)| {
        let change: &VerdictChange = change;
        Spell { change, lasted: until.duration_since(change.at).unwrap_or_default() }
    };
    history.changes().zip(starts).map(spell).collect()
}

fn by_verdict(day: Tallies) -> serde_json::Value {
    let of = |verdict: Verdict| {
        let tally = day[verdict];
        (verdict.to_string(), serde_json::json!({ "count": tally.count, "seconds": seconds(tally.held) }))
    };
    let verdicts = [Verdict::Ready, Verdict::Spare, Verdict::Avoid, Verdict::Down];
    verdicts.map(of).into_iter().collect::<serde_json::Map<_, _>>().into()
}

fn seconds_by_verdict(held: Held) -> serde_json::Value {
    let Held { ready, spare, avoid, down, unknown } = held;
    serde_json::json!({
        "READY": seconds(ready), "SPARE": seconds(spare), "AVOID": seconds(avoid), "DOWN": seconds(down),
        "UNKNOWN": seconds(unknown)
    })
}

/// To the millisecond.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_any_offset() {
        let noon = humantime::parse_rfc3339("2026-11-27T12:00:00Z").expect("a time");
        for text in [
            "2026-11-27T12:00:00Z",
            "2026-11-27t12:00:00z",
            "2026-11-27T13:00:00+01:00",
            "2026-11-27T06:30:00-05:30",
            "2026-11-27T12:00:00.000-00:00",
            "2026-11-28T02:00:00+14:00",
        ] {
            assert_eq!(parse_since(text), Ok(Since::Time(noon)), "{text}");
        }
        for text in [
            "2026-11-27T12:00:00",
            "2026-11-27T12:00:00+1:00",
            "2026-11-27T12:00:00+1:000",
            "2026-11-27T12:00:00+25:00",
            "+01:00",
            "é+01:00",
            "2026-11-27T12:00:00+0é:0",
        ] {
            assert!(parse_since(text).is_err(), "{text}");
        }
        assert_eq!(parse_since("90m"), Ok(Since::Ago(Duration::from_secs(5400))));
        assert_eq!(parse_since("17"), Ok(Since::Number(17)));
    }
}
