//! `glbd`, the program. What it consists of is told in the library's documentation.

use std::io::Write;
use std::process::ExitCode;

use glbd::checker;
use glbd::config::{Config, Refused};
use glbd::daemon;

/// The command line is wrong.
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    checker::run_if_asked();
    let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let config = match Config::from_command_line(arguments) {
        Ok(config) => config,
        Err(Refused::Show(text)) => {
            // Whoever closed stdout does not want to read it.
            let _ = std::io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(Refused::Wrong(reason)) => return fail(&reason, ExitCode::from(WRONG_USAGE)),
    };
    match daemon::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => fail(&reason, ExitCode::FAILURE),
    }
}

fn fail(reason: &str, status: ExitCode) -> ExitCode {
    // One line, whatever was in the arguments that it repeats.
    let line = reason.replace(char::is_control, " ");
    // Without a stderr, the status has to say it all.
    let _ = writeln!(std::io::stderr(), "glbd: {line}");
    status
}
