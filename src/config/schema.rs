//! A JSON schema of the configuration file, for editors: which keys there are, what each takes, and what it is for. Made of
//! what the file is read by: the list of keys, and the definition of the command line, which is asked what it accepts.

use clap::{Arg, Command, CommandFactory, Parser};
use serde_json::{Map, Value, json};

use super::keys::{KEYS, Key, Kind, POLICIES, Section};
use super::options::{FACILITIES, Options};
use super::watchdog::{option_names, step_names};
use super::{control, proxy};

/// Of a pool and of a service; the file is read by the same.
const NAME: &str = "^[A-Za-z0-9_-]{1,64}$";
/// Larger than any number that an option takes.
const MOST: u64 = 1 << 40;

/// The schema, as text.
pub(super) fn schema() -> String {
    let command = Options::command();
    let section = |section: Section| {
        let keys = KEYS.iter().filter(|key| key.section == section);
        let properties: Map<String, Value> = keys.map(|key| (key.name.to_owned(), property(key, &command))).collect();
        json!({"type": "object", "additionalProperties": false, "properties": properties})
    };
    let named = |it: Value, description: &str| {
        json!({
            "type": "object",
            "description": description,
            "minProperties": 1,
            "additionalProperties": false,
            "patternProperties": {NAME: it},
        })
    };
    let (mut process, mut service) = (section(Section::Process), section(Section::Service));
    process["description"] = json!("What is for all pools and services together.");
    service["required"] = json!(["listen"]);
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "glbd",
        "description": "The configuration file of glbd, a TCP load balancer.",
        "type": "object",
        "additionalProperties": false,
        "required": ["pool", "service"],
        "properties": {
            "process": process,
            "pool": named(section(Section::Pool), "Destinations, and how they are watched, by the names of the pools."),
            "service": named(service, "Where clients connect, and how they are served, by the names of the services."),
        },
    });
    // All keys are strings, and there is nothing that cannot be printed.
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}

/// What a key takes.
fn property(key: &Key, command: &Command) -> Value {
    let option = key.option();
    let argument = command.get_arguments().find(|it| it.get_id().as_str() == key.id());
    let help = argument.and_then(Arg::get_help).map(ToString::to_string).unwrap_or_default();
    let (mut property, description) = match key.kind {
        Kind::Flag => (json!({"type": "boolean", "default": false}), help),
        Kind::Off => (json!({"type": "boolean", "default": true}), format!("With false: {help}")),
        Kind::Count => (whole_number(option), help),
        Kind::Seconds => (seconds(option), help),
        Kind::Choice(values) => (json!({"enum": values}), help),
        Kind::Text => (text(option), help),
        Kind::Escaped => (json!({"type": "string"}), help),
        Kind::Check => (check(), help),
        Kind::List => (json!({"type": "array", "items": item(option)}), help),
        Kind::Destinations => (json!({"type": "array", "items": item("backups")}), help),
        Kind::ListenList => (listening_addresses(), help),
        Kind::Address => {
            let pattern = "^(unix:.+|(.*:)?[0-9]{1,5})$";
            (json!({"anyOf": [port(), {"type": "string", "pattern": pattern}]}), help)
        }
        Kind::Control => (control_addresses(), help),
        Kind::Policy => {
            let policies = POLICIES.map(|(name, _)| name);
            (json!({"enum": policies, "default": policies[0]}), "How destinations are chosen.".to_owned())
        }
        Kind::Pool => {
            (name(), "The pool that it takes destinations from; may be left out where there is one.".to_owned())
        }
        Kind::Service => {
            let what = "The service of the same pool, with policy single, whose destination is left alone while there is \
                        another.";
            (name(), what.to_owned())
        }
    };
    if !description.is_empty() {
        property["description"] = json!(description);
    }
    if let Some(default) = argument.and_then(|it| default_of(key, it)) {
        property["default"] = default;
    }
    property
}

fn name() -> Value {
    json!({"type": "string", "pattern": NAME})
}

fn port() -> Value {
    json!({"type": "integer", "minimum": 1, "maximum": 65535})
}

fn default_of(key: &Key, argument: &Arg) -> Option<Value> {
    let default = argument.get_default_values().first()?.to_str()?;
    match key.kind {
        Kind::Count | Kind::Seconds => serde_json::from_str(default).ok(),
        Kind::Text | Kind::Choice(_) => Some(json!(default)),
        _ => None,
    }
}

