//! What was changed by hand at run time, kept in a file for the next start.
//!
//! The file is text: a heading, the shortest list of control commands that makes the present table of the command
//! line's, and a line with their checksum. Behind a host name's command stands the address that it had, for a start at
//! which it does not resolve. The file is only ever replaced as a whole, by one that has reached the disk.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use twox_hash::XxHash3_64;

use crate::address::{DestinationSpec, Endpoint, Host, parse_destination};
use crate::resolve;
use crate::table::{DestinationStatus, MAX_DESTINATIONS, Origin, Table};

const HEADING: &str = "# glbd state 1: what was changed at run time. Written by glbd; to forget it, remove this file.";
const SUM: &str = "# sum ";
/// Of the longest lines there may be, for every destination and every one that was removed.
const MAX_SIZE: u64 = 2 * MAX_DESTINATIONS as u64 * 400;
/// Takes out what it names.
const REMOVED: f64 = -1.0;

/// The file, and what its changes are made to.
pub struct StateFile {
    path: PathBuf,
    /// The destinations of the command line.
    base: Vec<DestinationSpec>,
}

/// One change, as it stands in the file.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    spec: DestinationSpec,
    /// Where the name was.
    address: Option<SocketAddr>,
}

/// What reading the file came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Loaded {
    /// There is none.
    Nothing,
    /// So many changes were made, and there is this to say about some of them.
    Changes(usize, Vec<String>),
    /// It is damaged, in this way, and nothing of it was used.
    Damaged(String),
}

impl StateFile {
    /// The state that is kept at `path`, of a table that began with `base`.
    pub fn new(path: PathBuf, base: Vec<DestinationSpec>) -> StateFile {
        StateFile { path, base }
    }

