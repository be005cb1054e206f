//! HAProxy's configuration files of docs/haproxy/, and what is made of them there for glbd. Both are run as they stand,
//! each in a network of its own in which their addresses exist, in front of the same servers. Their clients see the same,
//! but for what is different by design, which the tests say. settings.rs has single settings instead.

mod balancer;
mod galera;
mod lines;
mod node;
mod openstack;
mod rabbitmq;
mod scene;
mod settings;
mod writer_reader;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::glbd;

/// Where the pairs are.
const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/haproxy");

/// The file of HAProxy or glbd, by its ending, that has this name.
fn file(name: &str, ending: &str) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{name}.{ending}"))
}

/// The names of the pairs.
fn names() -> Vec<String> {
    let files = fs::read_dir(DIRECTORY).expect("a directory");
    let paths = files.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|it| it == "cfg"));
    let mut names: Vec<String> =
        paths.map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn both_programs_take_their_file_of_each_pair_without_a_warning() {
    assert_eq!(names(), ["galera", "openstack", "rabbitmq", "writer-reader"]);
    for name in names() {
        let haproxy = Command::new("haproxy").args(["-c", "-dW", "-q", "-f"]).arg(file(&name, "cfg")).output();
        let haproxy = haproxy.expect("haproxy, from Debian's package haproxy");
        assert!(haproxy.status.success() && haproxy.stderr.is_empty(), "{name}: {haproxy:?}");
        let checked = glbd::run(&["--check", "--config", &file(&name, "toml").display().to_string()]);
        assert!(checked.status.success(), "{name}: {checked:?}");
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(said.lines().all(|line| line.contains(".toml is in order: ")), "{name}: {said}");
    }
}

#[test]
fn the_page_for_those_who_come_from_haproxy_has_the_first_pair_in_it_and_links_to_all() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/from-haproxy.md");
    let page = fs::read_to_string(page).expect("a page");
    // Comments are the file's own.
    let without_comments = |text: &str| -> String {
        text.lines().filter(|line| !line.starts_with("# ")).map(|line| format!("{line}\n")).collect()
    };
    for ending in ["cfg", "toml"] {
        let text = fs::read_to_string(file("galera", ending)).expect("a file");
        assert!(page.contains(without_comments(&text).trim()), "galera.{ending} is not on the page");
    }
    for name in names() {
        for ending in ["cfg", "toml"] {
            assert!(page.contains(&format!("](haproxy/{name}.{ending})")), "no link to {name}.{ending}");
        }
    }
}
