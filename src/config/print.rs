//! The configuration in force, as a file that says the same.

use std::fmt::Write;

use clap::ArgMatches;
use toml::Value;

use super::keys::{KEYS, Key, Kind, POLICIES, Section};

/// What a command line says, with the defaults that it leaves, as a file. What depends on the machine is left out.
pub(super) fn print(matches: &ArgMatches) -> String {
    let mut file = String::new();
    for section in Section::ALL {
        if !file.is_empty() {
            file.push('\n');
        }
        file += &section.heading().replace("NAME", "main");
        file.push('\n');
        for key in KEYS.iter().filter(|key| key.section == section) {
            if let Some(value) = value_of(key, matches) {
                // A String takes whatever is written to it.
                let _ = writeln!(file, "{} = {value}", key.name);
            }
        }
    }
    file
}

fn value_of(key: &Key, matches: &ArgMatches) -> Option<Value> {
    let id = key.id();
    let words = || {
        let raw = matches.try_get_raw(&id).ok().flatten()?;
        Some(raw.map(|it| it.to_string_lossy().into_owned()).collect::<Vec<String>>())
    };
    let list = |texts: Vec<String>| Value::Array(texts.into_iter().map(Value::String).collect());
    let last = || words().and_then(|words| words.last().cloned());
    match key.kind {
        Kind::Flag => Some(Value::Boolean(matches.get_flag(&id))),
        Kind::Off => Some(Value::Boolean(!matches.get_flag(&id))),
        Kind::Count => last()?.parse().ok().map(Value::Integer),
        Kind::Seconds => last()?.parse().ok().map(Value::Float),
        Kind::Text if id == "shutdown_sessions" && matches.get_flag("keep_sessions") => {
            Some(Value::String("never".to_owned()))
        }
        Kind::Text | Kind::Listen => last().map(Value::String),
        Kind::List => words().filter(|words| !words.is_empty()).map(list),
        Kind::Destinations => {
            let words = words().unwrap_or_default();
            Some(list(words.iter().flat_map(|it| it.split_whitespace()).map(str::to_owned).collect()))
        }
        Kind::Policy => {
            let chosen = POLICIES.iter().skip(1).find(|(_, option)| matches.get_flag(option));
            Some(Value::String(chosen.unwrap_or(&POLICIES[0]).0.to_owned()))
        }
        Kind::Pool => Some(Value::String("main".to_owned())),
    }
}
