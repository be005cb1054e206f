//! The configuration file, in TOML: read into the command lines that say the same, one for each service, so that both have
//! the same values, defaults and checks.

mod check;
mod checks;
mod control;
mod said;

use std::fmt;
use std::ops::Range;

use toml::de::DeTable;

use super::keys::{self, Section};
use said::Said;

/// Bounds what is printed about one file.
const MOST_COMPLAINTS: usize = 100;
/// Longer than any key that is only mistyped.
const LONGEST_KEY: usize = 40;

/// Something in the file that is wrong.
#[derive(Debug, PartialEq)]
pub(super) struct Complaint {
    line: usize,
    column: usize,
    text: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.text)
    }
}

/// What a file says, as command lines would.
#[derive(Debug, Default)]
pub(super) struct Contents {
    process: Said,
    pools: Vec<(String, Said)>,
    services: Vec<(String, Said)>,
}

/// A service of a file, as a daemon that serves nothing else would have it.
#[derive(Clone, Copy)]
pub(super) struct Part<'c> {
    /// What it is called.
    pub service: &'c str,
    /// What its pool is called.
    pub pool: &'c str,
    /// The service that it avoids.
    pub avoid: Option<&'c str>,
    /// Of the process, the pool, and the service.
    said: [&'c Said; 3],
}

/// Reads a file's text.
///
/// # Errors
/// All that is wrong with it, in the order of the text.
pub(super) fn read(text: &str) -> Result<Contents, Vec<Complaint>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader::default();
    for error in errors {
        reader.complain(error.span().unwrap_or(0..0), error.message().to_owned());
    }
    if reader.complaints.is_empty() {
        reader.read_sections(table.get_ref());
    }
    let Reader { mut complaints, contents } = reader;
    complaints.sort_by_key(|(start, _)| *start);
    match complaints.is_empty() {
        true => Ok(contents),
        false => {
            let complaints = complaints.into_iter().map(|(start, complaint)| complaint_at(text, start, complaint));
            Err(bounded(complaints.collect()))
        }
    }
}

/// In the order of the text, so many as are of use.
pub(super) fn in_order(mut complaints: Vec<Complaint>) -> Vec<Complaint> {
    complaints.sort_by_key(|it| (it.line, it.column));
    bounded(complaints)
}

fn bounded(mut complaints: Vec<Complaint>) -> Vec<Complaint> {
    if let Some(more) = complaints.len().checked_sub(MOST_COMPLAINTS).filter(|more| *more > 0) {
        complaints.truncate(MOST_COMPLAINTS);
        if let Some(last) = complaints.last_mut() {
            last.text += &format!(" (and {more} more faults)");
        }
    }
    complaints
}

impl Contents {
    /// Its services, in the order of the file.
    pub(super) fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        self.services.iter().filter_map(|(service, said)| {
            let chosen = said.pool.as_ref().map(|(pool, _)| pool);
            let (pool, pools) = self.pools.iter().find(|(name, _)| chosen.is_none_or(|chosen| name == chosen))?;
            let avoid = said.avoid.as_ref().map(|(name, _)| name.as_str());
            Some(Part { service, pool, avoid, said: [&self.process, pools, said] })
        })
    }

    /// How many pools stand before this one.
    pub(super) fn place_of(&self, pool: &str) -> Option<usize> {
        self.pools.iter().position(|(name, _)| name == pool)
    }
}

impl Part<'_> {
    /// What the command line would say, with these options beside the file, which win.
    pub(super) fn command_line(&self, beside: &[String]) -> Vec<String> {
        // Where an option may be given several times, all of those that the file has are replaced as well.
        let is_control = |option: &String| option.starts_with("--control=");
        let replaces = beside.iter().any(is_control);
        let said = self.said.iter().flat_map(|said| &said.options).filter(|it| !(replaces && is_control(it)));
        let options = said.chain(beside).cloned();
        let [_, pool, service] = self.said;
        let destinations = pool.destinations.iter().map(|(destination, _)| destination);
        let addresses = [&service.listen].into_iter().chain(destinations).cloned();
        ["glbd".to_owned()].into_iter().chain(options).chain(["--".to_owned()]).chain(addresses).collect()
    }

    /// Where what is wrong with the whole, in the words of the command line, was said; `None` if not in the file.
    pub(super) fn locate(&self, text: &str, reason: &str) -> Option<Complaint> {
        let is_option = |word: &&str| word.starts_with("--");
        let options = reason.split(|letter: char| letter.is_whitespace() || letter == ':').filter(is_option);
        let places = || self.said.iter().flat_map(|said| &said.places);
        let said = |option: &str| places().find(|(name, ..)| Some(*name) == option.strip_prefix("--"));
        let mut place = None;
        let mut words = reason.to_owned();
        for option in options {
            let name = match said(option) {
                Some((_, name, span)) => {
                    place.get_or_insert(span.start);
                    name.as_str()
                }
                None => keys::name_of(option.trim_start_matches('-')),
            };
            words = words.replacen(option, name, 1);
        }
        place.map(|place| complaint_at(text, place, words))
    }
}

