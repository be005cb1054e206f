//! The systemd units as files.

use std::process::{Command, Output};

const UNITS: [&str; 3] = ["init/glbd.service", "init/glbd.socket", "init/glbd-control.socket"];
/// In tenths. What is left is owed to ports below 1024, to the network, and to scripts that ask the destinations.
const EXPOSURE: &str = "16";

fn analyze(arguments: &[&str]) -> Output {
    let mut command = Command::new("systemd-analyze");
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env("LC_ALL", "C.UTF-8").args(arguments);
    command.output().expect("systemd-analyze, from Debian's package systemd")
}

#[test]
fn systemd_has_nothing_to_say_against_the_units() {
    // The manual page may not be installed on this machine.
    let Output { status, stdout, stderr } = analyze(&[&["verify", "--man=no"], &UNITS[..]].concat());
    let said = [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
}

#[test]
fn the_service_may_do_little_besides_its_work() {
    let threshold = format!("--threshold={EXPOSURE}");
    let Output { status, stdout, .. } = analyze(&["security", "--offline=true", "--no-pager", &threshold, UNITS[0]]);
    assert!(status.success(), "{}", String::from_utf8_lossy(&stdout));
}
