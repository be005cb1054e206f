//! Text that a daemon has sent, made harmless, and the forms of numbers and times for people.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer};

/// Longest text that is shown of anything.
const MOST: usize = 2000;

/// A text of the daemon, with nothing in it that a terminal obeys or that shows something else than there is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Text(String);

impl Text {
    /// Makes a text harmless.
    pub fn new(text: &str) -> Text {
        Text(harmless(text))
    }

    /// As it is shown.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        Ok(Text::new(&String::deserialize(deserializer)?))
    }
}

/// One line without control characters and without those that turn around or hide what follows.
pub fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(MOST));
    for letter in text.chars().take(MOST) {
        match letter {
            '\t' => shown.push(' '),
            _ if is_harmful(letter) => shown.extend(letter.escape_unicode()),
            _ => shown.push(letter),
        }
    }
    if text.chars().nth(MOST).is_some() {
        shown += "...";
    }
    shown
}

fn is_harmful(letter: char) -> bool {
    let hidden = ['\u{ad}', '\u{61c}', '\u{feff}'];
    let ranges = ['\u{200b}'..='\u{200f}', '\u{2028}'..='\u{202e}', '\u{2060}'..='\u{206f}', '\u{e0000}'..='\u{e007f}'];
    letter.is_control() || hidden.contains(&letter) || ranges.iter().any(|range| range.contains(&letter))
}

/// JSON as it was sent, with what a terminal would obey written as JSON writes it. Outside of strings, JSON has none.
pub fn harmless_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter {
            '\n' => shown.push('\n'),
            _ if is_harmful(letter) => {
                let mut units = [0; 2];
                shown.extend(letter.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
            }
            _ => shown.push(letter),
        }
    }
    shown
}

/// A number of bytes.
pub fn bytes(count: f64) -> String {
    scaled(count, &["B", "kB", "MB", "GB", "TB", "PB", "EB"], " ")
}

/// A large number, in few characters.
pub fn short(count: f64) -> String {
    scaled(count, &["", "k", "M", "G", "T", "P", "E"], "")
}

fn scaled(count: f64, units: &[&str], gap: &str) -> String {
    let (mut count, mut unit) = (count.max(0.0), 0);
    while count >= 999.5 && unit + 1 < units.len() {
        count /= 1000.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && count < 99.95);
    format!("{count:.digits$}{gap}{}", units[unit])
}

/// A rate, in few characters.
pub fn rate(count: f64) -> String {
    match count {
        _ if count <= 0.0 => "0".to_owned(),
        _ if count < 9.95 => format!("{count:.1}"),
        _ => short(count),
    }
}

/// How long something takes.
pub fn took(seconds: f64) -> String {
    match seconds {
        _ if seconds < 0.001 => format!("{:.0} us", seconds * 1e6),
        _ if seconds < 0.01 => format!("{:.1} ms", seconds * 1e3),
        _ if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
        _ => age(seconds),
    }
}

/// How long ago something was, or how long it lasts.
pub fn age(seconds: f64) -> String {
    // What is no number becomes 0, and what is longer than three centuries was not measured.
    let seconds = if seconds.is_nan() { 0.0 } else { seconds.clamp(0.0, 1e10) };
    let whole = Duration::from_secs_f64(seconds).as_secs();
    match whole {
        0..10 if seconds.fract() != 0.0 => format!("{seconds:.1}s"),
        0..60 => format!("{whole}s"),
        60..3600 => format!("{}m {:02}s", whole / 60, whole % 60),
        3600..86400 => format!("{}h {:02}m", whole / 3600, whole / 60 % 60),
        _ => format!("{}d {:02}h", whole / 86400, whole / 3600 % 24),
    }
}

/// How long ago a daemon's time was by its own clock.
pub fn since(time: &Text, now: &Text) -> Option<f64> {
    let [time, now] = [time, now].map(|text| humantime::parse_rfc3339(text.as_str()).ok());
    let before = |time: SystemTime| now?.duration_since(time).ok();
    Some(before(time?)?.as_secs_f64())
}

/// A daemon's time, to the second.
pub fn second(time: &Text) -> String {
    let whole = time.as_str().split_once('.').map(|(whole, _)| format!("{whole}Z"));
    whole.unwrap_or_else(|| time.to_string())
}

/// A weight.
pub fn weight(weight: f64) -> String {
    let text = format!("{weight:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_terminal_obeys_what_a_daemon_says() {
        for text in ["\u{1b}[2J", "a\rb\n", "\u{9b}31m", "\u{202e}evil", "x\u{0}", "\u{200b}", "\u{7f}", "\u{e0041}"] {
            let shown = harmless(text);
            assert!(!shown.contains(is_harmful), "{shown:?}");
            let json = serde_json::to_string(text).expect("JSON");
            let same = harmless_json(&json);
            assert!(!same.contains(is_harmful), "{same:?}");
            assert_eq!(serde_json::from_str::<String>(&same).expect("JSON"), text);
        }
        assert_eq!(harmless("Größe 日本"), "Größe 日本");
        assert_eq!(harmless(&"a".repeat(1 << 20)).len(), MOST + 3);
    }

    #[test]
    fn a_time_is_as_long_ago_as_the_clock_says_that_it_comes_from() {
        let [early, late] = ["2026-11-29T23:59:59.500Z", "2026-11-30T00:01:00Z"].map(Text::new);
        assert_eq!(since(&early, &late), Some(60.5));
        for (time, now) in [(&late, &early), (&Text::new("soon"), &late), (&early, &Text::default())] {
            assert_eq!(since(time, now), None);
        }
        assert_eq!((second(&early), second(&late)), ("2026-11-29T23:59:59Z".into(), late.to_string()));
    }

    #[test]
    fn numbers_and_times_are_short() {
        for (count, shown) in [
            (0.0, "0 B"),
            (999.0, "999 B"),
            (1000.0, "1.0 kB"),
            (99_960.0, "100 kB"),
            (2.5e9, "2.5 GB"),
            (1e30, "1000000000000 EB"),
        ] {
            assert_eq!(bytes(count), shown);
        }
        assert_eq!(
            (age(59.9), age(61.0), age(7260.0), age(90_000.0)),
            ("59s".into(), "1m 01s".into(), "2h 01m".into(), "1d 01h".into())
        );
        assert_eq!(
            (took(0.00042), took(0.0042), took(0.042), took(4.0)),
            ("420 us".into(), "4.2 ms".into(), "42 ms".into(), "4s".into())
        );
        assert_eq!(
            (weight(1.0), weight(0.75), weight(0.0), weight(1e9)),
            ("1".into(), "0.75".into(), "0".into(), "1000000000".into())
        );
        assert_eq!((rate(0.0), rate(0.5), rate(1234.0)), ("0".into(), "0.5".into(), "1.2k".into()));
    }
}
