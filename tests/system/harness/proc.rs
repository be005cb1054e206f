//! What the kernel counts of any process.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::time::Duration;

/// Processor time that all threads of a process used since its start.
pub fn cpu_time(pid: impl Display) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    // The name of the program, in parentheses, may contain blanks.
    let (_, fields) = stat.rsplit_once(')').expect("a name in stat");
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks")).sum();
    // Linux reports hundredths of a second, whatever its clock does inside.
    Duration::from_millis(ticks * 10)
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
