//! The package, built by `make deb` around the program under test, and variants of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::harness::glbd::PROGRAM;
use crate::harness::manual::make;

/// The package.
pub fn package() -> &'static Path {
    static PACKAGE: OnceLock<PathBuf> = OnceLock::new();
    PACKAGE.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian");
        // One of an earlier version may be there.
        fs::remove_dir_all(&directory).ok();
        let made = make(&[
            &format!("DEB_DIR={}", directory.display()),
            &format!("CARGO_DEB_FLAGS=--fast --profile {}", profile()),
            "deb",
        ]);
        assert!(made.status.success(), "{made:?}");
        let mut found = fs::read_dir(&directory).expect("a directory").flatten();
        found.next().expect("a package").path()
    })
}

/// The build that the program under test is of.
fn profile() -> &'static str {
    let directory = Path::new(PROGRAM).parent().and_then(Path::file_name).and_then(|name| name.to_str());
    match directory.expect("a directory of a build") {
        "debug" => "dev",
        other => other,
    }
}

/// A field of the package's description.
pub fn field(name: &str) -> String {
    let file = package().display().to_string();
    run("dpkg-deb", &["--field", &file, name]).trim().to_owned()
}

/// Unpacks the package's files into a directory.
pub fn unpack(directory: &Path) {
    run("dpkg-deb", &["--extract", &package().display().to_string(), &directory.display().to_string()]);
}

/// Makes the package of the next version into a file. The `script` prepares its files, in the package's root.
pub fn next_version(file: &Path, script: &str) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let root = directory.path().join("package").display().to_string();
    run("dpkg-deb", &["--raw-extract", &package().display().to_string(), &root]);
    let version = "sed -i 's/^Version: .*/&.1/' DEBIAN/control";
    run("sh", &["-ec", &format!("cd {root}\n{version}\n{script}")]);
    run("dpkg-deb", &["--build", "-Znone", &root, &file.display().to_string()]);
}

/// Runs a command of Debian's packages `dpkg` or `dpkg-dev` to its end, and returns what it says.
pub fn run(command: &str, arguments: &[&str]) -> String {
    let outcome = Command::new(command).args(arguments).output().expect("a command of Debian's package dpkg");
    assert!(outcome.status.success(), "{command} {arguments:?}: {outcome:?}");
    String::from_utf8(outcome.stdout).expect("text")
}
