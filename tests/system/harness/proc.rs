//! What the kernel counts of any process.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::time::Duration;

use nix::time::ClockId;
use nix::unistd::Pid;

/// Processor time that all threads of a process used since its start, exact where /proc counts hundredths of a second.
pub fn cpu_time(pid: impl Display) -> Duration {
    let pid = Pid::from_raw(pid.to_string().parse().expect("a process"));
    ClockId::pid_cpu_clock_id(pid).and_then(ClockId::now).expect("it runs").into()
}

/// Whether all threads of a process are stopped. After SIGSTOP they may go on until one of them has been woken by it.
pub fn is_stopped(pid: impl Display) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let mut stats = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("stat")).ok());
    stats.all(|stat| stat.contains(") T "))
}

/// How often each thread of a process has gone to sleep and been woken, by the thread's number; only threads whose name
/// begins so.
pub fn times_woken(pid: impl Display, name: &str) -> BTreeMap<String, u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let read = |thread: &str, file: &str| fs::read_to_string(format!("/proc/{pid}/task/{thread}/{file}"));
    let count = |thread: &str| -> Option<u64> {
        let status = read(thread, "status").ok()?;
        let switches = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        switches.trim().parse().ok()
    };
    let threads = tasks.map(|task| task.expect("a task").file_name().to_string_lossy().into_owned());
    let named = threads.filter(|thread| read(thread, "comm").is_ok_and(|comm| comm.starts_with(name)));
    // A thread may end while this is being read.
    named.filter_map(|thread| Some((thread.clone(), count(&thread)?))).collect()
}

/// The processes with this name that `parent` has started and that have not ended.
pub fn children(parent: impl Display, name: &str) -> Vec<Pid> {
    all_children(parent).filter(|child| child.name == name && child.state != "Z").map(|child| child.pid).collect()
}

/// How many processes that `parent` has started have ended and were not waited for.
pub fn zombies(parent: impl Display) -> usize {
    all_children(parent).filter(|child| child.state == "Z").count()
}

struct ChildProcess {
    pid: Pid,
    name: String,
    state: String,
}

fn all_children(parent: impl Display) -> impl Iterator<Item = ChildProcess> {
    let parent = parent.to_string();
    let all = fs::read_dir("/proc").expect("processes").flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(move |pid: i32| {
        // It may have gone meanwhile.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
        let mut fields = rest.split(' ').map(str::to_owned);
        let (state, its_parent) = (fields.next()?, fields.next()?);
        (its_parent == parent).then(|| ChildProcess { pid: Pid::from_raw(pid), name: name.to_owned(), state })
    })
}

/// Memory that a process has in use, in bytes.
pub fn resident_bytes(pid: impl Display) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS in status");
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("kilobytes");
    kilobytes * 1024
}

/// How many descriptors a process has open.
pub fn descriptors(pid: impl Display) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").count()
}

/// The names of a process's threads, in order.
pub fn threads(pid: impl Display) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let name = |task: std::io::Result<fs::DirEntry>| fs::read_to_string(task.ok()?.path().join("comm")).ok();
    let mut names: Vec<_> = tasks.filter_map(name).map(|name| name.trim().to_owned()).collect();
    names.sort();
    names
}
