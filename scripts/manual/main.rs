//! Writes the manual pages of glbd and glbctl and the shells' completions into a directory. The options are those of the
//! programs' own definitions of their command lines; what glbd's page says besides is in `head.8` and `sections.8`.

#[path = "../../src/glbctl/arguments.rs"]
#[allow(dead_code, reason = "of a program that is not run here")]
mod arguments;
mod glbctl;

use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

use clap::{Arg, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

/// The page before the synopsis, but for its title.
const HEAD: &str = include_str!("head.8");
/// The page after the options.
const SECTIONS: &str = include_str!("sections.8");

fn main() -> Result<(), Box<dyn Error>> {
    let directory = PathBuf::from(env::args_os().nth(1).ok_or("which directory to write to?")?);
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("glbctl.8"), glbctl::page(arguments::Arguments::command())?)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut glbd::config::command(), "glbd", &directory)?;
        clap_complete::generate_to(shell, &mut arguments::Arguments::command(), "glbctl", &directory)?;
    }
    // The last one: make looks at it.
    fs::write(directory.join("glbd.8"), page()?)?;
    Ok(())
}

fn page() -> Result<String, Box<dyn Error>> {
    let mut command = glbd::config::command();
    // The options --help and --version are added by this.
    command.build();
    let description = format!("{}.", command.get_about().ok_or("glbd does not say what it does")?);
    let man = Man::new(command.long_about(description).mut_args(as_in_the_help));
    let mut synopsis = Vec::new();
    man.render_synopsis_section(&mut synopsis)?;
    man.render_description_section(&mut synopsis)?;
    let mut options = Vec::new();
    man.render_options_section(&mut options)?;

    let title = concat!(".TH GLBD 8 \"\" \"glbd ", env!("CARGO_PKG_VERSION"), "\"\n");
    let options = as_subsections(&String::from_utf8(options)?);
    Ok([title, HEAD, &String::from_utf8(synopsis)?, ".SH OPTIONS\n", &options, SECTIONS].concat())
}

/// clap_mangen leaves out an option's further names, and puts options without a heading in front of the others.
fn as_in_the_help(argument: Arg) -> Arg {
    let argument = match argument.get_help_heading() {
        Some(_) => argument,
        None if argument.is_positional() => argument.help_heading("Arguments"),
        None => argument.help_heading("Other"),
    };
    let Some(names) = argument.get_visible_aliases().filter(|names| !names.is_empty()) else { return argument };
    let names = names.iter().map(|name| format!("--{name}")).collect::<Vec<_>>().join(", ");
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    argument.help(format!("{help} [aliases: {names}]"))
}

/// clap_mangen makes a section of each heading.
fn as_subsections(options: &str) -> String {
    let line = |line: &str| match line.strip_prefix(".SH ") {
        Some(heading) => format!(".SS {}{}\n", &heading[..1], heading[1..].to_lowercase()),
        None => format!("{line}\n"),
    };
    options.lines().map(line).collect()
}
