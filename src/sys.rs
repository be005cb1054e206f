//! Every unsafe line of the program, behind small safe functions.
//!
//! What the standard library, mio, socket2 and nix already offer safely is used from there; here is only the rest.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

/// Which of the two processes [`fork`] returned in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fork {
    /// The process that called, with the new process's id.
    Parent(i32),
    /// The new process.
    Child,
}

/// Splits the process in two.
///
/// # Errors
/// `EAGAIN` or `ENOMEM` when no process can be made, and `EBUSY` when the process already has several threads: the
/// child would hold locks that nobody can release.
pub fn fork() -> io::Result<Fork> {
    if threads() > 1 {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    // SAFETY: with one thread, the child may go on to use everything that the parent could.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

/// Returns an error if there is no memory for what a new thread maps beside its stack.
///
/// # Errors
/// `ENOMEM`, or whatever mmap(2) says.
pub fn try_to_map_memory() -> io::Result<()> {
    /// More than the standard library maps for the signals of a thread.
    const BYTES: usize = 64 * 1024;
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: the kernel chooses the place, and nothing refers to it when it is unmapped.
    let mapped = unsafe {
        let place = libc::mmap(std::ptr::null_mut(), BYTES, protection, flags, -1, 0);
        place != libc::MAP_FAILED && libc::munmap(place, BYTES) == 0
    };
    if mapped { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether it is this machine that lacks something, which says nothing about the one that it was needed to talk to.
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::ENOSPC))
}

/// Has the process that `command` starts die with the thread that starts it, however that ends.
pub fn die_with_parent(command: &mut std::process::Command) {
    let parent = std::process::id();
    let die_with_parent = move || {
        // SAFETY: neither call touches memory, and both may be made between fork and exec.
        let (result, present) = unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL), libc::getppid()) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        // It may have died before it was asked for.
        if present as u32 == parent { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) }
    };
    // SAFETY: the closure does nothing but the above, and allocates nothing.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(command, die_with_parent);
    }
}

/// Has the program that `command` starts begin with the limits of any other, of 1024 open files and as much memory as
/// there may be, and without the rights that this process was given beyond its user's.
pub fn give_usual_limits(command: &mut std::process::Command) {
    const OPEN_FILES: libc::rlim_t = 1024;
    let limit = || {
        // SAFETY: all zeroes is a valid rlimit, the calls write and read nothing but that, and all of them may be made
        // between fork and exec. What cannot be given up is kept: the program is started all the same.
        unsafe {
            let mut found: libc::rlimit = std::mem::zeroed();
            if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut found) == 0 {
                found.rlim_cur = found.rlim_max.min(OPEN_FILES);
                libc::setrlimit(libc::RLIMIT_NOFILE, &raw const found);
            }
            if libc::getrlimit(libc::RLIMIT_DATA, &raw mut found) == 0 {
                found.rlim_cur = found.rlim_max;
                libc::setrlimit(libc::RLIMIT_DATA, &raw const found);
            }
            libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        }
        Ok(())
    };
    // SAFETY: the closure does nothing but the above, and allocates nothing.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(command, limit);
    }
}

/// Has the process that `command` starts inherit `descriptor`, under the number that it has here.
pub fn inherit(command: &mut std::process::Command, descriptor: &impl AsFd) {
    let number = descriptor.as_fd().as_raw_fd();
    let keep_open = move || {
        // SAFETY: the call touches no memory, and may be made between fork and exec. A number that is open no more is
        // an error that the caller of the command gets.
        match unsafe { libc::fcntl(number, libc::F_SETFD, 0) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    };
    // SAFETY: the closure does nothing but the above, and allocates nothing.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(command, keep_open);
    }
}

/// Puts a process between this one and the program that `command` starts, which does nothing but wait for it and end as
/// it ends. When it is killed, the program goes on, and is nobody's child any more but the system's, or the service
/// manager's, who will see how it ends.
pub fn put_in_between(command: &mut std::process::Command) {
    let split = || {
        // SAFETY: the process has just been forked and has one thread; all that is called here may be called there, and
        // touches no memory but this frame's.
        unsafe {
            match libc::fork() {
                -1 => return Err(io::Error::last_os_error()),
                0 => return Ok(()),
                _ => {}
            }
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            // Whoever called waits for the last of them to be closed.
            libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0);
            let mut status = 0;
            while libc::wait(&raw mut status) == -1 && *libc::__errno_location() == libc::EINTR {}
            if libc::WIFSIGNALED(status) {
                libc::signal(libc::WTERMSIG(status), libc::SIG_DFL);
                libc::raise(libc::WTERMSIG(status));
            }
            libc::_exit(libc::WEXITSTATUS(status))
        }
    };
    // SAFETY: the closure allocates nothing; see there.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(command, split);
    }
}

