//! Who is answered, and who may change things.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::Web;
use crate::harness::{Server, connect_to, echoes, free_port, glbd, wait_until};
use crate::services::Site;

pub const TOKEN: &str = "correct-horse-battery-staple";

/// A file with the token.
pub fn token_file() -> (TempDir, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("token");
    fs::write(&file, format!("{TOKEN}\n")).expect("a file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("a mode");
    let name = file.display().to_string();
    (directory, name)
}

#[test]
fn a_page_of_another_site_learns_nothing() {
    let server = Server::echo();
    let (_glbd, web) = Web::of(&["--http-host", "db.example,other.example"], &[&server]);
    let status = |headers: &[&str]| web.ask("GET", "/api/v1/status", headers, "").status;
    for allowed in ["Host: 127.0.0.1", "Host: localhost:80", "Host: db.example:1", "Host: OTHER.example"] {
        assert_eq!(status(&[allowed]), 200, "{allowed}");
    }
    let answer = web.ask("GET", "/metrics", &["Host: evil.example"], "");
    assert_eq!(answer.status, 421);
    assert!(answer.body.contains("'evil.example'") && answer.body.contains("--http-host"), "{}", answer.body);
    assert_eq!(status(&["Origin: http://evil.example"]), 421);
    assert_eq!(status(&["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"]), 421);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "GETINFO"] {
        let refused = web.ask(method, "/api/v1/status", &[], "");
        assert!(refused.status == 405 && refused.head.contains("allow: get, head"), "{refused:?}");
    }
    assert_eq!(web.get("/nothing").status, 404);
    let page = web.get("/");
    assert!(page.head.contains("default-src 'none'") && page.head.contains("x-content-type-options: nosniff"));
}

#[test]
fn changes_take_the_token() {
    let (servers, (_directory, file)) = ([Server::echo(), Server::echo()], token_file());
    let (glbd, web) = Web::of(&["--single", "--http-admin", &file], &[&servers[0], &servers[1]]);
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let post =
        |verb: &str, headers: &[&str], body: String| web.ask("POST", &format!("/api/v1/admin/{verb}"), headers, &body);
    let destination = format!("{{\"destination\":\"{}\"}}", servers[1]);
    for headers in [&[][..], &["Authorization: Bearer wrong"], &["Authorization: Basic Zzp4"], &["Cookie: token=x"]] {
        assert_eq!(post("drain", headers, destination.clone()).status, 401, "{headers:?}");
    }
    let foreign = [&*bearer, "Origin: http://evil.example"];
    assert_eq!(post("drain", &foreign, destination.clone()).status, 421);
    let read = web.ask("GET", "/api/v1/admin/drain", &[&bearer], "");
    assert!(read.status == 405 && read.head.contains("allow: post"), "{read:?}");
    assert_eq!(glbd.info().row(&servers[1]).weight, 1.0, "nothing has changed");

    let heavier = format!("{{\"destination\":\"{}\",\"weight\":3}}", servers[1]);
    assert_eq!(post("weight", &[&bearer], heavier).body, "{\"answer\":\"Ok\"}\n");
    assert_eq!(glbd.info().row(&servers[1]).weight, 3.0);
    assert_eq!(post("writer", &[&bearer], destination.clone()).status, 200);
    assert!(glbd.info().row(&servers[1]).is_single);
    assert_eq!(post("drain", &[&bearer], format!("{{\"destination\":\"{}\"}}", servers[0])).status, 200);
    assert_eq!(glbd.info().row(&servers[0]).weight, 0.0);
    assert!(glbd.log().contains("over HTTP"), "who has done it");

    let unknown = post("drain", &[&bearer], "{\"destination\":\"10.0.0.9:1\"}".to_owned());
    assert_eq!(unknown.status, 409, "{unknown:?}");
    for wrong in ["", "x", "[]", "{}", "{\"destination\":\"a b\"}", "{\"destination\":\"a\\nquit\"}"] {
        assert_eq!(post("drain", &[&bearer], wrong.to_owned()).status, 400, "{wrong:?}");
    }
    assert_eq!(post("stop", &[&bearer], "{}".to_owned()).status, 404);
    assert_eq!(post("drain", &[&bearer], " ".repeat(10_000)).status, 413);
    assert!(echoes(&glbd.connect()));
}