/// Returns true if the command line takes this value.
fn accepts(option: &str, value: &str) -> bool {
    Options::try_parse_from(["glbd", "1", &format!("--{option}={value}")]).is_ok()
}

/// The largest number that an option takes, where it takes all of them from `least` on.
fn largest(option: &str, least: u64) -> u64 {
    let (mut accepted, mut refused) = (least, MOST);
    while refused - accepted > 1 {
        let middle = accepted + (refused - accepted) / 2;
        let half = if accepts(option, &middle.to_string()) { &mut accepted } else { &mut refused };
        *half = middle;
    }
    accepted
}

fn whole_number(option: &str) -> Value {
    let least = if accepts(option, "0") { 0 } else { 1 };
    json!({"type": "integer", "minimum": least, "maximum": largest(option, least)})
}

fn seconds(option: &str) -> Value {
    let most = largest(option, 1);
    let (takes_zero, takes_little) = (accepts(option, "0"), accepts(option, "0.000001"));
    let tenths = ["0.00001", "0.0001", "0.001", "0.01", "0.1", "1"];
    let least = tenths.into_iter().find(|it| accepts(option, it)).and_then(|it| it.parse::<f64>().ok());
    match (takes_zero, takes_little) {
        (true, true) => json!({"type": "number", "minimum": 0, "maximum": most}),
        (false, true) => json!({"type": "number", "exclusiveMinimum": 0, "maximum": most}),
        (true, false) => json!({"anyOf": [{"const": 0}, {"type": "number", "minimum": least, "maximum": most}]}),
        (false, false) => json!({"type": "number", "minimum": least, "maximum": most}),
    }
}

/// What a text looks like, as far as that can be said by a pattern.
fn text(option: &str) -> Value {
    let facilities = FACILITIES.map(|(name, _)| name).join("|");
    let pattern = match option {
        "log" => format!("^(stderr|syslog(:({facilities}))?|.*/.*)$"),
        "cpus" => "^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$".to_owned(),
        _ if accepts(option, "") => return json!({"type": "string"}),
        _ => return json!({"type": "string", "minLength": 1}),
    };
    json!({"type": "string", "pattern": pattern})
}

/// One of a list.
fn item(option: &str) -> Value {
    const ADDRESS: &str = "([0-9]{1,3}(\\.[0-9]{1,3}){3}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)";
    let pattern = match option {
        "proxy-v2-options" => return json!({"enum": proxy::OPTIONS.map(|(name, _)| name)}),
        "allow" | "deny" | "accept-proxy" => format!("^{ADDRESS}(/[0-9]{{1,3}})?$"),
        "connect-from" => format!("^{ADDRESS}$"),
        _ => "^[^\\s,]+$".to_owned(),
    };
    json!({"type": "string", "pattern": pattern})
}

/// How destinations are checked: the text of the command line, or a table of what that is made of.
fn check() -> Value {
    let scalar = || json!({"type": ["string", "integer"]});
    let scalar_or_list = || json!({"anyOf": [scalar(), {"type": "array", "items": scalar()}]});
    let kind = |backend: &str, more: &[&str]| {
        let own = if ["tcp", "http", "https"].contains(&backend) { option_names(backend) } else { Vec::new() };
        let mut properties: Map<String, Value> =
            own.into_iter().map(|name| (name.to_owned(), scalar_or_list())).collect();
        properties.extend(more.iter().map(|name| ((*name).to_owned(), scalar())));
        properties.insert("type".to_owned(), json!({"const": backend}));
        if backend == "tcp" {
            step_names().iter().for_each(|name| _ = properties.remove(*name));
            let step = |name: &&str| {
                json!({
                    "type": "object", "additionalProperties": false, "required": [name],
                    "properties": {*name: {"type": "string"}}
                })
            };
            let steps: Vec<Value> = step_names().iter().map(step).collect();
            properties.insert("steps".to_owned(), json!({"type": "array", "items": {"anyOf": steps}}));
        }
        // The options of a login are many.
        let more = if ["galera", "mysql"].contains(&backend) { scalar() } else { json!(false) };
        json!({"type": "object", "additionalProperties": more, "required": ["type"], "properties": properties})
    };
    json!({"anyOf": [
        {"type": "string", "pattern": "^((tcp|https?|galera|mysql)(:|$)|exec:.)"},
        kind("tcp", &["port"]),
        kind("http", &["port", "path"]),
        kind("https", &["port", "path"]),
        kind("galera", &[]),
        kind("mysql", &[]),
        kind("exec", &["command"]),
    ]})
}

