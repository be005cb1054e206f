//! The page in a real browser, which is driven through its debugging pipe.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Web;
use super::access::{TOKEN, token_file};
use crate::harness::{Server, echoes, wait_until};

/// A browser with one page, until this is dropped.
struct Browser {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    count: u64,
    session: Option<String>,
    /// What the page has complained of.
    complaints: Vec<String>,
    _profile: TempDir,
}

impl Browser {
    fn open(url: &str) -> Self {
        let profile = tempfile::tempdir().expect("a temporary directory");
        let options = "--no-sandbox --disable-gpu --remote-debugging-pipe";
        let program = format!("exec chromium-headless-shell {options} \"$0\" 3<&0 4>&1 >/dev/null 2>&1");
        let directory = format!("--user-data-dir={}", profile.path().display());
        // It has many processes: in a namespace of their own they end together.
        let mut process = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "--mount-proc", "--", "sh", "-c", &program, &directory])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare, from Debian's package util-linux");
        let (input, output) = (process.stdin.take().expect("a pipe"), process.stdout.take().expect("a pipe"));
        let output = BufReader::new(output);
        let (session, complaints) = (None, Vec::new());
        let mut browser = Self { process, input, output, count: 0, session, complaints, _profile: profile };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        browser.call("Runtime.enable", json!({}));
        browser.call("Log.enable", json!({}));
        browser.call("Page.navigate", json!({"url": url}));
        browser
    }

    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.count += 1;
        let mut message = json!({"id": self.count, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.input.write_all(format!("{message}\0").as_bytes()).expect("the browser, chromium-headless-shell");
        loop {
            let mut answer = Vec::new();
            let count = self.output.read_until(0, &mut answer).expect("a pipe");
            assert!(count > 0, "no browser: install Debian's package chromium-headless-shell");
            answer.pop();
            let answer: Value = serde_json::from_slice(&answer).expect("JSON");
            match answer["method"].as_str() {
                Some("Runtime.exceptionThrown") => self.complaints.push(answer["params"].to_string()),
                Some("Log.entryAdded") if answer["params"]["entry"]["source"] == "security" => {
                    self.complaints.push(answer["params"].to_string());
                }
                _ if answer["id"] == self.count => return answer["result"].clone(),
                _ => {}
            }
        }
    }

    /// What an expression in the page comes to.
    fn eval(&mut self, expression: &str) -> Value {
        let answer = self.call("Runtime.evaluate", json!({"expression": expression, "returnByValue": true}));
        answer["result"]["value"].clone()
    }

    /// What is to be read in the page.
    fn text(&mut self) -> String {
        self.eval("document.body ? document.body.innerText : ''").as_str().unwrap_or_default().to_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// The row of a destination, as it is to be read.
fn row(server: &Server) -> String {
    format!(
        "([...document.querySelectorAll('tbody tr')].find(it => it.cells[0].innerText.startsWith('{server}')) || {{}}).innerText || ''"
    )
}

#[test]
fn the_page_shows_a_fall_as_it_happens_and_obeys_who_has_the_token() {
    let (mut servers, (_directory, file)) = ([Server::echo(), Server::echo()], token_file());
    let options =
        ["--single", "--watchdog", "tcp", "--interval", "0.2", "--fall", "1", "--rise", "1", "--http-admin", &file];
    let (glbd, web) = Web::of(&options, &[&servers[0], &servers[1]]);
    assert!(echoes(&glbd.connect()));
    let mut browser = Browser::open(&format!("http://{}/", web.0));
    wait_until("the page is there", || {
        let text = browser.text();
        text.contains("live") && servers.iter().all(|server| text.contains(&server.to_string()))
    });
    wait_until("both are fit", || {
        servers.iter().all(|server| browser.eval(&row(server)).to_string().contains("READY"))
    });
    assert!(browser.eval(&row(&servers[0])).to_string().contains("writer"));

    servers[0].stop();
    wait_until("the page shows its fall", || browser.eval(&row(&servers[0])).to_string().contains("DOWN"));
    wait_until("and the writer's move", || browser.eval(&row(&servers[1])).to_string().contains("writer"));
    wait_until("and says what has happened", || browser.text().contains(&format!("destination {} DOWN", servers[0])));
    servers[0].start();
    wait_until("and its return", || browser.eval(&row(&servers[0])).to_string().contains("READY"));

    // Nothing can be changed before the token is entered.
    let click = |label: &str| {
        format!(
            "(it => it ? (it.click(), true) : false)([...document.querySelectorAll('button')].find(it => it.getAttribute('aria-label') === '{label}'))"
        )
    };
    let change = click(&format!("Change {}", servers[0]));
    assert_eq!(browser.eval(&change), false);
    let unlock = |token: &str| {
        format!(
            "document.querySelector('#unlock').click(); document.querySelector('#token').value = '{token}'; document.querySelector('#token-form button').click()"
        )
    };
    browser.eval(&unlock("wrong-wrong-wrong-wrong"));
    wait_until("it can be chosen", || browser.eval(&change) == true);
    browser.eval("document.querySelector('#drain').click()");
    wait_until("a wrong token is refused", || browser.text().contains("this takes the token"));
    browser.eval("document.querySelector('#change').close()");
    browser.eval(&unlock(TOKEN));
    wait_until("it can be chosen", || browser.eval(&change) == true);
    browser
        .eval("document.querySelector('#weight').value = '5'; document.querySelector('#weight-form button').click()");
    wait_until("the weight is another", || glbd.info().row(&servers[0]).weight == 5.0);
    browser.eval("document.querySelector('#drain').click()");
    wait_until("it is drained", || glbd.info().row(&servers[0]).weight == 0.0);
    wait_until("the page shows that", || browser.eval(&row(&servers[0])).to_string().contains("drained"));
    browser.eval("document.querySelector('#enable').click()");
    wait_until("it has its weight again", || glbd.info().row(&servers[0]).weight == 5.0);
    browser.eval("document.querySelector('#writer').click(); document.querySelector('#confirm-yes').click()");
    wait_until("it is the writer", || glbd.info().row(&servers[0]).is_single);
    let client = glbd.connect();
    assert!(echoes(&client));
    browser.eval("document.querySelector('#kick').click(); document.querySelector('#confirm-yes').click()");
    wait_until("its connection is closed", || !echoes(&client));
    for (signal, state, ready) in [(Signal::SIGTTOU, "paused", "0 of 1"), (Signal::SIGTTIN, "ready", "1 of 1")] {
        glbd.signal(signal);
        let service = "document.querySelector('section tbody tr').innerText";
        wait_until(state, || {
            browser.eval(service).to_string().contains(state) && browser.text().replace('\n', " ").contains(ready)
        });
    }
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn everything_that_can_be_used_has_a_name() {
    let server = Server::echo();
    let (_glbd, web) = Web::of(&[], &[&server]);
    let mut browser = Browser::open(&format!("http://{}/", web.0));
    wait_until("the page is there", || browser.text().contains(&server.to_string()));
    let nameless = "[...document.querySelectorAll('button, input, select, table, section, dialog, svg[role=img]')].filter(it => \
        !(it.innerText || '').trim() && !it.getAttribute('aria-label') && !it.getAttribute('aria-labelledby') && \
        !(it.labels && it.labels.length)).map(it => it.outerHTML).join('\\n')";
    let nameless = nameless.replace("\\\n", "");
    assert_eq!(browser.eval(&nameless), "");
    let ids = "(all => all.length - new Set(all).size)([...document.querySelectorAll('[id]')].map(it => it.id))";
    assert_eq!(browser.eval(ids), 0, "an id stands for one thing");
    let targets = "[...document.querySelectorAll('[aria-labelledby]')].every(it => document.getElementById(it.getAttribute('aria-labelledby')))";
    assert_eq!(browser.eval(targets), true);
    // On a telephone, nothing has to be moved sideways.
    browser.call(
        "Emulation.setDeviceMetricsOverride",
        json!({"width": 360, "height": 800, "deviceScaleFactor": 2, "mobile": true}),
    );
    wait_until("it fits", || browser.eval("document.documentElement.scrollWidth <= 360") == true);
    // With the keyboard alone: the search is reached by one key.
    browser.eval("document.body.dispatchEvent(new KeyboardEvent('keydown', {key: '/', bubbles: true}))");
    assert_eq!(browser.eval("document.activeElement.id"), "search");
}
