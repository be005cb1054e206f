//! How to check the destinations of a pool, where the file says it in a table: the text that the command line takes is made
//! of it.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::said::{Wrong, text, whole_number, wrong_kind};
use crate::config::ProbeSpec;
use crate::config::watchdog::{guard, option_names, printable, step_names};

/// The text that says the same as a table.
///
/// # Errors
/// All that is wrong with it, and where.
pub(super) fn text_of(table: &DeTable, place: Range<usize>) -> Result<String, Vec<Wrong>> {
    let Some(kind) = table.get("type") else {
        return Err(vec![(place, ": it has no 'type': tcp, http, https, galera or exec".to_owned())]);
    };
    let backend = text(kind.get_ref()).map_err(|reason| vec![(kind.span(), format!(".type: {reason}"))])?;
    let mut parts = Parts { backend: &backend, port: String::new(), path: String::new(), options: Vec::new() };
    let mut wrong = Vec::new();
    for (name, value) in table.iter().filter(|(name, _)| name.get_ref() != "type") {
        let name: &str = name.get_ref();
        match name {
            "steps" if backend == "tcp" => wrong.extend(parts.read_steps(value)),
            _ => wrong.extend(parts.read(name, value).err().map(|reason| (value.span(), format!(".{name}: {reason}")))),
        }
    }
    let text = parts.text();
    match ProbeSpec::parse(&text) {
        _ if !wrong.is_empty() => Err(wrong),
        Err(reason) => Err(vec![(place, format!(": {reason}"))]),
        Ok(_) => Ok(text),
    }
}

/// A text that says how to check, without control characters where it takes escapes.
pub(super) fn without_controls(text: String) -> String {
    let takes_escapes = ["tcp", "http", "https"].contains(&text.split(':').next().unwrap_or_default());
    if takes_escapes { printable(&text) } else { text }
}

/// What such a text is made of.
struct Parts<'t> {
    backend: &'t str,
    port: String,
    path: String,
    options: Vec<String>,
}

impl Parts<'_> {
    fn text(&self) -> String {
        let Parts { backend, port, path, options } = self;
        match *backend {
            "tcp" | "http" | "https" => {
                let options: String = options.iter().map(|option| format!(";{option}")).collect();
                format!("{backend}:{port}{path}{options}")
            }
            _ => format!("{backend}:{}", options.join(",")),
        }
    }

    /// Takes note of what a key says, if it may say that whatever the others say.
    fn read(&mut self, name: &str, value: &Spanned<DeValue>) -> Result<(), String> {
        let value = value.get_ref();
        let scalar = || scalar(value).ok_or_else(|| wrong_kind(value, "a string or a whole number"));
        let mut alone = Parts { backend: self.backend, port: String::new(), path: String::new(), options: Vec::new() };
        match (self.backend, name) {
            ("exec", "command") => alone.options.push(text(value)?),
            ("exec", _) => return Err("no such key; there is command".to_owned()),
            ("tcp" | "http" | "https", "port") => alone.port = scalar()?,
            ("http" | "https", "path") => alone.path = text(value)?,
            ("tcp", name) if step_names().contains(&name) => {
                return Err(format!("it stands in steps, as in steps = [{{ {name} = \"...\" }}]"));
            }
            ("tcp" | "http" | "https", name) => alone.options = options(self.backend, name, value)?,
            // What they may not have says the check itself.
            _ if scalar()?.contains(',') => return Err("it has a comma, which separates options".to_owned()),
            _ => alone.options.push(format!("{name}={}", scalar()?)),
        }
        let known = option_names(self.backend);
        let is_option = |part: &str| part.split_once('=').is_some_and(|(name, _)| known.contains(&name));
        if alone.path.split(';').any(is_option) || alone.path.ends_with('\\') {
            return Err("together with the check's options, it would be taken for something else".to_owned());
        }
        match &alone.options[..] {
            // Whether it goes together with the other lists is known when all have been read.
            [list] if ["spare=", "avoid="].iter().any(|name| list.starts_with(name)) => {
                let (_, statuses) = list.split_once('=').unwrap_or_default();
                ProbeSpec::parse(&format!("http:;ready={statuses}"))?;
            }
            _ => drop(ProbeSpec::parse(&alone.text())?),
        }
        self.port.push_str(&alone.port);
        self.path.push_str(&alone.path);
        self.options.append(&mut alone.options);
        Ok(())
    }

    /// Takes note of the steps of a conversation. Returns what is wrong with them.
    fn read_steps(&mut self, steps: &Spanned<DeValue>) -> Vec<Wrong> {
        let Some(list) = steps.get_ref().as_array() else {
            let reason =
                wrong_kind(steps.get_ref(), "a list, such as [{ send = \"PING\\r\\n\" }, { expect = \"PONG\" }]");
            return vec![(steps.span(), format!(".steps: {reason}"))];
        };
        let mut wrong = Vec::new();
        for (number, step) in (1..).zip(list) {
            if let Err(reason) = self.read_step(step.get_ref()) {
                wrong.push((step.span(), format!(".steps: step {number}: {reason}")));
            }
        }
        wrong
    }

    fn read_step(&mut self, step: &DeValue) -> Result<(), String> {
        let names = step_names().join(", ");
        let table = step.as_table().filter(|table| table.len() == 1);
        let (name, value) = table.and_then(|table| table.iter().next()).ok_or_else(|| match step.as_table() {
            Some(_) => format!("it has one of {names}"),
            None => wrong_kind(step, "a table with one of ") + &names,
        })?;
        let name: &str = name.get_ref();
        if !step_names().contains(&name) {
            return Err(format!("there is no '{name}'; there are {names}"));
        }
        let option = format!("{name}={}", guard(&text(value.get_ref())?));
        ProbeSpec::parse(&format!("tcp:;{option}"))?;
        self.options.push(option);
        Ok(())
    }
}

/// What a key of an http or tcp check says, as options.
fn options(backend: &str, name: &str, value: &DeValue) -> Result<Vec<String>, String> {
    let mut known = option_names(backend);
    if !known.contains(&name) {
        known.retain(|name| !step_names().contains(name) || backend != "tcp");
        let more: &[&str] = if backend == "tcp" { &["port", "steps"] } else { &["port", "path"] };
        return Err(format!("no such key; there are {}, {}", more.join(", "), known.join(", ")));
    }
    let values = match value.as_array() {
        Some(list) => list.iter().map(|item| scalar(item.get_ref())).collect(),
        None => scalar(value).map(|value| vec![value]),
    };
    let values: Vec<String> =
        values.ok_or_else(|| wrong_kind(value, "a string, a whole number, or a list of those"))?;
    let is_one_list = ["ready", "spare", "avoid", "alpn"].contains(&name);
    let values = if is_one_list { vec![values.join(",")] } else { values };
    Ok(values.iter().map(|value| format!("{name}={}", guard(value))).collect())
}

fn scalar(value: &DeValue) -> Option<String> {
    let yes_or_no = |is: bool| if is { "yes" } else { "no" }.to_owned();
    value.as_str().map(str::to_owned).or_else(|| whole_number(value)).or_else(|| value.as_bool().map(yes_or_no))
}