/// Takes a variable out of the environment. To be called while the process has one thread; with more, nothing is done.
pub fn forget_variable(name: &str) {
    if threads() == 1 {
        // SAFETY: nobody else reads the environment at the same time.
        unsafe { std::env::remove_var(name) }
    }
}

/// Takes possession of a descriptor that the process was started with, which its own children do not inherit.
///
/// # Errors
/// `EBADF` when there is no such descriptor.
pub fn take_inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: callers name descriptors that whoever started this process has said to be for them, each once; so nothing
    // else in it owns them. Whether it is open is seen by the next call, before anything is done with it.
    let descriptor = unsafe { std::mem::ManuallyDrop::new(OwnedFd::from_raw_fd(number)) };
    fcntl(&*descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(std::mem::ManuallyDrop::into_inner(descriptor))
}

/// Most descriptors that come with one message.
pub const MAX_DESCRIPTORS: usize = 64;

/// Receives one message from a socket that keeps messages apart, and the descriptors that came with it. A length of 0 is
/// the other end's close; of a message that is longer than `buffer`, the rest is lost.
///
/// # Errors
/// Those of recvmsg(2), `WouldBlock` after the socket's timeout for instance.
pub fn receive(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = nix::cmsg_space!([RawFd; MAX_DESCRIPTORS]);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_fd().as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let mut descriptors = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            // SAFETY: the kernel has just made these for this process, and nobody else knows of them.
            descriptors.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
        }
    }
    Ok((message.bytes, descriptors))
}

/// Ends the process at once: no destructors, no exit handlers, no flushing.
pub fn exit_at_once(status: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(status) }
}

/// Closes every descriptor from `first` on, whatever it belongs to: for a process that was just forked, or has just
/// started and inherited descriptors that are none of its business.
pub fn close_descriptors_from(first: u32) {
    // SAFETY: called before anything that owns such a descriptor exists in this process, or where nothing of it will
    // be used any more. An error means an old kernel without close_range, where they merely stay open.
    unsafe {
        libc::syscall(libc::SYS_close_range, first, u32::MAX, 0);
    }
}

/// Whether the process was started with this signal ignored, or has ignored it since.
pub fn is_signal_ignored(signal: i32) -> bool {
    // SAFETY: all zeroes is a valid sigaction, and with no new action the call only writes the present one to it.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

/// Has `action` called whenever this signal comes, in whichever thread that finds. It must do only what signal-safety(7)
/// permits: no locks, and no memory taken or given back.
///
/// # Errors
/// Those of sigaction(2); a signal that cannot be taken.
pub fn on_signal(signal: i32, action: impl Fn() + Send + Sync + 'static) -> io::Result<()> {
    // SAFETY: that the action does nothing else is the caller's promise, of which there is one.
    unsafe { signal_hook::low_level::register(signal, action) }.map(drop)
}

/// Sends one line to syslog under the facility of [`open_syslog`], with the process id. `priority` is one of `libc::LOG_*`.
/// A line that syslogd cannot take is lost: there is nobody to tell.
pub fn syslog(priority: i32, line: &str) {
    let Ok(line) = CString::new(line.replace('\0', " ")) else {
        return;
    };
    // SAFETY: both strings end in NUL, and the format takes exactly one string.
    unsafe { libc::syslog(priority, c"%s".as_ptr(), line.as_ptr()) }
}

/// Names the program in the lines of [`syslog`], and their facility, one of `libc::LOG_*`.
pub fn open_syslog(facility: i32) {
    // SAFETY: the name is static, as openlog needs it to be.
    unsafe { libc::openlog(c"glbd".as_ptr(), libc::LOG_PID | libc::LOG_NDELAY, facility) }
}

/// Makes a listening socket report a connection only once its client has sent something, waiting up to `seconds`.
///
/// # Errors
/// Those of setsockopt(2); none is expected on a TCP socket.
pub fn set_defer_accept(listener: &impl AsFd, seconds: i32) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `seconds`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            listener.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            size_of_val(&seconds) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Bytes that were written to a TCP socket and that the other end's kernel has not acknowledged yet.
///
/// # Errors
/// Those of ioctl(2); none is expected on a connected TCP socket.
pub fn unacknowledged_bytes(socket: &impl AsFd) -> io::Result<usize> {
    /// SIOCOUTQ of linux/sockios.h has the same number.
    const SIOCOUTQ: libc::Ioctl = libc::TIOCOUTQ;
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes one int to the pointer.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), SIOCOUTQ, &raw mut bytes) };
    if result == 0 { Ok(usize::try_from(bytes).unwrap_or(0)) } else { Err(io::Error::last_os_error()) }
}
