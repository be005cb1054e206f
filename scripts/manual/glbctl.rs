//! glbctl's manual page: its commands with their arguments, as the program defines them.

use std::error::Error;

use clap::builder::StyledStr;
use clap::{Arg, Command};
use clap_mangen::Man;

/// What is not in the definition of the command line.
const HEAD: &str = ".SH NAME\nglbctl \\- show and steer the TCP load balancer glbd\n";
const TAIL: &str = include_str!("glbctl.8");

/// The page.
pub fn page(mut command: Command) -> Result<String, Box<dyn Error>> {
    command.build();
    let mut page =
        format!(".TH GLBCTL 8 \"\" \"glbd {}\"\n.nr HY 0\n.nh\n.ad l\n.ss 12 0\n", env!("CARGO_PKG_VERSION"));
    page += HEAD;
    page += ".SH SYNOPSIS\n\\fBglbctl\\fR [\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGUMENTS\\fR]\n";
    page += &format!(".SH DESCRIPTION\n{}.\n", plain(command.get_about()));
    let mut options = Vec::new();
    Man::new(command.clone()).render_options_section(&mut options)?;
    page += &String::from_utf8(options)?;
    page += ".SH COMMANDS\n";
    for one in command.get_subcommands().filter(|one| one.get_name() != "help") {
        page += &describe(one);
    }
    Ok(page + TAIL)
}

fn describe(command: &Command) -> String {
    let own = || command.get_arguments().filter(|it| !it.is_global_set() && it.get_id() != "help");
    let positional = own().filter(|it| it.is_positional());
    let words: String = positional.map(|it| format!(" \\fI{}\\fR", escaped(&value_name(it)))).collect();
    let options = if own().any(|it| !it.is_positional()) { " [\\fIOPTIONS\\fR]" } else { "" };
    let mut text = format!(".SS \"\\fB{}\\fR{words}{options}\"\n{}.\n", command.get_name(), plain(command.get_about()));
    for it in own() {
        let name = match it.get_long() {
            None => format!("\\fI{}\\fR", escaped(&value_name(it))),
            Some(long) => {
                let short = it.get_short().map(|short| format!("\\fB\\-{short}\\fR, ")).unwrap_or_default();
                let takes = it.get_action().takes_values();
                let value = if takes { format!(" \\fI{}\\fR", escaped(&value_name(it))) } else { String::new() };
                format!("{short}\\fB{}\\fR{value}", escaped(&format!("--{long}")))
            }
        };
        let default: String = it
            .get_default_values()
            .iter()
            .filter(|_| it.get_action().takes_values())
            .map(|it| format!(" [default: {}]", it.to_string_lossy()))
            .collect();
        text += &format!(".TP\n{name}\n{}{}\n", plain(it.get_help()), escaped(&default));
    }
    text
}

fn value_name(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn plain(text: Option<&StyledStr>) -> String {
    escaped(&text.map(ToString::to_string).unwrap_or_default())
}

fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}
