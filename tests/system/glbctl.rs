//! The command for operators, `glbctl`, beside a real daemon, and beside what only pretends to be one.

use std::fmt::Display;
use std::process::{Command, Stdio};

use serde_json::Value;

mod abuse;
mod bad_day;
mod commands;
mod follow;
mod health;
mod sessions;
mod top;
mod waiting;

pub const CTL: &str = env!("CARGO_BIN_EXE_glbctl");

/// What became of a command.
#[derive(Debug)]
pub struct Outcome {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// What it says, if it has been done.
    pub fn text(&self) -> &str {
        assert_eq!((self.status, self.stderr.as_str()), (Some(0), ""), "{self:?}");
        &self.stdout
    }

    /// The same as JSON, a value for each line.
    pub fn json(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Why it has not been done, where it ended with this status.
    pub fn refusal(&self, status: i32) -> &str {
        assert_eq!((self.status, self.stdout.as_str()), (Some(status), ""), "{self:?}");
        self.stderr.strip_prefix("glbctl: ").unwrap_or(&self.stderr)
    }
}

/// glbctl without what the environment of the tests says.
pub fn bare() -> Command {
    let mut command = Command::new(CTL);
    command.env_remove("GLB_CONTROL").env_remove("NO_COLOR").stdin(Stdio::null());
    command
}

/// Runs a command of glbctl's to its end, for the daemon there.
pub fn ctl(control: impl Display, arguments: &str) -> Outcome {
    run(bare().args(["-c", &control.to_string()]).args(arguments.split_whitespace()))
}

pub fn run(command: &mut Command) -> Outcome {
    let output = command.output().expect("glbctl starts");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Outcome { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}
