//! `glbd`, the program. What it consists of is told in the library's documentation.

use std::io::Write;
use std::process::ExitCode;

use glbd::checker;
use glbd::config::{self, Config, Refused};
use glbd::daemon;

/// The command line is wrong.
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    checker::run_if_asked();
    let arguments = match config::own_arguments() {
        Ok(arguments) => arguments,
        Err(reason) => return fail(&reason, ExitCode::from(WRONG_USAGE)),
    };
    let config = match Config::from_command_line(arguments) {
        Ok(config) => config,
        Err(Refused::Show(text)) => {
            // Whoever closed stdout does not want to read it.
            let _ = std::io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(Refused::Wrong(reason)) => return fail(&reason, ExitCode::from(WRONG_USAGE)),
        Err(Refused::WrongFile(reasons)) => {
            reasons.iter().for_each(|reason| _ = fail(reason, ExitCode::from(WRONG_USAGE)));
            return ExitCode::from(WRONG_USAGE);
        }
    };
    if config.check {
        return match daemon::check(config) {
            Ok(lines) => {
                let text: String = lines.iter().map(|line| format!("glbd: {}\n", in_one_line(line))).collect();
                let _ = std::io::stdout().write_all(text.as_bytes());
                ExitCode::SUCCESS
            }
            Err(reason) => fail(&reason, ExitCode::FAILURE),
        };
    }
    match daemon::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => fail(&reason, ExitCode::FAILURE),
    }
}

fn fail(reason: &str, status: ExitCode) -> ExitCode {
    // Without a stderr, the status has to say it all.
    let _ = writeln!(std::io::stderr(), "glbd: {}", in_one_line(reason));
    status
}

/// Whatever was in the arguments that it repeats.
fn in_one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}
