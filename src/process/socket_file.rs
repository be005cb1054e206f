//! UNIX sockets that listen at a path: who may connect to one, and what is done with a file that an earlier process has left
//! there.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Group, Uid, User};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};

use super::own_file::FileIdentity;

/// Longest path of a socket, in bytes: `sun_path` less the zero at its end.
pub const LONGEST_PATH: usize = 107;
/// How often the directory is tried to lock, in which another process may begin to listen in the same moment.
const TRIES: u32 = 50;

/// Who may connect to a socket file: whoever may write to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketAccess {
    /// A user's name or number; `None`: the user that makes it.
    pub owner: Option<String>,
    /// A group's name or number; `None`: the group of the process that makes it.
    pub group: Option<String>,
    /// As in chmod(1).
    pub mode: u32,
}

/// A [`SocketAccess`] whose user and group are known to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResolvedAccess {
    owner: Option<u32>,
    group: Option<u32>,
    mode: u32,
}

/// Which socket files this daemon has made. A process that takes over has to know.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct MadeFiles(Vec<(PathBuf, FileIdentity)>);

static MADE: Mutex<MadeFiles> = Mutex::new(MadeFiles(Vec::new()));

impl MadeFiles {
    /// Those of this process, and of the ones that it has taken over from.
    pub fn all() -> MadeFiles {
        MADE.lock().clone()
    }

    /// They are this process's.
    pub fn inherit(self) {
        *MADE.lock() = self;
    }
}

/// Records which file was made at a path.
fn note_made(path: &Path, made: FileIdentity) {
    let files = &mut MADE.lock().0;
    files.retain(|(of, _)| of != path);
    files.push((path.to_owned(), made));
}

/// Returns true if a file that was found at a path is another one than this daemon has made there.
fn is_foreign(path: &Path, found: &Metadata) -> bool {
    let files = &MADE.lock().0;
    let made = files.iter().find(|(of, _)| of == path);
    made.is_some_and(|(_, made)| *made != FileIdentity::of(found)) || !found.file_type().is_socket()
}

/// Returns true if something else lies where this daemon has made a socket file. What an older glbd has made is not known,
/// and taken for its own if it is a socket.
pub fn is_replaced(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| is_foreign(path, &found))
}

impl SocketAccess {
    /// Looks up its user and its group.
    ///
    /// # Errors
    /// One line that names the one that there is not.
    pub fn resolve(&self) -> Result<ResolvedAccess, String> {
        let owner = self.owner.as_deref().map(user_number).transpose()?;
        let group = self.group.as_deref().map(group_number).transpose()?;
        Ok(ResolvedAccess { owner, group, mode: self.mode })
    }
}

impl ResolvedAccess {
    /// Gives the file to this user and this group where no others are asked for.
    pub fn or_of(self, (owner, group): (u32, u32)) -> ResolvedAccess {
        ResolvedAccess { owner: self.owner.or(Some(owner)), group: self.group.or(Some(group)), ..self }
    }
}

fn user_number(name: &str) -> Result<u32, String> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let user = User::from_name(name).map_err(|error| format!("user '{name}': {error}"))?;
    user.map(|it| it.uid.as_raw()).ok_or_else(|| format!("there is no user '{name}'"))
}

fn group_number(name: &str) -> Result<u32, String> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let group = Group::from_name(name).map_err(|error| format!("group '{name}': {error}"))?;
    group.map(|it| it.gid.as_raw()).ok_or_else(|| format!("there is no group '{name}'"))
}

/// Listens at `path` with a stream socket. A socket file at which no process listens any more is replaced; nothing else
/// that lies there is touched.
///
/// # Errors
/// `EADDRINUSE` when another process listens there, or when there is a file that is no socket, or another user's; and the
/// others of bind(2), chown(2) and chmod(2). No file is left behind then.
pub fn listen(path: &Path, access: ResolvedAccess, backlog: i32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    // The file has the socket's mode from the beginning: nobody connects who may not.
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let address = SockAddr::unix(path)?;
    // Up to the end: a socket that does not listen yet looks like a stale one.
    let _lock = lock_directory_of(path);
    remove_stale(path);
    socket.bind(&address)?;
    fs::symlink_metadata(path).iter().for_each(|made| note_made(path, FileIdentity::of(made)));
    let listening = set_access(path, access).and_then(|()| socket.listen(backlog));
    if let Err(error) = listening {
        // It was made just now.
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(socket)
}

/// Has a socket file be for others than before.
///
/// # Errors
/// Those of chown(2) and chmod(2); `AlreadyExists` when it is not the one that this daemon has made.
pub fn set_access(path: &Path, access: ResolvedAccess) -> io::Result<()> {
    // Whatever is put in its place meanwhile is not what is changed.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)?;
    let found = file.metadata()?;
    if is_foreign(path, &found) {
        return Err(io::Error::new(ErrorKind::AlreadyExists, "another file lies there, which is left alone"));
    }
    let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
    let owner = access.owner.filter(|owner| *owner != found.uid());
    let group = access.group.filter(|group| *group != found.gid());
    if owner.is_some() || group.is_some() {
        chown(&opened, owner, group)?;
    }
    // Whoever may not change it is not kept from what is the case already.
    if owner.is_none() && group.is_none() && found.mode() & 0o7777 == access.mode {
        return Ok(());
    }
    fs::set_permissions(&opened, Permissions::from_mode(access.mode))
}

/// Removes a socket file that an earlier process was killed too fast to remove: one at which no process listens, and that
/// is this user's, or anybody's when this is root. To be called with [the directory locked](lock_directory_of).
fn remove_stale(path: &Path) {
    let user = Uid::effective();
    let may_be_ours = |owner| user.is_root() || owner == user.as_raw();
    let ours = fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket() && may_be_ours(it.uid()));
    if ours && is_abandoned(path) {
        // If it cannot be removed, bind(2) says that it is there.
        let _ = fs::remove_file(path);
    }
}

