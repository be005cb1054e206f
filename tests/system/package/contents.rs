//! What Debian's tools say of the package, and what is in it.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::build::{field, package, run, unpack};

#[test]
fn lintian_has_nothing_to_say() {
    let outcome = Command::new("lintian").arg("--allow-root").arg(package()).output();
    let outcome = outcome.expect("lintian, from Debian's package lintian");
    assert!(outcome.status.success(), "{outcome:?}");
    assert_eq!(String::from_utf8_lossy(&[outcome.stdout, outcome.stderr].concat()), "");
}

#[test]
fn the_version_is_the_programs_and_the_changelogs() {
    let version = field("Version");
    let upstream = version.split_once('-').expect("a revision").0;
    assert_eq!(upstream, env!("CARGO_PKG_VERSION"));
    let changelog = concat!(env!("CARGO_MANIFEST_DIR"), "/init/debian/changelog");
    assert_eq!(run("dpkg-parsechangelog", &["--file", changelog, "--show-field", "Version"]).trim(), version);
}

#[test]
fn the_settings_and_the_init_script_are_kept_as_the_administrator_leaves_them() {
    let conffiles = run("dpkg-deb", &["--info", &package().display().to_string(), "conffiles"]);
    assert_eq!(conffiles, "/etc/default/glbd\n/etc/glbd/glbd.toml\n/etc/init.d/glbd\n");
}

#[test]
fn every_unit_of_the_service_and_every_script_is_in_the_package() {
    let root = tempfile::tempdir().expect("a temporary directory");
    unpack(root.path());
    for (source, prefix, infix, installed) in
        [("init", "glbd", ".s", "lib/systemd/system"), ("scripts", "watch-", "", "usr/share/glbd")]
    {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
        let names = fs::read_dir(directory).expect("a directory").flatten().map(|entry| entry.file_name());
        let belongs = |name: &str| name.starts_with(prefix) && name.contains(infix);
        let names: Vec<_> = names.filter(|name| belongs(&name.to_string_lossy())).collect();
        assert!(!names.is_empty(), "{prefix}*{infix}* in {source}");
        for name in names {
            assert!(root.path().join(installed).join(&name).exists(), "{name:?} in {installed}");
        }
    }
}

#[test]
fn glbctl_is_in_the_package_with_its_manual_page_and_completions() {
    let root = tempfile::tempdir().expect("a temporary directory");
    unpack(root.path());
    for file in [
        "usr/bin/glbctl",
        "usr/share/man/man8/glbctl.8.gz",
        "usr/share/bash-completion/completions/glbctl",
        "usr/share/zsh/vendor-completions/_glbctl",
        "usr/share/fish/vendor_completions.d/glbctl.fish",
    ] {
        assert!(root.path().join(file).exists(), "{file}");
    }
    let version = Command::new(root.path().join("usr/bin/glbctl")).arg("--version").output().expect("glbctl starts");
    assert!(version.status.success(), "{version:?}");
}
