//! What the program tells about itself, without doing anything.

use crate::harness::glbd;

#[test]
fn help_is_told_with_status_0() {
    for option in ["-h", "--help", "--he"] {
        let output = glbd::run(&[option]);
        assert_eq!(output.status.code(), Some(0), "{option}");
        assert!(output.stderr.is_empty(), "{option}");
        let text = String::from_utf8(output.stdout).expect("text");
        assert!(text.contains("Usage: glbd [OPTIONS] LISTEN_ADDRESS [DESTINATION]...\n"), "{text}");
    }
}

#[test]
fn help_names_every_option_and_shows_what_to_type() {
    let text = String::from_utf8(glbd::run(&["--help"]).stdout).expect("text");
    let letters = "abcdfhilmnrstvwxDKLSTVY";
    for letter in letters.chars() {
        assert!(text.contains(&format!(" -{letter}, --")), "-{letter} in:\n{text}");
    }
    for option in [
        "round",
        "round-robin",
        "rrb",
        "src_tracking",
        "source_tracking",
        "max_conn",
        "connections",
        "connect-timeout",
        "client-idle-timeout",
        "greeting",
        "server-idle-timeout",
        "user",
        "pidfile",
    ] {
        assert!(text.contains(&format!("--{option}")), "--{option} in:\n{text}");
    }
    for example in ["glbd 8010 10.0.0.1:3306 10.0.0.2:3306:2\n", "echo getinfo | nc 127.0.0.1 8011"] {
        assert!(text.contains(example), "{example:?} in:\n{text}");
    }
}

#[test]
fn the_version_is_told_with_status_0() {
    for option in ["-V", "--version", "--vers"] {
        let output = glbd::run(&[option]);
        assert_eq!(output.status.code(), Some(0), "{option}");
        assert_eq!(String::from_utf8(output.stdout).expect("text"), "glbd 2.0.0\n", "{option}");
        assert!(output.stderr.is_empty(), "{option}");
    }
}
