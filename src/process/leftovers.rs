//! The files that must be gone when the daemon is.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, lchown};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Identity;
use super::janitor::{Janitor, Pidfile};
use super::own_file::{FileIdentity, OwnFile};

/// Files that are removed when this is dropped, or [removed](Leftovers::remove) on time.
#[derive(Default)]
pub struct Leftovers {
    files: Vec<OwnFile>,
    pidfile: Option<(PathBuf, File)>,
    /// `NAME=VALUE` in the environment of processes that are to end with this one.
    mark: Option<String>,
    janitor: Option<Janitor>,
    /// Those files that the janitor is to remove, as far as this process has made them.
    janitors: Vec<OwnFile>,
}

/// What a process that takes over has to know of [`Leftovers`], beside the janitor's descriptor.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Handed {
    files: Vec<PathBuf>,
    /// Which the files are. An older glbd does not tell.
    #[serde(default)]
    identities: Vec<Option<FileIdentity>>,
    pidfile: Option<PathBuf>,
    mark: Option<String>,
}

impl Handed {
    /// `NAME=VALUE` in the environment of processes that are to end with the last one that takes over.
    pub fn mark(&self) -> Option<&str> {
        self.mark.as_deref()
    }
}

impl Leftovers {
    /// Makes the pid file, and has it removed at the end.
    ///
    /// # Errors
    /// One line that names the file, when it cannot be written, is no ordinary file, or holds the id of a glbd that is
    /// alive.
    pub fn write_pidfile(&mut self, path: &Path) -> Result<(), String> {
        let told = |error: String| format!("pid file {}: {error}", path.display());
        if fs::symlink_metadata(path).is_ok_and(|it| !it.is_file()) {
            return Err(told("there is something that is no ordinary file".to_owned()));
        }
        match noted_process(path) {
            Err(()) => return Err(told("there is a file that is no pid file".to_owned())),
            Ok(Some(pid)) if is_glbd(pid) => return Err(told(format!("glbd is running already, as process {pid}"))),
            Ok(_) => {}
        }
        let file = open_pidfile(path).map_err(|error| told(error.to_string()))?;
        self.add(path.to_owned());
        write_pid(&file, std::process::id()).map_err(|error| told(error.to_string()))?;
        self.pidfile = Some((path.to_owned(), file));
        Ok(())
    }

    /// Has a file removed at the end.
    pub fn add(&mut self, path: PathBuf) {
        self.files.push(OwnFile::at(path));
    }

    /// Sees to the files of another one as well, which may have been made where its own were.
    pub fn join(&mut self, mut other: Leftovers) {
        self.files.retain(|file| other.files.iter().all(|it| it.path != file.path));
        self.files.append(&mut other.files);
    }

    /// Removes a file now that was to be removed at the end. Returns false if it stays until then, since this process may
    /// not remove it.
    pub fn remove_file(&mut self, path: &Path) -> bool {
        let own: Vec<OwnFile> = self.files.extract_if(.., |file| file.path == path).collect();
        own.iter().chain(self.janitors.iter().filter(|file| file.path == path)).for_each(OwnFile::remove);
        fs::symlink_metadata(path).is_err()
    }

    /// Has every process ended at the end that has `mark`, `NAME=VALUE`, in its environment.
    pub fn add_marked_processes(&mut self, mark: &str) {
        self.mark = Some(mark.to_owned());
    }

    /// Prepares for running as `identity`, where that is another user, who may not be able to remove the files. A FIFO
    /// in a place like /tmp is given to that user, who then can. For all others, which root goes on to own, a process
    /// stays behind that removes them when this one is gone, however it goes; and ends the marked processes.
    ///
    /// # Errors
    /// When no process can be made.
    pub fn prepare_for(&mut self, identity: Option<&Identity>) -> io::Result<()> {
        let out_of_reach = |file: &OwnFile| identity.is_some_and(|identity| !give_away(&file.path, identity));
        let (for_janitor, within_reach): (Vec<OwnFile>, _) =
            std::mem::take(&mut self.files).into_iter().partition(out_of_reach);
        self.files = within_reach;
        if !for_janitor.is_empty() || self.mark.is_some() {
            let is_its = |path: &Path| for_janitor.iter().any(|file| file.path == path);
            let pidfile = self.pidfile.take_if(|(path, _)| is_its(path));
            let pidfile = pidfile.zip(identity).map(|((_, file), identity)| Pidfile { file, user: identity.user.uid });
            self.janitor = Some(Janitor::start(&for_janitor, pidfile, self.mark.as_deref())?);
            self.janitors = for_janitor;
        }
        Ok(())
    }

