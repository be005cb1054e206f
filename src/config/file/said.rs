//! The values of a section, each as the command line says it.

use std::ops::Range;

use clap::Parser;
use toml::Spanned;
use toml::de::{DeArray, DeValue};

use super::check;
use super::control::control_words;
use crate::address::{parse_destination, parse_listen_addresses};
use crate::config::command_line::in_one_line;
use crate::config::keys::{Key, Kind, POLICIES};
use crate::config::options::Options;
use crate::config::watchdog::printable;

/// What is wrong, and where.
pub(super) type Wrong = (Range<usize>, String);

/// What a section says, as a part of a command line would.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub options: Vec<String>,
    pub listen: String,
    pub destinations: Vec<(String, Range<usize>)>,
    /// The pool of a service.
    pub pool: Option<(String, Range<usize>)>,
    /// The service that a service avoids.
    pub avoid: Option<(String, Range<usize>)>,
    /// Where each option was said: its name, what it is called in the file, and the place.
    pub places: Vec<(&'static str, String, Range<usize>)>,
}

impl Said {
    /// Takes note of what a key says.
    ///
    /// # Errors
    /// Why it cannot say that, and where: what follows its name in a complaint.
    pub(super) fn read_value(
        &mut self,
        key: &'static Key,
        path: &str,
        value: &Spanned<DeValue>,
    ) -> Result<(), Vec<Wrong>> {
        self.places.push((key.option(), format!("{path}.{}", key.name), value.span()));
        let text = match (key.kind, value.get_ref().as_table()) {
            (Kind::Check, Some(table)) => Some(check::text_of(table, value.span())?),
            _ => None,
        };
        let read = match text {
            Some(text) => self.say(key.option(), text),
            None => self.read_plain(key, value.span(), value.get_ref()),
        };
        read.map_err(|reason| vec![(value.span(), format!(": {reason}"))])
    }

    fn read_plain(&mut self, key: &'static Key, place: Range<usize>, value: &DeValue) -> Result<(), String> {
        let option = key.option();
        match key.kind {
            Kind::Flag | Kind::Off => {
                let given = value.as_bool().ok_or_else(|| wrong_kind(value, "true or false"))?;
                if given == (key.kind == Kind::Flag) {
                    self.options.push(format!("--{option}"));
                }
                Ok(())
            }
            Kind::Count => self.say(option, whole_number(value).ok_or_else(|| wrong_kind(value, "a whole number"))?),
            Kind::Seconds => {
                let float = || value.as_float().map(|it| it.as_str().to_owned());
                let seconds = whole_number(value).or_else(float);
                self.say(option, seconds.ok_or_else(|| wrong_kind(value, "a number of seconds"))?)
            }
            Kind::Text | Kind::Choice(_) => self.say(option, text(value)?),
            Kind::Escaped => self.say(option, printable(&text(value)?)),
            Kind::Check => self.say(option, check::without_controls(text(value)?)),
            Kind::List => match texts(value)?.join(",") {
                none if none.is_empty() && key.name == "allow" => {
                    Err("the list is empty, and would allow nobody: leave it out to allow everybody".to_owned())
                }
                none if none.is_empty() => Ok(()),
                some => self.say(option, some),
            },
            Kind::Address => {
                let address = port_or_text(value);
                self.say(option, address.ok_or_else(|| wrong_kind(value, "a port, or a string \"HOST:PORT\""))?)
            }
            Kind::Control => control_words(value)?.into_iter().try_for_each(|word| self.say(option, word)),
            Kind::ListenList => {
                let wrong = |value: &DeValue| wrong_kind(value, "a port, a string \"HOST:PORT\", or a list of them");
                let one = |value: &DeValue| port_or_text(value).ok_or_else(|| wrong(value));
                let several =
                    |list: &DeArray| list.iter().map(|item| one(item.get_ref())).collect::<Result<Vec<_>, _>>();
                let addresses = value.as_array().map_or_else(|| one(value), |list| Ok(several(list)?.join(",")))?;
                if addresses.is_empty() {
                    return Err("the list is empty".to_owned());
                }
                parse_listen_addresses(&addresses).map_err(|error| format!("'{addresses}': {error}"))?;
                self.listen = addresses;
                Ok(())
            }
            Kind::Destinations => {
                for (destination, place) in places_of(value)? {
                    // The port that it may lack is the service's.
                    let parsed = parse_destination(&destination, Some(1));
                    let parsed = parsed.map_err(|error| format!("'{destination}': {error}"))?;
                    if parsed.weight < 0.0 {
                        return Err(format!("'{destination}': the weight is below zero"));
                    }
                    self.destinations.push((destination, place));
                }
                Ok(())
            }
            Kind::Policy => {
                let policy = text(value)?;
                let known = POLICIES.iter().find(|(name, _)| *name == policy);
                let names = POLICIES.map(|(name, _)| name).join(", ");
                let (_, option) = known.ok_or_else(|| format!("'{policy}' is not one of {names}"))?;
                if !option.is_empty() {
                    self.options.push(format!("--{option}"));
                    // Where it stands, should it not fit the rest.
                    let name = self.places.last().map(|(_, name, _)| name.clone()).unwrap_or_default();
                    self.places.push((*option, name, place));
                }
                Ok(())
            }
            // Which ones there are has to be known first.
            Kind::Pool => {
                self.pool = Some((text(value)?, place));
                Ok(())
            }
            Kind::Service => {
                self.avoid = Some((text(value)?, place));
                Ok(())
            }
        }
    }

    /// Has the command line say this, if it may.
    fn say(&mut self, option: &str, value: String) -> Result<(), String> {
        let argument = format!("--{option}={value}");
        if value.contains(char::is_control) {
            return Err("it contains a control character".to_owned());
        }
        if let Err(error) = Options::try_parse_from(["glbd", "1", &argument]) {
            let message = in_one_line(&error.render().to_string());
            let reason = message.split_once(&format!("'--{option} <")).map(|(_, rest)| rest);
            let reason =
                reason.and_then(|rest| rest.split_once(">'")).map(|(_, rest)| rest.trim_start_matches([':', ' ']));
            return Err(format!("'{value}': {}", reason.unwrap_or(&message)));
        }
        self.options.push(argument);
        Ok(())
    }
}

pub(super) fn whole_number(value: &DeValue) -> Option<String> {
    let number = value.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number.to_string())
}

pub(super) fn port_or_text(value: &DeValue) -> Option<String> {
    whole_number(value).or_else(|| value.as_str().map(str::to_owned))
}

pub(super) fn text(value: &DeValue) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| wrong_kind(value, "a string"))
}

fn texts(value: &DeValue) -> Result<Vec<String>, String> {
    let list = value.as_array().ok_or_else(|| wrong_kind(value, "a list of strings"))?;
    list.iter().map(|item| text(item.get_ref())).collect()
}

/// Strings, and where each of them stands.
fn places_of(value: &DeValue) -> Result<Vec<(String, Range<usize>)>, String> {
    let texts = texts(value)?;
    Ok(texts.into_iter().zip(value.as_array().into_iter().flatten().map(Spanned::span)).collect())
}

pub(super) fn wrong_kind(value: &DeValue, wanted: &str) -> String {
    if value.is_integer() && whole_number(value).is_none() {
        return "this number is too large".to_owned();
    }
    let found = match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    };
    format!("this is {found}; it takes {wanted}")
}
