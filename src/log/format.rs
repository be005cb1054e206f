//! What a log line looks like: text for people, logfmt or JSON for programs.
//!
//! In logfmt and JSON each line is an object of fields, on one line whatever the values contain: quotes, backslashes and
//! everything [unprintable](is_unprintable) are escaped, so that no value can begin a line or a field of its own.

use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::str::FromStr;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// The message, after the time and the level where nothing else records these.
    #[default]
    Text,
    /// `key=value key="a value"`.
    Logfmt,
    /// An object a line.
    Json,
}

impl LogFormat {
    /// The formats with their names.
    pub const ALL: [(LogFormat, &str); 3] =
        [(LogFormat::Text, "text"), (LogFormat::Logfmt, "logfmt"), (LogFormat::Json, "json")];
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = LogFormat::ALL.iter().find(|(format, _)| format == self).map(|(_, name)| *name);
        f.pad(name.unwrap_or_default())
    }
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<LogFormat, String> {
        let format = LogFormat::ALL.iter().find(|(_, name)| *name == text).map(|(format, _)| *format);
        format.ok_or_else(|| "not one of text, logfmt, json".to_owned())
    }
}

/// Builds one line of fields, without the line break at its end.
pub struct Fields {
    is_json: bool,
    line: String,
    /// Where it begins in there.
    begin: usize,
}

impl Fields {
    /// Begins a line of logfmt.
    pub fn logfmt() -> Fields {
        Fields::behind(String::new(), false)
    }

    /// Begins a JSON object.
    pub fn json() -> Fields {
        Fields::behind(String::new(), true)
    }

    /// Begins a line behind a text, with which it is returned.
    pub fn behind(text: String, is_json: bool) -> Fields {
        Fields { is_json, begin: text.len(), line: text }
    }

    /// Adds a text. The caller gives each key once; keys are lowercase letters and underscores.
    pub fn text(mut self, key: &str, value: impl fmt::Display) -> Fields {
        self.key(key);
        let begin = self.line.len();
        if self.is_json {
            self.line.push('"');
        }
        // A String takes whatever is written to it.
        let _ = write!(self.line, "{value}");
        let value = &self.line[begin + usize::from(self.is_json)..];
        let is_plain = |c: char| !c.is_whitespace() && !matches!(c, '"' | '\\' | '=') && !is_unprintable(c);
        // Mostly there is nothing to be done about it.
        let is_plain =
            value.bytes().all(|it| it.is_ascii_alphanumeric() || b".:-_/".contains(&it)) || value.chars().all(is_plain);
        if !is_plain || value.is_empty() && !self.is_json {
            let value = value.to_owned();
            self.line.truncate(begin);
            quote(&mut self.line, &value);
        } else if self.is_json {
            self.line.push('"');
        }
        self
    }

    /// Adds a text, if there is one.
    pub fn text_or_none(self, key: &str, value: Option<impl fmt::Display>) -> Fields {
        match value {
            Some(value) => self.text(key, value),
            None => self.none(key),
        }
    }

    /// Adds a whole number, which JSON does not quote.
    pub fn count(mut self, key: &str, value: u64) -> Fields {
        self.key(key);
        self.line += itoa::Buffer::new().format(value);
        self
    }

    /// Adds a text of whole numbers, each with what stands behind it. Nothing of that may need quotes.
    pub fn numbers<const N: usize>(mut self, key: &str, parts: [(u32, &str); N]) -> Fields {
        self.key(key);
        let quotes = if self.is_json { "\"" } else { "" };
        self.line += quotes;
        for (number, behind) in parts {
            self.line += itoa::Buffer::new().format(number);
            self.line += behind;
        }
        self.line += quotes;
        self
    }

    /// Adds an address.
    pub fn address(self, key: &str, address: SocketAddr) -> Fields {
        let SocketAddr::V4(it) = address else { return self.text(key, address) };
        let [a, b, c, d] = it.ip().octets().map(u32::from);
        self.numbers(key, [(a, "."), (b, "."), (c, "."), (d, ":"), (it.port().into(), "")])
    }

