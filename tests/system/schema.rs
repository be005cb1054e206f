//! The JSON schema of the configuration file says what glbd says: proved with a validator that editors might use.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::glbd::run;

const SHIPPED: &str = "init/glbd.schema.json";

/// Validates each TOML document of a JSON list, and prints a line for each: nothing, or what is wrong.
const VALIDATOR: &str = "
import json, sys, tomllib
from jsonschema import Draft7Validator
schema = json.load(open(sys.argv[1]))
Draft7Validator.check_schema(schema)
validator = Draft7Validator(schema)
for text in json.load(sys.stdin):
    errors = [error.message.replace('\\n', ' ') for error in validator.iter_errors(tomllib.loads(text))]
    print('; '.join(errors))
";

fn project(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// What the validator has against each document.
fn validate(documents: &[String]) -> Vec<String> {
    let mut validator = Command::new("python3")
        .args(["-c", VALIDATOR])
        .arg(project(SHIPPED))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3, from Debian's package python3");
    let list = serde_json::to_vec(documents).expect("JSON");
    validator.stdin.take().expect("a pipe").write_all(&list).expect("a validator that reads");
    let output = validator.wait_with_output().expect("its end");
    assert!(output.status.success(), "the validator is in Debian's package python3-jsonschema");
    let complaints: Vec<String> = String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect();
    assert_eq!(complaints.len(), documents.len());
    complaints
}

/// What glbd has against a document; it opens nothing.
fn complaint(document: &str) -> String {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(document.as_bytes()).expect("a file");
    let output = run(&["--print-config", "--config", &file.path().display().to_string()]);
    if output.status.success() { String::new() } else { String::from_utf8(output.stderr).expect("text") }
}

#[test]
fn the_shipped_schema_is_what_the_program_prints() {
    let printed = String::from_utf8(run(&["--print-schema"]).stdout).expect("text");
    assert!(printed == read(project(SHIPPED)), "write it anew: glbd --print-schema >{SHIPPED}");
}

/// The configuration files in a page: whole ones, with a pool and a service.
fn examples(page: &str) -> Vec<String> {
    let mut blocks = vec![String::new()];
    let mut is_fenced = false;
    for line in page.lines() {
        let is_fence = line.starts_with("```");
        is_fenced ^= is_fence;
        let indented = line.strip_prefix("    ");
        match indented.or(Some(line).filter(|line| is_fenced || line.is_empty())) {
            // What a script writes.
            Some(line) if !is_fence && line != "END" && !line.contains("<<'END'") => {
                let last = blocks.last_mut().expect("the first one at least");
                *last += &format!("{}{line}\n", if is_fenced && indented.is_some() { "    " } else { "" });
            }
            _ => blocks.push(String::new()),
        }
    }
    blocks.retain(|block| block.contains("\n[pool.") && block.contains("\n[service."));
    blocks
}

#[test]
fn all_examples_are_valid() {
    let pages = fs::read_dir(project("docs")).expect("the documents").flatten().map(|entry| entry.path());
    let pages = pages.filter(|path| path.extension().is_some_and(|it| it == "md")).chain([project("README.md")]);
    let mut documents: Vec<String> = pages.flat_map(|page| examples(&read(page))).collect();
    assert!(documents.len() >= 3, "the examples are found: {documents:#?}");
    let shipped = read(project("init/glbd.toml"));
    // With everything in it that is commented out.
    let is_setting =
        |line: &str| line.starts_with('#') && line[1..].starts_with(|c: char| c == '[' || c.is_ascii_lowercase());
    let lines = shipped.lines().filter(|line| *line != "destinations = []");
    let full: String = lines.map(|line| format!("{}\n", if is_setting(line) { &line[1..] } else { line })).collect();
    assert!(full.contains("\n[service.reader]") && full.contains("\nthreads ="), "{full}");
    documents.extend([shipped, full]);
    for (document, complaint_of_validator) in documents.iter().zip(validate(&documents)) {
        assert_eq!(complaint_of_validator, "", "{document}");
        assert_eq!(complaint(document), "", "{document}");
    }
}

#[test]
fn what_is_printed_is_valid() {
    let lines: [&[&str]; 4] = [
        &["1", "10.0.0.1"],
        &["--single", "-w", "galera", "--shutdown-sessions=never", "--greeting=none", "3306", "db1", "db2:3306:0.5"],
        &["-c8011", "-c", "unix:/a,mode=0660,group=g", "-c", "10.0.0.1:2,read-only", "--cpus=0-1,3", "1"],
        &[
            "--allow=10.0.0.0/8,::1",
            "--deny=10.9.0.0/16",
            "--over-limit=reset",
            "--connection-rate=3",
            "--resolve=0",
            "--process-connection-rate=7",
            "--prefer=ipv6",
            "--send-proxy=2",
            "--log=syslog:local0",
            "--backups=a:1,b",
            "--connect-from=10.0.0.9",
            "-w",
            "http:9200/;ready=200,204",
            "--drain-timeout=2.5",
            "[::]:3306",
        ],
    ];
    let print = |words: &&[&str]| {
        let output = run(&[&["--print-config"], *words].concat());
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let documents: Vec<String> = lines.iter().map(print).collect();
    for (document, complaint) in documents.iter().zip(validate(&documents)) {
        assert_eq!(complaint, "", "{document}");
    }
}

/// Lines of the process, of the pool and of the service.
fn document((process, pool, service): (&str, &str, &str)) -> String {
    let listen = if service.starts_with("listen") { "" } else { "listen = 3306\n" };
    format!("[process]\n{process}\n[pool.main]\n{pool}\n[service.main]\n{listen}{service}\n")
}

#[test]
fn what_one_accepts_the_other_accepts() {
    let right = [
        ("threads = 1024", "", ""),
        ("control = 8011", "watchdog = 'tcp'\nrise = 1000000", "send-proxy = 1"),
        ("control = []", "resolve = 0.1", "wait = 0"),
        (
            "control = [8011, '[::1]:8012,read-only', {address = 8013, read-only = true}]",
            "resolve = 0",
            "listen = '*:80'",
        ),
        (
            "control = {address = 'unix:/a', owner = 'o', group = 'g', mode = '660'}",
            "watchdog = 'tcp'\nfall = 1",
            "keepalive = false",
        ),
        ("log = 'syslog:local7'", "watchdog = 'exec:a b'", "policy = 'single'"),
        ("log = './log'", "watchdog = 'mysql'", "greeting = 'mysql'"),
        ("cpu-affinity = '0,2-3'", "watchdog = 'http:9200/x;ready=200'", "accept-proxy = ['::/0', '10.0.0.1']"),
        ("connection-rate = 1000000", "backups = ['a:1:2', '[::1]:3']", "connect-timeout = 0.5"),
        ("daemon = false", "interval = 1000000000", "keepalive-time = 32767"),
        ("prefer = 'ipv6'", "destinations = []", "pool = 'main'"),
    ];
    let documents = right.map(document);
    for (document, complaint_of_validator) in documents.iter().zip(validate(&documents)) {
        assert_eq!((complaint_of_validator.as_str(), complaint(document).as_str()), ("", ""), "{document}");
    }
}

#[test]
fn what_one_refuses_the_other_refuses() {
    let wrong = [
        ("thread = 2", "", ""),
        ("threads = 0", "", ""),
        ("threads = 1025", "", ""),
        ("threads = '2'", "", ""),
        ("threads = 2.5", "", ""),
        ("control = 0", "", ""),
        ("control = 65536", "", ""),
        ("control = true", "", ""),
        ("control = 'localhost'", "", ""),
        ("control = ['localhost']", "", ""),
        ("control = [[1]]", "", ""),
        ("control = {read-only = true}", "", ""),
        ("control = {address = 1, mod = '0600'}", "", ""),
        ("control = {address = 'unix:/a', mode = '999'}", "", ""),
        ("control = {address = 'unix:/a', mode = 600}", "", ""),
        ("control = {address = 'unix:/a', owner = ''}", "", ""),
        ("control = {address = 'unix:/a', owner = 'a,b'}", "", ""),
        ("control = {address = 1, read-only = 'yes'}", "", ""),
        ("log = 'nowhere'", "", ""),
        ("log = 'syslog:kern'", "", ""),
        ("fifo = ''", "", ""),
        ("prefer = 'ipv5'", "", ""),
        ("daemon = 1", "", ""),
        ("cpu-affinity = 'all'", "", ""),
        ("cpu-affinity = ''", "", ""),
        ("connection-rate = 0", "", ""),
        ("drain-timeout = -1", "", ""),
        ("interval = 1", "", ""),
        ("", "listen = 1", ""),
        ("", "rise = 0", ""),
        ("", "rise = 1000001", ""),
        ("", "interval = 0", ""),
        ("", "interval = '1'", ""),
        ("", "resolve = 0.05", ""),
        ("", "resolve = 1000000001", ""),
        ("", "watchdog = 'ping'", ""),
        ("", "watchdog = 'exec:'", ""),
        ("", "shutdown-sessions = 'sometimes'", ""),
        ("", "destinations = '10.0.0.1'", ""),
        ("", "destinations = ['']", ""),
        ("", "destinations = ['a b']", ""),
        ("", "destinations = [1]", ""),
        ("", "", "listen = 0"),
        ("", "", "listen = 'localhost'"),
        ("", "", "policy = 'fastest'"),
        ("", "", "over-limit = 'cry'\nconnection-rate = 1"),
        ("", "", "greeting = 'hello'"),
        ("", "", "send-proxy = 3"),
        ("", "", "allow = ['db1']"),
        ("", "", "connect-from = ['db1']"),
        ("", "", "keepalive-count = 128"),
        ("", "", "keepalive = 'no'"),
        ("", "", "pool = 'a b'"),
        ("", "", "timeout = 1"),
    ];
    let mut documents = wrong.map(document).to_vec();
    documents.extend(
        [
            "",
            "[pool.main]",
            "[service.main]\nlisten = 1",
            "[pool.main]\n[service.main]",
            "[pool.'a b']\n[service.main]\nlisten = 1",
            "[pools.main]\n[pool.main]\n[service.main]\nlisten = 1",
            "process = 1\n[pool.main]\n[service.main]\nlisten = 1",
            "[pool]\nmain = 1\n[service.main]\nlisten = 1",
        ]
        .map(str::to_owned),
    );
    for (document, complaint_of_validator) in documents.iter().zip(validate(&documents)) {
        assert_ne!(complaint_of_validator, "", "the schema accepts:\n{document}");
        assert_ne!(complaint(document), "", "glbd accepts:\n{document}");
    }
}
