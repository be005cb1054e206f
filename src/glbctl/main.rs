//! `glbctl`, which shows what a glbd does and steers it, over its control socket. It is a program of its own, and uses
//! nothing of the daemon.

mod arguments;
mod change;
mod check;
mod client;
mod follow;
mod health;
mod model;
mod reports;
mod session;
mod table;
mod text;
mod top;

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use clap::error::ErrorKind as Wrong;

use arguments::{Arguments, Command, ControlAddress};
use client::{Client, Failure};
use health::Level;
use model::Filter;
use session::Session;
use table::Paint;

const REFUSED: u8 = 1;
const WRONG_USAGE: u8 = 2;
const UNREACHABLE: u8 = 3;

fn main() -> ExitCode {
    let words: Vec<OsString> = env::args_os().collect();
    // A plugin that is called wrongly does not know how things are.
    let is_plugin = words.iter().any(|word| word == "health");
    let arguments = match Arguments::try_parse_from(words) {
        Ok(arguments) => arguments,
        Err(wrong) => {
            let _ = wrong.print();
            return match wrong.kind() {
                Wrong::DisplayHelp | Wrong::DisplayVersion => ExitCode::SUCCESS,
                _ if is_plugin => ExitCode::from(Level::Unknown as u8),
                _ => ExitCode::from(WRONG_USAGE),
            };
        }
    };
    match run(arguments) {
        Ok(status) => status,
        Err(failure) => {
            let (reasons, status) = match failure {
                Failure::Refused(reasons) => (reasons, REFUSED),
                Failure::Usage(reason) => (vec![reason], WRONG_USAGE),
                Failure::Unreachable(reason) => (vec![reason], UNREACHABLE),
                Failure::Incomplete(reasons) => (reasons, UNREACHABLE),
            };
            // Without a stderr, the status has to say it all.
            reasons.iter().for_each(|reason| _ = writeln!(io::stderr(), "glbctl: {reason}"));
            ExitCode::from(if is_plugin { Level::Unknown as u8 } else { status })
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { mut control, json, pool, service, timeout, command } = arguments;
    if let (true, Ok(address)) = (control.is_empty(), env::var("GLB_CONTROL")) {
        let parsed = address.parse::<ControlAddress>();
        control.push(parsed.map_err(|reason| Failure::Usage(format!("GLB_CONTROL '{address}': {reason}")))?);
    }
    let filter = Filter { pool, service };
    if let Command::Top { interval } = command {
        let clients = if control.is_empty() { vec![None] } else { control.into_iter().map(Some).collect() };
        top::run(clients.into_iter().map(Client::new).collect(), filter, interval)?;
        return Ok(ExitCode::SUCCESS);
    }
    if control.len() > 1 {
        return Err(Failure::Usage("only top takes several daemons".into()));
    }
    let client = Client::new(control.pop());
    let session = Session { client, filter, json, timeout, begun: Instant::now(), paint: Paint::for_stdout() };
    session.check_filter(&command)?;
    session.run(command)
}