    /// Adds a number of seconds, to the microsecond, if there is one.
    pub fn seconds(mut self, key: &str, value: Option<f32>) -> Fields {
        let Some(value) = value.filter(|value| value.is_finite()) else { return self.none(key) };
        self.key(key);
        // Whole numbers are written in a fraction of the time.
        const SECOND: u64 = 1_000_000;
        let micros = (f64::from(value) * SECOND as f64 + 0.5) as u64;
        self.line += itoa::Buffer::new().format(micros / SECOND);
        self.line.push('.');
        // The first digit stands for those that are zero.
        self.line += &itoa::Buffer::new().format(SECOND + micros % SECOND)[1..];
        self
    }

    /// Adds that there is nothing to be said: `null`, and `-` in logfmt.
    pub fn none(mut self, key: &str) -> Fields {
        self.key(key);
        self.line += if self.is_json { "null" } else { "-" };
        self
    }

    /// The line.
    pub fn finish(mut self) -> String {
        if self.is_json {
            self.line += if self.line.len() == self.begin { "{}" } else { "}" };
        }
        self.line
    }

    fn key(&mut self, key: &str) {
        let is_first = self.line.len() == self.begin;
        let [before, behind] = match (self.is_json, is_first) {
            (true, true) => ["{\"", "\":"],
            (true, false) => [",\"", "\":"],
            (false, true) => ["", "="],
            (false, false) => [" ", "="],
        };
        self.line += before;
        self.line += key;
        self.line += behind;
    }
}

/// Adds a text in quotes, with JSON's escapes, which readers of logfmt know as well.
fn quote(line: &mut String, text: &str) {
    line.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => line.extend(['\\', c]),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            // None of these takes more than four digits.
            c if is_unprintable(c) => _ = write!(line, "\\u{:04x}", u32::from(c)),
            c => line.push(c),
        }
    }
    line.push('"');
}

/// Returns true for control characters, and for those of Unicode that end a line or reverse the direction of text.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_has_its_fields_in_their_order_and_quotes_only_what_needs_it() {
        let line = |fields: Fields| {
            fields.text("level", "warn").text("msg", "a \"b\"\\\nc").text("empty", "").seconds("n", Some(1.5)).finish()
        };
        assert_eq!(line(Fields::logfmt()), r#"level=warn msg="a \"b\"\\\nc" empty="" n=1.500000"#);
        assert_eq!(line(Fields::json()), r#"{"level":"warn","msg":"a \"b\"\\\nc","empty":"","n":1.500000}"#);
        assert_eq!((Fields::json().finish(), Fields::logfmt().finish()), ("{}".to_owned(), String::new()));
        assert_eq!(Fields::json().seconds("n", Some(f32::NAN)).finish(), r#"{"n":null}"#);
    }

    /// Splits a line of logfmt as its readers do.
    fn parse_logfmt(mut line: &str) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        while let Some((key, rest)) = line.split_once('=') {
            let (value, rest) = if rest.starts_with('"') {
                let mut values = serde_json::Deserializer::from_str(rest).into_iter::<String>();
                let value = values.next().expect("a value").expect("a quoted text");
                (value, &rest[values.byte_offset()..])
            } else {
                let (value, rest) = rest.split_at(rest.find(' ').unwrap_or(rest.len()));
                (value.to_owned(), rest)
            };
            fields.push((key.to_owned(), value));
            line = rest.strip_prefix(' ').unwrap_or(rest);
        }
        assert_eq!(line, "");
        fields
    }

    proptest! {
        #[test]
        fn whatever_a_value_is_it_is_read_back_from_one_line(one in any::<String>(), two in "[\\x00-\\xff =\"\\\\]*") {
            let line = |fields: Fields| fields.text("one", &one).text("two", &two).text("end", "x").finish();
            let (logfmt, json) = (line(Fields::logfmt()), line(Fields::json()));
            prop_assert!(!logfmt.contains(is_unprintable) && !json.contains(is_unprintable));
            let wanted = [("one", one.as_str()), ("two", &two), ("end", "x")].map(|(k, v)| (k.to_owned(), v.to_owned()));
            prop_assert_eq!(parse_logfmt(&logfmt), wanted.clone());
            let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&json).expect("an object");
            prop_assert_eq!(object.len(), 3);
            for (key, value) in wanted {
                prop_assert_eq!(object[&key].as_str(), Some(value.as_str()));
            }
        }
    }
}