    /// Makes the file's changes to a table that holds what the command line says. A damaged file is moved out of the
    /// way, to the same name with `.damaged` behind it.
    ///
    /// # Errors
    /// When there is a file that cannot be read, or not be moved.
    pub fn load(&self, table: &Table, own_addresses: &[SocketAddr]) -> io::Result<Loaded> {
        let mut text = Vec::new();
        match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::Nothing),
            file => file?.take(MAX_SIZE).read_to_end(&mut text)?,
        };
        match parse(&text) {
            Ok(entries) => {
                let remarks = entries.iter().filter_map(|entry| apply(entry, table, own_addresses).err()).collect();
                Ok(Loaded::Changes(entries.len(), remarks))
            }
            Err(reason) => {
                fs::rename(&self.path, self.beside("damaged"))?;
                Ok(Loaded::Damaged(reason))
            }
        }
    }

    /// Writes what was changed. When this returns, a crash cannot take it back; when it fails, the file is as it was.
    ///
    /// # Errors
    /// Those of making, writing, syncing and renaming a file.
    pub fn save(&self, table: &Table) -> io::Result<()> {
        let new = self.beside("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&new)?;
        file.write_all(print(&self.changes(table)).as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        // The name is in the directory, which has to reach the disk as well.
        File::open(self.path.parent().unwrap_or(Path::new("/")))?.sync_all()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn beside(&self, extension: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{extension}"));
        name.into()
    }

    /// From the command line's destinations to those in the table.
    fn changes(&self, table: &Table) -> Vec<Entry> {
        let rows = table.snapshot();
        let by_hand = rows.iter().filter(|row| row.origin == Origin::ByHand && !self.is_base(row));
        let changed = by_hand.map(|row| self.changed(row, &rows));
        let names: HashSet<&Endpoint> = rows.iter().map(|row| &row.endpoint).collect();
        let addresses: HashSet<SocketAddr> = rows.iter().map(|row| row.address).collect();
        let is_gone = |endpoint: &Endpoint| {
            !names.contains(endpoint) && address_of(endpoint).is_none_or(|address| !addresses.contains(&address))
        };
        let gone = self.base.iter().map(|spec| &spec.endpoint).filter(|endpoint| is_gone(endpoint));
        let withdrawn = table.withdrawn().into_iter().map(Endpoint::from);
        let mut seen = HashSet::new();
        let removed = gone.cloned().chain(withdrawn).filter(|endpoint| seen.insert(endpoint.clone()));
        let removed = removed.map(|endpoint| entry(endpoint, REMOVED, None));
        // What is removed makes room for what is added.
        let removed: Vec<Entry> = removed.collect();
        removed.into_iter().chain(changed).collect()
    }

    fn is_base(&self, row: &DestinationStatus) -> bool {
        // Of one that is given more than once, the last weight counts.
        let given = self.base.iter().rev().find(|spec| spec.endpoint == row.endpoint);
        given.is_some_and(|spec| spec.weight == row.weight)
    }

    /// A name whose addresses differ in weight is changed address by address.
    fn changed(&self, row: &DestinationStatus, rows: &[DestinationStatus]) -> Entry {
        let mut same_name = rows.iter().filter(|other| other.endpoint == row.endpoint);
        match same_name.all(|other| other.weight == row.weight) {
            true => entry(row.endpoint.clone(), row.weight, Some(row.address)),
            false => entry(row.address.into(), row.weight, None),
        }
    }
}

fn entry(endpoint: Endpoint, weight: f64, address: Option<SocketAddr>) -> Entry {
    let address = address.filter(|_| address_of(&endpoint).is_none());
    Entry { spec: DestinationSpec { endpoint, weight }, address }
}

fn address_of(endpoint: &Endpoint) -> Option<SocketAddr> {
    match endpoint.host {
        Host::Address(address) => Some(SocketAddr::new(address, endpoint.port)),
        Host::Name(_) => None,
    }
}

/// Makes one change. An error is what an operator should hear of it.
fn apply(entry: &Entry, table: &Table, own_addresses: &[SocketAddr]) -> Result<(), String> {
    let Entry { spec: DestinationSpec { endpoint, weight }, .. } = entry;
    let known = match address_of(endpoint) {
        Some(address) => vec![address],
        None => table.addresses_of(endpoint),
    };
    if *weight < 0.0 {
        known.into_iter().for_each(|address| table.withdraw(address));
        return Ok(());
    }
    let told = |reason: String| format!("destination {endpoint}: {reason}");
    let addresses = if known.is_empty() { locate(entry).map_err(told)? } else { known };
    for address in addresses {
        if *weight > 0.0 && resolve::is_own_address(own_addresses, address) {
            return Err(told("this daemon listens there itself".to_owned()));
        }
        table.set(endpoint, address, *weight).map_err(|error| told(error.to_string()))?;
    }
    Ok(())
}

/// Where a name is that the command line does not have.
fn locate(entry: &Entry) -> Result<Vec<SocketAddr>, String> {
    match (resolve::resolve(&entry.spec.endpoint), entry.address) {
        (Ok(address), _) | (Err(_), Some(address)) => Ok(vec![address]),
        (Err(error), None) => Err(resolve::in_one_line(&error)),
    }
}

fn print(entries: &[Entry]) -> String {
    let line = |Entry { spec, address }: &Entry| {
        let address = address.map(|address| format!(" {address}")).unwrap_or_default();
        format!("{}:{}{address}\n", spec.endpoint, spec.weight)
    };
    let body: String = entries.iter().map(line).collect();
    let text = format!("{HEADING}\n{body}");
    let sum = XxHash3_64::oneshot(text.as_bytes());
    format!("{text}{SUM}{sum:016x}\n")
}

fn parse(text: &[u8]) -> Result<Vec<Entry>, String> {
    let text = str::from_utf8(text).map_err(|_| "it is not text")?;
    let (body, sum) = text.rsplit_once(SUM).ok_or("its end is missing")?;
    let sum = u64::from_str_radix(sum.trim_end(), 16).map_err(|_| "its end is not as it was written")?;
    if XxHash3_64::oneshot(body.as_bytes()) != sum {
        return Err("it is not as it was written".to_owned());
    }
    let lines = body.strip_prefix(HEADING).ok_or("it was written by another version")?.lines();
    lines.filter(|line| !line.is_empty()).map(parse_entry).collect()
}

fn parse_entry(line: &str) -> Result<Entry, String> {
    let (spec, address) = line.split_once(' ').map_or((line, None), |(spec, address)| (spec, Some(address)));
    let spec = parse_destination(spec, None).map_err(|error| format!("'{line}': {error}"))?;
    let address = address.map(str::parse).transpose().map_err(|_| format!("'{line}': not an address"))?;
    Ok(Entry { spec, address })
}

#[cfg(test)]
mod tests;