    /// What another process has to know to see to the files in the place of this one, and the janitor's descriptor.
    pub fn to_hand_over(&self) -> (Handed, Option<BorrowedFd<'_>>) {
        let pidfile = self.pidfile.as_ref().map(|(path, _)| path.clone());
        let files = self.files.iter().map(|file| file.path.clone()).collect();
        let identities = self.files.iter().map(OwnFile::identity).collect();
        let handed = Handed { files, identities, pidfile, mark: self.mark.clone() };
        (handed, self.janitor.as_ref().map(AsFd::as_fd))
    }

    /// Takes over from another process.
    pub fn inherit(handed: Handed, janitor: Option<OwnedFd>) -> Leftovers {
        let Handed { files, identities, pidfile, mark } = handed;
        let identities = identities.into_iter().chain(std::iter::repeat(None));
        let files = files.into_iter().zip(identities).map(|(path, identity)| OwnFile::told(path, identity)).collect();
        // One that was taken away is not made anew.
        let open = |path: PathBuf| OpenOptions::new().write(true).open(&path).map(|file| (path, file)).ok();
        let pidfile = pidfile.and_then(open);
        Leftovers { files, pidfile, mark, janitor: janitor.map(Janitor::from), janitors: Vec::new() }
    }

    /// Has the pid file name this process, which has taken over from the one that it names.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn rewrite_pidfile(&mut self) -> io::Result<()> {
        if let Some((_, file)) = &self.pidfile {
            write_pid(file, std::process::id())?;
        }
        self.janitor.as_mut().map_or(Ok(()), |janitor| janitor.rewrite_pidfile(std::process::id()))
    }

    /// Removes nothing, since another process sees to the files now.
    pub fn abandon(&mut self) {
        self.files.clear();
        self.janitors.clear();
        // Whoever has the janitor's other descriptor keeps it from its work.
        (self.pidfile, self.janitor) = (None, None);
    }

    /// Removes the files now. The marked processes are still seen to when this is [removed](Leftovers::remove).
    pub fn remove_files(&mut self) {
        remove_all(&std::mem::take(&mut self.files));
        // One of an older glbd's does not know how to; without it, the processes would be left.
        if let Some(janitor) = &mut self.janitor
            && janitor.remove_files().is_err()
            && self.mark.is_none()
            && let Some(janitor) = self.janitor.take()
        {
            janitor.finish();
        }
    }

    /// Removes the files now, and ends the marked processes.
    pub fn remove(&mut self) {
        remove_all(&std::mem::take(&mut self.files));
        if let Some(janitor) = self.janitor.take() {
            janitor.finish();
        }
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Writes a process id over the one that is there. At no moment is there none.
pub(super) fn write_pid(file: &File, pid: u32) -> io::Result<()> {
    let line = format!("{pid}\n");
    file.write_all_at(line.as_bytes(), 0)?;
    file.set_len(line.len() as u64)
}

/// Makes `identity` the owner of a FIFO which only its owner can remove. Not of a pid file: init scripts believe what is
/// in it, as root.
fn give_away(file: &Path, identity: &Identity) -> bool {
    let mode = |path: &Path| fs::symlink_metadata(path).map_or(0, |it| it.mode());
    let is_fifo = fs::symlink_metadata(file).is_ok_and(|it| it.file_type().is_fifo());
    let anybody_may_write = file.parent().is_some_and(|directory| mode(directory) & 0o002 != 0);
    let anybody_may_enter = file.ancestors().skip(1).all(|directory| mode(directory) & 0o001 != 0);
    is_fifo && anybody_may_write && anybody_may_enter && lchown(file, Some(identity.user.uid.as_raw()), None).is_ok()
}

/// The process id in a pid file, if there is one; an error when there is something else, which is not ours to overwrite.
fn noted_process(path: &Path) -> Result<Option<u32>, ()> {
    let mut text = String::new();
    // What cannot be read cannot be written either, which then says why.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let Ok(file) = opened else { return Ok(None) };
    file.take(32).read_to_string(&mut text).map_err(drop)?;
    let number = text.trim();
    if number.bytes().all(|byte| byte.is_ascii_digit()) { Ok(number.parse().ok()) } else { Err(()) }
}

/// Whether this is another glbd that is alive; one that has ended may wait long to be reaped.
fn is_glbd(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let alive = stat.split_once(" (glbd) ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']));
    alive && pid != std::process::id()
}

/// Opens the pid file: creates it, or truncates an existing ordinary file that has no other name. Follows no link, since
/// another user may have made it to have a daemon with more rights overwrite its target.
fn open_pidfile(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o644).custom_flags(libc::O_NOFOLLOW);
    match options.clone().create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made,
    }
    let file = options.open(path)?;
    let found = file.metadata()?;
    if !found.is_file() || found.nlink() != 1 {
        return Err(io::Error::other("it is no ordinary file, or has other names"));
    }
    file.set_len(0)?;
    Ok(file)
}

pub(super) fn remove_all(files: &[OwnFile]) {
    files.iter().for_each(OwnFile::remove);
}