/// Returns true if no process listens at a socket file.
fn is_abandoned(path: &Path) -> bool {
    // One that listens may have a full backlog, which is not waited for.
    let connected = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)
        .and_then(|socket| socket.connect(&SockAddr::unix(path)?));
    connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// Keeps other processes from looking whether a file in this directory is stale, for a moment: of two that replace the same
/// one, the second would remove what the first has made. Without the lock, which whoever may read the directory can hold
/// for ever, that is left to chance.
fn lock_directory_of(path: &Path) -> Option<Flock<File>> {
    let parent = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut directory = File::open(parent).ok()?;
    for _ in 0..TRIES {
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Some(lock),
            Err((returned, _)) => directory = returned,
        }
        thread::sleep(Duration::from_millis(2));
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    const OWN: SocketAccess = SocketAccess { owner: None, group: None, mode: 0o600 };

    fn open(path: &Path) -> io::Result<Socket> {
        listen(path, OWN.resolve().expect("nobody to look up"), 8)
    }

    #[test]
    fn a_stale_socket_is_replaced_and_one_that_is_listened_at_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        let first = open(&path).expect("a socket");
        assert_eq!(open(&path).expect_err("somebody listens").kind(), ErrorKind::AddrInUse);
        UnixStream::connect(&path).expect("the first one listens as before");
        drop(first);
        let _second = open(&path).expect("nobody listens any more");
        UnixStream::connect(&path).expect("it listens");
    }

    #[test]
    fn a_socket_whose_backlog_is_full_is_not_stale() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        let _socket = listen(&path, OWN.resolve().expect("nobody to look up"), 0).expect("a socket");
        let _client = UnixStream::connect(&path).expect("there is room for one");
        assert_eq!(open(&path).expect_err("somebody listens").kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, link) = (directory.path().join("file"), directory.path().join("link"));
        fs::write(&path, "precious").expect("a file");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        for taken in [&path, &link, &directory.path().to_owned()] {
            assert_eq!(open(taken).expect_err("it is taken").kind(), ErrorKind::AddrInUse, "{}", taken.display());
        }
        assert_eq!(fs::read_to_string(&path).expect("a file"), "precious");
        assert!(set_access(&link, OWN.resolve().expect("nobody to look up")).is_err());
    }

    #[test]
    fn a_file_has_the_mode_that_is_asked_for_whatever_the_mask() {
        let directory = tempfile::tempdir().expect("a directory");
        for mode in [0o600, 0o660, 0o666, 0o777, 0o200] {
            let path = directory.path().join(format!("{mode:o}"));
            let access = SocketAccess { mode, ..OWN }.resolve().expect("nobody to look up");
            let _socket = listen(&path, access, 8).expect("a socket");
            assert_eq!(fs::metadata(&path).expect("a file").mode() & 0o777, mode);
        }
    }

    #[test]
    fn users_and_groups_that_there_are_not_are_named() {
        let told = |access: SocketAccess| access.resolve().expect_err("there is none");
        assert_eq!(told(SocketAccess { owner: Some("no-such".into()), ..OWN }), "there is no user 'no-such'");
        assert_eq!(told(SocketAccess { group: Some("no-such".into()), ..OWN }), "there is no group 'no-such'");
        assert!(SocketAccess { owner: Some("12345".into()), group: Some("root".into()), ..OWN }.resolve().is_ok());
    }

    #[test]
    fn of_many_that_replace_a_stale_socket_at_once_one_listens() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        for _ in 0..20 {
            drop(open(&path).expect("nobody listens"));
            let opened: Vec<_> = thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| open(&path))).collect();
                threads.into_iter().map(|it| it.join().expect("it ends")).collect()
            });
            assert_eq!(opened.iter().filter(|it| it.is_ok()).count(), 1, "{opened:?}");
            UnixStream::connect(&path).expect("the one that listens is the one in the file");
        }
    }
}
