//! The file as text: a heading, changes as control commands, a line each, and their checksum.

use std::collections::HashMap;

use twox_hash::XxHash3_64;

use crate::address::{DestinationSpec, Endpoint, PeerAddress, parse_destination, split_name};

const HEADING: &str = "# glbd state 1: what was changed at run time. Written by glbd; to forget it, remove this file.";
/// What a file of any version begins with.
const MARK: &[u8] = b"# glbd state ";
const SUM: &str = "# sum ";
/// Before the single destination that a service was given by hand.
pub(super) const WRITER: &str = "writer ";
/// Before a name of the command line and the address that it had.
const AT: &str = "at ";
/// Takes out what it names.
pub(super) const REMOVED: f64 = -1.0;

/// One change, as it stands in the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// The pool or the service that it belongs to; `None` where there is one.
    pub of: Option<String>,
    pub spec: DestinationSpec,
    /// Where the name was.
    pub address: Option<PeerAddress>,
}

/// Everything in the file.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Contents {
    /// Changes to pools.
    pub entries: Vec<Entry>,
    /// The single destinations that services were given by hand. Their weights say nothing.
    pub writers: Vec<Entry>,
    /// Where the names of the command line were. Their weights say nothing.
    pub at: Vec<Entry>,
}

impl Entry {
    pub(super) fn new(endpoint: Endpoint, weight: f64, address: Option<PeerAddress>) -> Entry {
        let address = address.filter(|_| endpoint.address().is_none());
        Entry { of: None, spec: DestinationSpec { endpoint, weight }, address }
    }

    pub(super) fn of(self, of: Option<String>) -> Entry {
        Entry { of, ..self }
    }

    /// Where the weight says nothing.
    fn without_weight(self) -> Entry {
        Entry::new(self.spec.endpoint, 1.0, self.address).of(self.of)
    }

    /// What it is about, as the control port would be told.
    pub(super) fn name(&self) -> String {
        qualified(self.of.as_deref(), &self.spec.endpoint)
    }
}

/// A destination with its pool, or with the service that it is the writer of.
pub(super) fn qualified(of: Option<&str>, endpoint: &Endpoint) -> String {
    of.map_or_else(|| endpoint.to_string(), |of| format!("{of}/{endpoint}"))
}

/// Where the names were.
pub(super) fn saved_addresses<'e>(entries: impl IntoIterator<Item = &'e Entry>) -> HashMap<Endpoint, Vec<PeerAddress>> {
    let mut saved: HashMap<Endpoint, Vec<PeerAddress>> = HashMap::new();
    for Entry { spec, address, .. } in entries {
        saved.entry(spec.endpoint.clone()).or_default().extend(address);
    }
    saved.retain(|_, addresses| !addresses.is_empty());
    saved
}

/// Writes it.
pub(super) fn print(Contents { entries, writers, at }: &Contents) -> String {
    let address = |it: &Entry| it.address.map(|address| format!(" {address}")).unwrap_or_default();
    let mut body: String =
        entries.iter().map(|it| format!("{}:{}{}\n", it.name(), it.spec.weight, address(it))).collect();
    for (word, entries) in [(WRITER, writers), (AT, at)] {
        body.extend(entries.iter().map(|it| format!("{word}{}{}\n", it.name(), address(it))));
    }
    sealed(&body)
}

/// A file with these lines between its beginning and its end.
pub(super) fn sealed(body: &str) -> String {
    let text = format!("{HEADING}\n{body}");
    let sum = XxHash3_64::oneshot(text.as_bytes());
    format!("{text}{SUM}{sum:016x}\n")
}

/// Reads it.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(text: &[u8]) -> Result<Contents, String> {
    if !text.starts_with(MARK) && !MARK.starts_with(text) {
        let is_blank = text.iter().all(|byte| *byte == 0);
        return Err(if is_blank { "it consists of zeros" } else { "it is not a state file of glbd's" }.to_owned());
    }
    let text = str::from_utf8(text).map_err(|_| "it is not text")?;
    let (body, sum) = text.rsplit_once(SUM).ok_or("its end is missing")?;
    let sum = u64::from_str_radix(sum.trim_end(), 16).map_err(|_| "its end is not as it was written")?;
    if XxHash3_64::oneshot(body.as_bytes()) != sum {
        return Err("it is not as it was written".to_owned());
    }
    let lines = body.strip_prefix(HEADING).ok_or("it was written by another version")?.lines();
    let mut contents = Contents::default();
    for line in lines.filter(|line| !line.is_empty()) {
        if let Some(writer) = line.strip_prefix(WRITER) {
            contents.writers.push(parse_entry(writer)?.without_weight());
        } else if let Some(at) = line.strip_prefix(AT) {
            contents.at.extend(Some(parse_entry(at)?.without_weight()).filter(|it| it.address.is_some()));
        } else {
            contents.entries.push(parse_entry(line)?);
        }
    }
    Ok(contents)
}

fn parse_entry(line: &str) -> Result<Entry, String> {
    let (spec, address) = line.split_once(' ').map_or((line, None), |(spec, address)| (spec, Some(address)));
    let (of, spec) = split_name(spec);
    let of = of.map(str::to_owned);
    let spec = parse_destination(spec, None).map_err(|error| format!("'{line}': {error}"))?;
    let address = address.map(str::parse).transpose().map_err(|_| format!("'{line}': not an address"))?;
    // An older glbd took such addresses of names for addresses.
    let address = address.filter(PeerAddress::can_be_connected_to);
    Ok(Entry { of, spec, address })
}
