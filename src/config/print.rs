//! The configuration in force, as a file that says the same.

use std::fmt::Write;

use clap::ArgMatches;
use toml::Value;

use super::keys::{KEYS, Key, Kind, POLICIES, Section};
use super::{Config, ServiceConfig};

/// What command lines say, one for each service, with the defaults that they leave, as a file. What depends on the machine
/// is left out.
pub(super) fn print(config: &Config, matches: &[ArgMatches]) -> String {
    let mut file = String::new();
    let parts = || config.services.iter().zip(matches);
    if let Some((_, matches)) = parts().next() {
        print_section(&mut file, "process", Section::Process, None, matches);
    }
    for pool in &config.pools {
        if let Some((_, matches)) = parts().find(|(service, _)| service.pool == pool.name) {
            print_section(&mut file, &format!("pool.{}", pool.name), Section::Pool, None, matches);
        }
    }
    for (service, matches) in parts() {
        print_section(&mut file, &format!("service.{}", service.name), Section::Service, Some(service), matches);
    }
    file
}
fn print_section(
    file: &mut String,
    name: &str,
    section: Section,
    service: Option<&ServiceConfig>,
    matches: &ArgMatches,
) {
    if !file.is_empty() {
        file.push('\n');
    }
    *file += &format!("[{name}]\n");
    for key in KEYS.iter().filter(|key| key.section == section) {
        if let Some(value) = value_of(key, service, matches) {
            // A String takes whatever is written to it.
            let _ = writeln!(file, "{} = {value}", key.name);
        }
    }
}

fn value_of(key: &Key, service: Option<&ServiceConfig>, matches: &ArgMatches) -> Option<Value> {
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
        Kind::Choice(_) if id == "shutdown_sessions" && matches.get_flag("keep_sessions") => {
            Some(Value::String("never".to_owned()))
        }
        Kind::Text | Kind::Address | Kind::Choice(_) | Kind::Escaped | Kind::Check => last().map(Value::String),
        Kind::ListenList => last().map(|all| match all.split_once(',') {
            None => Value::String(all),
            Some(_) => list(all.split(',').map(str::to_owned).collect()),
        }),
        Kind::Control => match &words()?[..] {
            [] => None,
            [one] => Some(Value::String(one.clone())),
            several => Some(list(several.to_vec())),
        },
        Kind::List => words().filter(|words| !words.is_empty()).map(list),
        Kind::Destinations => {
            let words = words().unwrap_or_default();
            Some(list(words.iter().flat_map(|it| it.split_whitespace()).map(str::to_owned).collect()))
        }
        Kind::Policy => {
            let chosen = POLICIES.iter().skip(1).find(|(_, option)| matches.get_flag(option));
            Some(Value::String(chosen.unwrap_or(&POLICIES[0]).0.to_owned()))
        }
        Kind::Pool => service.map(|it| Value::String(it.pool.to_string())),
        Kind::Service => service.and_then(|it| it.avoid.as_ref()).map(|name| Value::String(name.to_string())),
    }
}
