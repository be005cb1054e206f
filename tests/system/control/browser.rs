//! A real browser, with a page that attacks the control port of the machine on which it is looked at.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;

use super::http::{ATTACK, is_unharmed, victim};
use crate::harness::{Server, wait_until_within};

/// A browser takes its time to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends everything that a page can send to another port: requests with any body and method, forms, images, sockets.
const PAGE: &str = r#"<!DOCTYPE html>
<iframe name=nowhere></iframe>
<script>
const attack = ATTACK;
async function attackPort(address) {
  const url = `http://${address}/`;
  const requests = [
    {}, {mode: 'no-cors'},
    {method: 'POST', body: attack, mode: 'no-cors'},
    {method: 'POST', body: new Blob([attack]), mode: 'no-cors', headers: {'Content-Type': 'text/plain'}},
    {method: 'PUT', body: attack}, {method: 'DELETE'}, {method: 'getinfo'}, {method: 'GETSTATS', body: attack},
  ];
  for (const request of requests) {
    try { await fetch(url + encodeURI(attack), request) } catch {}
  }
  navigator.sendBeacon(url, attack);
  await new Promise(resolve => {
    const image = new Image();
    image.onload = image.onerror = resolve;
    image.src = url + '127.0.0.1:2:1';
  });
  await new Promise(resolve => {
    const socket = new WebSocket(`ws://${address}/`);
    socket.onopen = () => socket.send(attack);
    socket.onclose = resolve;
    setTimeout(() => socket.close(), 1000);
  });
  try { await fetch(`https://${address}/`, {method: 'POST', body: attack}) } catch {}
  const form = document.createElement('form');
  Object.assign(form, {action: url, method: 'POST', enctype: 'text/plain', target: 'nowhere'});
  const input = document.createElement('textarea');
  input.name = attack;
  input.value = attack;
  form.append(input);
  document.body.append(form);
  await new Promise(resolve => {
    document.querySelector('iframe').onload = resolve;
    form.submit();
    setTimeout(resolve, 2000);
  });
}
(async () => {
  await attackPort(location.host);
  await attackPort('VICTIM');
  await fetch('/done');
})();
</script>"#;

/// A web server with one page, which keeps everything that it is sent.
struct Site {
    server: Server,
    received: Arc<Mutex<String>>,
}

impl Site {
    fn start(page: String) -> Self {
        let received = Arc::new(Mutex::new(String::new()));
        let server = Server::serving({
            let received = Arc::clone(&received);
            move |stream| answer(stream, &page, &received)
        });
        Self { server, received }
    }

    fn has_received(&self, text: &str) -> bool {
        self.received.lock().expect("text").contains(text)
    }
}

/// One request and its answer; what comes until the client closes is kept.
fn answer(mut stream: &TcpStream, page: &str, received: &Mutex<String>) {
    let length = page.len();
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    let mut buffer = [0; 64 << 10];
    let mut answered = false;
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        received.lock().expect("text").push_str(&String::from_utf8_lossy(&buffer[..count]));
        if !std::mem::replace(&mut answered, true) {
            stream.write_all(format!("{head}{page}").as_bytes()).ok();
        }
    }
}

/// A browser that looks at a page until this is dropped.
struct Browser {
    process: Child,
    _profile: TempDir,
}

impl Browser {
    fn open(address: SocketAddr) -> Self {
        let profile = tempfile::tempdir().expect("a temporary directory");
        // It has many processes: in a namespace of their own they end together.
        let process = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"])
            .args(["chromium-headless-shell", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("http://{address}/"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("unshare, from Debian's package util-linux");
        Self { process, _profile: profile }
    }

    fn must_run(&mut self) {
        let ended = self.process.try_wait().expect("a child of this process");
        assert!(ended.is_none(), "no browser ({ended:?}): install Debian's package chromium-headless-shell");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[test]
fn a_page_cannot_have_a_browser_steer_the_daemon() {
    let glbd = victim();
    let script = PAGE.replace("ATTACK", &format!("{ATTACK:?}"));
    let site = Site::start(script.replace("VICTIM", &glbd.control_address().to_string()));
    let mut browser = Browser::open(site.server.address());
    wait_until_within(PATIENCE, "the page has done its worst", || {
        browser.must_run();
        site.has_received("GET /done ")
    });
    // The site shows that the attacks leave the browser as they were meant.
    for sent in [&format!("\r\n\r\n{ATTACK}"), "getinfo /", "PUT /", "Upgrade: websocket", "text/plain"] {
        assert!(site.has_received(sent), "the browser did not send {sent:?}");
    }
    assert!(is_unharmed(&glbd));
}
