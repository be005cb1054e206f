//! What was changed by hand at run time, kept in a file for the next start.
//!
//! The file is text: a heading, the shortest list of control commands that makes the present table of the command
//! line's, and a line with their checksum. Behind a host name's command stands the address that it had, for a start at
//! which it does not resolve. The file is only ever replaced as a whole, by one that has reached the disk.

mod apply;
mod changes;
mod contents;
pub mod fuzz;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::address::DestinationSpec;
use crate::config::{MAIN, PoolConfig};
use crate::pool::MAX_DESTINATIONS;
use crate::resolve::OwnAddresses;
use crate::service::{PoolEntry, Setup};
use contents::{Contents, Entry, parse, print};

/// Of the longest lines there may be, for every destination of a pool and every one that was removed.
const MAX_SIZE: u64 = 3 * MAX_DESTINATIONS as u64 * 400;
/// How long another daemon may take to let go of the file.
const PATIENCE: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(10);

/// What the changes of a pool are made to.
struct Base<'c> {
    /// The destinations that were asked for.
    destinations: &'c [DestinationSpec],
    /// Whether all addresses of a name are destinations, not only one.
    all_addresses: bool,
    /// Whether the daemon finds destinations by itself, but for those that were removed by hand.
    finds_more: bool,
}

impl<'c> From<&'c PoolConfig> for Base<'c> {
    fn from(config: &'c PoolConfig) -> Base<'c> {
        let discovers = config.watchdog.as_ref().is_some_and(|options| options.discover);
        Base {
            destinations: &config.destinations,
            all_addresses: config.resolve_all,
            finds_more: config.resolve_all || discovers,
        }
    }
}

/// The file.
pub struct StateFile {
    path: PathBuf,
    /// The file as it was last read or written: locked, so that no other daemon keeps its state there.
    claimed: Mutex<Option<File>>,
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
    /// The state that is kept at `path`, or where a link there leads to.
    pub fn new(path: &Path) -> StateFile {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        StateFile { path, claimed: Mutex::new(None) }
    }

    /// Makes the file's changes to pools that hold what was asked for. A damaged file, or one of something else,
    /// is moved out of the way, to the same name with `.damaged` behind it.
    ///
    /// # Errors
    /// When what is there is no ordinary file, cannot be read, or cannot be moved, or another daemon has it.
    pub fn load(&self, setup: &Setup, own_addresses: &OwnAddresses) -> io::Result<Loaded> {
        if !self.is_there()? {
            return Ok(Loaded::Nothing);
        }
        self.release();
        let file = self.claim()?;
        let loaded = apply_all(&file, setup, own_addresses)?;
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
    pub fn preview(&self, setup: &Setup, own_addresses: &OwnAddresses) -> io::Result<Loaded> {
        match self.is_there()? {
            true => apply_all(&self.open()?, setup, own_addresses),
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
    pub fn save(&self, setup: &Setup) -> io::Result<()> {
        let new = self.beside("new");
        // What a killed daemon has left, or somebody has put there.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.write(&new, setup).and_then(|file| fs::rename(&new, &self.path).map(|()| file));
        let file = file.inspect_err(|_| {
            // Half a file would take what room there is on a full disk.
            let _ = fs::remove_file(&new);
        })?;
        *self.claimed.lock() = Some(file);
        // The name is in the directory, which has to reach the disk as well.
        File::open(self.path.parent().unwrap_or(Path::new("/")))?.sync_all()
    }

    /// Writes the changes to a file that is not there yet, up to the disk.
    fn write(&self, path: &Path, setup: &Setup) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let mut file = options.open(path)?;
        // Nobody else knows of it, and not every file system has locks.
        let _ = file.try_lock();
        file.write_all(print(&contents_of(setup)).as_bytes())?;
        file.sync_all()?;
        Ok(file)
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
}

/// What is kept of these pools and services.
fn contents_of(setup: &Setup) -> Contents {
    let mut contents = Contents::default();
    for PoolEntry { config, pool } in &setup.pools {
        let (base, of) = (Base::from(config), named(&config.name));
        contents.entries.extend(base.changes(pool).into_iter().map(|it| it.of(of.clone())));
        let in_base = pool.named_addresses().into_iter().filter(|(name, _)| base.place(name).is_some());
        contents.at.extend(in_base.map(|(name, address)| Entry::new(name, 1.0, Some(address)).of(of.clone())));
    }
    for service in &setup.services {
        let chosen = service.rotation().chosen();
        let entry = |(name, address)| Entry::new(name, 1.0, Some(address)).of(named(&service.config.name));
        contents.writers.extend(chosen.map(entry));
    }
    contents
}

/// How a pool or a service is called in the file: not at all where nobody has given it a name.
fn named(name: &str) -> Option<String> {
    (name != MAIN).then(|| name.to_owned())
}

fn apply_all(file: &File, setup: &Setup, own_addresses: &OwnAddresses) -> io::Result<Loaded> {
    let mut text = Vec::new();
    file.take(MAX_SIZE * setup.pools.len() as u64).read_to_end(&mut text)?;
    let contents = match parse(&text) {
        Ok(contents) => contents,
        Err(reason) => return Ok(Loaded::Damaged(reason)),
    };
    let (mut made, mut remarks) = (Vec::new(), Vec::new());
    for PoolEntry { config, pool } in &setup.pools {
        let base = Base::from(config);
        let is_meant = |it: &&Entry| match &it.of {
            Some(name) => **name == *config.name,
            None => setup.pool_without_a_name().is_some_and(|meant| meant.config.name == config.name),
        };
        let of = |entries: &'_ [Entry]| entries.iter().filter(is_meant).cloned().collect::<Vec<Entry>>();
        let (at, entries) = (of(&contents.at), of(&contents.entries));
        remarks.extend(base.fall_back(&at, pool, own_addresses));
        made.extend(base.make_changes(&entries, pool, own_addresses, &mut remarks));
    }
    for writer in &contents.writers {
        let service = match &writer.of {
            Some(name) => setup.service(name),
            None if setup.is_plain() => setup.services.first(),
            None => setup.service(MAIN),
        };
        match service.map(|service| apply::prefer(writer, service.rotation())) {
            Some(Ok(what)) => made.push(what),
            Some(Err(remark)) => remarks.push(remark),
            None => remarks.push(format!("writer {}: there is no such service", writer.name())),
        }
    }
    let is_known =
        |it: &&Entry| it.of.as_ref().map_or_else(|| setup.pool_without_a_name(), |of| setup.pool(of)).is_some();
    let unknown = contents.entries.iter().filter(|it| !is_known(it));
    remarks.extend(unknown.map(|it| format!("{}: there is no such pool", it.name())));
    Ok(Loaded::Changes(made, remarks))
}

fn is_at(file: &File, path: &Path) -> bool {
    let which = |found: fs::Metadata| (found.dev(), found.ino());
    file.metadata().map(which).ok() == fs::symlink_metadata(path).map(which).ok()
}

#[cfg(test)]
mod tests;
