//! What was changed by hand at run time, kept in a file for the next start.
//!
//! The file is text: a heading, the shortest list of control commands that makes the present table of the command
//! line's, and a line with their checksum. Behind a host name's command stands the address that it had, for a start at
//! which it does not resolve. The file is only ever replaced as a whole, by one that has reached the disk.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use twox_hash::XxHash3_64;

use crate::address::{DestinationSpec, Endpoint, Host, parse_destination};
use crate::resolve;
use crate::table::health::Reason;
use crate::table::{DestinationStatus, MAX_DESTINATIONS, Origin, Table, Unresolved};

const HEADING: &str = "# glbd state 1: what was changed at run time. Written by glbd; to forget it, remove this file.";
/// What a file of any version begins with.
const MARK: &[u8] = b"# glbd state ";
const SUM: &str = "# sum ";
/// Of the longest lines there may be, for every destination and every one that was removed.
const MAX_SIZE: u64 = 3 * MAX_DESTINATIONS as u64 * 400;
/// Before the single destination that was chosen by hand.
const WRITER: &str = "writer ";
/// Before a name of the command line and the address that it had.
const AT: &str = "at ";
/// How long another daemon may take to let go of the file.
const PATIENCE: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(10);
/// Takes out what it names.
const REMOVED: f64 = -1.0;

/// What the file's changes are made to.
pub struct Base {
    /// The destinations of the command line.
    pub destinations: Vec<DestinationSpec>,
    /// Whether all addresses of a name are destinations, not only one.
    pub all_addresses: bool,
    /// Whether the daemon finds destinations by itself, but for those that were removed by hand.
    pub finds_more: bool,
}

/// The file, and what its changes are made to.
pub struct StateFile {
    path: PathBuf,
    base: Base,
    /// The file as it was last read or written: locked, so that no other daemon keeps its state there.
    claimed: Mutex<Option<File>>,
}

/// One change, as it stands in the file.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    spec: DestinationSpec,
    /// Where the name was.
    address: Option<SocketAddr>,
}

/// Everything in the file.
#[derive(Debug, Default, PartialEq)]
struct Contents {
    entries: Vec<Entry>,
    /// The single destination chosen by hand, and where its name was.
    writer: Option<(Endpoint, Option<SocketAddr>)>,
    /// Where the names of the command line were.
    at: Vec<(Endpoint, SocketAddr)>,
}

/// What reading the file came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Loaded {
    /// There is none.
    Nothing,
    /// These changes were made, and there is this to say of others, and of names.
    Changes(Vec<String>, Vec<String>),
    /// It is damaged, in this way, and nothing of it was used.
    Damaged(String),
}

impl StateFile {
    /// The state that is kept at `path`, or where a link there leads to, of a table that began with `base`.
    pub fn new(path: &Path, base: Base) -> StateFile {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        StateFile { path, base, claimed: Mutex::new(None) }
    }

    /// Makes the file's changes to a table that holds what the command line says. A damaged file, or one of something else,
    /// is moved out of the way, to the same name with `.damaged` behind it.
    ///
    /// # Errors
    /// When what is there is no ordinary file, cannot be read, or cannot be moved, or another daemon has it.
    pub fn load(&self, table: &Table, own_addresses: &[SocketAddr]) -> io::Result<Loaded> {
        if !self.is_there()? {
            return Ok(Loaded::Nothing);
        }
        self.release();
        let file = self.claim()?;
        let loaded = self.apply_all(&file, table, own_addresses)?;
        if let Loaded::Damaged(_) = loaded {
            fs::rename(&self.path, self.beside("damaged"))?;
        } else {
            *self.claimed.lock() = Some(file);
        }
        Ok(loaded)
    }

    /// The same as [`load`](StateFile::load), but that the file stays where it is, and may be another daemon's.
    ///
    /// # Errors
    /// When what is there is no ordinary file, or cannot be read.
    pub fn preview(&self, table: &Table, own_addresses: &[SocketAddr]) -> io::Result<Loaded> {
        match self.is_there()? {
            true => self.apply_all(&self.open()?, table, own_addresses),
            false => Ok(Loaded::Nothing),
        }
    }