#[test]
fn without_a_token_file_nobody_changes_anything() {
    let server = Server::echo();
    let (_glbd, web) = Web::of(&[], &[&server]);
    let answer = web.ask("POST", "/api/v1/admin/drain", &["Authorization: Bearer x"], "{}");
    assert_eq!(answer.status, 403, "{answer:?}");
}

#[test]
fn a_token_that_is_none_is_refused_at_the_start_and_by_a_check() {
    let (_directory, file) = token_file();
    let run = |more: &[&str]| {
        let (port, fifo) = (crate::harness::free_port().to_string(), format!("{file}.fifo"));
        let output =
            glbd::run(&[more, &["--http", &port, "--http-admin", &file, "--fifo", &fifo, "1", "127.0.0.1:2"]].concat());
        (output.status.code(), String::from_utf8(output.stderr).expect("text"))
    };
    let start = || {
        let (status, said) = run(&[]);
        assert_eq!((status, &said), (Some(1), &run(&["--check"]).1));
        said
    };
    assert_eq!(run(&["--check"]), (Some(0), String::new()));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("a mode");
    assert!(start().contains("everybody may read or write it (mode 644)"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("a mode");
    fs::write(&file, "short\n").expect("a file");
    assert!(start().contains("it takes 16 or more letters"));
    fs::remove_file(&file).expect("a file");
    assert!(start().contains(&format!("the token in {file}: No such file")));
    let output = glbd::run(&["--http-admin", &file, "1", "127.0.0.1:2"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--http-admin: no HTTP is spoken: give --http as well"));
}

#[test]
fn a_token_that_is_none_any_more_is_told_by_a_reload_and_an_upgrade() {
    let ((_directory, file), site, web) = (token_file(), Site::new(), Web::new());
    let server = Server::echo();
    site.write(&[("a", &[&server], "")], &[("s", free_port(), "")]);
    let text = fs::read_to_string(&site.file).expect("the file");
    let more = format!("[process]\nhttp = \"{}\"\nhttp-admin = \"{file}\"\n", web.0);
    fs::write(&site.file, text.replace("[process]\n", &more)).expect("the file");
    site.start();
    let allowed = |token: &str| {
        let (bearer, body) = (format!("Authorization: Bearer {token}"), format!("{{\"destination\":\"{server}\"}}"));
        web.ask("POST", "/api/v1/admin/enable", &[&bearer], &body).status == 200
    };
    wait_until("HTTP is spoken", || TcpStream::connect(web.0).is_ok());
    assert!(allowed(TOKEN));
    let refused = |reason: &str| {
        let told = format!("the token in {file}: {reason}");
        let answer = site.daemon.control("reload");
        assert!(answer.starts_with("Error: ") && answer.contains(&told), "{told}: {answer}");
        site.daemon.signal(Signal::SIGUSR2);
        wait_until("no upgrade", || {
            site.log().lines().any(|line| line.contains("not upgraded") && line.contains(&told))
        });
        assert!(allowed(TOKEN), "as it was said");
    };
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("a mode");
    refused("everybody may read or write it (mode 644)");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("a mode");
    fs::write(&file, "short\n").expect("a file");
    refused("it takes 16 or more letters");
    fs::remove_file(&file).expect("a file");
    refused("No such file");
    // Nobody writes into it.
    nix::unistd::mkfifo(Path::new(&file), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    refused("it is no ordinary file");
    fs::remove_file(&file).expect("a pipe");
    let other = "another-token-of-forty-letters-and-so-on";
    fs::write(&file, other).expect("a file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("a mode");
    assert_eq!(site.daemon.control("reload"), "process: HTTP clients have other rights\nOk\n");
    wait_until("the new one counts", || allowed(other));
    assert!(!allowed(TOKEN));
}

#[test]
fn the_host_that_a_request_is_for_is_the_one_that_counts() {
    let server = Server::echo();
    let (_glbd, web) = Web::of(&[], &[&server]);
    for head in [
        "GET http://evil.example/health HTTP/1.1\r\nHost: localhost",
        "GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example",
    ] {
        let mut client = connect_to(web.0).expect("it accepts");
        client.write_all(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes()).expect("it reads");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 421"), "{head}: {answer}");
    }
    let own = format!("GET http://{}/health HTTP/1.1\r\nHost: whatever\r\nConnection: close\r\n\r\n", web.0);
    let mut client = connect_to(web.0).expect("it accepts");
    client.write_all(own.as_bytes()).expect("it reads");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