/// The line and the column of a byte, both from 1 on.
fn complaint_at(text: &str, start: usize, complaint: String) -> Complaint {
    let before = text.get(..start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Complaint { line, column, text: complaint }
}

#[derive(Default)]
struct Reader {
    complaints: Vec<(usize, String)>,
    contents: Contents,
}

/// The pools or the services of a file, in its order.
type Named<'t> = Vec<(&'t str, &'t DeTable<'t>, Range<usize>)>;

impl Reader {
    fn complain(&mut self, place: Range<usize>, complaint: String) {
        self.complaints.push((place.start, complaint));
    }

    fn read_sections(&mut self, file: &DeTable) {
        let (mut pools, mut services) = (Named::new(), Named::new());
        for (name, value) in file {
            let place = name.span();
            match (name.get_ref().as_ref(), value.get_ref().as_table()) {
                ("process", Some(table)) => self.contents.process = self.read_keys(Section::Process, "process", table),
                ("pool", Some(table)) => pools = self.named("pool", table),
                ("service", Some(table)) => services = self.named("service", table),
                ("process" | "pool" | "service", None) => {
                    self.complain(place, format!("{} is a section, not a value", name.get_ref()));
                }
                (other, _) => {
                    let there_are = "there are [process], [pool.NAME] and [service.NAME]";
                    self.complain(place, format!("no such section '{other}': {there_are}"));
                }
            }
        }
        for (kind, named) in [("pool", &pools), ("service", &services)] {
            if named.is_empty() && self.complaints.is_empty() {
                self.complain(0..0, format!("there is no {kind}: it begins with [{kind}.NAME]"));
            }
        }
        for (name, table, _) in &pools {
            let said = self.read_keys(Section::Pool, &format!("pool.{name}"), table);
            self.contents.pools.push(((*name).to_owned(), said));
        }
        for (name, table, place) in &services {
            let said = self.read_keys(Section::Service, &format!("service.{name}"), table);
            self.check_service(name, &said, table, place);
            self.contents.services.push(((*name).to_owned(), said));
        }
        pools.iter().for_each(|(name, _, place)| self.check_pool(name, place));
        self.check_listening();
        self.check_avoided();
    }

    fn named<'t>(&mut self, kind: &str, table: &'t DeTable<'t>) -> Named<'t> {
        let mut found = Named::new();
        for (name, value) in table {
            let (place, name) = (name.span(), name.get_ref().as_ref());
            match value.get_ref().as_table() {
                _ if !is_name(name) => {
                    let of = "1 to 64 letters, digits, '-' and '_'";
                    self.complain(place, format!("'{name}' is no name for a {kind}: it takes {of}"));
                }
                Some(table) => found.push((name, table, place)),
                None => {
                    let hint = format!("keys of a {kind} stand below its name, as in [{kind}.main]");
                    self.complain(place, format!("{kind}.{name} is a value; {hint}"));
                }
            }
        }
        found.sort_by_key(|(.., place)| place.start);
        found
    }

    fn read_keys(&mut self, section: Section, path: &str, table: &DeTable) -> Said {
        let mut said = Said::default();
        for (name, value) in table {
            match keys::find(section, name.get_ref()) {
                Some(key) => {
                    let wrong = said.read_value(key, path, value).err().unwrap_or_default();
                    wrong
                        .into_iter()
                        .for_each(|(place, reason)| self.complain(place, format!("{path}.{}{reason}", key.name)));
                }
                None => self.complain(name.span(), no_such_key(section, path, name.get_ref())),
            }
        }
        said
    }
}

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=64).contains(&name.len()) && name.bytes().all(fits)
}

fn no_such_key(section: Section, path: &str, name: &str) -> String {
    let names = keys::names(section);
    // What it takes grows with the length.
    let near = names.iter().filter(|_| name.len() <= LONGEST_KEY);
    let near = near.map(|it| (strsim::damerau_levenshtein(it, name), it)).min();
    let elsewhere = Section::ALL.into_iter().find(|other| keys::find(*other, name).is_some());
    match (elsewhere, near) {
        (Some(other), _) => format!("{path}.{name}: it stands below {}", other.heading()),
        (None, Some((1..=2, near))) => format!("{path}.{name}: no such key; did you mean '{near}'?"),
        _ => format!("{path}.{name}: no such key; there are {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests;