    fn is_there(&self) -> io::Result<bool> {
        match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Ok(found) if !found.is_file() => Err(io::Error::other("it is no ordinary file")),
            // Where that cannot be found out, opening it says why.
            _ => Ok(true),
        }
    }

    fn open(&self) -> io::Result<File> {
        OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&self.path)
    }

    fn apply_all(&self, file: &File, table: &Table, own_addresses: &[SocketAddr]) -> io::Result<Loaded> {
        let mut text = Vec::new();
        file.take(MAX_SIZE).read_to_end(&mut text)?;
        Ok(match parse(&text) {
            Ok(contents) => {
                let mut remarks = self.fall_back(&contents.at, table, own_addresses);
                let made = self.make_changes(contents, table, own_addresses, &mut remarks);
                Loaded::Changes(made, remarks)
            }
            Err(reason) => Loaded::Damaged(reason),
        })
    }

    /// Opens the file, and locks it. Another daemon that has just been told to end may still hold it for a moment.
    fn claim(&self) -> io::Result<File> {
        let until = Instant::now() + PATIENCE;
        loop {
            let file =
                OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&self.path)?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) if Instant::now() >= until => {
                    return Err(io::Error::other("another glbd keeps its state there"));
                }
                Err(TryLockError::WouldBlock) => thread::sleep(STEP),
                // Meanwhile it may have been replaced. Not every file system has locks.
                _ if is_at(&file, &self.path) => return Ok(file),
                _ => {}
            }
        }
    }

    /// Whether no other daemon can keep its state there.
    pub fn is_claimed(&self) -> bool {
        self.claimed.lock().is_some()
    }

    /// Leaves the file to another daemon.
    pub fn release(&self) {
        self.claimed.lock().take();
    }

    /// Writes what was changed. When this returns, a crash cannot take it back. When it fails, the file is as it was; but if
    /// only the directory cannot be written to the disk, it is the new one, and a crash may bring the old one back.
    ///
    /// # Errors
    /// Those of making, writing, syncing and renaming a file.
    pub fn save(&self, table: &Table) -> io::Result<()> {
        let new = self.beside("new");
        // What a killed daemon has left, or somebody has put there.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let mut file = options.open(&new)?;
        // Nobody else knows of it, and not every file system has locks.
        let _ = file.try_lock();
        let writer = table.chosen().map(|(endpoint, address)| {
            let address = Some(address).filter(|_| address_of(&endpoint).is_none());
            (endpoint, address)
        });
        let in_base = |(name, _): &(Endpoint, SocketAddr)| self.place(name).is_some();
        let at = table.named_addresses().into_iter().filter(in_base).collect();
        file.write_all(print(&Contents { entries: self.changes(table), writer, at }).as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        *self.claimed.lock() = Some(file);
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

    /// From the command line's destinations to those in the table, and to their order.
    fn changes(&self, table: &Table) -> Vec<Entry> {
        let (rows, unresolved) = (table.snapshot(), table.unresolved());
        let (mut removed, mut set) = (Removals::default(), Vec::new());
        // Where among the base the last one stands that is still in its place; `None` once others are before it.
        let mut last = Some(0);
        for row in rows.iter().filter(|row| row.origin == Origin::ByHand) {
            for (index, endpoint) in row.wanted_as.iter().enumerate() {
                let place = self.place(endpoint);
                // Others only share a destination, which has its place.
                let is_first = index == 0;
                let stays = place.is_some_and(|place| !is_first || last.is_some_and(|last| place >= last));
                if is_first {
                    last = place.filter(|_| stays);
                }
                if place.is_some() && !stays {
                    removed.add(endpoint.clone());
                }
                if !stays || self.weight(endpoint) != Some(row.weight) {
                    set.push(changed(endpoint, row, &rows));
                }
            }
        }
        let is_news = |it: &&Unresolved| self.weight(&it.endpoint) != Some(it.weight);
        set.extend(unresolved.iter().filter(is_news).map(|it| entry(it.endpoint.clone(), it.weight, None)));
        let there: HashSet<&Endpoint> = rows.iter().flat_map(|row| &row.wanted_as).collect();
        let there: HashSet<&Endpoint> = there.into_iter().chain(unresolved.iter().map(|it| &it.endpoint)).collect();
        let addresses: HashSet<SocketAddr> = rows.iter().map(|row| row.address).collect();
        let is_there = |endpoint: &Endpoint| {
            there.contains(endpoint) || address_of(endpoint).is_some_and(|address| addresses.contains(&address))
        };
        let base = self.base.destinations.iter().map(|spec| &spec.endpoint);
        base.filter(|endpoint| !is_there(endpoint)).for_each(|endpoint| removed.add(endpoint.clone()));
        if self.base.finds_more {
            table.withdrawn().into_iter().for_each(|address| removed.add(address.into()));
        }
        // What is removed makes room for what is added.
        removed.entries.into_iter().chain(set).collect()
    }

    fn place(&self, endpoint: &Endpoint) -> Option<usize> {
        self.base.destinations.iter().position(|spec| spec.endpoint == *endpoint)
    }

    fn weight(&self, endpoint: &Endpoint) -> Option<f64> {
        // Of one that is given more than once, the last weight counts.
        self.base.destinations.iter().rev().find(|spec| spec.endpoint == *endpoint).map(|spec| spec.weight)
    }

    /// Has names of the command line that do not resolve be where they were. Returns what an operator should hear of it.
    fn fall_back(&self, at: &[(Endpoint, SocketAddr)], table: &Table, own_addresses: &[SocketAddr]) -> Vec<String> {
        let mut remarks = Vec::new();
        for Unresolved { endpoint, reason, .. } in table.unresolved() {
            let known = at.iter().filter(|(name, _)| *name == endpoint).map(|(_, address)| *address);
            let known: Vec<_> = known.filter(|it| !resolve::is_own_address(own_addresses, *it)).collect();
            if let Some(first) = known.first() {
                remarks.push(format!("destination {endpoint}: {reason}; it is taken to be at {first}, where it was"));
                table.follow(&endpoint, &known, self.base.all_addresses);
            }
        }
        remarks
    }

    /// Makes the file's changes. Returns those that could be made, and adds what an operator should hear of the others.
    fn make_changes(
        &self,
        Contents { entries, writer, .. }: Contents,
        table: &Table,
        own_addresses: &[SocketAddr],
        remarks: &mut Vec<String>,
    ) -> Vec<String> {
        let unresolved: HashSet<Endpoint> = table.unresolved().into_iter().map(|it| it.endpoint).collect();
        let unknown = |Entry { spec, .. }: &&Entry| {
            spec.weight >= 0.0 && !unresolved.contains(&spec.endpoint) && table.addresses_of(&spec.endpoint).is_empty()
        };
        let unknown: Vec<Endpoint> = entries.iter().filter(unknown).map(|it| it.spec.endpoint.clone()).collect();
        let found = Found {
            saved: saved_addresses(&entries),
            now: resolve::resolve_all(unknown, Some(resolve::PATIENCE), &mut || false),
        };
        let mut made = Vec::new();
        let mut note = |what: String, result: Result<(), String>| match result {
            Ok(()) => made.push(what),
            Err(remark) => remarks.push(remark),
        };
        for Entry { spec, .. } in &entries {
            note(format!("{}:{}", spec.endpoint, spec.weight), self.apply(spec, &found, table, own_addresses));
        }
        if let Some((endpoint, address)) = writer {
            note(format!("{WRITER}{endpoint}"), prefer(&endpoint, address, table));
        }
        made
    }

    /// Makes one change. An error is what an operator should hear of it.
    fn apply(
        &self,
        DestinationSpec { endpoint, weight }: &DestinationSpec,
        found: &Found,
        table: &Table,
        own_addresses: &[SocketAddr],
    ) -> Result<(), String> {
        if *weight < 0.0 {
            match address_of(endpoint) {
                Some(address) => table.withdraw(address),
                // That there is nothing to remove is what is wanted.
                None => drop(table.remove_name(endpoint)),
            }
            return Ok(());
        }
        if table.reweigh_unresolved(endpoint, *weight).is_some() {
            return Ok(());
        }
        let told = |reason: String| format!("destination {endpoint}: {reason}");
        let addresses = match self.locate(endpoint, found, table) {
            Ok(addresses) => addresses,
            Err(reason) => {
                let expected = table.expect(endpoint, *weight, Reason::new(&reason));
                return expected.map_err(|error| told(error.to_string()));
            }
        };
        for address in addresses {
            if *weight > 0.0 && resolve::is_own_address(own_addresses, address) {
                return Err(told("this daemon listens there itself".to_owned()));
            }
            table.set(endpoint, address, *weight).map_err(|error| told(error.to_string()))?;
        }
        Ok(())
    }

    /// Where a destination is: in the table, or as it resolves, or where it was when it does not.
    fn locate(&self, endpoint: &Endpoint, found: &Found, table: &Table) -> Result<Vec<SocketAddr>, String> {
        if let Some(address) = address_of(endpoint) {
            return Ok(vec![address]);
        }
        let known = table.addresses_of(endpoint);
        if !known.is_empty() {
            return Ok(known);
        }
        let most = if self.base.all_addresses { usize::MAX } else { 1 };
        match (found.now.get(endpoint), found.saved.get(endpoint)) {
            (Some(Ok(all)), _) => Ok(all.iter().copied().take(most).collect()),
            (_, Some(saved)) => Ok(saved.clone()),
            (Some(Err(error)), None) => Err(resolve::in_one_line(error)),
            (None, None) => Err("it has not resolved".to_owned()),
        }
    }
}

/// Where names are.
struct Found {
    /// As the file has it.
    saved: HashMap<Endpoint, Vec<SocketAddr>>,
    /// As they resolve.
    now: HashMap<Endpoint, io::Result<Vec<SocketAddr>>>,
}

/// Has the single destination be the one that was chosen by hand. An error is what an operator should hear of it.
fn prefer(endpoint: &Endpoint, address: Option<SocketAddr>, table: &Table) -> Result<(), String> {
    let known = table.addresses_of(endpoint);
    let address = address_of(endpoint).or_else(|| match known[..] {
        [only] => Some(only),
        _ => address,
    });
    let preferred = address.is_some_and(|address| table.prefer(address));
    if preferred { Ok(()) } else { Err(format!("writer {endpoint}: it cannot be the single destination")) }
}

/// What is to be taken out, each once.
#[derive(Default)]
struct Removals {
    entries: Vec<Entry>,
    seen: HashSet<Endpoint>,
}

impl Removals {
    fn add(&mut self, endpoint: Endpoint) {
        if self.seen.insert(endpoint.clone()) {
            self.entries.push(entry(endpoint, REMOVED, None));
        }
    }
}

/// A name whose addresses differ in weight is changed address by address.
fn changed(endpoint: &Endpoint, row: &DestinationStatus, rows: &[DestinationStatus]) -> Entry {
    let mut same_name = rows.iter().filter(|other| other.wanted_as.contains(endpoint));
    match same_name.all(|other| other.weight == row.weight) {
        true => entry(endpoint.clone(), row.weight, Some(row.address)),
        false => entry(row.address.into(), row.weight, None),
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

/// Where the names were.
fn saved_addresses(entries: &[Entry]) -> HashMap<Endpoint, Vec<SocketAddr>> {
    let mut saved: HashMap<Endpoint, Vec<SocketAddr>> = HashMap::new();
    for Entry { spec, address } in entries {
        saved.entry(spec.endpoint.clone()).or_default().extend(address);
    }
    saved.retain(|_, addresses| !addresses.is_empty());
    saved
}

fn print(Contents { entries, writer, at }: &Contents) -> String {
    let printed = |address: &Option<SocketAddr>| address.map(|address| format!(" {address}")).unwrap_or_default();
    let line = |it: &Entry| format!("{}:{}{}\n", it.spec.endpoint, it.spec.weight, printed(&it.address));
    let mut body: String = entries.iter().map(line).collect();
    if let Some((endpoint, address)) = writer {
        body += &format!("{WRITER}{endpoint}{}\n", printed(address));
    }
    body.extend(at.iter().map(|(name, address)| format!("{AT}{name} {address}\n")));
    let text = format!("{HEADING}\n{body}");
    let sum = XxHash3_64::oneshot(text.as_bytes());
    format!("{text}{SUM}{sum:016x}\n")
}

fn is_at(file: &File, path: &Path) -> bool {
    let which = |found: fs::Metadata| (found.dev(), found.ino());
    file.metadata().map(which).ok() == fs::symlink_metadata(path).map(which).ok()
}

fn parse(text: &[u8]) -> Result<Contents, String> {
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
            let Entry { spec, address } = parse_entry(writer)?;
            contents.writer = Some((spec.endpoint, address));
        } else if let Some(at) = line.strip_prefix(AT) {
            let Entry { spec, address } = parse_entry(at)?;
            let address = address.ok_or_else(|| format!("'{line}': the address is missing"))?;
            contents.at.push((spec.endpoint, address));
        } else {
            contents.entries.push(parse_entry(line)?);
        }
    }
    Ok(contents)
}

fn parse_entry(line: &str) -> Result<Entry, String> {
    let (spec, address) = line.split_once(' ').map_or((line, None), |(spec, address)| (spec, Some(address)));
    let spec = parse_destination(spec, None).map_err(|error| format!("'{line}': {error}"))?;
    let address = address.map(str::parse).transpose().map_err(|_| format!("'{line}': not an address"))?;
    Ok(Entry { spec, address })
}

#[cfg(test)]
mod tests;
