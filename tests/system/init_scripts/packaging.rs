//! `make install`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::harness::manual::make;

fn make_install(destination: &Path, prefix: &str) -> Output {
    make(&[&format!("DESTDIR={}", destination.display()), &format!("PREFIX={prefix}"), "install"])
}

fn mode(file: &Path) -> u32 {
    let found = fs::metadata(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    found.permissions().mode() & 0o777
}

#[test]
fn make_install_puts_everything_below_destdir() {
    for prefix in ["/usr", "/usr/local"] {
        let root = tempfile::tempdir().expect("a temporary directory");
        let made = make_install(root.path(), prefix);
        assert!(made.status.success(), "{made:?}");

        let below = |path: &str| root.path().join(path.trim_start_matches('/'));
        assert_eq!(mode(&below(&format!("{prefix}/sbin/glbd"))), 0o755);
        assert_eq!(mode(&below(&format!("{prefix}/bin/glbctl"))), 0o755);
        for file in [
            "man/man8/glbctl.8",
            "bash-completion/completions/glbctl",
            "zsh/site-functions/_glbctl",
            "fish/vendor_completions.d/glbctl.fish",
            "man/man8/glbd.8",
            "bash-completion/completions/glbd",
            "zsh/site-functions/_glbd",
            "fish/vendor_completions.d/glbd.fish",
        ] {
            assert_eq!(mode(&below(&format!("{prefix}/share/{file}"))), 0o644);
        }
        assert_eq!(mode(&below(&format!("{prefix}/share/glbd/watch-mysql"))), 0o755);
        assert_eq!(mode(&below("/etc/init.d/glbd")), 0o755);
        assert_eq!(mode(&below("/etc/default/glbd")), 0o644);
        assert_eq!(mode(&below("/etc/glbd/glbd.toml")), 0o644);
        for file in ["system/glbd.service", "system/glbd.socket", "system/glbd-control.socket"] {
            assert_eq!(mode(&below(&format!("{prefix}/lib/systemd/{file}"))), 0o644, "{file}");
        }
        assert_eq!(mode(&below(&format!("{prefix}/lib/sysusers.d/glbd.conf"))), 0o644);
        let unit = below(&format!("{prefix}/lib/systemd/system/glbd.service"));
        let unit = fs::read_to_string(unit).expect("the unit");
        assert!(unit.contains(&format!("exec {prefix}/sbin/glbd ")), "{unit}");
    }
}

#[test]
fn make_uninstall_leaves_nothing_but_the_settings() {
    let root = tempfile::tempdir().expect("a temporary directory");
    assert!(make_install(root.path(), "/usr").status.success());
    let made = make(&[&format!("DESTDIR={}", root.path().display()), "PREFIX=/usr", "uninstall"]);
    assert!(made.status.success(), "{made:?}");
    let found = Command::new("find").arg(root.path()).args(["-type", "f", "-printf", "%P\n"]).output().expect("find");
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    let mut found: Vec<&str> = found.lines().collect();
    found.sort_unstable();
    assert_eq!(found, ["etc/default/glbd", "etc/glbd/glbd.toml"]);
}

#[test]
fn make_install_keeps_settings_that_were_edited() {
    for file in ["etc/default/glbd", "etc/sysconfig/glbd"] {
        let root = tempfile::tempdir().expect("a temporary directory");
        let settings = root.path().join(file);
        fs::create_dir_all(settings.parent().expect("a directory")).expect("a directory");
        fs::write(&settings, "LISTEN_ADDR=3306\n").expect("settings");
        let made = make_install(root.path(), "/usr");
        assert!(made.status.success(), "{made:?}");
        assert_eq!(fs::read_to_string(&settings).expect("settings"), "LISTEN_ADDR=3306\n");
        let other = root.path().join("etc/default/glbd");
        assert_eq!(other.exists(), other == settings, "settings of which only one counts");
    }
}
