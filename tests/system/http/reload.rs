//! `http` in the configuration file.

use std::fs;

use super::Web;
use crate::harness::{Server, free_port, glbd, wait_until};
use crate::services::Site;

fn write(site: &Site, server: &Server, port: u16, http: &str) {
    site.write(&[("a", &[server], "")], &[("s", port, "")]);
    let text =
        fs::read_to_string(&site.file).expect("the file").replace("[process]\n", &format!("[process]\n{http}\n"));
    fs::write(&site.file, text).expect("the file");
}

fn speaks(web: &Web) -> bool {
    web.try_to_ask("GET", "/health", &[], "").is_ok_and(|it| it.status == 200)
}

#[test]
fn a_reload_has_http_spoken_elsewhere_or_no_longer() {
    let (site, server, port, webs) = (Site::new(), Server::echo(), free_port(), [Web::new(), Web::new()]);
    let reload = || site.daemon.control("reload");
    let at = |web: &Web| format!("http = \"{}\"", web.0);
    write(&site, &server, port, "");
    site.start();
    write(&site, &server, port, &at(&webs[0]));
    assert_eq!(reload(), format!("process: HTTP is spoken on {}\nOk\n", webs[0].0));
    wait_until("it is", || speaks(&webs[0]));
    assert_eq!(reload(), "Ok\n");
    write(&site, &server, port, &(at(&webs[0]) + "\nhttp-host = [\"db.example\"]"));
    assert_eq!(webs[0].ask("GET", "/health", &["Host: db.example"], "").status, 421);
    assert_eq!(reload(), "process: HTTP clients have other rights\nOk\n");
    wait_until("the name is known", || {
        webs[0].try_to_ask("GET", "/health", &["Host: db.example"], "").is_ok_and(|it| it.status == 200)
    });
    write(&site, &server, port, &at(&webs[1]));
    assert_eq!(reload(), format!("process: HTTP is spoken on {}\nOk\n", webs[1].0));
    wait_until("it is there", || speaks(&webs[1]) && !speaks(&webs[0]));
    // A port that is taken changes nothing.
    write(&site, &server, port, &format!("http = \"{server}\""));
    let refused = reload();
    assert!(refused.starts_with(&format!("Error: cannot speak HTTP on {server}: ")), "{refused}");
    assert!(speaks(&webs[1]));
    write(&site, &server, port, "");
    assert_eq!(reload(), "process: HTTP is spoken no longer\nOk\n");
    wait_until("it is not", || !speaks(&webs[1]));
}

#[test]
fn what_cannot_be_said_of_an_http_socket_is_said_of_http() {
    let (site, server, port) = (Site::new(), Server::echo(), free_port());
    let path = site.daemon.directory().join("http");
    let socket = |more: &str| format!("http = \"unix:{}{more}\"", path.display());
    write(&site, &server, port, &socket(""));
    site.start();
    // The same place, for a user that there is not.
    write(&site, &server, port, &socket(",owner=nobody-of-this-name"));
    let refused = site.daemon.control("reload");
    assert!(refused.starts_with(&format!("Error: cannot speak HTTP on unix:{}: ", path.display())), "{refused}");
    assert!(refused.contains("nobody-of-this-name"), "{refused}");
}

#[test]
fn an_upgrade_follows_the_file() {
    let (site, server, port, webs) = (Site::new(), Server::echo(), free_port(), [Web::new(), Web::new()]);
    write(&site, &server, port, &format!("http = \"{}\"", webs[0].0));
    site.start();
    wait_until("HTTP is spoken", || speaks(&webs[0]));
    write(&site, &server, port, &format!("http = \"{}\"", webs[1].0));
    site.daemon.upgrade();
    wait_until("it is spoken elsewhere", || speaks(&webs[1]) && !speaks(&webs[0]));
}

#[test]
fn what_the_command_line_says_is_printed_as_a_file() {
    let arguments =
        ["--http", "9101", "--http-host", "a.example,b.example", "--http-admin", "/token", "8010", "10.0.0.1"];
    let output = glbd::run(&[&["--print-config"], &arguments[..]].concat());
    let text = String::from_utf8(output.stdout).expect("text");
    for line in ["http = \"9101\"", "http-host = [\"a.example\", \"b.example\"]", "http-admin = \"/token\""] {
        assert!(text.contains(line), "{line}: {text}");
    }
}
