//! Programs that a test makes. Another process writes them: a descriptor of this one's could be inherited by a process
//! that another test starts in the same moment, and nobody can execute a file that is open for writing.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::glbd::PROGRAM;

/// Makes a copy of the program under test, in the place of whatever is there.
pub fn copy_program(to: &Path) {
    let status = Command::new("install").args(["-m", "755", PROGRAM]).arg(to).status();
    assert!(status.expect("install, from Debian's package coreutils").success(), "no copy at {}", to.display());
}

/// Makes a script, or something that looks like one, in the place of whatever is there.
pub fn write_script(to: &Path, text: &str, mode: u32) {
    let mut install = Command::new("install")
        .arg(format!("--mode={mode:o}"))
        .arg("/dev/stdin")
        .arg(to)
        .stdin(Stdio::piped())
        .spawn()
        .expect("install, from Debian's package coreutils");
    install.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("install reads");
    assert!(install.wait().expect("a child of this process").success(), "no script at {}", to.display());
}
