//! The configuration in force, as a file that says the same.

use std::fmt;
use std::sync::Arc;

use clap::ArgMatches;
use toml::Value;

use super::keys::{KEYS, Key, Kind, POLICIES, Section};
use super::{Name, PoolConfig, ServiceConfig};

/// A configuration as a file.
#[derive(Debug, Clone, Default)]
pub struct Printed {
    /// The lines of the process, by their keys.
    process: Vec<(&'static str, String)>,
    /// The sections behind that.
    others: Arc<str>,
}

impl Printed {
    /// Says of a key of the process what `other` says.
    pub fn keep(&mut self, key: &str, other: &Printed) {
        let kept = other.process.iter().find(|(it, _)| *it == key);
        let place = self.process.iter().position(|(it, _)| *it == key);
        match (kept, place) {
            (Some(kept), Some(place)) => self.process[place] = kept.clone(),
            (Some(kept), None) => self.process.push(kept.clone()),
            (None, Some(place)) => drop(self.process.remove(place)),
            (None, None) => {}
        }
    }
}

impl fmt::Display for Printed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", Section::Process.heading())?;
        self.process.iter().try_for_each(|(_, line)| f.write_str(line))?;
        f.write_str(&self.others)
    }
}

/// Makes a file of what command lines say, one for each service, with the defaults that they leave. What depends on the
/// machine is left out. Of each, only the text is kept: a parsed command line takes ten kilobytes.
#[derive(Default)]
pub(super) struct Printer {
    process: Vec<(&'static str, String)>,
    pools: Vec<(Name, String)>,
    services: String,
}

impl Printer {
    /// Adds a service, and its pool, if that is new.
    pub(super) fn add(&mut self, service: &ServiceConfig, matches: &ArgMatches) {
        if self.services.is_empty() {
            self.process = lines(Section::Process, None, matches).collect();
        }
        if self.pools.iter().all(|(name, _)| *name != service.pool) {
            let text = section(&format!("pool.{}", service.pool), Section::Pool, None, matches);
            self.pools.push((Name::clone(&service.pool), text));
        }
        self.services += &section(&format!("service.{}", service.name), Section::Service, Some(service), matches);
    }

    /// The file, with the pools in this order.
    pub(super) fn finish(mut self, pools: &[PoolConfig]) -> Printed {
        self.pools.sort_by_key(|(name, _)| pools.iter().position(|pool| pool.name == *name));
        let others = self.pools.iter().map(|(_, text)| text.as_str()).chain([self.services.as_str()]);
        Printed { process: self.process, others: others.collect::<String>().into() }
    }
}

fn section(name: &str, section: Section, service: Option<&ServiceConfig>, matches: &ArgMatches) -> String {
    let lines = lines(section, service, matches).map(|(_, line)| line);
    [format!("\n[{name}]\n")].into_iter().chain(lines).collect()
}

/// The lines of a section, by their keys.
fn lines(
    section: Section,
    service: Option<&ServiceConfig>,
    matches: &ArgMatches,
) -> impl Iterator<Item = (&'static str, String)> {
    let line = move |key: &'static Key| {
        let value = value_of(key, service, matches)?;
        Some((key.name, format!("{} = {value}\n", key.name)))
    };
    KEYS.iter().filter(move |key| key.section == section).filter_map(line)
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