fn listening_addresses() -> Value {
    const ONE: &str = "(unix:[^,]+|([^,]*:)?[0-9]{1,5}(-[0-9]{1,5})?)";
    let pattern = format!("^{ONE}(,{ONE})*$");
    let one = || vec![port(), json!({"type": "string", "pattern": pattern})];
    let list = json!({"type": "array", "minItems": 1, "items": {"anyOf": one()}});
    json!({"anyOf": one().into_iter().chain([list]).collect::<Vec<_>>()})
}

fn control_addresses() -> Value {
    let address = || json!([port(), {"type": "string", "pattern": "^(unix:.+|(.*:)?[0-9]{1,5}(,.*)?)$"}]);
    let mut options: Map<String, Value> = control::OPTIONS
        .iter()
        .map(|option| {
            let takes = match *option {
                "read-only" => json!({"type": "boolean", "default": false}),
                "mode" => json!({"type": "string", "pattern": "^0?[0-7]{3}$", "default": "0600"}),
                _ => json!({"type": "string", "pattern": "^[^,]+$"}),
            };
            ((*option).to_owned(), takes)
        })
        .collect();
    options.insert("address".to_owned(), json!({"anyOf": address()}));
    let table =
        json!({"type": "object", "additionalProperties": false, "required": ["address"], "properties": options});
    let mut one = address();
    one.as_array_mut().into_iter().for_each(|kinds| kinds.push(table.clone()));
    let mut all = one.clone();
    all.as_array_mut().into_iter().for_each(|kinds| kinds.push(json!({"type": "array", "items": {"anyOf": one}})));
    json!({"anyOf": all})
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    fn properties(pointer: &str) -> Value {
        // It takes a while.
        static SCHEMA: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(&schema()).expect("it is JSON"));
        SCHEMA.pointer(pointer).unwrap_or_else(|| panic!("nothing at {pointer}")).clone()
    }

    #[test]
    fn numbers_have_the_ranges_of_the_command_line() {
        let service = format!("/properties/service/patternProperties/{NAME}/properties");
        let pool = format!("/properties/pool/patternProperties/{NAME}/properties");
        let range = |pointer: String| {
            let found = properties(&pointer);
            (found["minimum"].clone(), found["exclusiveMinimum"].clone(), found["maximum"].clone())
        };
        assert_eq!(range("/properties/process/properties/threads".to_owned()), (json!(1), Value::Null, json!(1024)));
        assert_eq!(range(format!("{service}/keepalive-count")), (json!(0), Value::Null, json!(127)));
        assert_eq!(range(format!("{service}/send-proxy")), (json!(1), Value::Null, json!(2)));
        assert_eq!(range(format!("{service}/connect-timeout")), (Value::Null, json!(0), json!(1_000_000_000)));
        assert_eq!(range(format!("{service}/wait")), (json!(0), Value::Null, json!(1_000_000_000)));
        assert_eq!(properties(&format!("{pool}/resolve"))["anyOf"][1]["minimum"], json!(0.1));
        assert_eq!(properties(&format!("{pool}/resolve"))["default"], json!(60));
    }

    #[test]
    fn every_key_is_there_with_what_the_help_says_of_it() {
        for key in KEYS {
            let section = match key.section {
                Section::Process => "/properties/process".to_owned(),
                Section::Pool => format!("/properties/pool/patternProperties/{NAME}"),
                Section::Service => format!("/properties/service/patternProperties/{NAME}"),
            };
            let found = properties(&format!("{section}/properties/{}", key.name));
            assert!(found["description"].as_str().is_some_and(|it| it.len() > 10), "{}: {found}", key.name);
        }
    }

    #[test]
    fn choices_are_those_that_the_command_line_takes() {
        for key in KEYS {
            let Kind::Choice(values) = key.kind else { continue };
            assert!(values.iter().all(|value| accepts(key.option(), value)), "{}", key.name);
            let told = Options::try_parse_from(["glbd", "1", &format!("--{}=?", key.option())]);
            let told = told.expect_err("it is none of them").to_string();
            assert!(values.iter().all(|value| told.contains(value)), "{}: {told}", key.name);
        }
    }
}
