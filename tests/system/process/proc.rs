//! What /proc tells of a process.

use std::fs;
use std::path::PathBuf;

use nix::unistd::Pid;

/// A process.
pub struct Proc(pub Pid);

impl Proc {
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.0))
    }

    /// The words of a line of its status, `Uid:` for instance.
    pub fn status(&self, label: &str) -> Vec<String> {
        let status = fs::read_to_string(self.path("status")).expect("a running process");
        let line = status.lines().find_map(|line| line.strip_prefix(label)).expect("a line of the status");
        line.split_whitespace().map(str::to_owned).collect()
    }

    /// Numbers of its stat from the one behind the state on: parent, process group, session, terminal.
    fn stat<const N: usize>(&self) -> [i32; N] {
        let stat = fs::read_to_string(self.path("stat")).expect("a running process");
        let (_, numbers) = stat.rsplit_once(") ").expect("a name in parentheses");
        let mut numbers = numbers.split_whitespace().skip(1).map(|number| number.parse().expect("a number"));
        std::array::from_fn(|_| numbers.next().expect("a number"))
    }

    pub fn parent(&self) -> Pid {
        let [parent] = self.stat();
        Pid::from_raw(parent)
    }

    pub fn session(&self) -> Pid {
        let [_, _, session] = self.stat();
        Pid::from_raw(session)
    }

    /// Whether it has a controlling terminal.
    pub fn has_terminal(&self) -> bool {
        let [_, _, _, terminal] = self.stat();
        terminal != 0
    }

    pub fn working_directory(&self) -> PathBuf {
        fs::read_link(self.path("cwd")).expect("a running process")
    }

    /// What its descriptors are, in their order; none if it has ended.
    pub fn descriptors(&self) -> Vec<(u32, String)> {
        let entries = fs::read_dir(self.path("fd")).into_iter().flatten();
        let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let mut numbers: Vec<u32> = numbers.collect();
        numbers.sort_unstable();
        let target = |number| fs::read_link(self.path(&format!("fd/{number}"))).ok();
        numbers.into_iter().filter_map(|number| Some((number, target(number)?.display().to_string()))).collect()
    }
}
