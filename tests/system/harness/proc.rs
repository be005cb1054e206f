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
