//! A file that this daemon has made, told from one that another has put in its place since.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// One that is to be gone when the daemon is.
#[derive(Debug, Clone)]
pub(super) struct OwnFile {
    pub path: PathBuf,
    /// Which it is; unknown if it was not there, or an older glbd has made it.
    identity: Option<FileIdentity>,
}

/// Tells a file from every other one. The number of one that is gone may be given to the next, but for its time of birth,
/// where the file system has that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    device: u64,
    inode: u64,
    born: Option<Duration>,
}

impl OwnFile {
    /// The file that lies there now.
    pub(super) fn at(path: PathBuf) -> OwnFile {
        let identity = identity(&path);
        OwnFile { path, identity }
    }

    /// A file that an older process of this daemon has made and handed over.
    pub(super) fn told(path: PathBuf, identity: Option<FileIdentity>) -> OwnFile {
        OwnFile { path, identity }
    }

    pub(super) fn identity(&self) -> Option<FileIdentity> {
        self.identity
    }

    /// Removes it, unless another one is in its place.
    pub(super) fn remove(&self) {
        if self.identity.is_none() || identity(&self.path) == self.identity {
            // One that is gone already needs nothing more.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl FileIdentity {
    pub(super) fn of(found: &Metadata) -> FileIdentity {
        let born = found.created().ok().and_then(|born| born.duration_since(SystemTime::UNIX_EPOCH).ok());
        FileIdentity { device: found.dev(), inode: found.ino(), born }
    }
}

fn identity(path: &Path) -> Option<FileIdentity> {
    fs::symlink_metadata(path).ok().as_ref().map(FileIdentity::of)
}
