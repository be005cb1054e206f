//! The manual page and the shells' completions, as `make` makes them.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use super::glbd::PROGRAM;

/// The directory with the manual page and the completions that belong to the program under test.
pub fn manual() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let directory = Path::new(PROGRAM).with_file_name("manual");
        let page = directory.join("glbd.8");
        let made = run_make(&["--assume-old", PROGRAM, &page.display().to_string()]);
        assert!(made.status.success(), "{made:?}");
        directory
    })
}

/// Runs make as if the program and its manual page had just been made.
pub fn make(arguments: &[&str]) -> Output {
    let page = manual().join("glbd.8").display().to_string();
    run_make(&[&["--assume-old", PROGRAM, "--assume-old", &page], arguments].concat())
}

fn run_make(arguments: &[&str]) -> Output {
    // sudo has a PATH of its own, in which cargo need not be.
    let cargo = Path::new(env!("CARGO")).parent().expect("a directory").display();
    let path = env::var("PATH").expect("PATH");
    let build = Path::new(PROGRAM).ancestors().nth(2).expect("a directory of builds");
    let mut make = Command::new("make");
    // `cargo test` sets variables for the tests. Build scripts that look at them would be run again, and their packages
    // built again, by the cargo that make calls.
    let is_told = |name: &str| name.starts_with("CARGO_") && name != "CARGO_HOME";
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_told)) {
        make.env_remove(name);
    }
    make.current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("PATH", format!("{cargo}:{path}"))
        .arg("--silent")
        .arg(format!("BINARY={PROGRAM}"))
        .arg(format!("CARGO_TARGET_DIR={}", build.display()))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("make, from Debian's package make")
}
