//! The manual page and the completions: that they name everything, and that those who read them have no complaint.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::glbctl::CTL;
use crate::harness::Glbd;
use crate::harness::glbd::run;
use crate::harness::manual::manual;

fn page() -> Output {
    page_of("glbd")
}

fn page_of(program: &str) -> Output {
    Command::new("man")
        .env("LC_ALL", "C.UTF-8")
        .env("MANWIDTH", "80")
        .args(["--warnings", "--local-file"])
        .arg(manual().join(format!("{program}.8")))
        .output()
        .expect("man, from Debian's package man-db")
}

/// The manual page as it is read, its lines joined.
fn text() -> String {
    String::from_utf8(page().stdout).expect("text").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn help() -> String {
    String::from_utf8(run(&["--help"]).stdout).expect("text")
}

/// The words of a text that begin so.
fn words(text: &str, beginning: &str) -> Vec<String> {
    let word = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric() && c != '-').to_owned();
    text.split_whitespace().map(word).filter(|word| word.starts_with(beginning)).collect()
}

#[test]
fn the_manual_pages_are_formatted_without_a_warning() {
    for program in ["glbd", "glbctl"] {
        let page = page_of(program);
        assert!(page.status.success(), "{page:?}");
        assert_eq!(String::from_utf8_lossy(&page.stderr), "");
    }
}

#[test]
fn the_manual_page_names_what_the_help_does() {
    let (page, help) = (text(), help());
    for beginning in ["--", "SIG"] {
        let names = words(&help, beginning);
        assert!(!names.is_empty(), "{beginning} in {help}");
        for name in names {
            assert!(page.contains(&name), "{name} in {page}");
        }
    }
}

#[test]
fn the_manual_page_of_glbctl_names_what_its_help_does() {
    let page = String::from_utf8(page_of("glbctl").stdout).expect("text");
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    let help = |arguments: &[&str]| -> String {
        String::from_utf8(Command::new(CTL).args(arguments).output().expect("glbctl starts").stdout).expect("text")
    };
    let own = help(&["--help"]);
    let commands = own.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| line.starts_with(' '));
    let commands: Vec<&str> = commands.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(commands.contains(&"top") && commands.len() > 15, "{commands:?}");
    for command in commands.into_iter().filter(|command| *command != "help") {
        assert!(page.contains(command), "{command} in {page}");
        for option in words(&help(&[command, "--help"]), "--") {
            assert!(page.contains(&option), "{option} of {command} in {page}");
        }
    }
}

#[test]
fn the_manual_page_names_each_command_of_the_control_protocol() {
    let page = text();
    for line in Glbd::start([""; 0]).control("help").lines() {
        let command = line.split_whitespace().next().expect("a command");
        assert!(page.contains(command), "{command} in {page}");
    }
}

#[test]
fn the_manual_page_has_all_sections_once() {
    let page = String::from_utf8(page().stdout).expect("text");
    let sections: Vec<&str> = page.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase())).collect();
    // Its first line is the title. The last line is not, it begins with the program's name.
    let expected = [
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "OPTIONS",
        "CONTROL PROTOCOL",
        "PROBES",
        "SIGNALS",
        "FILES",
        "EXIT STATUS",
        "EXAMPLES",
        "SEE ALSO",
    ];
    assert_eq!(sections[1..], expected);
}

/// Runs a shell, which must have no complaint, and returns what it says.
fn shell(shell: &str, arguments: &[&str], file: &Path) -> String {
    let outcome = Command::new(shell).args(arguments).arg(file).output();
    let outcome = outcome.unwrap_or_else(|error| panic!("{shell}, from Debian's package {shell}: {error}"));
    assert!(outcome.status.success() && outcome.stderr.is_empty(), "{outcome:?}");
    String::from_utf8(outcome.stdout).expect("text")
}

#[test]
fn bash_completes_options() {
    let ask = r#". "$0"; COMP_WORDS=(glbctl hist) COMP_CWORD=1; _glbctl glbctl hist glbctl; echo "${COMPREPLY[@]}""#;
    assert_eq!(shell("bash", &["--norc", "-c", ask], &manual().join("glbctl.bash")), "history\n");
    let ask = r#". "$0"; COMP_WORDS=(glbd --thr) COMP_CWORD=1; _glbd glbd --thr glbd; echo "${COMPREPLY[@]}""#;
    assert_eq!(shell("bash", &["--norc", "-c", ask], &manual().join("glbd.bash")), "--threads\n");
}

#[test]
fn fish_completes_options() {
    let ask = r#"source $argv[1]; complete --do-complete "glbctl hist""#;
    let said = shell("fish", &["--no-config", "--command", ask], &manual().join("glbctl.fish"));
    assert!(said.starts_with("history\t"), "{said}");
    let ask = r#"source $argv[1]; complete --do-complete "glbd --thr""#;
    let said = shell("fish", &["--no-config", "--command", ask], &manual().join("glbd.fish"));
    assert!(said.starts_with("--threads\t"), "{said}");
}

/// zsh completes at a terminal only.
#[test]
fn zsh_accepts_the_completions() {
    let file = manual().join("_glbctl");
    assert_eq!(shell("zsh", &["-f", "-n"], &file), "");
    assert!(fs::read_to_string(&file).expect("the completions").starts_with("#compdef glbctl\n"));
    let file = manual().join("_glbd");
    assert_eq!(shell("zsh", &["-f", "-n"], &file), "");
    let text = fs::read_to_string(&file).expect("the completions");
    assert!(text.starts_with("#compdef glbd\n") && text.contains("--threads="), "{text}");
}
